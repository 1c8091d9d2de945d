/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/bgp_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/sha256.h"
#include "model/bgp.h"
#include "model/ippool.h"
#include "model/node.h"
#include "model/selector.h"

#define PORT_DEFAULT 179
#define ROUTER_ID_HASH "hash"
#define HOLD_S 30	   /* BIRD's 240 keep the routes of a node that lost power for minutes */
#define RESTART_S 30	   /* as long a dead node is hidden by graceful restart; BIRD's 120 */
#define RESTART_MAX_S 4095 /* RFC 4724: 12 bits */
#define MD5_MAX 80	   /* TCP_MD5SIG_MAXKEYLEN */

enum peer_scope { PEER_GLOBAL, PEER_NODE, PEER_MESH }; /* who comes first wins an address */

struct peer {
	enum peer_scope scope;
	char *description;
	struct ip ip;
	uint16_t port;
	uint32_t as, local_as;
	bool source, passive, direct, rr_client;
	uint8_t ttl;
	uint32_t allowed_local_as;
	int64_t restart_s, keepalive_s; /* 0 = ours */
	enum bgp_next_hop next_hop;
	char *password;
	struct ip via; /* reachableBy */
};

/* Of an index: where in its array the element is. */
struct entry {
	struct hmap_node node;
	size_t i;
};

struct builder {
	const struct bgp_view_input *in;
	const struct node *self;
	const struct bgp_config *global, *own;
	uint32_t as;
	bool strict;
	VEC(const struct node *) nodes; /* the others with an address, by name, each address once */
	VEC(struct peer) peers;
	struct hmap configs_by_name, nodes_by_ip, peers_by_ip, reached_by_ip;
	struct problems *problems;
};

static void index_add(struct hmap *m, uint64_t hash, size_t i)
{
	struct entry *e = mem_new(struct entry);

	e->i = i;
	hmap_insert(m, &e->node, hash);
}

static void index_done(struct hmap *m)
{
	struct entry *e;

	hmap_for_each (e, m, node) {
		hmap_remove(m, &e->node);
		free(e);
	}
	hmap_done(m);
}

static uint64_t hash_ip(const struct ip *ip)
{
	return hash_bytes(ip, sizeof(*ip));
}

/* What BIRD's strings can hold, and JSON's: there bytes that are no UTF-8 are no string at all. */
static bool is_clean(const char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e || *s == '"')
			return false;
	return true;
}

static const struct bgp_config *find_config(const struct builder *b, const char *name)
{
	struct entry *e;

	hmap_for_each_hash (e, &b->configs_by_name, hash_str(name), node)
		if (strcmp(b->in->configs[e->i]->meta.name, name) == 0)
			return b->in->configs[e->i];
	return NULL;
}

static uint32_t default_as(const struct builder *b)
{
	return b->global && b->global->as ? b->global->as : BGP_AS_DEFAULT;
}

static uint32_t node_as(const struct builder *b, const struct node *n)
{
	return n->as ? n->as : default_as(b);
}

/* Where a node listens. */
static uint16_t node_port(const struct builder *b, const char *name)
{
	auto_free char *own = mem_printf("node.%s", name);
	const struct bgp_config *c = find_config(b, own);

	if (c && c->listen_port)
		return c->listen_port;
	return b->global && b->global->listen_port ? b->global->listen_port : PORT_DEFAULT;
}

static const struct node *node_of_ip(const struct builder *b, const struct ip *ip)
{
	struct entry *e;

	hmap_for_each_hash (e, &b->nodes_by_ip, hash_ip(ip), node)
		if (ip_equal(&b->nodes.v[e->i]->ipv4.addr, ip))
			return b->nodes.v[e->i];
	return NULL;
}

/* ---- nodes ---- */

static int compare_nodes(const void *a, const void *b)
{
	const struct node *const *x = a, *const *y = b;

	return strcmp((*x)->meta.name, (*y)->meta.name);
}

static void add_node(struct builder *b, const struct node *n)
{
	index_add(&b->nodes_by_ip, hash_ip(&n->ipv4.addr), b->nodes.n);
	vec_push(&b->nodes, n);
}

static void collect_nodes(struct builder *b)
{
	VEC(const struct node *) all = {0};

	for (size_t i = 0; i < b->in->n_nodes; i++)
		if (b->in->nodes[i] != b->self && b->in->nodes[i]->ipv4.addr.family == IP_V4)
			vec_push(&all, b->in->nodes[i]);
	if (all.n > 0)
		qsort(all.v, all.n, sizeof(*all.v), compare_nodes);
	for (size_t i = 0; i < all.n; i++) {
		const struct node *n = all.v[i], *other;

		other = ip_equal(&n->ipv4.addr, &b->self->ipv4.addr) ? b->self
								     : node_of_ip(b, &n->ipv4.addr);
		if (other)
			problems_add(b->problems, "Node", n->meta.name,
				"spec.bgp.ipv4Address %s is that of node %s, too; one of them is "
				"wrong",
				ip_str(&n->ipv4.addr), other->meta.name);
		else if (!ip_is_global_unicast(&n->ipv4.addr))
			problems_add(b->problems, "Node", n->meta.name,
				"spec.bgp.ipv4Address %s is no address that another node can reach",
				ip_str(&n->ipv4.addr));
		else
			add_node(b, n);
	}
	vec_done(&all);
}

/* ---- peers ---- */

static void peer_done(struct peer *p)
{
	free(p->description);
	free(p->password);
}

/* The side with the greater address as text connects, as Calico's nodes have it. */
static bool is_passive_towards(const struct builder *b, const struct ip *ip)
{
	return strcmp(ip_str(ip), ip_str(&b->self->ipv4.addr)) > 0;
}

/* Takes p. Two neighbours with one address and port: the second never leaves its lock in BIRD 2. */
static void add_peer(struct builder *b, struct peer p)
{
	struct entry *e;

	hmap_for_each_hash (e, &b->peers_by_ip, hash_ip(&p.ip), node) {
		const struct peer *q = &b->peers.v[e->i];

		if (!ip_equal(&q->ip, &p.ip) || q->port != p.port)
			continue;
		/* What is general gives way to nobody, without a word: so it is with Calico. */
		if (q->scope == p.scope && p.scope == PEER_GLOBAL)
			problems_add(b->problems, "BGPPeer", p.description,
				"%s port %u is a peer already, by BGPPeer %s: left out",
				ip_str(&p.ip), p.port, q->description);
		peer_done(&p);
		return;
	}
	index_add(&b->peers_by_ip, hash_ip(&p.ip), b->peers.n);
	vec_push(&b->peers, p);
}

static bool is_ebgp(const struct builder *b, const struct peer *p)
{
	return p->as != (p->local_as ? p->local_as : b->as);
}

/* A secret's text as BIRD's password: the peer is left out rather than open. */
static int take_password(struct builder *b, const char *kind, const char *object, const char *name,
	const char *key, char **ret)
{
	const char *s = b->in->secret ? b->in->secret(b->in->secret_arg, name, key) : NULL;

	*ret = NULL;
	if (!s || !*s)
		problems_add(b->problems, kind, object,
			"the password: there is no secret %s with key %s; left out until it is "
			"there",
			name, key ? key : "");
	else if (!is_clean(s) || strlen(s) > MD5_MAX)
		problems_add(b->problems, kind, object,
			"the password in secret %s, key %s: want at most %d printable ASCII "
			"characters without '\"'; left out",
			name, key, MD5_MAX);
	else
		*ret = mem_strdup(s);
	return *ret ? 0 : -EINVAL;
}

static int peer_settings(struct builder *b, const struct bgp_peer *spec, struct peer *p)
{
	const char *name = spec->meta.name;

	p->local_as = spec->local_as;
	p->source = !spec->source_none || b->strict;
	p->ttl = spec->ttl_security;
	p->allowed_local_as = spec->allowed_local_as;
	p->next_hop = spec->next_hop;
	p->restart_s = (spec->restart_ms + 500) / 1000;
	p->keepalive_s = (spec->keepalive_ms + 500) / 1000;
	p->via = spec->reachable_by;
	if (p->restart_s < 0 || p->restart_s > RESTART_MAX_S)
		problems_add(b->problems, "BGPPeer", name,
			"maxRestartTime: %lld s, want at most %d; left out",
			(long long)p->restart_s, RESTART_MAX_S);
	else if (p->keepalive_s < 0 || p->keepalive_s > UINT16_MAX / 3)
		problems_add(b->problems, "BGPPeer", name,
			"keepaliveTime: %lld s, want 1 to %d; left out", (long long)p->keepalive_s,
			UINT16_MAX / 3);
	else if (p->via.family == IP_V6)
		problems_add(b->problems, "BGPPeer", name,
			"reachableBy: %s for an IPv4 peer; left out", ip_str(&p->via));
	else if (spec->filters.v.n > 0)
		problems_add(b->problems, "BGPPeer", name,
			"spec.filters: BGPFilters are not supported; left out, since without them "
			"more would be exported than was meant");
	else if (!spec->password_secret)
		return 0;
	else
		return take_password(b, "BGPPeer", name, spec->password_secret, spec->password_key,
			&p->password);
	return -EINVAL;
}

/* A peering with a node, by selector, mesh excluded. */
static void add_node_peer(
	struct builder *b, const struct bgp_peer *spec, enum peer_scope scope, const struct node *n)
{
	struct peer p = {.scope = scope, .ip = n->ipv4.addr, .as = node_as(b, n)};

	p.port = node_port(b, n->meta.name);
	if (peer_settings(b, spec, &p) < 0)
		return;
	p.description = mem_strdup(n->meta.name);
	p.rr_client = b->self->rr_cluster_id.family == IP_V4 && !is_ebgp(b, &p) &&
		      !ip_equal(&n->rr_cluster_id, &b->self->rr_cluster_id);
	add_peer(b, p);
}

static void add_ip_peer(struct builder *b, const struct bgp_peer *spec, enum peer_scope scope)
{
	const char *name = spec->meta.name;
	const struct node *n = node_of_ip(b, &spec->ip);
	struct peer p = {.scope = scope, .ip = spec->ip, .as = spec->as, .port = spec->port};
	bool is_node;

	if (ip_equal(&spec->ip, &b->self->ipv4.addr))
		return;
	if (p.as == 0 && n)
		p.as = node_as(b, n);
	is_node = n && p.as == node_as(b, n);
	if (p.as == 0) {
		problems_add(b->problems, "BGPPeer", name,
			"spec.asNumber is missing, and %s is no node's address; left out",
			ip_str(&spec->ip));
		return;
	}
	if (!ip_is_global_unicast(&spec->ip)) {
		problems_add(b->problems, "BGPPeer", name,
			"spec.peerIP: %s is no router's address; left out", ip_str(&spec->ip));
		return;
	}
	if (p.port == 0)
		p.port = is_node ? node_port(b, n->meta.name) : node_port(b, "");
	if (peer_settings(b, spec, &p) < 0)
		return;
	p.description = mem_strdup(name);
	p.passive = scope == PEER_GLOBAL && is_node && is_passive_towards(b, &spec->ip);
	/*
	 * On our own network the next hop is a neighbour: then a default route from there may be
	 * what other next hops resolve by, which BIRD refuses for recursive ones. Nodes are reached
	 * by t_nodes.
	 */
	p.direct = is_ebgp(b, &p) && !n && !p.ttl && prefix_contains(&b->self->ipv4, &spec->ip);
	p.rr_client = b->self->rr_cluster_id.family == IP_V4 && !is_ebgp(b, &p) &&
		      (!n || !ip_equal(&n->rr_cluster_id, &b->self->rr_cluster_id));
	add_peer(b, p);
}

/* Which nodes one side of a BGPPeer means. */
struct side {
	const char *node;
	struct selector *selector; /* NULL: all */
	struct ip ip;
};

static bool side_has(const struct side *s, const struct node *n)
{
	if (s->ip.family != IP_NONE)
		return ip_equal(&s->ip, &n->ipv4.addr);
	if (s->node)
		return strcmp(s->node, n->meta.name) == 0;
	return !s->selector || selector_matches(s->selector, &n->meta.labels);
}

static void add_spec(struct builder *b, const struct bgp_peer *spec)
{
	auto_(selector) struct selector *local_sel = NULL;
	auto_(selector) struct selector *remote_sel = NULL;
	struct side local = {.node = spec->node}, remote = {.ip = spec->ip};
	enum peer_scope scope = spec->node || spec->node_selector ? PEER_NODE : PEER_GLOBAL;
	const char *name = spec->meta.name;
	struct err err = ERR_INIT;

	if (spec->local_workload_selector) {
		problems_add(b->problems, "BGPPeer", name,
			"spec.localWorkloadSelector: peers in pods are not supported; left out");
		return;
	}
	if ((spec->node_selector && selector_parse(spec->node_selector, &local_sel, &err) < 0) ||
		(spec->peer_selector &&
			selector_parse(spec->peer_selector, &remote_sel, &err) < 0)) {
		problems_add(b->problems, "BGPPeer", name, "%s: %s; left out",
			local_sel || !spec->node_selector ? "spec.peerSelector"
							  : "spec.nodeSelector",
			err_text(&err));
		return;
	}
	local.selector = local_sel;
	remote.selector = remote_sel;
	if (spec->ip.family == IP_V6) {
		if (side_has(&local, b->self))
			problems_add(b->problems, "BGPPeer", name,
				"spec.peerIP: %s: IPv6 peers are not supported; left out",
				ip_str(&spec->ip));
		return;
	}
	if (spec->ip.family == IP_NONE && !spec->peer_selector) {
		problems_add(b->problems, "BGPPeer", name,
			"wants one of spec.peerIP and spec.peerSelector; left out");
		return;
	}
	if (side_has(&local, b->self)) {
		if (spec->ip.family == IP_V4)
			add_ip_peer(b, spec, scope);
		for (size_t i = 0; spec->ip.family == IP_NONE && i < b->nodes.n; i++)
			if (side_has(&remote, b->nodes.v[i]))
				add_node_peer(b, spec, scope, b->nodes.v[i]);
	}
	/* What peers with us must find us doing the same. */
	for (size_t i = 0; !spec->reverse_manual && side_has(&remote, b->self) && i < b->nodes.n;
		i++)
		if (side_has(&local, b->nodes.v[i]))
			add_node_peer(b, spec, PEER_NODE, b->nodes.v[i]);
}

static void add_mesh(struct builder *b)
{
	bool mesh = !b->global || !b->global->mesh_set || b->global->mesh;
	int64_t restart_s = b->global ? (b->global->mesh_restart_ms + 500) / 1000 : 0;
	auto_free char *password = NULL;

	if (!mesh || b->self->rr_cluster_id.family != IP_NONE)
		return;
	if (b->global && b->global->mesh_secret &&
		take_password(b, "BGPConfiguration", b->global->meta.name, b->global->mesh_secret,
			b->global->mesh_secret_key, &password) < 0)
		return;
	if (restart_s < 0 || restart_s > RESTART_MAX_S) {
		problems_add(b->problems, "BGPConfiguration", b->global->meta.name,
			"nodeMeshMaxRestartTime: %lld s, want at most %d; %d s is used",
			(long long)restart_s, RESTART_MAX_S, RESTART_S);
		restart_s = 0;
	}
	for (size_t i = 0; i < b->nodes.n; i++) {
		const struct node *n = b->nodes.v[i];

		if (n->rr_cluster_id.family != IP_NONE)
			continue;
		add_peer(b, (struct peer){.scope = PEER_MESH,
				    .description = mem_strdup(n->meta.name),
				    .ip = n->ipv4.addr,
				    .port = node_port(b, n->meta.name),
				    .as = node_as(b, n),
				    .source = true,
				    .passive = is_passive_towards(b, &n->ipv4.addr),
				    .restart_s = restart_s});
	}
}

static int compare_specs(const void *a, const void *b)
{
	const struct bgp_peer *const *x = a, *const *y = b;
	bool x_node = (*x)->node || (*x)->node_selector, y_node = (*y)->node || (*y)->node_selector;

	return x_node != y_node ? x_node - y_node : strcmp((*x)->meta.name, (*y)->meta.name);
}

static void collect_peers(struct builder *b)
{
	VEC(const struct bgp_peer *) specs = {0};

	for (size_t i = 0; i < b->in->n_peers; i++)
		vec_push(&specs, b->in->peers[i]);
	if (specs.n > 0)
		qsort(specs.v, specs.n, sizeof(*specs.v), compare_specs);
	for (size_t i = 0; i < specs.n; i++)
		add_spec(b, specs.v[i]);
	vec_done(&specs);
	add_mesh(b);
}

static char *peer_name(const struct peer *p)
{
	static const char *const scopes[] = {
		[PEER_GLOBAL] = "Global", [PEER_NODE] = "Node", [PEER_MESH] = "Mesh"};
	char *name = p->port == PORT_DEFAULT ? mem_printf("%s_%s", scopes[p->scope], ip_str(&p->ip))
					     : mem_printf("%s_%s_port_%u", scopes[p->scope],
						       ip_str(&p->ip), p->port);

	for (char *s = name; *s; s++)
		if (*s == '.')
			*s = '_';
	return name;
}

/* ---- the view ---- */

/* Absent is false: then the section is skipped. */
static void set_number(json_t *o, const char *name, int64_t v)
{
	json_object_set_new(o, name, v > 0 ? json_integer(v) : json_false());
}

static void set_text(json_t *o, const char *name, const char *v)
{
	json_object_set_new(o, name, v && *v ? json_string(v) : json_false());
}

static json_t *peer_view(const struct builder *b, const struct peer *p)
{
	json_t *o = json_object();
	auto_free char *name = peer_name(p);
	int64_t keepalive_s = p->keepalive_s ? p->keepalive_s : HOLD_S / 3;
	uint16_t port = node_port(b, b->in->nodename);
	bool ebgp = is_ebgp(b, p);

	set_text(o, "name", name);
	set_text(o, "description", is_clean(p->description) ? p->description : NULL);
	set_text(o, "ip", ip_str(&p->ip));
	set_number(o, "port", p->port == PORT_DEFAULT ? 0 : p->port);
	set_number(o, "as", p->as);
	set_text(o, "local_ip", p->source ? ip_str(&b->self->ipv4.addr) : NULL);
	set_number(o, "local_port", port == PORT_DEFAULT ? 0 : port);
	set_number(o, "local_as", p->local_as ? p->local_as : b->as);
	json_object_set_new(o, "strict_bind", json_boolean(b->strict));
	json_object_set_new(o, "passive", json_boolean(p->passive));
	json_object_set_new(o, "direct", json_boolean(p->direct));
	set_number(o, "ttl", p->ttl);
	json_object_set_new(o, "multihop", json_boolean(ebgp && !p->direct && !p->ttl));
	set_number(o, "hold_s", 3 * keepalive_s);
	set_number(o, "keepalive_s", keepalive_s);
	set_number(o, "restart_s", p->restart_s ? p->restart_s : RESTART_S);
	set_number(o, "allowed_local_as", p->allowed_local_as);
	set_text(o, "password", p->password);
	set_text(o, "rr_cluster_id", p->rr_client ? ip_str(&b->self->rr_cluster_id) : NULL);
	json_object_set_new(o, "other_as", json_boolean(ebgp));
	json_object_set_new(o, "add_paths", json_boolean(!ebgp));
	json_object_set_new(o, "next_hop_self", json_boolean(p->next_hop == NEXT_HOP_SELF));
	json_object_set_new(o, "next_hop_keep", json_boolean(p->next_hop == NEXT_HOP_KEEP));
	return o;
}

static int compare_named(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;

	return strcmp(json_string_value(json_object_get(*x, "name")),
		json_string_value(json_object_get(*y, "name")));
}

/* One route is enough where several peers have the address. */
static void view_reach(struct builder *b, const struct peer *p, json_t *reach)
{
	struct entry *e;

	if (p->via.family != IP_V4)
		return;
	hmap_for_each_hash (e, &b->reached_by_ip, hash_ip(&p->ip), node)
		if (ip_equal(&b->peers.v[e->i].ip, &p->ip))
			return;
	index_add(&b->reached_by_ip, hash_ip(&p->ip), (size_t)(p - b->peers.v));
	json_array_append_new(
		reach, json_pack("{s:s, s:s}", "ip", ip_str(&p->ip), "via", ip_str(&p->via)));
}

static void view_peers(struct builder *b, json_t *view)
{
	VEC(json_t *) sorted = {0};
	json_t *peers = json_array(), *reach = json_array();

	for (size_t i = 0; i < b->peers.n; i++)
		vec_push(&sorted, peer_view(b, &b->peers.v[i]));
	if (sorted.n > 0)
		qsort(sorted.v, sorted.n, sizeof(*sorted.v), compare_named);
	for (size_t i = 0; i < sorted.n; i++)
		json_array_append_new(peers, sorted.v[i]);
	vec_done(&sorted);
	for (size_t i = 0; i < b->peers.n; i++)
		view_reach(b, &b->peers.v[i], reach);
	json_object_set_new(view, "peers", peers);
	json_object_set_new(view, "reach", reach);
}

static int compare_prefixes(const void *a, const void *b)
{
	return prefix_compare(a, b);
}

static void view_blocks(const struct builder *b, json_t *view)
{
	VEC(struct prefix) sorted = {0};
	json_t *blocks = json_array();

	/* A block of one address goes out by the route of its pod. */
	for (size_t i = 0; i < b->in->n_blocks; i++)
		if (b->in->blocks[i].addr.family == IP_V4 && !prefix_is_host(&b->in->blocks[i]))
			vec_push(&sorted, b->in->blocks[i]);
	if (sorted.n > 0)
		qsort(sorted.v, sorted.n, sizeof(*sorted.v), compare_prefixes);
	for (size_t i = 0; i < sorted.n; i++)
		json_array_append_new(blocks, json_string(prefix_str(&sorted.v[i])));
	vec_done(&sorted);
	json_object_set_new(view, "blocks", blocks);
}

static int compare_pools(const void *a, const void *b)
{
	const struct ippool *const *x = a, *const *y = b;

	return prefix_compare(&(*x)->cidr, &(*y)->cidr);
}

/*
 * Whether BIRD writes the routes of this pool to the kernel. Calico's programClusterRoutes parts them
 * between BIRD and Felix; here it is BIRD alone, whatever that says.
 */
static bool is_ours(const struct ippool *p)
{
	return p->vxlan == ENCAP_NEVER;
}

static bool is_on_our_network(const struct builder *b, const struct node *n)
{
	return prefix_contains(&b->self->ipv4, &n->ipv4.addr);
}

/*
 * One mode per next hop, the one that tunnels most: t_nodes has the nodes that are reached through
 * the tunnel. Where pools differ, the kernel's filter takes the tunnel away again for those next hops
 * that are neighbours. A node on another network is reached through the tunnel for a pool without
 * encapsulation, too, when another pool asks for it: what that network can route is not known here.
 */
static void view_pools(const struct builder *b, json_t *view)
{
	VEC(const struct ippool *) sorted = {0};
	json_t *refused = json_array(), *untunnelled = json_array(), *exported = json_array();
	json_t *withheld = json_array(), *tunnelled = json_array();
	enum encap_mode most = ENCAP_NEVER;

	for (size_t i = 0; i < b->in->n_pools; i++) {
		const struct ippool *p = b->in->pools[i];

		if (p->cidr.addr.family != IP_V4)
			continue;
		vec_push(&sorted, p);
		if (!is_ours(p))
			continue;
		if (p->ipip == ENCAP_ALWAYS)
			most = ENCAP_ALWAYS;
		else if (p->ipip == ENCAP_CROSS_SUBNET && most == ENCAP_NEVER)
			most = ENCAP_CROSS_SUBNET;
	}
	if (sorted.n > 0)
		qsort(sorted.v, sorted.n, sizeof(*sorted.v), compare_pools);
	for (size_t i = 0; i < sorted.n; i++) {
		const struct ippool *p = sorted.v[i];
		json_t *cidr = json_string(prefix_str(&p->cidr));

		json_array_append(p->disable_bgp_export ? withheld : exported, cidr);
		if (!is_ours(p))
			json_array_append(refused, cidr);
		else if (most == ENCAP_ALWAYS && p->ipip != ENCAP_ALWAYS)
			json_array_append(untunnelled, cidr);
		json_decref(cidr);
	}
	for (size_t i = 0; i < b->nodes.n; i++) {
		const struct node *n = b->nodes.v[i];

		if (most == ENCAP_ALWAYS ||
			(most == ENCAP_CROSS_SUBNET && !is_on_our_network(b, n)))
			json_array_append_new(tunnelled, json_string(ip_str(&n->ipv4.addr)));
	}
	vec_done(&sorted);
	json_object_set_new(view, "refused_pools", refused);
	json_object_set_new(view, "untunnelled_pools", untunnelled);
	json_object_set_new(view, "exported_pools", exported);
	json_object_set_new(view, "withheld_pools", withheld);
	json_object_set_new(view, "tunnelled_nodes", tunnelled);
}

static bool is_interface_pattern(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.*-");

	return n >= 1 && n <= 15 && !s[n] && strcmp(s, "*") != 0;
}

static void view_interfaces(struct builder *b, json_t *view)
{
	json_t *list = json_array();

	for (size_t i = 0; b->global && i < b->global->ignored_interfaces.v.n; i++) {
		const char *s = b->global->ignored_interfaces.v.v[i];

		if (is_interface_pattern(s))
			json_array_append_new(list, json_string(s));
		else
			problems_add(b->problems, "BGPConfiguration", b->global->meta.name,
				"ignoredInterfaces: \"%.40s\": want a pattern of 1 to 15 of "
				"[a-zA-Z0-9_.*-], and not all of them; left out",
				s);
	}
	json_object_set_new(view, "ignored_interfaces", list);
}

/* What is asked for and not done is said. */
static void look_for_unsupported(struct builder *b)
{
	const struct bgp_config *c = b->global;

	if (!c)
		return;
	if (c->service_cluster_ips.n + c->service_external_ips.n + c->service_lb_ips.n > 0)
		problems_add(b->problems, "BGPConfiguration", c->meta.name,
			"serviceClusterIPs, serviceExternalIPs and serviceLoadBalancerIPs are not "
			"supported: Services are not announced");
	if (c->advertisements.n > 0)
		problems_add(b->problems, "BGPConfiguration", c->meta.name,
			"prefixAdvertisements are not supported: no community is added");
}

/* As Calico derives it: below the addresses that are nobody's own. */
struct ip bgp_router_id_of_name(const char *nodename)
{
	uint8_t digest[SHA256_SIZE];
	struct ip id;

	sha256(nodename, strlen(nodename), digest);
	id = ip_from_bytes(AF_INET, digest);
	if (id.b[0] > 223)
		id.b[0] -= 32;
	return id;
}

int bgp_router_id_check(const char *value, struct err *err)
{
	static const uint8_t zero[4];
	struct ip id;

	if (!*value || strcmp(value, ROUTER_ID_HASH) == 0)
		return 0;
	if (ip_parse(value, &id, NULL) == 0 && id.family == IP_V4 &&
		memcmp(id.b, zero, sizeof(zero)) != 0)
		return 0;
	return err_set(err, -EINVAL,
		"\"%.60s\": want an IPv4 address other than 0.0.0.0, or \"" ROUTER_ID_HASH "\"",
		value);
}

static int view_router_id(const struct builder *b, json_t *view, struct err *err)
{
	const char *wanted = b->in->router_id ? b->in->router_id : "";
	struct ip id = b->self->ipv4.addr;
	int r = bgp_router_id_check(wanted, err);

	if (r < 0)
		return err_wrap(err, r, "CALICO_ROUTER_ID");
	/* Without an address, too: a number that stays, and that hardly another node has. */
	if (strcmp(wanted, ROUTER_ID_HASH) == 0 || (!*wanted && id.family != IP_V4))
		id = bgp_router_id_of_name(b->in->nodename);
	else if (*wanted)
		ip_parse(wanted, &id, NULL);
	set_text(view, "router_id", ip_str(&id));
	return 0;
}

static bool wants_debug(const struct builder *b)
{
	const struct bgp_config *c = b->own && b->own->log_severity ? b->own : b->global;

	return c && c->log_severity && strcasecmp(c->log_severity, "debug") == 0;
}

int bgp_view(
	const struct bgp_view_input *in, json_t **ret, struct problems *problems, struct err *err)
{
	struct builder b = {.in = in, .problems = problems};
	auto_free char *own = mem_printf("node.%s", in->nodename);
	struct prefix subnet;
	json_t *view;
	int r;

	for (size_t i = 0; i < in->n_nodes; i++)
		if (strcmp(in->nodes[i]->meta.name, in->nodename) == 0)
			b.self = in->nodes[i];
	if (!b.self)
		return err_set(err, -ENOENT,
			"node %s is not in the datastore yet: margay-felix enters it; is it running, "
			"with the same NODENAME?",
			in->nodename);
	for (size_t i = 0; i < in->n_configs; i++)
		index_add(&b.configs_by_name, hash_str(in->configs[i]->meta.name), i);
	b.global = find_config(&b, "default");
	b.own = find_config(&b, own);
	b.as = node_as(&b, b.self);
	b.strict = b.global && b.global->bind_node_ip;
	view = json_object();
	r = view_router_id(&b, view, err);
	if (r < 0) {
		json_decref(view);
		index_done(&b.configs_by_name);
		return r;
	}
	if (b.self->ipv4.addr.family == IP_V4) {
		collect_nodes(&b);
		collect_peers(&b);
	}
	json_object_set_new(view, "generation", json_integer(0));
	set_text(view, "generation_name", BGP_VIEW_GENERATION);
	set_text(view, "kernel_name", BGP_VIEW_KERNEL);
	json_object_set_new(view, "debug", json_boolean(wants_debug(&b)));
	/* Before 2.14 a session's first routes wait in poll() until the next timer. */
	json_object_set_new(view, "device_scan_s",
		json_integer(bird_version_compare(&in->bird, 2, 14) < 0 ? 1 : 10));
	/* While a next hop is onlink, BIRD 2 looks for a new gateway on its interface alone; 3 has no
	 * such flag in filters before 3.2, and does not ask for it after. */
	json_object_set_new(view, "bird2", json_boolean(in->bird.major < 3));
	json_object_set_new(view, "felix_protocol", json_integer(in->felix_protocol));
	json_object_set_new(view, "restart_s", json_integer(RESTART_S));
	subnet = prefix_masked(&b.self->ipv4);
	set_text(view, "subnet",
		b.self->ipv4.addr.family == IP_V4 && !prefix_is_host(&subnet) ? prefix_str(&subnet)
									      : NULL);
	look_for_unsupported(&b);
	view_interfaces(&b, view);
	view_pools(&b, view);
	view_blocks(&b, view);
	view_peers(&b, view);

	for (size_t i = 0; i < b.peers.n; i++)
		peer_done(&b.peers.v[i]);
	vec_done(&b.peers);
	vec_done(&b.nodes);
	index_done(&b.configs_by_name);
	index_done(&b.nodes_by_ip);
	index_done(&b.peers_by_ip);
	index_done(&b.reached_by_ip);
	*ret = view;
	return 0;
}
