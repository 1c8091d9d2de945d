/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/json.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/limits.h"

/* jansson itself refuses to go deeper than 2048. */
static bool too_deep(json_t *j, unsigned left)
{
	const char *name;
	json_t *e;
	size_t i;

	if (!json_is_object(j) && !json_is_array(j))
		return false;
	if (left == 0)
		return true;
	json_object_foreach (j, name, e)
		if (too_deep(e, left - 1))
			return true;
	json_array_foreach (j, i, e)
		if (too_deep(e, left - 1))
			return true;
	return false;
}

json_t *model_json_load(const char *what, const char *text, size_t len, struct err *err)
{
	json_error_t je;
	auto_(json) json_t *j = NULL;

	if (len > MODEL_VALUE_MAX) {
		err_set(err, -EINVAL, "%s: %zu bytes, want at most %d", what, len, MODEL_VALUE_MAX);
		return NULL;
	}
	j = json_loadb(text, len, 0, &je);
	if (!j)
		err_set(err, -EINVAL, "%s: line %d, column %d: %s", what, je.line, je.column,
			je.text);
	else if (!json_is_object(j))
		err_set(err, -EINVAL, "%s: want a JSON object", what);
	else if (too_deep(j, MODEL_DEPTH_MAX))
		err_set(err, -EINVAL, "%s: nested more than %d deep", what, MODEL_DEPTH_MAX);
	else
		return take_ptr(j);
	return NULL;
}

char *model_json_dump(const json_t *j)
{
	auto_free char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
	struct strbuf sb = STRBUF_INIT;
	const char *p;

	assert(s);
	if (!strpbrk(s, "&<>\xe2"))
		return take_ptr(s);
	/* Outside of strings none of these occurs. */
	for (p = s; *p != '\0'; p++) {
		if (*p == '&' || *p == '<' || *p == '>') {
			strbuf_addf(&sb, "\\u%04x", (unsigned)*p);
		} else if (strncmp(p, "\xe2\x80\xa8", 3) == 0 ||
			   strncmp(p, "\xe2\x80\xa9", 3) == 0) {
			strbuf_addf(&sb, "\\u202%c", (unsigned char)p[2] == 0xa8 ? '8' : '9');
			p += 2;
		} else {
			strbuf_addc(&sb, *p);
		}
	}
	return strbuf_take(&sb);
}
