/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON text to jansson's values and back, bounded, and printed as Go's encoding/json does. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct err;

AUTO_DEFINE(json, json_t *, json_decref);

/* An object, within limits.h; what ("ippool a") opens the message. NULL: err is set, EINVAL. */
json_t *model_json_load(const char *what, const char *text, size_t len, struct err *err);
/* Compact, members as they stand, `<>&`, U+2028 and U+2029 escaped. The caller's to free. */
char *model_json_dump(const json_t *j);
