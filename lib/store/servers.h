/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of a datastore's servers is asked next, pure. A request goes to the first one that has not failed
 * lately, and from there on to the next, to each once. Who failed comes last for a while, and of several the
 * one that failed first. The drivers share how long a server is waited for as well.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVERS_MAX 16		/* a request has a bit for each */
#define SERVERS_CONNECT_MS 3000 /* a lost SYN is sent again after 1 s */
#define SERVERS_ATTEMPT_MS 4000 /* of what may be asked elsewhere then: two in STORE_TIMEOUT_MS */
#define SERVERS_BAD_MS 30000	/* for so long one that failed comes last: a restart takes less */
#define SERVERS_FIRST_MS 10000	/* until a watch begins, where it has to be caught up with first */
/* So long a silence of a watch, and its server is asked whether it lives: that it is frozen, nothing else
 * tells, and of its progress etcd tells every 10 minutes only. */
#define SERVERS_ALIVE_MS 30000

struct err;

struct servers {
	size_t n;
	size_t first; /* that one, and from there on in their order */
	int64_t bad_until_ms[SERVERS_MAX];
};

/* A request's way through them; zero = none was asked. */
struct servers_turn {
	size_t at;	  /* the one that is asked */
	int64_t heard_ms; /* its last sign, or when it was asked */
	uint32_t tried;
};

/*
 * "http://HOST:PORT" or "https://HOST:PORT", slashes behind it and, where path is true, a path apart; *ret_n
 * is its length without the slashes. EINVAL, of which err says: what (the parameter), the address unless a
 * user is in it, whose password nobody shall see, and instead: where that belongs.
 */
int servers_check(const char *what, const char *url, bool path, const char *instead, size_t *ret_n,
	struct err *err);

/* false: each was asked. */
bool servers_next(const struct servers *s, struct servers_turn *t, int64_t now_ms);
/* There is none left. */
bool servers_is_last(const struct servers *s, const struct servers_turn *t);
/* The one that is asked: has failed; was well; is not waited for any longer, which may say that it hangs. */
void servers_suspect(struct servers *s, const struct servers_turn *t, int64_t now_ms);
void servers_trust(struct servers *s, const struct servers_turn *t);
bool servers_leave(struct servers *s, const struct servers_turn *t, int64_t now_ms);
