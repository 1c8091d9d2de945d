/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cni/snapshot.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/hmap.h"
#include "base/mem.h"
#include "base/vec.h"
#include "model/key.h"
#include "model/kind.h"
#include "store/store.h"
#include "store/sync.h"
#include "svc/loop.h"

/* Longer than the monitor takes for a long list; what is not told by then is fetched. */
enum { ANSWER_MS = 100 };

struct object {
	struct hmap_node node;
	char *key, *value;
	size_t len;
};

struct asker {
	struct snapshot *s;
	int fd;
	struct loop_fd *event;
};

struct snapshot {
	struct hmap objects;
	struct sync *sync;
	struct asker *askers;
	size_t n_askers;
};

static struct object *find_object(const struct snapshot *s, const char *key)
{
	struct object *o;

	hmap_for_each_hash (o, &s->objects, hash_str(key), node)
		if (strcmp(o->key, key) == 0)
			return o;
	return NULL;
}

static void object_free(struct object *o)
{
	free(o->key);
	free(o->value);
	free(o);
}

static void on_set(void *arg, const char *key, const char *value, size_t len, int64_t rev)
{
	struct snapshot *s = arg;
	struct object *o = find_object(s, key);

	(void)rev;
	if (!o) {
		o = mem_new(struct object);
		o->key = mem_strdup(key);
		hmap_insert(&s->objects, &o->node, hash_str(key));
	}
	free(o->value);
	o->value = mem_strndup(value, len);
	o->len = len;
}

static void on_del(void *arg, const char *key)
{
	struct snapshot *s = arg;
	struct object *o = find_object(s, key);

	if (!o)
		return;
	hmap_remove(&s->objects, &o->node);
	object_free(o);
}

static void on_in_sync(void *arg)
{
	(void)arg;
}

static const struct object *look(
	const struct snapshot *s, enum kind kind, const char *namespace, const char *name)
{
	char key[KEY_SIZE];

	if (strlen(name) >= KEY_NAME_SIZE || (namespace && strlen(namespace) >= KEY_NAMESPACE_SIZE))
		return NULL;
	return find_object(s, key_format(kind, namespace, name, key));
}

static void on_question(void *arg)
{
	struct asker *a = arg;
	char text[sizeof(struct snapshot_question) + KEY_NAMESPACE_SIZE + KEY_NAME_SIZE + 1];
	ssize_t n = recv(a->fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	const char *namespace = text + sizeof(struct snapshot_question), *name;
	const struct object *pod, *ns;
	struct snapshot_answer answer = {0};
	struct iovec iov[3] = {{&answer, sizeof(answer)}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 3};

	if (n <= (ssize_t)sizeof(struct snapshot_question))
		return;
	text[n] = '\0';
	memcpy(&answer.n, text, sizeof(answer.n));
	name = memchr(namespace, '\0', (size_t)(text + n - namespace));
	if (!name)
		return;
	name++;
	pod = look(a->s, KIND_POD, namespace, name);
	ns = look(a->s, KIND_NAMESPACE, NULL, namespace);
	if (pod && pod->len < SNAPSHOT_MAX / 2) {
		iov[1] = (struct iovec){pod->value, pod->len};
		answer.pod_len = (uint32_t)pod->len;
	}
	if (ns && ns->len < SNAPSHOT_MAX / 2) {
		iov[2] = (struct iovec){ns->value, ns->len};
		answer.namespace_len = (uint32_t)ns->len;
	}
	/* A worker that does not read has given up, and its next question says so. */
	(void)sendmsg(a->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

struct snapshot *snapshot_new(struct store *st, const int *fds, size_t n_fds)
{
	static const struct sync_ops ops = {
		.set = on_set, .del = on_del, .in_sync = on_in_sync, .heed_lock = false};
	const char *prefixes[] = {kind_info(KIND_POD)->root, kind_info(KIND_NAMESPACE)->root};
	struct snapshot *s = mem_new(struct snapshot);

	s->askers = mem_zalloc(n_fds * sizeof(*s->askers));
	s->n_askers = n_fds;
	for (size_t i = 0; i < n_fds; i++) {
		s->askers[i] = (struct asker){.s = s, .fd = fds[i]};
		s->askers[i].event =
			loop_fd_new(store_base(st), fds[i], LOOP_READ, on_question, &s->askers[i]);
	}
	s->sync = sync_new(st, prefixes, array_size(prefixes), &ops, s, NULL);
	return s;
}

void snapshot_free(struct snapshot *s)
{
	struct object *o;

	if (!s)
		return;
	sync_free(s->sync);
	for (size_t i = 0; i < s->n_askers; i++)
		loop_fd_free(s->askers[i].event);
	free(s->askers);
	hmap_for_each (o, &s->objects, node)
		object_free(o);
	hmap_done(&s->objects);
	free(s);
}

/* The answer to question n, in text; NULL: there is none in time. */
static const struct snapshot_answer *wait_answer(
	const struct snapshot_client *c, char *text, size_t size, size_t *ret_len)
{
	int64_t until = clock_mono_ms() + ANSWER_MS;
	const struct snapshot_answer *a = (const struct snapshot_answer *)(const void *)text;

	for (;;) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN};
		int64_t left = until - clock_mono_ms();
		ssize_t n;

		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			return NULL;
		n = recv(c->fd, text, size, MSG_DONTWAIT);
		if (n < (ssize_t)sizeof(*a))
			return NULL;
		*ret_len = (size_t)n - sizeof(*a);
		if (a->n == c->n)
			return a;
	}
}

void snapshot_find(void *client, const char *namespace, const char *name, struct pod **ret_pod,
	struct namespace **ret_namespace)
{
	struct snapshot_client *c = client;
	const size_t size = sizeof(struct snapshot_answer) + SNAPSHOT_MAX;
	auto_free char *text = mem_alloc(size);
	struct snapshot_question q = {.n = ++c->n};
	struct iovec iov[] = {{&q, sizeof(q)},
		{(char *)(uintptr_t) namespace, strlen(namespace) + 1},
		{(char *)(uintptr_t)name, strlen(name) + 1}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 3};
	const struct snapshot_answer *a;
	char key[KEY_SIZE];
	const char *json;
	size_t len;

	if (c->fd < 0 || sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
	a = wait_answer(c, text, size, &len);
	if (!a || (size_t)a->pod_len + a->namespace_len != len)
		return;
	json = text + sizeof(*a);
	if (a->pod_len > 0)
		(void)pod_decode(key_format(KIND_POD, namespace, name, key), json, a->pod_len,
			ret_pod, NULL);
	if (a->namespace_len > 0)
		(void)namespace_decode(key_format(KIND_NAMESPACE, NULL, namespace, key),
			json + a->pod_len, a->namespace_len, ret_namespace, NULL);
}
