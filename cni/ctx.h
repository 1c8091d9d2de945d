/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stays open between requests: the datastore that was used last, and the host's netlink. */
#pragma once

struct cni_ctx;
struct cni_home;
struct err;
struct journal;
struct rt;
struct store;
struct store_conf;

/* Of the server that runs verbs here; NULL: there is none, as with ctx NULL. */
const struct cni_home *ctx_home(const struct cni_ctx *ctx);
/*
 * The server's own datastore, or that of conf. Borrowed until the next call with another
 * configuration. 0 or a negative errno.
 */
int ctx_store(
	struct cni_ctx *ctx, const struct store_conf *conf, struct store **ret, struct err *err);
/*
 * The node's journal, which verbs go by where there is one: of a server whose datastore is another machine's,
 * or one that such a server has left. Borrowed; *ret NULL: there is none, and verbs write to the datastore
 * themselves. 0 or a negative errno.
 */
int ctx_journal(
	struct cni_ctx *ctx, const struct store_conf *conf, struct journal **ret, struct err *err);
/* home_check_cluster() of a server's, once for each conf that comes after another one. 0 or a negative errno. */
int ctx_check_cluster(struct cni_ctx *ctx, const struct store_conf *conf, struct err *err);
/* The file by which verbs take turns (turn.h), $MARGAY_RUN_DIR/cni.turns. 0 or a negative errno. */
int ctx_open_turns(struct cni_ctx *ctx, struct err *err);
int ctx_turns(const struct cni_ctx *ctx); /* -1: it is not open */
/* Of the network namespace in which this process is. Borrowed. */
int ctx_host(struct cni_ctx *ctx, struct rt **ret, struct err *err);
