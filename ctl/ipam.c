/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl ipam: claim, drop, and the list of all its verbs */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "ipam/alloc.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "model/key.h"
#include "model/limits.h"
#include "model/node.h"
#include "model/wep.h"
#include "store/store.h"

int ipam_list(struct ctl *c, const char *prefix, struct store_list *ret)
{
	struct err err = ERR_INIT;
	int r = store_list_wait(c->st, prefix, 0, ret, &err);

	return r < 0 ? (ctl_fail(&err), r) : 0;
}

/* A block that could not be had did not stop the others. */
static void claimed_in_part(
	const struct ipam_request *rq, const struct prefix *cidr, const char *node)
{
	const struct ipam_addr *a;
	size_t n;

	a = ipam_request_addrs(rq, &n);
	if (n > 0)
		ctl_warn("ipam claim %s for %s: claimed %zu of %u blocks:", prefix_str(cidr), node,
			n, 1u << (a[0].block.plen - cidr->plen));
	for (size_t i = 0; i < n; i++)
		ctl_warn("  %s", prefix_str(&a[i].block));
}

static int ipam_claim(struct ctl *c, int argc, char **argv)
{
	static const struct option options[] = {{"node", required_argument, NULL, 'n'}, {0}};
	const char *node = NULL;
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	struct prefix cidr;
	int opt, r;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'n')
			return verb_misused("ipam claim");
		node = optarg;
	}
	if (argc - optind != 1 || !node) {
		ctl_warn("ipam claim: want one CIDR and --node NAME");
		return verb_misused("ipam claim");
	}
	r = prefix_parse_masked(argv[optind], &cidr, &err);
	if (r < 0) {
		err_wrap(&err, r, "ipam claim");
		return ctl_fail(&err);
	}
	if (!key_name_ok(node) || strlen(node) > MODEL_NAME_MAX) {
		ctl_warn("ipam claim: --node \"%s\": is no name", node);
		return EXIT_FAILURE;
	}
	if (!ctl_store_to_write(c, false))
		return EXIT_FAILURE;
	rq = ipam_claim_new(&cidr, node, clock_real_ns());
	r = ipam_run(c->st, rq, clock_mono_ms() + 6 * STORE_TIMEOUT_MS, &err);
	if (r < 0)
		claimed_in_part(rq, &cidr, node);
	ipam_request_free(rq);
	if (r < 0) {
		err_wrap(&err, r, "ipam claim %s for %s", prefix_str(&cidr), node);
		return ctl_fail(&err);
	}
	if (ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	printf("Successfully claimed %s for node %s\n", prefix_str(&cidr), node);
	return EXIT_SUCCESS;
}

/*
 * Dropping a block that cannot be read. Nobody is given an address of it, and who has one keeps it,
 * but cannot give it back. Without the block all of its addresses are free: so nothing may have one
 * any more, and of that endpoints, nodes and handles tell.
 */
static unsigned hold(const char *what, const struct ip *ip, const struct prefix *cidr)
{
	if (!prefix_contains(cidr, ip))
		return 0;
	ctl_warn("%s has %s", what, ip_str(ip));
	return 1;
}

/* How much kv has of the block; it is told what. */
static unsigned holds_of(const struct store_kv *kv, const struct prefix *cidr)
{
	auto_(ipam_handle) struct ipam_handle *h = NULL;
	auto_(node) struct node *node = NULL;
	auto_(wep) struct wep *w = NULL;
	const struct ip *tunnels[NODE_N_TUNNELS];
	struct err err = ERR_INIT;
	struct key key = {0};
	unsigned n = 0;
	int r;

	if (!key_parse(kv->key, &key))
		r = ipam_handle_decode(kv->value, kv->len, &h, &err);
	else if (key.kind == KIND_NODE)
		r = node_decode(kv->key, kv->value, kv->len, &node, &err);
	else
		r = wep_decode(kv->key, kv->value, kv->len, &w, &err);
	if (r < 0) {
		ctl_warn("%s cannot be read, and may have an address: %s", kv->key, err.text);
		return 1;
	}
	for (size_t i = 0; w && i < w->networks.n; i++)
		n += hold(kv->key, &w->networks.v[i].addr, cidr);
	if (node)
		node_tunnels(node, tunnels);
	for (size_t i = 0; node && i < NODE_N_TUNNELS; i++)
		n += hold(kv->key, tunnels[i], cidr);
	for (size_t i = 0; h && i < h->blocks.n; i++) {
		if (!prefix_equal(&h->blocks.v[i].cidr, cidr))
			continue;
		ctl_warn("handle %s has %u of its addresses", kv->key + strlen(IPAM_KEY_HANDLES),
			h->blocks.v[i].count);
		n++;
	}
	return n;
}

/* -EBUSY: something has an address of the block. */
static int check_unused(struct ctl *c, const struct prefix *cidr, bool force)
{
	const char *const roots[] = {kind_info(KIND_WORKLOADENDPOINT)->root,
		kind_info(KIND_NODE)->root, IPAM_KEY_HANDLES};
	unsigned n = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < array_size(roots) - force; i++) {
		struct store_list l = {0};

		r = ipam_list(c, roots[i], &l);
		for (size_t k = 0; r == 0 && k < l.n; k++)
			n += holds_of(&l.v[k], cidr);
		store_list_done(&l);
	}
	if (r == 0 && n > 0) {
		ctl_warn(
			"block %s stays: %u have addresses of it; delete these pods, or, of a node that "
			"is no more, their workloadendpoints, and where none of a handle's containers "
			"runs any more, say --force",
			prefix_str(cidr), n);
		r = -EBUSY;
	}
	return r;
}

static int drop_block(struct ctl *c, const struct prefix *cidr, bool force)
{
	auto_(ipam_block) struct ipam_block *b = NULL;
	struct store_kv kv = {0};
	struct err err = ERR_INIT;
	char key[IPAM_KEY_SIZE];
	int r = store_get_wait(c->st, ipam_key_block(cidr, key), 0, &kv, &err);

	if (r == 0 && ipam_block_decode(kv.value, kv.len, &b, NULL) == 0)
		r = err_set(&err, -EINVAL, "it can be read, and nothing is to be mended");
	if (r < 0) {
		err_wrap(&err, r, "block %s", prefix_str(cidr));
		ctl_fail(&err);
	}
	if (r == 0)
		r = check_unused(c, cidr, force);
	if (r == 0) {
		r = store_delete_wait(c->st, key, kv.rev, NULL, 0, &err);
		if (r < 0)
			ctl_fail(&err);
	}
	store_kv_done(&kv);
	if (r < 0 || ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	printf("Successfully dropped block %s\n", prefix_str(cidr));
	return EXIT_SUCCESS;
}

static int ipam_drop(struct ctl *c, int argc, char **argv)
{
	static const struct option options[] = {{"force", no_argument, NULL, 'f'}, {0}};
	struct err err = ERR_INIT;
	struct prefix cidr;
	bool force = false;
	int opt, r;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'f')
			return verb_misused("ipam drop");
		force = true;
	}
	if (argc - optind != 1) {
		ctl_warn("ipam drop: want the CIDR of one block");
		return verb_misused("ipam drop");
	}
	r = prefix_parse_masked(argv[optind], &cidr, &err);
	if (r < 0) {
		err_wrap(&err, r, "ipam drop");
		return ctl_fail(&err);
	}
	return ctl_store_to_write(c, false) ? drop_block(c, &cidr, force) : EXIT_FAILURE;
}

int verb_ipam(struct ctl *c, int argc, char **argv)
{
	static const struct verb table[] = {
		{"show", ipam_show, "[--show-blocks | --ip A | ...]", "addresses in use",
			"      --show-blocks     each pool's blocks, too\n"
			"      --ip ADDRESS      whose this address is\n"
			"      --show-borrowed   addresses that nodes have of other nodes' blocks\n"
			"      --show-configuration  what ipam configure sets\n"
			"  -o, --output json     pools and blocks as JSON, with exact numbers\n"},
		{"check", ipam_check, "[-o FILE] [--repair]",
			"whether the records of addresses agree",
			"      --show-all-ips    each address that is looked at\n"
			"      --show-problem-ips  each address that is wrong\n"
			"  -o, --output FILE     the report, in calicoctl's JSON: for ipam release --from-report\n"
			"      --repair          mend what can be mended without harm\n"
			"      --quarantine S    of what is still so after this time, in seconds [60]\n"
			"      --force           free what is doubtful, too\n"
			"\nCompares blocks, handles and affinities with each other, and with endpoints' and tunnels'\n"
			"addresses, and says of each that does not agree what it means and what to do. It takes no\n"
			"lock: what does not agree is looked at again a second later, when what was being written is\n"
			"there. Addresses in cool-down, kept for a virtual machine, or held ahead by a node that exists\n"
			"(handle margay-reserve-NODE) are no leaks.\n"
			"\n--repair frees addresses, counts handles anew, and deletes handles without an address and\n"
			"affinities for blocks that are not the node's: what both looks have found in the same\n"
			"revision, and each only if it is still that when it is written. It may be stopped, and done\n"
			"twice. An address is doubtful where another plugin may use it unseen, as what margay-ipam\n"
			"gave under bridge (type: margayIpam), or where its pod may be starting; --force alone frees it.\n"
			"\nThe exit status is 0 where everything agrees, or was mended; 2 where problems are left;\n"
			"1 where it could not be done.\n"},
		{"release", ipam_release, "--ip A | --from-report FILE...", "give addresses back",
			"      --ip ADDRESS      this one\n"
			"      --from-report FILE  what no report of ipam check -o knows a user of; of several reports\n"
			"                        (the option may be repeated), what is in each. Handles, too\n"
			"      --force           though the datastore is not locked, or the report is another version's\n"
			"\nWho has the address keeps it: this is for what was left over. Of a report, an address goes\n"
			"if it is still the same allocation, a doubtful one, too; ipam check --repair needs neither lock\n"
			"nor report.\n"},
		{"configure", ipam_configure, "--OPTION VALUE...", "what IPAM goes by",
			"      --strictaffinity BOOL        no node takes addresses of another's blocks\n"
			"      --auto-allocate-blocks BOOL  nodes take new blocks by themselves\n"
			"      --max-blocks-per-host N      at most; 0: 20. Wants strict affinity\n"
			"      --kubevirt-ip-persistence Enabled|Disabled\n"
			"      --ip-cooldown-seconds N      before an address is given again, 0 to 1200\n"
			"\nKubernetes has it as the resource IPAMConfiguration default; elsewhere that resource has\n"
			"no effect on addresses, as in Calico.\n"},
		{"split", ipam_split, "N --cidr CIDR | --name POOL", "make N pools of one",
			"      --cidr CIDR       of this pool\n"
			"      --name POOL       called so\n"
			"\nN is a power of two. The pools are called split-POOL-0 and so on, and are otherwise as it was;\n"
			"blocks and addresses in use stay. The datastore has to be locked meanwhile (margayctl\n"
			"datastore lock). One that was interrupted goes on when it is started again.\n"},
		{"claim", ipam_claim, "CIDR --node NAME", "give the blocks of CIDR to a node",
			"      --node NAME       the node\n"
			"\nCIDR lies in a pool that is enabled, and is one of its blocks or several. A block\n"
			"of another node's is left to it.\n"},
		{"drop", ipam_drop, "CIDR [--force]", "delete a block that cannot be read",
			"      --force           whatever handles say\n"
			"\nThe addresses of such a block stay with who has them, and nobody is given another.\n"
			"It goes when no endpoint and no node's tunnel has one of them, and no handle: delete\n"
			"those pods, they get others elsewhere, or, of a node that is no more, margayctl\n"
			"delete workloadendpoint NAME -n NAMESPACE, and then the node. Their handles remain, as what they count\n"
			"cannot be given back before; when none of their containers runs any more, --force.\n"},
		{0},
	};

	return verb_dispatch(c, table, "margayctl ipam", argc - 1, argv + 1);
}
