/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/meta.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

/* Letters, digits and what is in more; the first and the last a letter or a digit. */
static bool is_word(const char *s, size_t n, size_t max, const char *more)
{
	if (n == 0 || n > max || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(more, s[i]))
			return false;
	return true;
}

static bool is_subdomain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (isupper((unsigned char)s[i]) ||
			(s[i] == '.' && (i == 0 || strchr(".-", s[i - 1]) || s[i + 1] == '-')))
			return false;
	return is_word(s, n, 253, "-.");
}

bool label_name_ok(const char *s)
{
	const char *slash = strchr(s, '/'), *name = slash ? slash + 1 : s;

	return is_word(name, strlen(name), 63, "-_.") &&
	       (!slash || is_subdomain(s, (size_t)(slash - s)));
}

bool label_value_ok(const char *s)
{
	return *s == '\0' || is_word(s, strlen(s), 63, "-_.");
}

void labels_done(struct labels *l)
{
	struct label *e;

	vec_for_each (&l->v, e) {
		free(e->name);
		free(e->value);
	}
	vec_done(&l->v);
}

/* Where name is, or would be. */
static size_t label_index(const struct labels *l, const char *name, bool *found)
{
	size_t lo = 0, hi = l->v.n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(l->v.v[mid].name, name);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*found = false;
	return lo;
}

const char *labels_get(const struct labels *l, const char *name)
{
	bool found;
	size_t i = label_index(l, name, &found);

	return found ? l->v.v[i].value : NULL;
}

void labels_set(struct labels *l, const char *name, const char *value)
{
	bool found;
	size_t i = label_index(l, name, &found);
	struct label *e;

	if (found && value) {
		char *copy = mem_strdup(value);

		free(l->v.v[i].value);
		l->v.v[i].value = copy;
	} else if (found) {
		e = &l->v.v[i];
		free(e->name);
		free(e->value);
		memmove(e, e + 1, (--l->v.n - i) * sizeof(*e));
	} else if (value) {
		vec_push(&l->v, (struct label){0});
		e = &l->v.v[i];
		memmove(e + 1, e, (l->v.n - 1 - i) * sizeof(*e));
		*e = (struct label){mem_strdup(name), mem_strdup(value)};
	}
}

bool labels_cover(const struct labels *l, const struct labels *subset)
{
	const struct label *e;

	vec_for_each (&subset->v, e) {
		const char *value = labels_get(l, e->name);

		if (!value || strcmp(value, e->value) != 0)
			return false;
	}
	return true;
}

void meta_done(struct meta *m)
{
	free(m->name);
	free(m->ns);
	free(m->uid);
	free(m->created);
	labels_done(&m->labels);
	labels_done(&m->annotations);
	*m = (struct meta){0};
}

const char *meta_uuid(const uint8_t random[static 16], char buf[static META_UUID_SIZE])
{
	uint8_t b[16];

	memcpy(b, random, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0, n = 0; i < sizeof(b); i++)
		n += (size_t)snprintf(buf + n, META_UUID_SIZE - n, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
	return buf;
}

void meta_identify(struct meta *m, const uint8_t random[static 16], int64_t now_ns)
{
	char uid[META_UUID_SIZE], created[CLOCK_RFC3339_SIZE];

	if (!m->uid)
		m->uid = mem_strdup(meta_uuid(random, uid));
	if (m->created)
		return;
	clock_rfc3339(now_ns, created);
	m->created = mem_strdup(created);
}

void strings_done(struct strings *s)
{
	char **e;

	vec_for_each (&s->v, e)
		free(*e);
	vec_done(&s->v);
}

bool strings_has(const struct strings *s, const char *what)
{
	char *const *e;

	vec_for_each (&s->v, e)
		if (strcmp(*e, what) == 0)
			return true;
	return false;
}
