/* SPDX-License-Identifier: GPL-2.0-or-later */
#define LOG_MODULE "lookup"
#include "felix/lookup.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>

#include "base/err.h"
#include "base/log.h"
#include "net/ip.h"
#include "svc/loop.h"

struct lookup {
	char *name;
	struct evdns_base *dns;
	struct loop_task *task;
	lookup_done_fn *done;
	void *arg;
	struct ip ip;
	struct err err;
};

static void on_log(int is_warning, const char *text)
{
	(void)is_warning;
	log_debug("%s", text);
}

static void on_task(void *arg)
{
	struct lookup *l = arg;

	l->done(l->arg, l->ip.family == IP_NONE ? NULL : &l->ip, &l->err);
}

/* May be called from inside evdns_getaddrinfo(), and evdns goes on after it: the rest is the task's. */
static void on_answer(int r, struct evutil_addrinfo *ai, void *arg)
{
	struct lookup *l = arg;

	if (r == EVUTIL_EAI_CANCEL)
		return;
	if (r == 0 && ai && ai->ai_family == AF_INET) {
		const struct sockaddr_in *sa = (const void *)ai->ai_addr;

		l->ip = ip_from_bytes(AF_INET, (const uint8_t *)&sa->sin_addr);
	} else if (r == 0 && ai && ai->ai_family == AF_INET6) {
		const struct sockaddr_in6 *sa = (const void *)ai->ai_addr;

		l->ip = ip_from_bytes(AF_INET6, sa->sin6_addr.s6_addr);
	} else {
		err_set(&l->err, -ENOENT, "looking up %s: %s", l->name,
			r ? evutil_gai_strerror(r) : "no address of the family");
	}
	if (ai)
		evutil_freeaddrinfo(ai);
	loop_task_schedule(l->task);
}

struct lookup *lookup_start(struct event_base *base, const char *name, enum ip_family family,
	lookup_done_fn *done, void *arg)
{
	const struct evutil_addrinfo hints = {
		.ai_family = family == IP_V6 ? AF_INET6 : AF_INET, .ai_socktype = SOCK_DGRAM};
	struct lookup *l = mem_new(struct lookup);

	l->name = mem_strdup(name);
	l->done = done;
	l->arg = arg;
	l->task = loop_task_new(base, on_task, l);
	evdns_set_log_fn(on_log);
	l->dns = evdns_base_new(base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!l->dns)
		abort();
	/* What is missing is told by the answer. */
	(void)evdns_base_load_hosts(l->dns, "/etc/hosts");
	(void)evdns_base_resolv_conf_parse(l->dns,
		DNS_OPTION_SEARCH | DNS_OPTION_NAMESERVERS | DNS_OPTION_MISC, "/etc/resolv.conf");
	(void)evdns_getaddrinfo(l->dns, name, NULL, &hints, on_answer, l);
	return l;
}

void lookup_free(struct lookup *l)
{
	if (!l)
		return;
	evdns_base_free(l->dns, 0);
	loop_task_free(l->task);
	free(l->name);
	free(l);
}
