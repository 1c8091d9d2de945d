/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "felix"
#include "felix/address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "felix/detect.h"
#include "felix/lookup.h"
#include "model/node.h"
#include "net/prefix.h"

struct family {
	struct address *of;
	enum ip_family family;
	const struct address_conf *conf;
	char *method; /* conf->method without a host's name; NULL = not found yet */
	struct lookup *lookup;
	struct err failed; /* of the last look-up, until it was told */
};

struct address {
	struct event_base *base;
	struct rt *rt;
	const char *own;
	address_changed_fn *changed;
	void *arg;
	struct family families[START_N_FAMILIES];
};

struct address *address_new(struct event_base *base, struct rt *rt, const struct address_conf *conf,
	const char *own, address_changed_fn *changed, void *arg)
{
	struct address *a = mem_new(struct address);

	a->base = base;
	a->rt = rt;
	a->own = own;
	a->changed = changed;
	a->arg = arg;
	for (int f = 0; f < START_N_FAMILIES; f++)
		a->families[f] = (struct family){.of = a,
			.family = f == START_V4 ? IP_V4 : IP_V6,
			.conf = &conf[f],
			.method = detect_name(conf[f].method) ? NULL : mem_strdup(conf[f].method)};
	return a;
}

void address_free(struct address *a)
{
	if (!a)
		return;
	for (int f = 0; f < START_N_FAMILIES; f++) {
		lookup_free(a->families[f].lookup);
		free(a->families[f].method);
	}
	free(a);
}

static bool is_none(const struct address_conf *c)
{
	return c->ip[0] == '\0' || strcasecmp(c->ip, "none") == 0;
}

static void on_looked_up(void *arg, const struct ip *ip, const struct err *err)
{
	struct family *f = arg;

	if (ip)
		f->method = mem_printf("can-reach=%s", ip_str(ip));
	else
		f->failed = *err;
	lookup_free(take_ptr(f->lookup));
	f->of->changed(f->of->arg);
}

/* The node is there only when its kubelet has made it, and changes when its kubelet says so. */
static int internal_ip(
	const struct family *f, const struct node *self, struct prefix *ret, struct err *err)
{
	const struct node_address *e;
	struct ip ip;

	for (size_t i = 0; self && i < self->addresses.n; i++) {
		e = &self->addresses.v[i];
		if (e->type && strcmp(e->type, "InternalIP") == 0 &&
			ip_parse(e->address, &ip, NULL) == 0 && ip.family == f->family)
			return detect_given(f->of->rt, e->address, ret, err);
	}
	return err_set(err, -ENOENT,
		"IP%s_AUTODETECTION_METHOD " DETECT_INTERNAL_IP
		": Kubernetes has given the node no IPv%d InternalIP",
		f->family == IP_V6 ? "6" : "", f->family);
}

/* A name is looked up until it was found once. EINPROGRESS: on_looked_up goes on. */
static int detect(struct family *f, const struct node *self, struct prefix *ret, struct err *err)
{
	if (strcmp(f->conf->method, DETECT_INTERNAL_IP) == 0)
		return internal_ip(f, self, ret, err);
	if (f->method)
		return detect_address(f->of->rt, f->method, f->family, ret, err);
	if (f->failed.code) {
		*err = f->failed;
		return err_wrap(
			err, err->code, "IP%s_AUTODETECTION_METHOD", f->family == IP_V6 ? "6" : "");
	}
	if (!f->lookup)
		f->lookup = lookup_start(
			f->of->base, detect_name(f->conf->method), f->family, on_looked_up, f);
	return -EINPROGRESS;
}

/* An empty IP is detected until one is stored; an empty IP6 stays as it is. */
static int find(struct family *f, const struct node *self, struct prefix *ret, struct err *err)
{
	const struct prefix *stored = !self ? NULL : f->family == IP_V4 ? &self->ipv4 : &self->ipv6;
	bool has = stored && stored->addr.family != IP_NONE;
	const char *ip = f->conf->ip;
	int r = 0;

	if (strcasecmp(ip, "autodetect") == 0 || (ip[0] == '\0' && f->family == IP_V4 && !has))
		r = detect(f, self, ret, err);
	else if (!is_none(f->conf))
		r = detect_given(f->of->rt, ip, ret, err);
	if (r < 0 && r != -EINPROGRESS && has)
		log_warn("%s; the address that is stored stays", err_text(err));
	return r;
}

bool address_find(struct address *a, const struct node *self, struct start_host *ret)
{
	bool named = false, all = true;
	struct err err = ERR_INIT;

	for (int f = 0; f < START_N_FAMILIES; f++) {
		int r = find(&a->families[f], self, &ret->address[f], &err);

		all &= r != -EINPROGRESS;
		if (r < 0 && r != -EINPROGRESS)
			ret->why[f] = mem_strdup(err_text(&err));
		named |= !is_none(a->families[f].conf);
	}
	if (!all) { /* one family's answer is kept until the other has its own */
		start_host_done(ret);
		return false;
	}
	for (int f = 0; f < START_N_FAMILIES; f++)
		a->families[f].failed = ERR_INIT;
	if (named && detect_interfaces(a->rt, a->own, &ret->interfaces, &err) < 0)
		log_warn("the host's interfaces are not told: %s", err_text(&err));
	return true;
}

bool address_is_wanted(const struct address *a, const struct ip *ip)
{
	return ip->family == IP_V4 || !is_none(a->families[START_V4].conf) ||
	       !is_none(a->families[START_V6].conf);
}
