/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cni/journal.c: what processes that share a file see of each other, against a naive model; a file cut
 * off at every byte, and damaged; compacted while others have it open; processes that are killed; by
 * cni/reserved.c, pools that are asked for. And cni/absent.c: for how long a node is known to be absent.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cni/absent.h"
#include "cni/call.h"
#include "cni/journal.h"
#include "cni/reserved.h"
#include "unit/test_dir.h"

static char *dir;

static void setup(void)
{
	dir = mem_printf("%s/j", test_dir());
}

static void teardown(void)
{
	free(take_ptr(dir));
}

static struct journal *open_it(void)
{
	struct err err = ERR_INIT;
	struct journal *j = NULL;

	ck_assert_msg(journal_open(dir, true, &j, &err) == 0, "%s", err.text);
	return j;
}

static struct ipam_addr addr(unsigned n)
{
	struct ip ip = {IP_V4, {10, 244, 0, (uint8_t)n}};

	return (struct ipam_addr){.ip = ip, .block = prefix_of(&ip, 26)};
}

static struct journal_owner owner(const char *handle)
{
	static char eth0[] = "eth0", namespace[] = "default";
	char *h = (char *)(uintptr_t)handle;

	return (struct journal_owner){.handle = h,
		.container_id = h,
		.ifname = eth0,
		.namespace = namespace,
		.pod = h,
		.key = h};
}

#define OK(call)                                                        \
	do {                                                            \
		struct err err_ = ERR_INIT;                             \
		int r_ = (call);                                        \
		ck_assert_msg(r_ == 0, #call ": %d %s", r_, err_.text); \
	} while (0)

/* The last number of the address that the handle gets, or -errno. */
static int take(struct journal *j, const char *handle)
{
	const struct ipam_attr attrs[] = {{"pod", handle}, {"node", "n"}};
	struct journal_want w = {
		.node = "node-1", .owner = owner(handle), .v4 = true, .attrs = attrs, .n_attrs = 2};
	struct err err = ERR_INIT;
	struct ipam_addr got[2];
	size_t n;
	int r = journal_take(j, &w, got, &n, &err);

	ck_assert(r == 0 || err.text[0] != '\0');
	if (r == 0)
		ck_assert_uint_eq(n, 1);
	return r < 0 ? r : got[0].ip.b[3];
}

static void give_back(struct journal *j, const char *handle)
{
	struct journal_owner o = owner(handle);

	OK(journal_give_back(j, &o, &err_));
}

static void hold(struct journal *j, unsigned n)
{
	struct ipam_addr a = addr(n);

	OK(journal_hold(j, &a, &err_));
}

START_TEST(shared)
{
	struct journal *a = open_it(), *b = open_it();
	const struct journal_op *op;

	ck_assert_int_eq(take(a, "c1"), -ENOENT);
	hold(a, 1);
	hold(b, 2);
	/* Not before the datastore has been seen to have this node. */
	ck_assert_int_eq(take(b, "c1"), -ENOENT);
	OK(journal_seen(a, "node-1", true, "guid", &err_));
	ck_assert_int_eq(take(b, "c1"), 1);
	ck_assert_int_eq(take(a, "c1"), 1); /* again: the same */
	ck_assert_int_eq(take(a, "c2"), 2);
	ck_assert_int_eq(take(b, "c3"), -ENOENT);
	give_back(b, "c1");
	give_back(a, "c1"); /* again: nothing more */
	ck_assert_int_eq(take(b, "c3"), 1);
	OK(journal_refresh(a, &err_));
	ck_assert_str_eq(journal_guid(a), "guid");
	ck_assert_uint_eq(journal_n_pending(a), 4);
	op = journal_next(a, 0);
	ck_assert(op->kind == JOURNAL_TAKE && op->addrs.v[0].ip.b[3] == 1);
	ck_assert_str_eq(op->owner.handle, "c1");
	ck_assert_uint_eq(op->attrs.n, 2);
	ck_assert_uint_eq(op->addrs.v[0].block.plen, 26);
	op = journal_next(a, op->n);
	ck_assert(op->kind == JOURNAL_TAKE && op->addrs.v[0].ip.b[3] == 2);
	op = journal_next(a, op->n);
	ck_assert(op->kind == JOURNAL_GIVE_BACK && op->addrs.v[0].ip.b[3] == 1);
	ck_assert(journal_is_pending(a, "c1", NULL));
	OK(journal_done(a, journal_next(a, 0)->n, &err_));
	OK(journal_done(a, 3, &err_));
	OK(journal_refresh(b, &err_));
	ck_assert(!journal_is_pending(b, "c1", NULL));
	ck_assert_uint_eq(journal_n_pending(b), 2);
	/* A node that the datastore does not have gives nothing. */
	give_back(a, "c2");
	OK(journal_seen(a, "node-1", false, "guid", &err_));
	ck_assert_int_eq(take(b, "c4"), -ENOENT);
	journal_close(a);
	journal_close(b);
}
END_TEST

START_TEST(left)
{
	struct ip any = {0};
	struct journal *j = open_it();
	struct ipam_addr got, one = addr(1);

	OK(journal_seen(j, "node-1", true, "", &err_));
	for (unsigned i = 1; i <= 3; i++)
		hold(j, i);
	ck_assert_int_eq(take(j, "c1"), 1);
	give_back(j, "c1");
	/* The longest free; but not one that an operation waits for. */
	OK(journal_leave(j, IP_V4, &any, 0, &got, &err_));
	ck_assert_uint_eq(got.ip.b[3], 2);
	OK(journal_leave(j, IP_V4, &any, 0, &got, &err_));
	ck_assert_uint_eq(got.ip.b[3], 3);
	ck_assert_int_eq(journal_leave(j, IP_V4, &any, 0, &got, NULL), -ENOENT);
	ck_assert_int_eq(journal_leave(j, IP_V4, &one.ip, 2, &got, NULL), -ENOENT);
	OK(journal_done(j, 1, &err_));
	OK(journal_leave(j, IP_V4, &one.ip, 2, &got, &err_));
	/* What leaves is nobody's. */
	ck_assert_int_eq(take(j, "c2"), -ENOENT);
	OK(journal_drop(j, &one.ip, NULL, &err_));
	ck_assert_ptr_null(journal_find(j, &one.ip));
	journal_close(j);
}
END_TEST

/* A pod that was there before the journal, whose verb waits: of a DEL that has found nothing of it here, for one. */
START_TEST(inherited)
{
	const struct ipam_addr one = addr(1);
	const struct journal_owner o = owner("c1");
	struct journal *j = open_it();

	give_back(j, "c1");
	ck_assert_int_eq(journal_inherit(j, &o, &one, 1, NULL), 0);
	ck_assert_ptr_null(journal_find(j, &one.ip));
	OK(journal_done(j, 1, &err_));
	ck_assert_int_eq(journal_inherit(j, &o, &one, 1, NULL), 1);
	ck_assert_ptr_eq(journal_find(j, &one.ip), journal_taken_by(j, "c1"));
	journal_close(j);
}
END_TEST

static char *content(size_t *len)
{
	auto_free char *path = mem_printf("%s/journal", dir);
	char *text;

	OK(file_read(path, 1 << 24, &text, len, &err_));
	return text;
}

static void write_content(const char *text, size_t len)
{
	auto_free char *path = mem_printf("%s/journal", dir);
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
}

/* What the file of the lock says is of another one. */
static void forget_boot(void)
{
	auto_free char *path = mem_printf("%s/lock", dir);

	ck_assert_int_eq(truncate(path, 0), 0);
}

/* A power cut may leave any beginning of it, and zeros behind that. */
START_TEST(cut_off)
{
	struct journal *j = open_it();
	auto_free char *text = NULL;
	size_t len, last = 0;

	OK(journal_seen(j, "node-1", true, "", &err_));
	hold(j, 1);
	hold(j, 2);
	ck_assert_int_eq(take(j, "c1"), 1);
	give_back(j, "c1");
	journal_close(j);
	text = content(&len);
	for (size_t i = 0; i + 1 < len; i++)
		if (text[i] == '\n')
			last = i + 1;
	for (size_t cut = last; cut < len; cut++) {
		auto_free char *zeros = mem_zalloc(len);

		memcpy(zeros, text, cut);
		write_content(zeros, cut % 2 ? cut : len);
		forget_boot();
		j = open_it();
		/* The give-back is not there, and what comes goes on from there. */
		ck_assert_uint_eq(journal_n_pending(j), 1);
		ck_assert_int_eq(take(j, "c2"), 2);
		journal_close(j);
		j = open_it();
		ck_assert_uint_eq(journal_n_pending(j), 2);
		journal_close(j);
	}
}
END_TEST

/* Longer than what is read at once: lines that lie across the pieces, the last one torn, and one that is damaged. */
START_TEST(in_pieces)
{
	enum { N = 3 << 20 };
	struct journal *j = open_it();
	auto_strbuf all = STRBUF_INIT;
	auto_free char *text = NULL;
	size_t len, whole;
	struct err err = ERR_INIT;

	hold(j, 1);
	hold(j, 2);
	journal_close(j);
	text = content(&len);
	while (all.len < N)
		strbuf_addn(&all, text, len);
	whole = all.len;
	strbuf_addn(&all, text, len / 2 - 2);
	write_content(all.s, all.len);
	j = open_it();
	ck_assert_uint_eq(journal_n_free(j, IP_V4), 2);
	hold(j, 3);
	journal_close(j);
	free(take_ptr(text));
	text = content(&len);
	ck_assert_uint_lt(len, whole + 100); /* one line is behind it */
	ck_assert_int_eq(memcmp(text, all.s, whole), 0);
	j = open_it();
	ck_assert_uint_eq(journal_n_free(j, IP_V4), 3);
	journal_close(j);
	text[len / 2] ^= 1;
	write_content(text, len);
	ck_assert_int_eq(journal_open(dir, false, &j, &err), -EIO);
	ck_assert_ptr_nonnull(strstr(err.text, "damaged at byte 15"));
}
END_TEST

/* A part of a line: neither its writer nor others see anything of it, and what comes goes on from there. */
START_TEST(half_written)
{
	const struct journal_owner o = owner("c1");
	struct journal *a = open_it(), *b;
	struct rlimit was;
	auto_free char *before = NULL, *after = NULL;
	size_t n_before, n_after;
	int r;

	signal(SIGXFSZ, SIG_IGN);
	OK(journal_seen(a, "node-1", true, "", &err_));
	hold(a, 1);
	hold(a, 2);
	ck_assert_int_eq(take(a, "c1"), 1);
	before = content(&n_before);
	/* Of no file more than this is written, Check's own included. */
	(void)getrlimit(RLIMIT_FSIZE, &was);
	(void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){n_before + 20, was.rlim_max});
	r = journal_give_back(a, &o, NULL);
	(void)setrlimit(RLIMIT_FSIZE, &was);
	ck_assert_int_eq(r, -ENOSPC);
	after = content(&n_after);
	ck_assert_uint_eq(n_after, n_before);
	ck_assert_mem_eq(after, before, n_before);
	b = open_it();
	ck_assert_uint_eq(journal_n_pending(b), 1);
	ck_assert_int_eq(take(a, "c2"), 2);
	OK(journal_refresh(b, &err_));
	ck_assert_uint_eq(journal_n_pending(b), 2);
	journal_close(a);
	journal_close(b);
}
END_TEST

static char *long_endpoint(void *arg, const struct ip *ips, size_t n)
{
	size_t len = *(const size_t *)arg;
	char *text = mem_alloc(len + 1);

	(void)ips;
	(void)n;
	memset(text, 'x', len);
	text[len] = '\0';
	return text;
}

START_TEST(long_line)
{
	size_t len = 5 << 20;
	struct journal *a = open_it(), *b = open_it();
	struct ipam_addr one = addr(1);
	struct journal_want w = {.node = "node-1",
		.owner = owner("c1"),
		.v4 = true,
		.endpoint = long_endpoint,
		.arg = &len};

	OK(journal_adopt(a, &w, &one, 1, &err_));
	hold(a, 2);
	OK(journal_refresh(b, &err_));
	ck_assert_uint_eq(strlen(journal_next(b, 0)->endpoint), len);
	ck_assert_uint_eq(journal_n_free(b, IP_V4), 1);
	len = 9 << 20;
	ck_assert_int_eq(journal_adopt(a, &w, &one, 1, NULL), -EFBIG);
	OK(journal_refresh(b, &err_));
	ck_assert_uint_eq(journal_n_pending(b), 1);
	journal_close(a);
	journal_close(b);
}
END_TEST

static size_t n_taken(struct journal *j, const struct journal_owner *o)
{
	const struct journal_addr *a;
	size_t n, found = 0;

	OK(journal_refresh(j, &err_));
	a = journal_addrs(j, &n);
	for (size_t i = 0; i < n; i++)
		found += a[i].state == JOURNAL_TAKEN && strcmp(a[i].owner.handle, o->handle) == 0;
	return found;
}

/* Where the disk has room for a file of so many bytes; Check writes some, too. */
static int adopt_or_inherit(
	struct journal *j, bool adopts, const struct journal_owner *o, off_t room)
{
	const struct rlimit limit = {(rlim_t)room, RLIM_INFINITY},
			    none = {RLIM_INFINITY, RLIM_INFINITY};
	const struct ipam_addr two[] = {addr(1), addr(2)};
	const struct journal_want w = {.node = "node-1", .owner = *o, .v4 = true};
	int r;

	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	r = adopts ? journal_adopt(j, &w, two, 2, NULL) : journal_inherit(j, o, two, 2, NULL);
	(void)setrlimit(RLIMIT_FSIZE, &none);
	return r > 0 ? 0 : r;
}

/* However much of it the disk has room for: half of what a handle has is taken by no line. */
static void check_whole(bool adopts)
{
	struct journal *a = open_it(), *b = open_it();
	const struct journal_owner o = owner("c1");
	struct stat st;
	int r = -1;

	signal(SIGXFSZ, SIG_IGN);
	hold(a, 9);
	ck_assert_int_eq(stat(journal_path(a), &st), 0);
	for (int room = 0; r < 0; room += 20) {
		ck_assert_int_lt(room, 2000);
		r = adopt_or_inherit(a, adopts, &o, st.st_size + room);
		ck_assert_uint_eq(n_taken(a, &o), r < 0 ? 0 : 2);
		ck_assert_uint_eq(n_taken(b, &o), r < 0 ? 0 : 2);
	}
	/* The datastore has it already. */
	ck_assert_uint_eq(journal_n_pending(b), 0);
	give_back(b, "c1");
	ck_assert_uint_eq(journal_next(b, 0)->n, 2);
	ck_assert_uint_eq(journal_next(b, 0)->addrs.n, 2);
	journal_close(a);
	journal_close(b);
}

START_TEST(adopted_whole)
{
	check_whole(true);
}
END_TEST

START_TEST(inherited_whole)
{
	check_whole(false);
}
END_TEST

START_TEST(damage_is_told)
{
	struct journal *j = open_it();
	struct err err = ERR_INIT;
	auto_free char *text = NULL;
	size_t len;

	hold(j, 1);
	hold(j, 2);
	journal_close(j);
	text = content(&len);
	text[30] ^= 1;
	write_content(text, len);
	ck_assert_int_eq(journal_open(dir, false, &j, &err), -EIO);
	ck_assert_ptr_nonnull(strstr(err.text, "damaged at byte 0"));
	free(take_ptr(text));
	text = content(&len); /* nothing of it was cut off */
	ck_assert_uint_gt(len, 60);
}
END_TEST

/* Whoever has it open, and whoever opens it. */
static void check_refused(struct journal *j, const char *what)
{
	struct journal *other;
	struct err err = ERR_INIT;

	ck_assert_int_eq(journal_refresh(j, &err), -EIO);
	ck_assert_msg(strstr(err.text, what), "%s", err.text);
	ck_assert_int_eq(journal_open(dir, false, &other, &err), -EIO);
	ck_assert_msg(strstr(err.text, what), "%s", err.text);
}

/* The address of a pod that runs would look free. */
START_TEST(shorter_than_it_was)
{
	struct journal *j = open_it();
	auto_free char *text = NULL, *path = mem_printf("%s/journal", dir),
		       *away = mem_printf("%s/away", dir);
	size_t len, before;

	OK(journal_seen(j, "node-1", true, "", &err_));
	hold(j, 1);
	free(content(&before));
	ck_assert_int_eq(take(j, "c1"), 1);
	text = content(&len);
	for (size_t cut = 0; cut < len; cut += before / 2) {
		ck_assert_int_eq(truncate(path, (off_t)cut), 0);
		check_refused(j, " good bytes, and has had ");
		write_content(text, len);
		OK(journal_refresh(j, &err_));
		ck_assert_int_eq(take(j, "c1"), 1);
		ck_assert_int_eq(take(j, "c2"), -ENOENT);
	}
	/* Its last line, which was told, is bad: who has read it need not read it again. */
	text[len - 2] ^= 1;
	write_content(text, len);
	journal_close(j);
	ck_assert_int_eq(journal_open(dir, false, &j, NULL), -EIO);
	free(content(&before));
	ck_assert_uint_eq(before, len); /* nothing was cut off */
	ck_assert_int_eq(rename(path, away), 0);
	j = open_it();
	ck_assert_int_eq(take(j, "c2"), -ENOENT);
	hold(j, 2);
	/* One that was deleted is another one, whatever its number. */
	journal_close(j);
	ck_assert_int_eq(unlink(path), 0);
	j = open_it();
	ck_assert_uint_eq(journal_n_free(j, IP_V4), 0);
	journal_close(j);
}
END_TEST

START_TEST(compacted)
{
	struct journal *a = open_it(), *b = open_it();
	struct stat before, after;
	auto_free char *path = mem_printf("%s/journal", dir);

	OK(journal_seen(a, "node-1", true, "g", &err_));
	hold(a, 1);
	hold(a, 2);
	ck_assert_int_eq(take(a, "keep"), 1);
	for (unsigned i = 0; i < 800; i++) {
		ck_assert_int_eq(take(i % 2 ? a : b, "c"), 2);
		OK(journal_refresh(a, &err_));
		OK(journal_done(a, 2 * i + 2, &err_));
		give_back(a, "c");
		OK(journal_done(a, 2 * i + 3, &err_));
	}
	ck_assert_int_eq(stat(path, &before), 0);
	OK(journal_compact(a, &err_));
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_int_lt(after.st_size, 4096);
	ck_assert_int_gt(before.st_size, 256 * 1024);
	/* The other has the old one open. */
	ck_assert_int_eq(take(b, "keep"), 1);
	ck_assert_int_eq(take(b, "c9"), 2);
	OK(journal_refresh(a, &err_));
	ck_assert_uint_eq(journal_n_pending(a), 2);
	ck_assert_str_eq(journal_next(a, 0)->owner.handle, "keep");
	ck_assert_uint_eq(journal_next(a, 1)->n, 1602);
	ck_assert_str_eq(journal_guid(a), "g");
	journal_close(a);
	journal_close(b);
}
END_TEST

/* Processes that are killed at any instant: an address never has two, and none is lost. */
START_TEST(killed)
{
	enum { N_ADDRS = 12, N_PROCESSES = 4, N_ROUNDS = 40 };
	struct journal *j = open_it();
	const struct journal_addr *addrs;
	size_t n;

	OK(journal_seen(j, "node-1", true, "", &err_));
	for (unsigned i = 1; i <= N_ADDRS; i++)
		hold(j, i);
	for (int round = 0; round < N_ROUNDS; round++) {
		pid_t pids[N_PROCESSES];

		for (int p = 0; p < N_PROCESSES; p++) {
			pids[p] = fork();
			if (pids[p] != 0)
				continue;
			struct journal *mine = NULL;

			if (journal_open(dir, false, &mine, NULL) < 0)
				_exit(1);
			for (int k = 0;; k++) {
				auto_free char *h = mem_printf("%d.%d.%d", round, p, k);

				if (take(mine, h) > 0)
					give_back(mine, h);
			}
		}
		usleep(1000 + (unsigned)round * 300);
		for (int p = 0; p < N_PROCESSES; p++) {
			kill(pids[p], SIGKILL);
			waitpid(pids[p], NULL, 0);
		}
		OK(journal_refresh(j, &err_));
		addrs = journal_addrs(j, &n);
		ck_assert_uint_eq(n, N_ADDRS);
		for (size_t i = 0; i < n; i++) {
			auto_free char *h = NULL;

			if (addrs[i].state != JOURNAL_TAKEN)
				continue;
			h = mem_strdup(addrs[i].owner.handle);
			give_back(j, h);
			addrs = journal_addrs(j, &n);
			i = (size_t)-1; /* it is the last one now */
		}
		for (const struct journal_op *op; (op = journal_next(j, 0));)
			OK(journal_done(j, op->n, &err_));
		ck_assert_uint_eq(journal_n_free(j, IP_V4), N_ADDRS);
	}
	journal_close(j);
}
END_TEST

static bool wants(struct journal *j, enum ip_family family, const char *pool, struct prefix *ret)
{
	const struct call c = {.journal = j};
	struct prefix nets[RESERVED_NETS_MAX];
	struct journal_want w = {0};
	struct cni_texts pools = {0};
	bool ok;

	vec_push(&pools, (char *)(uintptr_t)pool);
	ok = reserved_want_pools(&c, family, &pools, nets, &w);
	vec_done(&pools);
	ck_assert_uint_eq(w.n_nets, ok);
	*ret = nets[0];
	return ok;
}

/* As the datastore has it: by name or CIDR, whole, and of the family. */
START_TEST(pools_are_named)
{
	static const struct {
		const char *pool;
		enum ip_family family;
		bool ok;
	} cases[] = {
		{"p4", IP_V4, true},
		{"10.9.0.0/16", IP_V4, true},
		{"10.9.0.5/16", IP_V4, true},
		{"p6", IP_V6, true},
		{"fd00:9::/64", IP_V6, true},
		{"p6", IP_V4, false},
		{"fd00:9::/64", IP_V4, false},
		{"p4", IP_V6, false},
		{"10.9.0.0/24", IP_V4, false},
		{"10.0.0.0/8", IP_V4, false},
		{"10.8.0.0/16", IP_V4, false},
		{"p", IP_V4, false},
		{"", IP_V4, false},
	};
	struct ipam_pool in[] = {{.name = "p4"}, {.name = "p6"}};
	const struct ipam_scope scope = {.in = in, .n_in = 2};
	struct journal *j = open_it();

	ck_assert_int_eq(prefix_parse("10.9.0.0/16", &in[0].cidr, NULL), 0);
	ck_assert_int_eq(prefix_parse("fd00:9::/64", &in[1].cidr, NULL), 0);
	OK(journal_scope(j, &scope, &err_));
	for (size_t i = 0; i < array_size(cases); i++) {
		struct prefix net;

		ck_assert_msg(wants(j, cases[i].family, cases[i].pool, &net) == cases[i].ok,
			"%s of IPv%d", cases[i].pool, cases[i].family);
		if (cases[i].ok)
			ck_assert(prefix_equal(&net, &in[cases[i].family == IP_V6].cidr));
	}
	journal_close(j);
}
END_TEST

/* Against a model: who has what, and in which order free ones are given. */
START_TEST(modelled)
{
	enum { N = 6 };
	int queue[N], n_free = 0, has[N] = {0}; /* has[k]: the address of handle k */
	struct journal *j[2] = {open_it(), open_it()};
	unsigned seed = (unsigned)clock_real_ns();

	if (getenv("SEED"))
		seed = (unsigned)strtoul(getenv("SEED"), NULL, 10);
	printf("seed %u\n", seed);
	srandom(seed);
	OK(journal_seen(j[0], "node-1", true, "", &err_));
	for (int i = 0; i < N - 2; i++) {
		hold(j[i % 2], (unsigned)i + 1);
		queue[n_free++] = i + 1;
	}
	for (int step = 0; step < 1500; step++) {
		struct journal *one = j[random() % 2];
		int k = (int)(random() % N);
		auto_free char *h = mem_printf("h%d", k);

		if (random() % 2) {
			int want = has[k] ? has[k] : n_free > 0 ? queue[0] : -ENOENT;

			ck_assert_int_eq(take(one, h), want);
			if (!has[k] && want > 0) {
				memmove(queue, queue + 1, (size_t)--n_free * sizeof(int));
				has[k] = want;
			}
		} else {
			give_back(one, h);
			if (has[k])
				queue[n_free++] = has[k];
			has[k] = 0;
		}
		if (random() % 8 == 0) {
			OK(journal_refresh(one, &err_));
			while (journal_next(one, 0) && random() % 4)
				OK(journal_done(one, journal_next(one, 0)->n, &err_));
		}
		if (random() % 50 == 0) {
			journal_close(j[0]);
			one = j[0] = open_it();
		}
		OK(journal_refresh(one, &err_));
		ck_assert_uint_eq(journal_n_free(one, IP_V4), (size_t)n_free);
	}
	journal_close(j[0]);
	journal_close(j[1]);
}
END_TEST

static int64_t see(struct absent *a, uint64_t n, int64_t now_s)
{
	return absent_see(a, "n1", &(struct absent_holds){n, 7}, now_s);
}

START_TEST(absent_since)
{
	struct absent a = {0};

	ck_assert_int_eq(see(&a, 3, 100), 0);
	ck_assert_int_eq(see(&a, 3, 100 + ABSENT_GAP_S), ABSENT_GAP_S);
	/* It gives, or gives back: it lives. */
	ck_assert_int_eq(see(&a, 4, 200 + ABSENT_GAP_S), 0);
	ck_assert_int_eq(see(&a, 4, 500 + ABSENT_GAP_S), 300);
	/* Nobody has looked for too long. */
	ck_assert_int_eq(see(&a, 4, 501 + 2 * ABSENT_GAP_S), 0);
	/* It was there. */
	absent_forget(&a, 600 + 2 * ABSENT_GAP_S);
	ck_assert_uint_eq(a.v.n, 0);
	ck_assert_int_eq(see(&a, 4, 700 + 2 * ABSENT_GAP_S), 0);
	absent_done(&a);
}
END_TEST

/* What it holds is given back, by whoever goes on with it. */
START_TEST(absent_and_given_back)
{
	auto_free char *path = mem_printf("%s/absent", test_dir());
	struct absent a = {0}, b;

	see(&a, 9, 100);
	absent_begin(&a, "n1", &(struct absent_holds){9, 7});
	OK(absent_save(&a, path, "boot-1", &err_));
	absent_load(&b, path, "boot-1");
	ck_assert_int_eq(see(&b, 6, 300), 200);
	absent_begin(&b, "n1", &(struct absent_holds){4, 7});
	ck_assert_int_eq(see(&b, 4, 400), 300);
	/* One that was to be left is another one's. */
	ck_assert_int_eq(absent_see(&b, "n1", &(struct absent_holds){4, 8}, 500), 0);
	/* From here on it gives back itself. */
	ck_assert_int_eq(see(&b, 3, 600), 0);
	absent_begin(&b, "n1", &(struct absent_holds){3, 7});
	ck_assert_int_eq(see(&b, 4, 700), 0);
	absent_begin(&b, "n1", &(struct absent_holds){4, 7});
	absent_drop(&b, "n1");
	ck_assert_int_eq(see(&b, 3, 800), 0);
	absent_done(&a);
	absent_done(&b);
}
END_TEST

START_TEST(absent_is_kept)
{
	auto_free char *path = mem_printf("%s/absent", test_dir());
	struct absent a = {0}, b;

	see(&a, 3, 100);
	OK(absent_save(&a, path, "boot-1", &err_));
	absent_load(&b, path, "boot-1");
	ck_assert_int_eq(see(&b, 3, 160), 60);
	absent_done(&b);
	absent_load(&b, path, "boot-2");
	ck_assert_uint_eq(b.v.n, 0);
	absent_load(&b, path, "");
	ck_assert_uint_eq(b.v.n, 0);
	/* Of a boot that cannot be told nobody goes on with anything. */
	OK(absent_save(&a, path, "", &err_));
	absent_load(&b, path, "");
	ck_assert_uint_eq(b.v.n, 0);
	ck_assert_int_ge(file_write_atomic(path, "boot-1\n100 99 1 1 0 n1\n", 23, 0600, NULL), 0);
	absent_load(&b, path, "boot-1");
	ck_assert_uint_eq(b.v.n, 0);
	absent_done(&a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("journal");
	TCase *tc = tcase_create("journal");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, shared);
	tcase_add_test(tc, left);
	tcase_add_test(tc, inherited);
	tcase_add_test(tc, cut_off);
	tcase_add_test(tc, in_pieces);
	tcase_add_test(tc, half_written);
	tcase_add_test(tc, long_line);
	tcase_add_test(tc, adopted_whole);
	tcase_add_test(tc, inherited_whole);
	tcase_add_test(tc, damage_is_told);
	tcase_add_test(tc, shorter_than_it_was);
	tcase_add_test(tc, compacted);
	tcase_add_test(tc, killed);
	tcase_add_test(tc, pools_are_named);
	tcase_add_test(tc, modelled);
	tcase_add_test(tc, absent_since);
	tcase_add_test(tc, absent_and_given_back);
	tcase_add_test(tc, absent_is_kept);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
