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
#include "store/servers.h"

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

/* ---- which server is next ---- */

/* Those that a request goes to, as digits. */
static const char *turns(const struct servers *s, int64_t now_ms)
{
	static char text[SERVERS_MAX + 1];
	struct servers_turn t = {0};
	size_t n = 0;

	while (servers_next(s, &t, now_ms)) {
		ck_assert_int_eq(t.heard_ms, now_ms);
		text[n++] = (char)('0' + t.at);
		ck_assert_int_eq(servers_is_last(s, &t), n == s->n);
	}
	text[n] = '\0';
	return text;
}

START_TEST(each_server_is_asked_once)
{
	ck_assert_str_eq(turns(&(struct servers){.n = 0}, 1), "");
	ck_assert_str_eq(turns(&(struct servers){.n = 1}, 1), "0");
	ck_assert_str_eq(turns(&(struct servers){.n = 3, .first = 2}, 1), "201");
	ck_assert_str_eq(turns(&(struct servers){.n = SERVERS_MAX}, 1), "0123456789:;<=>?");
}
END_TEST

START_TEST(who_failed_comes_last_for_a_while)
{
	struct servers s = {.n = 3, .first = 1};
	struct servers_turn zero = {.at = 0}, one = {.at = 1}, two = {.at = 2};

	servers_suspect(&s, &one, 1000);
	ck_assert_str_eq(turns(&s, 1001), "201");
	servers_suspect(&s, &two, 2000);
	ck_assert_str_eq(turns(&s, 2001), "012");
	servers_suspect(&s, &zero, 3000); /* all have: the first that did */
	ck_assert_str_eq(turns(&s, 3001), "120");
	servers_suspect(&s, &one, 4000);
	ck_assert_str_eq(turns(&s, 4001), "201");
	servers_trust(&s, &zero);
	ck_assert_str_eq(turns(&s, 4001), "021");
	ck_assert_str_eq(turns(&s, 4000 + SERVERS_BAD_MS - 1), "201");
	ck_assert_str_eq(turns(&s, 4000 + SERVERS_BAD_MS), "120");
}
END_TEST

START_TEST(who_is_left_after_a_long_silence_has_failed)
{
	struct servers s = {.n = 2};
	struct servers_turn t = {0};

	ck_assert(servers_next(&s, &t, 1000));
	servers_leave(&s, &t, 1000 + SERVERS_ATTEMPT_MS);
	ck_assert_str_eq(turns(&s, 1000 + SERVERS_ATTEMPT_MS), "01");
	t.heard_ms++;
	servers_leave(&s, &t, 1001 + SERVERS_ATTEMPT_MS);
	ck_assert_str_eq(turns(&s, 1000 + SERVERS_ATTEMPT_MS), "01");
	servers_leave(&s, &t, 1002 + SERVERS_ATTEMPT_MS);
	ck_assert_str_eq(turns(&s, 1000 + SERVERS_ATTEMPT_MS), "10");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("driver");
	TCase *tc = tcase_create("driver");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_write_is_of_the_object_that_it_names, 0, array_size(objects));
	tcase_add_test(tc, each_server_is_asked_once);
	tcase_add_test(tc, who_failed_comes_last_for_a_while);
	tcase_add_test(tc, who_is_left_after_a_long_silence_has_failed);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
