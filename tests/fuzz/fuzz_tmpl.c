/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Templates: any text is refused with its place, or renders the same twice, within the bounds. */
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "fuzz.h"
#include "tmpl/tmpl.h"

static const struct tmpl *self(void *arg, const char *name)
{
	return strcmp(name, "self") == 0 ? arg : NULL;
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *view = json_loads(
		"{\"a\": [1, {\"b\": \"x\\n\"}, []], \"s\": \"t\", \"t\": true, \"f\": false,"
		" \"o\": {\"p\": {\"q\": 5}}, \"n\": null,"
		" \"r\": {\"\\ttable\": \"s\\tn\\n1\\t2\\n3\\n\"}}",
		0, NULL);
	auto_strbuf out = STRBUF_INIT, again = STRBUF_INIT;
	struct err err = ERR_INIT;
	struct tmpl *t = NULL;

	if (tmpl_parse((const char *)data, size, "in", &t, &err) == 0) {
		struct tmpl_env env = {
			.partial = self, .partial_arg = t, .escape = tmpl_escape_bird};
		int r = tmpl_render(t, view, &env, &out, &err);

		check(out.len <= TMPL_OUT_MAX && (r == 0 || out.len == 0));
		check(tmpl_render(t, view, &env, &again, &err) == r && again.len == out.len);
		check(out.len == 0 || memcmp(out.s, again.s, out.len) == 0);
		check(r == 0 || strncmp(err_text(&err), "in:", 3) == 0);
	} else if (size <= TMPL_TEXT_MAX) {
		check(strncmp(err_text(&err), "in:", 3) == 0);
	}
	tmpl_free(t);
	json_decref(view);
	return 0;
}
