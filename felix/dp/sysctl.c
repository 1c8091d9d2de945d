/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "felix/dp/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/vec.h"
#include "felix/calc/calc.h"
#include "felix/dp/ifaces.h"
#include "kern/rt.h"

struct sysctl {
	struct rt *rt;
	const char *root, *pod_prefix;
	bool unknown, ipv6;
	VEC(uint32_t) fresh; /* pods' interfaces to configure, by index */
	struct err failure;  /* of the first of them */
};

static void on_link(void *arg, const struct rt_link *old, const struct rt_link *now)
{
	struct sysctl *s = arg;

	if (now && (!old || strcmp(old->name, now->name) != 0) &&
		strncmp(now->name, s->pod_prefix, strlen(s->pod_prefix)) == 0)
		vec_push(&s->fresh, now->index);
}

struct sysctl *sysctl_new(
	struct rt *rt, struct ifaces *ifaces, const char *root, const char *pod_prefix)
{
	struct sysctl *s = mem_new(struct sysctl);

	s->rt = rt;
	s->root = root;
	s->pod_prefix = pod_prefix;
	s->unknown = true;
	ifaces_listen(ifaces, on_link, s);
	return s;
}

void sysctl_free(struct sysctl *s)
{
	if (!s)
		return;
	vec_done(&s->fresh);
	free(s);
}

void sysctl_mark_unknown(struct sysctl *s)
{
	s->unknown = true;
}

void sysctl_want(struct sysctl *s, const struct calc_wants *w)
{
	bool ipv6 = false;

	for (size_t i = 0; i < w->pools.n; i++)
		ipv6 |= w->pools.v[i].addr.family == IP_V6;
	s->unknown |= ipv6 && !s->ipv6;
	s->ipv6 = ipv6;
}

static int apply_global(const struct sysctl *s, struct err *err)
{
	static const struct {
		const char *name;
		bool ipv6;
	} ones[] = {
		{"net/ipv4/ip_forward", false},
		{"net/ipv6/conf/all/forwarding", true},
	};
	int first = 0, r;
	struct err e = ERR_INIT;

	for (size_t i = 0; i < array_size(ones); i++) {
		auto_free char *path = mem_printf("%s/%s", s->root, ones[i].name);
		auto_free char *now = NULL;

		if (ones[i].ipv6 && !s->ipv6)
			continue;
		r = file_read(path, 16, &now, NULL, &e);
		if (r == 0 && strcmp(now, "1\n") != 0)
			r = file_poke(AT_FDCWD, path, "1", &e);
		if (r < 0 && first == 0) {
			first = r;
			if (err)
				*err = e;
		}
	}
	return first;
}

static void done(void *arg, uintptr_t index, int r, const struct err *err)
{
	struct sysctl *s = arg;

	if (r == 0 || r == -ENODEV || r == -ENOENT) /* those two: it is gone again */
		return;
	if (s->failure.code == 0)
		s->failure = *err;
	if (s->fresh.n == 0 || s->fresh.v[s->fresh.n - 1] != index)
		vec_push(&s->fresh, (uint32_t)index);
}

int sysctl_apply(struct sysctl *s, struct err *err)
{
	VEC(uint32_t) todo = {0};
	uint32_t *index;
	int r = 0;

	if (s->unknown) {
		r = apply_global(s, err);
		if (r < 0)
			return err_wrap(err, r, "switch forwarding on");
		s->unknown = false;
	}
	if (s->fresh.n == 0)
		return 0;
	todo.v = s->fresh.v;
	todo.n = s->fresh.n;
	s->fresh.v = NULL;
	s->fresh.n = s->fresh.cap = 0;
	s->failure = ERR_INIT;
	rt_begin(s->rt, done, s);
	vec_for_each (&todo, index) {
		struct rt_link_conf conf = {.index = *index,
			.proxy_arp = true,
			.forwarding = true,
			.route_localnet = true,
			.rp_filter = -1};

		rt_link_configure(s->rt, &conf, *index);
		rt_proxy_delay_set(s->rt, IP_V4, *index, 0, *index);
	}
	(void)rt_commit(s->rt, NULL);
	vec_done(&todo);
	if (s->failure.code == 0)
		return 0;
	if (err)
		*err = s->failure;
	return err_wrap(err, s->failure.code, "configure a pod's interface");
}
