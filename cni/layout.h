/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where `margay-cni install` places what it places, for the client, which finds it from the directory
 * that it is in itself, DIR (of /proc/self/exe), on a host that has none of the libraries:
 *
 *	DIR/margay, DIR/margay-ipam		the client
 *	DIR/margay.d -> margay.d.DIGEST		which release is in force
 *	DIR/margay.d.DIGEST/margay-cni		a release is never changed, another one has another name
 *	DIR/margay.d.DIGEST/ld.so		its loader
 *	DIR/margay.d.DIGEST/lib/		every library of its own and of libcurl
 *
 * So the client reads the link once, RELEASE = DIR + "/" + readlink(DIR "/" LAYOUT_LINK), and executes
 *
 *	RELEASE/ld.so --inhibit-cache --library-path RELEASE/lib RELEASE/margay-cni ARGUMENT...
 *
 * whose argv[0] is RELEASE/margay-cni then, and whose /proc/self/exe is the loader. Through the link
 * itself, an upgrade at that moment would mix the files of two releases; the release before the one in
 * force stays, for those who have just read the link. Where there is no link (ENOENT) the client lies
 * beside margay-cni, as `cmake --install` puts it, and executes DIR/margay-cni.
 */
#pragma once

#define LAYOUT_LINK "margay.d"
#define LAYOUT_PROGRAM "margay-cni"
#define LAYOUT_LOADER "ld.so"
#define LAYOUT_LIB "lib"
