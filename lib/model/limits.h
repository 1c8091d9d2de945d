/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bounds on what comes from outside. Everything that is sized by a stored object or by a file of the
 * user's is held to these before memory is taken for it.
 */
#pragma once

#define MODEL_VALUE_MAX (1536 * 1024) /* bytes of one object's JSON: etcd's own limit */
#define MODEL_DEPTH_MAX 64	      /* nesting of JSON and YAML */
#define MODEL_NAME_MAX 253	      /* a name, without the NUL */
#define MODEL_NAMESPACE_MAX 63
#define MODEL_SELECTOR_MAX 8192 /* bytes of one selector's text */
#define MODEL_SELECTOR_TERMS 512
#define MODEL_LIST_MAX 10000 /* entries of one list in an object: ports, addresses, peers */
