/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lib/svc: where a parameter's value is from, the loop's order, health, metrics, control socket. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "svc/common_params.h"
#include "svc/ctl_server.h"
#include "svc/health.h"
#include "svc/http.h"
#include "svc/loop.h"
#include "svc/metrics.h"
#include "svc/param.h"
#include "unit/test_dir.h"

static const char *dir;

static void make_dir(void)
{
	dir = test_dir();
	unsetenv("MARGAY_CONFIG");
}

/* ---- parameters ---- */

static struct {
	char *text, *cidrs, *ours;
	uint32_t mtu;
	bool flag;
	int64_t period;
	int mode;
} conf;

static const char *const modes[] = {"Always", "CrossSubnet", "Never", NULL};

static int check_cidrs(const char *value, struct err *err)
{
	if (!strchr(value, '/'))
		return err_set(err, -EINVAL, "\"%s\": want CIDRs", value);
	return 0;
}

static const struct param rows[] = {
	{.name = "T_TEXT", .type = PARAM_STRING, .str = &conf.text, .def = "a", .doc = "A text"},
	{.name = "T_CIDRS",
		.type = PARAM_STRING,
		.str = &conf.cidrs,
		.check = check_cidrs,
		.doc = "CIDRs; empty: none"},
	{.name = "T_MTU",
		.type = PARAM_U32,
		.u32 = &conf.mtu,
		.min = 68,
		.max = 65535,
		.def = "1440",
		.unit = "bytes",
		.doc = "The largest packet",
		.aliases = "FELIX_TMTU OLD_MTU"},
	{.name = "T_FLAG", .type = PARAM_BOOL, .flag = &conf.flag},
	{.name = "T_PERIOD",
		.type = PARAM_DURATION,
		.ms = &conf.period,
		.min = 100,
		.max = 60000,
		.def = "1.5s"},
	{.name = "T_MODE", .type = PARAM_ENUM, .choice = &conf.mode, .values = modes},
	{.name = "T_OURS",
		.type = PARAM_STRING,
		.str = &conf.ours,
		.def = "/run",
		.not_in_file = "want it elsewhere"},
};

/* args: by blanks; file: the text of a configuration file, NULL = none. Returns params_load's. */
static int load(struct params *ps, const char *file, const char *args, struct err *err)
{
	auto_free char *text = mem_strdup(args);
	auto_free char *path = mem_printf("%s/conf", dir);
	char *argv[16] = {(char *)(uintptr_t) "test"}, *rest = text, *arg;
	int argc = 1, r;

	*ps = (struct params){.program = "test"};
	params_add(ps, rows, array_size(rows));
	if (file) {
		ck_assert_int_ge(file_write_atomic(path, file, strlen(file), 0600, NULL), 0);
		setenv("MARGAY_CONFIG", path, 1);
	}
	while ((arg = strsep(&rest, " ")) != NULL)
		if (arg[0])
			argv[argc++] = arg;
	r = params_load(ps, &argc, argv, err);
	if (r == 0)
		ck_assert_int_eq(argc, 1);
	return r;
}

START_TEST(the_last_source_wins)
{
	struct params ps;
	struct err err = ERR_INIT;
	auto_free char *origin = mem_printf("%s/conf:3", dir);

	setenv("T_MTU", "", 1);
	setenv("OLD_MTU", "1400", 1);
	ck_assert_int_eq(load(&ps,
				 "# all\n\nt-text = from the file # why\nT_MTU=9000\nT_FLAG = yes\n"
				 "BIRD_X = 1\nT_PERIOD =\n",
				 "--t-mode never --t-flag=n", &err),
		0);
	ck_assert_str_eq(conf.text, "from the file");
	ck_assert_str_eq(params_origin(&ps, "T_TEXT"), origin);
	ck_assert_uint_eq(conf.mtu, 1400);
	ck_assert_str_eq(params_origin(&ps, "T_MTU"), "environment OLD_MTU");
	ck_assert_int_eq(conf.mode, 2);
	ck_assert_str_eq(params_origin(&ps, "T_MODE"), "option --t-mode");
	ck_assert(!conf.flag);
	ck_assert_int_eq(conf.period, 1500);
	ck_assert_str_eq(params_origin(&ps, "T_PERIOD"), "default");
	ck_assert(!params_is_set(&ps, "T_PERIOD"));
	ck_assert(params_is_set(&ps, "T_FLAG"));
	ck_assert_str_eq(conf.cidrs, "");
	params_done(&ps);
	ck_assert_ptr_null(conf.text);

	setenv("FELIX_TMTU", "1300", 1); /* an earlier alias wins, the name over both */
	ck_assert_int_eq(load(&ps, NULL, "--t-text x --t-text=y --t-flag", &err), 0);
	ck_assert_uint_eq(conf.mtu, 1300);
	ck_assert_str_eq(conf.text, "y");
	ck_assert(conf.flag);
	params_done(&ps);
	setenv("T_MTU", "1200", 1);
	ck_assert_int_eq(load(&ps, NULL, "", &err), 0);
	ck_assert_uint_eq(conf.mtu, 1200);
	params_done(&ps);
	ck_assert_int_eq(load(&ps, NULL, "--felix-tmtu 1100", &err), 0);
	ck_assert_uint_eq(conf.mtu, 1100);
	params_done(&ps);
	ck_assert_int_eq(load(&ps, NULL, "--t-flag true --t-mtu 1400", &err), 0);
	ck_assert(conf.flag && conf.mtu == 1400);
	params_done(&ps);
	ck_assert_int_eq(load(&ps, NULL, "--t-flag false", &err), 0);
	ck_assert(!conf.flag);
	params_done(&ps);
	ck_assert_int_eq(load(&ps, "T_OURS = /run", "", &err), 0);
	params_done(&ps);
	setenv("T_OURS", "/mine", 1);
	ck_assert_int_eq(load(&ps, "T_OURS = /x", "", &err), 0);
	ck_assert_str_eq(conf.ours, "/mine");
	params_done(&ps);
}
END_TEST

static const struct {
	const char *file, *args, *want;
} bad[] = {
	{NULL, "--t-mtu 67",
		"parameter T_MTU (option --t-mtu): \"67\": want a number from 68 to 65535"},
	{NULL, "--t-flag=maybe",
		"parameter T_FLAG (option --t-flag): \"maybe\": want true or false"},
	{"\nT_MTU = x", "", "parameter T_MTU (%s/conf:2): \"x\": want a number from 68 to 65535"},
	{NULL, "--t-mode sometimes",
		"parameter T_MODE (option --t-mode): \"sometimes\": want Always, CrossSubnet or "
		"Never"},
	{NULL, "--t-period 99ms",
		"parameter T_PERIOD (option --t-period): \"99ms\": want at least 100ms"},
	{NULL, "--t-period 61s",
		"parameter T_PERIOD (option --t-period): \"61s\": want at most 60000ms"},
	{NULL, "--t-cidrs=10.0.0.0",
		"parameter T_CIDRS (option --t-cidrs): \"10.0.0.0\": want CIDRs"},
	{"T_OURS = /x", "", "parameter T_OURS (%s/conf:1): want it elsewhere"},
	{NULL, "--t-mt 1500", "\"--t-mt\" is no option of test: --help lists them"},
	{NULL, "more", "\"more\" is no option of test: --help lists them"},
	{NULL, "--t-mtu", "option --t-mtu: want a value after it"},
	{"T_MTU: 1500\n", "", "%s/conf:1: want `name = value`"}, /* which may be a password */
	{NULL, "--config=/nowhere/margay.conf", NULL},
};

START_TEST(a_bad_value_is_one_clear_error)
{
	struct params ps;
	struct err err = ERR_INIT;
	auto_strbuf want = STRBUF_INIT;

	ck_assert_int_lt(load(&ps, bad[_i].file, bad[_i].args, &err), 0);
	for (const char *s = bad[_i].want ?: ""; *s; s++) {
		if (strncmp(s, "%s", 2) == 0)
			strbuf_add(&want, dir), s++;
		else
			strbuf_addc(&want, *s);
	}
	if (bad[_i].want)
		ck_assert_str_eq(err_text(&err), strbuf_str(&want));
	else
		ck_assert_ptr_nonnull(strstr(err_text(&err), "/nowhere/margay.conf"));
	params_done(&ps);
}
END_TEST

/* What params_load prints for args. */
static char *printed(const char *args)
{
	auto_free char *path = mem_printf("%s/out", dir);
	int saved = dup(STDOUT_FILENO),
	    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	struct err err = ERR_INIT;
	struct params ps;
	char *got;

	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	int r = load(&ps, "T_TEXT = t\nOTHER = 1\n", args, &err);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	ck_assert_int_eq(r, 1);
	params_done(&ps);
	ck_assert_int_eq(file_read(path, 100000, &got, NULL, NULL), 0);
	return got;
}

START_TEST(help_and_config_show_everything)
{
	auto_free char *help = printed("--help"), *config = printed("--print-config --t-mtu 1500");
	auto_free char *line = mem_printf("T_TEXT = t # %s/conf:1\n", dir);
	auto_free char *unused = mem_printf("# %s/conf:2: OTHER is no parameter of test\n", dir);
	auto_free char *version = printed("--version");

	ck_assert_ptr_nonnull(strstr(help, "Usage: test [--NAME VALUE]...\n"));
	ck_assert_ptr_nonnull(strstr(help,
		"  --t-mtu NUMBER (T_MTU)\n        The largest packet [68 to 65535; unit: bytes; "
		"default: 1440; also FELIX_TMTU, OLD_MTU]\n"));
	ck_assert_ptr_nonnull(strstr(help, "[Always|CrossSubnet|Never; default: Always]\n"));
	ck_assert_ptr_nonnull(strstr(help, "(T_FLAG)\n         [default: false]\n"));
	ck_assert_ptr_nonnull(strstr(help, "(T_OURS)\n         [default: /run; not in a file]\n"));
	ck_assert_ptr_nonnull(strstr(help, "(T_CIDRS)\n        CIDRs; empty: none\n"));
	ck_assert_ptr_nonnull(strstr(config, line));
	ck_assert_ptr_nonnull(strstr(config, "T_MTU = 1500 # option --t-mtu\n"));
	ck_assert_ptr_nonnull(strstr(config, "T_PERIOD = 1.5s # default\n"));
	ck_assert_ptr_nonnull(strstr(config, "T_FLAG = false # default\n"));
	ck_assert_ptr_nonnull(strstr(config, "T_MODE = Always # default\n"));
	ck_assert_ptr_nonnull(strstr(config, unused));
	ck_assert_str_eq(version, "test " MARGAY_VERSION "\n");
}
END_TEST

START_TEST(arguments_are_left_to_those_who_want_them)
{
	char words[][16] = {"ctl", "--t-mtu", "1500", "get", "-o", "yaml", "--t-flag", "pool",
		"--help", "--", "--t-mtu"};
	char *argv[array_size(words) + 1];
	int argc = (int)array_size(words);
	struct params ps = {.program = "ctl", .allow_args = true};
	static const char *const want[] = {"get", "-o", "yaml", "pool", "--help", "--", "--t-mtu"};

	for (size_t i = 0; i < array_size(words); i++)
		argv[i] = words[i];
	params_add(&ps, rows, array_size(rows));
	ck_assert_int_eq(params_load(&ps, &argc, argv, NULL), 0);
	ck_assert_int_eq(argc, 1 + (int)array_size(want));
	for (size_t i = 0; i < array_size(want); i++)
		ck_assert_str_eq(argv[i + 1], want[i]);
	ck_assert_ptr_null(argv[argc]);
	ck_assert_uint_eq(conf.mtu, 1500);
	ck_assert(conf.flag);
	params_done(&ps);
}
END_TEST

START_TEST(common_parameters)
{
	struct common_params c = {0}, d = {0}, e = {0};
	struct params ps = {.program = "felix"}, ps2 = {.program = "confd"},
		      ps3 = {.program = "cni"};
	struct err err = ERR_INIT;
	int argc = 1;
	char name[] = "x", *argv[] = {name, NULL};

	setenv("FELIX_HEALTHPORT", "9199", 1);
	setenv("FELIX_LOGSEVERITYSCREEN", "Warning", 1);
	setenv("NODENAME", "node-80", 1);
	common_params_add_daemon(&ps, &c, "FELIX", COMMON_HEALTH_PORT_FELIX);
	common_params_add_daemon(&ps2, &d, "CONFD", COMMON_HEALTH_PORT_CONFD);
	ck_assert_int_eq(params_load(&ps, &argc, argv, NULL), 0);
	ck_assert_int_eq(params_load(&ps2, &argc, argv, NULL), 0);
	ck_assert_uint_eq(c.health_port, 9199);
	ck_assert_uint_eq(d.health_port, 9098);
	ck_assert_str_eq(c.log_level, "Warning");
	ck_assert_str_eq(d.log_level, "info");
	ck_assert_str_eq(d.nodename, "node-80");
	ck_assert_str_eq(d.run_dir, "/run/margay");
	ck_assert(c.health_enabled && !c.metrics_enabled);
	params_done(&ps);
	params_done(&ps2);
	/* The CNI plugin would look for margay-cni serve elsewhere. */
	load(&ps, "MARGAY_RUN_DIR = /x", "", NULL);
	params_done(&ps);
	common_params_add_daemon(&ps2, &d, "CONFD", COMMON_HEALTH_PORT_CONFD);
	ck_assert_int_eq(params_load(&ps2, &argc, argv, NULL), 0);
	ck_assert_str_eq(d.run_dir, "/x");
	params_done(&ps2);
	common_params_add_daemon(&ps3, &e, "CNI", COMMON_HEALTH_PORT_CNI);
	ck_assert_int_eq(params_load(&ps3, &argc, argv, &err), -EINVAL);
	ck_assert_ptr_nonnull(
		strstr(err_text(&err), "/conf:1): want it in the environment of margay-cni"));
}
END_TEST

static char *nodename_with(const char *set, const char *file_text)
{
	struct params ps = {.program = "proxy"};
	auto_free char *path = mem_printf("%s/name", test_dir());
	char name[] = "x", *argv[] = {name, NULL}, *ret;
	struct common_params c = {0};
	int argc = 1, fd = open(path, O_WRONLY | O_CREAT, 0600);

	ck_assert_int_eq(write(fd, file_text, strlen(file_text)), (ssize_t)strlen(file_text));
	close(fd);
	setenv("CALICO_NODENAME_FILE", path, 1);
	if (set)
		setenv("NODENAME", set, 1);
	else
		unsetenv("NODENAME");
	common_params_add_daemon(&ps, &c, "PROXY", COMMON_HEALTH_PORT_PROXY);
	ck_assert_int_eq(params_load(&ps, &argc, argv, NULL), 0);
	ret = common_params_nodename(&ps, &c);
	if (!set && !file_text[0])
		ck_assert_str_eq(ret, c.nodename);
	params_done(&ps);
	return ret;
}

START_TEST(the_nodes_name)
{
	static const struct {
		const char *set, *file, *want; /* want NULL: the host's */
	} t[] = {{"a", "b\n", "a"}, {NULL, "b\n", "b"}, {NULL, "b", "b"}, {NULL, "", NULL}};

	for (size_t i = 0; i < array_size(t); i++) {
		auto_free char *name = nodename_with(t[i].set, t[i].file);

		if (t[i].want)
			ck_assert_str_eq(name, t[i].want);
	}
}
END_TEST

/* ---- the loop ---- */

struct turn {
	struct event_base *base;
	struct loop_task *task;
	struct loop_timer *timer;
	struct loop_fd *fd;
	int pipe[2];
	int n_tasks, n_reads, n_timers;
	int reads_at_task;
};

static void on_read(void *arg)
{
	struct turn *t = arg;
	char c;

	ck_assert_int_eq(read(t->pipe[0], &c, 1), 1);
	t->n_reads++;
	loop_task_schedule(t->task);
	loop_task_schedule(t->task);
}

static void on_task(void *arg)
{
	struct turn *t = arg;

	t->n_tasks++;
	t->reads_at_task = t->n_reads;
	event_base_loopbreak(t->base);
}

START_TEST(a_task_runs_once_after_all_events)
{
	struct turn t = {.base = loop_base_new()};

	ck_assert_int_eq(pipe2(t.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	t.task = loop_task_new(t.base, on_task, &t);
	t.fd = loop_fd_new(t.base, t.pipe[0], LOOP_READ, on_read, &t);
	for (int i = 0; i < 40; i++)
		ck_assert_int_eq(write(t.pipe[1], "x", 1), 1);
	event_base_dispatch(t.base);
	ck_assert_int_eq(t.n_tasks, 1);
	ck_assert_int_eq(t.reads_at_task, 40);
	ck_assert(!loop_task_is_scheduled(t.task));
	ck_assert_int_eq(event_base_loop(t.base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(t.n_tasks, 1);
	loop_task_schedule(t.task);
	loop_task_cancel(t.task);
	event_base_loop(t.base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(t.n_tasks, 1);
	loop_fd_free(t.fd);
	loop_task_free(t.task);
	event_base_free(t.base);
	close(t.pipe[0]);
	close(t.pipe[1]);
}
END_TEST

static void on_flood(void *arg)
{
	struct turn *t = arg;

	t->n_reads++; /* and never reads, so that it is ready again at once */
	loop_task_schedule(t->task);
}

START_TEST(a_flood_of_events_does_not_starve_a_task)
{
	struct turn t = {.base = loop_base_new()};
	int64_t start = clock_mono_ms();

	ck_assert_int_eq(pipe2(t.pipe, O_CLOEXEC), 0);
	t.task = loop_task_new(t.base, on_task, &t);
	t.fd = loop_fd_new(t.base, t.pipe[1], LOOP_WRITE, on_flood, &t);
	event_base_dispatch(t.base);
	ck_assert_int_eq(t.n_tasks, 1);
	ck_assert_int_gt(t.reads_at_task, 1);
	ck_assert_int_lt(clock_mono_ms() - start, 5000);
	loop_fd_free(t.fd);
	loop_task_free(t.task);
	event_base_free(t.base);
	close(t.pipe[0]);
	close(t.pipe[1]);
}
END_TEST

static void on_greedy_task(void *arg)
{
	struct turn *t = arg;

	t->n_tasks++;
	loop_task_schedule(t->task);
}

static void on_last_read(void *arg)
{
	struct turn *t = arg;

	event_base_loopbreak(t->base);
}

START_TEST(a_task_that_schedules_itself_starves_nobody)
{
	struct turn t = {.base = loop_base_new()};

	ck_assert_int_eq(pipe2(t.pipe, O_CLOEXEC), 0);
	t.task = loop_task_new(t.base, on_greedy_task, &t);
	t.timer = loop_timer_new(t.base, on_last_read, &t);
	loop_task_schedule(t.task);
	loop_timer_set(t.timer, 20);
	event_base_dispatch(t.base);
	ck_assert_int_gt(t.n_tasks, 1);
	loop_timer_free(t.timer);
	loop_task_free(t.task);
	event_base_free(t.base);
	close(t.pipe[0]);
	close(t.pipe[1]);
}
END_TEST

static void on_timer(void *arg)
{
	struct turn *t = arg;

	t->n_timers++;
	if (t->n_timers == 2) { /* may free what called it */
		loop_timer_free(t->timer);
		t->timer = NULL;
	}
}

START_TEST(timers_fire_once)
{
	struct turn t = {.base = loop_base_new()};
	int64_t start = clock_mono_ms();

	t.timer = loop_timer_new(t.base, on_timer, &t);
	loop_timer_set(t.timer, 100000);
	loop_timer_set(t.timer, 30);
	ck_assert(loop_timer_is_set(t.timer));
	event_base_dispatch(t.base); /* returns since nothing is left to wait for */
	ck_assert_int_eq(t.n_timers, 1);
	ck_assert_int_ge(clock_mono_ms() - start, 25);
	ck_assert(!loop_timer_is_set(t.timer));
	loop_timer_set(t.timer, 1);
	loop_timer_cancel(t.timer);
	event_base_dispatch(t.base);
	ck_assert_int_eq(t.n_timers, 1);
	loop_timer_set(t.timer, -5);
	event_base_dispatch(t.base);
	ck_assert_int_eq(t.n_timers, 2);
	ck_assert_ptr_null(t.timer);
	event_base_free(t.base);
}
END_TEST

static void raise_hup_and_term(void *arg)
{
	(void)arg;
	raise(SIGHUP);
	raise(SIGTERM);
}

static void count_stop(void *arg)
{
	++*(int *)arg;
	raise(SIGTERM); /* the second stops without asking */
}

START_TEST(signals_stop_cleanly)
{
	int n = 0;
	struct loop *l = loop_new(count_stop, &n);
	struct loop_timer *t = loop_timer_new(loop_base(l), raise_hup_and_term, NULL);

	loop_timer_set(t, 0);
	ck_assert_int_eq(loop_run(l), SIGTERM);
	ck_assert_int_eq(n, 1);
	loop_timer_free(t);
	loop_free(l);
	ck_assert_ptr_eq(signal(SIGPIPE, SIG_DFL), SIG_IGN);
	ck_assert_ptr_eq(signal(SIGHUP, SIG_DFL), SIG_IGN);
}
END_TEST

/* ---- health, metrics, HTTP ---- */

static int connect_to(uint16_t port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	return fd;
}

/* Sends request to 127.0.0.1:port and returns all that comes back. */
static char *ask(uint16_t port, const char *request)
{
	auto_close int fd = connect_to(port);
	auto_strbuf got = STRBUF_INIT;
	ssize_t n;
	char buf[4096];

	ck_assert_int_gt(send(fd, request, strlen(request), MSG_NOSIGNAL), 0);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		strbuf_addn(&got, buf, (size_t)n);
	return strbuf_take(&got);
}

static char *get(uint16_t port, const char *path)
{
	auto_free char *request =
		mem_printf("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);

	return ask(port, request);
}

/* The server runs in a child; the test asks it. */
static pid_t fork_loop(struct event_base *base)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		event_reinit(base);
		signal(SIGPIPE, SIG_IGN); /* as a daemon's loop does */
		alarm(20);
		event_base_dispatch(base);
		_exit(0);
	}
	return pid;
}

START_TEST(http_serves_three_texts)
{
	struct event_base *base = loop_base_new();
	struct health *health = health_new();
	struct metrics *metrics = metrics_new();
	struct health_check *live = health_add(health, "loop", HEALTH_LIVE, "starting");
	struct err err = ERR_INIT;
	struct http *http, *second;
	uint64_t n = 7;

	health_set_ok(live);
	health_add(health, "datastore", HEALTH_READY, "waiting for the datastore to list IPPools");
	metrics_counter(metrics, "margay_routes_total", NULL, "Routes", &n);
	ck_assert_int_eq(http_new(base, "localhost", 0, "X_PORT", health, metrics, &http, &err), 0);
	uint16_t port = http_port(http);
	ck_assert_int_eq(http_new(base, "127.0.0.1", port, "X_PORT", health, NULL, &second, &err),
		-EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err_text(&err), "set X_PORT to a free one"));
	ck_assert_int_eq(
		http_new(base, "elsewhere.invalid", 0, "P", health, NULL, &second, &err), -EINVAL);
	pid_t pid = fork_loop(base);

	auto_free char *healthz = get(port, "/healthz"), *readyz = get(port, "/readyz?x=y"),
		       *text = get(port, "/metrics"), *none = get(port, "/other");
	auto_free char *post = ask(port, "POST /healthz HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody");
	auto_free char *head = ask(port, "HEAD /healthz HTTP/1.1\nHost: localhost\n\n");
	auto_free char *garbage = ask(port, "GET\r\n\r\n");
	auto_strbuf long_request = STRBUF_INIT;

	strbuf_add(&long_request, "GET /healthz HTTP/1.1\r\nX: ");
	for (int i = 0; i < 5000; i++)
		strbuf_addc(&long_request, 'x');
	strbuf_add(&long_request, "\r\nConnection: close\r\n\r\n");
	auto_free char *too_long = ask(port, strbuf_str(&long_request));

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ck_assert_ptr_eq(strstr(healthz, "HTTP/1.1 200 "), healthz);
	ck_assert_ptr_nonnull(strstr(healthz, "\r\n\r\nok  loop\n"));
	ck_assert_ptr_eq(strstr(readyz, "HTTP/1.1 503 "), readyz);
	ck_assert_ptr_nonnull(strstr(
		readyz, "ok  loop\nBAD datastore: waiting for the datastore to list IPPools\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nmargay_routes_total 7\n"));
	ck_assert_ptr_eq(strstr(none, "HTTP/1.1 404 "), none);
	ck_assert_ptr_eq(strstr(post, "HTTP/1.1 405 "), post);
	ck_assert_ptr_nonnull(strstr(post, "\r\nAllow: GET, HEAD\r\n"));
	*strstr(healthz, "ok  loop\n") = '\0';
	ck_assert_str_eq(head, healthz);
	ck_assert_ptr_eq(strstr(garbage, "HTTP/1.1 400 "), garbage);
	ck_assert_ptr_eq(strstr(too_long, "HTTP/1.1 431 "), too_long);
	http_free(http);
	health_free(health);
	metrics_free(metrics);
	event_base_free(base);
}
END_TEST

static int64_t forty_two(void *arg)
{
	(void)arg;
	return 42;
}

START_TEST(metrics_are_prometheus_text)
{
	struct metrics *m = metrics_new();
	uint64_t adds = 3, dels = 4;
	int64_t gauge = -1;
	auto_strbuf out = STRBUF_INIT;
	static const char want_ops[] = "# HELP margay_ops_total Operations\n"
				       "# TYPE margay_ops_total counter\n"
				       "margay_ops_total{verb=\"add\"} 3\n"
				       "margay_ops_total{verb=\"del\"} 4\n"
				       "# HELP ";

	metrics_counter(m, "margay_ops_total", "verb=\"add\"", "Operations", &adds);
	metrics_gauge(m, "margay_wanted", NULL, "Wanted", &gauge);
	metrics_counter(m, "margay_ops_total", "verb=\"del\"", "Operations", &dels);
	metrics_gauge_fn(m, "margay_computed", "", "Computed", forty_two, m);
	metrics_print(m, &out);
	ck_assert_ptr_nonnull(strstr(strbuf_str(&out), want_ops));
	ck_assert_ptr_nonnull(strstr(strbuf_str(&out), "\nmargay_wanted -1\n"));
	ck_assert_ptr_nonnull(strstr(strbuf_str(&out), "\nmargay_computed 42\n"));
	metrics_remove(m, &adds);
	metrics_remove(m, m);
	strbuf_reset(&out);
	metrics_print(m, &out);
	ck_assert_ptr_null(strstr(strbuf_str(&out), "verb=\"add\""));
	ck_assert_ptr_nonnull(strstr(strbuf_str(&out), "verb=\"del\""));
	ck_assert_ptr_null(strstr(strbuf_str(&out), "margay_computed"));
	metrics_free(m);
}
END_TEST

/* ---- the control socket ---- */

static int verb_echo(void *arg, const json_t *request, json_t **result, struct err *err)
{
	(void)arg;
	(void)err;
	*result = json_incref(json_object_get(request, "text"));
	return 0;
}

static int verb_fail(void *arg, const json_t *request, json_t **result, struct err *err)
{
	(void)arg;
	(void)request;
	*result = json_string("half done");
	return err_set(err, -ENOENT, "route \"%s\": not found", "a");
}

static int verb_big(void *arg, const json_t *request, json_t **result, struct err *err)
{
	auto_strbuf text = STRBUF_INIT;

	(void)arg;
	(void)request;
	(void)err;
	for (int i = 0; i < 500000; i++)
		strbuf_add(&text, "0123456789");
	*result = json_string(strbuf_str(&text));
	return 0;
}

static int verb_none(void *arg, const json_t *request, json_t **result, struct err *err)
{
	(void)arg;
	(void)request;
	(void)result;
	(void)err;
	return 0;
}

static const struct ctl_verb verbs[] = {
	{"echo", "Gives text back", verb_echo},
	{"fail", "Fails", verb_fail},
	{"big", "A long answer", verb_big},
	{"none", "No result", verb_none},
};

static int call(const char *path, json_t *request_take, json_t **result, struct err *err)
{
	int r = ctl_call(path, request_take, 5000, result, err);

	json_decref(request_take);
	return r;
}

static char *ask_unix(const char *path, const char *request, size_t n)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_strbuf got = STRBUF_INIT;
	char buf[4096];
	ssize_t k;

	strcpy(sun.sun_path, path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	while (n > 0 && (k = send(fd, request, n, MSG_NOSIGNAL)) > 0) {
		request += k;
		n -= (size_t)k;
	}
	shutdown(fd, SHUT_WR);
	while ((k = recv(fd, buf, sizeof(buf), 0)) > 0)
		strbuf_addn(&got, buf, (size_t)k);
	return strbuf_take(&got);
}

START_TEST(control_socket_answers)
{
	struct event_base *base = loop_base_new();
	auto_free char *path = mem_printf("%s/ctl.sock", dir);
	struct ctl_server *s, *second;
	struct err err = ERR_INIT;
	json_t *res = NULL;
	struct stat st;

	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "none"), &res, &err), -EHOSTUNREACH);
	ck_assert_int_eq(ctl_server_new(base, path, verbs, array_size(verbs), NULL, &s, &err), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(ctl_server_new(base, path, verbs, array_size(verbs), NULL, &second, &err),
		-EADDRINUSE);
	pid_t pid = fork_loop(base);

	ck_assert_int_eq(call(path, json_pack("{s:s,s:s}", "verb", "echo", "text", "\xc3\xa4\n"),
				 &res, &err),
		0);
	ck_assert_str_eq(json_string_value(res), "\xc3\xa4\n");
	json_decref(res);
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "none"), &res, &err), 0);
	ck_assert(json_is_null(res));
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "fail"), &res, &err), -ENOENT);
	ck_assert_str_eq(err_text(&err), "route \"a\": not found");
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "nope"), &res, &err), -EINVAL);
	ck_assert_int_eq(call(path, json_pack("[]"), &res, &err), -EINVAL);
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "big"), &res, &err), 0);
	ck_assert_uint_eq(json_string_length(res), 5000000);
	json_decref(res);
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "help"), &res, &err), 0);
	ck_assert_str_eq(json_string_value(json_object_get(res, "echo")), "Gives text back");
	json_decref(res);

	static const char lines[] = "{\"verb\":\"none\"}\nnot json\n{\"verb\":\"none\"}\n{\"verb\"";
	auto_free char *several = ask_unix(path, lines, sizeof(lines) - 1);

	ck_assert_ptr_eq(
		strstr(several, "{\"ok\":true,\"result\":null}\n{\"ok\":false,\"errno\":22,"),
		several);
	ck_assert_ptr_nonnull(strstr(several, "\n{\"ok\":true,\"result\":null}\n"));

	/* Answers of 10 MB in all, to somebody who reads at leisure. */
	auto_free char *twice = ask_unix(path, "{\"verb\":\"big\"}\n{\"verb\":\"big\"}\n", 32 - 2);
	ck_assert_uint_gt(strlen(twice), 10000000);

	auto_free char *flood = mem_alloc(2 * CTL_LINE_MAX);
	memset(flood, 'x', 2 * CTL_LINE_MAX);
	auto_free char *refused = ask_unix(path, flood, 2 * CTL_LINE_MAX);
	if (refused[0]) /* the reset may overtake it */
		ck_assert_ptr_nonnull(strstr(refused, "more than 65536 bytes"));
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "none"), &res, &err), 0);

	kill(pid, SIGSTOP);
	json_t *none = json_pack("{s:s}", "verb", "none");
	ck_assert_int_eq(ctl_call(path, none, 50, &res, &err), -ETIMEDOUT);
	json_decref(none);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ctl_server_free(s);
	ck_assert_int_lt(stat(path, &st), 0);
	event_base_free(base);
}
END_TEST

/* How often a process has gone to sleep. */
static long sleeps(pid_t pid, bool *ret_asleep)
{
	auto_free char *path = mem_printf("/proc/%d/status", (int)pid), *text = NULL;
	static const char label[] = "\nvoluntary_ctxt_switches:";

	ck_assert_int_eq(file_read(path, 100000, &text, NULL, NULL), 0);
	*ret_asleep = strstr(text, "\nState:\tS") != NULL;
	return strtol(strstr(text, label) + strlen(label), NULL, 10);
}

START_TEST(http_keeps_the_newest_connections)
{
	struct event_base *base = loop_base_new();
	struct health *health = health_new();
	int fds[HTTP_CONNECTIONS_MAX + 1];
	struct http *http;
	char c;

	ck_assert_int_eq(http_new(base, "localhost", 0, "P", health, NULL, &http, NULL), 0);
	pid_t pid = fork_loop(base);
	for (size_t i = 0; i < array_size(fds); i++)
		fds[i] = connect_to(http_port(http));

	auto_free char *healthz = get(http_port(http), "/healthz");
	ck_assert_ptr_eq(strstr(healthz, "HTTP/1.1 200 "), healthz);
	/* The last one and the question took the places of the first two. */
	ck_assert_int_eq(recv(fds[0], &c, 1, MSG_DONTWAIT), 0);
	ck_assert_int_eq(recv(fds[1], &c, 1, MSG_DONTWAIT), 0);
	ck_assert_int_eq(recv(fds[2], &c, 1, MSG_DONTWAIT), -1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (size_t i = 0; i < array_size(fds); i++)
		close(fds[i]);
	http_free(http);
	health_free(health);
	event_base_free(base);
}
END_TEST

START_TEST(no_descriptor_left_is_no_busy_loop)
{
	struct event_base *base = loop_base_new();
	auto_free char *path = mem_printf("%s/ctl.sock", dir);
	struct health *health = health_new();
	struct ctl_server *s;
	struct http *http;
	json_t *none, *res = NULL;
	struct err err;
	int fds[24], n_asleep = 0;
	bool asleep;

	ck_assert_int_eq(http_new(base, "localhost", 0, "P", health, NULL, &http, NULL), 0);
	ck_assert_int_eq(ctl_server_new(base, path, verbs, array_size(verbs), NULL, &s, NULL), 0);
	pid_t pid = fork_loop(base);
	ck_assert_int_eq(
		prlimit(pid, RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 24, .rlim_max = 24}, NULL),
		0);
	for (size_t i = 0; i < array_size(fds); i++)
		fds[i] = connect_to(http_port(http));
	none = json_pack("{s:s}", "verb", "none");
	ck_assert_int_eq(ctl_call(path, none, 300, &res, &err), -ETIMEDOUT);
	for (int64_t end = clock_mono_ms() + 2000; n_asleep < 3 && clock_mono_ms() < end;) {
		sleeps(pid, &asleep);
		n_asleep = asleep ? n_asleep + 1 : 0;
		poll(NULL, 0, 7);
	}
	ck_assert_int_eq(n_asleep, 3);

	for (size_t i = 0; i < array_size(fds); i++)
		close(fds[i]);
	auto_free char *healthz = get(http_port(http), "/healthz");
	ck_assert_ptr_eq(strstr(healthz, "HTTP/1.1 200 "), healthz);
	ck_assert_int_eq(call(path, none, &res, NULL), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ctl_server_free(s);
	http_free(http);
	health_free(health);
	event_base_free(base);
}
END_TEST

START_TEST(an_idle_loop_never_wakes)
{
	struct event_base *base = loop_base_new();
	auto_free char *path = mem_printf("%s/ctl.sock", dir);
	struct health *health = health_new();
	struct turn t = {.base = base};
	struct ctl_server *s;
	struct http *http;
	json_t *res = NULL;
	int64_t end = clock_mono_ms() + 5000;
	bool asleep, quiet;
	long before;

	t.task = loop_task_new(base, on_task, &t);
	t.timer = loop_timer_new(base, on_timer, &t);
	loop_timer_set(t.timer, 1000);
	loop_timer_cancel(t.timer);
	ck_assert_int_eq(http_new(base, "localhost", 0, "P", health, NULL, &http, NULL), 0);
	ck_assert_int_eq(ctl_server_new(base, path, verbs, array_size(verbs), NULL, &s, NULL), 0);
	pid_t pid = fork_loop(base);

	/* Both have had their visitor, who is gone. */
	free(get(http_port(http), "/healthz"));
	ck_assert_int_eq(call(path, json_pack("{s:s}", "verb", "none"), &res, NULL), 0);
	do { /* until it has seen both go, which a busy machine may delay */
		before = sleeps(pid, &asleep);
		poll(NULL, 0, 300);
		quiet = sleeps(pid, &asleep) == before && asleep;
	} while (!quiet && clock_mono_ms() < end);
	ck_assert(quiet);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	loop_timer_free(t.timer);
	loop_task_free(t.task);
	ctl_server_free(s);
	http_free(http);
	health_free(health);
	event_base_free(base);
}
END_TEST

START_TEST(what_is_left_behind_is_replaced)
{
	struct event_base *base = loop_base_new();
	auto_free char *path = mem_printf("%s/ctl.sock", dir);
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ctl_server *s;
	struct err err = ERR_INIT;
	char long_path[200];

	strcpy(sun.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd); /* as a killed daemon does */
	ck_assert_int_eq(ctl_server_new(base, path, verbs, 1, NULL, &s, &err), 0);
	ctl_server_free(s);

	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	ck_assert_int_eq(ctl_server_new(base, path, verbs, 1, NULL, &s, &err), -EEXIST);

	memset(long_path, 'x', sizeof(long_path));
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = '\0';
	ck_assert_int_eq(ctl_server_new(base, long_path, verbs, 1, NULL, &s, &err), -EINVAL);
	event_base_free(base);
}
END_TEST

START_TEST(only_root_and_the_same_user_may_ask)
{
	struct event_base *base = loop_base_new();
	auto_free char *path = mem_printf("%s/ctl.sock", dir);
	struct ctl_server *s;
	int status;

	if (geteuid() != 0)
		return; /* nobody else to be */
	ck_assert_int_eq(ctl_server_new(base, path, verbs, array_size(verbs), NULL, &s, NULL), 0);
	ck_assert_int_eq(chmod(dir, 0755), 0);
	ck_assert_int_eq(chmod(path, 0666), 0); /* so that the credentials alone decide */
	pid_t pid = fork_loop(base), caller = fork();

	if (caller == 0) {
		struct err err = ERR_INIT;
		json_t *res = NULL, *none = json_pack("{s:s}", "verb", "none");

		if (setuid(65534) < 0)
			_exit(2);
		_exit(ctl_call(path, none, 5000, &res, &err) == -EACCES ? 0 : 1);
	}
	waitpid(caller, &status, 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	ctl_server_free(s);
	event_base_free(base);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("svc");
	TCase *tc = tcase_create("svc");

	tcase_add_checked_fixture(tc, make_dir, NULL);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, the_last_source_wins);
	tcase_add_loop_test(tc, a_bad_value_is_one_clear_error, 0, (int)array_size(bad));
	tcase_add_test(tc, help_and_config_show_everything);
	tcase_add_test(tc, arguments_are_left_to_those_who_want_them);
	tcase_add_test(tc, common_parameters);
	tcase_add_test(tc, the_nodes_name);
	tcase_add_test(tc, a_task_runs_once_after_all_events);
	tcase_add_test(tc, a_flood_of_events_does_not_starve_a_task);
	tcase_add_test(tc, a_task_that_schedules_itself_starves_nobody);
	tcase_add_test(tc, timers_fire_once);
	tcase_add_test(tc, signals_stop_cleanly);
	tcase_add_test(tc, http_serves_three_texts);
	tcase_add_test(tc, metrics_are_prometheus_text);
	tcase_add_test(tc, control_socket_answers);
	tcase_add_test(tc, http_keeps_the_newest_connections);
	tcase_add_test(tc, no_descriptor_left_is_no_busy_loop);
	tcase_add_test(tc, an_idle_loop_never_wakes);
	tcase_add_test(tc, what_is_left_behind_is_replaced);
	tcase_add_test(tc, only_root_and_the_same_user_may_ask);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
