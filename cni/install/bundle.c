/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The libraries are those that the loader has found for this very process, so that a copy of them is
 * whole wherever they are kept.
 */
#include "cni/install/bundle.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "cni/install/hostdir.h"
#include "cni/install/place.h"
#include "cni/layout.h"
#include "svc/httpc.h"

#define SELF "/proc/self/exe"
#define DIGEST_LEN 16 /* of the name */

struct part {
	char *path, *name; /* name: below the bundle's directory */
	struct hostfile file;
};

struct bundle {
	VEC(struct part) parts;
	char *name;
};

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *path = info->dlpi_name, *slash = strrchr(path, '/');
	struct bundle *b = arg;
	struct part part = {0};

	(void)size;
	if (path[0] != '\0' && !slash) /* the kernel's vdso */
		return 0;
	if (path[0] == '\0')
		part.name = mem_strdup(LAYOUT_PROGRAM);
	else if (info->dlpi_addr == getauxval(AT_BASE))
		part.name = mem_strdup(LAYOUT_LOADER);
	else
		part.name = mem_printf(LAYOUT_LIB "/%s", slash + 1);
	part.path = mem_strdup(path[0] == '\0' ? SELF : path);
	vec_push(&b->parts, part);
	return 0;
}

/* Of the parts' names and bytes: the digest of their digests. */
static char *name_of(struct bundle *b)
{
	char hex[SHA256_HEX_SIZE];
	auto_strbuf sb = STRBUF_INIT;
	struct part *part;

	vec_for_each (&b->parts, part)
		strbuf_addf(&sb, "%s %s\n", hostfile_digest(&part->file), part->name);
	return mem_printf(LAYOUT_LINK ".%.*s", DIGEST_LEN, sha256_hex(strbuf_str(&sb), hex));
}

int bundle_collect(struct bundle **ret, struct err *err)
{
	struct bundle *b;
	struct part *part;
	int r = 0;

	if (getauxval(AT_BASE) == 0)
		return err_set(err, -EINVAL,
			"collect what " LAYOUT_PROGRAM " is made of: it runs through its loader, "
			"or is static: run one that is installed");
	if (!dlopen(HTTPC_LIBRARY, RTLD_NOW | RTLD_LOCAL))
		return err_set(err, -ENOENT, "%s: install libcurl4", dlerror());
	b = mem_new(struct bundle);
	dl_iterate_phdr(add_object, b);
	vec_for_each (&b->parts, part) {
		r = hostfile_open(part->path, &part->file, err);
		if (r < 0)
			break;
		part->file.mode = strchr(part->name, '/') ? 0644 : 0755;
	}
	if (r < 0) {
		bundle_free(b);
		return r;
	}
	b->name = name_of(b);
	*ret = b;
	return 0;
}

void bundle_free(struct bundle *b)
{
	struct part *part;

	if (!b)
		return;
	vec_for_each (&b->parts, part) {
		hostfile_close(&part->file);
		free(part->path);
		free(part->name);
	}
	vec_done(&b->parts);
	free(b->name);
	free(b);
}

const char *bundle_name(const struct bundle *b)
{
	return b->name;
}

void bundle_want(const struct bundle *b, struct place *p)
{
	const struct hostfile link = {
		.kind = HOSTFILE_LINK, .bytes = b->name, .n = strlen(b->name)};
	const struct part *part;

	vec_for_each (&b->parts, part) {
		auto_free char *name = mem_printf("%s/%s", b->name, part->name);

		place_want(p, name, &part->file);
	}
	place_want(p, LAYOUT_LINK, &link);
}
