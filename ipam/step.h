/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What drives a request sees of it: the next store operation out, its outcome in. */
#pragma once

#include "store/store.h"

struct err;
struct ipam_request;

/*
 * 1: *ret_req is the operation to do next, its strings borrowed until ipam_request_feed(). 0: the
 * request is done. Negative: it has failed, and whatever it had taken is given back.
 */
int ipam_request_step(struct ipam_request *rq, struct store_req *ret_req, struct err *err);

/*
 * The outcome of that operation; a list may come in several parts. Returns 0, or the store's error
 * when it is one that ends the request: away, refused, out of time. An assignment has one more try
 * then to give back what it has taken, and a release by address to count off what it may have freed.
 */
int ipam_request_feed(struct ipam_request *rq, const struct store_res *res, struct err *err);
