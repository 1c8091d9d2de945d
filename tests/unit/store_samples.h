/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects as Calico's clients store them (tests/samples), on each datastore: what an independent client
 * stores is read and written back, and what we store it finds. NAME.json is the value in etcd, byte by
 * byte; NAME.v1.json and NAME.v3.json are the object in either group of the Kubernetes API.
 */
#pragma once

#include <check.h>

struct store;

struct samples_driver {
	const char *group; /* "v1", "v3"; NULL: values stand under keys, as in etcd */
	struct store *(*open)(void);
	/* The independent client: at is a key, or the path of an object; a path to put to is a list's. */
	void (*put)(const char *at, const char *text);
	char *(*get)(const char *at); /* the caller's */
	void (*del)(const char *at);
};

/* Adds a test case "samples" to s. */
void store_samples_add(Suite *s, const struct samples_driver *drivers, int n, void (*setup)(void),
	void (*teardown)(void));
