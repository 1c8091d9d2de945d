/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/args.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cni/result.h"

static int set_text(char **field, const char *value)
{
	free(*field);
	*field = value[0] != '\0' ? mem_strdup(value) : NULL;
	return 0;
}

static int args_set(struct cni_args *a, const char *name, const char *value, struct err *err)
{
	if (strcmp(name, "IP") == 0) {
		struct prefix p; /* a bare address, or one with a length that says nothing here */

		if (value[0] == '\0')
			return 0;
		if (prefix_parse_host(value, &p, err) < 0) {
			err_wrap(err, -EINVAL, "CNI_ARGS: IP");
			return CNI_E_ENV;
		}
		a->ip = p.addr;
		return 0;
	}
	if (strcmp(name, "MAC") == 0) {
		if (value[0] == '\0')
			return 0;
		if (mac_parse(value, &a->mac, NULL) < 0 || mac_is_multicast(&a->mac) ||
			mac_is_zero(&a->mac)) {
			err_set(err, -EINVAL,
				"CNI_ARGS: MAC: \"%.40s\": want a unicast Ethernet address like "
				"02:00:00:00:00:01",
				value);
			return CNI_E_ENV;
		}
		return 0;
	}
	if (strcmp(name, "K8S_POD_NAME") == 0)
		return set_text(&a->pod, value);
	if (strcmp(name, "K8S_POD_NAMESPACE") == 0)
		return set_text(&a->namespace, value);
	if (strcmp(name, "K8S_POD_INFRA_CONTAINER_ID") == 0)
		return set_text(&a->infra_container_id, value);
	if (strcmp(name, "K8S_POD_UID") == 0)
		return set_text(&a->uid, value);
	return 0;
}

int cni_args_parse(const char *text, struct cni_args *ret, struct err *err)
{
	auto_free char *copy = text ? mem_strdup(text) : NULL;
	struct cni_args a = {0};
	char *rest = copy, *pair;
	int r;

	while ((pair = strsep(&rest, ";")) != NULL) {
		char *eq = strchr(pair, '=');

		if (pair[0] == '\0' && (rest == NULL || pair == copy))
			continue; /* an empty text, or a final semicolon */
		if (!eq || strchr(eq + 1, '=')) {
			err_set(err, -EINVAL,
				"CNI_ARGS: \"%s\" is not NAME=VALUE; pairs are joined by ';'",
				pair);
			r = CNI_E_ENV;
			goto fail;
		}
		*eq = '\0';
		r = args_set(&a, pair, eq + 1, err);
		if (r != 0)
			goto fail;
	}
	*ret = a;
	return 0;
fail:
	cni_args_done(&a);
	return r;
}

void cni_args_done(struct cni_args *a)
{
	free(a->pod);
	free(a->namespace);
	free(a->infra_container_id);
	free(a->uid);
	*a = (struct cni_args){0};
}

const char *cni_container_id_wants(const char *s)
{
	if (strlen(s) > 200)
		return "at most 200 bytes";
	if (!isalnum((unsigned char)s[0]))
		return "a letter or a digit first";
	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return "letters, digits and \"_.-\" alone";
	return NULL;
}

const char *cni_ifname_wants(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 15)
		return "the name of an interface, of 1 to 15 bytes";
	if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return "another name than \".\" and \"..\"";
	for (; *s != '\0'; s++)
		if (strchr("/:%", *s) || !isgraph((unsigned char)*s))
			return "a name of printable ASCII without \"/\", \":\", \"%\" and white space";
	return NULL;
}
