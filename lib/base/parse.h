/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text to values, strictly: the whole string, no sign or space or prefix that was not asked for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;

/* Decimal digits only, min..max. EINVAL, "\"x\": want a number from 1 to 9". */
int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret, struct err *err);
int parse_u32(const char *s, uint32_t min, uint32_t max, uint32_t *ret, struct err *err);

/* true/false, yes/no, y/n, t/f, on/off, 1/0, enabled/disabled in any case; else EINVAL. */
int parse_bool(const char *s, bool *ret, struct err *err);

/* Go's durations ("1m30s", "500ms", "1.5h", "0"), and a plain number, which counts seconds. */
int parse_duration_ms(const char *s, int64_t *ret_ms, struct err *err);
