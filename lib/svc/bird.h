/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BIRD's control socket (2.0.12 to 3.x): commands out, replies of numbered lines in.
 *
 * The parser is pure. A reply is the lines up to one that is "dddd text"; "dddd-text" and " text" go
 * on, "+text" is not part of any reply and dropped. On top of it are calls that wait, for programs
 * without an event loop, and a client for those that have one, which finds BIRD again by itself.
 *
 * A command is one line of at most BIRD_COMMAND_MAX bytes with full keywords: abbreviations are
 * birdc's business.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/strbuf.h"

struct bird;
struct bird_client;
struct err;
struct event_base;

#define BIRD_CTL_PATH "/run/bird/bird.ctl"
#define BIRD_COMMAND_MAX 1022 /* BIRD drops the connection at more, newline included */
#define BIRD_LINE_MAX 4096
#define BIRD_REPLY_MAX (64 * 1024 * 1024)
#define BIRD_TIMEOUT_MS 10000 /* of one command: BIRD answers when its other work lets it */

/* ---- replies ---- */

struct bird_line {
	int code; /* 0..9999; class code / 1000: 0 ok, 1 entry, 2 heading, 8 run-time, 9 syntax error */
	const char *text;
};

struct bird_reply {
	struct bird_line *lines; /* never empty; the last one is the final one */
	size_t n;
	char *text_; /* what lines point into */
};
void bird_reply_done(struct bird_reply *r);
/* The first line of that code, or NULL. */
const char *bird_reply_text(const struct bird_reply *r, int code);
/* 0, or -EINVAL with BIRD's own words where a line is of class 8 or 9 ("no such route", 8001,
 * included). what: "BIRD: configure". */
int bird_reply_check(const struct bird_reply *r, const char *what, struct err *err);

struct bird_parser {
	struct strbuf line, text; /* of the line and of the reply so far, a NUL after each line */
	struct bird_line *lines;  /* texts are set when the reply is whole */
	size_t n, cap;
	int code; /* of the line before in this reply, -1 = none */
};
#define BIRD_PARSER_INIT ((struct bird_parser){.code = -1})
void bird_parser_done(struct bird_parser *p);
/*
 * Takes bytes up to the end of a reply. 1: *ret is whole and the caller's; 0: all n bytes taken, more
 * are needed; -EPROTO: not BIRD, or beyond the bounds: give the connection up. *used is set in any case.
 */
int bird_parser_feed(struct bird_parser *p, const char *bytes, size_t n, size_t *used,
	struct bird_reply *ret, struct err *err);

/* ---- what replies say ---- */

struct bird_version {
	unsigned major, minor, patch;
};
/* From the greeting, or any text with "BIRD 2.0.12" in it. EINVAL: no version there. */
int bird_version_parse(const char *text, struct bird_version *ret, struct err *err);
/* <0, 0, >0 as strcmp. */
int bird_version_compare(const struct bird_version *v, unsigned major, unsigned minor);

/* A row of "show protocols". Strings are borrowed from the table. */
struct bird_protocol {
	const char *name;
	const char *proto; /* "BGP", "Kernel", "Static", ... */
	const char *table; /* "master4", "---" */
	const char *state; /* start, up, down, stop, flush */
	const char *since; /* as BIRD's "timeformat protocol" has it */
	const char *info;  /* BGP: "Established", "Connect", "Active  Socket: Connection refused" */
};
struct bird_protocols {
	struct bird_protocol *v;
	size_t n;
	char *text_;
};
int bird_protocols_parse(const struct bird_reply *r, struct bird_protocols *ret, struct err *err);
void bird_protocols_done(struct bird_protocols *ps);
const struct bird_protocol *bird_protocols_find(const struct bird_protocols *ps, const char *name);

/*
 * What became of "configure", "configure check" or "configure status": 0 = done (or OK); 1 = in
 * progress or queued: ask "configure status"; -EINVAL: refused, "FILE:LINE:COL message".
 */
int bird_configure_result(const struct bird_reply *r, struct err *err);

/* ---- commands with something in them; EINVAL where BIRD has no way to write it ---- */

/* "configure check "PATH"", "configure "PATH"" or, path NULL, without one. */
int bird_cmd_configure(struct strbuf *out, bool check, const char *path, struct err *err);
/* Has the protocol export everything anew; 3.x has another word for it. */
void bird_cmd_reload_out(struct strbuf *out, const struct bird_version *v, const char *protocol);

/* ---- calls that wait ---- */

/*
 * deadline_ms: CLOCK_MONOTONIC. EHOSTUNREACH: nobody serves path; EACCES; ETIMEDOUT; EPROTO. After a
 * failed call the connection is of no use: close it. One that BIRD refuses is no failed call.
 */
int bird_open(const char *path, int64_t deadline_ms, struct bird **ret, struct err *err);
void bird_close(struct bird *b);
AUTO_DEFINE(bird, struct bird *, bird_close);
const struct bird_version *bird_version(const struct bird *b);
int bird_call(struct bird *b, const char *command, int64_t deadline_ms, struct bird_reply *ret,
	struct err *err);
/* bird_call and the parser. */
int bird_show_protocols(
	struct bird *b, int64_t deadline_ms, struct bird_protocols *ret, struct err *err);

/* ---- the client of an event loop ---- */

struct bird_client_ops {
	/* Connected, and the greeting was read: bird_client_call() works. */
	void (*up)(void *arg, const struct bird_version *v);
	/* Not connected, or not any more, and why. The first attempt tells one of the two. */
	void (*down)(void *arg, const struct err *err);
	/* BIRD has made its socket, which it does before it reads its configuration: if that is in
	 * vain, no up() follows. May be NULL. Not told of where the directory came with it. */
	void (*began)(void *arg);
};

/*
 * Connects as soon as the loop runs, and whenever the socket appears: it watches the directory
 * (inotify) rather than ask. ops and base are borrowed. Callbacks may not free the client.
 */
struct bird_client *bird_client_new(
	struct event_base *base, const char *path, const struct bird_client_ops *ops, void *arg);
/* Calls under way are dropped without an answer. */
void bird_client_free(struct bird_client *c);
AUTO_DEFINE(bird_client, struct bird_client *, bird_client_free);
bool bird_client_is_up(const struct bird_client *c);

/* reply is NULL where there was none: err says why (EHOSTUNREACH: BIRD went; ETIMEDOUT). Borrowed. */
typedef void bird_done_fn(void *arg, const struct bird_reply *reply, const struct err *err);
/* Queues a command; answers come in order. done is never called before this returns. */
void bird_client_call(struct bird_client *c, const char *command, bird_done_fn *done, void *arg);
