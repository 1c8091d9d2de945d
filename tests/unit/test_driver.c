/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the datastore drivers have in common. What they make of it is told in test_etcd.c and test_kube_api.c.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "store/driver.h"

/* ---- what is there before a write ---- */

static const struct {
	int64_t rev;
	const char *uid, *value;
	const char *text; /* NULL = it is */
} objects[] = {
	{7, NULL, NULL, NULL},
	{6, NULL, NULL, "/p/a: was changed meanwhile: it has revision 7, expected was 6"},
	{0, "u", "{\"metadata\":{\"uid\":\"u\"}}", NULL},
	{7, "u", "{\"metadata\":{\"uid\":\"u\"}}", NULL},
	{6, "u", "{\"metadata\":{\"uid\":\"u\"}}",
		"/p/a: was changed meanwhile: it has revision 7, expected was 6"},
	{0, "u", "{\"metadata\":{\"uid\":\"v\"}}",
		"/p/a: is another object of the same name: its uid is not u"},
	{0, "u", "{\"metadata\":{}}", "/p/a: is another object of the same name: its uid is not u"},
	{0, "u", "\"u\"", "/p/a: is another object of the same name: its uid is not u"},
	{0, "u", NULL, "/p/a: is another object of the same name: its uid is not u"},
};

START_TEST(a_write_is_of_the_object_that_it_names)
{
	struct store_req req = {.verb = STORE_DELETE,
		.key = "/p/a",
		.rev = objects[_i].rev,
		.uid = objects[_i].uid};
	char *value = objects[_i].value ? mem_strdup(objects[_i].value) : NULL;
	struct store_kv kv = {.value = value, .len = value ? strlen(value) : 0, .rev = 7};
	struct err err = ERR_INIT;

	ck_assert_int_eq(store_check_before(&req, &kv, &err), objects[_i].text ? -ESTALE : 0);
	ck_assert_str_eq(err.text, objects[_i].text ? objects[_i].text : "");
	free(value);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("driver");
	TCase *tc = tcase_create("driver");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_write_is_of_the_object_that_it_names, 0, array_size(objects));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
