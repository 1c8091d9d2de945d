/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "felix"
#include "felix/agent.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "felix/address.h"
#include "felix/calc/calc.h"
#include "felix/detect.h"
#include "felix/dp/ifaces.h"
#include "felix/dp/nat.h"
#include "felix/dp/routes.h"
#include "felix/dp/status.h"
#include "felix/dp/sysctl.h"
#include "felix/dp/tunnels.h"
#include "felix/pattern.h"
#include "kern/nft.h"
#include "kern/rt.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"
#include "store/cache.h"
#include "store/store.h"
#include "store/sync.h"
#include "svc/health.h"
#include "svc/loop.h"
#include "svc/metrics.h"

#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 30000
#define ADDRESS_SETTLE_MS 1000 /* after a change of the host's addresses */

#define STATUS_PREFIX "/var/run/calico"

enum { IN_POOLS, IN_NODE, IN_WEPS, IN_CONFIGS, IN_BLOCKS, N_INPUTS };

/* What fails and is tried again: a health check, and what the log has heard of it. */
struct part {
	const char *name;
	struct health_check *check;
	bool failing;
	char *why;
};

enum {
	PART_NODE,
	PART_ROUTES,
	PART_TUNNEL,
	PART_NAT,
	PART_SYSCTL,
	PART_FILES,
	PART_STATUS,
	N_PARTS
};

struct agent {
	const struct agent_conf *conf;
	struct event_base *base;
	int64_t (*now_ms)(void);
	char *node_key, *affinities;

	struct rt *rt;
	struct rt_monitor *monitor;
	struct nft *nft;
	struct nft_monitor *nft_monitor;
	struct loop_fd *monitor_fd, *nft_fd;
	struct ifaces *ifaces;
	struct routes *routes;
	struct tunnels *tunnels;
	struct nat *nat;
	struct sysctl *sysctl;
	struct status *status;

	struct calc *calc;
	struct in_config given; /* by parameters */
	struct cache_kind kinds[N_INPUTS];
	struct cache *cache;
	bool wants_changed, mtu_unknown;
	char *pattern; /* that host_links was compiled from */
	regex_t host_links;
	bool pools_known; /* the datastore was read whole: calc's wants are true */
	/*
	 * Of an object that could not be decoded nothing is known, which is not absence: what its kind
	 * decides is not removed until all of the kind was known once. After that, what cannot be
	 * decoded is new, or its last good version stays.
	 */
	bool blocks_whole, wants_whole, weps_whole;
	char *unknown; /* key of an object for which something is kept; NULL = none */

	struct store *st;
	struct store_advice *advice; /* NULL = none is awaited */
	struct start *start;
	struct address *address;
	bool start_due, named;
	struct loop_timer *settle_timer;
	struct health_check *sync_check;

	struct loop_task *task;
	struct loop_timer *retry_timer, *rest_timer, *refresh_timer;
	int64_t retry_delay_ms;
	struct part parts[N_PARTS];
	bool files_dirty;
	uint32_t pod_mtu; /* 0 = not known yet */

	uint64_t n_applies, n_events;
	struct metrics *metrics;
};

static void schedule(struct agent *a)
{
	loop_task_schedule(a->task);
}

/* ---- datastore -> calc ---- */

MODEL_CACHE_FNS(ippool);
MODEL_CACHE_FNS(node);

static int decode_wep(
	void *arg, const char *key, const char *value, size_t len, void **ret, struct err *err)
{
	const struct agent *a = arg;

	return in_wep_decode(a->conf->start.nodename, key, value, len, (struct in_wep **)ret, err);
}

static int decode_config(
	void *arg, const char *key, const char *value, size_t len, void **ret, struct err *err)
{
	(void)arg;
	return in_config_decode(key, value, len, (struct in_config **)ret, err);
}

static void free_config(void *c)
{
	in_config_free(c);
}

static int decode_affinity(
	void *arg, const char *key, const char *value, size_t len, void **ret, struct err *err)
{
	struct ipam_affinity aff;
	int r = ipam_affinity_decode(value, len, &aff, err);

	(void)arg;
	(void)key;
	if (r == 0)
		*ret = mem_dup(&aff, sizeof(aff));
	return r;
}

struct named_pool {
	const char *key;
	const struct ippool *pool;
};

static void warn_if_overlap(void *arg, const char *key, const void *obj)
{
	const struct named_pool *mine = arg;
	const struct ippool *other = obj;

	if (strcmp(key, mine->key) != 0 && prefix_overlap(&mine->pool->cidr, &other->cidr))
		log_warn("ippool %s: %s overlaps %s of ippool %s; an address may be given twice: "
			 "delete one of them",
			strrchr(mine->key, '/') + 1, prefix_str(&mine->pool->cidr),
			prefix_str(&other->cidr), strrchr(key, '/') + 1);
}

static void on_pool(void *arg, const char *key, const void *old, const void *now)
{
	struct agent *a = arg;

	if (now && a->cache)
		cache_for_each(a->cache, &a->kinds[IN_POOLS], warn_if_overlap,
			&(struct named_pool){key, now});
	if (now && ((const struct ippool *)now)->vxlan != ENCAP_NEVER)
		log_warn("ippool %s: vxlanMode %s: this version has no VXLAN, and its pods are not "
			 "reached from other nodes: use ipipMode",
			strrchr(key, '/') + 1, encap_mode_str(((const struct ippool *)now)->vxlan));
	calc_pool(a->calc, old, now);
	a->start_due = true; /* the tunnel's address may depend on it */
	schedule(a);
}

static void on_node(void *arg, const char *key, const void *old, const void *now)
{
	struct agent *a = arg;

	(void)old;
	if (strcmp(key, a->node_key) != 0) /* a node whose name begins with ours */
		return;
	calc_node(a->calc, now);
	a->start_due = true;
	schedule(a);
}

static void on_wep(void *arg, const char *key, const void *old, const void *now)
{
	struct agent *a = arg;

	calc_wep(a->calc, old, now);
	status_wep(a->status, key, now);
	schedule(a);
}

/* Once per pattern, which was checked where it came from. */
static void compile_pattern(struct agent *a)
{
	struct in_config c = calc_config_in_force(a->calc);
	const char *pattern = c.mtu_iface_pattern ?: DETECT_HOST_LINKS;

	if (a->pattern && strcmp(a->pattern, pattern) == 0)
		return;
	if (a->pattern)
		regfree(&a->host_links);
	free(a->pattern);
	a->pattern = mem_strdup(pattern);
	if (pattern_compile(pattern, &a->host_links, NULL) < 0)
		abort();
	a->mtu_unknown = true;
}

/* Not before it is known: what is written elsewhere would be there for nobody. */
static void set_status_dir(struct agent *a)
{
	struct in_config c = calc_config_in_force(a->calc);
	const char *prefix = c.status_prefix ?: STATUS_PREFIX;
	auto_free char *dir = prefix[0] ? mem_printf("%s/endpoint-status", prefix) : NULL;

	if (a->pools_known)
		status_set_dir(a->status, dir);
}

static void on_config(void *arg, const char *key, const void *old, const void *now)
{
	struct agent *a = arg;
	auto_free char *own = mem_printf("node.%s", a->conf->start.nodename);
	const char *name = strrchr(key, '/') + 1;

	(void)old;
	if (strcmp(name, own) == 0)
		calc_config(a->calc, CALC_CONFIG_NODE, now);
	else if (strcmp(name, "default") == 0)
		calc_config(a->calc, CALC_CONFIG_DEFAULT, now);
	compile_pattern(a);
	set_status_dir(a);
	schedule(a);
}

static void on_affinity(void *arg, const char *key, const void *old, const void *now)
{
	const struct ipam_affinity *aff = now;
	struct agent *a = arg;
	struct prefix cidr;

	(void)old;
	if (!ipam_key_parse_affinity(key, NULL, &cidr))
		return;
	calc_block(a->calc, &cidr, aff && !aff->deleted && aff->state == IPAM_CONFIRMED);
	schedule(a);
}

static void on_advice(void *arg, const char *text)
{
	struct agent *a = arg;

	a->advice = NULL;
	if (text)
		log_warn("%s", text);
}

static void on_in_sync(void *arg)
{
	struct agent *a = arg;

	log_info("the datastore has been read whole");
	a->advice = store_advise(a->st, on_advice, a);
	a->pools_known = a->wants_changed = true;
	set_status_dir(a);
	schedule(a);
}

static void on_unknown(void *arg)
{
	struct agent *a = arg;

	a->start_due = true; /* it may have waited for a pool */
	schedule(a);
}

static void on_sync_state(void *arg)
{
	struct agent *a = arg;

	if (!a->cache) /* before cache_new has returned */
		return;
	if (sync_locked(cache_sync(a->cache)) && start_is_running(a->start)) {
		start_stop(a->start);
		a->start_due = true;
	} else if (a->start_due && a->pools_known) {
		schedule(a); /* it may have waited for the lock */
	}
	if (!sync_in_sync(cache_sync(a->cache)) || !sync_up(cache_sync(a->cache)))
		health_set_bad(a->sync_check, "%s", sync_state(cache_sync(a->cache)));
	else if (a->unknown)
		health_set_bad(a->sync_check,
			"%s cannot be decoded (the log says why), so that what it may ask for is kept "
			"as it is; mend it or delete it",
			a->unknown);
	else
		health_set_ok(a->sync_check);
}

/* A node whose name begins with ours and other nodes' configurations are none of our business. */
static bool concerns_us(const struct agent *a, const char *key)
{
	const char *name = strrchr(key, '/') + 1;

	if (strncmp(key, a->node_key, strlen(a->node_key)) == 0)
		return key[strlen(a->node_key)] == '\0';
	if (strncmp(key, a->kinds[IN_CONFIGS].prefix, strlen(a->kinds[IN_CONFIGS].prefix)) != 0)
		return true;
	return strcmp(name, "default") == 0 ||
	       (strncmp(name, "node.", 5) == 0 && strcmp(name + 5, a->conf->start.nodename) == 0);
}

struct search {
	const struct agent *a;
	char *key;
};

static void note_unknown(void *arg, const char *key)
{
	struct search *s = arg;

	if (!s->key && concerns_us(s->a, key))
		s->key = mem_strdup(key);
}

/* The key of an object of these inputs of which nothing is known, or NULL. */
static char *find_unknown(const struct agent *a, unsigned inputs)
{
	struct search s = {.a = a};

	for (int i = 0; i < N_INPUTS; i++)
		if (inputs & 1U << i)
			cache_for_each_unknown(a->cache, &a->kinds[i], note_unknown, &s);
	return s.key;
}

static void allow_status_deletes(struct agent *a)
{
	auto_free char *wep = NULL;

	if (!a->pools_known || a->weps_whole)
		return;
	wep = find_unknown(a, 1U << IN_WEPS);
	a->weps_whole = !wep;
	if (a->weps_whole)
		status_allow_deletes(a->status);
}

/* For routes endpoints do not matter: without one nothing is known of its interface, and its routes stay. */
static void allow_deletes(struct agent *a)
{
	auto_free char *block = NULL, *other = NULL;

	allow_status_deletes(a);
	if (!a->pools_known || (a->blocks_whole && a->wants_whole))
		return;
	if (!a->blocks_whole) {
		block = find_unknown(a, 1U << IN_BLOCKS);
		a->blocks_whole = !block;
		if (a->blocks_whole)
			routes_allow_deletes(a->routes);
	}
	if (!a->wants_whole) {
		other = find_unknown(a, 1U << IN_POOLS | 1U << IN_NODE | 1U << IN_CONFIGS);
		a->wants_whole = !other;
		if (a->wants_whole) {
			a->wants_changed = a->files_dirty = true;
			tunnels_allow_deletes(a->tunnels);
			if (a->nat)
				nat_allow_deletes(a->nat);
		}
	}
	free(a->unknown);
	a->unknown = other ? take_ptr(other) : take_ptr(block);
	on_sync_state(a);
}

/* ---- calc -> reconcilers ---- */

static void on_route_set(void *arg, const struct prefix *dst, const char *ifname)
{
	struct agent *a = arg;
	struct route_key key = {.dst = *dst};
	struct nexthop hop = {.type = ifname ? RT_TYPE_UNICAST : RT_TYPE_BLACKHOLE};

	if (ifname)
		memccpy(hop.ifname, ifname, 0, sizeof(hop.ifname) - 1);
	routes_set(a->routes, &key, &hop);
}

static void on_route_unset(void *arg, const struct prefix *dst)
{
	struct agent *a = arg;
	struct route_key key = {.dst = *dst};

	routes_unset(a->routes, &key);
}

static void on_wants_changed(void *arg)
{
	struct agent *a = arg;

	a->wants_changed = true;
}

static const struct calc_ops calc_ops = {
	.route_set = on_route_set,
	.route_unset = on_route_unset,
	.wants_changed = on_wants_changed,
};

/* ---- the kernel's events ---- */

/* A host's own interface, on which the node's address may be. */
static bool may_have_node_address(const struct agent *a, uint32_t index)
{
	const struct rt_link *l = ifaces_by_index(a->ifaces, index);

	return !l || (strncmp(l->name, a->conf->pod_prefix, strlen(a->conf->pod_prefix)) != 0 &&
			     strcmp(l->name, TUNNELS_IPIP) != 0);
}

static void on_rt_event(void *arg, const struct rt_event *ev)
{
	struct agent *a = arg;

	a->n_events++;
	ifaces_event(a->ifaces, ev);
	routes_event(a->routes, ev);
	tunnels_event(a->tunnels, ev);
	if (ev->type == RT_EVENT_OVERFLOW)
		loop_timer_set(a->settle_timer, ADDRESS_SETTLE_MS);
	if ((ev->type == RT_EVENT_ADDR_SET || ev->type == RT_EVENT_ADDR_DEL) &&
		address_is_wanted(a->address, &ev->addr.prefix.addr) &&
		may_have_node_address(a, ev->addr.index))
		loop_timer_set(a->settle_timer, ADDRESS_SETTLE_MS);
}

static void on_monitor(void *arg)
{
	struct agent *a = arg;
	struct err err = ERR_INIT;
	int r = rt_monitor_read(a->monitor, on_rt_event, a, &err);

	if (r < 0) {
		log_error("kernel events: %s", err_text(&err));
		ifaces_mark_unknown(a->ifaces);
		routes_mark_unknown(a->routes);
		tunnels_mark_unknown(a->tunnels);
	}
	schedule(a);
}

static void on_nft_event(void *arg, const char *table)
{
	struct agent *a = arg;

	nat_event(a->nat, table);
	if (!table || strcmp(table, NAT_TABLE) == 0)
		schedule(a);
}

static void on_nft_monitor(void *arg)
{
	struct agent *a = arg;
	struct err err = ERR_INIT;

	if (nft_monitor_read(a->nft_monitor, on_nft_event, a, &err) < 0) {
		log_error("nftables events: %s", err_text(&err));
		nat_mark_unknown(a->nat);
		schedule(a);
	}
}

static bool is_host_link(const struct agent *a, const struct rt_link *l)
{
	return l && strncmp(l->name, a->conf->pod_prefix, strlen(a->conf->pod_prefix)) != 0 &&
	       pattern_matches(&a->host_links, l->name);
}

static void on_link(void *arg, const struct rt_link *old, const struct rt_link *now)
{
	struct agent *a = arg;
	bool same = old && now && old->mtu == now->mtu && old->flags == now->flags &&
		    strcmp(old->name, now->name) == 0;

	if (strcmp((now ?: old)->name, TUNNELS_IPIP) == 0)
		a->parts[PART_TUNNEL].failing = false; /* worth a try at once */
	if (!same && !a->mtu_unknown)
		a->mtu_unknown = is_host_link(a, old) || is_host_link(a, now);
}

/* ---- the task ---- */

/*
 * What fails anew does not wait for the end of another's long pause. Of start-up each reason is logged: it
 * takes one step after the other, and each may need somebody's hand.
 */
static void set_part(struct agent *a, int part, int r, const struct err *err)
{
	struct part *p = &a->parts[part];

	if (r == 0) {
		if (p->failing)
			log_info("%s: in order again", p->name);
		health_set_ok(p->check);
		free(take_ptr(p->why));
	} else {
		if (!p->failing || (part == PART_NODE && strcmp(p->why, err_text(err)) != 0))
			log_warn("%s: %s", p->name, err_text(err));
		if (!p->failing) {
			a->retry_delay_ms = 0;
			loop_timer_cancel(a->retry_timer);
		}
		free(p->why);
		p->why = mem_strdup(err_text(err));
		health_set_bad(p->check, "%s", err_text(err));
	}
	p->failing = r < 0;
}

static void apply_mtu(struct agent *a)
{
	if (!a->mtu_unknown)
		return;
	a->mtu_unknown = false;
	calc_host_mtu(a->calc, detect_host_mtu(a->ifaces, &a->host_links));
}

/* In a directory that is made where there is none. */
static int write_file(const char *path, const char *text, struct err *err)
{
	auto_free char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');
	int r = 0;

	if (slash && slash != dir) {
		*slash = '\0';
		r = file_mkdirs(dir, 0755, err);
	}
	return r < 0 ? r : file_write_atomic(path, text, strlen(text), 0644, err);
}

static int apply_files(struct agent *a, struct err *err)
{
	const char *name = a->conf->start.nodename, *path = a->conf->nodename_file;
	char mtu[16];
	int r = 0;

	if (!a->files_dirty)
		return 0;
	/* By it the plugin knows that pods may run here: not as a node that was refused. */
	if (path[0] && start_is_settled(a->start))
		r = write_file(path, name, err);
	if (r < 0)
		return err_wrap(err, r, "node name");
	path = a->conf->mtu_file;
	/* The one that is there was right, as far as is known. */
	if (path[0] && a->pod_mtu && (a->wants_whole || access(path, F_OK) < 0)) {
		snprintf(mtu, sizeof(mtu), "%u\n", a->pod_mtu);
		r = write_file(path, mtu, err);
	}
	if (r < 0)
		return err_wrap(err, r, "pods' MTU");
	a->files_dirty = false;
	return 0;
}

static void apply_wants(struct agent *a)
{
	const struct calc_wants *w;

	/* Before everything was read, the pools are not all known: nothing global is decided. */
	if (!a->wants_changed || !a->pools_known)
		return;
	a->wants_changed = false;
	w = calc_wants(a->calc);
	tunnels_want(a->tunnels, w);
	sysctl_want(a->sysctl, w);
	if (a->nat)
		nat_want(a->nat, w);
	a->files_dirty |= a->pod_mtu != w->pod_mtu;
	a->pod_mtu = w->pod_mtu;
}

static void run_start(struct agent *a)
{
	struct start_host host = {0};

	a->start_due = false;
	if (address_find(a->address, cache_get(a->cache, a->node_key), &host))
		start_run(a->start, &host, clock_real_ns());
}

static void on_address_changed(void *arg)
{
	struct agent *a = arg;

	a->start_due = true;
	schedule(a);
}

static void on_retry_timer(void *arg)
{
	struct agent *a = arg;

	a->start_due |= a->parts[PART_NODE].failing;
	routes_retry(a->routes);
	schedule(a);
}

static void on_rest_timer(void *arg)
{
	schedule(arg);
}

static void arm_rest(struct agent *a)
{
	int64_t next = routes_next_ms(a->routes);

	if (next == INT64_MAX)
		loop_timer_cancel(a->rest_timer);
	else
		loop_timer_set(a->rest_timer, next - a->now_ms());
}

static void arm_retry(struct agent *a)
{
	bool failed = false;

	for (int i = 0; i < N_PARTS; i++)
		failed |= a->parts[i].failing;

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

static void on_started(void *arg, int r, const struct err *err)
{
	struct agent *a = arg;

	if (start_is_settled(a->start) && !a->named) {
		a->named = a->files_dirty = true;
		schedule(a);
	}
	if (a->start_due) /* something changed meanwhile */
		schedule(a);
	set_part(a, PART_NODE, r, err);
	arm_retry(a);
}

/* What has failed waits for its time, whatever else happens. */
static bool is_due(const struct agent *a, int part)
{
	return !a->parts[part].failing || !loop_timer_is_set(a->retry_timer);
}

/* Its module may not be loaded yet. */
static int open_nft(struct agent *a, struct err *err)
{
	int r = nft_open(&a->nft, err);

	if (r == 0)
		r = nft_monitor_open(a->nft, &a->nft_monitor, err);
	if (r < 0) {
		nft_close(take_ptr(a->nft));
		return r;
	}
	a->nft_fd =
		loop_fd_new(a->base, nft_monitor_fd(a->nft_monitor), LOOP_READ, on_nft_monitor, a);
	a->nat = nat_new(a->nft);
	if (a->wants_whole)
		nat_allow_deletes(a->nat);
	if (a->pools_known)
		nat_want(a->nat, calc_wants(a->calc));
	return 0;
}

static int apply_nat(struct agent *a, struct err *err)
{
	int r = a->nat ? 0 : open_nft(a, err);

	return r < 0 ? r : nat_apply(a->nat, err);
}

static void apply_status(struct agent *a)
{
	struct err err = ERR_INIT;
	int r = status_apply(a->status, &err);

	if (r == -EAGAIN)
		schedule(a);
	else
		set_part(a, PART_STATUS, r, &err);
}

/* Routes first: a pod may be waiting for one. */
static void on_task(void *arg)
{
	struct agent *a = arg;
	struct err err = ERR_INIT;
	int r;

	a->n_applies++;
	allow_deletes(a);
	r = routes_apply(a->routes, a->now_ms(), &err);
	if (r == -EAGAIN) {
		schedule(a);
		return;
	}
	set_part(a, PART_ROUTES, r, &err);
	if (is_due(a, PART_STATUS))
		apply_status(a);
	apply_mtu(a);
	apply_wants(a);
	if (is_due(a, PART_TUNNEL))
		set_part(a, PART_TUNNEL, tunnels_apply(a->tunnels, &err), &err);
	if (is_due(a, PART_SYSCTL))
		set_part(a, PART_SYSCTL, sysctl_apply(a->sysctl, &err), &err);
	if (is_due(a, PART_NAT))
		set_part(a, PART_NAT, apply_nat(a, &err), &err);
	if (is_due(a, PART_FILES))
		set_part(a, PART_FILES, apply_files(a, &err), &err);
	if (a->start_due && a->pools_known && !sync_locked(cache_sync(a->cache)) &&
		!start_is_running(a->start))
		run_start(a);
	arm_retry(a);
	arm_rest(a);
}

static void on_refresh(void *arg)
{
	struct agent *a = arg;

	ifaces_mark_unknown(a->ifaces);
	routes_mark_unknown(a->routes);
	tunnels_mark_unknown(a->tunnels);
	sysctl_mark_unknown(a->sysctl);
	status_mark_unknown(a->status);
	a->files_dirty = true;
	if (a->nat)
		nat_mark_unknown(a->nat);
	loop_timer_set(a->refresh_timer, a->conf->refresh_ms);
	schedule(a);
}

/* ---- life ---- */

static int64_t get_wanted(void *arg)
{
	return routes_stats(((struct agent *)arg)->routes)->wanted;
}

static int64_t get_installed(void *arg)
{
	return routes_stats(((struct agent *)arg)->routes)->installed;
}

static int64_t get_waiting(void *arg)
{
	return routes_stats(((struct agent *)arg)->routes)->waiting;
}

static void add_metrics(struct agent *a)
{
	const struct routes_stats *st = routes_stats(a->routes);
	struct metrics *m = a->metrics;

	metrics_gauge_fn(m, "margay_felix_routes_wanted", NULL, "Routes felix wants in the kernel.",
		get_wanted, a);
	metrics_gauge_fn(m, "margay_felix_routes_installed", NULL, "Routes of felix in the kernel.",
		get_installed, a);
	metrics_gauge_fn(m, "margay_felix_routes_waiting", NULL,
		"Routes that wait for their interface.", get_waiting, a);
	metrics_counter(
		m, "margay_felix_route_writes_total", NULL, "Routes written.", &st->written);
	metrics_counter(
		m, "margay_felix_route_deletes_total", NULL, "Routes deleted.", &st->deleted);
	metrics_counter(m, "margay_felix_route_failures_total", NULL,
		"Route changes that the kernel refused.", &st->failed);
	metrics_counter(m, "margay_felix_route_repairs_total", NULL,
		"Routes that somebody else changed or removed, put back.", &st->repaired);
	metrics_counter(m, "margay_felix_route_quarrels_total", NULL,
		"Times that somebody else began to change a route again and again.", &st->quarrels);
	metrics_counter(m, "margay_felix_route_dumps_total", NULL,
		"Times that all routes were read.", &st->dumps);
	metrics_counter(m, "margay_felix_kernel_events_total", NULL,
		"Events of links, addresses and routes.", &a->n_events);
	metrics_counter(m, "margay_felix_applies_total", NULL, "Turns of work.", &a->n_applies);
	sync_add_metrics(cache_sync(a->cache), m);
}

static int open_kernel(struct agent *a, struct err *err)
{
	int r = rt_open(&a->rt, err);

	if (r == 0)
		r = rt_monitor_open(
			RT_WATCH_LINKS | RT_WATCH_ADDRS | RT_WATCH_ROUTES, a->rt, &a->monitor, err);
	if (r < 0)
		return r;
	a->monitor_fd = loop_fd_new(a->base, rt_monitor_fd(a->monitor), LOOP_READ, on_monitor, a);
	return 0;
}

static void define_kinds(struct agent *a)
{
	char buf[IPAM_KEY_SIZE];

	a->node_key = mem_strdup(key_str(KIND_NODE, NULL, a->conf->start.nodename));
	a->affinities =
		mem_strdup(ipam_key_affinities_of_host(a->conf->start.nodename, IP_NONE, buf));
	/* In the order in which they are listed. */
	a->kinds[IN_POOLS] = (struct cache_kind){
		kind_info(KIND_IPPOOL)->root, ippool_cache_decode, ippool_cache_free, on_pool};
	a->kinds[IN_NODE] =
		(struct cache_kind){a->node_key, node_cache_decode, node_cache_free, on_node};
	a->kinds[IN_WEPS] = (struct cache_kind){
		kind_info(KIND_WORKLOADENDPOINT)->root, decode_wep, free, on_wep};
	a->kinds[IN_CONFIGS] = (struct cache_kind){
		kind_info(KIND_FELIXCONFIGURATION)->root, decode_config, free_config, on_config};
	a->kinds[IN_BLOCKS] =
		(struct cache_kind){a->affinities, decode_affinity, free, on_affinity};
}

static const struct cache_ops cache_ops = {
	.in_sync = on_in_sync, .state = on_sync_state, .unknown = on_unknown, .heed_lock = true};

int agent_new(struct event_base *base, struct store *st, const struct agent_conf *conf,
	struct health *health, struct metrics *metrics, int64_t (*now_ms)(void), struct agent **ret,
	struct err *err)
{
	static const char *const names[N_PARTS] = {
		"node", "routes", "tunnel", "nat", "sysctl", "files", "endpoint-status"};
	struct agent *a = mem_new(struct agent);
	int r;

	a->conf = conf;
	a->st = st;
	a->base = base;
	a->now_ms = now_ms ? now_ms : clock_mono_ms;
	a->metrics = metrics;
	a->sync_check = health_add(health, "datastore", HEALTH_READY, "the datastore to be read");
	for (int i = 0; i < N_PARTS; i++) {
		a->parts[i].name = names[i];
		a->parts[i].check = health_add(health, names[i], HEALTH_READY, "the first turn");
	}
	r = open_kernel(a, err);
	if (r < 0) {
		agent_free(a);
		return r;
	}
	a->task = loop_task_new(base, on_task, a);
	a->retry_timer = loop_timer_new(base, on_retry_timer, a);
	a->rest_timer = loop_timer_new(base, on_rest_timer, a);
	a->settle_timer = loop_timer_new(base, on_address_changed, a);
	a->refresh_timer = loop_timer_new(base, on_refresh, a);
	a->calc = calc_new(&calc_ops, a);
	a->given =
		(struct in_config){.ipip_enabled = conf->ipip_enabled, .ipip_mtu = conf->ipip_mtu};
	if (conf->mtu_iface_pattern[0])
		a->given.mtu_iface_pattern = mem_strdup(conf->mtu_iface_pattern);
	a->ifaces = ifaces_new(a->rt);
	ifaces_listen(a->ifaces, on_link, a);
	a->routes =
		routes_new(a->rt, a->ifaces, RT_TABLE_MAIN_ID, RT_PROTO_MARGAY, conf->pod_prefix);
	a->tunnels = tunnels_new(a->rt, a->ifaces);
	a->sysctl = sysctl_new(a->rt, a->ifaces, conf->sysctl_root, conf->pod_prefix);
	if (conf->status_prefix)
		a->given.status_prefix = mem_strdup(conf->status_prefix);
	a->status = status_new(a->ifaces);
	calc_config(a->calc, CALC_CONFIG_GIVEN, &a->given);
	compile_pattern(a);
	a->start_due = a->files_dirty = true;
	a->address =
		address_new(base, a->rt, conf->address, conf->pod_prefix, on_address_changed, a);
	a->start = start_new(st, &conf->start, on_started, a);
	define_kinds(a);
	a->cache = cache_new(st, a->kinds, N_INPUTS, &cache_ops, a, NULL);
	on_sync_state(a);
	add_metrics(a);
	if (conf->refresh_ms)
		loop_timer_set(a->refresh_timer, conf->refresh_ms);
	schedule(a);
	*ret = a;
	return 0;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	if (a->routes) {
		const struct routes_stats *st = routes_stats(a->routes);
		const void *const values[] = {&st->written, &st->deleted, &st->failed,
			&st->repaired, &st->quarrels, &st->dumps, &a->n_events, &a->n_applies, a};

		for (size_t i = 0; i < array_size(values); i++)
			metrics_remove(a->metrics, values[i]);
	}
	store_advice_cancel(a->advice);
	cache_free(a->cache);
	start_free(a->start);
	address_free(a->address);
	calc_free(a->calc);
	loop_timer_free(a->retry_timer);
	loop_timer_free(a->rest_timer);
	loop_timer_free(a->settle_timer);
	loop_timer_free(a->refresh_timer);
	loop_task_free(a->task);
	loop_fd_free(a->monitor_fd);
	loop_fd_free(a->nft_fd);
	routes_free(a->routes);
	tunnels_free(a->tunnels);
	nat_free(a->nat);
	sysctl_free(a->sysctl);
	status_free(a->status);
	ifaces_free(a->ifaces);
	rt_monitor_close(a->monitor);
	nft_monitor_close(a->nft_monitor);
	nft_close(a->nft);
	rt_close(a->rt);
	if (a->pattern)
		regfree(&a->host_links);
	free(a->pattern);
	free(a->given.mtu_iface_pattern);
	free(a->given.status_prefix);
	free(a->node_key);
	free(a->affinities);
	free(a->unknown);
	for (int i = 0; i < N_PARTS; i++)
		free(a->parts[i].why);
	free(a);
}

bool agent_is_idle(const struct agent *a)
{
	return !loop_task_is_scheduled(a->task) && !start_is_running(a->start);
}

const struct routes_stats *agent_routes(const struct agent *a)
{
	return routes_stats(a->routes);
}

bool agent_in_sync(const struct agent *a)
{
	return a->pools_known;
}

void agent_retry(struct agent *a)
{
	a->start_due |= a->parts[PART_NODE].failing || loop_timer_is_set(a->settle_timer);
	loop_timer_cancel(a->settle_timer);
	loop_timer_cancel(a->retry_timer);
	routes_retry(a->routes);
	sync_retry(cache_sync(a->cache));
	schedule(a);
}
