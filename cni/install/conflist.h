/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists of network configurations (*.conflist) as files: ours is made or filled in and checked, and
 * others' are told apart.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct cni_texts;
struct store_conf;

#define CONFLIST_MAX (1024 * 1024) /* bytes */

struct conflist_values {
	const struct store_conf *store; /* paths are the host's */
	const char *log_level;
	const char *nodename;	   /* for __KUBERNETES_NODE_NAME__ alone */
	const char *nodename_file; /* "": where it is by default */
	const char
		*net_dir; /* the host's, where calico-kubeconfig is, unless store names another */
	const char *root; /* what the host's paths are below here; "": this is the host */
	uint32_t mtu;	  /* 0: as felix writes it */
	bool portmap, bandwidth;
};

/* The configuration that Margay has where none is given. The caller's to free. */
char *conflist_make(const struct conflist_values *v);

/*
 * Puts values in place of Calico's __NAMES__, escaped as in a JSON string. EINVAL: there is no value for a
 * name. *ret is the caller's to free.
 */
int conflist_fill(const char *text, const struct conflist_values *v, char **ret, struct err *err);

/*
 * Whether a runtime and our plugin would take it: EINVAL. The plugin's part is read by the plugin's own code, its
 * datastore's too, which is not asked; what that leaves to a server, where the datastore is, has to be in v->store.
 * Programs that it names, those of addresses too, are added to ret, which is empty before, to cni_texts_done() in
 * any case.
 */
int conflist_check(const char *text, size_t len, const struct conflist_values *v,
	struct cni_texts *ret, struct err *err);

enum conflist_owner { CONFLIST_OTHER, CONFLIST_MARGAY, CONFLIST_CALICO, CONFLIST_FLANNEL };

/*
 * Whose it is, by its plugins, and where it cannot be read by the file's name. *ret_type is its first plugin,
 * NULL where it has none, the caller's to free.
 */
enum conflist_owner conflist_owner(const char *name, const char *text, size_t len, char **ret_type);

/* Whether a runtime reads a file of that name. */
bool conflist_is_read(const char *name);
