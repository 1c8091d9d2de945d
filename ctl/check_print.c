/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/check_print.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/json.h"

#define TOP 20 /* nodes */

/* What the kinds mean to who runs the cluster. */
static const struct {
	const char *title, *meaning, *remedy;
} kinds[N_PROBLEM_KINDS] = {
	[PROBLEM_UNREADABLE] = {"Objects that cannot be read",
		"What they say is not known, and counts as nothing here: what follows may be wrong for "
		"that.",
		"mend them first; of a block, see margayctl ipam drop --help."},
	[PROBLEM_OVERLAP] = {"Blocks that lie in others",
		"Two nodes may give the same address to two pods: the pool was made anew with another "
		"blockSize while blocks of the old one were in use.",
		"delete the pods that have addresses of the smaller block, so that it goes, before "
		"others get some."},
	[PROBLEM_SHARED] = {"Addresses that two have", "Packets for the one reach the other.",
		"delete the pod that was started later; what starts in its place gets an address of its "
		"own. Where an endpoint is of a node that is no more, delete that."},
	[PROBLEM_ANOTHERS] = {"Addresses in use that were given to another",
		"The other may have the address as well: packets for the one reach the other then. What a "
		"node holds ahead (margay-reserve-NODE) it gives to its next pod.",
		"check once more when nothing waits on these nodes (margay_cni_journal_waiting), since what "
		"was given while the datastore was away is not written at once. What is still so: delete the "
		"pods that use them, which get others then; restart margay-felix where it is a tunnel's."},
	[PROBLEM_UNGIVEN] = {"Addresses in use that no block gives away",
		"They are free to IPAM, and will be given to another, too.",
		"delete these pods, which get others then; restart margay-felix where it is a tunnel's."},
	[PROBLEM_LEAK] = {"Addresses that nobody uses",
		"A container has ended, or a node has gone, and the address was not given back: it is "
		"lost to its pool.",
		"margayctl ipam check --repair frees them."},
	[PROBLEM_DOUBTFUL] = {"Addresses that nobody seems to use",
		"As before, but the other side of it cannot be seen in the datastore.",
		"look on that node whether something has the address; margayctl ipam check --repair "
		"--force frees them."},
	[PROBLEM_TUNNEL] = {"Tunnels' addresses that their nodes do not have",
		"The node's daemon was stopped between taking the address and saying so, or has another "
		"one by now.",
		"it takes or gives it back when it starts next: restart margay-felix (calico-node) there."},
	[PROBLEM_HANDLE_MISSING] = {"Handles that do not exist",
		"Addresses are given back by handle; these would be found by a search alone.",
		"margayctl ipam check --repair makes them anew."},
	[PROBLEM_HANDLE_EMPTY] = {"Handles without an address",
		"Somebody was stopped between handle and block. They do no harm but fill the datastore.",
		"margayctl ipam check --repair deletes them."},
	[PROBLEM_HANDLE_COUNT] = {"Handles that count otherwise than blocks have it",
		"One that counts too much is left over when its addresses go; one that counts too little "
		"goes before them.",
		"margayctl ipam check --repair counts them anew."},
	[PROBLEM_AFFINITY_STALE] = {"Affinities for blocks that are not the node's",
		"The node announces the block, or looks for addresses in it, and has none of it.",
		"margayctl ipam check --repair deletes them."},
	[PROBLEM_AFFINITY_MISSING] = {"Blocks whose nodes do not know of them",
		"The node does not announce the block, nor takes addresses of it.",
		"margayctl ipam claim CIDR --node NAME; or, where the node is no more, margayctl delete "
		"node NAME."},
};

static const char *dash(const char *s)
{
	return s ? s : "";
}

static void print_blocks(const struct check *c, bool all, FILE *out)
{
	const struct check_block *b;

	fprintf(out, "Loading all IPAM blocks...\nFound %zu IPAM blocks.\n", c->n_blocks);
	vec_for_each (&c->blocks, b) {
		fprintf(out, " IPAM block %s affinity=%s:\n", prefix_str(&b->cidr),
			b->affinity ? b->affinity : "<none>");
		if (!all)
			continue;
		for (size_t i = check_alloc_index(c, &b->cidr.addr); i < c->allocs.n; i++) {
			const struct check_alloc *a = &c->allocs.v[i];

			if (!prefix_contains(&b->cidr, &a->ip))
				break;
			if (prefix_equal(&a->block, &b->cidr))
				fprintf(out, "  %s allocated; attrs %s\n", ip_str(&a->ip),
					a->attrs);
		}
	}
	fprintf(out, "IPAM blocks record %zu allocations.\n\n", c->n_addresses);
}

static void print_pools(const struct check *c, FILE *out)
{
	const struct prefix *p;

	fprintf(out, "Loading all IPAM pools...\n");
	vec_for_each (&c->pools, p)
		fprintf(out, "  %s\n", prefix_str(p));
	fprintf(out, "Found %zu active IP pools.\n\n", c->pools.n);
}

static size_t print_uses(const struct check *c, bool of_nodes, bool all, FILE *out)
{
	const struct check_use *u;
	size_t n = 0;

	vec_for_each (&c->uses, u) {
		if (u->is_node != of_nodes)
			continue;
		n++;
		if (all)
			fprintf(out, "  %s belongs to %s(%s)\n", ip_str(&u->ip),
				of_nodes ? "Node" : "Workload", u->name);
	}
	return n;
}

static size_t n_distinct_uses(const struct check *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->uses.n; i++)
		n += i == 0 || !ip_equal(&c->uses.v[i - 1].ip, &c->uses.v[i].ip);
	return n;
}

struct share {
	const char *node;
	size_t n;
};

static int by_node(const void *a, const void *b)
{
	return strcmp(((const struct share *)a)->node, ((const struct share *)b)->node);
}

static int by_most(const void *a, const void *b)
{
	const struct share *x = a, *y = b;

	return x->n != y->n ? (x->n < y->n ? 1 : -1) : by_node(a, b);
}

static void print_top(const struct check *c, FILE *out)
{
	auto_free struct share *v = mem_realloc_array(NULL, c->allocs.n + 1, sizeof(*v));
	size_t n = 0;

	fprintf(out, "Looking for top (up to %d) nodes by allocations...\n", TOP);
	for (size_t i = 0; i < c->allocs.n; i++)
		v[i] = (struct share){dash(c->allocs.v[i].node), 1};
	qsort(v, c->allocs.n, sizeof(*v), by_node);
	for (size_t i = 0; i < c->allocs.n; i++) {
		if (n > 0 && strcmp(v[n - 1].node, v[i].node) == 0)
			v[n - 1].n++;
		else
			v[n++] = v[i];
	}
	qsort(v, n, sizeof(*v), by_most);
	for (size_t i = 0; i < n && i < TOP; i++)
		fprintf(out, "  %s has %zu allocations\n", v[i].node, v[i].n);
	if (n > 0)
		fprintf(out, "Node with most allocations has %zu; median is %zu\n", v[0].n,
			v[n / 2].n);
	fprintf(out, "\n");
}

static bool is_unused(enum problem_kind kind)
{
	return kind == PROBLEM_LEAK || kind == PROBLEM_DOUBTFUL || kind == PROBLEM_TUNNEL;
}

static const struct check_alloc *alloc_of(const struct check *c, const struct ip *ip)
{
	size_t i = check_alloc_index(c, ip);

	return i < c->allocs.n && ip_equal(&c->allocs.v[i].ip, ip) ? &c->allocs.v[i] : NULL;
}

static void print_unused(const struct check *c, bool problems, FILE *out)
{
	const struct problem *p;
	size_t n = 0;

	fprintf(out, "Scanning for IPs that are allocated but not actually in use...\n");
	vec_for_each (&c->problems, p) {
		const struct check_alloc *a = is_unused(p->kind) ? alloc_of(c, &p->ip) : NULL;

		n += is_unused(p->kind);
		if (a && problems)
			fprintf(out, "  %s leaked; attrs %s\n", ip_str(&a->ip), a->attrs);
	}
	fprintf(out, "Found %zu IPs that are allocated in IPAM but not actually in use.\n", n);
}

static void print_use(const struct check *c, const struct check_use *u, FILE *out)
{
	const struct check_alloc *a = alloc_of(c, &u->ip);
	const char *what = u->is_node ? "Node" : "Workload";

	if (a && !a->cooling)
		return;
	if (u->in_pool)
		fprintf(out,
			"  %s in use by %s(%s) and in active IPAM pool but has no IPAM allocation.\n",
			ip_str(&u->ip), what, u->name);
	else
		fprintf(out, "  %s in use by %s(%s) is not in any active IP pool.\n",
			ip_str(&u->ip), what, u->name);
}

static void print_ungiven(const struct check *c, bool problems, FILE *out)
{
	const struct check_use *u;
	const struct problem *p;
	struct ip last = {0};

	fprintf(out, "Scanning for IPs that are in use by a workload or node but not allocated in "
		     "IPAM...\n");
	vec_for_each (&c->problems, p) {
		if (!problems || (p->kind != PROBLEM_SHARED && p->kind != PROBLEM_ANOTHERS) ||
			ip_equal(&p->ip, &last))
			continue; /* one of several findings */
		last = p->ip;
		fprintf(out, "  %s has multiple owners.\n", ip_str(&p->ip));
	}
	vec_for_each (&c->uses, u)
		if (problems)
			print_use(c, u, out);
	fprintf(out, "Found %zu in-use IPs that are not in active IP pools.\n", c->n_foreign);
	fprintf(out,
		"Found %zu in-use IPs that are in active IP pools but have no corresponding IPAM "
		"allocation.\n\n",
		check_count(c, PROBLEM_UNGIVEN));
}

static void print_handles(const struct check *c, bool all, bool problems, FILE *out)
{
	size_t n_empty = check_count(c, PROBLEM_HANDLE_EMPTY), n_missing = 0;
	const struct problem *p;
	const char *last = "";

	fprintf(out, "Scanning for IPAM handles with no matching IPs...\n");
	vec_for_each (&c->problems, p)
		if (all && p->kind == PROBLEM_HANDLE_EMPTY)
			fprintf(out, "  %s doesn't have any active IPs.\n", p->name);
	fprintf(out, "Found %zu handles with no matching IPs (and %zu handles with matches).\n",
		n_empty, c->n_handles - n_empty);
	fprintf(out, "Scanning for IPs with missing handle...\n");
	vec_for_each (&c->problems, p) {
		if (p->kind != PROBLEM_HANDLE_MISSING || strcmp(p->name, last) == 0)
			continue; /* one of several blocks */
		last = p->name;
		n_missing++;
		if (problems)
			fprintf(out, "  %s is in use in a block but doesn't exist.\n", p->name);
	}
	fprintf(out, "Found %zu handles mentioned in blocks with no matching handle resource.\n",
		n_missing);
}

void check_print(const struct check *c, bool all, bool problems, FILE *out)
{
	size_t n;

	problems |= all;
	fprintf(out, "Checking IPAM for inconsistencies...\n\n");
	print_blocks(c, all, out);
	print_pools(c, out);
	fprintf(out, "Loading all nodes.\n");
	n = print_uses(c, true, all, out);
	fprintf(out, "Found %zu node tunnel IPs.\n\n", n);
	fprintf(out,
		"Loading all service load balancer IPs.\n"
		"No configuration for LoadBalancer kubecontroller found, skipping service check"
		"\n\n");
	fprintf(out, "Loading all workload endpoints.\n");
	n = print_uses(c, false, all, out);
	fprintf(out, "Found %zu workload IPs.\nWorkloads and nodes are using %zu IPs.\n\n", n,
		n_distinct_uses(c));
	fprintf(out, "Loading all handles\n");
	print_top(c, out);
	print_unused(c, problems, out);
	print_ungiven(c, problems, out);
	print_handles(c, all, problems, out);
	fprintf(out, "Validating IPAMBlock structures...\nFound %zu invalid IPAMBlocks.\n",
		c->n_blocks - c->blocks.n);
	fprintf(out, "Check complete; found %zu problems.\n", c->problems.n);
}

void check_explain(const struct check *c, FILE *out)
{
	const struct problem *p;

	for (unsigned kind = 0; kind < N_PROBLEM_KINDS; kind++) {
		size_t n = check_count(c, (enum problem_kind)kind);

		if (n == 0)
			continue;
		fprintf(out, "\n%s: %zu\n", kinds[kind].title, n);
		vec_for_each (&c->problems, p)
			if (p->kind == kind)
				fprintf(out, "  %s\n", p->text);
		fprintf(out, "%s\nWhat to do: %s\n", kinds[kind].meaning, kinds[kind].remedy);
	}
}

/* ---- the report ---- */

static void set_text(json_t *j, const char *name, const char *s)
{
	if (s && *s)
		json_object_set_new(j, name, json_string(s));
}

static json_t *alloc_json(const struct check_alloc *a)
{
	json_t *j = json_object(), *owners = a->owners.n > 0 ? json_array() : json_null();
	char **s;

	json_object_set_new(j, "ip", json_string(ip_str(&a->ip)));
	set_text(j, "handle", a->handle);
	json_object_set_new(j, "sequenceNumber", json_integer((json_int_t)a->seq));
	set_text(j, "pod", a->pod);
	set_text(j, "namespace", a->ns);
	set_text(j, "node", a->node);
	set_text(j, "type", a->type);
	set_text(j, "creationTimestamp", a->timestamp);
	json_object_set_new(j, "inUse", json_boolean(a->owners.n > 0));
	if (a->borrowed)
		json_object_set_new(j, "borrowed", json_true());
	if (a->cooling)
		json_object_set_new(j, "coolingDown", json_true());
	vec_for_each (&a->owners, s)
		json_array_append_new(owners, json_string(*s));
	json_object_set_new(j, "owners", owners);
	return j;
}

char *check_report(const struct check *c, const char *version)
{
	auto_(json) json_t *j = json_object();
	auto_free char *revision = mem_printf("%lld", (long long)c->info_rev);
	json_t *allocations = json_object(), *handles = json_array();
	const struct check_alloc *a;
	const struct problem *p;

	json_object_set_new(j, "version", json_string(version));
	json_object_set_new(j, "clusterGUID", json_string(dash(c->guid)));
	json_object_set_new(j, "datastoreLocked", json_boolean(c->locked));
	json_object_set_new(j, "clusterInformationRevision", json_string(revision));
	json_object_set_new(j, "clusterType", json_string(dash(c->type)));
	vec_for_each (&c->allocs, a) {
		const char *ip = ip_str(&a->ip);

		if (!json_object_get(allocations, ip))
			json_object_set_new(allocations, ip, json_array());
		json_array_append_new(json_object_get(allocations, ip), alloc_json(a));
	}
	json_object_set_new(j, "allocations", allocations);
	vec_for_each (&c->problems, p) {
		auto_free char *rev = mem_printf("%lld", (long long)p->rev);

		if (p->kind == PROBLEM_HANDLE_EMPTY)
			json_array_append_new(handles, json_pack("{s:s, s:n, s:s}", "ID", p->name,
							       "UID", "Revision", rev));
	}
	if (json_array_size(handles) > 0)
		json_object_set(j, "leakedHandles", handles);
	json_decref(handles);
	return json_dumps(j, JSON_INDENT(2));
}
