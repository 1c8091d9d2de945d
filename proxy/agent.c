/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "proxy"
#include "proxy/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/vec.h"
#include "kern/conntrack.h"
#include "kern/ipvs.h"
#include "kern/nft.h"
#include "kern/rt.h"
#include "model/endpointslice.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"
#include "model/service.h"
#include "model/wep.h"
#include "proxy/calc.h"
#include "proxy/masq.h"
#include "proxy/owned.h"
#include "proxy/vips.h"
#include "proxy/vservers.h"
#include "store/cache.h"
#include "store/store.h"
#include "store/sync.h"
#include "svc/health.h"
#include "svc/loop.h"
#include "svc/metrics.h"

#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 30000
#define REREAD_SHARE 1000 /* a thousandth of a processor, for reading what has not changed */
#define REREAD_FEW 500	  /* virtual servers: an emulated machine alone takes long for so many */

/* The last one is read where nobody else makes slices of it. */
enum { CACHE_SERVICES, CACHE_SLICES, CACHE_POOLS, CACHE_NODE, CACHE_WEPS, N_CACHED };

struct part {
	const char *name;
	struct health_check *check;
	bool failing;
	char why[ERR_TEXT_MAX];
};

enum { PART_SYSCTL, PART_NFT, PART_VIPS, PART_IPVS, N_PARTS };

struct agent {
	const struct agent_conf *conf;
	struct event_base *base;
	int64_t (*now_ms)(void);

	struct rt *rt;
	struct rt_monitor *monitor;
	struct nft *nft; /* NULL: not yet */
	struct nft_monitor *nft_monitor;
	struct loop_fd *monitor_fd, *nft_fd;
	struct ipvs *ipvs; /* NULL: not yet */
	struct conntrack *ct;
	struct owned *owned;
	struct vips *vips;
	struct masq *masq;
	struct vservers *servers;
	struct backend *backend;

	struct calc *calc;
	char *node_key;
	char prefixes[N_CACHED][KEY_SIZE];
	struct cache_kind kinds[N_CACHED];
	size_t n_kinds;
	struct cache *cache;
	struct health_check *sync_check;
	bool in_sync;
	bool whole;    /* since the start there was a time when no object was unknown */
	char *unknown; /* until then: the key of one */

	VEC(struct ip) node_ips, wanted_ips; /* as the kernel has them; as they were last wanted */
	struct ip node4, node6;		     /* as the datastore has them */
	bool node_unknown;		     /* what it has cannot be decoded */
	bool addrs_known;		     /* they were read once */
	bool addrs_unknown, nat_changed, sysctl_unknown;

	struct loop_task *task;
	struct loop_timer *retry_timer, *drain_timer, *sync_timer;
	int64_t reread_began_us; /* of this process' CPU time; -1: none is under way */
	int64_t retry_delay_ms;
	struct part parts[N_PARTS];
	struct metrics *metrics;
	uint64_t n_applies, n_refused;
	bool pruned;
};

static void schedule(struct agent *a)
{
	loop_task_schedule(a->task);
}

/* ---- datastore -> calc ---- */

MODEL_CACHE_FNS(service);
MODEL_CACHE_FNS(endpointslice);
MODEL_CACHE_FNS(wep);
MODEL_CACHE_FNS(ippool);
MODEL_CACHE_FNS(node);

static void on_service(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	calc_on_service(a->calc, old, new);
	schedule(a);
}

static void on_slice(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	calc_on_slice(a->calc, old, new);
	schedule(a);
}

static void on_wep(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	calc_on_wep(a->calc, old, new);
	schedule(a);
}

static void on_pool(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	(void)old;
	(void)new;
	a->nat_changed = true;
	schedule(a);
}

static void on_node(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;
	const struct node *n = new;

	(void)old;
	if (strcmp(key, a->node_key) != 0) /* one whose name begins with ours */
		return;
	a->node4 = n ? n->ipv4.addr : (struct ip){0};
	a->node6 = n ? n->ipv6.addr : (struct ip){0};
	a->addrs_unknown = true;
	schedule(a);
}

static void on_in_sync(void *arg)
{
	struct agent *a = arg;

	a->in_sync = true;
	schedule(a);
}

static void on_sync_state(void *arg)
{
	struct agent *a = arg;

	if (!a->cache) /* before cache_new has returned */
		return;
	if (!sync_in_sync(cache_sync(a->cache)) || !sync_up(cache_sync(a->cache)))
		health_set_bad(a->sync_check, "%s", sync_state(cache_sync(a->cache)));
	else if (a->unknown)
		health_set_bad(a->sync_check,
			"%s cannot be decoded (the log says why), so that no virtual server and no "
			"element of nftables' sets is deleted; mend it or delete it",
			a->unknown);
	else
		health_set_ok(a->sync_check);
}

static void on_unknown(void *arg)
{
	struct agent *a = arg;

	a->addrs_unknown |= a->node_unknown;
	schedule(a);
}

/* Where Kubernetes has the Services, a lock of Calico's objects is none of theirs. */
static const struct cache_ops managed_ops = {
	.in_sync = on_in_sync, .state = on_sync_state, .unknown = on_unknown};
static const struct cache_ops own_ops = {
	.in_sync = on_in_sync, .state = on_sync_state, .unknown = on_unknown, .heed_lock = true};

static void note_unknown(void *arg, const char *key)
{
	char **ret = arg;

	if (!*ret)
		*ret = mem_strdup(key);
}

/* What is there may be asked for by an object of which no version is known. */
static void allow_deletes(struct agent *a)
{
	if (a->whole)
		return;
	free(take_ptr(a->unknown));
	for (size_t i = 0; i < a->n_kinds; i++)
		if (i != CACHE_NODE && (i != CACHE_POOLS || a->conf->n_pods == 0))
			cache_for_each_unknown(a->cache, &a->kinds[i], note_unknown, &a->unknown);
	a->whole = !a->unknown;
	if (a->whole) {
		a->backend->ops->allow_deletes(a->backend);
		masq_allow_deletes(a->masq);
	}
	on_sync_state(a);
}

static void define_kinds(struct agent *a)
{
	static const struct {
		enum kind kind;
		struct cache_kind fns;
	} rows[N_CACHED] = {
		[CACHE_SERVICES] = {KIND_SERVICE,
			{NULL, service_cache_decode, service_cache_free, on_service}},
		[CACHE_SLICES] = {KIND_ENDPOINTSLICE,
			{NULL, endpointslice_cache_decode, endpointslice_cache_free, on_slice}},
		[CACHE_POOLS] = {KIND_IPPOOL,
			{NULL, ippool_cache_decode, ippool_cache_free, on_pool}},
		[CACHE_NODE] = {KIND_NODE, {NULL, node_cache_decode, node_cache_free, on_node}},
		[CACHE_WEPS] = {KIND_WORKLOADENDPOINT,
			{NULL, wep_cache_decode, wep_cache_free, on_wep}},
	};

	a->node_key = mem_strdup(key_str(KIND_NODE, NULL, a->conf->nodename));
	for (size_t i = 0; i < a->n_kinds; i++) {
		a->kinds[i] = rows[i].fns;
		a->kinds[i].prefix = i == CACHE_NODE
					     ? a->node_key
					     : key_prefix(rows[i].kind, NULL, a->prefixes[i]);
	}
}

/* ---- calc -> reconcilers ---- */

static void on_server_set(
	void *arg, const struct vserver_key *key, const struct calc_server *server)
{
	struct backend *b = ((struct agent *)arg)->backend;

	b->ops->set(b, key, server);
}

static void on_server_unset(void *arg, const struct vserver_key *key)
{
	struct backend *b = ((struct agent *)arg)->backend;

	b->ops->unset(b, key);
}

static void on_local(void *arg, const struct ip *ip, bool there)
{
	masq_set_local(((struct agent *)arg)->masq, ip, there);
}

static void on_node_port(void *arg, uint8_t protocol, uint16_t port, bool there)
{
	masq_set_node_port(((struct agent *)arg)->masq, protocol, port, there);
}

static void on_refused(void *arg, const char *service, const char *why)
{
	struct agent *a = arg;

	a->n_refused++;
	log_warn("Service %s: %s", service, why);
}

static const struct calc_ops calc_ops = {.server_set = on_server_set,
	.server_unset = on_server_unset,
	.local = on_local,
	.node_port = on_node_port,
	.refused = on_refused};

/* ---- which virtual servers are ours ---- */

static bool in_ranges(const struct agent *a, const struct ip *ip)
{
	for (size_t i = 0; i < a->conf->n_ranges; i++)
		if (prefix_contains(&a->conf->ranges[i], ip))
			return true;
	return false;
}

static bool is_ours(void *arg, const struct vserver_key *key)
{
	const struct agent *a = arg;

	return in_ranges(a, &key->ip) || owned_has(a->owned, key);
}

static int own(void *arg, const struct vserver_key *key, struct err *err)
{
	struct agent *a = arg;

	return in_ranges(a, &key->ip) ? 0 : owned_add(a->owned, key, err);
}

static bool is_there(void *arg, const struct vserver_key *key)
{
	return vservers_has(((struct agent *)arg)->servers, key);
}

/* ---- the kernel's events ---- */

/* Pods' interfaces come and go with addresses that are not. */
static bool is_served(const struct agent *a, const struct rt_addr *addr)
{
	const struct ip *ip = &addr->prefix.addr;

	/* Not loopback, not link-local; and not the Services' own. */
	return ip_is_global_unicast(ip) && !in_ranges(a, ip);
}

static void on_rt_event(void *arg, const struct rt_event *ev)
{
	struct agent *a = arg;
	bool work = vips_event(a->vips, ev);

	if (ev->type == RT_EVENT_OVERFLOW ||
		((ev->type == RT_EVENT_ADDR_SET || ev->type == RT_EVENT_ADDR_DEL) &&
			is_served(a, &ev->addr))) {
		a->addrs_unknown = true;
		work = true;
	}
	if (work)
		schedule(a);
}

static void on_monitor(void *arg)
{
	struct agent *a = arg;
	struct err err = ERR_INIT;

	if (rt_monitor_read(a->monitor, on_rt_event, a, &err) < 0) {
		log_error("kernel events: %s", err_text(&err));
		vips_mark_unknown(a->vips);
		a->addrs_unknown = true;
		schedule(a);
	}
}

static void on_nft_event(void *arg, const char *table)
{
	struct agent *a = arg;

	if (masq_event(a->masq, table))
		schedule(a);
}

static void on_nft_monitor(void *arg)
{
	struct agent *a = arg;
	struct err err = ERR_INIT;

	if (nft_monitor_read(a->nft_monitor, on_nft_event, a, &err) < 0) {
		log_error("nftables events: %s", err_text(&err));
		masq_mark_unknown(a->masq);
		schedule(a);
	}
}

/* ---- this node's addresses ---- */

static void on_addr(void *arg, const struct rt_addr *addr)
{
	struct agent *a = arg;

	if (is_served(a, addr))
		vec_push(&a->node_ips, addr->prefix.addr);
}

static void on_addr_restart(void *arg)
{
	((struct agent *)arg)->node_ips.n = 0;
}

static int compare_ips(const void *x, const void *y)
{
	return ip_compare(x, y);
}

static void sort_node_ips(struct agent *a)
{
	size_t n = 0;

	if (a->node_ips.n == 0)
		return;
	qsort(a->node_ips.v, a->node_ips.n, sizeof(a->node_ips.v[0]), compare_ips);
	for (size_t i = 1; i < a->node_ips.n; i++)
		if (!ip_equal(&a->node_ips.v[n], &a->node_ips.v[i]))
			a->node_ips.v[++n] = a->node_ips.v[i];
	a->node_ips.n = n + 1;
}

/* The node's own, if this host has it, else any of the family. */
static struct ip choose_source(const struct agent *a, const struct ip *node, enum ip_family family)
{
	struct ip any = {0};

	for (size_t i = 0; i < a->node_ips.n; i++) {
		if (ip_equal(&a->node_ips.v[i], node))
			return *node;
		if (a->node_ips.v[i].family == family && any.family == IP_NONE)
			any = a->node_ips.v[i];
	}
	return any;
}

static void find_own(void *arg, const char *key)
{
	struct agent *a = arg;

	a->node_unknown |= strcmp(key, a->node_key) == 0;
}

static int read_addrs(struct agent *a, struct err *err)
{
	struct ip src4, src6;
	int r;

	if (!a->addrs_unknown)
		return 0;
	a->node_ips.n = 0;
	r = rt_addr_dump(a->rt, IP_NONE, 0, on_addr, on_addr_restart, a, err);
	if (r < 0)
		return err_wrap(err, r, "read this node's addresses");
	sort_node_ips(a);
	a->addrs_unknown = false;
	a->addrs_known = true;
	if (a->wanted_ips.n != a->node_ips.n ||
		(a->node_ips.n > 0 && memcmp(a->wanted_ips.v, a->node_ips.v,
					      a->node_ips.n * sizeof(struct ip)) != 0)) {
		a->wanted_ips.n = 0;
		for (size_t i = 0; i < a->node_ips.n; i++)
			vec_push(&a->wanted_ips, a->node_ips.v[i]);
		calc_on_node_ips(a->calc, a->wanted_ips.v, a->wanted_ips.n);
		a->nat_changed = true;
	}
	src4 = choose_source(a, &a->node4, IP_V4);
	src6 = choose_source(a, &a->node6, IP_V6);
	a->node_unknown = false;
	cache_for_each_unknown(a->cache, &a->kinds[CACHE_NODE], find_own, a);
	vips_want(a->vips, a->conf->ranges, a->conf->n_ranges, &src4, &src6, a->node_unknown);
	return 0;
}

/* ---- the task ---- */

static void set_part(struct agent *a, int part, int r, const struct err *err)
{
	struct part *p = &a->parts[part];

	if (r == 0) {
		if (p->failing)
			log_info("%s: in order again", p->name);
		health_set_ok(p->check);
	} else {
		if (!p->failing || strcmp(p->why, err_text(err)) != 0)
			log_warn("%s: %s", p->name, err_text(err));
		snprintf(p->why, sizeof(p->why), "%s", err_text(err));
		health_set_bad(p->check, "%s", err_text(err));
	}
	p->failing = r < 0;
}

/* Parts (by bit) that were not attempted, and for want of what. */
static void hold(struct agent *a, unsigned parts, const char *what)
{
	for (int i = 0; i < N_PARTS; i++)
		if (parts & 1U << i)
			health_set_bad(a->parts[i].check, "waiting for %s", what);
}

static int apply_sysctl(struct agent *a, struct err *err)
{
	static const char *const names[] = {
		"net/ipv4/ip_forward",
		/* Without it nftables could not masquerade what IPVS has translated. */
		"net/ipv4/vs/conntrack",
		/* A connection to an endpoint that is gone ends now, not after its time-out. */
		"net/ipv4/vs/expire_nodest_conn",
		/* A client with affinity does not wait for an endpoint with weight 0. */
		"net/ipv4/vs/expire_quiescent_template",
	};

	for (size_t i = 0; i < array_size(names); i++) {
		auto_free char *path = mem_printf("%s/%s", a->conf->sysctl_root, names[i]);
		auto_free char *now = NULL;
		int r = file_read(path, 16, &now, NULL, err);

		if (r == 0 && strcmp(now, "1\n") != 0)
			r = file_poke(AT_FDCWD, path, "1", err);
		if (r < 0)
			return err_wrap(err, r, "kernel setting %s", names[i]);
	}
	a->sysctl_unknown = false;
	return 0;
}

struct pool_list {
	VEC(struct prefix) v;
};

static void add_pool(void *arg, const char *key, const void *obj)
{
	struct pool_list *list = arg;
	const struct ippool *p = obj;

	(void)key;
	vec_push(&list->v, prefix_masked(&p->cidr));
}

/* Pools may overlap, for whoever writes them elsewhere is not checked: nft_prefix_set() merges. */
static void want_masq(struct agent *a)
{
	struct pool_list pools = {0};
	struct masq_want w = {.ranges = a->conf->ranges,
		.n_ranges = a->conf->n_ranges,
		.pods = a->conf->pods,
		.n_pods = a->conf->n_pods,
		.node_ips = a->wanted_ips.v,
		.n_node_ips = a->wanted_ips.n,
		.all = a->conf->masquerade_all};

	if (a->conf->n_pods == 0) {
		cache_for_each(a->cache, &a->kinds[CACHE_POOLS], add_pool, &pools);
		w.pods = pools.v.v;
		w.n_pods = pools.v.n;
	}
	masq_want(a->masq, &w);
	vec_done(&pools.v);
	a->nat_changed = false;
}

static void arm_retry(struct agent *a, bool failed)
{
	if (!failed) {
		a->retry_delay_ms = 0;
		loop_timer_cancel(a->retry_timer);
		return;
	}
	if (loop_timer_is_set(a->retry_timer)) /* an event came meanwhile; it changes no delay */
		return;
	a->retry_delay_ms = a->retry_delay_ms ? a->retry_delay_ms * 2 : RETRY_MIN_MS;
	if (a->retry_delay_ms > RETRY_MAX_MS)
		a->retry_delay_ms = RETRY_MAX_MS;
	loop_timer_set(a->retry_timer, a->retry_delay_ms);
}

static void arm_drain(struct agent *a)
{
	int64_t next = a->backend->ops->next_ms(a->backend);

	if (next == INT64_MAX)
		loop_timer_cancel(a->drain_timer);
	else
		loop_timer_set(a->drain_timer, next - a->now_ms());
}

static int open_ipvs(struct agent *a, struct err *err)
{
	int r;

	if (a->ipvs)
		return 0;
	r = ipvs_open(&a->ipvs, err);
	if (r == 0)
		vservers_use(a->servers, a->ipvs);
	return r;
}

/* Its module may not be loaded yet. */
static int open_nft(struct agent *a, struct err *err)
{
	int r;

	if (a->nft)
		return 0;
	r = nft_open(&a->nft, err);
	if (r == 0)
		r = nft_monitor_open(a->nft, &a->nft_monitor, err);
	if (r < 0) {
		nft_close(take_ptr(a->nft));
		return r;
	}
	a->nft_fd =
		loop_fd_new(a->base, nft_monitor_fd(a->nft_monitor), LOOP_READ, on_nft_monitor, a);
	masq_use(a->masq, a->nft);
	return 0;
}

static int apply_masq(struct agent *a, struct err *err)
{
	int r = open_nft(a, err);

	if (r < 0)
		return r;
	if (a->nat_changed)
		want_masq(a);
	return masq_apply(a->masq, err);
}

/* Deletions are over, so what is still in the file and not in the kernel can be forgotten. */
static void prune_owned(struct agent *a)
{
	struct err err = ERR_INIT;

	if (a->pruned)
		return;
	if (owned_prune(a->owned, is_there, a, &err) < 0)
		log_warn("%s", err_text(&err));
	a->pruned = true;
}

/* What this process has taken of a processor. */
static int64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

int64_t agent_reread_pause_ms(int64_t sync_ms, int64_t n_servers, int64_t cost_us)
{
	int64_t pause = cost_us * REREAD_SHARE / 1000;

	return n_servers > REREAD_FEW && pause > sync_ms ? pause : sync_ms;
}

static int apply_servers(struct agent *a)
{
	struct err err = ERR_INIT;
	bool more;
	int r = a->backend->ops->apply(a->backend, a->now_ms(), &more, &err);

	if (more)
		schedule(a);
	else
		set_part(a, PART_IPVS, r, &err);
	if (r == 0 && !more && a->whole)
		prune_owned(a);
	if (!more && a->reread_began_us >= 0) {
		int64_t pause = agent_reread_pause_ms(a->conf->sync_ms, a->backend->stats.installed,
			cpu_us() - a->reread_began_us);

		loop_timer_set(a->sync_timer, pause);
		a->reread_began_us = -1;
	}
	return r;
}

/*
 * The rules first, and the addresses: where they can be applied, nothing is sent to a Service
 * unmasqueraded. Where they cannot, Services are served without, and readiness says so.
 */
static void on_task(void *arg)
{
	struct agent *a = arg;
	struct err err = ERR_INIT, addr_err = ERR_INIT;
	bool failed = false;
	int r, addr_r;

	if (!a->in_sync)
		return;
	a->n_applies++;
	allow_deletes(a);
	r = open_ipvs(a, &err);
	if (r < 0) {
		/* Without IPVS nothing serves the addresses: they are not taken. */
		set_part(a, PART_IPVS, r, &err);
		hold(a, ~(1U << PART_IPVS), "IPVS");
		arm_retry(a, true);
		return;
	}
	if (a->sysctl_unknown) {
		r = apply_sysctl(a, &err);
		set_part(a, PART_SYSCTL, r, &err);
		failed |= r < 0;
	}
	addr_r = read_addrs(a, &addr_err);
	if (!a->addrs_known) {
		/* No node port would be wanted anywhere: those that are there would be deleted. */
		set_part(a, PART_VIPS, addr_r, &addr_err);
		hold(a, 1U << PART_NFT | 1U << PART_IPVS, "this node's addresses");
		arm_retry(a, true);
		return;
	}
	calc_run(a->calc);
	r = apply_masq(a, &err);
	set_part(a, PART_NFT, r, &err);
	failed |= r < 0;
	r = addr_r < 0 ? addr_r : vips_apply(a->vips, &err);
	set_part(a, PART_VIPS, r, addr_r < 0 ? &addr_err : &err);
	failed |= r < 0;
	failed |= apply_servers(a) < 0;
	arm_retry(a, failed);
	arm_drain(a);
}

static void on_retry_timer(void *arg)
{
	struct agent *a = arg;

	a->backend->ops->retry(a->backend);
	schedule(a);
}

static void on_drain_timer(void *arg)
{
	schedule(arg);
}

void agent_reread(struct agent *a)
{
	a->sysctl_unknown = a->addrs_unknown = true;
	vips_mark_unknown(a->vips);
	a->backend->ops->mark_unknown(a->backend);
	masq_mark_unknown(a->masq);
	schedule(a);
}

static void on_sync_timer(void *arg)
{
	struct agent *a = arg;

	agent_reread(a);
	a->reread_began_us = cpu_us();
	loop_timer_set(a->sync_timer, a->conf->sync_ms); /* unless it is applied to the end */
}

/* ---- life ---- */

static int64_t get_wanted(void *arg)
{
	return ((struct agent *)arg)->backend->stats.wanted;
}

static int64_t get_installed(void *arg)
{
	return ((struct agent *)arg)->backend->stats.installed;
}

static int64_t get_draining(void *arg)
{
	return ((struct agent *)arg)->backend->stats.draining;
}

static void add_metrics(struct agent *a)
{
	const struct backend_stats *st = &a->backend->stats;
	struct metrics *m = a->metrics;

	metrics_gauge_fn(m, "margay_proxy_virtual_servers_wanted", NULL,
		"Addresses and ports of Services that should be balanced.", get_wanted, a);
	metrics_gauge_fn(m, "margay_proxy_virtual_servers_installed", NULL,
		"Virtual servers of ours in IPVS.", get_installed, a);
	metrics_gauge_fn(m, "margay_proxy_real_servers_draining", NULL,
		"Endpoints that are gone and still have connections.", get_draining, a);
	metrics_counter(m, "margay_proxy_ipvs_writes_total", NULL,
		"Virtual and real servers added or edited.", &st->written);
	metrics_counter(m, "margay_proxy_ipvs_deletes_total", NULL,
		"Virtual and real servers deleted.", &st->deleted);
	metrics_counter(m, "margay_proxy_ipvs_failures_total", NULL,
		"Changes that the kernel refused.", &st->failed);
	metrics_counter(m, "margay_proxy_ipvs_repairs_total", NULL,
		"Virtual and real servers that somebody else removed.", &st->repaired);
	metrics_counter(
		m, "margay_proxy_ipvs_reads_total", NULL, "Times IPVS was read.", &st->reads);
	metrics_counter(m, "margay_proxy_connections_deleted_total", NULL,
		"UDP connections to endpoints that are gone, deleted.", &st->connections);
	metrics_counter(m, "margay_proxy_refused_total", NULL,
		"Times that a Service was not served as it asks.", &a->n_refused);
	metrics_counter(m, "margay_proxy_applies_total", NULL, "Turns of work.", &a->n_applies);
	sync_add_metrics(cache_sync(a->cache), m);
}

static int open_kernel(struct agent *a, struct err *err)
{
	struct err e = ERR_INIT;
	int r = rt_open(&a->rt, err);

	if (r == 0)
		r = rt_monitor_open(
			RT_WATCH_LINKS | RT_WATCH_ADDRS | RT_WATCH_ROUTES, a->rt, &a->monitor, err);
	if (r < 0)
		return r;
	a->monitor_fd = loop_fd_new(a->base, rt_monitor_fd(a->monitor), LOOP_READ, on_monitor, a);
	if (conntrack_open(&a->ct, &e) < 0)
		log_warn("UDP connections to endpoints that go will stay: %s", err_text(&e));
	return owned_new(a->conf->state_file, &a->owned, err);
}

int agent_new(struct event_base *base, struct store *st, const struct agent_conf *conf,
	struct health *health, struct metrics *metrics, int64_t (*now_ms)(void), struct agent **ret,
	struct err *err)
{
	static const char *const names[N_PARTS] = {"sysctl", "nftables", "vips", "ipvs"};
	struct calc_conf cc = {.nodename = conf->nodename,
		.ranges = conf->ranges,
		.n_ranges = conf->n_ranges,
		.use_weps = !store_is_managed(st)};
	struct agent *a = mem_new(struct agent);
	int r;

	a->conf = conf;
	a->base = base;
	a->now_ms = now_ms ? now_ms : clock_mono_ms;
	a->metrics = metrics;
	a->sync_check = health_add(health, "datastore", HEALTH_READY, "the datastore to be read");
	for (int i = 0; i < N_PARTS; i++) {
		a->parts[i].name = names[i];
		a->parts[i].check =
			health_add(health, names[i], HEALTH_READY, "waiting for the datastore");
	}
	r = open_kernel(a, err);
	if (r < 0) {
		agent_free(a);
		return r;
	}
	a->task = loop_task_new(base, on_task, a);
	a->retry_timer = loop_timer_new(base, on_retry_timer, a);
	a->drain_timer = loop_timer_new(base, on_drain_timer, a);
	a->sync_timer = loop_timer_new(base, on_sync_timer, a);
	a->reread_began_us = -1;
	a->calc = calc_new(&cc, &calc_ops, a);
	a->masq = masq_new();
	a->vips = vips_new(a->rt);
	a->servers = vservers_new(a->ct, conf->scheduler, is_ours, own, a);
	a->backend = vservers_backend(a->servers);
	a->addrs_unknown = a->nat_changed = a->sysctl_unknown = true;
	a->n_kinds = cc.use_weps ? N_CACHED : CACHE_WEPS;
	define_kinds(a);
	a->cache = cache_new(
		st, a->kinds, a->n_kinds, store_is_managed(st) ? &managed_ops : &own_ops, a, NULL);
	on_sync_state(a);
	add_metrics(a);
	if (conf->sync_ms)
		loop_timer_set(a->sync_timer, conf->sync_ms);
	*ret = a;
	return 0;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	if (a->servers) {
		const struct backend_stats *st = &a->backend->stats;
		const void *const values[] = {&st->written, &st->deleted, &st->failed,
			&st->repaired, &st->reads, &st->connections, &a->n_refused, &a->n_applies,
			a};

		for (size_t i = 0; i < array_size(values); i++)
			metrics_remove(a->metrics, values[i]);
	}
	/* calc borrows the cache's objects. */
	calc_free(a->calc);
	cache_free(a->cache);
	loop_timer_free(a->retry_timer);
	loop_timer_free(a->drain_timer);
	loop_timer_free(a->sync_timer);
	loop_task_free(a->task);
	loop_fd_free(a->monitor_fd);
	loop_fd_free(a->nft_fd);
	vservers_free(a->servers);
	vips_free(a->vips);
	masq_free(a->masq);
	owned_free(a->owned);
	ipvs_close(a->ipvs);
	conntrack_close(a->ct);
	rt_monitor_close(a->monitor);
	nft_monitor_close(a->nft_monitor);
	nft_close(a->nft);
	rt_close(a->rt);
	vec_done(&a->node_ips);
	vec_done(&a->wanted_ips);
	free(a->node_key);
	free(a->unknown);
	free(a);
}

bool agent_is_idle(const struct agent *a)
{
	return !loop_task_is_scheduled(a->task);
}

bool agent_in_sync(const struct agent *a)
{
	return a->in_sync;
}

void agent_retry(struct agent *a)
{
	sync_retry(cache_sync(a->cache));
	loop_timer_cancel(a->retry_timer);
	a->backend->ops->retry(a->backend);
	schedule(a);
}
