/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "confd/bgp_view.h"
#include "confd/watch.h"
#include "svc/loop.h"

#define LOG_MODULE "bird"
#include "base/log.h"

#define FILE_MODE 0640 /* passwords stand in it; BIRD reads as its group */
#define FILE_MAX (64 * 1024 * 1024)
#define STAGING ".margay"
#define MARK "# Written by margay-confd"
/* With a router id: without one BIRD does not start on a host that has no address yet. */
#define MINIMAL                                               \
	MARK " so that BIRD starts, and can be given more.\n" \
	     "router id 0.0.0.1;\n"                           \
	     "protocol device { }\n"
#define STARTS_IN_VAIN 3
#define FOREIGN_SUFFIX ".before-margay"
#define POLL_MS 20
#define RETRY_FIRST_MS 200
#define RETRY_LAST_MS 30000
#define SETTLE_MS 1000

struct file {
	char *name, *text;
	size_t len;
	char *before; /* what stood there when it was put in place, for going back; NULL: nothing */
	size_t before_len;
	bool swapped;
};

/* An export that was asked for, until BIRD has answered. */
struct reload {
	struct apply *a;
	char *protocols;
	enum apply_when when;
	bool wanted, sent; /* both: asked for again meanwhile */
};

enum step { IDLE, CHECKING, CONFIGURING, VERIFYING };

struct apply {
	struct bird_client *client;
	char *dir;
	const struct apply_ops *ops;
	void *arg;
	struct bird_version version;
	bool up;
	bool silent; /* the connection was given up, not by BIRD: it may be at work on what it was told */
	unsigned n_starts; /* of BIRD's since it answered last */

	VEC(struct file) wanted;
	uint32_t generation;
	VEC(struct file) running, accepted; /* of the step under way; what BIRD ran last */
	uint32_t running_generation;
	enum step step;
	bool loaded; /* by this run */
	bool again;  /* something changed under way */
	bool done;
	struct loop_task *task;
	struct loop_timer *poll;
	struct loop_timer *retry; /* while it is set nothing is done but for what is new */
	VEC(struct reload *) reloads;
	struct loop_timer *settle;
	struct watch *watch; /* of the directory: who else writes there? */
	int64_t retry_ms;
	uint32_t lost_generation; /* BIRD went while it loaded this one; 0: none */
	struct bird_version lost_version;
	char *state;
	char *failure; /* that the log has heard of; NULL: none since BIRD came or was done */
	uint64_t n_loaded, n_refused;
};

static void set_state(struct apply *a, bool done, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void set_state(struct apply *a, bool done, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX + 256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (a->done == done && a->state && strcmp(a->state, text) == 0)
		return;
	free(a->state);
	a->state = mem_strdup(text);
	a->done = done;
	a->ops->state(a->arg);
}

static void file_done(struct file *f)
{
	free(f->name);
	free(f->text);
	free(f->before);
}

#define files_done(files)                                  \
	do {                                               \
		for (size_t i_ = 0; i_ < (files)->n; i_++) \
			file_done(&(files)->v[i_]);        \
		vec_done(files);                           \
	} while (0)

/* ---- the files ---- */

static char *path_of(const struct apply *a, const char *sub, const char *name)
{
	return mem_printf("%s/%s%s", a->dir, sub, name);
}

/* Not flushed: BIRD shall not wait for the disk. See flush(). */
static int write_file(const char *path, const char *text, size_t len, struct err *err)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);

	if (fd < 0)
		return err_sys(err, -errno, "write %s", path);
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0)
			return err_sys(err, -errno, "write %s", path);
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

static int stage(struct apply *a, struct err *err)
{
	auto_free char *dir = path_of(a, STAGING, "");
	int r = file_mkdirs(dir, 0750, err);

	for (size_t i = 0; i < a->running.n && r == 0; i++) {
		auto_free char *path = path_of(a, STAGING "/", a->running.v[i].name);

		r = write_file(path, a->running.v[i].text, a->running.v[i].len, err);
	}
	return r;
}

/* True where all files stand there with these bytes. Reads what stands there. */
static bool is_in_place(struct apply *a)
{
	bool same = true;

	for (size_t i = 0; i < a->running.n; i++) {
		struct file *f = &a->running.v[i];
		auto_free char *path = path_of(a, "", f->name);

		free(take_ptr(f->before));
		if (file_read(path, FILE_MAX, &f->before, &f->before_len, NULL) < 0 ||
			f->before_len != f->len || memcmp(f->before, f->text, f->len) != 0)
			same = false;
	}
	return same;
}

/* Of a top file. An empty one is what a power cut leaves, or a file of NULs. */
static bool is_foreign(const char *text)
{
	return text[0] && strncmp(text, MARK, strlen(MARK)) != 0;
}

/* Somebody's own configuration is kept beside: as a copy, for a link to it needs to be its owner. */
static int save_foreign(struct apply *a, const char *text, size_t len, struct err *err)
{
	auto_free char *path = path_of(a, "", APPLY_TOP);
	auto_free char *beside = mem_printf("%s" FOREIGN_SUFFIX, path);
	int r;

	if (!text || !is_foreign(text))
		return 0;
	for (unsigned i = 1; access(beside, F_OK) == 0; i++) {
		auto_free char *kept = NULL;
		size_t kept_len = 0;

		if (file_read(beside, FILE_MAX, &kept, &kept_len, NULL) == 0 && kept_len == len &&
			memcmp(kept, text, len) == 0)
			return 0;
		free(beside);
		beside = mem_printf("%s" FOREIGN_SUFFIX ".%u", path, i);
	}
	r = file_write_atomic(beside, text, len, FILE_MODE, err);
	if (r < 0)
		return err_wrap(err, r, "keep %s", path);
	log_info("%s was not written by margay-confd; it is kept as %s", path, beside);
	return 0;
}

static int swap(struct apply *a, struct err *err)
{
	const struct file *top = &a->running.v[a->running.n - 1];
	int r = save_foreign(a, top->before, top->before_len, err);

	for (size_t i = 0; i < a->running.n && r == 0; i++) {
		struct file *f = &a->running.v[i];
		auto_free char *from = path_of(a, STAGING "/", f->name);
		auto_free char *to = path_of(a, "", f->name);

		if (f->before && f->before_len == f->len && memcmp(f->before, f->text, f->len) == 0)
			continue;
		if (rename(from, to) < 0)
			return err_sys(err, -errno, "rename %s to %s", from, to);
		f->swapped = true;
	}
	return r;
}

static void swap_back(struct apply *a)
{
	for (size_t i = a->running.n; i-- > 0;) {
		struct file *f = &a->running.v[i];
		auto_free char *path = path_of(a, "", f->name);
		struct err err = ERR_INIT;

		if (!f->swapped || !f->before)
			continue;
		if (file_write_atomic(path, f->before, f->before_len, FILE_MODE, &err) < 0)
			log_error("going back to the configuration before: %s", err_text(&err));
	}
}

/* After BIRD has what it needs: so that a power cut leaves the old file or the new one. */
static void flush(struct apply *a)
{
	for (size_t i = 0; i < a->running.n; i++) {
		auto_free char *path = path_of(a, "", a->running.v[i].name);
		auto_close int fd = -1;

		if (!a->running.v[i].swapped)
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && fsync(fd) < 0)
			log_warn("fsync %s: %s", path, strerror(errno));
	}
}

static void arm_retry(struct apply *a)
{
	loop_timer_set(a->retry, a->retry_ms);
	a->retry_ms = 2 * a->retry_ms > RETRY_LAST_MS ? RETRY_LAST_MS : 2 * a->retry_ms;
}

/* ---- while BIRD is away ---- */

static bool has_includes(const struct apply *a, const char *text)
{
	static const char word[] = "\ninclude \"";

	while ((text = strstr(text, word)) != NULL) {
		size_t len = strcspn(text += strlen(word), "\"\n");
		auto_free char *name = mem_strndup(text, len);
		auto_free char *path = name[0] == '/' ? mem_strdup(name) : path_of(a, "", name);

		if (access(path, F_OK) < 0)
			return false;
	}
	return true;
}

/* BIRD can surely not start: there is no file, or one of ours is empty or misses another. */
static bool is_broken(const struct apply *a)
{
	auto_free char *path = path_of(a, "", APPLY_TOP);
	auto_free char *text = NULL;
	int r = file_read(path, FILE_MAX, &text, NULL, NULL);

	if (r < 0)
		return r == -ENOENT;
	return !is_foreign(text) && (!text[0] || !has_includes(a, text));
}

static int put_minimal(struct apply *a, struct err *err)
{
	auto_free char *path = path_of(a, "", APPLY_TOP);
	auto_free char *text = NULL;
	int r = file_mkdirs(a->dir, 0755, err);

	if (r < 0)
		return err_wrap(err, r, "BIRD_CONF_DIR");
	if (file_read(path, FILE_MAX, &text, NULL, NULL) == 0 && is_foreign(text))
		return 0;
	r = file_write_atomic(path, MINIMAL, strlen(MINIMAL), FILE_MODE, err);
	if (r > 0 && text)
		log_warn("%s: BIRD cannot start with it; replaced by the least that it starts with",
			path);
	return r;
}

/* What BIRD ran last, the top file last, each flushed before it is there. */
static int put_accepted(struct apply *a, struct err *err)
{
	auto_free char *top = path_of(a, "", APPLY_TOP);
	auto_free char *text = NULL;
	size_t len = 0;
	int r = 0;

	if (file_read(top, FILE_MAX, &text, &len, NULL) == 0)
		r = save_foreign(a, text, len, err);
	for (size_t i = 0; i < a->accepted.n && r >= 0; i++) {
		const struct file *f = &a->accepted.v[i];
		auto_free char *path = path_of(a, "", f->name);

		r = file_write_atomic(path, f->text, f->len, FILE_MODE, err);
		if (r > 0)
			log_info("%s: put back as BIRD ran it", path);
	}
	return r;
}

/* Sees to it that BIRD's next start succeeds. */
static void keep_startable(struct apply *a)
{
	struct err err = ERR_INIT;
	int r = 0;

	if (a->n_starts >= STARTS_IN_VAIN || (a->accepted.n == 0 && is_broken(a)))
		r = put_minimal(a, &err);
	else if (a->accepted.n > 0)
		r = put_accepted(a, &err);
	if (r < 0) {
		log_error("%s", err_text(&err));
		arm_retry(a);
	}
}

/* ---- the control socket ---- */

static void ask(struct apply *a, const char *command, bird_done_fn *done, void *arg)
{
	bird_client_call(a->client, command, done, arg);
}

/* ---- exports ---- */

static void send_reload(struct reload *r);

static void on_reloaded(void *arg, const struct bird_reply *reply, const struct err *lost)
{
	struct reload *r = arg;
	struct err err = ERR_INIT;

	(void)lost;
	r->sent = false;
	if (!reply) { /* again when BIRD is back */
		r->wanted = true;
		return;
	}
	/* 8003: no protocol matches the pattern. One that BIRD will have later exports by itself. */
	if (r->a->done && !bird_reply_text(reply, 8003) &&
		bird_reply_check(reply, "BIRD: reload out", &err) < 0)
		log_warn("%s", err_text(&err));
	if (r->wanted && r->when == APPLY_AT_ONCE)
		send_reload(r);
	else if (r->wanted)
		loop_timer_set(r->a->settle, SETTLE_MS);
}

static void send_reload(struct reload *r)
{
	auto_strbuf command = STRBUF_INIT;

	r->wanted = false;
	r->sent = true;
	bird_cmd_reload_out(&command, &r->a->version, r->protocols);
	ask(r->a, command.s, on_reloaded, r);
}

static void send_reloads(struct apply *a, enum apply_when when)
{
	for (size_t i = 0; i < a->reloads.n; i++) {
		struct reload *r = a->reloads.v[i];

		if (r->wanted && !r->sent && r->when == when)
			send_reload(r);
	}
}

static void on_settled(void *arg)
{
	struct apply *a = arg;

	if (a->up && a->done)
		send_reloads(a, APPLY_SETTLED);
}

static struct reload *get_reload(struct apply *a, const char *protocols, enum apply_when when)
{
	struct reload *r;

	for (size_t i = 0; i < a->reloads.n; i++)
		if (a->reloads.v[i]->when == when &&
			strcmp(a->reloads.v[i]->protocols, protocols) == 0)
			return a->reloads.v[i];
	r = mem_new(struct reload);
	r->a = a;
	r->protocols = mem_strdup(protocols);
	r->when = when;
	vec_push(&a->reloads, r);
	return r;
}

void apply_reload_out(struct apply *a, const char *protocols, enum apply_when when)
{
	get_reload(a, protocols, when)->wanted = true;
	if (when == APPLY_SETTLED && a->done)
		loop_timer_set(a->settle, SETTLE_MS);
	else if (when == APPLY_AT_ONCE && a->up)
		send_reloads(a, when);
}

/* ---- the steps ---- */

static void run(struct apply *a);

static void finish(struct apply *a)
{
	a->step = IDLE;
	files_done(&a->running);
	if (a->again)
		loop_task_schedule(a->task);
}

static void retry_later(struct apply *a)
{
	if (a->running_generation ==
		a->generation) { /* else what is wanted now was not tried yet */
		arm_retry(a);
	}
	finish(a);
}

/* Something is new. */
static void retry_now(struct apply *a)
{
	loop_timer_cancel(a->retry);
	a->retry_ms = RETRY_FIRST_MS;
	loop_task_schedule(a->task);
}

/* Logged once, whatever state is between two attempts. */
static void fail(struct apply *a, const char *why)
{
	set_state(a, false, "%s", why);
	if (!a->failure || strcmp(a->failure, why) != 0) {
		log_error("%s", why);
		free(a->failure);
		a->failure = mem_strdup(why);
	}
	retry_later(a);
}

/* What it refuses today may be no fault of the text: a file that BIRD cannot read, an interface. */
static void refuse(struct apply *a, const struct err *err)
{
	auto_free char *why = mem_printf(
		"BIRD refuses its new configuration, and runs on with the one before: %s",
		err_text(err));

	a->n_refused++;
	fail(a, why);
}

/* What BIRD may have died of is not given to the next one at once, and ever more rarely. */
static bool is_suspect(const struct apply *a)
{
	return a->lost_generation != 0 && a->lost_generation == a->generation &&
	       bird_version_compare(&a->lost_version, a->version.major, a->version.minor) == 0 &&
	       a->lost_version.patch == a->version.patch;
}

static void note_lost(struct apply *a)
{
	if (a->step != CONFIGURING)
		return;
	a->lost_generation = a->running_generation;
	a->lost_version = a->version;
}

/* No answer, since BIRD went; what follows is up to its return. */
static bool is_lost(struct apply *a, const struct bird_reply *reply)
{
	if (reply)
		return false;
	note_lost(a);
	finish(a);
	return true;
}

static void verify(struct apply *a);

static void on_configured(void *arg, const struct bird_reply *reply, const struct err *err)
{
	struct apply *a = arg;
	struct err why = ERR_INIT;
	int r;

	(void)err;
	if (is_lost(a, reply))
		return;
	r = bird_configure_result(reply, &why);
	if (r < 0) {
		swap_back(a);
		refuse(a, &why);
	} else if (r > 0) {
		set_state(a, false, "waiting for BIRD to finish its reconfiguration");
		loop_timer_set(a->poll, POLL_MS);
	} else {
		verify(a);
	}
}

static void poll_status(void *arg)
{
	struct apply *a = arg;

	if (a->step == CONFIGURING)
		ask(a, "configure status", on_configured, a);
}

static void configure(struct apply *a)
{
	auto_free char *top = path_of(a, "", APPLY_TOP);
	auto_strbuf command = STRBUF_INIT;
	struct err err = ERR_INIT;

	if (bird_cmd_configure(&command, false, top, &err) < 0) {
		refuse(a, &err);
		return;
	}
	a->step = CONFIGURING;
	a->loaded = true;
	a->n_loaded++;
	ask(a, command.s, on_configured, a);
}

static void take_accepted(struct apply *a)
{
	files_done(&a->accepted);
	a->accepted = a->running;
	for (size_t i = 0; i < a->accepted.n; i++)
		free(take_ptr(a->accepted.v[i].before));
	a->running.v = NULL;
	a->running.n = a->running.cap = 0;
}

static void on_verified(void *arg, const struct bird_reply *reply, const struct err *err)
{
	struct apply *a = arg;
	const char *value;

	(void)err;
	if (is_lost(a, reply))
		return;
	value = bird_reply_text(reply, 23);
	if (value && strtoul(value, NULL, 10) == a->running_generation) {
		if (a->loaded)
			flush(a);
		a->retry_ms = RETRY_FIRST_MS;
		a->lost_generation = 0;
		free(take_ptr(a->failure));
		take_accepted(a);
		set_state(a, true, "BIRD runs what was rendered");
		loop_timer_set(a->settle, SETTLE_MS);
		finish(a);
	} else if (!a->loaded) {
		configure(a);
	} else {
		auto_free char *why = mem_printf(
			"BIRD has read %s/%s and does not run it: want " BGP_VIEW_GENERATION
			" %u, got \"%s\"; does the template define it?",
			a->dir, APPLY_TOP, a->running_generation,
			value ? value : reply->lines[0].text);

		fail(a, why);
	}
}

static void verify(struct apply *a)
{
	a->step = VERIFYING;
	ask(a, "eval " BGP_VIEW_GENERATION, on_verified, a);
}

static void on_checked(void *arg, const struct bird_reply *reply, const struct err *lost)
{
	struct apply *a = arg;
	struct err err = ERR_INIT;

	(void)lost;
	if (is_lost(a, reply))
		return;
	if (bird_configure_result(reply, &err) < 0) {
		refuse(a, &err);
	} else if (swap(a, &err) < 0) {
		swap_back(a);
		fail(a, err_text(&err));
	} else {
		configure(a);
	}
}

static void check(struct apply *a)
{
	auto_free char *top = path_of(a, STAGING "/", APPLY_TOP);
	auto_strbuf command = STRBUF_INIT;
	struct err err = ERR_INIT;
	int r = stage(a, &err);

	if (r == 0)
		r = bird_cmd_configure(&command, true, top, &err);
	if (r < 0) {
		fail(a, err_text(&err));
		return;
	}
	a->step = CHECKING;
	ask(a, command.s, on_checked, a);
}

static void run(struct apply *a)
{
	a->again = false;
	for (size_t i = 0; i < a->wanted.n; i++)
		vec_push(&a->running,
			(struct file){.name = mem_strdup(a->wanted.v[i].name),
				.text = mem_dup(a->wanted.v[i].text, a->wanted.v[i].len + 1),
				.len = a->wanted.v[i].len});
	a->running_generation = a->generation;
	a->loaded = false;
	if (is_in_place(a))
		verify(a);
	else
		check(a);
}

static void work(void *arg)
{
	struct apply *a = arg;

	if (a->step != IDLE) {
		a->again = true;
	} else if (!loop_timer_is_set(a->retry)) {
		if (!a->up && !a->silent)
			keep_startable(a);
		else if (a->up && a->wanted.n > 0)
			run(a);
	}
}

/* Our own renames, too: then all is as it should be, or the next attempt is set. */
static void on_touched(void *arg)
{
	struct apply *a = arg;

	loop_task_schedule(a->task);
}

static void on_up(void *arg, const struct bird_version *v)
{
	struct apply *a = arg;

	log_info("connected to BIRD %u.%u.%u", v->major, v->minor, v->patch);
	a->up = true;
	a->silent = false;
	a->n_starts = 0;
	free(take_ptr(a->failure));
	a->version = *v;
	if (is_suspect(a))
		arm_retry(a);
	else
		retry_now(a);
	send_reloads(a, APPLY_AT_ONCE);
	set_state(a, false, "waiting for a configuration to give to BIRD");
	a->ops->bird_up(a->arg, v);
}

static void on_down(void *arg, const struct err *err)
{
	struct apply *a = arg;

	a->up = false;
	loop_timer_cancel(a->poll);
	loop_timer_cancel(a->retry);
	loop_timer_cancel(a->settle);
	if (a->step != IDLE) { /* waiting between two polls */
		note_lost(a);
		finish(a);
	}
	log_warn("BIRD is away: %s", err_text(err));
	set_state(a, false, "waiting for BIRD: %s", err_text(err));
	a->silent = err->code == -ETIMEDOUT;
	if (is_suspect(a))
		loop_task_schedule(a->task);
	else
		retry_now(a);
}

/* BIRD's own words are on its stderr alone. */
static void on_began(void *arg)
{
	struct apply *a = arg;

	a->n_starts++;
	if (a->silent) { /* that was another one, and this one is not to find what it died of */
		a->silent = false;
		loop_task_schedule(a->task);
	}
	if (a->n_starts != STARTS_IN_VAIN)
		return;
	log_error("BIRD has started %u times and never come up", a->n_starts);
	set_state(a, false,
		"waiting for BIRD, which has started %u times and never come up: does it refuse "
		"%s/" APPLY_TOP "?",
		a->n_starts, a->dir);
	retry_now(a);
}

static const struct bird_client_ops client_ops = {.up = on_up, .down = on_down, .began = on_began};

struct apply *apply_new(struct event_base *base, const char *ctl_path, const char *dir,
	const struct apply_ops *ops, void *arg)
{
	struct apply *a = mem_new(struct apply);

	a->dir = mem_strdup(dir);
	a->ops = ops;
	a->arg = arg;
	a->state = mem_strdup("waiting for BIRD");
	a->retry_ms = RETRY_FIRST_MS;
	a->task = loop_task_new(base, work, a);
	a->poll = loop_timer_new(base, poll_status, a);
	a->retry = loop_timer_new(base, work, a);
	a->settle = loop_timer_new(base, on_settled, a);
	keep_startable(a);
	a->watch = watch_new(base, on_touched, a);
	(void)watch_add(a->watch, a->dir);
	a->client = bird_client_new(base, ctl_path, &client_ops, a);
	return a;
}

void apply_free(struct apply *a)
{
	if (!a)
		return;
	bird_client_free(a->client);
	watch_free(a->watch);
	loop_task_free(a->task);
	loop_timer_free(a->poll);
	loop_timer_free(a->retry);
	loop_timer_free(a->settle);
	for (size_t i = 0; i < a->reloads.n; i++) {
		free(a->reloads.v[i]->protocols);
		free(a->reloads.v[i]);
	}
	vec_done(&a->reloads);
	files_done(&a->wanted);
	files_done(&a->running);
	files_done(&a->accepted);
	free(a->state);
	free(a->failure);
	free(a->dir);
	free(a);
}

void apply_want(struct apply *a, const struct apply_file *files, size_t n, uint32_t generation)
{
	if (a->wanted.n > 0 && a->generation == generation)
		return;
	files_done(&a->wanted);
	for (size_t i = 0; i < n; i++) {
		char *text = mem_strndup(files[i].text, files[i].len);

		vec_push(&a->wanted, (struct file){.name = mem_strdup(files[i].name),
					     .text = text,
					     .len = files[i].len});
	}
	a->generation = generation;
	if (a->up)
		set_state(a, false, "waiting for BIRD to run what was rendered");
	retry_now(a);
}

bool apply_is_done(const struct apply *a)
{
	return a->done;
}

const char *apply_state(const struct apply *a)
{
	return a->state;
}

const uint64_t *apply_n_loaded(const struct apply *a)
{
	return &a->n_loaded;
}

const uint64_t *apply_n_refused(const struct apply *a)
{
	return &a->n_refused;
}

const struct bird_version *apply_bird(const struct apply *a)
{
	return a->up ? &a->version : NULL;
}
