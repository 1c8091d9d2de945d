/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IPAM's objects: refused with a message, or kept; a block that is decoded is consistent, and what
 * is encoded decodes to the same. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "fuzz.h"
#include "ipam/block.h"
#include "model/ipam.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void use_block(struct ipam_block *b)
{
	auto_free char *once = ipam_block_encode(b), *twice = NULL;
	struct block_reserved none = {0};
	struct ipam_block *again;
	struct ip ip;

	check(ipam_block_decode(once, strlen(once), &again, NULL) == 0);
	twice = ipam_block_encode(again);
	check(strcmp(once, twice) == 0);
	ipam_block_free(again);
	/* Every operation leaves it consistent. */
	block_collect(b, 30, 2000000000ll * 1000000000);
	if (block_auto_assign(b, &none, "h", NULL, 0, &ip) == 0)
		check(block_lookup(b, &ip) != NULL);
	block_release_handle(b, "h", 0, 2000000000ll * 1000000000);
	free(twice);
	twice = ipam_block_encode(b);
	check(ipam_block_decode(twice, strlen(twice), &again, NULL) == 0);
	ipam_block_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct ipam_affinity affinity;
	struct ipam_config config;
	struct ipam_handle *handle;
	struct ipam_block *block;
	struct err err = ERR_INIT;

	if (ipam_block_decode(text, size, &block, &err) == 0) {
		use_block(block);
		ipam_block_free(block);
	} else {
		check(err.code == -22 && err.text[0] != '\0');
	}
	if (ipam_handle_decode(text, size, &handle, NULL) == 0) {
		auto_free char *s = ipam_handle_encode(handle);

		ipam_handle_free(handle);
		check(ipam_handle_decode(s, strlen(s), &handle, NULL) == 0);
		ipam_handle_free(handle);
	}
	if (ipam_affinity_decode(text, size, &affinity, NULL) == 0)
		free(ipam_affinity_encode(&affinity, NULL));
	if (ipam_config_decode(text, size, &config, NULL) == 0)
		free(ipam_config_encode(&config));
	return 0;
}
