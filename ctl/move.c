/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/move.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/key.h"
#include "model/limits.h"
#include "store/lock.h"

#define LIST_MS 600000 /* of everything there is of a kind */
#define WINDOW 16      /* writes under way at once */
#define LINE_MAX (2 * MODEL_VALUE_MAX)
#define REPORTS "/calico/felix/" /* what daemons tell of themselves; it expires */
#define KUBE_LABELS "projectcalico.org/kube-labels"

static bool begins(const char *key, const char *with)
{
	return strncmp(key, with, strlen(with)) == 0;
}

static bool is_ipam(const char *key)
{
	return begins(key, IPAM_ROOT);
}

/* ---- snapshots ---- */

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct store_kv *)a)->key, ((const struct store_kv *)b)->key);
}

static void sort(struct snapshot *s)
{
	if (s->v.n > 0)
		qsort(s->v.v, s->v.n, sizeof(*s->v.v), by_key);
}

void snapshot_done(struct snapshot *s)
{
	struct store_kv *kv;

	vec_for_each (&s->v, kv)
		store_kv_done(kv);
	vec_done(&s->v);
	vec_done(&s->missing);
}

const struct store_kv *snapshot_find(const struct snapshot *s, const char *key)
{
	const struct store_kv kv = {.key = (char *)(uintptr_t)key};

	return s->v.n ? bsearch(&kv, s->v.v, s->v.n, sizeof(kv), by_key) : NULL;
}

/* Of what IPAM stores: marked by a writer that had no time to delete it. */
static bool is_deleted(const struct store_kv *kv)
{
	auto_(json) json_t *j = is_ipam(kv->key) ? json_loadb(kv->value, kv->len, 0, NULL) : NULL;

	return json_is_true(json_object_get(j, "deleted"));
}

static int read_prefix(struct store *st, const char *prefix, struct snapshot *ret, struct err *err)
{
	struct store_list list = {0};
	int r = store_list_wait(st, prefix, clock_mono_ms() + LIST_MS, &list, err);

	if (r == -ENOENT) {
		vec_push(&ret->missing, prefix);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		if (begins(list.v[i].key, REPORTS) || is_deleted(&list.v[i]))
			continue;
		vec_push(&ret->v, list.v[i]);
		list.v[i] = (struct store_kv){0};
	}
	store_list_done(&list);
	return r;
}

static int interrupted(struct err *err)
{
	return err_set(err, -ECANCELED, "interrupted");
}

int snapshot_read_prefixes(struct store *st, const char *const *prefixes, size_t n,
	const volatile sig_atomic_t *stop, struct snapshot *ret, struct err *err)
{
	int r = 0;

	*ret = (struct snapshot){0};
	for (size_t i = 0; r == 0 && i < n; i++)
		r = stop && *stop ? interrupted(err) : read_prefix(st, prefixes[i], ret, err);
	if (r < 0)
		snapshot_done(ret);
	sort(ret);
	return r;
}

int snapshot_read(
	struct store *st, const volatile sig_atomic_t *stop, struct snapshot *ret, struct err *err)
{
	size_t n;
	const struct store_root *roots = store_roots(st, &n);
	auto_free const char **prefixes = mem_realloc_array(NULL, n, sizeof(*prefixes));

	for (size_t i = 0; i < n; i++)
		prefixes[i] = roots[i].prefix;
	return snapshot_read_prefixes(st, prefixes, n, stop, ret, err);
}

int snapshot_check(const struct snapshot *s, struct err *err)
{
	const struct store_kv *kv, *first = NULL;
	size_t n = 0;

	vec_for_each (&s->v, kv) {
		first = first ?: kv->unreadable ? kv : NULL;
		n += kv->unreadable;
	}
	if (n == 0)
		return 0;
	return err_set(err, -EINVAL,
		"%zu objects cannot be read: mend or delete them; the first is %s: %s", n,
		first->key, first->value);
}

int snapshot_print(const struct snapshot *s, FILE *out, struct err *err)
{
	const struct store_kv *kv;

	fprintf(out, "{\"datastore\":\"export\",\"version\":1,\"objects\":%zu}\n", s->v.n);
	vec_for_each (&s->v, kv) {
		auto_(json) json_t *value =
			json_loadb(kv->value, kv->len, JSON_REJECT_DUPLICATES, NULL);
		auto_(json) json_t *line =
			json_is_object(value)
				? json_pack("{s:s, s:O}", "key", kv->key, "value", value)
				: json_pack("{s:s, s:s}", "key", kv->key, "text", kv->value);
		auto_free char *text = line ? model_json_dump(line) : NULL;

		if (!text)
			return err_set(err, -EINVAL,
				"%s: is no text in UTF-8: mend it, or delete it", kv->key);
		fprintf(out, "%s\n", text);
	}
	return ferror(out) || fflush(out) != 0 ? err_sys(err, -errno, "the export") : 0;
}

static int load_line(const char *line, size_t len, struct snapshot *ret, struct err *err)
{
	struct json_error_t why;
	auto_(json) json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	const char *key = json_string_value(json_object_get(j, "key"));
	const json_t *value = json_object_get(j, "value");
	const char *text = json_string_value(json_object_get(j, "text"));
	struct store_kv kv = {0};

	if (!j)
		return err_set(err, -EINVAL, "%s", why.text);
	if (!key || (!json_is_object(value) && !text))
		return err_set(err, -EINVAL,
			"want an object with key and value, as margayctl datastore export writes it");
	kv.key = mem_strdup(key);
	kv.value = value ? model_json_dump(value) : mem_strdup(text);
	kv.len = strlen(kv.value);
	vec_push(&ret->v, kv);
	return 0;
}

static int load_head(const char *line, size_t len, json_int_t *ret_n, struct err *err)
{
	auto_(json) json_t *j = json_loadb(line, len, 0, NULL);
	const char *what = json_string_value(json_object_get(j, "datastore"));

	if (!what || strcmp(what, "export") != 0 ||
		json_integer_value(json_object_get(j, "version")) != 1)
		return err_set(err, -EINVAL,
			"want what margayctl datastore export writes, version 1; resources in YAML "
			"are for margayctl apply");
	*ret_n = json_integer_value(json_object_get(j, "objects"));
	return 0;
}

/* Without its end, and no more than LINE_MAX + 1 bytes of it. false: there is none. */
static bool read_line(FILE *f, char *line, size_t *ret_len)
{
	size_t n = 0;
	int c = EOF;

	while (n <= LINE_MAX && (c = getc_unlocked(f)) != EOF && c != '\n')
		line[n++] = (char)c;
	*ret_len = n;
	return n > 0 || c != EOF;
}

static int load_file(FILE *f, struct snapshot *ret, struct err *err)
{
	auto_free char *line = mem_realloc_array(NULL, LINE_MAX + 1, 1);
	json_int_t want = -1;
	size_t used;
	int r = 0;

	for (unsigned n = 1; r == 0 && read_line(f, line, &used); n++) {
		while (used > 0 && used <= LINE_MAX && line[used - 1] == '\r')
			used--;
		if (used == 0)
			continue;
		if (used > LINE_MAX)
			r = err_set(err, -EINVAL, "is longer than %d bytes", LINE_MAX);
		else if (want < 0)
			r = load_head(line, used, &want, err);
		else
			r = load_line(line, used, ret, err);
		if (r < 0)
			return err_wrap(err, r, "line %u", n);
	}
	if (ferror(f))
		return err_sys(err, -errno, "reading");
	if (want < 0)
		return err_set(
			err, -EINVAL, "is empty: want what margayctl datastore export writes");
	if ((size_t)want != ret->v.n)
		return err_set(err, -EINVAL,
			"has %zu objects, and its first line says %lld: is it whole? Who has added or "
			"removed some says so there",
			ret->v.n, (long long)want);
	return 0;
}

int snapshot_load(const char *path, struct snapshot *ret, struct err *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *f = is_stdin ? stdin : fopen(path, "re");
	int r;

	*ret = (struct snapshot){0};
	if (!f)
		return err_sys(err, -errno, "%s", path);
	r = load_file(f, ret, err);
	if (!is_stdin)
		fclose(f);
	sort(ret);
	for (size_t i = 1; r == 0 && i < ret->v.n; i++)
		if (by_key(&ret->v.v[i - 1], &ret->v.v[i]) == 0)
			r = err_set(err, -EINVAL, "%s stands twice", ret->v.v[i].key);
	if (r < 0) {
		snapshot_done(ret);
		return err_wrap(err, r, "%s", is_stdin ? "standard input" : path);
	}
	return 0;
}

/* ---- whether two values say the same ---- */

/* What the API server fills in, as the resources' definitions say. */
static const struct {
	const char *plural, *member, *value;
} defaults[] = {
	{"bgpconfigurations", "logSeverityScreen", "Info"},
	{"bgpconfigurations", "serviceLoadBalancerAggregation", "Enabled"},
	{"felixconfigurations", "nftablesMode", "Auto"},
	{"felixconfigurations", "nftablesFlowTableOffload", "Disabled"},
	{"ippools", "assignmentMode", "Automatic"},
	{"ippools", "nodeSelector", "all()"},
	{"networkpolicies", "tier", "default"},
	{"globalnetworkpolicies", "tier", "default"},
	{"tiers", "defaultAction", "Deny"},
};

/* "ippools" of "/calico/resources/v3/projectcalico.org/ippools/a"; the caller's. */
static char *plural_of(const char *key)
{
	const char *calico = "/calico/resources/v3/projectcalico.org/", *margay = "/margay/v1/";

	if (begins(key, calico))
		key += strlen(calico);
	else if (begins(key, margay))
		key += strlen(margay);
	else if (begins(key, "/"))
		key++;
	return mem_strndup(key, strcspn(key, "/"));
}

/* Nothing, and what is empty, are the same. */
static void drop_empty(json_t *j)
{
	const char *name;
	json_t *e;
	void *next;
	size_t i;

	json_array_foreach (j, i, e)
		drop_empty(e);
	json_object_foreach_safe(j, next, name, e)
	{
		drop_empty(e);
		if (json_is_null(e) || (json_is_object(e) && json_object_size(e) == 0) ||
			(json_is_array(e) && json_array_size(e) == 0) ||
			(json_is_string(e) && json_string_length(e) == 0))
			json_object_del(j, name);
	}
}

/* Whose status is a report, and in Kubernetes a subresource. */
static bool is_reported(const char *plural)
{
	static const char *const plurals[] = {
		"caliconodestatuses", "ippools", "kubecontrollersconfigurations", "tiers"};

	for (size_t i = 0; i < array_size(plurals); i++)
		if (strcmp(plural, plurals[i]) == 0)
			return true;
	return false;
}

static void drop_members(json_t *j, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		json_object_del(j, names[i]);
}

static void fill_in(json_t *j, const char *plural)
{
	json_t *spec = json_object_get(j, "spec");

	for (size_t i = 0; i < array_size(defaults); i++)
		if (strcmp(plural, defaults[i].plural) == 0 && json_is_object(spec) &&
			!json_object_get(spec, defaults[i].member))
			json_object_set_new(
				spec, defaults[i].member, json_string(defaults[i].value));
}

/* The labels of Kubernetes' Node, which its view tells of; it keeps them itself. The caller's. */
static json_t *kube_labels(const json_t *node)
{
	const json_t *annotations =
		json_object_get(json_object_get(node, "metadata"), "annotations");
	const char *text = json_string_value(json_object_get(annotations, KUBE_LABELS));

	return text ? json_loads(text, 0, NULL) : NULL;
}

static void drop_labels(json_t *node, const json_t *kube)
{
	json_t *labels = json_object_get(json_object_get(node, "metadata"), "labels"), *v;
	const char *name;

	json_object_foreach ((json_t *)(uintptr_t)kube, name, v)
		json_object_del(labels, name);
}

/* view: one of the two is what Kubernetes tells of its own Node, which has the rest of it. */
static void normalize(json_t *j, const char *key, bool view)
{
	static const char *const set[] = {"uid", "resourceVersion", "creationTimestamp",
		"generation", "managedFields", "selfLink"};
	auto_free char *plural = plural_of(key);
	json_t *meta = json_object_get(j, "metadata"), *spec = json_object_get(j, "spec");
	json_t *annotations = json_object_get(meta, "annotations");

	drop_members(meta, set, array_size(set));
	json_object_del(annotations, "projectcalico.org/metadata");
	if (strcmp(key, STORE_LOCK_KEY) == 0)
		json_object_del(spec, "datastoreReady");
	if (is_reported(plural))
		json_object_del(j, "status");
	fill_in(j, plural);
	if (view && strcmp(plural, "nodes") == 0) {
		json_object_del(annotations, KUBE_LABELS);
		json_object_del(spec, "orchRefs");
		json_object_del(spec, "addresses");
		json_object_del(json_object_get(j, "status"), "podCIDRs");
	}
	drop_empty(j);
}

static bool same_resource(const struct store_kv *a, const struct store_kv *b, bool view)
{
	auto_(json) json_t *x = json_loadb(a->value, a->len, 0, NULL);
	auto_(json) json_t *y = json_loadb(b->value, b->len, 0, NULL);
	auto_(json) json_t *kube_x = kube_labels(x), *kube_y = kube_labels(y);

	drop_labels(x, kube_x);
	drop_labels(x, kube_y);
	drop_labels(y, kube_x);
	drop_labels(y, kube_y);
	normalize(x, a->key, view || kube_x || kube_y);
	normalize(y, a->key, view || kube_x || kube_y);
	return x && y && json_equal(x, y);
}

/* NULL: it cannot be read. The caller's. */
static char *of_ipam(const struct store_kv *kv)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	struct ipam_affinity affinity;
	struct ipam_config config;

	if (begins(kv->key, IPAM_KEY_BLOCKS)) {
		if (ipam_block_decode(kv->value, kv->len, &b, NULL) < 0)
			return NULL;
		b->attrs_null = false;
		return ipam_block_encode(b);
	}
	if (begins(kv->key, IPAM_KEY_HANDLES))
		return ipam_handle_decode(kv->value, kv->len, &h, NULL) == 0 ? ipam_handle_encode(h)
									     : NULL;
	if (strcmp(kv->key, IPAM_KEY_CONFIG) == 0)
		return ipam_config_decode(kv->value, kv->len, &config, NULL) == 0
			       ? ipam_config_encode(&config)
			       : NULL;
	return ipam_affinity_decode(kv->value, kv->len, &affinity, NULL) == 0
		       ? ipam_affinity_encode(&affinity, kv->value)
		       : NULL;
}

bool move_same(const struct store_kv *a, const struct store_kv *b, bool view)
{
	auto_free char *s = NULL, *t = NULL;

	if (a->len == b->len && memcmp(a->value, b->value, a->len) == 0)
		return true;
	if (is_ipam(a->key)) {
		s = of_ipam(a);
		t = of_ipam(b);
		return s && t && strcmp(s, t) == 0;
	}
	return same_resource(a, b, view);
}

static bool same_status(const struct store_kv *from, const struct store_kv *there)
{
	auto_free char *plural = plural_of(from->key);
	auto_(json) json_t *x = NULL, *y = NULL;

	if (is_ipam(from->key) || !is_reported(plural))
		return true;
	x = json_loadb(from->value, from->len, 0, NULL);
	y = json_loadb(there->value, there->len, 0, NULL);
	drop_empty(x);
	drop_empty(y);
	return !json_object_get(x, "status") ||
	       json_equal(json_object_get(x, "status"), json_object_get(y, "status"));
}

/* ---- planning ---- */

static const struct store_root *root_of(const struct store *st, const char *key)
{
	size_t n;
	const struct store_root *roots = store_roots(st, &n);

	for (size_t i = 0; i < n; i++)
		if (begins(key, roots[i].prefix))
			return &roots[i];
	return NULL;
}

/* IPAM's configuration is one object there, under two keys. */
static bool is_merged(const struct store *st)
{
	const struct store_root *root = root_of(st, kind_info(KIND_IPAMCONFIGURATION)->root);

	return root && root->access == STORE_SAME_AS;
}

static void count(struct move_kinds *kinds, const char *key)
{
	auto_free char *name = is_ipam(key) ? mem_strdup("ipam") : plural_of(key);
	struct move_kind *k, new = {.n = 1};

	vec_for_each (&kinds->v, k)
		if (strcmp(k->name, name) == 0) {
			k->n++;
			return;
		}
	new.name = take_ptr(name);
	vec_push(&kinds->v, new);
}

static void forget_kinds(struct move_kinds *kinds)
{
	struct move_kind *k;

	vec_for_each (&kinds->v, k)
		free(k->name);
	vec_done(&kinds->v);
}

static bool is_missing(const struct snapshot *s, const char *key)
{
	const char *const *prefix;

	vec_for_each (&s->missing, prefix)
		if (begins(key, *prefix))
			return true;
	return false;
}

static void add_step(struct move *m, enum store_verb verb, const struct store_kv *from, int64_t rev)
{
	struct move_step step = {.verb = verb, .from = from, .rev = rev};

	vec_push(&m->steps, step);
	/* The lock comes first. */
	if (verb == STORE_CREATE && strcmp(from->key, STORE_LOCK_KEY) == 0) {
		m->steps.v[m->steps.n - 1] = m->steps.v[0];
		m->steps.v[0] = step;
	}
}

/* The target has it as it was moved: it is nobody else's. */
static bool may_replace(const struct move *m, const struct store_kv *there)
{
	const struct store_kv *moved = m->before ? snapshot_find(m->before, there->key) : NULL;

	return m->overwrite || (moved && move_same(moved, there, false));
}

static void plan_object(struct move *m, const struct store_kv *from, const struct store_kv *there)
{
	const struct store_root *root = root_of(m->to, from->key);
	enum store_access access = root ? root->access : STORE_FOREIGN;

	if (access == STORE_SAME_AS)
		access = snapshot_find(m->from, IPAM_KEY_CONFIG) ? STORE_FOREIGN : STORE_ANY;
	if (access == STORE_FOREIGN) {
		if (!root || root->access == STORE_FOREIGN)
			count(&m->left, from->key);
	} else if (there && move_same(from, there, access == STORE_CHANGE)) {
		m->n_same++;
		if (!same_status(from, there))
			count(&m->status, from->key);
	} else if (there && (access == STORE_CHANGE || may_replace(m, there))) {
		add_step(m, STORE_UPDATE, from, there->rev);
	} else if (there) {
		vec_push(&m->differs, mem_strdup(from->key));
	} else if (access == STORE_CHANGE) {
		vec_push(&m->no_nodes, mem_strdup(strrchr(from->key, '/') + 1));
	} else if (is_missing(&m->there, from->key)) {
		count(&m->undefined, from->key);
	} else {
		add_step(m, STORE_CREATE, from, 0);
	}
}

static void plan_surplus(struct move *m, const struct store_kv *there)
{
	const struct store_root *root = root_of(m->to, there->key);

	if (root->access != STORE_ANY || strcmp(there->key, STORE_LOCK_KEY) == 0 || /* its own */
		(strcmp(there->key, IPAM_KEY_CONFIG) == 0 && is_merged(m->to) &&
			snapshot_find(m->from, key_str(KIND_IPAMCONFIGURATION, NULL, "default"))))
		return;
	if (may_replace(m, there))
		add_step(m, STORE_DELETE, there, there->rev);
	else
		vec_push(&m->differs, mem_strdup(there->key));
}

static void forget_plan(struct move *m)
{
	char **s;

	vec_for_each (&m->differs, s)
		free(*s);
	vec_for_each (&m->no_nodes, s)
		free(*s);
	vec_for_each (&m->failed, s)
		free(*s);
	forget_kinds(&m->left);
	forget_kinds(&m->undefined);
	forget_kinds(&m->status);
	vec_done(&m->differs);
	vec_done(&m->no_nodes);
	vec_done(&m->failed);
	vec_done(&m->steps);
	m->n_same = m->n_done = m->n_unsure = 0;
	snapshot_done(&m->there);
}

int move_plan(struct move *m, struct err *err)
{
	const struct snapshot *from = m->from;
	size_t i = 0, k = 0;
	int r;

	forget_plan(m);
	r = snapshot_read(m->to, m->stop, &m->there, err);
	if (r < 0)
		return r;
	while (i < from->v.n || k < m->there.v.n) {
		int c = i == from->v.n	    ? 1
			: k == m->there.v.n ? -1
					    : by_key(&from->v.v[i], &m->there.v.v[k]);

		if (c > 0)
			plan_surplus(m, &m->there.v.v[k]);
		else
			plan_object(m, &from->v.v[i], c == 0 ? &m->there.v.v[k] : NULL);
		i += c <= 0;
		k += c >= 0;
	}
	return 0;
}

void move_done(struct move *m)
{
	forget_plan(m);
}

/* ---- writing ---- */

struct run {
	struct move *m;
	size_t next, in_flight;
	int r; /* of the datastore: nothing follows */
	struct err err;
};

struct flight {
	struct run *run;
	const struct move_step *step;
	bool looked;	/* at what has the key that was to be created */
	struct err err; /* of that creation */
};

/* As it is stored there: locked, and without what is only told. The caller's. */
static char *text_to_write(const struct store_kv *kv)
{
	auto_(json) json_t *j = NULL;
	struct ipam_affinity none = {0};
	json_t *meta;

	if (kv->len == 0) /* an affinity of old */
		return ipam_affinity_encode(&none, NULL);
	if (strcmp(kv->key, STORE_LOCK_KEY) != 0 && !begins(kv->key, kind_info(KIND_NODE)->root))
		return mem_strdup(kv->value);
	j = json_loadb(kv->value, kv->len, 0, NULL);
	if (!json_is_object(j))
		return mem_strdup(kv->value);
	if (strcmp(kv->key, STORE_LOCK_KEY) == 0 && json_is_object(json_object_get(j, "spec"))) {
		json_object_set_new(json_object_get(j, "spec"), "datastoreReady", json_false());
	} else {
		meta = json_object_get(j, "metadata");
		json_object_del(json_object_get(meta, "annotations"), KUBE_LABELS);
	}
	return model_json_dump(j);
}

static void end_flight(struct flight *f, int r, const struct err *err)
{
	/* Without it nothing follows: others would write there, too. */
	bool is_lock = strcmp(f->step->from->key, STORE_LOCK_KEY) == 0;
	struct run *run = f->run;
	struct move *m = run->m;

	run->in_flight--;
	if (r == 0) {
		m->n_done++;
	} else if (!is_lock && (r == -EINVAL || r == -EEXIST || r == -ESTALE || r == -ENOENT)) {
		const char *key = f->step->from->key;

		vec_push(&m->failed, strstr(err_text(err), key)
					     ? mem_strdup(err_text(err))
					     : mem_printf("%s: %s", key, err_text(err)));
	} else {
		m->n_unsure += r == -ETIMEDOUT;
		if (run->r == 0)
			run->err = *err;
		run->r = run->r ?: r;
	}
	if (m->progress)
		m->progress(m->arg, m->n_done + m->failed.n, m->steps.n);
	free(f);
}

static void on_written(void *arg, const struct store_res *res);

static void write_as(struct flight *f, enum store_verb verb, int64_t rev)
{
	const struct store_kv *kv = f->step->from;
	auto_free char *text = verb == STORE_DELETE ? NULL : text_to_write(kv);

	store_start(f->run->m->to,
		&(struct store_req){.verb = verb, .key = kv->key, .value = text, .rev = rev},
		on_written, f);
}

/* What has the key: a record that its writer had no time to delete is written over. */
static void on_looked(void *arg, const struct store_res *res)
{
	struct flight *f = arg;

	if (res->r == -ENOENT)
		write_as(f, STORE_CREATE, 0);
	else if (res->r < 0)
		end_flight(f, res->r, res->err);
	else if (is_deleted(&res->kvs[0]))
		write_as(f, STORE_UPDATE, res->kvs[0].rev);
	else
		end_flight(f, -EEXIST, &f->err);
}

static void on_written(void *arg, const struct store_res *res)
{
	struct flight *f = arg;

	if (res->r != -EEXIST || f->looked) {
		end_flight(f, res->r, res->err);
		return;
	}
	f->looked = true;
	f->err = *res->err;
	store_start(f->run->m->to,
		&(struct store_req){.verb = STORE_GET, .key = f->step->from->key}, on_looked, f);
}

static void write_one(struct run *run)
{
	struct flight *f = mem_new(struct flight);

	f->run = run;
	f->step = &run->m->steps.v[run->next++];
	run->in_flight++;
	write_as(f, f->step->verb, f->step->rev);
}

static bool may_go_on(const struct run *run)
{
	const struct move *m = run->m;
	size_t window = run->next == 1 ? 1 : WINDOW; /* after the lock */

	return run->r == 0 && !(m->stop && *m->stop) && run->next < m->steps.n &&
	       run->in_flight < window;
}

int move_run(struct move *m, struct err *err)
{
	struct run run = {.m = m};

	while (may_go_on(&run) || run.in_flight > 0) {
		while (may_go_on(&run))
			write_one(&run);
		event_base_loop(store_base(m->to), EVLOOP_ONCE);
	}
	if (run.r < 0 && err)
		*err = run.err;
	if (run.r == 0 && m->stop && *m->stop)
		return interrupted(err);
	return run.r;
}
