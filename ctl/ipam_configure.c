/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * margayctl ipam configure: what IPAM goes by. In etcd and SQLite that is a key of its own, which the resource
 * IPAMConfiguration does not change; in Kubernetes it is that resource.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/parse.h"
#include "ctl/ctl.h"
#include "ctl/ipam.h"
#include "model/ipam.h"
#include "store/store.h"

#define TRIES 20
#define COOLDOWN_MAX 1200

/* What is asked for; each with whether it is. */
struct changes {
	bool has_strict, has_auto, has_max, has_persistence, has_cooldown;
	struct ipam_config to;
};

static int parse_persistence(const char *s, bool *ret_disabled, struct err *err)
{
	*ret_disabled = strcmp(s, "Disabled") == 0;
	if (*ret_disabled || strcmp(s, "Enabled") == 0)
		return 0;
	return err_set(err, -EINVAL, "\"%s\": want Enabled or Disabled", s);
}

static int parse_change(struct changes *ch, int opt, struct err *err)
{
	switch (opt) {
	case 's':
		ch->has_strict = true;
		return parse_bool(optarg, &ch->to.strict_affinity, err);
	case 'a':
		ch->has_auto = true;
		return parse_bool(optarg, &ch->to.auto_allocate_blocks, err);
	case 'm':
		ch->has_max = true;
		return parse_u32(optarg, 0, INT32_MAX, &ch->to.max_blocks_per_host, err);
	case 'k':
		ch->has_persistence = true;
		return parse_persistence(optarg, &ch->to.vm_persistence_disabled, err);
	default:
		ch->has_cooldown = true;
		return parse_u32(optarg, 0, COOLDOWN_MAX, &ch->to.cooldown_s, err);
	}
}

static bool parse_options(int argc, char **argv, struct changes *ch)
{
	static const struct option options[] = {
		{"strictaffinity", required_argument, NULL, 's'},
		{"auto-allocate-blocks", required_argument, NULL, 'a'},
		{"max-blocks-per-host", required_argument, NULL, 'm'},
		{"kubevirt-ip-persistence", required_argument, NULL, 'k'},
		{"ip-cooldown-seconds", required_argument, NULL, 'c'},
		{0},
	};
	struct err err = ERR_INIT;
	int opt, i;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", options, &i)) != -1) {
		if (opt == '?')
			return false;
		if (parse_change(ch, opt, &err) < 0) {
			err_wrap(&err, -EINVAL, "ipam configure: --%s", options[i].name);
			ctl_fail(&err);
			return false;
		}
	}
	if (optind < argc)
		ctl_warn("ipam configure: \"%s\": no argument is wanted", argv[optind]);
	else if (!ch->has_strict && !ch->has_auto && !ch->has_max && !ch->has_persistence &&
		 !ch->has_cooldown)
		ctl_warn("ipam configure: want one of its options at least");
	else
		return true;
	return false;
}

static void change(struct ipam_config *c, const struct changes *ch)
{
	if (ch->has_strict)
		c->strict_affinity = ch->to.strict_affinity;
	if (ch->has_auto)
		c->auto_allocate_blocks = ch->to.auto_allocate_blocks;
	if (ch->has_max)
		c->max_blocks_per_host = ch->to.max_blocks_per_host;
	if (ch->has_persistence)
		c->vm_persistence_disabled = ch->to.vm_persistence_disabled;
	if (ch->has_cooldown)
		c->cooldown_s = ch->to.cooldown_s;
}

/* As Calico's SetIPAMConfig. */
static int validate(const struct ipam_config *c, struct err *err)
{
	if (!c->strict_affinity && !c->auto_allocate_blocks)
		return err_set(err, -EINVAL,
			"StrictAffinity and AutoAllocateBlocks would both be false: no node got a "
			"block, and every address were borrowed; set one of them to true");
	if (c->max_blocks_per_host > 0 && !c->strict_affinity)
		return err_set(err, -EINVAL,
			"MaxBlocksPerHost is %u, and StrictAffinity would be false: set it to true, or "
			"--max-blocks-per-host to 0",
			c->max_blocks_per_host);
	return 0;
}

/* ESTALE, EEXIST, ENOENT: another writer was faster. */
static int set_once(struct store *st, const struct changes *ch, struct err *err)
{
	struct ipam_config config = IPAM_CONFIG_DEFAULT;
	struct store_kv kv = {0};
	int r = store_get_wait(st, IPAM_KEY_CONFIG, 0, &kv, err);
	int64_t rev = r == 0 ? kv.rev : 0;

	if (r == 0) {
		r = ipam_config_decode(kv.value, kv.len, &config, err);
		store_kv_done(&kv);
	} else if (r == -ENOENT) {
		r = 0;
	}
	if (r < 0)
		return r;
	change(&config, ch);
	r = validate(&config, err);
	if (r < 0)
		return r;
	auto_free char *text = ipam_config_encode(&config);

	return rev == 0 ? store_create_wait(st, IPAM_KEY_CONFIG, text, 0, NULL, err)
			: store_update_wait(st, IPAM_KEY_CONFIG, text, rev, 0, NULL, err);
}

static void tell(const struct changes *ch)
{
	if (ch->has_strict)
		printf("Successfully set StrictAffinity to: %s\n",
			ch->to.strict_affinity ? "true" : "false");
	if (ch->has_auto)
		printf("Successfully set AutoAllocateBlocks to: %s\n",
			ch->to.auto_allocate_blocks ? "true" : "false");
	if (ch->has_max)
		printf("Successfully set MaxBlocksPerHost to: %u\n", ch->to.max_blocks_per_host);
	if (ch->has_persistence)
		printf("Successfully set KubeVirtVMAddressPersistence to: %s\n",
			ch->to.vm_persistence_disabled ? "Disabled" : "Enabled");
	if (ch->has_cooldown)
		printf("Successfully set IPCooldownSeconds to: %u\n", ch->to.cooldown_s);
}

int ipam_configure(struct ctl *c, int argc, char **argv)
{
	struct changes ch = {0};
	struct err err = ERR_INIT;
	int r = -ESTALE;

	if (!parse_options(argc, argv, &ch))
		return verb_misused("ipam configure");
	if (!ctl_store_to_write(c, false))
		return EXIT_FAILURE;
	for (int i = 0; i < TRIES && (r == -ESTALE || r == -EEXIST || r == -ENOENT); i++)
		r = set_once(c->st, &ch, &err);
	if (r < 0) {
		err_wrap(&err, r, "ipam configure");
		return ctl_fail(&err);
	}
	if (ctl_store_written(c) != EXIT_SUCCESS)
		return EXIT_FAILURE;
	tell(&ch);
	return EXIT_SUCCESS;
}
