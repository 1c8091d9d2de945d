/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/dns_view.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/endpoints.h"
#include "model/service.h"
#include "tmpl/tmpl.h"

#define LABEL_MAX 63
#define NAME_MAX_LEN 253   /* without the dot at the end; RFC 1035, 2.3.4 */
#define DOMAIN_MAX_LEN 241 /* "dns-version." stands before it */
#define NS_FORMAT "ns.dns.%s."

struct zone {
	char *name;
	struct prefix range; /* of a reverse zone */
	VEC(char *) records; /* lines of the table: NAME, TYPE and DATA with tabs between them */
};

struct builder {
	const struct dns_view_input *in;
	struct problems *problems;
	VEC(struct zone) zones; /* the forward one first */
	struct ip dns;		/* of the cluster's DNS server */
	bool is_kube_dns;
};

static bool is_label(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= LABEL_MAX && !s[n] && s[0] != '-' && s[n - 1] != '-';
}

/* Labels with dots between them. */
static bool is_domain(const char *s)
{
	auto_free char *copy = mem_strdup(s);
	char *rest = copy, *label;

	if (!*s || strlen(s) > NAME_MAX_LEN)
		return false;
	while ((label = strsep(&rest, ".")) != NULL)
		if (!is_label(label))
			return false;
	return true;
}

int dns_domain_check(const char *s, struct err *err)
{
	if (is_domain(s) && strlen(s) <= DOMAIN_MAX_LEN)
		return 0;
	return err_set(err, -EINVAL,
		"\"%.80s\": want a domain of lower-case letters, digits and '-', of at most %d "
		"characters, without a dot at the end",
		s, DOMAIN_MAX_LEN);
}

/* ---- records ---- */

static void add(struct zone *z, const char *name, const char *type, const char *data)
{
	vec_push(&z->records, mem_printf("%s\t%s\t%s", name, type, data));
}

static void add_address(struct builder *b, const char *name, const struct ip *ip)
{
	add(&b->zones.v[0], name, ip->family == IP_V4 ? "A" : "AAAA", ip_str(ip));
}

/* "1.0.96.10.in-addr.arpa." of the first n_units octets, or nibbles for IPv6. */
static char *reverse_name(const struct ip *ip, unsigned n_units)
{
	auto_strbuf s = STRBUF_INIT;

	for (unsigned i = n_units; i-- > 0;) {
		if (ip->family == IP_V4)
			strbuf_addf(&s, "%u.", ip->b[i]);
		else
			strbuf_addf(&s, "%x.", i % 2 ? ip->b[i / 2] & 0xf : ip->b[i / 2] >> 4);
	}
	strbuf_add(&s, ip->family == IP_V4 ? "in-addr.arpa." : "ip6.arpa.");
	return strbuf_take(&s);
}

static unsigned unit_bits(const struct ip *ip)
{
	return ip->family == IP_V4 ? 8 : 4;
}

static void add_ptr(struct builder *b, const struct ip *ip, const char *target)
{
	auto_free char *name = reverse_name(ip, ip_bits(ip) / unit_bits(ip));

	for (size_t i = 1; i < b->zones.n; i++)
		if (prefix_contains(&b->zones.v[i].range, ip)) {
			add(&b->zones.v[i], name, "PTR", target);
			return;
		}
}

/* Of a name with the dot at its end: a server refuses the whole zone for one that is too long. */
static bool fits(const char *name)
{
	return strlen(name) <= NAME_MAX_LEN + 1;
}

/* NULL: there is none. */
static char *srv_name(const struct service_port *port, const char *service)
{
	const char *proto = port->protocol == IPPROTO_TCP   ? "tcp"
			    : port->protocol == IPPROTO_UDP ? "udp"
							    : "sctp";

	/* With its "_" a name of 63 is no label any more, for which a server refuses the whole zone. */
	if (!port->name[0] || strlen(port->name) >= LABEL_MAX)
		return NULL;
	return mem_printf("_%s._%s.%s", port->name, proto, service);
}

static void add_srv(struct builder *b, const struct service_port *port, const char *service,
	uint16_t number, const char *target)
{
	auto_free char *name = srv_name(port, service), *data = NULL;

	if (!name || !fits(name) || number == 0)
		return;
	data = mem_printf("0 100 %u %s", number, target);
	add(&b->zones.v[0], name, "SRV", data);
}

/* ---- services ---- */

#define problem(b, s, ...)                                                                         \
	do {                                                                                       \
		auto_free char *object_ = mem_printf("%s/%s", (s)->meta.ns ?: "", (s)->meta.name); \
		problems_add((b)->problems, "Service", object_, __VA_ARGS__);                      \
	} while (0)

static void add_cluster_ip(struct builder *b, const struct service *s, const char *name)
{
	for (size_t i = 0; i < s->cluster_ips.n; i++) {
		add_address(b, name, &s->cluster_ips.v[i]);
		add_ptr(b, &s->cluster_ips.v[i], name);
	}
	for (size_t i = 0; s->cluster_ips.n > 0 && i < s->ports.n; i++)
		add_srv(b, &s->ports.v[i], name, s->ports.v[i].port, name);
}

/* "10-244-0-137", where nobody has given a name. */
static char *made_hostname(const struct ip *ip)
{
	char *s = mem_strdup(ip_str(ip));

	for (char *at = s; *at; at++)
		if (*at == '.' || *at == ':')
			*at = '-';
	/* A label does not begin or end with "-". */
	if (s[0] == '-' || (*s && s[strlen(s) - 1] == '-')) {
		char *longer = mem_printf("ip%s0", s);

		free(s);
		s = longer;
	}
	return s;
}

static char *host_name(const struct service_endpoint *e, const char *name)
{
	auto_free char *made = made_hostname(&e->ip);

	return mem_printf("%s.%s", e->hostname && is_label(e->hostname) ? e->hostname : made, name);
}

static void add_host(
	struct builder *b, const struct service *s, const struct ip *ip, const char *host)
{
	if (fits(host)) {
		add_address(b, host, ip);
		add_ptr(b, ip, host);
	} else {
		problem(b, s,
			"the name of the host %s would have %zu characters: want at most %d; it has "
			"none in DNS",
			ip_str(ip), strlen(host) - 1, NAME_MAX_LEN);
	}
}

/* Addresses of all endpoints, whatever the ports: there may be none. */
static void add_headless(struct builder *b, const struct service *s, const char *name)
{
	struct service_endpoints se = {0};

	endpoints_of_port(b->in->endpoints, s, NULL, &se);
	for (size_t k = 0; k < se.v.n; k++) {
		auto_free char *host = host_name(&se.v.v[k], name);

		if (!se.v.v[k].ready)
			continue;
		add_address(b, name, &se.v.v[k].ip);
		add_host(b, s, &se.v.v[k].ip, host);
	}
	for (size_t i = 0; i < s->ports.n; i++) {
		endpoints_of_port(b->in->endpoints, s, &s->ports.v[i], &se);
		for (size_t k = 0; k < se.v.n; k++) {
			auto_free char *host = host_name(&se.v.v[k], name);

			if (se.v.v[k].ready && fits(host))
				add_srv(b, &s->ports.v[i], name, se.v.v[k].port, host);
		}
	}
	service_endpoints_done(&se);
}

/* Whether it can be named; says why not. */
static bool check_service(struct builder *b, const struct service *s)
{
	if (!s->meta.ns || !is_label(s->meta.ns) || !is_label(s->meta.name)) {
		problem(b, s,
			"namespace and name are to be DNS labels: at most %d of [a-z0-9-]; it has no "
			"name in DNS",
			LABEL_MAX);
		return false;
	}
	for (size_t i = 0; i < s->ports.n; i++) {
		const char *name = s->ports.v[i].name;

		if (name[0] && !is_label(name)) {
			problem(b, s, "port name \"%.80s\" is no DNS label; it has no name in DNS",
				name);
			return false;
		}
		if (strlen(name) >= LABEL_MAX)
			problem(b, s,
				"port name \"%s\" is none with \"_\" before it: want at most %d "
				"characters; it has no SRV record",
				name, LABEL_MAX - 1);
	}
	if (s->type == SERVICE_EXTERNAL_NAME &&
		(!s->external_name || !is_domain(s->external_name))) {
		problem(b, s, "externalName \"%.80s\": want a domain; it has no name in DNS",
			s->external_name ? s->external_name : "");
		return false;
	}
	return true;
}

/* Labels that are good may be too long together. */
static bool check_lengths(struct builder *b, const struct service *s, const char *name)
{
	if (!fits(name)) {
		problem(b, s,
			"its name would have %zu characters: want at most %d; it has none in DNS",
			strlen(name) - 1, NAME_MAX_LEN);
		return false;
	}
	for (size_t i = 0; i < s->ports.n; i++) {
		auto_free char *srv = srv_name(&s->ports.v[i], name);

		if (srv && !fits(srv))
			problem(b, s,
				"port name \"%s\": its name would have %zu characters: want at most "
				"%d; it has no SRV record",
				s->ports.v[i].name, strlen(srv) - 1, NAME_MAX_LEN);
	}
	return true;
}

/* The DNS server of the cluster, for the zones' NS: kube-dns, else the first that serves port 53. */
static void look_for_dns(struct builder *b, const struct service *s)
{
	bool is_kube_dns =
		strcmp(s->meta.name, "kube-dns") == 0 && strcmp(s->meta.ns, "kube-system") == 0;
	bool serves = is_kube_dns;

	for (size_t i = 0; i < s->ports.n; i++)
		serves |= s->ports.v[i].port == 53 && s->ports.v[i].protocol == IPPROTO_UDP;
	if (!serves || s->cluster_ips.n == 0 || b->is_kube_dns)
		return;
	if (is_kube_dns || b->dns.family == IP_NONE ||
		ip_compare(&s->cluster_ips.v[0], &b->dns) < 0)
		b->dns = s->cluster_ips.v[0];
	b->is_kube_dns = is_kube_dns;
}

static void add_service(void *arg, const struct service *s)
{
	struct builder *b = arg;
	auto_free char *name = NULL, *target = NULL;

	if (!check_service(b, s))
		return;
	look_for_dns(b, s);
	name = mem_printf("%s.%s.svc.%s.", s->meta.name, s->meta.ns, b->in->domain);
	if (!check_lengths(b, s, name))
		return;
	if (s->type == SERVICE_EXTERNAL_NAME) {
		target = mem_printf("%s.", s->external_name);
		add(&b->zones.v[0], name, "CNAME", target);
	} else if (s->headless) {
		add_headless(b, s, name);
	} else {
		add_cluster_ip(b, s, name);
	}
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same_port(const struct service_port *a, const struct service_port *b)
{
	return strcmp(a->name, b->name) == 0 && a->protocol == b->protocol && a->port == b->port &&
	       a->target_port == b->target_port && is_same_text(a->target_name, b->target_name);
}

bool dns_view_is_same(const struct service *a, const struct service *b)
{
	if (!a || !b || a->type != b->type || a->headless != b->headless ||
		a->publish_not_ready != b->publish_not_ready ||
		a->cluster_ips.n != b->cluster_ips.n || a->ports.n != b->ports.n ||
		a->selector.v.n != b->selector.v.n || !labels_cover(&a->selector, &b->selector) ||
		!is_same_text(a->external_name, b->external_name))
		return false;
	for (size_t i = 0; i < a->cluster_ips.n; i++)
		if (ip_compare(&a->cluster_ips.v[i], &b->cluster_ips.v[i]) != 0)
			return false;
	for (size_t i = 0; i < a->ports.n; i++)
		if (!is_same_port(&a->ports.v[i], &b->ports.v[i]))
			return false;
	return true;
}

/* ---- zones ---- */

/* A range is cut at the dots: 10.96.0.0/12 is sixteen zones, 10.244.3.0/26 lies in one of /24. */
static void add_reverse(struct builder *b, const struct prefix *range)
{
	unsigned unit = unit_bits(&range->addr), bits = ip_bits(&range->addr);
	unsigned plen = (range->plen + unit - 1) / unit * unit, n;
	struct prefix p;

	if (plen == 0)
		return;
	if (plen == bits)
		plen -= unit;
	n = plen > range->plen ? 1U << (plen - range->plen) : 1;
	p = prefix_of(&range->addr, plen);
	for (unsigned i = 0; i < n; i++) {
		bool known = false;
		struct ip last = prefix_last(&p), next;

		for (size_t k = 1; k < b->zones.n; k++)
			known |= prefix_covers(&b->zones.v[k].range, &p);
		if (!known)
			vec_push(
				&b->zones, (struct zone){.name = reverse_name(&p.addr, plen / unit),
						   .range = p});
		if (!ip_add(&last, 1, &next))
			break;
		p = prefix_of(&next, plen);
	}
}

static int compare_ranges(const void *a, const void *b)
{
	const struct prefix *x = a, *y = b;

	return x->plen != y->plen ? (int)x->plen - (int)y->plen : prefix_compare(x, y);
}

static void add_zones(struct builder *b)
{
	VEC(struct prefix) ranges = {0};

	vec_push(&b->zones, (struct zone){.name = mem_printf("%s.", b->in->domain)});
	for (size_t i = 0; i < b->in->n_reverse; i++)
		vec_push(&ranges, b->in->reverse[i]);
	if (ranges.n > 0)
		qsort(ranges.v, ranges.n, sizeof(*ranges.v), compare_ranges);
	for (size_t i = 0; i < ranges.n; i++)
		add_reverse(b, &ranges.v[i]);
	vec_done(&ranges);
}

/* By name, type and data: a tab is less than all that may stand in them. */
static int compare_records(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static json_t *zone_view(const struct builder *b, struct zone *z, bool forward)
{
	auto_strbuf records = STRBUF_INIT;
	auto_free char *ns = b->dns.family != IP_NONE ? mem_printf(NS_FORMAT, b->in->domain)
						      : mem_strdup("localhost.");

	if (z->records.n > 0)
		qsort(z->records.v, z->records.n, sizeof(*z->records.v), compare_records);
	strbuf_add(&records, "name\ttype\tdata\n");
	for (size_t i = 0; i < z->records.n; i++)
		if (i == 0 || strcmp(z->records.v[i], z->records.v[i - 1]) != 0)
			strbuf_addf(&records, "%s\n", z->records.v[i]);
	return json_pack("{s:s, s:b, s:s, s:{s:s}}", "name", z->name, "forward", forward, "ns", ns,
		"records", TMPL_TABLE, strbuf_str(&records));
}

json_t *dns_view(const struct dns_view_input *in, struct problems *problems)
{
	struct builder b = {.in = in, .problems = problems};
	json_t *zones = json_array();

	add_zones(&b);
	endpoints_for_each_service(in->endpoints, add_service, &b);
	if (b.dns.family != IP_NONE) {
		auto_free char *ns = mem_printf(NS_FORMAT, in->domain);

		add_address(&b, ns, &b.dns);
	}
	for (size_t i = 0; i < b.zones.n; i++) {
		struct zone *z = &b.zones.v[i];

		json_array_append_new(zones, zone_view(&b, z, i == 0));
		for (size_t k = 0; k < z->records.n; k++)
			free(z->records.v[k]);
		vec_done(&z->records);
		free(z->name);
	}
	vec_done(&b.zones);
	return json_pack("{s:s, s:o}", "domain", in->domain, "zones", zones);
}
