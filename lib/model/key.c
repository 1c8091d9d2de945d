/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/key.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

bool key_name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n >= KEY_NAME_SIZE || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (const char *p = s; *p != '\0'; p++)
		if (*p == '/' || (unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return false;
	return true;
}

const char *key_prefix(enum kind kind, const char *ns, char buf[static KEY_SIZE])
{
	const struct kind_info *k = kind_info(kind);

	if (k->namespaced && ns) {
		assert(key_name_ok(ns) && strlen(ns) <= MODEL_NAMESPACE_MAX);
		snprintf(buf, KEY_SIZE, "%s%s/", k->root, ns);
	} else {
		snprintf(buf, KEY_SIZE, "%s", k->root);
	}
	return buf;
}

const char *key_format(enum kind kind, const char *ns, const char *name, char buf[static KEY_SIZE])
{
	size_t n;

	assert(key_name_ok(name));
	assert(!kind_info(kind)->namespaced || ns);
	key_prefix(kind, ns, buf);
	n = strlen(buf);
	snprintf(buf + n, KEY_SIZE - n, "%s", name);
	return buf;
}

bool key_parse(const char *key, struct key *ret)
{
	for (unsigned k = 0; k < N_KEYED_KINDS; k++) {
		const struct kind_info *info = kind_info((enum kind)k);
		size_t n = strlen(info->root);
		struct key out = {.kind = (enum kind)k};
		const char *name = key + n, *slash;

		if (strncmp(key, info->root, n) != 0)
			continue;
		if (info->namespaced) {
			slash = strchr(name, '/');
			if (!slash || (size_t)(slash - name) > MODEL_NAMESPACE_MAX)
				return false;
			memcpy(out.ns, name, (size_t)(slash - name));
			if (!key_name_ok(out.ns))
				return false;
			name = slash + 1;
		}
		if (!key_name_ok(name))
			return false;
		memcpy(out.name, name, strlen(name) + 1);
		*ret = out;
		return true;
	}
	return false;
}
