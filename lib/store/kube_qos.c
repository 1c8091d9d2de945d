/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pod's annotations on its traffic as an endpoint's qosControls: numbers as Kubernetes writes
 * quantities, moved into the range that they may have. What needs another one, or makes no sense, is as
 * absent.
 */
#include "store/kube_view.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"

#define CALICO "qos.projectcalico.org/"
#define NAME_SIZE 64

/* Up to e18; INT64_MAX where it is more. */
static int64_t scale(int64_t v, unsigned base, unsigned times)
{
	while (times-- > 0)
		if (__builtin_mul_overflow(v, (int64_t)base, &v))
			return INT64_MAX;
	return v;
}

/* What is behind the digits: "Ki", "M", "e3"; false = nothing of the kind. */
static bool parse_suffix(const char *s, unsigned *base, unsigned *times)
{
	static const char decimal[] = "kMGTPE", binary[] = "KMGTPE";
	const char *at;
	uint64_t n;

	*base = *s && s[1] == 'i' && !s[2] ? 1024 : 1000;
	at = *s ? strchr(*base == 1024 ? binary : decimal, *s) : NULL;
	*times = 0;
	if (!*s)
		return true;
	if (at && !s[*base == 1024 ? 2 : 1]) {
		*times = (unsigned)(at - (*base == 1024 ? binary : decimal)) + 1;
		return true;
	}
	if ((*s != 'e' && *s != 'E') || parse_u64(s + 1 + (s[1] == '+'), 0, 18, &n, NULL) < 0)
		return false;
	*base = 10;
	*times = (unsigned)n;
	return true;
}

/* A Kubernetes quantity that is at least 1, rounded up; -1: it is none. */
static int64_t parse_quantity(const char *s)
{
	int64_t v = 0, fraction = 0, unit = 1;
	unsigned base, times;
	bool any = false;

	s += *s == '+';
	for (; isdigit((unsigned char)*s); s++, any = true)
		if (__builtin_mul_overflow(v, (int64_t)10, &v) ||
			__builtin_add_overflow(v, (int64_t)(*s - '0'), &v))
			return INT64_MAX;
	if (*s == '.')
		for (s++; isdigit((unsigned char)*s); s++, any = true)
			if (unit < 1000000000) { /* more digits make no difference that counts */
				fraction = fraction * 10 + (*s - '0');
				unit *= 10;
			}
	if (!any || !parse_suffix(s, &base, &times))
		return -1;
	v = scale(v, base, times);
	if (fraction) {
		int64_t part =
			(int64_t)(((__int128)fraction * scale(1, base, times) + unit - 1) / unit);

		if (__builtin_add_overflow(v, part, &v))
			return INT64_MAX;
	}
	return v;
}

enum what { BANDWIDTH, BURST, PEAKRATE, MINBURST, PACKETRATE, PACKETBURST, CONNECTIONS, N_WHAT };

static const struct {
	const char *name;
	int64_t min, max;
	int needs;     /* one that has to be set as well, -1 = none */
	int64_t given; /* where that one is set and this is not; 0 = absent */
} controls[N_WHAT] = {
	[BANDWIDTH] = {"Bandwidth", 1000, 1000000000000000, -1, 0},
	[BURST] = {"Burst", 1000, 34359738360, BANDWIDTH, 4294967296},
	[PEAKRATE] = {"Peakrate", 1010, 1010000000000000, BANDWIDTH, 0},
	[MINBURST] = {"Minburst", 1000, 100000000, PEAKRATE, 0},
	[PACKETRATE] = {"PacketRate", 1, 10000, -1, 0},
	[PACKETBURST] = {"PacketBurst", 1, 10000, PACKETRATE, 5},
	[CONNECTIONS] = {"MaxConnections", 1, 4294967295, -1, 0},
};

/* 0 = absent */
static int64_t read_control(const json_t *annotations, const char *direction, enum what what)
{
	char name[NAME_SIZE];
	const char *s;
	int64_t v;

	snprintf(name, sizeof(name), CALICO "%s%s", direction, controls[what].name);
	s = json_string_value(json_object_get(annotations, name));
	if (!s && what == BANDWIDTH) {
		snprintf(name, sizeof(name), "kubernetes.io/%s-bandwidth", direction);
		s = json_string_value(json_object_get(annotations, name));
	}
	v = s ? parse_quantity(s) : -1;
	if (v < 0)
		return 0;
	if (v < controls[what].min)
		return controls[what].min;
	return v > controls[what].max ? controls[what].max : v;
}

static void read_direction(const json_t *annotations, const char *direction, int64_t v[N_WHAT])
{
	for (int i = 0; i < N_WHAT; i++) {
		int needs = controls[i].needs;

		v[i] = read_control(annotations, direction, (enum what)i);
		if (needs < 0)
			continue;
		if (v[needs] == 0)
			v[i] = 0;
		else if (v[i] == 0)
			v[i] = controls[i].given;
	}
	if (v[PEAKRATE] <= v[BANDWIDTH])
		v[PEAKRATE] = v[MINBURST] = 0;
}

/* A number, or one of the names of RFC 2474, 2597 and 3246. NULL: neither. */
static json_t *read_dscp(const char *s)
{
	static const char *const names[] = {"DF", "EF", "AF11", "AF12", "AF13", "AF21", "AF22",
		"AF23", "AF31", "AF32", "AF33", "AF41", "AF42", "AF43", "CS0", "CS1", "CS2", "CS3",
		"CS4", "CS5", "CS6"};
	uint32_t n;

	if (!s)
		return NULL;
	for (size_t i = 0; i < array_size(names); i++)
		if (strcasecmp(s, names[i]) == 0)
			return json_string(names[i]);
	return parse_u32(s, 0, 63, &n, NULL) == 0 ? json_string(s) : NULL;
}

json_t *kube_view_qos(const json_t *annotations)
{
	static const char *const directions[] = {"ingress", "egress"};
	json_t *qos = json_object(),
	       *dscp = read_dscp(json_string_value(json_object_get(annotations, CALICO "dscp")));
	int64_t v[2][N_WHAT];
	char name[NAME_SIZE];

	for (int d = 0; d < 2; d++)
		read_direction(annotations, directions[d], v[d]);
	for (int i = 0; i < N_WHAT; i++)
		for (int d = 0; d < 2; d++)
			if (v[d][i] > 0) {
				snprintf(name, sizeof(name), "%s%s", directions[d],
					controls[i].name);
				json_object_set_new(qos, name, json_integer(v[d][i]));
			}
	if (dscp)
		json_object_set_new(qos, "dscp", dscp);
	if (json_object_size(qos) > 0)
		return qos;
	json_decref(qos);
	return NULL;
}
