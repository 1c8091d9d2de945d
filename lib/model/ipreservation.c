/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model/ipreservation.h"

#include <stdlib.h>

#include "model/read.h"

void ipreservation_free(struct ipreservation *r)
{
	if (!r)
		return;
	meta_done(&r->meta);
	vec_done(&r->cidrs);
	free(r);
}

int ipreservation_decode(
	const char *key, const char *text, size_t len, struct ipreservation **ret, struct err *err)
{
	auto_(ipreservation) struct ipreservation *r = mem_new(struct ipreservation);
	struct read rd;
	auto_(json) json_t *j =
		read_resource(&rd, KIND_IPRESERVATION, key, text, len, &r->meta, err);
	json_t *spec = read_object(&rd, j, "spec"), *list, *e;
	size_t i;

	read_at(&rd, "spec");
	list = read_array(&rd, spec, "reservedCIDRs");
	json_array_foreach (list, i, e) {
		struct prefix p;

		if (!read_element_prefix(&rd, e, "reservedCIDRs", &p))
			break;
		p = prefix_masked(&p);
		vec_push(&r->cidrs, p);
	}
	if (rd.r < 0)
		return rd.r;
	*ret = take_ptr(r);
	return 0;
}
