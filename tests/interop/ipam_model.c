/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Three nodes of two processes each take and give back addresses at random in a real datastore, while
 * they are killed, requests are abandoned, operations fail, answers are lost, clocks step, and pools (one of them gets
 * another blockSize), the configuration and the nodes' blocks change. A model in shared memory holds what was answered: no
 * address is held by two, and none that is held is lost.
 *
 *	ipam_model run N FILE	N operations, then one reconcile; what is held in the end goes to FILE
 *	ipam_model release FILE	gives that back, and every block
 *
 * The datastore is that of the environment. What is done, and what fails where, is a function of the seed,
 * the process and the operation's number: SEED replays it.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "ipam/alloc.h"
#include "ipam/block.h"
#include "ipam/run.h"
#include "model/ipam.h"
#include "store/driver.h"
#include "store/store.h"

#define S 1000000000ll
#define POOL_KEY "/calico/resources/v3/projectcalico.org/ippools/"

enum { N_NODES = 3, N_WORKERS = 6, N_EACH = 30, N_SLOTS = N_NODES * N_EACH, N_HELD = 6 };
enum { N_ADDRS = 128 + 32 + 64 };

static const struct {
	const char *name, *cidr;
	int block_size;
} pools[] = {{"p1", "10.1.0.0/25", 29}, {"p2", "10.2.0.0/27", 30}, {"p6", "fd00:1::/122", 125}};

enum fault {
	NONE,
	KILL_BEFORE,
	KILL_AFTER,
	LEAVE_BEFORE,
	LEAVE_AFTER,
	LOSE,
	FAIL,
	AWAY,
	PAUSE,
	N_FAULTS
};
static const char *const fault_names[] = {"none", "killed before", "killed after", "left before",
	"left after", "answer lost", "failed", "away", "paused"};
static const char *const kind_names[] = {"block", "affinity", "handle"};
static const char *const verb_names[] = {"get", "list", "create", "update", "delete"};

/* One pod: a handle, and the addresses that it was told it has. */
struct slot {
	_Atomic int locked_by; /* worker + 1 */
	bool doubt;	       /* it may have others, or its handle may be there */
	unsigned gen;	       /* part of the handle's name: one is not used again */
	int n;
	struct ip ip[N_HELD];
	struct prefix block[N_HELD];
};

static struct shared {
	struct slot slots[N_SLOTS];
	_Atomic int owner[N_ADDRS]; /* slot + 1 */
	unsigned long done[N_WORKERS];
	_Atomic unsigned long hits[N_FAULTS][STORE_DELETE + 1][3];
	_Atomic unsigned long answered, refused, unasked;
	struct err why; /* of the last one that nobody has asked for */
} * sh;

static unsigned long seed;
static int self; /* the worker */
static unsigned long op_no;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "seed %lu, worker %d, operation %lu: ", seed, self, op_no);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	_exit(1);
}

/* splitmix64 */
static uint64_t stream;
static uint64_t draw(void)
{
	uint64_t z = stream += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static unsigned below(unsigned n)
{
	return (unsigned)(draw() % n);
}

/* ---- a driver that fails over one that does not ---- */

struct shaky {
	struct store st;
	struct store *inner;
	struct {
		enum fault kind;
		unsigned at; /* the n-th write */
	} fault[2];
	unsigned writes;
	bool hit, left, away;
};

struct shaky_op {
	struct store_op op;
	struct store_op *inner;
	enum fault fault;
};

static struct shaky *shaky_of(struct store_op *op)
{
	return container_of(op->st, struct shaky, st);
}

static struct shaky_op *to_shaky(struct store_op *op)
{
	return container_of(op, struct shaky_op, op);
}

static void note(const struct store_op *op, enum fault fault)
{
	int kind = strncmp(op->req.key, IPAM_KEY_BLOCKS, strlen(IPAM_KEY_BLOCKS)) == 0 ? 0
		   : strncmp(op->req.key, IPAM_KEY_AFFINITIES, strlen(IPAM_KEY_AFFINITIES)) == 0
			   ? 1
			   : 2;

	atomic_fetch_add(&sh->hits[fault][op->req.verb][kind], 1);
}

static void refuse(struct store_op *op, int code)
{
	struct err e = ERR_INIT;

	err_set(&e, code, "the test has it fail");
	store_op_fail(op, code, &e);
}

static void leave(struct shaky *s)
{
	s->left = true;
	event_base_loopbreak(s->st.base);
}

static void on_answer(void *arg, const struct store_res *res)
{
	struct store_op *op = arg;
	struct shaky_op *so = to_shaky(op);

	if (!res->more)
		so->inner = NULL;
	if (res->r == 0 && so->fault == KILL_AFTER)
		raise(SIGKILL);
	if (so->fault == LEAVE_AFTER)
		leave(shaky_of(op));
	else if (so->fault == LOSE)
		refuse(op, -ETIMEDOUT);
	else
		(void)store_op_done(op, res);
}

static void shaky_start(struct store_op *op)
{
	struct shaky *s = shaky_of(op);
	struct shaky_op *so = to_shaky(op);

	so->fault = NONE;
	if (op->req.verb >= STORE_CREATE) {
		s->writes++;
		for (int i = 0; i < 2; i++)
			if (s->fault[i].kind != NONE && s->fault[i].at == s->writes)
				so->fault = s->fault[i].kind;
	}
	if (so->fault != NONE) {
		note(op, so->fault);
		s->hit |= so->fault != PAUSE;
	}
	s->away |= so->fault == AWAY;
	if (s->away || so->fault == FAIL) {
		refuse(op, -EHOSTUNREACH);
		return;
	}
	if (so->fault == KILL_BEFORE)
		raise(SIGKILL);
	if (so->fault == LEAVE_BEFORE) {
		leave(s);
		return;
	}
	if (so->fault == PAUSE)
		usleep(2000 + (useconds_t)(op_no * 7919 % 40000));
	so->inner = store_start(s->inner, &op->req, on_answer, op);
}

static void shaky_stop(struct store_op *op)
{
	store_op_cancel(to_shaky(op)->inner);
}

static void shaky_close(struct store *st)
{
	struct shaky *s = container_of(st, struct shaky, st);

	store_close(s->inner);
	free(s);
}

static const struct store_ops shaky_ops = {
	.op_size = sizeof(struct shaky_op),
	.watch_size = sizeof(struct store_watch),
	.has_leases = true,
	.has_index = true,
	.op_start = shaky_start,
	.op_stop = shaky_stop,
	.close = shaky_close,
};

static struct store *open_store(struct event_base *base)
{
	struct store_conf conf = {.type = getenv("DATASTORE_TYPE"),
		.sqlite_path = getenv("MARGAY_SQLITE_PATH"),
		.etcd_endpoints = getenv("ETCD_ENDPOINTS"),
		.kubeconfig = getenv("KUBECONFIG"),
		.calico_api_group = getenv("CALICO_API_GROUP")};
	struct err err = ERR_INIT;
	struct store *st;

	if (store_open(&conf, base, &st, &err) < 0)
		fail("%s", err.text);
	return st;
}

/* ---- the model ---- */

static int addr_index(const struct ip *ip)
{
	if (ip->family == IP_V6)
		return 128 + 32 + ip->b[15] % 64;
	return ip->b[1] == 2 ? 128 + ip->b[3] % 32 : ip->b[3] % 128;
}

static char *handle_of(int i, unsigned gen)
{
	return mem_printf("net.pod-%d-%u", i, gen);
}

static const char *node_name(int node)
{
	static const char *const names[N_NODES] = {"node-a", "node-b", "node-c"};

	return names[node];
}

static int find(const struct slot *s, const struct ip *ip)
{
	for (int i = 0; i < s->n; i++)
		if (ip_equal(&s->ip[i], ip))
			return i;
	return -1;
}

/* From now on nobody holds it, as far as is known. */
static void let_go(struct slot *s, int i)
{
	int me = (int)(s - sh->slots) + 1;

	if (!atomic_compare_exchange_strong(&sh->owner[addr_index(&s->ip[i])], &me, 0))
		fail("the model has lost %s of pod %td", ip_str(&s->ip[i]), s - sh->slots);
	s->ip[i] = s->ip[--s->n];
	s->block[i] = s->block[s->n];
}

static void take(struct slot *s, const struct ip *ip, const struct prefix *block)
{
	int me = (int)(s - sh->slots) + 1, none = 0;

	if (find(s, ip) >= 0)
		return;
	if (!atomic_compare_exchange_strong(&sh->owner[addr_index(ip)], &none, me))
		fail("%s is given to pod %d, and pod %d has it", ip_str(ip), me - 1, none - 1);
	if (s->n == N_HELD)
		fail("pod %d has more addresses than it has asked for", me - 1);
	s->block[s->n] = *block;
	s->ip[s->n++] = *ip;
}

/* A pod of the node that no other process is at, or NULL. */
static struct slot *lock_slot(int node, bool (*wanted)(const struct slot *s))
{
	unsigned from = below(N_EACH);

	for (unsigned i = 0; i < N_EACH; i++) {
		struct slot *s = &sh->slots[node * N_EACH + (int)((from + i) % N_EACH)];
		int none = 0;

		if (!atomic_compare_exchange_strong(&s->locked_by, &none, self + 1))
			continue;
		if (wanted(s))
			return s;
		atomic_store(&s->locked_by, 0);
	}
	return NULL;
}

static bool any(const struct slot *s)
{
	(void)s;
	return true;
}

static bool has_room(const struct slot *s)
{
	return s->n <= N_HELD - 4; /* a request that is in doubt may have taken two more */
}

static bool is_used(const struct slot *s)
{
	return s->n > 0 || s->doubt;
}

static bool is_held(const struct slot *s)
{
	return s->n > 0;
}

static bool is_garbage(const struct slot *s)
{
	return s->n == 0 && s->doubt;
}

/* ---- one request, with what befalls it ---- */

struct outcome {
	bool done;
	int r;
	struct err err;
};

static void on_end(struct ipam_request *rq, int r, const struct err *err, void *arg)
{
	struct outcome *o = arg;

	(void)rq;
	o->done = true;
	o->r = r;
	if (r < 0)
		o->err = *err;
}

/* 0 or its error; ECANCELED: it was left. *ret_hit: something befell it. The caller frees rq. */
static int run(struct shaky *s, struct ipam_request *rq, bool *ret_hit, struct err *err)
{
	struct outcome o = {.err = ERR_INIT};
	unsigned n = below(10);

	s->writes = 0;
	s->hit = s->left = s->away = false;
	for (unsigned i = 0; i < 2; i++) {
		s->fault[i].kind = (enum fault)(1 + below(N_FAULTS - 1));
		s->fault[i].at = 1 + below(i == 0 && n % 2 ? 3 : 7);
		if (n < 6 - 3 * i || n < 8 * i)
			s->fault[i].kind = NONE;
	}
	ipam_start(&s->st, rq, on_end, &o);
	while (!o.done && !s->left)
		event_base_loop(s->st.base, EVLOOP_ONCE);
	*ret_hit = s->hit;
	*err = o.err;
	if (!o.done)
		return -ECANCELED;
	if (o.r == 0)
		atomic_fetch_add(&sh->answered, 1);
	else
		atomic_fetch_add(&sh->refused, 1);
	if (o.r < 0 && !s->hit && (o.r == -EHOSTUNREACH || o.r == -ETIMEDOUT)) {
		atomic_fetch_add(&sh->unasked, 1);
		sh->why = o.err;
		*ret_hit = true;
	}
	return o.r;
}

static int64_t node_clock(void)
{
	static const int steps_s[] = {0, 0, 0, 0, 90, -90, 600, -600};

	/* An hour ago, so that no step leads into the future. */
	return clock_real_ns() - 3600 * S + steps_s[below(8)] * S;
}

/* ---- operations ---- */

static void do_assign(struct shaky *st, int node)
{
	struct slot *s = lock_slot(node, has_room);
	static const char *const named[] = {"p2"};
	auto_free char *handle = NULL;
	struct ipam_attr attrs[] = {
		{"namespace", "default"}, {"node", node_name(node)}, {"pod", "p"}};
	struct ipam_assign a = {.host = node_name(node),
		.attrs = attrs,
		.n_attrs = 3,
		.use = IPAM_USE_WORKLOAD,
		.now_ns = node_clock(),
		.random = draw()};
	unsigned how = below(10), last = below(128);
	auto_free char *wanted = mem_printf("10.1.0.%u", last);
	struct ipam_request *rq;
	const struct ipam_addr *addrs;
	struct err err = ERR_INIT;
	bool before, hit;
	size_t n;
	int r;

	if (!s)
		return;
	before = s->doubt;
	a.handle = handle = handle_of((int)(s - sh->slots), s->gen);
	a.v4 = how != 0;
	a.v6 = how < 3;
	a.reuse = before || below(2);
	if (how > 7)
		(void)ip_parse(wanted, &a.ip, NULL);
	if (how == 7)
		a.pools_v4 = (struct ipam_pools){named, 1};
	s->doubt = true;
	rq = ipam_assign_new(&a);
	r = run(st, rq, &hit, &err);
	if (r == 0) {
		addrs = ipam_request_addrs(rq, &n);
		if (n != (size_t)a.v4 + a.v6)
			fail("%s: %zu addresses", handle, n);
		for (size_t i = 0; i < n; i++)
			take(s, &addrs[i].ip, &addrs[i].block);
	} else if (!hit && r != -ENOSPC && r != -EDQUOT && r != -EEXIST && r != -EPERM &&
		   r != -ENOENT && r != -ESTALE) {
		fail("assign %s: %d: %s", handle, r, err.text);
	}
	if (!hit)
		s->doubt = before;
	ipam_request_free(rq);
	atomic_store(&s->locked_by, 0);
}

static void do_release(struct shaky *st, int node, bool (*wanted)(const struct slot *s))
{
	struct slot *s = lock_slot(node, wanted);
	auto_free char *handle = NULL;
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	bool hit, held, doubt;
	int r;

	if (!s)
		return;
	handle = handle_of((int)(s - sh->slots), s->gen);
	held = s->n > 0;
	doubt = s->doubt;
	s->doubt = true;
	while (s->n > 0)
		let_go(s, 0);
	rq = ipam_release_handle_new(handle, node_clock());
	r = run(st, rq, &hit, &err);
	if (r == 0 || r == -ENOENT) {
		if (r == -ENOENT && held && !hit && !doubt)
			fail("%s has lost its handle", handle);
		s->doubt = false;
		s->gen++;
	} else if (!hit) {
		fail("release %s: %d: %s", handle, r, err.text);
	}
	ipam_request_free(rq);
	atomic_store(&s->locked_by, 0);
}

static void do_release_ip(struct shaky *st, int node)
{
	struct slot *s = lock_slot(node, is_held);
	auto_free char *handle = NULL;
	bool named = below(2), before, hit;
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	unsigned which = below(N_HELD);
	struct ip ip;
	int r;

	if (!s)
		return;
	handle = handle_of((int)(s - sh->slots), s->gen);
	which %= (unsigned)s->n;
	ip = s->ip[which];
	before = s->doubt;
	s->doubt = true;
	let_go(s, (int)which);
	rq = ipam_release_ip_new(&ip, named ? handle : NULL, node_clock());
	r = run(st, rq, &hit, &err);
	if (r < 0 && !hit)
		fail("%s has lost %s: %d: %s", handle, ip_str(&ip), r, err.text);
	if (!hit)
		s->doubt = before;
	ipam_request_free(rq);
	atomic_store(&s->locked_by, 0);
}

/* From one pod to another, as between the reserve and a pod. */
static void do_move(struct shaky *st, int node)
{
	struct slot *from = lock_slot(node, is_held), *to = from ? lock_slot(node, has_room) : NULL;
	auto_free char *handle = NULL, *other = NULL;
	const struct ipam_attr attrs[] = {
		{"namespace", "default"}, {"node", node_name(node)}, {"pod", "p"}};
	struct ipam_move m = {.attrs = attrs, .n_attrs = 3, .now_ns = node_clock()};
	unsigned which = below(N_HELD);
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	bool before[2], hit;
	int r;

	if (!to && from)
		atomic_store(&from->locked_by, 0);
	if (!to)
		return;
	m.from = handle = handle_of((int)(from - sh->slots), from->gen);
	m.to = other = handle_of((int)(to - sh->slots), to->gen);
	which %= (unsigned)from->n;
	m.addr = (struct ipam_addr){.ip = from->ip[which], .block = from->block[which]};
	before[0] = from->doubt;
	before[1] = to->doubt;
	from->doubt = to->doubt = true;
	let_go(from, (int)which);
	rq = ipam_move_new(&m);
	r = run(st, rq, &hit, &err);
	if (r == 0)
		take(to, &m.addr.ip, &m.addr.block);
	else if (!hit)
		fail("%s has lost %s: %d: %s", handle, ip_str(&m.addr.ip), r, err.text);
	if (!hit) {
		from->doubt = before[0];
		to->doubt = before[1];
	}
	ipam_request_free(rq);
	atomic_store(&from->locked_by, 0);
	atomic_store(&to->locked_by, 0);
}

static void do_drop(struct shaky *st, int node)
{
	struct slot *s = lock_slot(node, is_used);
	auto_free char *handle = NULL;
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	bool hit;
	int r;

	if (!s)
		return;
	handle = handle_of((int)(s - sh->slots), s->gen);
	rq = ipam_drop_handle_new(handle, node_clock());
	r = run(st, rq, &hit, &err);
	if (s->n > 0 && !hit && r != -EBUSY)
		fail("%s is in use, and its handle is dropped: %d: %s", handle, r, err.text);
	ipam_request_free(rq);
	atomic_store(&s->locked_by, 0);
}

/* The pod has what it was told. */
static void do_lookup(struct shaky *st, int node)
{
	struct slot *s = lock_slot(node, is_held);
	auto_free char *handle = NULL;
	const struct ipam_addr *addrs;
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	size_t n, found = 0;
	bool hit;
	int r;

	if (!s)
		return;
	handle = handle_of((int)(s - sh->slots), s->gen);
	rq = ipam_lookup_handle_new(handle);
	r = run(st, rq, &hit, &err);
	if (r < 0 && !hit)
		fail("look up %s: %d: %s", handle, r, err.text);
	addrs = ipam_request_addrs(rq, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		found += find(s, &addrs[i].ip) >= 0;
	if (r == 0 && (found != (size_t)s->n || (n != found && !s->doubt)))
		fail("%s was told of %d addresses, and has %zu of them among %zu", handle, s->n,
			found, n);
	ipam_request_free(rq);
	atomic_store(&s->locked_by, 0);
}

static void do_claim(struct shaky *st, int node)
{
	auto_free char *text = mem_printf("10.1.0.%u/29", below(16) * 8);
	struct prefix cidr = {0};
	struct ipam_request *rq;
	struct err err = ERR_INIT;
	bool hit;
	int r;

	(void)prefix_parse(text, &cidr, NULL);
	rq = ipam_claim_new(&cidr, node_name(node), node_clock());
	r = run(st, rq, &hit, &err);
	/* It may be smaller than the pool's blocks are at the moment, or there is no pool. */
	if (r < 0 && !hit && r != -EEXIST && r != -ESTALE && r != -EINVAL && r != -ENOENT)
		fail("claim %s: %d: %s", text, r, err.text);
	ipam_request_free(rq);
}

/* Another node's, too: as of one that is gone, and may come back. */
static void do_unclaim(struct shaky *st, int node)
{
	struct ipam_request *rq = ipam_unclaim_new(NULL, node_name(node), below(2), node_clock());
	struct err err = ERR_INIT;
	bool hit;
	int r = run(st, rq, &hit, &err);

	if (r < 0 && !hit && r != -EBUSY && r != -ENOENT && r != -ESTALE && r != -EEXIST)
		fail("unclaim of %s: %d: %s", node_name(node), r, err.text);
	ipam_request_free(rq);
}

static char *pool_text(size_t i, bool disabled, int block_size)
{
	return mem_printf(
		"{\"kind\":\"IPPool\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{"
		"\"name\":\"%s\"},\"spec\":{\"cidr\":\"%s\",\"disabled\":%s,\"blockSize\":%d,"
		"\"nodeSelector\":\"all()\"}}",
		pools[i].name, pools[i].cidr, disabled ? "true" : "false", block_size);
}

/* Whatever revision it has; others do the same. */
static void put(struct store *st, const char *key, const char *value)
{
	struct err err = ERR_INIT;
	int r = store_update_wait(st, key, value, 0, 0, NULL, &err);

	if (r == -ENOENT)
		r = store_create_wait(st, key, value, 0, NULL, &err);
	if (r < 0 && r != -EEXIST && r != -ESTALE && r != -ETIMEDOUT)
		fail("%s: %d: %s", key, r, err.text);
}

static void do_settings(struct store *st)
{
	struct ipam_config c = IPAM_CONFIG_DEFAULT;
	auto_free char *text = NULL;
	unsigned what = below(3);

	if (what == 0) {
		text = pool_text(1, below(3) == 0, pools[1].block_size);
		put(st, POOL_KEY "p2", text);
		return;
	}
	/* An API server refuses another blockSize, but not a pool that is made anew. */
	if (what == 1) {
		text = pool_text(0, false, 27 + (int)below(4));
		(void)store_delete_wait(st, POOL_KEY "p1", 0, NULL, 0, NULL);
		put(st, POOL_KEY "p1", text);
		return;
	}
	c.strict_affinity = below(3) == 0;
	c.auto_allocate_blocks = !c.strict_affinity || below(4);
	c.max_blocks_per_host = c.strict_affinity && below(2) ? 1 + below(6) : 0;
	c.cooldown_s = below(3) == 0 ? 1 + below(10) : 0;
	text = ipam_config_encode(&c);
	put(st, IPAM_KEY_CONFIG, text);
}

static void do_one(struct shaky *s, struct store *plain)
{
	int node = self % N_NODES, other = (node + 1 + (int)below(N_NODES - 1)) % N_NODES;
	unsigned what = below(1000);
	/* Nodes fill up, and empty again. */
	unsigned assigns = op_no / 100 % 3 < 2 ? 600 : 200;

	if (what < assigns)
		do_assign(s, node);
	else if (what < 700)
		do_release(s, node, is_used);
	else if (what < 740)
		do_move(s, node);
	else if (what < 800)
		do_release_ip(s, node);
	else if (what < 830)
		do_drop(s, node);
	else if (what < 890)
		do_lookup(s, node);
	else if (what < 920)
		do_claim(s, node);
	else if (what < 925)
		do_unclaim(s, node);
	else if (what < 930)
		do_unclaim(s, other);
	else if (what < 960)
		do_release(s, other, is_garbage);
	else if (what < 980)
		do_release(s, other, any);
	else
		do_settings(plain);
}

/* ---- processes ---- */

static _Noreturn void work(int worker, unsigned long n)
{
	struct event_base *base = event_base_new();
	struct shaky *s = mem_new(struct shaky);
	struct store *plain;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	self = worker;
	store_init(&s->st, &shaky_ops, base, mem_strdup("shaky"));
	s->inner = open_store(base);
	plain = open_store(NULL);
	while (sh->done[worker] < n) {
		op_no = sh->done[worker]++; /* before it: whoever is killed in it goes on after it */
		stream = seed ^ (uint64_t)worker << 56 ^ op_no * 0xd1342543de82ef95u;
		do_one(s, plain);
	}
	_exit(0);
}

static void unlock_all(int worker)
{
	for (int i = 0; i < N_SLOTS; i++) {
		int me = worker + 1;

		(void)atomic_compare_exchange_strong(&sh->slots[i].locked_by, &me, 0);
	}
}

static void work_all(unsigned long n)
{
	pid_t pids[N_WORKERS] = {0}, pid;
	int left = N_WORKERS, status;

	for (int w = 0; w < N_WORKERS; w++) {
		pids[w] = fork();
		if (pids[w] == 0)
			work(w, n / N_WORKERS);
	}
	while (left > 0 && (pid = wait(&status)) > 0) {
		for (int w = 0; w < N_WORKERS; w++) {
			if (pids[w] != pid)
				continue;
			if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
				unlock_all(w);
				pids[w] = fork();
				if (pids[w] == 0)
					work(w, n / N_WORKERS);
			} else if (status != 0) {
				fail("process %d ended with %#x", w, (unsigned)status);
			} else {
				left--;
			}
		}
	}
}

/* ---- in the end ---- */

static int request(struct store *st, struct ipam_request *rq)
{
	struct err err = ERR_INIT;
	int r = ipam_run(st, rq, clock_mono_ms() + 60000, &err);

	ipam_request_free(rq);
	if (r < 0 && r != -ENOENT)
		fail("in the end: %d: %s", r, err.text);
	return r;
}

/* The pod whose handle it is, NULL: of none that has an address. */
static struct slot *holder(const char *handle, struct slot **ret_of)
{
	unsigned i, gen;

	*ret_of = NULL;
	if (sscanf(handle, "net.pod-%u-%u", &i, &gen) != 2 || i >= N_SLOTS)
		fail("whose handle is %s?", handle);
	if (sh->slots[i].gen == gen)
		*ret_of = &sh->slots[i];
	return *ret_of && sh->slots[i].n > 0 ? *ret_of : NULL;
}

/* What the garbage collection of the nodes does. Returns what there was to do. */
static unsigned reconcile(struct store *st)
{
	struct err err = ERR_INIT;
	struct store_list list;
	unsigned n = 0;

	if (store_list_wait(st, IPAM_KEY_HANDLES, 0, &list, &err) < 0)
		fail("%s", err.text);
	for (size_t i = 0; i < list.n; i++) {
		const char *handle = list.v[i].key + strlen(IPAM_KEY_HANDLES);
		struct slot *of, *s = holder(handle, &of);
		struct ipam_request *rq;
		const struct ipam_addr *addrs;
		size_t n_addrs;

		if (!s) {
			if (!of || !of->doubt)
				fail("%s is left over, and all that it was in has succeeded",
					handle);
			n += request(st, ipam_release_handle_new(handle, clock_real_ns())) == 0;
			continue;
		}
		rq = ipam_lookup_handle_new(handle);
		if (ipam_run(st, rq, 0, &err) < 0)
			fail("%s: %s", handle, err.text);
		addrs = ipam_request_addrs(rq, &n_addrs);
		for (size_t k = 0; k < n_addrs; k++) {
			if (find(s, &addrs[k].ip) >= 0)
				continue;
			if (!s->doubt)
				fail("%s has %s, and was not told", handle, ip_str(&addrs[k].ip));
			n += request(st, ipam_release_ip_new(
						 &addrs[k].ip, handle, clock_real_ns())) == 0;
		}
		ipam_request_free(rq);
	}
	store_list_done(&list);
	return n;
}

/* The blocks have what the pods were told, and nothing else. */
static int compare(struct store *st, FILE *out)
{
	int held = 0, found = 0;
	struct err err = ERR_INIT;
	struct store_list list;

	for (int i = 0; i < N_SLOTS; i++)
		held += sh->slots[i].n;
	if (store_list_wait(st, IPAM_KEY_BLOCKS, 0, &list, &err) < 0)
		fail("%s", err.text);
	for (size_t i = 0; i < list.n; i++) {
		struct ipam_block *b;

		if (ipam_block_decode(list.v[i].value, list.v[i].len, &b, &err) < 0)
			fail("%s: %s", list.v[i].key, err.text);
		for (uint32_t k = 0; k < b->size; k++) {
			struct ip ip = block_ip(b, k);
			const struct ipam_block_attr *a = block_lookup(b, &ip);
			struct slot *of, *s;

			if (!a || !a->handle)
				continue;
			s = holder(a->handle, &of);
			if (!s || find(s, &ip) < 0)
				fail("%s is leaked: it is %s's", ip_str(&ip), a->handle);
			found++;
			fprintf(out, "%s\n", a->handle);
		}
		ipam_block_free(b);
	}
	store_list_done(&list);
	if (found != held)
		fail("pods have %d addresses, and the blocks %d", held, found);
	return held;
}

static void print_hits(void)
{
	for (int f = NONE + 1; f < N_FAULTS; f++) {
		printf("# %s:", fault_names[f]);
		for (int v = STORE_CREATE; v <= STORE_DELETE; v++)
			for (int k = 0; k < 3; k++)
				printf(" %s %s %lu%s", verb_names[v], kind_names[k],
					atomic_load(&sh->hits[f][v][k]),
					v == STORE_DELETE && k == 2 ? "\n" : ",");
	}
}

/* Every kind of write was cut off on either side. */
static void expect_hits(void)
{
	for (int f = KILL_BEFORE; f <= LOSE; f++)
		for (int v = STORE_CREATE; v <= STORE_DELETE; v++)
			for (int k = 0; k < 3; k++)
				if (atomic_load(&sh->hits[f][v][k]) == 0)
					fail("never %s: %s %s", fault_names[f], verb_names[v],
						kind_names[k]);
}

static void put_pools(struct store *st)
{
	for (size_t i = 0; i < array_size(pools); i++) {
		auto_free char *key = mem_printf(POOL_KEY "%s", pools[i].name);
		auto_free char *text = pool_text(i, false, pools[i].block_size);

		put(st, key, text);
	}
}

static void run_all(unsigned long n, const char *path)
{
	const char *fixed = getenv("SEED");
	struct store *st = open_store(NULL);
	unsigned n_garbage;
	FILE *out;
	int held;

	seed = fixed ? strtoul(fixed, NULL, 10) : (unsigned long)clock_real_ns() % 1000000000;
	printf("# seed %lu\n", seed);
	fflush(stdout);
	put_pools(st);
	store_close(st); /* none is carried over a fork */
	work_all(n);
	st = open_store(NULL);
	n_garbage = reconcile(st);
	out = fopen(path, "we");
	if (!out)
		fail("%s: %s", path, strerror(errno));
	held = compare(st, out);
	fclose(out);
	store_close(st);
	print_hits();
	if (atomic_load(&sh->unasked) > 0)
		printf("# the last that the datastore refused: %s\n", sh->why.text);
	printf("# %lu operations: %lu requests answered, %lu refused (%lu by the datastore itself); %u were "
	       "garbage, %d addresses are held\n",
		n, atomic_load(&sh->answered), atomic_load(&sh->refused), atomic_load(&sh->unasked),
		n_garbage, held);
	if (n >= 50000)
		expect_hits();
}

static void release_all(const char *path)
{
	struct store *st = open_store(NULL);
	FILE *in = fopen(path, "re");
	char line[64];

	if (!in)
		fail("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		(void)request(st, ipam_release_handle_new(line, clock_real_ns()));
	}
	fclose(in);
	for (int i = 0; i < N_NODES; i++)
		(void)request(st, ipam_unclaim_new(NULL, node_name(i), false, clock_real_ns()));
	store_close(st);
}

int main(int argc, char **argv)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	if (argc == 4 && strcmp(argv[1], "run") == 0) {
		run_all(strtoul(argv[2], NULL, 10), argv[3]);
	} else if (argc == 3 && strcmp(argv[1], "release") == 0) {
		release_all(argv[2]);
	} else {
		fprintf(stderr, "usage: ipam_model run N FILE | release FILE\n");
		return 2;
	}
	return 0;
}
