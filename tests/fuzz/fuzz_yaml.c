/* SPDX-License-Identifier: GPL-2.0-or-later */
/* YAML: any text is documents or messages with a line; what is a document survives a dump. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "model/yaml.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Numbers change their text (1e3), and merge keys their place. */
static bool is_exact(const json_t *j)
{
	const char *name;
	const json_t *e;
	size_t i;

	json_array_foreach (j, i, e)
		if (!is_exact(e))
			return false;
	json_object_foreach ((json_t *)(uintptr_t)j, name, e)
		if (!is_exact(e) || strcmp(name, "<<") == 0)
			return false;
	return !json_is_real(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct yaml_docs docs = {0};
	const struct yaml_doc *d;

	yaml_load((const char *)data, size, &docs);
	vec_for_each (&docs.v, d) {
		struct yaml_docs again = {0};
		auto_free char *text = NULL;

		check(d->line >= 1 && (d->j != NULL) != (d->err != NULL));
		if (!d->j)
			continue;
		check(json_is_object(d->j));
		text = yaml_dump(d->j);
		yaml_load(text, strlen(text), &again);
		if (is_exact(d->j) && !json_object_get(d->j, "items")) {
			check(again.v.n == 1 && again.v.v[0].j);
			check(json_equal(again.v.v[0].j, d->j));
		}
		yaml_docs_done(&again);
	}
	yaml_docs_done(&docs);
	return 0;
}
