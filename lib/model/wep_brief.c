/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A recursive descent over exactly one shape of object. What it has no rule for (escapes, bytes beyond
 * ASCII, numbers, null, an unknown list, a second value of a member that is kept) is a no.
 */
#include "model/wep_brief.h"

#include <string.h>

#include "model/kind.h"
#include "net/mac.h"

#define TEXT_MAX (64 * 1024)
#define LIST_MAX 100

struct scan {
	const char *p, *end;
	struct wep_brief *w;
	bool has_name, has_metadata, has_spec, has_networks;
};

/* A piece of the text. */
struct span {
	const char *s;
	size_t n;
};

static bool is(const struct span *a, const char *s)
{
	return strlen(s) == a->n && memcmp(a->s, s, a->n) == 0;
}

static void skip_space(struct scan *sc)
{
	while (sc->p < sc->end &&
		(*sc->p == ' ' || *sc->p == '\t' || *sc->p == '\n' || *sc->p == '\r'))
		sc->p++;
}

/* The next character that is no space is c: steps over it. */
static bool take(struct scan *sc, char c)
{
	skip_space(sc);
	if (sc->p == sc->end || *sc->p != c)
		return false;
	sc->p++;
	return true;
}

/* Most of a text is in strings: a table, and nothing written in the loop. */
static bool take_string(struct scan *sc, struct span *ret)
{
	static const bool stops[256] = {
		[0 ... 0x1f] = true, ['"'] = true, ['\\'] = true, [0x7f ... 0xff] = true};
	const char *p, *end = sc->end;

	if (!take(sc, '"'))
		return false;
	for (p = sc->p; p < end && !stops[(unsigned char)*p]; p++)
		;
	if (p == end || *p != '"')
		return false;
	*ret = (struct span){sc->p, (size_t)(p - sc->p)};
	sc->p = p + 1;
	return true;
}

/* Each member of an object goes to fn, which takes the value. */
static bool take_object(struct scan *sc, bool (*fn)(struct scan *sc, const struct span *name))
{
	struct span name;

	if (!take(sc, '{'))
		return false;
	if (take(sc, '}'))
		return true;
	do
		if (!take_string(sc, &name) || !take(sc, ':') || !fn(sc, &name))
			return false;
	while (take(sc, ','));
	return take(sc, '}');
}

/* Each element of a list of strings goes to fn. */
static bool take_list(struct scan *sc, bool (*fn)(struct scan *sc, const struct span *element))
{
	struct span element;
	size_t n = 0;

	if (!take(sc, '['))
		return false;
	if (take(sc, ']'))
		return true;
	do
		if (++n > LIST_MAX || !take_string(sc, &element) || !fn(sc, &element))
			return false;
	while (take(sc, ','));
	return take(sc, ']');
}

/* A string that is kept, once. */
static bool keep(struct scan *sc, char *ret, size_t size)
{
	struct span s;

	if (!take_string(sc, &s) || ret[0] != '\0' || s.n == 0 || s.n >= size)
		return false;
	memcpy(ret, s.s, s.n);
	ret[s.n] = '\0';
	return true;
}

static bool one_string(struct scan *sc, const struct span *name)
{
	struct span s;

	(void)name;
	return take_string(sc, &s);
}

static bool any_element(struct scan *sc, const struct span *element)
{
	(void)sc;
	(void)element;
	return true;
}

static bool on_network(struct scan *sc, const struct span *element)
{
	char text[PREFIX_TEXT_SIZE];
	struct prefix p;

	if (element->n >= sizeof(text) || sc->w->n_networks == WEP_BRIEF_NETWORKS)
		return false;
	memcpy(text, element->s, element->n);
	text[element->n] = '\0';
	if (prefix_parse_host(text, &p, NULL) < 0 || !prefix_is_host(&p))
		return false;
	sc->w->networks[sc->w->n_networks++] = p;
	return true;
}

static bool take_mac(struct scan *sc)
{
	char text[MAC_TEXT_SIZE];
	struct span s;
	struct mac mac;

	if (!take_string(sc, &s) || s.n >= sizeof(text))
		return false;
	memcpy(text, s.s, s.n);
	text[s.n] = '\0';
	return mac_parse(text, &mac, NULL) == 0;
}

static bool on_spec(struct scan *sc, const struct span *name)
{
	if (is(name, "node"))
		return keep(sc, sc->w->node, sizeof(sc->w->node));
	if (is(name, "interfaceName"))
		return keep(sc, sc->w->interface, sizeof(sc->w->interface));
	if (is(name, "ipNetworks")) {
		bool first = !sc->has_networks;

		sc->has_networks = true;
		return first && take_list(sc, on_network);
	}
	if (is(name, "mac"))
		return take_mac(sc);
	if (is(name, "profiles"))
		return take_list(sc, any_element);
	return (is(name, "orchestrator") || is(name, "workload") || is(name, "containerID") ||
		       is(name, "pod") || is(name, "endpoint") || is(name, "serviceAccountName")) &&
	       one_string(sc, name);
}

static bool on_metadata(struct scan *sc, const struct span *name)
{
	struct span s;

	if (is(name, "creationTimestamp"))
		return keep(sc, sc->w->created, sizeof(sc->w->created));
	if (is(name, "labels") || is(name, "annotations"))
		return take_object(sc, one_string);
	if (!is(name, "name"))
		return one_string(sc, name);
	sc->has_name = true;
	return take_string(sc, &s) && s.n > 0;
}

static bool on_top(struct scan *sc, const struct span *name)
{
	bool *seen = is(name, "metadata") ? &sc->has_metadata
		     : is(name, "spec")	  ? &sc->has_spec
					  : NULL;
	struct span s;

	if (seen) {
		if (*seen)
			return false;
		*seen = true;
		return take_object(sc, seen == &sc->has_spec ? on_spec : on_metadata);
	}
	if (is(name, "kind"))
		return take_string(sc, &s) && is(&s, kind_info(KIND_WORKLOADENDPOINT)->name);
	return is(name, "apiVersion") && one_string(sc, name);
}

bool wep_brief_read(const char *text, size_t len, struct wep_brief *ret)
{
	struct scan sc = {.p = text, .end = text + len, .w = ret};

	ret->node[0] = ret->interface[0] = ret->created[0] = '\0';
	ret->n_networks = 0;
	if (len > TEXT_MAX || !take_object(&sc, on_top) || !sc.has_name)
		return false;
	skip_space(&sc);
	return sc.p == sc.end;
}
