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
#include "base/strbuf.h"
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
	const struct premises *premises;
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

/* A worker that does not read has given up, and its next question says so. */
static void answer(const struct asker *a, uint64_t n, const struct iovec parts[static 2])
{
	struct snapshot_answer head = {
		.n = n, .len = {(uint32_t)parts[0].iov_len, (uint32_t)parts[1].iov_len}};
	struct iovec iov[] = {{&head, sizeof(head)}, parts[0], parts[1]};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = array_size(iov)};

	(void)sendmsg(a->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static struct iovec part_of(const struct object *o)
{
	if (!o || o->len >= SNAPSHOT_MAX / 2)
		return (struct iovec){0};
	return (struct iovec){o->value, o->len};
}

static void answer_pod(const struct asker *a, uint64_t n, const char *names, size_t len)
{
	const char *name = memchr(names, '\0', len);

	if (name)
		answer(a, n,
			(struct iovec[]){part_of(look(a->s, KIND_POD, names, name + 1)),
				part_of(look(a->s, KIND_NAMESPACE, NULL, names))});
}

static void answer_premises(const struct asker *a, uint64_t n)
{
	auto_strbuf text = STRBUF_INIT;
	struct iovec parts[2] = {0};

	if (premises_write(a->s->premises, &text) && text.len <= SNAPSHOT_MAX)
		parts[0] = (struct iovec){text.s, text.len};
	answer(a, n, parts);
}

static void on_question(void *arg)
{
	struct asker *a = arg;
	char text[sizeof(struct snapshot_question) + KEY_NAMESPACE_SIZE + KEY_NAME_SIZE + 1];
	ssize_t n = recv(a->fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	struct snapshot_question q;

	if (n < (ssize_t)sizeof(q))
		return;
	text[n] = '\0';
	memcpy(&q, text, sizeof(q));
	if (q.of == SNAPSHOT_PREMISES)
		answer_premises(a, q.n);
	else
		answer_pod(a, q.n, text + sizeof(q), (size_t)n - sizeof(q));
}

struct snapshot *snapshot_new(
	struct store *st, const struct premises *premises, const int *fds, size_t n_fds)
{
	static const struct sync_ops ops = {
		.set = on_set, .del = on_del, .in_sync = on_in_sync, .heed_lock = false};
	const char *prefixes[] = {kind_info(KIND_POD)->root, kind_info(KIND_NAMESPACE)->root};
	struct snapshot *s = mem_new(struct snapshot);

	s->premises = premises;
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
	const struct snapshot_client *c, char *text, size_t size)
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
		if (a->n != c->n)
			continue;
		return (size_t)a->len[0] + a->len[1] == (size_t)n - sizeof(*a) ? a : NULL;
	}
}

/* Likewise; names: what is behind the question. The caller frees *ret_text. */
static const struct snapshot_answer *ask(struct snapshot_client *c, enum snapshot_of of,
	const struct iovec names[static 2], char **ret_text)
{
	const size_t size = sizeof(struct snapshot_answer) + SNAPSHOT_MAX;
	struct snapshot_question q = {.n = ++c->n, .of = of};
	struct iovec iov[] = {{&q, sizeof(q)}, names[0], names[1]};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = array_size(iov)};

	*ret_text = NULL;
	if (c->fd < 0 || sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return NULL;
	*ret_text = mem_alloc(size);
	return wait_answer(c, *ret_text, size);
}

static struct iovec name_part(const char *name)
{
	return (struct iovec){(char *)(uintptr_t)name, strlen(name) + 1};
}

void snapshot_find(void *client, const char *namespace, const char *name, struct pod **ret_pod,
	struct namespace **ret_namespace)
{
	const struct iovec names[] = {name_part(namespace), name_part(name)};
	auto_free char *text = NULL;
	const struct snapshot_answer *a = ask(client, SNAPSHOT_POD, names, &text);
	char key[KEY_SIZE];
	const char *json;

	if (!a)
		return;
	json = text + sizeof(*a);
	if (a->len[0] > 0)
		(void)pod_decode(
			key_format(KIND_POD, namespace, name, key), json, a->len[0], ret_pod, NULL);
	if (a->len[1] > 0)
		(void)namespace_decode(key_format(KIND_NAMESPACE, NULL, namespace, key),
			json + a->len[0], a->len[1], ret_namespace, NULL);
}

bool snapshot_tell(void *client, struct store_told *ret)
{
	static const struct iovec nothing[2];
	struct snapshot_client *c = client;
	auto_free char *text = NULL;
	const struct snapshot_answer *a = ask(c, SNAPSHOT_PREMISES, nothing, &text);

	*ret = (struct store_told){.prefixes = c->prefixes.v, .n_prefixes = PREMISES_N};
	return a && premises_read(text + sizeof(*a), a->len[0], ret);
}
