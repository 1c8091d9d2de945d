/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of confd is pure and has no golden file, its secrets and its commands. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "confd/bgp_view.h"
#include "confd/command.h"
#include "confd/dns_view.h"
#include "confd/secrets.h"
#include "confd/templates.h"
#include "model/endpoints.h"
#include "model/service.h"
#include "svc/loop.h"
#include "unit/test_dir.h"

/* As Calico's own tests have them. */
START_TEST(router_ids_of_names)
{
	static const struct {
		const char *name, *id;
	} cases[] = {{"kube-master", "25.79.212.8"}, {"node1", "202.18.243.27"},
		{"nodeTest", "109.174.215.226"}, {"Testrobin123", "207.94.5.27"}};
	struct ip id = bgp_router_id_of_name(cases[_i].name);

	ck_assert_str_eq(ip_str(&id), cases[_i].id);
}
END_TEST

START_TEST(router_ids_that_may_be)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(bgp_router_id_check("", &err), 0);
	ck_assert_int_eq(bgp_router_id_check("hash", &err), 0);
	ck_assert_int_eq(bgp_router_id_check("10.0.0.1", &err), 0);
	ck_assert_int_eq(bgp_router_id_check("0.0.0.0", &err), -EINVAL);
	ck_assert_int_eq(bgp_router_id_check("fd00::1", &err), -EINVAL);
	ck_assert_int_eq(bgp_router_id_check("Hash", &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err_text(&err), "\"Hash\": want an IPv4 address"));
}
END_TEST

START_TEST(templates_lie_beside_the_program)
{
	static const struct {
		const char *program, *templates;
	} cases[] = {{"/usr/bin/margay-confd", "/usr/share/margay/templates"},
		{"/bin/margay-confd", "/share/margay/templates"},
		{"/margay-confd", "/share/margay/templates"}};
	auto_free char *path = templates_beside(cases[_i].program);

	ck_assert_str_eq(path, cases[_i].templates);
}
END_TEST

START_TEST(domains_that_may_be)
{
	char longest[250] = "";
	struct err err = ERR_INIT;

	for (size_t i = 0; i < 241; i++)
		longest[i] = i % 64 == 63 ? '.' : 'a';
	ck_assert_int_eq(dns_domain_check("cluster.local", &err), 0);
	ck_assert_int_eq(dns_domain_check(longest, &err), 0);
	/* "dns-version." stands before it. */
	strcat(longest, "a");
	ck_assert_int_eq(dns_domain_check(longest, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err_text(&err), "at most 241 characters"));
	ck_assert_int_eq(dns_domain_check("cluster.local.", &err), -EINVAL);
	ck_assert_int_eq(dns_domain_check("", &err), -EINVAL);
}
END_TEST

static struct service *decode_service(const char *text)
{
	struct service *s = NULL;
	struct err err = ERR_INIT;

	ck_assert_msg(
		service_decode(NULL, text, strlen(text), &s, &err) == 0, "%s", err_text(&err));
	return s;
}

START_TEST(what_dns_shows_of_a_service)
{
	static const char text[] =
		"{'kind':'Service','metadata':{'name':'s','namespace':'ns','labels':{}},'spec':{"
		"'type':'NodePort','clusterIPs':['10.96.0.1'],'externalName':'example.com',"
		"'sessionAffinity':'None','publishNotReadyAddresses':false,"
		"'selector':{'app':'web'},'ports':[{'name':'http','port':80,'protocol':'TCP',"
		"'targetPort':8080,'nodePort':30001}]}}";
	static const struct {
		const char *from, *to;
		bool same;
	} cases[] = {
		{"'labels':{}", "'labels':{'a':'b'}", true},
		{"30001", "30002", true},
		{"'None'", "'ClientIP'", true},
		{"['10.96.0.1'", "['10.96.0.2'", false},
		{"['10.96.0.1'", "['10.96.0.1','fd00::1'", false},
		{"['10.96.0.1'", "['None'", false},
		{"'http'", "'web'", false},
		{"80,", "81,", false},
		{"'TCP'", "'UDP'", false},
		{"8080", "8081", false},
		{"8080", "'http'", false},
		{"}]}}", "},{'name':'b','port':82}]}}", false},
		{"'app':'web'", "'app':'db'", false},
		{"'app':'web'", "'app':'web','a':'b'", false},
		{"false", "true", false},
		{"'NodePort'", "'ExternalName'", false},
		{"example.com", "example.org", false},
	};
	const char *at = strstr(text, cases[_i].from);
	auto_free char *before = mem_strdup(text);
	auto_free char *after = mem_printf(
		"%.*s%s%s", (int)(at - text), text, cases[_i].to, at + strlen(cases[_i].from));
	auto_(service) struct service *a = NULL;
	auto_(service) struct service *b = NULL;

	for (char *s = before; (s = strchr(s, '\'')) != NULL;)
		*s = '"';
	for (char *s = after; (s = strchr(s, '\'')) != NULL;)
		*s = '"';
	a = decode_service(before);
	b = decode_service(after);
	ck_assert(dns_view_is_same(a, a));
	ck_assert_msg(dns_view_is_same(a, b) == cases[_i].same, "%s", cases[_i].to);
	ck_assert(dns_view_is_same(b, a) == cases[_i].same);
	ck_assert(!dns_view_is_same(a, NULL));
	ck_assert(!dns_view_is_same(NULL, a));
}
END_TEST

static size_t n_values;

static void *count_value(size_t size)
{
	n_values++;
	return malloc(size);
}

static void ignore(void *arg, const char *ns, const char *name)
{
	(void)arg;
	(void)ns;
	(void)name;
}

/* A big cluster's would be some 20 MB. */
START_TEST(no_value_for_each_record)
{
	auto_(endpoints) struct endpoints *e = endpoints_new(false, ignore, NULL);
	const struct prefix reverse = {ip_from_v4(0x0a600000), 16};
	struct problems problems = {0};
	struct service *services[1000];
	json_t *view;

	for (size_t i = 0; i < array_size(services); i++) {
		auto_free char *text = mem_printf(
			"{\"kind\":\"Service\",\"metadata\":{\"name\":\"s-%zu\",\"namespace\":\"ns\"},"
			"\"spec\":{\"clusterIPs\":[\"10.96.%zu.%zu\"],\"ports\":[{\"name\":\"http\","
			"\"port\":80}]}}",
			i, i / 250, i % 250);

		services[i] = decode_service(text);
		endpoints_on_service(e, NULL, services[i]);
	}
	json_set_alloc_funcs(count_value, free);
	view = dns_view(&(struct dns_view_input){.domain = "cluster.local",
				.endpoints = e,
				.reverse = &reverse,
				.n_reverse = 1},
		&problems);
	json_set_alloc_funcs(malloc, free);
	ck_assert_uint_lt(n_values, 200);
	json_decref(view);
	problems_done(&problems);
	for (size_t i = 0; i < array_size(services); i++)
		service_free(services[i]);
}
END_TEST

/* ---- secrets ---- */

static struct event_base *base;
static struct secrets *secrets;
static const char *dir;
static unsigned n_changes;

static void on_change(void *arg)
{
	(void)arg;
	n_changes++;
}

static void sh(const char *command)
{
	auto_free char *line = mem_printf("cd %s && %s", dir, command);

	ck_assert_int_eq(system(line), 0);
}

/* What is told, after at least one change; then nothing more is. */
static const char *told(const char *command)
{
	int64_t until = clock_mono_ms() + 2000;

	n_changes = 0;
	sh(command);
	while (n_changes == 0 && clock_mono_ms() < until) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(500);
	}
	ck_assert_msg(n_changes > 0, "%s: not told", command);
	return secrets_get(secrets, "bgp", "key");
}

START_TEST(secrets_are_told)
{
	auto_free char *path = NULL;

	dir = test_dir();
	path = mem_printf("%s/a/secrets/", dir);
	base = loop_base_new();
	secrets = secrets_new(base, path, on_change, NULL);
	ck_assert_ptr_null(secrets_get(secrets, "bgp", "key"));
	ck_assert_ptr_null(told("mkdir a"));
	ck_assert_ptr_null(told("mkdir a/secrets"));
	ck_assert_ptr_null(told("mkdir a/secrets/bgp"));
	ck_assert_str_eq(told("echo 1 >a/secrets/bgp/key"), "1");
	ck_assert_str_eq(told("echo 2 >a/secrets/bgp/key"), "2");
	ck_assert_str_eq(told("mv a/secrets/bgp a/secrets/old; mkdir a/secrets/..2; "
			      "echo 3 >a/secrets/..2/key; ln -s ..2 a/secrets/bgp"),
		"3");
	/* What Kubernetes renames is in the directory of the name. */
	ck_assert_str_eq(told("cd a/secrets/bgp/ && mkdir ..4 && echo 4 >..4/key && rm key && "
			      "ln -s ..4 ..data && ln -s ..data/key key"),
		"4");
	(void)told("mkdir a/secrets/bgp/..5 && echo 5 >a/secrets/bgp/..5/key");
	ck_assert_str_eq(told("cd a/secrets/bgp/ && ln -s ..5 ..new && mv -T ..new ..data"), "5");
	/* All at once, and again from nothing. */
	ck_assert_ptr_null(told("rm -r a"));
	ck_assert_str_eq(told("mkdir -p a/secrets/bgp && echo 6 >a/secrets/bgp/key"), "6");
	event_base_loop(base, EVLOOP_NONBLOCK);
	n_changes = 0;
	ck_assert_str_eq(secrets_get(secrets, "bgp", "key"), "6");
	ck_assert_ptr_null(secrets_get(secrets, "..", "key"));
	ck_assert_ptr_null(secrets_get(secrets, "bgp", NULL));
	for (int i = 0; i < 20; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	ck_assert_uint_eq(n_changes, 0);
	secrets_free(secrets);
	event_base_free(base);
}
END_TEST

/* ---- commands ---- */

static struct ended {
	bool is;
	int r;
	char text[ERR_TEXT_MAX];
} ended;

static void on_ended(void *arg, int r, const struct err *e)
{
	(void)arg;
	ended.is = true;
	ended.r = r;
	snprintf(ended.text, sizeof(ended.text), "%s", e->text);
}

static struct command *sh_start(const char *text, int64_t timeout_ms)
{
	const char *const argv[] = {"sh", "-c", text, NULL};
	struct command *c = NULL;
	struct err err = ERR_INIT;

	ended = (struct ended){0};
	ck_assert_int_eq(command_start(base, argv, timeout_ms, on_ended, NULL, &c, &err), 0);
	return c;
}

static void wait_end(void)
{
	int64_t until = clock_mono_ms() + 5000;

	while (!ended.is && clock_mono_ms() < until) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(500);
	}
	ck_assert(ended.is);
}

START_TEST(commands)
{
	/* Of a file in memory, too. */
	struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};

	base = loop_base_new();
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	sh_start("echo none", 5000);
	wait_end();
	ck_assert_int_eq(ended.r, 0);
	sh_start("printf 'line one\nline two'; exit 7", 5000);
	wait_end();
	ck_assert_int_eq(ended.r, -EINVAL);
	ck_assert_str_eq(ended.text, "sh failed with 7: line one line two");
	/* Much output: its end is kept. */
	sh_start("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 3", 5000);
	wait_end();
	ck_assert_ptr_nonnull(strstr(ended.text, "sh failed with 3: xxx"));
	ck_assert_ptr_nonnull(strstr(ended.text, "x the end"));
	ck_assert_uint_lt(strlen(ended.text), 350);
	/* One that is left behind and writes holds up nobody. */
	sh_start("yes & exit 3", 5000);
	wait_end();
	ck_assert_ptr_nonnull(strstr(ended.text, "sh failed with 3"));
	/* What a daemon ignores is not ignored by what it starts. */
	signal(SIGHUP, SIG_IGN);
	sh_start("kill -HUP $$", 5000);
	wait_end();
	ck_assert_ptr_nonnull(strstr(ended.text, "ended by signal 1"));
	event_base_free(base);
}
END_TEST

/* Whether a process has the other end of this one's pipe for writing. */
static bool is_held(int fd)
{
	char c;

	return read(fd, &c, 1) < 0 && errno == EAGAIN;
}

START_TEST(a_command_is_killed_with_what_it_has_started)
{
	struct command *c;
	int fds[2], until = 2000;

	base = loop_base_new();
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFD, FD_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	c = sh_start("sleep 1000 & sleep 1000", _i ? 5000 : 300);
	close(fds[1]);
	ck_assert(is_held(fds[0]));
	if (_i) {
		command_cancel(c);
	} else {
		wait_end();
		ck_assert_int_eq(ended.r, -ETIMEDOUT);
	}
	while (is_held(fds[0]) && until-- > 0)
		usleep(1000);
	ck_assert(!is_held(fds[0]));
	close(fds[0]);
	event_base_free(base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("confd");
	TCase *tc = tcase_create("confd");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(tc, router_ids_of_names, 0, 4);
	tcase_add_test(tc, router_ids_that_may_be);
	tcase_add_loop_test(tc, templates_lie_beside_the_program, 0, 3);
	tcase_add_test(tc, domains_that_may_be);
	tcase_add_loop_test(tc, what_dns_shows_of_a_service, 0, 17);
	tcase_add_test(tc, no_value_for_each_record);
	tcase_add_test(tc, secrets_are_told);
	tcase_add_test(tc, commands);
	tcase_add_loop_test(tc, a_command_is_killed_with_what_it_has_started, 0, 2);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
