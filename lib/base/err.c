/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, ": %s",
		strerrordesc_np(-code) ?: "unknown error");
	return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
	char inner[ERR_TEXT_MAX];
	va_list ap;
	size_t n;

	if (!err)
		return code;
	memcpy(inner, err->text, sizeof(inner));
	if (err->code == 0 || inner[0] == '\0')
		snprintf(inner, sizeof(inner), "%s", strerrordesc_np(-code) ?: "unknown error");
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, ": %s", inner);
	return code;
}

const char *err_text(const struct err *err)
{
	if (err->text[0] != '\0')
		return err->text;
	return err->code ? strerrordesc_np(-err->code) ?: "unknown error" : "no error";
}
