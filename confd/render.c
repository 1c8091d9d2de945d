/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "confd/render.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/sha1.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "confd/command.h"
#include "confd/templates.h"
#include "confd/watch.h"
#include "svc/loop.h"

#define LOG_MODULE "render"
#include "base/log.h"

#define CONF_MAX (64 * 1024)
#define FILE_MAX (64 * 1024 * 1024)
#define STAGED ".margay-new"
#define NAME_MARK "{name}"
#define RETRY_FIRST_MS 5000
#define RETRY_LAST_MS 60000
#define CONTENT_LEN 16
#define COMM_MAX 15 /* TASK_COMM_LEN less its NUL */

/* A file of ours, by its path. */
struct output {
	char *path, *name;
	uint32_t serial;  /* the last one that was used; 0 = not known */
	bool wanted;	  /* by the view that is being worked on */
	struct stat seen; /* what was there when it was looked at or put there; zeroes: nothing */
};

struct renderer {
	struct event_base *base;
	struct templates *templates;
	void (*changed)(void *arg);
	void *arg;

	char *conf_path;
	char *view_name, *template, *destination, *each, *check, *reload, *pid_file, *process;
	int signal;
	mode_t mode;

	json_t *view;
	VEC(struct output *) outputs;
	json_t *working; /* the view that is being worked on */
	size_t at;	 /* element of `each` */
	struct output *checking;
	bool written, owe_reload, failed;
	bool nameless; /* an element has no name: any file may be its */
	struct command *command;
	struct loop_task *task;
	struct loop_timer *pace;
	struct watch *watch; /* of the files' directories */
	bool touched;	     /* by others, under way */
	int64_t started_ms, retry_ms;
	bool adopted; /* what earlier runs have left */
	bool done;
	char *state;
};

static void set_state(struct renderer *r, bool done, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void set_state(struct renderer *r, bool done, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX + 256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (r->done == done && strcmp(r->state, text) == 0)
		return;
	free(r->state);
	r->state = mem_strdup(text);
	r->done = done;
	r->changed(r->arg);
}

/* Whoever fails goes on with what is next; the whole is tried again after a while. */
static void failed(struct renderer *r, const struct err *err)
{
	auto_free char *before = mem_strdup(r->state);

	set_state(r, false, "%s: %s", r->conf_path, err_text(err));
	if (strcmp(before, r->state) != 0)
		log_error("%s", r->state);
	r->failed = true;
}

/* ---- one file ---- */

/* text with every mark replaced */
static char *replace(const char *text, const char *mark, const char *by)
{
	auto_strbuf out = STRBUF_INIT;
	const char *at;

	while ((at = strstr(text, mark)) != NULL) {
		strbuf_addn(&out, text, (size_t)(at - text));
		strbuf_add(&out, by);
		text = at + strlen(mark);
	}
	strbuf_add(&out, text);
	return strbuf_take(&out);
}

static struct output *get_output(struct renderer *r, const char *name)
{
	auto_free char *path = replace(r->destination, NAME_MARK, name);
	struct output *o;

	for (size_t i = 0; i < r->outputs.n; i++)
		if (strcmp(r->outputs.v[i]->path, path) == 0)
			return r->outputs.v[i];
	o = mem_new(struct output);
	o->path = take_ptr(path);
	o->name = mem_strdup(name);
	vec_push(&r->outputs, o);
	return o;
}

static void output_free(struct output *o)
{
	free(o->path);
	free(o->name);
	free(o);
}

/* The view's members, the element's before them, and what the renderer adds. */
static json_t *context(const json_t *view, json_t *element, uint32_t serial, const char *content)
{
	json_t *c = json_copy((json_t *)(uintptr_t)view);

	if (element)
		json_object_update(c, element);
	json_object_set_new(c, "serial", json_integer(serial));
	json_object_set_new(c, "content", json_string(content));
	return c;
}

static int render_text(struct renderer *r, json_t *element, uint32_t serial, const char *content,
	struct strbuf *out, struct err *err)
{
	json_t *c = context(r->working, element, serial, content);
	int e = templates_render(r->templates, r->template, c, out, err);

	json_decref(c);
	return e;
}

static uint32_t next_serial(uint32_t before)
{
	uint32_t now = (uint32_t)(clock_real_ns() / 1000000000);

	return now > before ? now : before + 1;
}

/* ---- the mark: "dns.conf:0123456789abcdef/1700000000", what a file's `content` is ---- */

struct mark {
	char content[CONTENT_LEN + 1]; /* the hash of all but the serial */
	uint32_t serial;
};

static const char *conf_name(const struct renderer *r)
{
	const char *slash = strrchr(r->conf_path, '/');

	return slash ? slash + 1 : r->conf_path;
}

/* The first one in a text that is this renderer's. */
static bool find_mark(const struct renderer *r, const char *text, struct mark *ret)
{
	auto_free char *begin = mem_printf("%s:", conf_name(r));

	while ((text = strstr(text, begin)) != NULL) {
		char digits[sizeof("4294967295")] = "";
		const char *at = text += strlen(begin);
		size_t n;

		if (strspn(at, "0123456789abcdef") != CONTENT_LEN || at[CONTENT_LEN] != '/')
			continue;
		memcpy(ret->content, at, CONTENT_LEN);
		ret->content[CONTENT_LEN] = '\0';
		at += CONTENT_LEN + 1;
		n = strspn(at, "0123456789");
		if (n >= sizeof(digits))
			continue;
		memcpy(digits, at, n);
		if (parse_u32(digits, 0, UINT32_MAX, &ret->serial, NULL) == 0)
			return true;
	}
	return false;
}

static void look(const char *path, struct stat *ret)
{
	if (stat(path, ret) < 0)
		*ret = (struct stat){0};
}

/* Without the time of its last change, which is the rename's for what we put there. */
static bool is_as_seen(const struct output *o)
{
	struct stat now;

	look(o->path, &now);
	return now.st_ino == o->seen.st_ino && now.st_size == o->seen.st_size &&
	       now.st_mtim.tv_sec == o->seen.st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == o->seen.st_mtim.tv_nsec;
}

/* Watched from before it is read: what is changed from then on is told. */
static int read_output(struct renderer *r, struct output *o, char **ret, size_t *ret_len)
{
	const char *slash = strrchr(o->path, '/');
	auto_free char *dir = mem_strndup(o->path, (size_t)(slash - o->path) + 1);

	(void)watch_add(r->watch, dir);
	look(o->path, &o->seen);
	return file_read(o->path, FILE_MAX, ret, ret_len, NULL);
}

static int render_marked(struct renderer *r, json_t *element, const char *content, uint32_t serial,
	struct strbuf *out, struct err *err)
{
	auto_free char *mark = mem_printf("%s:%s/%u", conf_name(r), content, serial);

	strbuf_reset(out);
	return render_text(r, element, serial, mark, out, err);
}

static bool is_text(const char *there, size_t len, const struct strbuf *text)
{
	return there && len == text->len && memcmp(there, strbuf_str(text), len) == 0;
}

/* 1 = a new text is staged; 0 = what is there is as it should be. */
static int stage(struct renderer *r, struct output *o, json_t *element, struct err *err)
{
	auto_strbuf plain = STRBUF_INIT, text = STRBUF_INIT;
	auto_free char *there = NULL, *staged = NULL;
	char content[SHA1_HEX_SIZE];
	struct mark old;
	size_t len = 0;
	/* Also where it cannot be rendered: it was seen as it is. */
	bool readable = read_output(r, o, &there, &len) == 0;
	int e;

	e = render_text(r, element, 0, "", &plain, err);
	if (e < 0)
		return e;
	sha1_hex(strbuf_str(&plain), content);
	strbuf_done(&plain); /* as big as the two others */
	content[CONTENT_LEN] = '\0';
	if (readable && find_mark(r, there, &old)) {
		o->serial = old.serial > o->serial ? old.serial : o->serial;
		if (strcmp(old.content, content) == 0) {
			e = render_marked(r, element, content, old.serial, &text, err);
			if (e < 0 || is_text(there, len, &text))
				return e;
			log_warn("%s: somebody else has changed it", o->path);
		}
	}
	o->serial = next_serial(o->serial);
	e = render_marked(r, element, content, o->serial, &text, err);
	if (e < 0 || is_text(there, len, &text))
		return e;
	staged = mem_printf("%s" STAGED, o->path);
	e = file_write_atomic(staged, strbuf_str(&text), text.len, r->mode, err);
	return e < 0 ? e : 1;
}

/* The name for which this would be the destination, or NULL. */
static char *name_of(const char *destination, const char *file)
{
	const char *mark = strstr(destination, NAME_MARK), *end = mark + strlen(NAME_MARK);
	size_t before = (size_t)(mark - destination), after = strlen(end), len = strlen(file);

	if (len <= before + after || strncmp(file, destination, before) != 0 ||
		strcmp(file + len - after, end) != 0)
		return NULL;
	return mem_strndup(file + before, len - before - after);
}

/* What an earlier run has written, so that it goes if nobody wants it any more: by the mark in it. */
static void adopt(struct renderer *r)
{
	const char *file = strrchr(r->destination, '/') + 1;
	auto_free char *dir = mem_strndup(r->destination, (size_t)(file - r->destination));
	struct dirent **entries;
	int n;

	if (!strstr(file, NAME_MARK)) /* none, or in the directory's name */
		return;
	n = scandir(dir, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		auto_free char *name = name_of(file, entries[i]->d_name);
		auto_free char *path = mem_printf("%s%s", dir, entries[i]->d_name);
		auto_free char *text = NULL;
		struct mark mark;

		if (name && file_read(path, FILE_MAX, &text, NULL, NULL) == 0 &&
			find_mark(r, text, &mark))
			get_output(r, name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

static void swap(struct renderer *r, struct output *o)
{
	auto_free char *staged = mem_printf("%s" STAGED, o->path);
	struct err err = ERR_INIT;
	struct stat st;

	look(staged, &st);
	if (rename(staged, o->path) < 0) {
		err_sys(&err, -errno, "rename %s to %s", staged, o->path);
		failed(r, &err);
		return;
	}
	o->seen = st;
	log_info("%s: written", o->path);
	r->written = true;
}

/* ---- commands ---- */

/* Words parted by blanks; {} and {name} within them. */
static int start(struct renderer *r, const char *text, const struct output *o,
	command_done_fn *done, struct err *err)
{
	auto_free char *copy = mem_strdup(text);
	VEC(char *) argv = {0};
	char *rest = copy, *word;
	int e;

	while ((word = strsep(&rest, " \t")) != NULL) {
		auto_free char *staged = o ? mem_printf("%s" STAGED, o->path) : NULL;
		auto_free char *named = replace(word, NAME_MARK, o ? o->name : "");

		if (*word)
			vec_push(&argv, o ? replace(named, "{}", staged) : mem_strdup(named));
	}
	vec_push(&argv, NULL);
	e = command_start(
		r->base, (const char *const *)argv.v, RENDER_COMMAND_MS, done, r, &r->command, err);
	for (size_t i = 0; i < argv.n; i++)
		free(argv.v[i]);
	vec_done(&argv);
	return e;
}

/*
 * Whether it is whose pid file that is, rather than another one, which got the number of one that has
 * died: by its name, for the time at which a process has begun and that of a file are not comparable
 * once a clock was set. Without a name it is that of the file: knot.pid is of what begins with "knot".
 */
static bool is_process_of(const struct renderer *r, const char *comm, const char *pid_file)
{
	const char *slash = strrchr(pid_file, '/');
	const char *want = r->process ? r->process : slash ? slash + 1 : pid_file;
	size_t len = r->process ? strlen(want) : strcspn(want, ".");

	return len > 0 && strncmp(comm, want, len < COMM_MAX ? len : COMM_MAX) == 0;
}

/* No file, or no process: it is not running, and its next start reads the files. */
static int signal_one(const struct renderer *r, const char *pid_file, struct err *err)
{
	auto_free char *text = NULL, *comm_path = NULL, *comm = NULL;
	uint32_t pid;
	int e = file_read(pid_file, 64, &text, NULL, err);

	if (e < 0)
		return e == -ENOENT ? 0 : e;
	text[strcspn(text, "\r\n \t")] = '\0';
	e = parse_u32(text, 2, INT32_MAX, &pid, err);
	if (e < 0)
		return err_wrap(err, e, "%s", pid_file);
	comm_path = mem_printf("/proc/%u/comm", pid);
	e = file_read(comm_path, 64, &comm, NULL, err);
	if (e < 0)
		return e == -ENOENT || e == -ESRCH ? 0 : e;
	comm[strcspn(comm, "\n")] = '\0';
	if (!is_process_of(r, comm, pid_file))
		return err_set(err, -ESRCH,
			"%s: process %u is \"%s\", not the one that wrote it, and was not told. "
			"See reload_process",
			pid_file, pid, comm);
	if (kill((pid_t)pid, r->signal) < 0 && errno != ESRCH)
		return err_sys(
			err, -errno, "signal %d to process %u of %s", r->signal, pid, pid_file);
	return 0;
}

/* To all of them; the first failure. */
static int send_signals(const struct renderer *r, struct err *err)
{
	auto_free char *copy = mem_strdup(r->pid_file);
	char *rest = copy, *path;
	int e = 0;

	while ((path = strsep(&rest, " \t")) != NULL)
		if (*path) {
			int one = signal_one(r, path, e < 0 ? NULL : err);

			e = e < 0 ? e : one;
		}
	return e;
}

/* ---- the work: file after file, then one reload ---- */

static void step(struct renderer *r);

static void retry_later(struct renderer *r)
{
	loop_timer_set(r->pace, r->retry_ms);
	r->retry_ms = 2 * r->retry_ms > RETRY_LAST_MS ? RETRY_LAST_MS : 2 * r->retry_ms;
}

static void settled(struct renderer *r)
{
	r->retry_ms = RETRY_FIRST_MS;
	set_state(r, true, "%s: all files are as they should be", r->conf_path);
}

/*
 * What nobody wants goes, whatever failed of the others: but not while its reader was not told, or it may
 * be that of an element without a name.
 */
static void end(struct renderer *r)
{
	bool outdated = r->working != r->view || r->touched;
	size_t kept = 0;

	json_decref(take_ptr(r->working));
	for (size_t i = 0; i < r->outputs.n; i++) {
		struct output *o = r->outputs.v[i];

		if (o->wanted || r->owe_reload || r->nameless) {
			r->outputs.v[kept++] = o;
			continue;
		}
		log_info("%s: not wanted any more", o->path);
		unlink(o->path);
		output_free(o);
	}
	r->outputs.n = kept;
	if (outdated)
		loop_task_schedule(r->task);
	else if (r->failed)
		retry_later(r);
	else
		settled(r);
}

static void on_reloaded(void *arg, int e, const struct err *err)
{
	struct renderer *r = arg;

	r->command = NULL;
	r->owe_reload = e < 0;
	if (e < 0)
		failed(r, err);
	end(r);
}

static void reload(struct renderer *r)
{
	struct err err = ERR_INIT;
	int e = 0;

	r->owe_reload |= r->written;
	if (r->owe_reload && r->reload) {
		e = start(r, r->reload, NULL, on_reloaded, &err);
		if (e == 0)
			return;
	} else if (r->owe_reload && r->pid_file) {
		e = send_signals(r, &err);
	}
	r->owe_reload = e < 0;
	if (e < 0)
		failed(r, &err);
	end(r);
}

static void on_checked(void *arg, int e, const struct err *err)
{
	struct renderer *r = arg;
	struct output *o = take_ptr(r->checking);

	r->command = NULL;
	if (e < 0) {
		struct err why = *err;

		err_wrap(&why, e, "%s is refused, and the one before stays", o->path);
		o->serial--; /* was not used */
		failed(r, &why);
	} else {
		swap(r, o);
	}
	step(r);
}

/* The next element, or NULL at the end. *ret_name: what takes the place of {name}. */
static bool next_element(struct renderer *r, json_t **ret, const char **ret_name)
{
	const json_t *all = r->each ? json_object_get(r->working, r->each) : NULL;

	*ret = NULL;
	*ret_name = "";
	if (!r->each)
		return r->at++ == 0;
	if (r->at >= json_array_size(all))
		return false;
	*ret = json_array_get(all, r->at++);
	*ret_name = json_string_value(json_object_get(*ret, "name"));
	return true;
}

static void step(struct renderer *r)
{
	json_t *element;
	const char *name;

	while (next_element(r, &element, &name)) {
		struct err err = ERR_INIT;
		struct output *o;
		int e;

		if (r->each && (!name || !*name || *name == '.' || strchr(name, '/'))) {
			err_set(&err, -EINVAL,
				"view %s: an element of \"%s\" has no `name` for a file",
				r->view_name, r->each);
			r->nameless = true;
			failed(r, &err);
			continue;
		}
		o = get_output(r, name);
		o->wanted = true;
		e = stage(r, o, element, &err);
		if (e < 0) {
			failed(r, &err);
		} else if (e > 0 && r->check) {
			r->checking = o;
			e = start(r, r->check, o, on_checked, &err);
			if (e == 0)
				return;
			r->checking = NULL;
			failed(r, &err);
		} else if (e > 0) {
			swap(r, o);
		}
	}
	reload(r);
}

static void work(void *arg)
{
	struct renderer *r = arg;
	int64_t now = clock_mono_ms();

	if (!r->view || r->working) /* see end() */
		return;
	if (r->started_ms > 0 && now - r->started_ms < RENDER_PACE_MS) {
		loop_timer_set(r->pace, r->started_ms + RENDER_PACE_MS - now);
		return;
	}
	loop_timer_cancel(r->pace);
	r->started_ms = now;
	r->working = json_incref(r->view);
	r->at = 0;
	r->written = r->failed = r->nameless = r->touched = false;
	if (!r->adopted)
		adopt(r);
	r->adopted = true;
	for (size_t i = 0; i < r->outputs.n; i++)
		r->outputs.v[i]->wanted = false;
	step(r);
}

/* Our own renames, too, which leave everything as it was seen. */
static void on_touched(void *arg)
{
	struct renderer *r = arg;

	for (size_t i = 0; i < r->outputs.n; i++)
		if (r->outputs.v[i]->wanted && !is_as_seen(r->outputs.v[i])) {
			r->touched = true;
			loop_task_schedule(r->task);
			return;
		}
}

void renderer_set(struct renderer *r, json_t *view)
{
	if (r->view && json_equal(r->view, view))
		return;
	json_decref(r->view);
	r->view = json_incref(view);
	r->retry_ms = RETRY_FIRST_MS;
	loop_task_schedule(r->task);
}

/* ---- configuration ---- */

static const struct {
	const char *name;
	int number;
} signals[] = {{"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM}};

static int parse_signal(const char *value, int *ret, struct err *err)
{
	const char *s = strncmp(value, "SIG", 3) == 0 ? value + 3 : value;

	for (size_t i = 0; i < array_size(signals); i++)
		if (strcmp(s, signals[i].name) == 0) {
			*ret = signals[i].number;
			return 0;
		}
	return err_set(
		err, -EINVAL, "reload_signal: \"%.20s\": want HUP, USR1, USR2 or TERM", value);
}

static int parse_mode(const char *value, mode_t *ret, struct err *err)
{
	size_t n = strspn(value, "01234567");

	if (n < 3 || n > 4 || value[n])
		return err_set(
			err, -EINVAL, "mode: \"%.20s\": want octal digits, like 0644", value);
	*ret = (mode_t)strtoul(value, NULL, 8) & 0777;
	return 0;
}

static int set_key(struct renderer *r, const char *key, const char *value, struct err *err)
{
	const struct {
		const char *key;
		char **to;
	} texts[] = {{"view", &r->view_name}, {"template", &r->template},
		{"destination", &r->destination}, {"each", &r->each}, {"check", &r->check},
		{"reload", &r->reload}, {"reload_pid_file", &r->pid_file},
		{"reload_process", &r->process}};

	if (!*value)
		return err_set(err, -EINVAL, "%.40s: want a value", key);
	if (strcmp(key, "mode") == 0)
		return parse_mode(value, &r->mode, err);
	if (strcmp(key, "reload_signal") == 0)
		return parse_signal(value, &r->signal, err);
	for (size_t i = 0; i < array_size(texts); i++)
		if (strcmp(key, texts[i].key) == 0) {
			free(*texts[i].to);
			*texts[i].to = mem_strdup(value);
			return 0;
		}
	return err_set(err, -EINVAL,
		"\"%.40s\" is no key: want view, template, destination, each, mode, check, reload, "
		"reload_pid_file, reload_process or reload_signal",
		key);
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	n = strlen(s);
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

static int parse_line(struct renderer *r, char *line, struct err *err)
{
	char *eq;

	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	eq = strchr(line, '=');
	if (!eq)
		return err_set(err, -EINVAL, "\"%.60s\": want KEY = VALUE", line);
	*eq = '\0';
	return set_key(r, trim(line), trim(eq + 1), err);
}

static int parse_conf(struct renderer *r, char *text, struct err *err)
{
	char *rest = text, *line;

	for (int no = 1; (line = strsep(&rest, "\n")) != NULL; no++) {
		int e = parse_line(r, line, err);

		if (e < 0)
			return err_wrap(err, e, "%s:%d", r->conf_path, no);
	}
	if (!r->view_name || !r->template || !r->destination)
		return err_set(err, -EINVAL, "%s: %s is missing", r->conf_path,
			!r->view_name  ? "view"
			: !r->template ? "template"
				       : "destination");
	if (r->destination[0] != '/')
		return err_set(err, -EINVAL, "%s: destination: \"%.80s\": want an absolute path",
			r->conf_path, r->destination);
	if (!r->each != !strstr(r->destination, NAME_MARK))
		return err_set(err, -EINVAL,
			"%s: each and " NAME_MARK " in destination go together", r->conf_path);
	return 0;
}

int renderer_new(struct event_base *base, struct templates *templates, const char *path,
	void (*changed)(void *arg), void *arg, struct renderer **ret, struct err *err)
{
	auto_(renderer) struct renderer *r = mem_new(struct renderer);
	auto_free char *text = NULL;
	int e;

	r->base = base;
	r->templates = templates;
	r->changed = changed;
	r->arg = arg;
	r->conf_path = mem_strdup(path);
	r->retry_ms = RETRY_FIRST_MS;
	r->signal = SIGHUP;
	r->mode = 0644;
	r->owe_reload = true; /* one before may have ended between a rename and the signal */
	r->state = mem_printf("%s: waiting for the datastore", path);
	e = file_read(path, CONF_MAX, &text, NULL, err);
	if (e == 0)
		e = parse_conf(r, text, err);
	if (e < 0)
		return e;
	r->task = loop_task_new(base, work, r);
	r->pace = loop_timer_new(base, work, r);
	r->watch = watch_new(base, on_touched, r);
	*ret = take_ptr(r);
	return 0;
}

void renderer_free(struct renderer *r)
{
	if (!r)
		return;
	command_cancel(r->command);
	watch_free(r->watch);
	loop_task_free(r->task);
	loop_timer_free(r->pace);
	for (size_t i = 0; i < r->outputs.n; i++)
		output_free(r->outputs.v[i]);
	vec_done(&r->outputs);
	json_decref(r->view);
	json_decref(r->working);
	free(r->conf_path);
	free(r->view_name);
	free(r->template);
	free(r->destination);
	free(r->each);
	free(r->check);
	free(r->reload);
	free(r->pid_file);
	free(r->process);
	free(r->state);
	free(r);
}

const char *renderer_view(const struct renderer *r)
{
	return r->view_name;
}

bool renderer_is_done(const struct renderer *r)
{
	return r->done;
}

const char *renderer_state(const struct renderer *r)
{
	return r->state;
}
