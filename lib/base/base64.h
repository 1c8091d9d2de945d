/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Base64 (RFC 4648 section 4), padded, without line breaks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct strbuf;

void base64_add(struct strbuf *to, const void *data, size_t len);
/* False: it is no base64, nothing is added. */
bool base64_add_decoded(struct strbuf *to, const char *text, size_t len);
