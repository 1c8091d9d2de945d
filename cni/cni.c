/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "cni"
#include "cni/cni.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/call.h"
#include "cni/ctx.h"
#include "cni/home.h"
#include "cni/journal.h"
#include "cni/logfile.h"
#include "cni/pipe.h"
#include "cni/podcidr.h"
#include "cni/turn.h"
#include "kern/rt.h"
#include "store/store.h"

struct cni_ctx {
	const struct cni_home *home;
	int turns_fd; /* -1: it is not open yet */
	struct store *st;
	struct store_conf store_conf; /* of st */
	struct rt *host;
	struct journal *journal;
	struct store_conf checked; /* a netconf's, of the home's cluster */
};

struct cni_ctx *cni_ctx_new(const struct cni_home *home)
{
	struct cni_ctx *ctx = mem_new(struct cni_ctx);

	ctx->home = home;
	ctx->turns_fd = -1;
	return ctx;
}

const struct cni_home *ctx_home(const struct cni_ctx *ctx)
{
	return ctx ? ctx->home : NULL;
}

void cni_ctx_free(struct cni_ctx *ctx)
{
	if (!ctx)
		return;
	if (ctx->st)
		store_close(ctx->st);
	store_conf_done(&ctx->store_conf);
	store_conf_done(&ctx->checked);
	rt_close(ctx->host);
	journal_close(ctx->journal);
	if (ctx->turns_fd >= 0)
		close(ctx->turns_fd);
	free(ctx);
}

int ctx_store(
	struct cni_ctx *ctx, const struct store_conf *conf, struct store **ret, struct err *err)
{
	struct store *st;
	int r;

	if (ctx->home)
		conf = &ctx->home->store;
	if (ctx->st && (ctx->home || store_conf_equal(conf, &ctx->store_conf))) {
		*ret = ctx->st;
		return 0;
	}
	r = store_open(conf, NULL, &st, err);
	if (r < 0)
		return r;
	if (ctx->st)
		store_close(ctx->st);
	store_conf_done(&ctx->store_conf);
	store_conf_copy(&ctx->store_conf, conf);
	ctx->st = *ret = st;
	return 0;
}

int ctx_check_cluster(struct cni_ctx *ctx, const struct store_conf *conf, struct err *err)
{
	int r;

	if (store_conf_equal(conf, &ctx->checked))
		return 0;
	r = home_check_cluster(ctx->home, conf, err);
	if (r < 0)
		return r;
	store_conf_done(&ctx->checked);
	store_conf_copy(&ctx->checked, conf);
	return 0;
}

/* Else it is left to whoever serves, and away from that to what he has left. */
static bool names_store(const struct store_conf *conf)
{
	return store_conf_is_set(conf->type) || store_conf_is_set(conf->sqlite_path) ||
	       store_conf_is_set(conf->etcd_endpoints) || store_conf_is_set(conf->kubeconfig) ||
	       store_conf_is_set(conf->k8s_api_endpoint);
}

int ctx_journal(
	struct cni_ctx *ctx, const struct store_conf *conf, struct journal **ret, struct err *err)
{
	const char *given = getenv("MARGAY_CNI_STATE_DIR");
	const char *dir = ctx->home	      ? ctx->home->state_dir
			  : given && given[0] ? given
					      : JOURNAL_DIR;
	bool local = strcmp(store_conf_type(ctx->home ? &ctx->home->store : conf), "sqlite") == 0;
	int r;

	*ret = ctx->journal;
	if (ctx->journal)
		return journal_refresh(ctx->journal, err);
	if (local && (ctx->home || names_store(conf) ||
			     (access(STORE_SQLITE_PATH, F_OK) == 0 && !home_was_remote(dir))))
		return 0;
	r = journal_open(dir, ctx->home != NULL, &ctx->journal, err);
	*ret = ctx->journal;
	return r == -ENOENT && !ctx->home ? 0 : r;
}

int ctx_turns(const struct cni_ctx *ctx)
{
	return ctx->turns_fd;
}

/* The directory may not be there where no server ever ran. */
int ctx_open_turns(struct cni_ctx *ctx, struct err *err)
{
	const char *given = getenv("MARGAY_RUN_DIR");
	const char *dir = ctx->home ? ctx->home->run_dir : given && given[0] ? given : PIPE_RUN_DIR;
	auto_free char *path = mem_printf("%s/cni.turns", dir);
	int r = ctx->turns_fd >= 0 ? 0 : file_mkdirs(dir, 0755, err);

	if (r < 0 || ctx->turns_fd >= 0)
		return r;
	ctx->turns_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return ctx->turns_fd < 0
		       ? err_sys(err, -errno, "%s, by which the verbs of a pod take turns", path)
		       : 0;
}

int ctx_host(struct cni_ctx *ctx, struct rt **ret, struct err *err)
{
	int r = ctx->host ? 0 : rt_open(&ctx->host, err);

	if (r == 0)
		*ret = ctx->host;
	return r;
}

static int run_verb(struct call *c, const char *verb, struct strbuf *out, struct err *err)
{
	bool ipam = c->rq->ipam_only;

	if (strcmp(verb, "ADD") == 0)
		return ipam ? call_ipam_add(c, out, err) : call_add(c, out, err);
	if (strcmp(verb, "DEL") == 0)
		return ipam ? call_ipam_del(c, err) : call_del(c, err);
	if (strcmp(verb, "CHECK") == 0)
		return ipam ? call_ipam_check(c, err) : call_check(c, err);
	if (strcmp(verb, "STATUS") == 0)
		return call_status(c, err);
	return call_gc(c, err);
}

/* The version that stdin names, where it names one that is spoken. */
static enum cni_version version_of(const char *text, size_t len)
{
	json_t *j = json_loadb(text, len, 0, NULL);
	const char *s = json_string_value(json_object_get(j, "cniVersion"));
	enum cni_version v = CNI_1_1_0;

	if (s)
		(void)cni_version_parse(s, &v, NULL);
	json_decref(j);
	return v;
}

static bool is_verb(const char *s)
{
	static const char *const verbs[] = {"ADD", "DEL", "CHECK", "STATUS", "GC"};

	for (unsigned i = 0; i < array_size(verbs); i++)
		if (strcmp(s, verbs[i]) == 0)
			return true;
	return false;
}

/* What the other IPAM plugin needs of the datastore. */
static int prepare(struct call *c, const char *verb, struct strbuf *out, struct err *err)
{
	auto_free char *cidrs = NULL;
	int r = 0;

	if (strcmp(verb, "ADD") == 0 && (c->conf->pod_cidr_v4 || c->conf->pod_cidr_v6))
		r = podcidr_find(c, &cidrs, err);
	if (r == 0)
		strbuf_add(out, cidrs ?: "");
	return r;
}

static int run(struct cni_ctx *ctx, const struct cni_request *rq, const char *verb,
	struct strbuf *out, struct cni_reply *ret, struct err *err)
{
	const enum log_level level = log_level(); /* a configuration's is its verb's */
	struct call c;
	int r;

	if (!verb || !is_verb(verb)) {
		err_set(err, -EINVAL,
			"CNI_COMMAND: \"%s\": want ADD, DEL, CHECK, STATUS, GC or VERSION",
			verb ?: "");
		ret->exit_code = PIPE_EXIT_FAILED;
		return CNI_E_ENV;
	}
	r = call_init(&c, ctx, rq, verb, err);
	if (r == 0 && c.handle)
		r = turn_take(&c, err);
	if (r == 0)
		r = c.delegates ? prepare(&c, verb, out, err) : run_verb(&c, verb, out, err);
	ret->delegates = r == 0 && c.delegates;
	ret->waits = r != 0 && c.waits;
	if (r != 0)
		ret->exit_code = c.unsure ? PIPE_EXIT_UNSURE : PIPE_EXIT_FAILED;
	call_done(&c);
	log_set_level(level);
	return r;
}

void cni_run(struct cni_ctx *ctx, const struct cni_request *rq, struct cni_reply *ret)
{
	const char *verb = call_env(rq, "CNI_COMMAND");
	struct strbuf out = STRBUF_INIT;
	struct err err = ERR_INIT;
	int r = 0;

	*ret = (struct cni_reply){0};
	if (verb && strcmp(verb, "VERSION") == 0)
		cni_versions_print(version_of(rq->conf, rq->conf_len), &out);
	else
		r = run(ctx, rq, verb, &out, ret, &err);
	if (r != 0) {
		strbuf_reset(&out);
		cni_error_print(version_of(rq->conf, rq->conf_len), r, err_text(&err), NULL, &out);
		ret->log = mem_printf("%s %s %s: %s", verb ?: "?",
			call_env(rq, "CNI_CONTAINERID") ?: "-", call_env(rq, "CNI_IFNAME") ?: "-",
			err_text(&err));
		if (!ctx->home)
			log_error("%s", ret->log);
	}
	logfile_close();
	ret->json = strbuf_take(&out);
}

void cni_reply_done(struct cni_reply *r)
{
	free(r->json);
	free(r->log);
	*r = (struct cni_reply){0};
}
