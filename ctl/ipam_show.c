/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl ipam show: addresses in use, by pool and block, one by one, borrowed; and what IPAM goes by. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "ctl/usage.h"
#include "model/ipam.h"
#include "model/key.h"
#include "store/store.h"

static int show_usage(struct ctl *c, bool with_blocks, bool as_json)
{
	struct store_list pools = {0}, blocks = {0}, reservations = {0};
	char prefix[KEY_SIZE];
	struct usage u = {0};
	int r = ipam_list(c, key_prefix(KIND_IPPOOL, NULL, prefix), &pools);

	if (r == 0)
		r = ipam_list(c, key_prefix(KIND_IPRESERVATION, NULL, prefix), &reservations);
	if (r == 0)
		r = ipam_list(c, IPAM_KEY_BLOCKS, &blocks);
	if (r == 0) {
		const struct store_list *lists[] = {&pools, &reservations, &blocks};

		for (unsigned i = 0; i < array_size(lists); i++) {
			for (size_t k = 0; k < lists[i]->n; k++) {
				const struct store_kv *kv = &lists[i]->v[k];
				struct err err = ERR_INIT;

				r = usage_add(&u, kv->key, kv->value, kv->len, &err) < 0
					    ? ctl_fail(&err)
					    : r;
			}
		}
		if (as_json) {
			auto_free char *text = usage_json(&u, with_blocks);

			printf("%s\n", text);
		} else {
			usage_print(&u, with_blocks, stdout);
		}
	}
	usage_done(&u);
	store_list_done(&pools);
	store_list_done(&blocks);
	store_list_done(&reservations);
	return r != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int decode(const struct store_kv *kv, struct ipam_block **ret, struct err *err)
{
	int r = ipam_block_decode(kv->value, kv->len, ret, err);

	return r < 0 ? err_wrap(err, r, "%s (see margayctl ipam drop --help)", kv->key) : 0;
}

static int show_ip(struct ctl *c, const char *text)
{
	struct store_list blocks = {0};
	struct err err = ERR_INIT;
	char prefix[IPAM_KEY_SIZE];
	struct ip ip;
	bool found = false;
	int r = ip_parse(text, &ip, &err);

	if (r < 0) {
		err_wrap(&err, r, "ipam show: --ip");
		return ctl_fail(&err);
	}
	r = ipam_list(c, ipam_key_blocks_of_family((enum ip_family)ip.family, prefix), &blocks);
	for (size_t i = 0; r == 0 && i < blocks.n && !found; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct prefix cidr;

		if (!ipam_key_parse_block(blocks.v[i].key, &cidr) || !prefix_contains(&cidr, &ip))
			continue;
		r = decode(&blocks.v[i], &b, &err);
		if (r < 0)
			ctl_fail(&err);
		else
			found = usage_print_ip(b, &ip, stdout);
	}
	store_list_done(&blocks);
	if (r == 0 && !found)
		printf("%s is not assigned\n", ip_str(&ip));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int show_borrowed(struct ctl *c)
{
	struct store_list blocks = {0};
	struct borrowed borrowed;
	int r = ipam_list(c, IPAM_KEY_BLOCKS, &blocks);

	borrowed_init(&borrowed);
	for (size_t i = 0; i < blocks.n; i++) {
		auto_(ipam_block) struct ipam_block *b = NULL;
		struct err err = ERR_INIT;

		if (decode(&blocks.v[i], &b, &err) < 0)
			r = ctl_fail(&err);
		else
			borrowed_add(&borrowed, b);
	}
	store_list_done(&blocks);
	if (r >= 0)
		borrowed_print(&borrowed, stdout);
	borrowed_done(&borrowed);
	return r != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int show_configuration(struct ctl *c)
{
	struct ipam_config config = IPAM_CONFIG_DEFAULT;
	struct store_kv kv = {0};
	struct err err = ERR_INIT;
	int r = store_get_wait(c->st, IPAM_KEY_CONFIG, 0, &kv, &err);

	if (r == 0) {
		r = ipam_config_decode(kv.value, kv.len, &config, &err);
		store_kv_done(&kv);
	}
	if (r < 0 && r != -ENOENT) {
		err_wrap(&err, r, "ipam show");
		return ctl_fail(&err);
	}
	config_print(&config, stdout);
	return EXIT_SUCCESS;
}

int ipam_show(struct ctl *c, int argc, char **argv)
{
	static const struct option options[] = {
		{"show-blocks", no_argument, NULL, 'b'},
		{"show-borrowed", no_argument, NULL, 'r'},
		{"show-configuration", no_argument, NULL, 'c'},
		{"ip", required_argument, NULL, 'i'},
		{"output", required_argument, NULL, 'o'},
		{0},
	};
	const char *ip = NULL, *output = NULL;
	bool blocks = false, borrowed = false, configuration = false;
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (opt == '?')
			return verb_misused("ipam show");
		blocks |= opt == 'b';
		borrowed |= opt == 'r';
		configuration |= opt == 'c';
		if (opt == 'i')
			ip = optarg;
		if (opt == 'o')
			output = optarg;
	}
	if (optind < argc) {
		ctl_warn("ipam show: \"%s\": no argument is wanted", argv[optind]);
		return verb_misused("ipam show");
	}
	if ((ip != NULL) + blocks + borrowed + configuration > 1) {
		ctl_warn("ipam show: want one of its options, or none");
		return verb_misused("ipam show");
	}
	if (output && (strcmp(output, "json") != 0 || ip || borrowed || configuration)) {
		ctl_warn("ipam show: --output \"%s\": want json, of pools and blocks", output);
		return verb_misused("ipam show");
	}
	if (!ctl_store(c, false))
		return EXIT_FAILURE;
	return ip	       ? show_ip(c, ip)
	       : borrowed      ? show_borrowed(c)
	       : configuration ? show_configuration(c)
			       : show_usage(c, blocks, output != NULL);
}
