/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a runtime gives: any netconf is refused by name with a code of the specification or parsed,
 * and a prevResult that was read is printed so that it reads the same; CNI_ARGS likewise. */
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/args.h"
#include "cni/conf.h"
#include "fuzz.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void print_and_read(const struct cni_result *r, enum cni_version v)
{
	auto_strbuf out = STRBUF_INIT;
	struct cni_result *again;
	json_t *j;

	cni_result_print(r, v, &out);
	j = json_loads(out.s, 0, NULL);
	check(j != NULL);
	check(cni_result_decode(j, &again, NULL) == 0);
	json_decref(j);
	if (v >= CNI_0_3_0)
		check(again->ips.n == r->ips.n && again->routes.n == r->routes.n &&
			again->interfaces.n == r->interfaces.n);
	cni_result_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = mem_strndup((const char *)data, size);
	struct err err = ERR_INIT;
	struct cni_args args;
	struct cni_conf *c;
	int r = cni_conf_parse((const char *)data, size, true, &c, &err);

	check(r == 0 || ((r == CNI_E_VERSION || r == CNI_E_DECODE || r == CNI_E_CONF) &&
				err.text[0] != '\0'));
	if (r == 0) {
		check(c->name != NULL);
		for (int v = CNI_0_1_0; c->prev && v < CNI_N_VERSIONS; v++)
			print_and_read(c->prev, (enum cni_version)v);
		cni_conf_free(c);
	}
	err = ERR_INIT;
	r = cni_args_parse(text, &args, &err);
	check(r == 0 || (r == CNI_E_ENV && err.text[0] != '\0'));
	if (r == 0)
		cni_args_done(&args);
	return 0;
}
