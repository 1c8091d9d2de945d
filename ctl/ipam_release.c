/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl ipam release: an address, or what is left over by the reports of ipam check. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/vec.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "ipam/alloc.h"
#include "ipam/run.h"
#include "model/cluster.h"
#include "model/ipam.h"
#include "model/json.h"
#include "model/key.h"
#include "store/lock.h"
#include "store/store.h"

#define REPORT_MAX (512ul << 20)

static int run(struct ctl *c, struct ipam_request *rq_take, struct err *err)
{
	return ipam_run_take(c->st, rq_take, clock_mono_ms() + STORE_TIMEOUT_MS, err);
}

static int release_ip(struct ctl *c, const char *text)
{
	struct err err = ERR_INIT;
	struct ip ip;
	int r = ip_parse(text, &ip, &err);

	if (r < 0) {
		err_wrap(&err, r, "ipam release: --ip");
		return ctl_fail(&err);
	}
	if (!ctl_store_to_write(c, false))
		return EXIT_FAILURE;
	r = run(c, ipam_release_ip_new(&ip, NULL, clock_real_ns()), &err);
	if (r == -ENOENT) {
		ctl_warn("IP address %s is not assigned", ip_str(&ip));
		return EXIT_FAILURE;
	}
	if (r < 0) {
		err_wrap(&err, r, "ipam release %s", ip_str(&ip));
		return ctl_fail(&err);
	}
	if (ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	printf("Successfully released IP address %s\n", ip_str(&ip));
	return EXIT_SUCCESS;
}

/* ---- from reports ---- */

struct leak {
	struct ip ip;
	char *handle; /* NULL: none */
	uint64_t seq;
};

struct leaked_handle {
	char *id;
	int64_t rev;
};

/* What has no user, by one report. */
struct report {
	const char *path;
	char *guid, *version, *info_rev;
	VEC(struct leak) leaks;
	VEC(struct leaked_handle) handles;
};

static void report_done(struct report *r)
{
	struct leaked_handle *h;
	struct leak *l;

	free(r->guid);
	free(r->version);
	free(r->info_rev);
	vec_for_each (&r->leaks, l)
		free(l->handle);
	vec_for_each (&r->handles, h)
		free(h->id);
	vec_done(&r->leaks);
	vec_done(&r->handles);
}

static char *dup_member(const json_t *j, const char *name)
{
	const char *s = json_string_value(json_object_get(j, name));

	return mem_strdup(s ? s : "");
}

static int wrong(const char *what, const char *name, struct err *err)
{
	return err_set(err, -EINVAL, "%s \"%s\": want what ipam check -o has written", what, name);
}

static int load_alloc(struct report *r, const char *name, const json_t *j, struct err *err)
{
	const json_t *in_use = json_object_get(j, "inUse"),
		     *seq = json_object_get(j, "sequenceNumber");
	const char *handle = json_string_value(json_object_get(j, "handle"));
	struct leak leak = {0};

	if (json_is_true(in_use) || json_is_true(json_object_get(j, "coolingDown")))
		return 0;
	if (!json_is_false(in_use) || !json_is_integer(seq) || ip_parse(name, &leak.ip, NULL) < 0)
		return wrong("allocation", name, err);
	leak.handle = handle && *handle ? mem_strdup(handle) : NULL;
	leak.seq = (uint64_t)json_integer_value(seq);
	vec_push(&r->leaks, leak);
	return 0;
}

static int load_handle(struct report *r, const json_t *j, struct err *err)
{
	const char *id = json_string_value(json_object_get(j, "ID"));
	const char *rev = json_string_value(json_object_get(j, "Revision"));
	uint64_t n;

	if (!id || !*id || strlen(id) >= IPAM_KEY_SIZE - strlen(IPAM_KEY_HANDLES) || !rev ||
		parse_u64(rev, 1, INT64_MAX, &n, NULL) < 0)
		return wrong("handle", id ? id : "", err);
	vec_push(&r->handles, (struct leaked_handle){mem_strdup(id), (int64_t)n});
	return 0;
}

static int load(struct report *r, struct err *err)
{
	auto_free char *text = NULL;
	auto_(json) json_t *j = NULL;
	json_error_t why;
	json_t *list, *e;
	const char *name;
	size_t len, i;
	int e_r = file_read(r->path, REPORT_MAX, &text, &len, err);

	if (e_r < 0)
		return e_r;
	j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(j))
		return err_set(err, -EINVAL, "%s: line %d: %s: want a report of ipam check -o",
			r->path, why.line, j ? "no object" : why.text);
	r->guid = dup_member(j, "clusterGUID");
	r->version = dup_member(j, "version");
	r->info_rev = dup_member(j, "clusterInformationRevision");
	json_object_foreach (json_object_get(j, "allocations"), name, list)
		json_array_foreach (list, i, e)
			if (e_r == 0)
				e_r = load_alloc(r, name, e, err);
	json_array_foreach (json_object_get(j, "leakedHandles"), i, e)
		if (e_r == 0)
			e_r = load_handle(r, e, err);
	return e_r < 0 ? err_wrap(err, e_r, "%s", r->path) : 0;
}

static int by_leak(const void *a, const void *b)
{
	const struct leak *x = a, *y = b;
	int r = ip_compare(&x->ip, &y->ip);

	if (r == 0)
		r = strcmp(x->handle ? x->handle : "", y->handle ? y->handle : "");
	return r ? r : (x->seq > y->seq) - (x->seq < y->seq);
}

static int by_handle(const void *a, const void *b)
{
	const struct leaked_handle *x = a, *y = b;
	int r = strcmp(x->id, y->id);

	return r ? r : (x->rev > y->rev) - (x->rev < y->rev);
}

/* What the other, which is sorted by this, does not have so goes. */
static void intersect(struct report *r, struct report *other)
{
	size_t n = 0;

	if (other->leaks.n > 0)
		qsort(other->leaks.v, other->leaks.n, sizeof(*other->leaks.v), by_leak);
	if (other->handles.n > 0)
		qsort(other->handles.v, other->handles.n, sizeof(*other->handles.v), by_handle);
	for (size_t i = 0; i < r->leaks.n; i++) {
		if (other->leaks.n > 0 && bsearch(&r->leaks.v[i], other->leaks.v, other->leaks.n,
						  sizeof(*other->leaks.v), by_leak))
			r->leaks.v[n++] = r->leaks.v[i];
		else
			free(r->leaks.v[i].handle);
	}
	r->leaks.n = n;
	n = 0;
	for (size_t i = 0; i < r->handles.n; i++) {
		if (other->handles.n > 0 &&
			bsearch(&r->handles.v[i], other->handles.v, other->handles.n,
				sizeof(*other->handles.v), by_handle))
			r->handles.v[n++] = r->handles.v[i];
		else
			free(r->handles.v[i].id);
	}
	r->handles.n = n;
}

static int get_cluster(struct ctl *c, struct cluster_info **ret, int64_t *ret_rev, struct err *err)
{
	struct store_kv kv = {0};
	char key[KEY_SIZE];
	int r = store_get_wait(
		c->st, key_format(KIND_CLUSTERINFORMATION, NULL, "default", key), 0, &kv, err);

	if (r == -ENOENT)
		return err_set(err, r,
			"%s has no ClusterInformation, by which a report is known to "
			"be of this cluster; margayctl ipam check --repair needs none",
			store_name(c->st));
	if (r < 0)
		return r;
	r = cluster_info_decode(key, kv.value, kv.len, ret, err);
	*ret_rev = kv.rev;
	store_kv_done(&kv);
	return r;
}

/* As calicoctl: of this cluster, one at least of now, and of this version, which force does not mind. */
static int check_reports(const struct report *v, size_t n, const struct cluster_info *info,
	int64_t rev, bool force, struct err *err)
{
	auto_free char *now = mem_printf("%lld", (long long)rev);
	bool current = false;

	for (size_t i = 0; i < n; i++) {
		if (!info->guid || strcmp(info->guid, v[i].guid) != 0)
			return err_set(err, -EINVAL,
				"cluster does not match the provided report (%s): clusterGUID: got \"%s\", "
				"want \"%s\"",
				v[i].path, v[i].guid, info->guid ? info->guid : "");
		if (strcmp(v[i].version, MARGAY_VERSION) != 0) {
			if (!force)
				return err_set(err, -EINVAL,
					"the provided report (%s) was produced using another version: "
					"got \"%s\", want " MARGAY_VERSION ", or --force",
					v[i].path, v[i].version);
			printf("WARNING: Report was produced using a different version. Ignoring due "
			       "to --force option\n");
		}
		current |= strcmp(v[i].info_rev, now) == 0;
	}
	if (!current)
		return err_set(err, -ESTALE,
			"the provided reports are all stale: none is of ClusterInformation's revision "
			"%s. Generate a new report while the data store is locked and try again",
			now);
	if (info->ready && !force)
		return err_set(err, -EACCES,
			"data store is not locked. Either lock the data store (margayctl datastore "
			"lock), or re-run with --force");
	if (info->ready)
		printf("WARNING: Data store is not locked. Ignoring due to --force option\n");
	return 0;
}

static bool release_leaks(struct ctl *c, const struct report *r)
{
	size_t n_done = 0, n_gone = 0, n_other = 0, n_failed = 0;
	const struct leak *l;

	if (r->leaks.n == 0) {
		printf("Report didn't contain any leaked IPs to clean up.\n");
		return true;
	}
	printf("Releasing %zu old IPs...\n", r->leaks.n);
	vec_for_each (&r->leaks, l) {
		struct err err = ERR_INIT;
		int e = run(c,
			ipam_release_allocation_new(&l->ip, l->handle, l->seq, clock_real_ns()),
			&err);

		n_done += e == 0;
		n_gone += e == -ENOENT;
		n_other += e == -ESTALE;
		if (e < 0 && e != -ENOENT && e != -ESTALE) {
			n_failed++;
			err_wrap(&err, e, "address %s", ip_str(&l->ip));
			ctl_fail(&err);
		}
	}
	printf("Released %zu IPs successfully\n", n_done);
	if (n_gone > 0)
		printf("%zu addresses marked as leaked in the report had already been cleaned up.\n",
			n_gone);
	if (n_other > 0)
		printf("%zu addresses marked as leaked in the report have been given anew since, and "
		       "stay.\n",
			n_other);
	return n_failed == 0;
}

/* 1: missing, or changed. */
static int delete_handle(struct ctl *c, const struct leaked_handle *h, struct err *err)
{
	char key[IPAM_KEY_SIZE];
	struct store_kv kv = {0};
	int64_t rev;
	int r = store_get_wait(c->st, ipam_key_handle(h->id, key), 0, &kv, err);

	rev = kv.rev;
	store_kv_done(&kv);
	if (r == 0 && rev == h->rev)
		r = run(c, ipam_drop_handle_new(h->id, clock_real_ns()), err);
	else if (r == 0)
		return 1;
	return r == -ENOENT || r == -ESTALE || r == -EBUSY ? 1 : r;
}

static bool delete_handles(struct ctl *c, const struct report *r)
{
	size_t n_done = 0, n_skipped = 0, n_failed = 0;
	const struct leaked_handle *h;

	if (r->handles.n == 0) {
		printf("Report didn't contain any handles to clean up.\n");
		return true;
	}
	printf("Deleting %zu handles...\n"
	       "Key: '.' = Deleted OK; 'x' = skip, handle missing/changed.\n",
		r->handles.n);
	vec_for_each (&r->handles, h) {
		struct err err = ERR_INIT;
		int e = delete_handle(c, h, &err);

		n_done += e == 0;
		n_skipped += e > 0;
		n_failed += e < 0;
		if (e < 0)
			printf("\nDeleting handle %s failed: %s.\n", h->id, err.text);
		else
			printf("%c", e == 0 ? '.' : 'x');
	}
	printf("\nReleased %zu handles; %zu skipped; %zu errors.\n", n_done, n_skipped, n_failed);
	return n_failed == 0;
}

static int release_reports(struct ctl *c, struct report *v, size_t n, bool force)
{
	auto_(cluster_info) struct cluster_info *info = NULL;
	struct err err = ERR_INIT;
	int64_t rev = 0;
	bool ok;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = load(&v[i], &err);
	if (r < 0)
		return ctl_fail(&err);
	if (!ctl_store(c, false))
		return EXIT_FAILURE;
	r = get_cluster(c, &info, &rev, &err);
	if (r == 0)
		r = check_reports(v, n, info, rev, force, &err);
	if (r < 0)
		return ctl_fail(&err);
	for (size_t i = 1; i < n; i++)
		intersect(&v[0], &v[i]);
	ok = release_leaks(c, &v[0]);
	ok &= delete_handles(c, &v[0]);
	if (info->ready && ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	if (!info->ready)
		printf("You may now unlock the data store.\n");
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int ipam_release(struct ctl *c, int argc, char **argv)
{
	static const struct option options[] = {
		{"ip", required_argument, NULL, 'i'},
		{"from-report", required_argument, NULL, 'r'},
		{"force", no_argument, NULL, 'f'},
		{0},
	};
	VEC(struct report) reports = {0};
	const char *ip = NULL;
	struct report *r;
	bool force = false, misused = false;
	int opt, status;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		misused |= opt == '?';
		force |= opt == 'f';
		if (opt == 'i')
			ip = optarg;
		if (opt == 'r')
			vec_push(&reports, (struct report){.path = optarg});
	}
	if (misused || optind < argc || (ip != NULL) == (reports.n > 0) || (ip && force)) {
		if (!misused)
			ctl_warn(
				"ipam release: want --ip ADDRESS, or --from-report FILE [--force]");
		status = verb_misused("ipam release");
	} else {
		status = ip ? release_ip(c, ip) : release_reports(c, reports.v, reports.n, force);
	}
	vec_for_each (&reports, r)
		report_done(r);
	vec_done(&reports);
	return status;
}
