/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/agent.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/sha1.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "confd/apply.h"
#include "confd/bgp_view.h"
#include "confd/dns_view.h"
#include "confd/render.h"
#include "confd/routes.h"
#include "confd/secrets.h"
#include "confd/templates.h"
#include "kern/rt.h"
#include "model/bgp.h"
#include "model/endpoints.h"
#include "model/endpointslice.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/key.h"
#include "model/node.h"
#include "model/service.h"
#include "model/wep.h"
#include "store/cache.h"
#include "store/store.h"
#include "store/sync.h"
#include "svc/ctl_server.h"
#include "svc/health.h"
#include "svc/loop.h"
#include "svc/metrics.h"

#define LOG_MODULE "confd"
#include "base/log.h"

/* The first change is rendered at once, what follows within this time together. */
#define BIRD_PACE_MS 8
#define DNS_PACE_MS RENDER_PACE_MS /* faster, nobody would write it */

MODEL_CACHE_FNS(node);
MODEL_CACHE_FNS(bgp_config);
MODEL_CACHE_FNS(bgp_peer);
MODEL_CACHE_FNS(ippool);
MODEL_CACHE_FNS(service);
MODEL_CACHE_FNS(endpointslice);
MODEL_CACHE_FNS(wep);

/* The last three are read where a zone is rendered only, the last where nobody else makes slices of it. */
enum { K_NODE, K_CONFIG, K_PEER, K_POOL, K_AFFINITY, K_SERVICE, K_SLICE, K_WEP, N_KINDS_MAX };

/* The files of BIRD's configuration, each from the template of its name. */
enum { BLOCKS, NODES, PEERS, TOP, N_BIRD_FILES };
static const char *const bird_files[N_BIRD_FILES] = {
	[BLOCKS] = "blocks4.inc", [NODES] = "nodes.inc", [PEERS] = "peers.inc", [TOP] = APPLY_TOP};

/* One of them as it was rendered last: most changes concern one file, and the largest seldom. */
struct rendered {
	char *text; /* NULL: never */
	size_t len;
	uint8_t digest[SHA1_SIZE];
};

/* Done once per turn, and once per pace_ms. */
struct work {
	struct loop_task *task;
	struct loop_timer *timer;
	int64_t pace_ms, done_ms;
};

struct agent {
	const struct agent_conf *conf;
	struct cache_kind kinds[N_KINDS_MAX];
	char prefixes[N_KINDS_MAX][KEY_SIZE];
	struct cache *cache;
	struct templates *templates;
	struct apply *apply;
	struct routes *routes;
	struct secrets *secrets;
	struct ctl_server *ctl;
	struct metrics *metrics;
	struct work bird, dns;			/* dns: empty where no zone is rendered */
	struct rendered rendered[N_BIRD_FILES]; /* the top one without its generation */
	bool in_sync;
	bool was_given; /* BIRD got a configuration from this run */
	char *unknown;	/* the key that this waits for, or NULL */
	VEC(struct renderer *) renderers;
	struct endpoints *endpoints; /* NULL: no zone is rendered */
	bool in_service;	     /* it is told of a Service */
	struct problems bird_problems, dns_problems;
	int64_t n_problems, is_done, n_routes;
	uint64_t n_rendered, n_dns_rendered, n_reloads;
	struct health_check *health_store, *health_view, *health_bird, *health_files;
};

/* ---- work ---- */

static void work_init(
	struct work *w, struct event_base *base, loop_fn *fn, void *arg, int64_t pace_ms)
{
	w->task = loop_task_new(base, fn, arg);
	w->timer = loop_timer_new(base, fn, arg);
	w->pace_ms = pace_ms;
}

static void work_done(struct work *w)
{
	loop_task_free(w->task);
	loop_timer_free(w->timer);
}

/* Whether it is to be done now; if not, its function is called again when it is. */
static bool work_begin(struct work *w)
{
	int64_t now = clock_mono_ms();

	if (w->done_ms > 0 && now - w->done_ms < w->pace_ms) {
		loop_timer_set(w->timer, w->done_ms + w->pace_ms - now);
		return false;
	}
	w->done_ms = now;
	return true;
}

/* ---- the datastore's objects ---- */

static int affinity_decode(
	void *arg, const char *key, const char *value, size_t len, void **ret, struct err *err)
{
	struct ipam_affinity a;
	struct prefix cidr;
	int r;

	(void)arg;
	if (!ipam_key_parse_affinity(key, NULL, &cidr))
		return err_set(err, -EINVAL, "%s: not the key of a block's affinity", key);
	r = ipam_affinity_decode(value, len, &a, err);
	if (r < 0)
		return r;
	if (a.state != IPAM_CONFIRMED || a.deleted)
		cidr = (struct prefix){0};
	*ret = mem_dup(&cidr, sizeof(cidr));
	return 0;
}

static void on_bird_changed(struct agent *a)
{
	loop_task_schedule(a->bird.task);
}

static void on_dns_changed(struct agent *a)
{
	if (a->endpoints)
		loop_task_schedule(a->dns.task);
}

static void on_changed(void *arg, const char *key, const void *old, const void *new)
{
	(void)key;
	(void)old;
	(void)new;
	on_bird_changed(arg);
}

/* Pools are reverse zones, too. */
static void on_pool(void *arg, const char *key, const void *old, const void *new)
{
	on_changed(arg, key, old, new);
	on_dns_changed(arg);
}

static void on_service(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	a->in_service = true;
	endpoints_on_service(a->endpoints, old, new);
	a->in_service = false;
	if (!dns_view_is_same(old, new))
		on_dns_changed(a);
}

static void on_slice(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	endpoints_on_slice(a->endpoints, old, new);
}

static void on_wep(void *arg, const char *key, const void *old, const void *new)
{
	struct agent *a = arg;

	(void)key;
	endpoints_on_wep(a->endpoints, old, new);
}

static void on_endpoints(void *arg, const char *ns, const char *name)
{
	struct agent *a = arg;
	const struct service *s = endpoints_service(a->endpoints, ns, name);

	/* Endpoints of others have no names. */
	if (!a->in_service && s && s->headless)
		on_dns_changed(a);
}

static void add_kind(struct agent *a, int i, enum kind kind,
	int (*decode)(void *, const char *, const char *, size_t, void **, struct err *),
	void (*free_fn)(void *))
{
	key_prefix(kind, NULL, a->prefixes[i]);
	a->kinds[i] = (struct cache_kind){
		.prefix = a->prefixes[i], .decode = decode, .free = free_fn, .changed = on_changed};
}

static void add_kinds(struct agent *a)
{
	add_kind(a, K_NODE, KIND_NODE, node_cache_decode, node_cache_free);
	add_kind(
		a, K_CONFIG, KIND_BGPCONFIGURATION, bgp_config_cache_decode, bgp_config_cache_free);
	add_kind(a, K_PEER, KIND_BGPPEER, bgp_peer_cache_decode, bgp_peer_cache_free);
	add_kind(a, K_POOL, KIND_IPPOOL, ippool_cache_decode, ippool_cache_free);
	a->kinds[K_POOL].changed = on_pool;
	ipam_key_affinities_of_host(a->conf->nodename, IP_V4, a->prefixes[K_AFFINITY]);
	a->kinds[K_AFFINITY] = (struct cache_kind){.prefix = a->prefixes[K_AFFINITY],
		.decode = affinity_decode,
		.free = free,
		.changed = on_changed};
}

static size_t add_dns_kinds(struct agent *a, bool managed)
{
	if (!a->endpoints)
		return K_SERVICE;
	add_kind(a, K_SERVICE, KIND_SERVICE, service_cache_decode, service_cache_free);
	add_kind(a, K_SLICE, KIND_ENDPOINTSLICE, endpointslice_cache_decode,
		endpointslice_cache_free);
	a->kinds[K_SERVICE].changed = on_service;
	a->kinds[K_SLICE].changed = on_slice;
	if (managed)
		return K_WEP;
	add_kind(a, K_WEP, KIND_WORKLOADENDPOINT, wep_cache_decode, wep_cache_free);
	a->kinds[K_WEP].changed = on_wep;
	return N_KINDS_MAX;
}

/* ---- BIRD's configuration ---- */

typedef VEC(const void *) objects;

static void on_object(void *arg, const char *key, const void *obj)
{
	objects *all = arg;

	(void)key;
	vec_push(all, obj);
}

static void all_of(const struct agent *a, int kind, objects *ret)
{
	cache_for_each(a->cache, &a->kinds[kind], on_object, ret);
}

static const char *read_secret(void *arg, const char *name, const char *key)
{
	struct agent *a = arg;

	return secrets_get(a->secrets, name, key);
}

/* Takes fresh; each problem is logged when it appears and when it has gone. */
static void take_problems(struct agent *a, struct problems *known, struct problems *fresh)
{
	struct problem *p;

	vec_for_each (&fresh->v, p)
		if (!problems_have(known, p))
			log_warn("%s: %s", p->object, p->text);
	vec_for_each (&known->v, p)
		if (!problems_have(fresh, p))
			log_info("%s: no more: %s", p->object, p->text);
	problems_done(known);
	*known = *fresh;
	a->n_problems = (int64_t)(a->bird_problems.v.n + a->dns_problems.v.n);
}

static int make_view(struct agent *a, const struct bird_version *v, json_t **ret, struct err *err)
{
	objects nodes = {0}, configs = {0}, peers = {0}, pools = {0}, affinities = {0};
	VEC(struct prefix) blocks = {0};
	struct problems problems = {0};
	int r;

	all_of(a, K_NODE, &nodes);
	all_of(a, K_CONFIG, &configs);
	all_of(a, K_PEER, &peers);
	all_of(a, K_POOL, &pools);
	all_of(a, K_AFFINITY, &affinities);
	for (size_t i = 0; i < affinities.n; i++) {
		const struct prefix *cidr = affinities.v[i];

		if (cidr->addr.family != IP_NONE)
			vec_push(&blocks, *cidr);
	}
	r = bgp_view(&(struct bgp_view_input){.nodename = a->conf->nodename,
			     .router_id = a->conf->router_id,
			     .bird = *v,
			     .felix_protocol = RT_PROTO_MARGAY,
			     .nodes = (const struct node *const *)nodes.v,
			     .n_nodes = nodes.n,
			     .configs = (const struct bgp_config *const *)configs.v,
			     .n_configs = configs.n,
			     .peers = (const struct bgp_peer *const *)peers.v,
			     .n_peers = peers.n,
			     .pools = (const struct ippool *const *)pools.v,
			     .n_pools = pools.n,
			     .blocks = blocks.v,
			     .n_blocks = blocks.n,
			     .secret = read_secret,
			     .secret_arg = a},
		ret, &problems, err);
	take_problems(a, &a->bird_problems, &problems);
	vec_done(&nodes);
	vec_done(&configs);
	vec_done(&peers);
	vec_done(&pools);
	vec_done(&affinities);
	vec_done(&blocks);
	return r;
}

/* True where it is another text. */
static bool take_rendered(struct rendered *r, const struct strbuf *text)
{
	if (r->text && r->len == text->len && memcmp(r->text, strbuf_str(text), r->len) == 0)
		return false;
	free(r->text);
	r->text = mem_strndup(strbuf_str(text), text->len);
	r->len = text->len;
	sha1(r->text, r->len, r->digest);
	return true;
}

/* A number that other texts would hardly have; not 0, which is what templates are hashed with. */
static uint32_t generation_of(const struct rendered *files)
{
	uint8_t all[N_BIRD_FILES][SHA1_SIZE], digest[SHA1_SIZE];
	uint32_t g = 0;

	for (size_t i = 0; i < N_BIRD_FILES; i++)
		memcpy(all[i], files[i].digest, SHA1_SIZE);
	sha1(all, sizeof(all), digest);
	for (size_t i = 0; i < 4; i++)
		g = g << 8 | digest[i];
	return (g & 0x7fffffff) | 1;
}

/* What lies in a new block is not announced by itself any more, and again when the block is gone. */
static void reload_peers(struct agent *a)
{
	apply_reload_out(a->apply, "\"Mesh_*\"", APPLY_SETTLED);
	apply_reload_out(a->apply, "\"Node_*\"", APPLY_SETTLED);
	apply_reload_out(a->apply, "\"Global_*\"", APPLY_SETTLED);
}

static int give_to_bird(struct agent *a, json_t *view, struct strbuf *texts, struct err *err)
{
	struct apply_file files[N_BIRD_FILES];
	bool blocks_changed = take_rendered(&a->rendered[BLOCKS], &texts[BLOCKS]);
	uint32_t generation;
	int r;

	for (size_t i = 0; i < N_BIRD_FILES; i++)
		take_rendered(&a->rendered[i], &texts[i]);
	generation = generation_of(a->rendered);
	json_object_set_new(view, "generation", json_integer(generation));
	strbuf_reset(&texts[TOP]);
	r = templates_render(a->templates, APPLY_TOP, view, &texts[TOP], err);
	for (size_t i = 0; i < N_BIRD_FILES; i++)
		files[i] = (struct apply_file){bird_files[i], strbuf_str(&texts[i]), texts[i].len};
	if (r == 0)
		apply_want(a->apply, files, N_BIRD_FILES, generation);
	if (blocks_changed)
		reload_peers(a);
	return r;
}

static int render_bird(struct agent *a, const struct bird_version *v, struct err *err)
{
	struct strbuf texts[N_BIRD_FILES] = {0};
	json_t *view = NULL;
	int r = make_view(a, v, &view, err);

	for (size_t i = 0; i < N_BIRD_FILES && r == 0; i++)
		r = templates_render(a->templates, bird_files[i], view, &texts[i], err);
	if (r == 0)
		r = give_to_bird(a, view, texts, err);
	for (size_t i = 0; i < N_BIRD_FILES; i++)
		strbuf_done(&texts[i]);
	json_decref(view);
	return r;
}

/* One of another node or peer is one session's; all others shall not wait for it. */
static void note_unknown(void *arg, const char *key)
{
	struct agent *a = arg;
	const char *name = strrchr(key, '/') + 1;
	bool is_node = strncmp(key, a->prefixes[K_NODE], strlen(a->prefixes[K_NODE])) == 0;
	bool is_config = strncmp(key, a->prefixes[K_CONFIG], strlen(a->prefixes[K_CONFIG])) == 0;

	if (is_node && strcmp(name, a->conf->nodename) != 0)
		return;
	if (is_config && strcmp(name, "default") != 0 &&
		(strncmp(name, "node.", 5) != 0 || strcmp(name + 5, a->conf->nodename) != 0))
		return;
	if (!a->unknown)
		a->unknown = mem_strdup(key);
}

/*
 * After a start an object of which no version is known looks like one that is not there: another AS, no
 * encapsulation, a block withdrawn. What BIRD runs stays until it is mended or gone.
 */
static bool is_waiting(struct agent *a)
{
	auto_free char *before = take_ptr(a->unknown);

	for (int i = K_NODE; i <= K_AFFINITY && !a->was_given; i++)
		if (i != K_PEER)
			cache_for_each_unknown(a->cache, &a->kinds[i], note_unknown, a);
	if (!a->unknown)
		return false;
	health_set_bad(a->health_view,
		"%s cannot be decoded (the log says why), so that what BIRD runs is kept as it is; "
		"mend it or delete it",
		a->unknown);
	if (!before || strcmp(before, a->unknown) != 0)
		log_warn("%s cannot be decoded: BIRD is given nothing new until it is mended or "
			 "deleted",
			a->unknown);
	return true;
}

static void render(void *arg)
{
	struct agent *a = arg;
	const struct bird_version *v = apply_bird(a->apply);
	struct err err = ERR_INIT;

	if (!a->in_sync || !work_begin(&a->bird))
		return;
	a->n_rendered++;
	if (!v || is_waiting(a))
		return;
	if (render_bird(a, v, &err) < 0) {
		log_warn("BIRD's configuration: %s", err_text(&err));
		health_set_bad(a->health_view, "%s", err_text(&err));
	} else {
		a->was_given = true;
		health_set_ok(a->health_view);
	}
}

/* ---- the other files ---- */

static void render_dns(void *arg)
{
	struct agent *a = arg;
	VEC(struct prefix) reverse = {0};
	struct problems problems = {0};
	objects pools = {0};
	json_t *view;

	if (!a->in_sync || !work_begin(&a->dns))
		return;
	a->n_dns_rendered++;
	all_of(a, K_POOL, &pools);
	for (size_t i = 0; i < pools.n; i++)
		vec_push(&reverse, ((const struct ippool *)pools.v[i])->cidr);
	for (size_t i = 0; i < a->conf->n_service_ranges; i++)
		vec_push(&reverse, a->conf->service_ranges[i]);
	view = dns_view(&(struct dns_view_input){.domain = a->conf->domain,
				.endpoints = a->endpoints,
				.reverse = reverse.v,
				.n_reverse = reverse.n},
		&problems);
	take_problems(a, &a->dns_problems, &problems);
	for (size_t i = 0; i < a->renderers.n; i++)
		renderer_set(a->renderers.v[i], view);
	json_decref(view);
	vec_done(&reverse);
	vec_done(&pools);
}

static void on_renderer_state(void *arg)
{
	struct agent *a = arg;

	for (size_t i = 0; i < a->renderers.n; i++)
		if (!renderer_is_done(a->renderers.v[i])) {
			health_set_bad(a->health_files, "%s", renderer_state(a->renderers.v[i]));
			return;
		}
	health_set_ok(a->health_files);
}

static int is_conf(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return d->d_name[0] != '.' && dot && strcmp(dot, ".conf") == 0;
}

/* One that makes no sense is named, and blocks none of the others. */
static void add_renderer(struct agent *a, struct event_base *base, const char *path)
{
	struct renderer *r = NULL;
	struct err err = ERR_INIT;

	if (renderer_new(base, a->templates, path, on_renderer_state, a, &r, &err) < 0) {
		log_error("%s; left out", err_text(&err));
	} else if (strcmp(renderer_view(r), "dns") != 0) {
		log_error(
			"%s: there is no view \"%s\": want dns; left out", path, renderer_view(r));
		renderer_free(r);
	} else {
		vec_push(&a->renderers, r);
	}
}

static void add_renderers(
	struct agent *a, struct event_base *base, bool managed, struct health *health)
{
	struct dirent **entries;
	int n = scandir(a->conf->renderer_dir, &entries, is_conf, alphasort);

	for (int i = 0; i < n; i++) {
		auto_free char *path =
			mem_printf("%s/%s", a->conf->renderer_dir, entries[i]->d_name);

		add_renderer(a, base, path);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	if (a->renderers.n == 0)
		return;
	work_init(&a->dns, base, render_dns, a, DNS_PACE_MS);
	a->endpoints = endpoints_new(!managed, on_endpoints, a);
	a->health_files =
		health_add(health, "files", HEALTH_READY, "waiting for the datastore to be read");
}

/* ---- events ---- */

static void on_in_sync(void *arg)
{
	struct agent *a = arg;

	a->in_sync = true;
	on_bird_changed(a);
	on_dns_changed(a);
}

static void on_unknown(void *arg)
{
	on_bird_changed(arg);
}

static void on_secret(void *arg)
{
	on_bird_changed(arg);
}

static void on_sync_state(void *arg)
{
	struct agent *a = arg;
	struct sync *s = cache_sync(a->cache);

	if (sync_in_sync(s) && sync_up(s))
		health_set_ok(a->health_store);
	else
		health_set_bad(a->health_store, "%s", sync_state(s));
}

static void on_bird_up(void *arg, const struct bird_version *v)
{
	(void)v;
	on_bird_changed(arg);
}

static void on_bird_state(void *arg)
{
	struct agent *a = arg;

	a->is_done = apply_is_done(a->apply);
	if (a->is_done)
		health_set_ok(a->health_bird);
	else
		health_set_bad(a->health_bird, "%s", apply_state(a->apply));
}

static void on_routes_lost(void *arg)
{
	struct agent *a = arg;

	a->n_reloads++;
	apply_reload_out(a->apply, BGP_VIEW_KERNEL, APPLY_AT_ONCE);
}

static int64_t count_routes(void *arg)
{
	struct agent *a = arg;

	return (int64_t)routes_count(a->routes);
}

static const struct cache_ops cache_ops = {
	.in_sync = on_in_sync, .state = on_sync_state, .unknown = on_unknown, .heed_lock = true};
static const struct apply_ops apply_ops = {.bird_up = on_bird_up, .state = on_bird_state};

/* ---- the control socket ---- */

static void print_problems(const struct problems *from, json_t *to)
{
	const struct problem *p;

	vec_for_each (&from->v, p)
		json_array_append_new(
			to, json_pack("{s:s, s:s}", "object", p->object, "text", p->text));
}

static int verb_status(void *arg, const json_t *request, json_t **result, struct err *err)
{
	struct agent *a = arg;
	json_t *problems = json_array();

	(void)request;
	(void)err;
	print_problems(&a->bird_problems, problems);
	print_problems(&a->dns_problems, problems);
	*result = json_pack("{s:s, s:s, s:b, s:s, s:I, s:o}", "node", a->conf->nodename,
		"datastore", sync_state(cache_sync(a->cache)), "done", apply_is_done(a->apply),
		"bird", apply_state(a->apply), "routes", (json_int_t)routes_count(a->routes),
		"problems", problems);
	return 0;
}

static const struct ctl_verb verbs[] = {
	{"status", "what BIRD runs, and which objects are left out", verb_status},
};

/* ---- life ---- */

static void add_metrics(struct agent *a, struct metrics *m)
{
	a->metrics = m;
	metrics_counter(m, "margay_confd_renders_total", NULL,
		"How often the datastore's objects were rendered for BIRD.", &a->n_rendered);
	metrics_counter(m, "margay_confd_dns_renders_total", NULL,
		"How often the datastore's objects were rendered for a DNS server.",
		&a->n_dns_rendered);
	metrics_counter(m, "margay_confd_bird_loads_total", NULL,
		"How often BIRD was given a configuration.", apply_n_loaded(a->apply));
	metrics_counter(m, "margay_confd_bird_refusals_total", NULL, "How often BIRD refused one.",
		apply_n_refused(a->apply));
	metrics_counter(m, "margay_confd_route_reloads_total", NULL,
		"How often BIRD was asked to write its routes anew.", &a->n_reloads);
	metrics_gauge(
		m, "margay_confd_problems", NULL, "Objects that were left out.", &a->n_problems);
	metrics_gauge(
		m, "margay_confd_bird_done", NULL, "1: BIRD runs what was rendered.", &a->is_done);
	metrics_gauge_fn(m, "margay_confd_bird_routes", NULL, "BIRD's routes in the kernel.",
		count_routes, a);
	sync_add_metrics(cache_sync(a->cache), m);
}

static void remove_metrics(struct agent *a)
{
	if (!a->metrics)
		return;
	metrics_remove(a->metrics, &a->n_rendered);
	metrics_remove(a->metrics, &a->n_dns_rendered);
	metrics_remove(a->metrics, apply_n_loaded(a->apply));
	metrics_remove(a->metrics, apply_n_refused(a->apply));
	metrics_remove(a->metrics, &a->n_reloads);
	metrics_remove(a->metrics, &a->n_problems);
	metrics_remove(a->metrics, &a->is_done);
	metrics_remove(a->metrics, a);
}

int agent_new(struct event_base *base, struct store *st, const struct agent_conf *conf,
	struct health *health, struct metrics *metrics, struct agent **ret, struct err *err)
{
	const char *const dirs[] = {conf->template_dir, conf->template_dir_installed};
	auto_(agent) struct agent *a = mem_new(struct agent);
	auto_free char *ctl_path = mem_printf("%s/confd.sock", conf->run_dir);
	int r;

	a->conf = conf;
	a->templates = templates_new(dirs, array_size(dirs));
	work_init(&a->bird, base, render, a, BIRD_PACE_MS);
	a->health_store = health_add(
		health, "datastore", HEALTH_READY, "waiting for the datastore to be read");
	a->health_view = health_add(
		health, "configuration", HEALTH_READY, "waiting for the datastore and for BIRD");
	a->health_bird = health_add(health, "bird", HEALTH_READY, "waiting for BIRD");
	r = routes_new(base, on_routes_lost, a, &a->routes, err);
	if (r == 0)
		r = file_mkdirs(conf->run_dir, 0755, err);
	if (r == 0)
		r = ctl_server_new(base, ctl_path, verbs, array_size(verbs), a, &a->ctl, err);
	if (r < 0)
		return r;
	a->secrets = secrets_new(base, conf->secret_dir, on_secret, a);
	a->apply = apply_new(base, conf->bird_ctl, conf->bird_dir, &apply_ops, a);
	add_renderers(a, base, store_is_managed(st), health);
	add_kinds(a);
	a->cache = cache_new(
		st, a->kinds, add_dns_kinds(a, store_is_managed(st)), &cache_ops, a, NULL);
	add_metrics(a, metrics);
	*ret = take_ptr(a);
	return 0;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	remove_metrics(a);
	ctl_server_free(a->ctl);
	cache_free(a->cache);
	routes_free(a->routes);
	apply_free(a->apply);
	templates_free(a->templates);
	work_done(&a->bird);
	work_done(&a->dns);
	for (size_t i = 0; i < N_BIRD_FILES; i++)
		free(a->rendered[i].text);
	for (size_t i = 0; i < a->renderers.n; i++)
		renderer_free(a->renderers.v[i]);
	vec_done(&a->renderers);
	endpoints_free(a->endpoints);
	problems_done(&a->bird_problems);
	problems_done(&a->dns_problems);
	secrets_free(a->secrets);
	free(a->unknown);
	free(a);
}
