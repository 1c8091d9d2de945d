/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client of BIRD's control socket. Replies are parsed by a pure state machine that both forms of
 * client share. The client of the event loop has one command under way at a time: BIRD drops a
 * connection on which more than 1023 bytes wait to be read.
 */
#include "svc/bird.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/vec.h"
#include "svc/loop.h"

/* ---- replies ---- */

void bird_reply_done(struct bird_reply *r)
{
	free(r->lines);
	free(r->text_);
	*r = (struct bird_reply){0};
}

const char *bird_reply_text(const struct bird_reply *r, int code)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->lines[i].code == code)
			return r->lines[i].text;
	return NULL;
}

int bird_reply_check(const struct bird_reply *r, const char *what, struct err *err)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->lines[i].code >= 8000)
			return err_set(err, -EINVAL, "%s: %s (%04d)", what, r->lines[i].text,
				r->lines[i].code);
	return 0;
}

void bird_parser_done(struct bird_parser *p)
{
	strbuf_done(&p->line);
	strbuf_done(&p->text);
	free(p->lines);
	*p = BIRD_PARSER_INIT;
}

static bool starts_with_code(const char *s, size_t n)
{
	for (size_t i = 0; i < 4; i++)
		if (i >= n || s[i] < '0' || s[i] > '9')
			return false;
	return n > 4 && (s[4] == ' ' || s[4] == '-');
}

static void parser_keep(struct bird_parser *p, int code, const char *text)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 8;
		p->lines = mem_realloc_array(p->lines, p->cap, sizeof(*p->lines));
	}
	p->lines[p->n++].code = code;
	strbuf_add(&p->text, text);
	strbuf_addc(&p->text, '\0');
}

/* The line in p->line. 1: it ends the reply. */
static int parser_line(struct bird_parser *p, struct err *err)
{
	const char *s = strbuf_str(&p->line);
	size_t n = p->line.len;

	if (n > 0 && s[n - 1] == '\r')
		p->line.s[--n] = '\0';
	if (strlen(s) != n)
		return err_set(err, -EPROTO, "BIRD: a NUL in a reply");
	if (s[0] == '+')
		return 0;
	if (starts_with_code(s, n)) {
		p->code = (s[0] - '0') * 1000 + (s[1] - '0') * 100 + (s[2] - '0') * 10 + s[3] - '0';
		parser_keep(p, p->code, s + 5);
		return s[4] == ' ';
	}
	if (p->code < 0 || (n > 0 && s[0] != ' '))
		return err_set(err, -EPROTO,
			"BIRD: \"%.60s\" is no line of a reply; is this BIRD's control socket?", s);
	parser_keep(p, p->code, n > 0 ? s + 1 : s);
	return 0;
}

static void parser_take(struct bird_parser *p, struct bird_reply *ret)
{
	const char *at;

	*ret = (struct bird_reply){.lines = take_ptr(p->lines), .n = p->n};
	ret->text_ = strbuf_take(&p->text);
	at = ret->text_;
	for (size_t i = 0; i < ret->n; i++) {
		ret->lines[i].text = at;
		at += strlen(at) + 1;
	}
	p->n = p->cap = 0;
	p->code = -1;
}

int bird_parser_feed(struct bird_parser *p, const char *bytes, size_t n, size_t *used,
	struct bird_reply *ret, struct err *err)
{
	*used = 0;
	while (*used < n) {
		const char *at = bytes + *used;
		const char *eol = memchr(at, '\n', n - *used);
		size_t len = eol ? (size_t)(eol - at) : n - *used;
		int r;

		if (p->line.len + len > BIRD_LINE_MAX)
			return err_set(
				err, -EPROTO, "BIRD: a line of more than %d bytes", BIRD_LINE_MAX);
		if (p->text.len + len > BIRD_REPLY_MAX)
			return err_set(err, -EPROTO, "BIRD: a reply of more than %d bytes",
				BIRD_REPLY_MAX);
		strbuf_addn(&p->line, at, len);
		*used += len + (eol != NULL);
		if (!eol)
			return 0;
		r = parser_line(p, err);
		strbuf_reset(&p->line);
		if (r < 0)
			return r;
		if (r > 0) {
			parser_take(p, ret);
			return 1;
		}
	}
	return 0;
}

/* ---- what replies say ---- */

int bird_version_parse(const char *text, struct bird_version *ret, struct err *err)
{
	const char *s = strstr(text, "BIRD ");
	struct bird_version v = {0};

	if (!s || sscanf(s + 5, "%3u.%3u.%3u", &v.major, &v.minor, &v.patch) < 2)
		return err_set(err, -EINVAL,
			"BIRD: want \"BIRD VERSION ready.\" of version 2 or 3, got \"%.60s\"",
			text);
	*ret = v;
	return 0;
}

int bird_version_compare(const struct bird_version *v, unsigned major, unsigned minor)
{
	if (v->major != major)
		return v->major < major ? -1 : 1;
	if (v->minor != minor)
		return v->minor < minor ? -1 : 1;
	return 0;
}

/* Cuts the word at *s out, and goes on behind the blanks after it. */
static const char *cut_word(char **s)
{
	char *word = *s;
	size_t n = strcspn(word, " \t");

	*s = word + n + strspn(word + n, " \t");
	word[n] = '\0';
	return word;
}

static void trim_end(char *s)
{
	size_t n = strlen(s);

	while (n > 0 && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
}

int bird_protocols_parse(const struct bird_reply *r, struct bird_protocols *ret, struct err *err)
{
	struct bird_protocols ps = {0};
	auto_strbuf text = STRBUF_INIT;
	char *at;
	int e;

	e = bird_reply_check(r, "BIRD: show protocols", err);
	if (e < 0)
		return e;
	for (size_t i = 0; i < r->n; i++)
		if (r->lines[i].code == 1002) {
			strbuf_add(&text, r->lines[i].text);
			strbuf_addc(&text, '\0');
			ps.n++;
		}
	ps.v = mem_realloc_array(NULL, ps.n + 1, sizeof(*ps.v));
	ps.text_ = strbuf_take(&text);
	at = ps.text_;
	for (size_t i = 0; i < ps.n; i++) {
		char *next = at + strlen(at) + 1, *s = at;
		struct bird_protocol *p = &ps.v[i];
		char *gap;

		trim_end(s);
		s += strspn(s, " ");
		p->name = cut_word(&s);
		p->proto = cut_word(&s);
		p->table = cut_word(&s);
		p->state = cut_word(&s);
		p->since = s; /* may hold a blank: "2026-08-01 12:00:05.123" */
		gap = strstr(s, "  ");
		p->info = gap ? gap + strspn(gap, " ") : s + strlen(s);
		if (gap)
			*gap = '\0';
		at = next;
	}
	*ret = ps;
	return 0;
}

void bird_protocols_done(struct bird_protocols *ps)
{
	free(ps->v);
	free(ps->text_);
	*ps = (struct bird_protocols){0};
}

const struct bird_protocol *bird_protocols_find(const struct bird_protocols *ps, const char *name)
{
	for (size_t i = 0; i < ps->n; i++)
		if (strcmp(ps->v[i].name, name) == 0)
			return &ps->v[i];
	return NULL;
}

int bird_configure_result(const struct bird_reply *r, struct err *err)
{
	for (size_t i = 0; i < r->n; i++) {
		int code = r->lines[i].code;

		if (code >= 8000)
			return err_set(err, -EINVAL, "%s", r->lines[i].text);
		if (code == 3 || code == 20)
			return 0;
		if (code == 4 || code == 5)
			return 1;
		if (code == 6)
			return err_set(err, -EINVAL, "BIRD is shutting down");
	}
	return err_set(err, -EINVAL, "BIRD answered \"%s\" (%04d) to configure",
		r->lines[r->n - 1].text, r->lines[r->n - 1].code);
}

int bird_cmd_configure(struct strbuf *out, bool check, const char *path, struct err *err)
{
	if (path && (strpbrk(path, "\"\n\r") || strlen(path) > BIRD_COMMAND_MAX - 32))
		return err_set(err, -EINVAL,
			"\"%.80s\": BIRD takes no path with a quote or a line's end in it, or of more than "
			"%d bytes",
			path, BIRD_COMMAND_MAX - 32);
	strbuf_add(out, check ? "configure check" : "configure");
	if (path)
		strbuf_addf(out, " \"%s\"", path);
	return 0;
}

void bird_cmd_reload_out(struct strbuf *out, const struct bird_version *v, const char *protocol)
{
	strbuf_addf(out, "reload %sout %s", v->major >= 3 ? "filters " : "", protocol);
}

/* ---- the socket ---- */

static int connect_to(const char *path, struct err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	auto_close int fd = -1;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(err, -EINVAL, "%s: a socket's path has at most %zu bytes", path,
			sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = errno == EACCES ? -EACCES : -EHOSTUNREACH;
		err_sys(err, -errno, "BIRD's control socket %s", path);
		if (err)
			err->code = r;
		return r;
	}
	return take_fd(fd);
}

static int send_command(int fd, const char *command, struct err *err)
{
	auto_strbuf line = STRBUF_INIT;
	ssize_t n;

	assert(strlen(command) <= BIRD_COMMAND_MAX && !strchr(command, '\n'));
	strbuf_addf(&line, "%s\n", command);
	n = send(fd, line.s, line.len, MSG_NOSIGNAL);
	if (n == (ssize_t)line.len)
		return 0;
	return err_sys(err, -EHOSTUNREACH, "BIRD: %s: cannot be sent", command);
}

/* Reads into the parser: 1 = *ret is a reply, 0 = nothing more to read now. */
struct input {
	char buf[16384];
	size_t at, n;
};

static int read_reply(
	int fd, struct input *in, struct bird_parser *p, struct bird_reply *ret, struct err *err)
{
	for (;;) {
		size_t used;
		ssize_t n;
		int r;

		r = bird_parser_feed(p, in->buf + in->at, in->n - in->at, &used, ret, err);
		in->at += used;
		if (r != 0)
			return r;
		n = recv(fd, in->buf, sizeof(in->buf), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return err_set(err, -EHOSTUNREACH, "BIRD closed the connection");
		in->at = 0;
		in->n = (size_t)n;
	}
}

/* ---- calls that wait ---- */

struct bird {
	int fd;
	struct bird_version version;
	struct bird_parser parser;
	struct input in;
};

static int wait_reply(struct bird *b, const char *what, int64_t deadline_ms, struct bird_reply *ret,
	struct err *err)
{
	for (;;) {
		int r = read_reply(b->fd, &b->in, &b->parser, ret, err);
		int64_t left = deadline_ms - clock_mono_ms();
		struct pollfd pfd = {.fd = b->fd, .events = POLLIN};

		if (r < 0)
			return err_wrap(err, r, "BIRD: %s", what);
		if (r > 0)
			return 0;
		if (left <= 0)
			return err_set(err, -ETIMEDOUT, "BIRD: %s: no answer in time", what);
		poll(&pfd, 1, left > INT_MAX ? INT_MAX : (int)left);
	}
}

int bird_open(const char *path, int64_t deadline_ms, struct bird **ret, struct err *err)
{
	auto_(bird) struct bird *b = NULL;
	struct bird_reply greeting;
	int fd, r;

	fd = connect_to(path, err);
	if (fd < 0)
		return fd;
	b = mem_new(struct bird);
	b->fd = fd;
	b->parser = BIRD_PARSER_INIT;
	r = wait_reply(b, "greeting", deadline_ms, &greeting, err);
	if (r < 0)
		return r;
	r = bird_version_parse(greeting.lines[0].text, &b->version, err);
	bird_reply_done(&greeting);
	if (r < 0)
		return err_set(err, -EPROTO, "%s: not BIRD 2 or 3", path);
	*ret = take_ptr(b);
	return 0;
}

void bird_close(struct bird *b)
{
	if (!b)
		return;
	close(b->fd);
	bird_parser_done(&b->parser);
	free(b);
}

const struct bird_version *bird_version(const struct bird *b)
{
	return &b->version;
}

int bird_call(struct bird *b, const char *command, int64_t deadline_ms, struct bird_reply *ret,
	struct err *err)
{
	int r = send_command(b->fd, command, err);

	return r < 0 ? r : wait_reply(b, command, deadline_ms, ret, err);
}

int bird_show_protocols(
	struct bird *b, int64_t deadline_ms, struct bird_protocols *ret, struct err *err)
{
	struct bird_reply reply;
	int r = bird_call(b, "show protocols", deadline_ms, &reply, err);

	if (r < 0)
		return r;
	r = bird_protocols_parse(&reply, ret, err);
	bird_reply_done(&reply);
	return r;
}

/* ---- the client of an event loop ---- */

/* After the socket or its directory changed: BIRD binds, then listens, then sets the owner. */
#define RETRY_FIRST_MS 10
#define RETRY_LAST_MS 640
#define RETRY_SLOW_MS 10000 /* for what inotify does not tell, such as a full backlog */

struct call {
	struct list in_queue;
	char *command;
	bird_done_fn *done;
	void *arg;
};

enum client_state { CLIENT_DOWN, CLIENT_GREETING, CLIENT_UP };

struct bird_client {
	struct event_base *base;
	char *path;
	const struct bird_client_ops *ops;
	void *arg;
	enum client_state state;
	bool told_down;
	int fd;
	struct loop_fd *fd_event;
	struct bird_version version;
	struct bird_parser parser;
	struct input in;
	struct list queue;
	bool sent; /* the first of the queue */
	struct loop_timer *timeout, *retry;
	struct loop_task *task;
	int64_t retry_ms;
	int inotify, watch;
	char *watched; /* the directory, NULL = none */
	struct loop_fd *inotify_event;
};

static void client_work(void *arg);
static void client_connect(void *arg);

static void call_finish(struct call *call, const struct bird_reply *reply, const struct err *err)
{
	list_del(&call->in_queue);
	call->done(call->arg, reply, err);
	free(call->command);
	free(call);
}

static void unwatch(struct bird_client *c)
{
	if (c->watched)
		inotify_rm_watch(c->inotify, c->watch);
	free(take_ptr(c->watched));
}

/* Watches the socket's directory, or the nearest one above that exists. True: another than before. */
static bool watch(struct bird_client *c)
{
	auto_free char *dir = mem_strdup(c->path);
	char *slash;
	int wd = -1;

	while (wd < 0 && (slash = strrchr(dir, '/')) != NULL) {
		slash[slash == dir] = '\0';
		wd = inotify_add_watch(c->inotify, dir,
			IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF);
		if (strcmp(dir, "/") == 0)
			break;
	}
	if (wd < 0 || (c->watched && strcmp(c->watched, dir) == 0 && wd == c->watch))
		return false;
	if (wd != c->watch)
		unwatch(c);
	free(c->watched);
	c->watched = take_ptr(dir);
	c->watch = wd;
	return true;
}

static void client_lost(struct bird_client *c, const struct err *err)
{
	bool tell = c->state == CLIENT_UP || !c->told_down;
	struct list failed;

	loop_fd_free(take_ptr(c->fd_event));
	if (c->fd >= 0)
		close(take_fd(c->fd));
	bird_parser_done(&c->parser);
	c->in.at = c->in.n = 0;
	c->sent = false;
	c->state = CLIENT_DOWN;
	loop_timer_cancel(c->timeout);

	list_init(&failed);
	while (!list_empty(&c->queue)) {
		struct list *first = c->queue.next;

		list_del(first);
		list_add_tail(&failed, first);
	}
	while (!list_empty(&failed))
		call_finish(list_entry(failed.next, struct call, in_queue), NULL, err);
	c->told_down = true;
	if (tell)
		c->ops->down(c->arg, err);
	loop_timer_set(c->retry, c->retry_ms);
	c->retry_ms = c->retry_ms >= RETRY_LAST_MS ? RETRY_SLOW_MS : 2 * c->retry_ms;
}

static void client_send(struct bird_client *c)
{
	struct call *call;
	struct err err = ERR_INIT;

	if (c->state != CLIENT_UP || c->sent || list_empty(&c->queue))
		return;
	call = list_entry(c->queue.next, struct call, in_queue);
	if (send_command(c->fd, call->command, &err) < 0) {
		client_lost(c, &err);
		return;
	}
	c->sent = true;
	loop_timer_set(c->timeout, BIRD_TIMEOUT_MS);
}

static int client_reply(struct bird_client *c, const struct bird_reply *reply, struct err *err)
{
	int r;

	if (c->state == CLIENT_GREETING) {
		r = bird_version_parse(reply->lines[0].text, &c->version, err);
		if (r < 0)
			return r;
		loop_timer_cancel(c->timeout);
		c->state = CLIENT_UP;
		c->told_down = false;
		c->retry_ms = RETRY_FIRST_MS;
		unwatch(c);
		c->ops->up(c->arg, &c->version);
		return 0;
	}
	if (!c->sent)
		return err_set(
			err, -EPROTO, "BIRD: \"%.60s\" was not asked for", reply->lines[0].text);
	loop_timer_cancel(c->timeout);
	c->sent = false;
	call_finish(list_entry(c->queue.next, struct call, in_queue), reply, NULL);
	return 0;
}

static void client_readable(void *arg)
{
	struct bird_client *c = arg;
	struct bird_reply reply;
	struct err err = ERR_INIT;
	int r;

	while ((r = read_reply(c->fd, &c->in, &c->parser, &reply, &err)) > 0) {
		r = client_reply(c, &reply, &err);
		bird_reply_done(&reply);
		if (r < 0)
			break;
	}
	if (r < 0)
		client_lost(c, &err);
	else
		client_send(c);
}

static void client_timeout(void *arg)
{
	struct bird_client *c = arg;
	struct err err = ERR_INIT;

	err_set(&err, -ETIMEDOUT, "BIRD on %s has not answered for %d s", c->path,
		BIRD_TIMEOUT_MS / 1000);
	client_lost(c, &err);
}

static void client_connect(void *arg)
{
	struct bird_client *c = arg;
	struct err err = ERR_INIT;

	if (c->state != CLIENT_DOWN)
		return;
	loop_timer_cancel(c->retry);
	/* Again where the watch is new: the socket may have come just before it. */
	do {
		c->fd = connect_to(c->path, &err);
	} while (c->fd < 0 && watch(c));
	if (c->fd < 0) {
		client_lost(c, &err);
		return;
	}
	c->state = CLIENT_GREETING;
	c->fd_event = loop_fd_new(c->base, c->fd, LOOP_READ, client_readable, c);
	loop_timer_set(c->timeout, BIRD_TIMEOUT_MS);
}

static void inotify_readable(void *arg)
{
	struct bird_client *c = arg;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	const char *name = strrchr(c->path, '/') ? strrchr(c->path, '/') + 1 : c->path;
	bool any = false, began = false;
	ssize_t n;

	while ((n = read(c->inotify, buf, sizeof(buf))) > 0) {
		const struct inotify_event *ev;

		for (char *at = buf; at < buf + n; at += sizeof(*ev) + ev->len) {
			ev = (const struct inotify_event *)(void *)at;
			any |= !(ev->mask & IN_IGNORED);
			began |= (ev->mask & IN_CREATE) && ev->len > 0 &&
				 strcmp(ev->name, name) == 0;
		}
	}
	if (began && c->state != CLIENT_UP && c->ops->began)
		c->ops->began(c->arg);
	if (!any || c->state != CLIENT_DOWN)
		return;
	c->retry_ms = RETRY_FIRST_MS;
	client_connect(c);
}

/* Once per turn: what was queued is sent, or refused where there is no BIRD. */
static void client_work(void *arg)
{
	struct bird_client *c = arg;
	struct err err = ERR_INIT;

	if (c->state == CLIENT_UP) {
		client_send(c);
		return;
	}
	err_set(&err, -EHOSTUNREACH, "BIRD on %s is not there", c->path);
	while (!list_empty(&c->queue))
		call_finish(list_entry(c->queue.next, struct call, in_queue), NULL, &err);
}

struct bird_client *bird_client_new(
	struct event_base *base, const char *path, const struct bird_client_ops *ops, void *arg)
{
	struct bird_client *c = mem_new(struct bird_client);

	c->base = base;
	c->path = mem_strdup(path);
	c->ops = ops;
	c->arg = arg;
	c->fd = -1;
	c->watch = -1;
	c->parser = BIRD_PARSER_INIT;
	list_init(&c->queue);
	c->retry_ms = RETRY_FIRST_MS;
	c->timeout = loop_timer_new(base, client_timeout, c);
	c->retry = loop_timer_new(base, client_connect, c);
	c->task = loop_task_new(base, client_work, c);
	c->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (c->inotify >= 0)
		c->inotify_event = loop_fd_new(base, c->inotify, LOOP_READ, inotify_readable, c);
	loop_timer_set(c->retry, 0);
	return c;
}

void bird_client_free(struct bird_client *c)
{
	if (!c)
		return;
	while (!list_empty(&c->queue)) {
		struct call *call = list_entry(c->queue.next, struct call, in_queue);

		list_del(&call->in_queue);
		free(call->command);
		free(call);
	}
	loop_fd_free(c->fd_event);
	loop_fd_free(c->inotify_event);
	loop_timer_free(c->timeout);
	loop_timer_free(c->retry);
	loop_task_free(c->task);
	if (c->fd >= 0)
		close(c->fd);
	if (c->inotify >= 0)
		close(c->inotify);
	bird_parser_done(&c->parser);
	free(c->watched);
	free(c->path);
	free(c);
}

bool bird_client_is_up(const struct bird_client *c)
{
	return c->state == CLIENT_UP;
}

void bird_client_call(struct bird_client *c, const char *command, bird_done_fn *done, void *arg)
{
	struct call *call = mem_new(struct call);

	call->command = mem_strdup(command);
	call->done = done;
	call->arg = arg;
	list_add_tail(&c->queue, &call->in_queue);
	loop_task_schedule(c->task);
}
