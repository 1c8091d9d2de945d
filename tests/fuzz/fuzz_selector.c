/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Selectors: any text is refused, or its canonical text is a fixed point that means the same. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "model/meta.h"
#include "model/selector.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = mem_strndup((const char *)data, size);
	struct selector *s = NULL, *again = NULL;
	struct labels none = {0}, some = {0};
	struct err err = ERR_INIT;

	labels_set(&some, "a", "1");
	labels_set(&some, "b", "two");
	if (selector_parse(text, &s, &err) == 0) {
		auto_free char *one = selector_format(s);

		/* The canonical text may be too long, where the text was not. */
		if (selector_parse(one, &again, NULL) == 0) {
			auto_free char *two = selector_format(again);

			check(strcmp(one, two) == 0);
			check(selector_matches(s, &none) == selector_matches(again, &none));
			check(selector_matches(s, &some) == selector_matches(again, &some));
		} else {
			check(strlen(one) > size);
		}
	} else {
		check(err.text[0] != '\0');
	}
	selector_free(s);
	selector_free(again);
	labels_done(&some);
	return 0;
}
