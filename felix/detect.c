/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/detect.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/vec.h"
#include "felix/dp/ifaces.h"
#include "felix/pattern.h"
#include "kern/rt.h"

/* Interfaces that never have the node's address, as Calico has them. */
#define EXCLUDED                                                                    \
	"^(docker.*|cbr.*|dummy.*|podman.*|virbr.*|lxcbr.*|veth.*|lo|br-.*|cali.*|" \
	"tunl.*|flannel.*|kube-ipvs.*|cni.*|vxlan\\.calico|vxlan-v6\\.calico|"      \
	"wireguard\\.cali|wg-v6\\.cali|nodelocaldns.*)$"

struct host {
	VEC(struct rt_link) links;
	VEC(struct rt_addr) addrs;
};

static void add_link(void *arg, const struct rt_link *l)
{
	vec_push(&((struct host *)arg)->links, *l);
}

static void add_addr(void *arg, const struct rt_addr *a)
{
	vec_push(&((struct host *)arg)->addrs, *a);
}

static void forget_links(void *arg)
{
	((struct host *)arg)->links.n = 0;
}

static void forget_addrs(void *arg)
{
	((struct host *)arg)->addrs.n = 0;
}

static int by_index_down(const void *a, const void *b)
{
	const struct rt_link *x = a, *y = b;

	return (x->index < y->index) - (x->index > y->index);
}

static int read_host(struct rt *rt, struct host *h, struct err *err)
{
	int r = rt_link_dump(rt, add_link, forget_links, h, err);

	if (r == 0)
		r = rt_addr_dump(rt, IP_NONE, 0, add_addr, forget_addrs, h, err);
	if (h->links.n > 0)
		qsort(h->links.v, h->links.n, sizeof(h->links.v[0]), by_index_down);
	return r;
}

static void host_done(struct host *h)
{
	vec_done(&h->links);
	vec_done(&h->addrs);
}

/* "a,b" as one expression that matches what a or b matches. */
static int compile(const char *list, regex_t *ret, struct err *err)
{
	auto_free char *text = mem_printf("%s", list);
	char within = '\0';

	/* Not the comma of a bound, h{1,2}, or of a set, [,]. */
	for (char *p = text; *p; p++) {
		if (*p == ',' && !within)
			*p = '|';
		else if (!within && (*p == '{' || *p == '['))
			within = *p == '{' ? '}' : ']';
		else if (*p == within)
			within = '\0';
	}
	return pattern_compile(text, ret, err);
}

/* The first address, in Calico's order, on an interface that passes. NULL = no such filter. */
static bool first(const struct host *h, enum ip_family family, const regex_t *only,
	const regex_t *skip, const struct prefix *cidrs, size_t n_cidrs, struct prefix *ret)
{
	const struct rt_link *l;
	const struct rt_addr *a;

	vec_for_each (&h->links, l) {
		if ((only && !pattern_matches(only, l->name)) ||
			(skip && pattern_matches(skip, l->name)))
			continue;
		vec_for_each (&h->addrs, a) {
			bool in = n_cidrs == 0;

			for (size_t i = 0; i < n_cidrs; i++)
				in |= prefix_contains(&cidrs[i], &a->prefix.addr);
			if (a->index == l->index && a->prefix.addr.family == family && in &&
				ip_is_global_unicast(&a->prefix.addr)) {
				*ret = a->prefix;
				return true;
			}
		}
	}
	return false;
}

static bool with_length(const struct host *h, const struct ip *ip, struct prefix *ret)
{
	const struct rt_addr *a;

	vec_for_each (&h->addrs, a)
		if (ip_equal(&a->prefix.addr, ip)) {
			*ret = a->prefix;
			return true;
		}
	return false;
}

static int can_reach(struct rt *rt, const struct host *h, const char *where, enum ip_family family,
	struct prefix *ret, struct err *err)
{
	struct rt_route route;
	struct ip dst;
	int r = ip_parse(where, &dst, err);

	if (r == 0 && dst.family != family)
		r = err_set(err, -ENOENT, "%s is no address of IPv%d", where, family);
	if (r == 0)
		r = rt_route_lookup(rt, &dst, &route, err);
	if (r < 0)
		return r;
	if (route.src.family == IP_NONE || !with_length(h, &route.src, ret))
		return err_set(err, -ENOENT, "no local address is used to reach %s", where);
	return 0;
}

static int parse_cidrs(const char *list, struct prefix *ret, size_t max, size_t *n, struct err *err)
{
	auto_free char *copy = mem_strdup(list);
	char *save = NULL;
	int r;

	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
		if (*n == max)
			return err_set(err, -EINVAL, "more than %zu networks", max);
		r = prefix_parse(s, &ret[*n], err);
		if (r < 0)
			return r;
		ret[*n] = prefix_masked(&ret[*n]);
		(*n)++;
	}
	return *n ? 0 : err_set(err, -EINVAL, "no network is named");
}

static const char *argument(const char *method, const char *name)
{
	size_t n = strlen(name);

	return strncmp(method, name, n) == 0 && method[n] == '=' ? method + n + 1 : NULL;
}

static int detect(struct rt *rt, const struct host *h, const char *method, enum ip_family family,
	struct prefix *ret, struct err *err)
{
	struct prefix cidrs[32];
	size_t n = 0;
	const char *a;
	regex_t re;
	bool found;
	int r;

	if ((a = argument(method, "can-reach")))
		return can_reach(rt, h, a, family, ret, err);
	if ((a = argument(method, "cidr"))) {
		r = parse_cidrs(a, cidrs, array_size(cidrs), &n, err);
		if (r < 0)
			return r;
		found = first(h, family, NULL, NULL, cidrs, n, ret);
	} else if ((a = argument(method, "interface"))) {
		r = compile(a, &re, err);
		if (r < 0)
			return r;
		found = first(h, family, &re, NULL, NULL, 0, ret);
		regfree(&re);
	} else {
		a = argument(method, "skip-interface");
		if (!a && method[0] && strcmp(method, "first-found") != 0)
			return err_set(err, -EINVAL,
				"\"%.60s\": want first-found, interface=, skip-interface=, cidr=, "
				"can-reach= or kubernetes-internal-ip",
				method);
		auto_free char *all = mem_printf(a ? "%s|%s" : "%s", EXCLUDED, a);

		r = compile(all, &re, err);
		if (r < 0)
			return r;
		found = first(h, family, NULL, &re, NULL, 0, ret);
		regfree(&re);
	}
	return found ? 0
		     : err_set(err, -ENOENT,
			       "no IPv%d address of this host fits (ip -%d addr shows them)",
			       family, family);
}

const char *detect_name(const char *method)
{
	const char *name = argument(method, "can-reach");
	struct ip ip;

	return name && ip_parse(name, &ip, NULL) < 0 ? name : NULL;
}

int detect_address(struct rt *rt, const char *method, enum ip_family family, struct prefix *ret,
	struct err *err)
{
	struct host h = {0};
	int r = read_host(rt, &h, err);

	if (r == 0)
		r = detect(rt, &h, method, family, ret, err);
	host_done(&h);
	return r < 0 ? err_wrap(err, r, "IP%s_AUTODETECTION_METHOD %s", family == IP_V6 ? "6" : "",
			       method)
		     : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct rt_link *)a)->name, ((const struct rt_link *)b)->name);
}

static json_t *interface_of(const struct host *h, const struct rt_link *l)
{
	json_t *addresses = json_array();
	const struct rt_addr *a;

	vec_for_each (&h->addrs, a)
		if (a->index == l->index && ip_is_global_unicast(&a->prefix.addr))
			json_array_append_new(addresses, json_string(ip_str(&a->prefix.addr)));
	if (json_array_size(addresses) == 0) {
		json_decref(addresses);
		return NULL;
	}
	return json_pack("{s:s, s:o}", "name", l->name, "addresses", addresses);
}

int detect_interfaces(struct rt *rt, const char *own, json_t **ret, struct err *err)
{
	json_t *list = json_array(), *e;
	struct host h = {0};
	struct rt_link *l;
	regex_t skip;
	int r = read_host(rt, &h, err);

	if (r == 0)
		r = compile(EXCLUDED, &skip, err);
	if (r == 0) {
		if (h.links.n > 0)
			qsort(h.links.v, h.links.n, sizeof(h.links.v[0]), by_name);
		vec_for_each (&h.links, l) {
			if (pattern_matches(&skip, l->name) ||
				strncmp(l->name, own, strlen(own)) == 0)
				continue;
			e = interface_of(&h, l);
			if (e)
				json_array_append_new(list, e);
		}
		regfree(&skip);
		*ret = list;
		list = NULL;
	}
	json_decref(list);
	host_done(&h);
	return r;
}

int detect_check(const char *method, struct err *err)
{
	struct host none = {0};
	struct prefix p;
	bool known = argument(method, "can-reach") || strcmp(method, DETECT_INTERNAL_IP) == 0;
	int r = known ? 0 : detect(NULL, &none, method, IP_V4, &p, err);

	return r == -ENOENT ? 0 : r;
}

int detect_given(struct rt *rt, const char *text, struct prefix *ret, struct err *err)
{
	struct host h = {0};
	struct ip ip;
	int r;

	if (strchr(text, '/'))
		return prefix_parse(text, ret, err);
	r = ip_parse(text, &ip, err);
	if (r < 0)
		return r;
	r = read_host(rt, &h, err);
	if (r == 0 && !with_length(&h, &ip, ret))
		*ret = prefix_host(&ip);
	host_done(&h);
	return r;
}

struct mtu_search {
	const regex_t *host_links;
	uint32_t mtu;
};

static void consider(void *arg, const struct rt_link *l)
{
	struct mtu_search *s = arg;

	if ((l->flags & IFF_UP) && pattern_matches(s->host_links, l->name) &&
		(s->mtu == 0 || l->mtu < s->mtu))
		s->mtu = l->mtu;
}

uint32_t detect_host_mtu(const struct ifaces *is, const regex_t *host_links)
{
	struct mtu_search s = {.host_links = host_links};

	ifaces_for_each(is, consider, &s);
	return s.mtu;
}
