/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resources: any text is refused with a message, or decodes to what encodes to a text that decodes
 * and encodes to itself; and what a user gives is refused or stored, whatever it is.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "model/bgp.h"
#include "model/cluster.h"
#include "model/endpointslice.h"
#include "model/felixconfig.h"
#include "model/ipam.h"
#include "model/ippool.h"
#include "model/ipreservation.h"
#include "model/json.h"
#include "model/node.h"
#include "model/resource.h"
#include "model/service.h"
#include "model/wep.h"
#include "model/wep_brief.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

#define ROUND_TRIP(type)                                                                \
	do {                                                                            \
		struct err err_ = ERR_INIT;                                             \
		struct type *x_ = NULL, *y_ = NULL;                                     \
                                                                                        \
		if (type##_decode(NULL, text, size, &x_, &err_) == 0) {                 \
			char *one_ = type##_encode(x_, text), *two_;                    \
                                                                                        \
			check(type##_decode(NULL, one_, strlen(one_), &y_, NULL) == 0); \
			two_ = type##_encode(y_, one_);                                 \
			check(strcmp(one_, two_) == 0);                                 \
			free(one_);                                                     \
			free(two_);                                                     \
		} else {                                                                \
			check(err_.text[0] != '\0');                                    \
		}                                                                       \
		type##_free(x_);                                                        \
		type##_free(y_);                                                        \
	} while (0)

#define DECODE(type)                                                 \
	do {                                                         \
		struct err err_ = ERR_INIT;                          \
		struct type *x_ = NULL;                              \
                                                                     \
		if (type##_decode(NULL, text, size, &x_, &err_) < 0) \
			check(err_.text[0] != '\0');                 \
		type##_free(x_);                                     \
	} while (0)

/* What is read in brief is what the decoder reads. */
static void brief(const char *text, size_t size)
{
	struct wep_brief b;
	struct wep *w = NULL;

	if (!wep_brief_read(text, size, &b))
		return;
	check(wep_decode(NULL, text, size, &w, NULL) == 0);
	check(strcmp(b.node, w->node ? w->node : "") == 0);
	check(strcmp(b.interface, w->interface ? w->interface : "") == 0);
	check(strcmp(b.created, w->meta.created ? w->meta.created : "") == 0);
	check(b.n_networks == w->networks.n);
	for (size_t i = 0; i < b.n_networks; i++)
		check(prefix_equal(&b.networks[i], &w->networks.v[i]));
	wep_free(w);
}

static void store(const char *text, size_t size)
{
	static const uint8_t random[16];
	struct err err = ERR_INIT;
	auto_(json) json_t *j = model_json_load("in", text, size, &err);
	struct key key;

	if (!j || resource_identify(j, NULL, &key, &err) < 0) {
		check(err.text[0] != '\0');
		return;
	}
	resource_default(j, &key, NULL, random, 0);
	if (resource_validate(j, &key, NULL, NULL, &err) == 0)
		free(resource_encode(j, key.kind));
	else
		check(err.text[0] != '\0');
	/* As its own update, which must not fail where the creation has not. */
	if (err.text[0] == '\0')
		check(resource_validate(j, &key, j, NULL, &err) == 0);
}

/* What ipam/ relies on. */
static void pool_has_blocks(const char *text, size_t size)
{
	struct ippool *p = NULL;

	if (ippool_decode(NULL, text, size, &p, NULL) == 0) {
		struct prefix block = prefix_of(&p->cidr.addr, p->block_plen);

		check(prefix_size(&block) <= IPAM_BLOCK_MAX);
		check(p->disabled || p->cidr.plen <= p->block_plen);
	}
	ippool_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = mem_strndup((const char *)data, size);

	size = strlen(text);
	ROUND_TRIP(node);
	ROUND_TRIP(ippool);
	pool_has_blocks(text, size);
	ROUND_TRIP(wep);
	ROUND_TRIP(cluster_info);
	ROUND_TRIP(service);
	DECODE(ipreservation);
	DECODE(endpointslice);
	DECODE(bgp_config);
	DECODE(bgp_peer);
	DECODE(felix_config);
	brief(text, size);
	store(text, size);
	return 0;
}
