/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parameters that say which datastore a program opens, declared once. */
#pragma once

struct params;
struct store_conf;

/* After params_load() conf is filled in; its strings are the params'. */
void store_params_add(struct params *ps, struct store_conf *conf);
