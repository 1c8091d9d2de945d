/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/call.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cni/ctx.h"
#include "cni/delegate.h"
#include "cni/endpoint.h"
#include "cni/home.h"
#include "cni/logfile.h"
#include "cni/result.h"
#include "cni/shared.h"
#include "cni/turn.h"
#include "ipam/alloc.h"
#include "ipam/run.h"
#include "kern/rt.h"
#include "model/wep.h"
#include "store/lock.h"
#include "store/store.h"

#define NODENAME_FILE "/var/lib/margay/nodename"
#define NODENAME_FILE_CALICO "/var/lib/calico/nodename"

const char *call_env(const struct cni_request *rq, const char *name)
{
	for (size_t i = 0; i < rq->n_env; i++)
		if (strcmp(rq->env[i].name, name) == 0)
			return rq->env[i].value[0] != '\0' ? rq->env[i].value : NULL;
	return NULL;
}

int call_store_code(int r)
{
	switch (r) {
	case -EHOSTUNREACH:
	case -ETIMEDOUT:
	case -ESTALE:
	case -EAGAIN:
		return CNI_E_AGAIN;
	default:
		return CNI_E_STORE;
	}
}

static int set_node(struct call *c, const char *text, const char *source, struct err *err)
{
	const char *name = text;
	size_t n = cni_node_name(&name);

	if (n == 0) {
		err_set(err, -EINVAL, "%s: \"%.60s\" is no name of a node", source, text);
		return CNI_E_CONF;
	}
	c->node = mem_strndup(name, n);
	return 0;
}

static int set_node_from_host(struct call *c, struct err *err)
{
	struct utsname u;

	if (c->conf->hostname)
		return set_node(c, c->conf->hostname, "netconf: hostname", err);
	uname(&u);
	for (char *s = u.nodename; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
	return set_node(c, u.nodename, "the host's name", err);
}

/*
 * The node's name: nodename of the configuration, its file, the host's name. The file is written by
 * the agent at its first start, and nothing is added before; but what is there can be deleted.
 */
static int find_node(struct call *c, bool must_have_file, struct err *err)
{
	const char *path = c->conf->nodename_file ?: NODENAME_FILE;
	auto_free char *text = NULL;
	int r;

	if (c->conf->nodename)
		return set_node(c, c->conf->nodename, "netconf: nodename", err);
	r = file_read(path, 4096, &text, NULL, err);
	if (r == -ENOENT && !c->conf->nodename_file)
		r = file_read(NODENAME_FILE_CALICO, 4096, &text, NULL, err);
	if (r == 0)
		return set_node(c, text, path, err);
	if (r == -ENOENT && (c->conf->nodename_file_optional || !must_have_file))
		return set_node_from_host(c, err);
	err_wrap(err, r, "%s: check that margay-felix runs on this node, or set nodename", path);
	return CNI_E_AGAIN;
}

char *call_handle(const char *network, const char *container_id, const char *ifname)
{
	bool eth0 = strcmp(ifname, "eth0") == 0;

	/* No container's ID has a colon: those have dots, and pods' names too. */
	return mem_printf("%s.%s%s%s", network, container_id, eth0 ? "" : ":", eth0 ? "" : ifname);
}

void call_name_veth(const char *namespace, const char *pod, const char *container_id,
	const char *ifname, char ret[static WEP_VETH_SIZE])
{
	bool eth0 = strcmp(ifname, "eth0") == 0;
	auto_free char *text = NULL;

	/*
	 * Of a pod, as Calico. Of another container Calico takes the identifier's first 11, which two
	 * may have in common: UUIDs that begin with the time, numbers with leading zeros.
	 */
	if (pod && eth0)
		text = mem_printf("%s.%s", namespace, pod);
	else if (pod)
		text = mem_printf("%s.%s:%s", namespace, pod, ifname);
	else
		text = mem_printf("%s:%s", container_id, ifname);
	wep_veth_name("cali", text, ret);
}

static void name_veth(struct call *c)
{
	call_name_veth(
		c->namespace, c->k8s ? c->args.pod : NULL, c->container_id, c->ifname, c->veth);
}

static int check_env(struct call *c, bool needs_netns, struct err *err)
{
	const char *want;

	c->container_id = call_env(c->rq, "CNI_CONTAINERID");
	c->ifname = call_env(c->rq, "CNI_IFNAME");
	c->netns = call_env(c->rq, "CNI_NETNS");
	want = c->container_id ? cni_container_id_wants(c->container_id) : "the container's ID";
	if (want) {
		err_set(err, -EINVAL, "CNI_CONTAINERID: \"%.80s\": want %s", c->container_id ?: "",
			want);
		return CNI_E_ENV;
	}
	want = cni_ifname_wants(c->ifname ?: "");
	if (want) {
		err_set(err, -EINVAL, "CNI_IFNAME: \"%.80s\": want %s", c->ifname ?: "", want);
		return CNI_E_ENV;
	}
	if (needs_netns && !c->netns) {
		err_set(err, -EINVAL, "CNI_NETNS is not set");
		return CNI_E_ENV;
	}
	if (needs_netns && c->rq->netns_is_own) {
		err_set(err, -EINVAL,
			"CNI_NETNS: %s is the host's own network namespace: want the pod's, or "
			"CNI_NETNS_OVERRIDE=1",
			c->netns);
		return CNI_E_NETNS;
	}
	if (needs_netns && !c->rq->ipam_only && c->rq->netns_fd < 0) {
		err_sys(err, -(c->rq->netns_errno ?: ENOENT), "CNI_NETNS: %s", c->netns);
		return CNI_E_ENV;
	}
	if (needs_netns && !c->rq->ipam_only && c->rq->nl_fd < 0) {
		err_sys(err, -(c->rq->netns_errno ?: EBADF), "a netlink socket in %s", c->netns);
		return CNI_E_KERNEL;
	}
	return cni_args_parse(call_env(c->rq, "CNI_ARGS"), &c->args, err);
}

static int take_given(struct call *c, const char *text, struct err *err)
{
	json_t *j = json_loads(text, 0, NULL);
	int r = cni_result_decode(j, &c->given, err);

	json_decref(j);
	if (r != 0)
		err_wrap(err, -EINVAL, "what the IPAM plugin %s gave", c->conf->ipam_type);
	return r;
}

static int check_ipam_type(struct call *c, struct err *err)
{
	const char *type = c->conf->ipam_type, *given = call_env(c->rq, DELEGATE_RESULT);

	if (!type) {
		err_set(err, -EINVAL,
			"netconf: ipam.type is missing: want an IPAM plugin's name, \"margay-ipam\" "
			"for one");
		return CNI_E_CONF;
	}
	if (cni_ipam_is_own(type))
		return 0;
	if (c->rq->ipam_only) {
		err_set(err, -EINVAL,
			"netconf: ipam.type: \"%s\", and this is margay-ipam (or calico-ipam): want "
			"that",
			type);
		return CNI_E_CONF;
	}
	c->delegates = !given;
	return given ? take_given(c, given, err) : 0;
}

static int check_version(
	const struct call *c, const char *verb, enum cni_version least, struct err *err)
{
	if (c->conf->version >= least)
		return 0;
	err_set(err, -EINVAL, "%s came with CNI %s, and cniVersion is %s", verb,
		cni_version_str(least), cni_version_str(c->conf->version));
	return CNI_E_VERSION;
}

/* Calico takes whatever is said here, and a pod is not to wait for it. */
static void set_log_level(const char *text)
{
	enum log_level level;
	struct err err = ERR_INIT;

	if (!text)
		return;
	if (log_parse_level(text, &level, &err) < 0)
		log_warn("netconf: log_level: %s", err.text);
	else
		log_set_level(level);
}

/* That of the plugin, which may have waited until somebody had time for it. */
static int64_t deadline_of(const struct cni_request *rq)
{
	int64_t now = clock_mono_ms();

	return (rq->started_ms > 0 && rq->started_ms < now ? rq->started_ms : now) +
	       CALL_TIMEOUT_MS;
}

int call_init(struct call *c, struct cni_ctx *ctx, const struct cni_request *rq, const char *verb,
	struct err *err)
{
	bool is_add = strcmp(verb, "ADD") == 0, is_check = strcmp(verb, "CHECK") == 0;
	bool per_pod = is_add || is_check || strcmp(verb, "DEL") == 0;
	bool is_status = strcmp(verb, "STATUS") == 0;
	const struct cni_home *home = ctx_home(ctx);
	int r;

	*c = (struct call){.rq = rq, .ctx = ctx, .deadline_ms = deadline_of(rq)};
	/* Only CHECK compares with it, and what a runtime kept badly must not keep a pod from its DEL. */
	r = cni_conf_parse(rq->conf, rq->conf_len, is_check, &c->conf, err);
	if (r == 0) {
		if (home)
			logfile_pass_over(home->shared, c->conf);
		else
			logfile_open(c->conf);
		set_log_level(c->conf->log_level);
	}
	if (r == 0 && is_check)
		r = check_version(c, verb, CNI_0_4_0, err);
	if (r == 0 && !per_pod)
		r = check_version(c, verb, CNI_1_1_0, err);
	if (r == 0 && per_pod)
		r = check_env(c, is_add || is_check, err);
	if (r == 0)
		r = check_ipam_type(c, err);
	if (r == 0 && home)
		r = home_check(home, c->conf, err);
	if (r == 0 && home && ctx_check_cluster(ctx, &c->conf->store, err) < 0)
		r = CNI_E_CONF;
	if (r == 0 && home)
		c->node = mem_strdup(home->node);
	else if (r == 0)
		r = find_node(c, is_add || is_status, err);
	if (r == CNI_E_AGAIN && is_status)
		r = CNI_E_UNAVAILABLE;
	if (r == 0 && ctx_journal(ctx, &c->conf->store, &c->journal, err) < 0)
		r = CNI_E_AGAIN;
	if (r != 0 || !per_pod || c->delegates)
		return r;
	c->k8s = c->args.pod && c->args.namespace;
	c->namespace = c->k8s ? c->args.namespace : "default";
	if (endpoint_key(c, &c->wep_key, err) < 0 && (is_add || is_check))
		return CNI_E_ENV;
	c->handle = call_handle(c->conf->name, c->container_id, c->ifname);
	name_veth(c);
	return 0;
}

void call_set_pod(struct call *c, const char *namespace, const char *pod)
{
	free(c->args.namespace);
	free(c->args.pod);
	free(take_ptr(c->wep_key));
	c->args.namespace = mem_strdup(namespace);
	c->args.pod = mem_strdup(pod);
	c->k8s = true;
	c->namespace = c->args.namespace;
	(void)endpoint_key(c, &c->wep_key, NULL);
	name_veth(c);
}

/* The others need not find it out themselves; the keeper tells when it is there again. */
static void note_silence(const struct call *c)
{
	const struct cni_home *home = ctx_home(c->ctx);
	const uint64_t one = 1;

	if (!c->reached || !home || !store_is_silent(c->st))
		return;
	shared_set(&home->shared->away, 1);
	if (write(home->keeper_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warn("waking the keeper: %s", strerror(errno));
}

void call_done(struct call *c)
{
	note_silence(c);
	turn_end(c);
	rt_close(c->pod);
	cni_result_free(c->given);
	cni_conf_free(c->conf);
	cni_args_done(&c->args);
	free(c->node);
	free(c->handle);
	free(c->wep_key);
}

int call_open_store(struct call *c, struct err *err)
{
	int r;

	if (c->st)
		return 0;
	r = ctx_store(c->ctx, &c->conf->store, &c->st, err);
	if (r < 0) {
		err_wrap(err, r, "netconf: the datastore's keys");
		/* They may be the server's alone, whose journal there is. */
		return c->journal ? CNI_E_AGAIN : CNI_E_CONF;
	}
	return 0;
}

int call_may_wait(struct call *c, struct err *err)
{
	if (!c->rq->hands_over)
		return 0;
	c->waits = true;
	err_set(err, -EAGAIN,
		"too many verbs wait already for the datastore, or for what their configurations name");
	return CNI_E_AGAIN;
}

bool call_store_is_away(const struct call *c)
{
	const struct cni_home *home = ctx_home(c->ctx);

	return home && shared_get(&home->shared->away);
}

int call_reach_store(struct call *c, struct err *err)
{
	const struct cni_home *home = ctx_home(c->ctx);
	int r = call_open_store(c, err);

	if (r != 0 || !home || !c->journal || c->reached)
		return r;
	if (call_store_is_away(c)) {
		err_set(err, -EHOSTUNREACH,
			"datastore %s: it does not answer (see the log of margay-cni serve, which goes on "
			"asking): until it does, pods start by what the node holds ahead",
			store_name(c->st));
		return CNI_E_AGAIN;
	}
	if (!c->container_id && c->rq->hands_over &&
		shared_is_jammed(home->shared, clock_mono_ms())) {
		err_set(err, -EAGAIN, "too many ADDs wait for the datastore %s", store_name(c->st));
		return CNI_E_AGAIN;
	}
	r = call_may_wait(c, err);
	if (r != 0)
		return r;
	c->reached = true;
	store_set_limit(c->st, CNI_ANSWER_MS);
	return 0;
}

/* Nobody has begun to use it: it may be the wrong one of two that the API server has. */
static int check_unused(struct call *c, struct err *err)
{
	auto_free char *advice = store_advise_wait(c->st);

	return advice ? err_set(err, -EHOSTUNREACH, "%s", advice) : 0;
}

int call_heed_lock(struct call *c, bool *ret_locked, struct err *err)
{
	enum store_lock lock = STORE_OPEN;
	int r = call_reach_store(c, err);

	if (r == 0)
		r = store_lock_check_wait(c->st, c->deadline_ms, &lock, err);
	if (r == 0 && lock == STORE_UNUSED)
		r = check_unused(c, err);
	if (ret_locked)
		*ret_locked = lock == STORE_LOCKED;
	return r < 0 ? call_store_code(r) : r;
}

int call_heed_lock_after(struct call *c, struct err *err)
{
	if (store_has_txns(c->st))
		return 0;
	store_known_end(c->st);
	return call_heed_lock(c, NULL, err);
}

struct txn {
	struct call *c;
	call_txn_fn *fn;
	void *arg;
};

static int in_txn(void *arg, struct err *err)
{
	const struct txn *t = arg;

	return t->fn(t->c, t->arg, err);
}

int call_txn(struct call *c, call_txn_fn *fn, void *arg, struct err *err)
{
	struct txn t = {c, fn, arg};
	int code, r = call_reach_store(c, err);

	if (r != 0)
		return r;
	r = store_txn_wait(c->st, c->deadline_ms, in_txn, &t, &code, err);
	c->unsure |= r == -ETIMEDOUT;
	if (code < 0)
		return call_store_code(code);
	return code == 0 && r < 0 ? call_store_code(r) : code;
}

int call_known(struct call *c, call_txn_fn *fn, void *arg, struct err *err)
{
	const struct told_source *source = c->rq->told;
	struct err e = ERR_INIT;
	struct store_told told;
	int r = call_reach_store(c, err);

	if (r != 0)
		return r;
	if (!source || store_has_txns(c->st) || !source->find(source->arg, &told))
		return call_txn(c, fn, arg, err);
	store_known_begin(c->st, &told);
	r = fn(c, arg, &e);
	store_known_end(c->st);
	store_list_done(&told.list);
	if (r == 0)
		return 0;
	log_debug("once more, by the datastore alone: %s", err_text(&e));
	return call_txn(c, fn, arg, err);
}

int call_open_host(struct call *c, struct err *err)
{
	if (!c->host && ctx_host(c->ctx, &c->host, err) < 0)
		return CNI_E_KERNEL;
	return 0;
}

int call_open_pod(struct call *c, struct err *err)
{
	int fd;

	if (c->pod || c->rq->nl_fd < 0)
		return 0;
	fd = fcntl(c->rq->nl_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		err_sys(err, -errno, "dup");
	if (fd < 0 || rt_from_fd(fd, &c->pod, err) < 0) {
		err_wrap(err, -EBADF, "the netlink socket of %s", c->netns);
		return CNI_E_KERNEL;
	}
	return 0;
}

int call_ipam(struct call *c, struct ipam_request *rq, int *ret_errno, struct err *err)
{
	int r = call_reach_store(c, err);

	*ret_errno = 0;
	if (r != 0)
		return r;
	*ret_errno = ipam_run(c->st, rq, c->deadline_ms, err);
	switch (*ret_errno) {
	case 0:
		return 0;
	case -ENOSPC:
	case -EDQUOT:
	case -ENOENT:
	case -EEXIST:
	case -EPERM:
		err_wrap(err, *ret_errno, "%s", store_name(c->st));
		return CNI_E_NO_ADDRESS;
	default:
		return call_store_code(*ret_errno);
	}
}

int call_release(struct call *c, const char *handle, struct err *err)
{
	struct ipam_request *rq = ipam_release_handle_new(handle, clock_real_ns());
	int e, r = call_ipam(c, rq, &e, err);

	ipam_request_free(rq);
	return e == -ENOENT ? 0 : r;
}
