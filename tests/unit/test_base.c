/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lib/base: errors, parsers, strings, lists, files, and the hash map against a plain array. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/sha1.h"
#include "base/sha256.h"
#include "base/sha3.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "unit/test_dir.h"

START_TEST(err_reads_as_a_path)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(err_set(&err, -EINVAL, "prefix length %d, want 0..32", 33), -EINVAL);
	ck_assert_int_eq(err_wrap(&err, -EINVAL, "ippool %s: cidr", "a"), -EINVAL);
	ck_assert_str_eq(err_text(&err), "ippool a: cidr: prefix length 33, want 0..32");
	ck_assert_int_eq(err.code, -EINVAL);
	ck_assert_int_eq(err_sys(&err, -ENOENT, "open x"), -ENOENT);
	ck_assert_str_eq(err_text(&err), "open x: No such file or directory");
	ck_assert_int_eq(err_set(NULL, -EIO, "nobody listens"), -EIO);
	ck_assert_int_eq(err_wrap(NULL, -EIO, "nobody listens"), -EIO);
}
END_TEST

START_TEST(err_wrap_without_text_uses_the_code)
{
	struct err err = ERR_INIT;

	err_wrap(&err, -EACCES, "read");
	ck_assert_str_eq(err_text(&err), "read: Permission denied");
}
END_TEST

START_TEST(err_text_is_bounded)
{
	struct err err = ERR_INIT;
	char big[2 * ERR_TEXT_MAX];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&err, -EINVAL, "%s", big);
	err_wrap(&err, -EINVAL, "%s", big);
	err_sys(&err, -EINVAL, "%s", big);
	ck_assert_uint_eq(strlen(err.text), ERR_TEXT_MAX - 1);
}
END_TEST

static const struct {
	const char *text;
	uint64_t min, max;
	int r;
	uint64_t want;
} numbers[] = {
	{"0", 0, 9, 0, 0},
	{"18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX},
	{"18446744073709551616", 0, UINT64_MAX, -EINVAL, 0},
	{"99999999999999999999999", 0, UINT64_MAX, -EINVAL, 0},
	{"10", 0, 9, -EINVAL, 0},
	{"1", 2, 9, -EINVAL, 0},
	{"", 0, 9, -EINVAL, 0},
	{"-1", 0, 9, -EINVAL, 0},
	{"+1", 0, 9, -EINVAL, 0},
	{" 1", 0, 9, -EINVAL, 0},
	{"1 ", 0, 9, -EINVAL, 0},
	{"0x1", 0, 9, -EINVAL, 0},
};

START_TEST(numbers_are_strict)
{
	uint64_t v = 77;
	int r = parse_u64(numbers[_i].text, numbers[_i].min, numbers[_i].max, &v, NULL);

	ck_assert_int_eq(r, numbers[_i].r);
	ck_assert_uint_eq(v, r == 0 ? numbers[_i].want : 77);
}
END_TEST

static const struct {
	const char *text;
	int64_t ms; /* -1: refused */
} durations[] = {
	{"0", 0},
	{"90", 90000},
	{"90s", 90000},
	{"1m30s", 90000},
	{"500ms", 500},
	{"1.5h", 5400000},
	{"0.25s", 250},
	{"1h2m3s4ms", 3723004},
	{"999999ns", 0},
	{"", -1},
	{"s", -1},
	{"-1s", -1},
	{"1x", -1},
	{"1s2", -1},
	{"9999999999999999999h", -1},
	{"1000000h", -1},
};

START_TEST(durations_are_gos)
{
	int64_t ms = -1;
	struct err err = ERR_INIT;
	int r = parse_duration_ms(durations[_i].text, &ms, &err);

	ck_assert_int_eq(r, durations[_i].ms < 0 ? -EINVAL : 0);
	ck_assert_int_eq(ms, durations[_i].ms);
}
END_TEST

START_TEST(booleans)
{
	bool b = false;

	ck_assert_int_eq(parse_bool("Enabled", &b, NULL), 0);
	ck_assert(b);
	ck_assert_int_eq(parse_bool("off", &b, NULL), 0);
	ck_assert(!b);
	ck_assert_int_eq(parse_bool("maybe", &b, NULL), -EINVAL);
}
END_TEST

START_TEST(strings_grow)
{
	auto_strbuf sb = STRBUF_INIT;
	auto_free char *s = NULL;

	ck_assert_str_eq(strbuf_str(&sb), "");
	for (int i = 0; i < 1000; i++)
		strbuf_addf(&sb, "%d,", i);
	ck_assert_uint_eq(sb.len, strlen(sb.s));
	ck_assert_int_eq(strncmp(sb.s, "0,1,2,", 6), 0);
	s = strbuf_take(&sb);
	ck_assert_uint_eq(strlen(s), 3890);
	ck_assert_uint_eq(sb.len, 0);
}
END_TEST

struct item {
	struct list link;
	struct hmap_node node;
	uint32_t key;
	bool in;
};

START_TEST(lists_unlink_themselves)
{
	struct list head;
	struct item a = {.key = 1}, b = {.key = 2}, *it, *tmp;
	uint32_t sum = 0;

	list_init(&head);
	list_init(&a.link);
	list_del(&a.link);
	list_add_tail(&head, &a.link);
	list_add_tail(&head, &b.link);
	list_for_each_safe (it, tmp, &head, link) {
		sum += it->key;
		list_del(&it->link);
	}
	ck_assert_uint_eq(sum, 3);
	ck_assert(list_empty(&head));

	/* and change their head */
	struct list other;

	list_take(&other, &head);
	ck_assert(list_empty(&head) && list_empty(&other));
	list_add_tail(&head, &a.link);
	list_add_tail(&head, &b.link);
	list_take(&other, &head);
	ck_assert(list_empty(&head));
	ck_assert_ptr_eq(other.next, &a.link);
	list_del(&a.link);
	list_del(other.prev);
	ck_assert(list_empty(&other));
}
END_TEST

static struct item *lookup(const struct hmap *m, uint32_t key)
{
	struct item *it;

	hmap_for_each_hash (it, m, hash_bytes(&key, sizeof(key)), node)
		if (it->key == key)
			return it;
	return NULL;
}

START_TEST(hmap_equals_an_array)
{
	enum { N = 512, OPS = 20000 };
	static struct item items[N];
	unsigned seed = (unsigned)clock_real_ns();
	struct hmap m = HMAP_INIT;
	struct item *it;
	size_t n = 0, seen = 0;

	printf("seed %u\n", seed);
	srandom(seed);
	for (uint32_t i = 0; i < N; i++)
		items[i] = (struct item){.key = i};
	for (int op = 0; op < OPS; op++) {
		struct item *x = &items[random() % N];

		if (x->in) {
			hmap_remove(&m, &x->node);
			n--;
		} else {
			hmap_insert(&m, &x->node, hash_bytes(&x->key, sizeof(x->key)));
			n++;
		}
		x->in = !x->in;
		ck_assert_uint_eq(m.n, n);
		x = &items[random() % N];
		ck_assert_ptr_eq(lookup(&m, x->key), x->in ? x : NULL);
	}
	hmap_for_each (it, &m, node) {
		ck_assert(it->in);
		hmap_remove(&m, &it->node); /* the one change that iteration allows */
		seen++;
	}
	ck_assert_uint_eq(seen, n);
	ck_assert_uint_eq(m.n, 0);
	hmap_done(&m);
}
END_TEST

START_TEST(sha1_of_known_texts)
{
	char hex[SHA1_HEX_SIZE];

	ck_assert_str_eq(sha1_hex("", hex), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	ck_assert_str_eq(sha1_hex("abc", hex), "a9993e364706816aba3e25717850c26c9cd0d89d");
	ck_assert_str_eq(sha1_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", hex),
		"84983e441c3bd26ebaae4aa1f95129e5e54670f1");
	ck_assert(strncmp(sha1_hex("default.web-0", hex), "0d7763386da", 11) == 0);
}
END_TEST

/* FIPS 180-4's examples, and each length around a block's end. */
START_TEST(sha256_of_known_texts)
{
	static const struct {
		const char *text, *hex;
	} cases[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			"d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072"},
		{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			"04c26261370ee7541549d16dee320c723e3fd14671e66a099afe0a377c16888e"},
		{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			"7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c"},
		{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			"000b48d4edf0fa7bee3c6236ecd2785baa5db4eeb8bb54341b029e0d9fa5fb0c"},
	};
	char hex[SHA256_HEX_SIZE];

	ck_assert_str_eq(sha256_hex(cases[_i].text, hex), cases[_i].hex);
}
END_TEST

START_TEST(sha3_of_known_texts)
{
	static const struct {
		const char *text;
		uint8_t first[4];
	} cases[] = {
		{"", {0xa7, 0xff, 0xc6, 0xf8}},
		{"abc", {0x3a, 0x98, 0x5d, 0xa7}},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqk"
		 "lmnopqrlmnopqrsmnopqrstnopqrstu",
			{0x91, 0x6f, 0x60, 0x61}},
	};
	uint8_t hash[SHA3_256_SIZE], block[136];

	for (size_t i = 0; i < array_size(cases); i++) {
		sha3_256(cases[i].text, strlen(cases[i].text), hash);
		ck_assert_mem_eq(hash, cases[i].first, 4);
	}
	memset(block, 'x', sizeof(block)); /* a whole block of it */
	sha3_256(block, sizeof(block), hash);
	ck_assert_mem_eq(hash, "\x5b\xc2\x76\xba", 4);
}
END_TEST

/* RFC 4648 section 10 */
START_TEST(base64_both_ways)
{
	static const char *const cases[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"}, {"\xfb\xef\xff", "++//"}};
	static const char *const wrong[] = {
		"Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm 9v", "Zm9v\n", "Zm-_"};

	for (size_t i = 0; i < array_size(cases); i++) {
		auto_strbuf text = STRBUF_INIT, data = STRBUF_INIT;

		strbuf_add(&text, "x");
		base64_add(&text, cases[i][0], strlen(cases[i][0]));
		ck_assert_str_eq(text.s + 1, cases[i][1]);
		strbuf_add(&data, "x");
		ck_assert(base64_add_decoded(&data, cases[i][1], strlen(cases[i][1])));
		ck_assert_str_eq(data.s + 1, cases[i][0]);
	}
	for (size_t i = 0; i < array_size(wrong); i++) {
		auto_strbuf data = STRBUF_INIT;

		ck_assert_msg(
			!base64_add_decoded(&data, wrong[i], strlen(wrong[i])), "%s", wrong[i]);
		ck_assert_uint_eq(data.len, 0);
	}
}
END_TEST

START_TEST(files_are_whole)
{
	const char *dir = test_dir();
	auto_free char *path = NULL, *deep = NULL, *got = NULL;
	struct err err = ERR_INIT;
	struct stat st;
	size_t len;

	path = mem_printf("%s/f", dir);
	deep = mem_printf("%s/a/b/c", dir);
	ck_assert_int_eq(file_read(path, 10, &got, NULL, &err), -ENOENT);
	ck_assert_int_eq(file_write_atomic(path, "hello", 5, 0640, &err), 1);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0640);
	ck_assert_int_eq(file_write_atomic(path, "hello", 5, 0640, &err), 0);
	ck_assert_int_eq(file_read(path, 4, &got, NULL, &err), -EFBIG);
	ck_assert_int_eq(file_read(path, 5, &got, &len, &err), 0);
	ck_assert_uint_eq(len, 5);
	ck_assert_str_eq(got, "hello");
	ck_assert_int_eq(file_mkdirs(deep, 0755, &err), 0);
	ck_assert_int_eq(file_mkdirs(deep, 0755, &err), 0);
	ck_assert_int_lt(file_write_atomic(deep, "x", 1, 0600, &err), 0);
	ck_assert_int_eq(file_poke(AT_FDCWD, path, "HE", &err), 0);
	ck_assert_int_eq(file_poke(AT_FDCWD, "/nonexistent/x", "1", &err), -ENOENT);
	ck_assert_int_eq(unlink(path), 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(rmdir(i < 3 ? deep : dir), 0); /* and no temporary file is left */
		*strrchr(deep, '/') = '\0';
	}
}
END_TEST

/* What killed writers leave is one file, which the next one takes; what is being written stays. */
START_TEST(temporary_files_do_not_pile_up)
{
	const char *dir = test_dir();
	auto_free char *path = NULL, *tmp = NULL, *got = NULL;
	struct err err = ERR_INIT;
	int fd, status, n_files = 0;
	struct dirent *de;
	DIR *d;

	path = mem_printf("%s/f", dir);
	tmp = mem_printf("%s/f.tmp", dir);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			for (int k = 0;; k++)
				file_write_atomic(
					path, k % 2 ? "odd" : "even", k % 2 ? 3 : 4, 0600, NULL);
		usleep(1000 + (unsigned)i * 200);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	}
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, "a longer one that is half wri", 29), 29);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	ck_assert_int_eq(file_write_atomic(path, "whole", 5, 0600, &err), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(err.text, tmp));
	close(fd);
	ck_assert_int_eq(file_write_atomic(path, "whole", 5, 0600, &err), 1);
	ck_assert_int_eq(file_read(path, 10, &got, NULL, &err), 0);
	ck_assert_str_eq(got, "whole");
	/* Killed after its mode was set, which lets nobody write but root. */
	fd = open(tmp, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(chmod(dir, 0777), 0);
	pid_t other = fork();
	if (other == 0)
		_exit((geteuid() != 0 || setuid(65534) == 0) &&
					file_write_atomic(path, "new", 3, 0400, NULL) == 1
				? 0
				: 1);
	ck_assert_int_eq(waitpid(other, &status, 0), other);
	ck_assert_int_eq(status, 0);
	d = opendir(dir);
	while ((de = readdir(d)))
		n_files += de->d_name[0] != '.';
	closedir(d);
	ck_assert_int_eq(n_files, 1);
}
END_TEST

START_TEST(log_levels)
{
	enum log_level level = LOG_LEVEL_ERROR;

	ck_assert_int_eq(log_parse_level("Warning", &level, NULL), 0);
	ck_assert_int_eq(level, LOG_LEVEL_WARN);
	ck_assert_int_eq(log_parse_level("loud", &level, NULL), -EINVAL);
}
END_TEST

START_TEST(log_is_rate_limited_and_one_line)
{
	static struct log_site site;
	auto_free char *got = NULL;
	auto_free char *path = mem_printf("%s/log", test_dir());
	int fd = open(path, O_WRONLY | O_CREAT, 0600), saved = dup(STDERR_FILENO), lines = 0;

	ck_assert_int_ge(fd, 0);
	fflush(stderr);
	dup2(fd, STDERR_FILENO);
	for (int i = 0; i < 100; i++)
		log_write_(&site, LOG_LEVEL_INFO, "test", "name \"%s\"", "a\nforged: line");
	log_set_json(true);
	struct log_site other = {0};
	log_write_(&other, LOG_LEVEL_INFO, "test", "say \"%s\"", "a\n");
	log_set_json(false);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd);
	ck_assert_int_eq(file_read(path, 100000, &got, NULL, NULL), 0);
	for (char *s = got; *s; s++)
		lines += *s == '\n';
	ck_assert_int_eq(lines, 11);
	ck_assert_ptr_null(strstr(got, "\nforged"));
	ck_assert_ptr_nonnull(strstr(got, "\"msg\":\"say \\\"a\\u000a\\\"\""));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base");
	TCase *tc = tcase_create("base");

	tcase_add_test(tc, err_reads_as_a_path);
	tcase_add_test(tc, err_wrap_without_text_uses_the_code);
	tcase_add_test(tc, err_text_is_bounded);
	tcase_add_loop_test(tc, numbers_are_strict, 0, (int)array_size(numbers));
	tcase_add_loop_test(tc, durations_are_gos, 0, (int)array_size(durations));
	tcase_add_test(tc, booleans);
	tcase_add_test(tc, strings_grow);
	tcase_add_test(tc, lists_unlink_themselves);
	tcase_add_test(tc, hmap_equals_an_array);
	tcase_add_test(tc, sha1_of_known_texts);
	tcase_add_loop_test(tc, sha256_of_known_texts, 0, 7);
	tcase_add_test(tc, sha3_of_known_texts);
	tcase_add_test(tc, base64_both_ways);
	tcase_add_test(tc, files_are_whole);
	tcase_add_test(tc, temporary_files_do_not_pile_up);
	tcase_add_test(tc, log_levels);
	tcase_add_test(tc, log_is_rate_limited_and_one_line);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
