/* SPDX-License-Identifier: GPL-2.0-or-later */
/* margayctl datastore: export, import, migrate, lock, unlock */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/strbuf.h"
#include "ctl/check.h"
#include "ctl/ctl.h"
#include "ctl/move.h"
#include "store/lock.h"
#include "store/params.h"
#include "store/store.h"
#include "svc/param.h"

#define PASSES 3 /* of a migration: what was written in the moment of the lock is taken along */
#define SETTLE_US 1000000 /* who is about to write finds the lock by then, and has undone it */
#define SHOWN 20	  /* names in a list of what is wrong */
#define PROGRESS_MS 1000

struct task {
	struct ctl *c;
	const char *file;      /* export, import: -f */
	const char *from, *to; /* migrate: files of parameters */
	bool overwrite, keep_locked, json;

	struct snapshot source, before; /* before: of the pass before */
	struct check source_check;
	const char *source_name;
	struct store *old; /* migrate: where it comes from */
	struct move m;
	bool was_locked, holds; /* migrate: the old one, before; the lock is its own to leave */
	bool target_locked;	/* by this */
	size_t n_written;
	int64_t told_ms;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* ---- telling ---- */

static void progress(void *arg, size_t done, size_t total)
{
	struct task *t = arg;
	int64_t now = clock_mono_ms();

	if (now - t->told_ms < PROGRESS_MS)
		return;
	t->told_ms = now;
	ctl_warn("%zu of %zu objects written", done, total);
}

static void tell_list(const char *what, char *const *v, size_t n)
{
	for (size_t i = 0; i < n && i < SHOWN; i++)
		ctl_warn("%s%s", what, v[i]);
	if (n > SHOWN)
		ctl_warn("%sand %zu more", what, n - SHOWN);
}

static char *join(char *const *v, size_t n)
{
	auto_strbuf sb = STRBUF_INIT;

	for (size_t i = 0; i < n; i++)
		strbuf_addf(&sb, "%s%s", i ? ", " : "", v[i]);
	return strbuf_take(&sb);
}

/* "3 workloadendpoints, 1 services"; the caller's. */
static char *kinds_text(const struct move_kinds *kinds)
{
	auto_strbuf sb = STRBUF_INIT;
	const struct move_kind *k;

	vec_for_each (&kinds->v, k)
		strbuf_addf(&sb, "%s%zu %s", sb.len ? ", " : "", k->n, k->name);
	return strbuf_take(&sb);
}

/* What the target does not take. */
static void tell_left(const struct move *m)
{
	auto_free char *left = kinds_text(&m->left), *nodes = join(m->no_nodes.v, m->no_nodes.n);
	auto_free char *status = kinds_text(&m->status);

	if (*left)
		ctl_warn("left out, since %s has these of its own or not at all: %s",
			store_name(m->to), left);
	if (*status)
		ctl_warn(
			"left out, since it is for those to write who report it in %s: the status of %s",
			store_name(m->to), status);
	if (*nodes)
		ctl_warn(
			"left out, since only Kubernetes makes a Node, and it has none of this name: %s; "
			"where a host is called otherwise there, its NODENAME has to become that name "
			"before",
			nodes);
}

static json_t *strings(char *const *v, size_t n)
{
	json_t *j = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(j, json_string(v[i]));
	return j;
}

static json_t *kinds_json(const struct move_kinds *kinds)
{
	json_t *j = json_object();
	const struct move_kind *k;

	vec_for_each (&kinds->v, k)
		json_object_set_new(j, k->name, json_integer((json_int_t)k->n));
	return j;
}

static void print_json(const struct task *t, bool locked)
{
	const struct move *m = &t->m;
	auto_free char *text = NULL;
	json_t *j;

	j = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:b}", "from", t->source_name, "to",
		store_name(m->to), "written", (json_int_t)t->n_written, "same",
		(json_int_t)m->n_same, "leftOut", kinds_json(&m->left), "statusLeftOut",
		kinds_json(&m->status), "nodesLeftOut", strings(m->no_nodes.v, m->no_nodes.n),
		"locked", locked);
	text = json_dumps(j, JSON_INDENT(2));
	json_decref(j);
	printf("%s\n", text);
}

/* ---- options, and the datastores ---- */

static int parse(struct task *t, int argc, char **argv, const char *known)
{
	static const struct option options[] = {
		{"filename", required_argument, NULL, 'f'},
		{"from", required_argument, NULL, 'F'},
		{"to", required_argument, NULL, 'T'},
		{"overwrite", no_argument, NULL, 'O'},
		{"keep-locked", no_argument, NULL, 'K'},
		{"output", required_argument, NULL, 'o'},
		{0},
	};
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "f:o:", options, NULL)) != -1) {
		if (opt == '?')
			return -EINVAL;
		/* What the verb does not know. */
		if (!strchr(known, opt)) {
			ctl_warn("datastore %s: an option that it does not have", argv[0]);
			return -EINVAL;
		}
		switch (opt) {
		case 'f':
			t->file = optarg;
			break;
		case 'F':
			t->from = optarg;
			break;
		case 'T':
			t->to = optarg;
			break;
		case 'O':
			t->overwrite = true;
			break;
		case 'K':
			t->keep_locked = true;
			break;
		default:
			if (strcmp(optarg, "json") != 0) {
				ctl_warn("datastore %s: --output \"%s\": want json", argv[0],
					optarg);
				return -EINVAL;
			}
			t->json = true;
		}
	}
	if (optind == argc)
		return 0;
	ctl_warn("datastore %s: \"%s\": no argument is wanted", argv[0], argv[optind]);
	return -EINVAL;
}

/* The datastore that a file of parameters names, and the environment does not. */
struct place {
	struct params ps;
	struct store_conf conf;
	struct store *st;
};

static int place_open(struct place *p, const char *file, bool create, struct err *err)
{
	int r;

	p->ps = (struct params){.program = "margayctl"};
	store_params_add(&p->ps, &p->conf);
	r = params_load_file(&p->ps, file, err);
	if (r < 0)
		return r;
	if (!params_is_set(&p->ps, "DATASTORE_TYPE") && !params_is_set(&p->ps, "ETCD_ENDPOINTS") &&
		!params_is_set(&p->ps, "MARGAY_SQLITE_PATH"))
		return err_set(err, -EINVAL,
			"%s names no datastore: want DATASTORE_TYPE, ETCD_ENDPOINTS or "
			"MARGAY_SQLITE_PATH in it",
			file);
	p->conf.must_exist = !create;
	r = store_open(&p->conf, NULL, &p->st, err);
	return r < 0 ? err_wrap(err, r, "%s", file) : r;
}

static void place_done(struct place *p)
{
	if (p->st)
		store_close(p->st);
	params_done(&p->ps);
}

/* The one that margayctl's own parameters name; there is no advice on what is about to be moved. */
static struct store *own_store(struct ctl *c, bool create)
{
	struct err err = ERR_INIT;

	c->store_conf.must_exist = !create;
	if (!c->st && store_open(&c->store_conf, NULL, &c->st, &err) < 0)
		ctl_fail(&err);
	return c->st;
}

static int is_locked(struct store *st, bool *ret, struct err *err)
{
	enum store_lock lock;
	int r = store_lock_check_wait(st, 0, &lock, err);

	*ret = lock == STORE_LOCKED;
	return *ret ? 0 : r;
}

/* 1 = changed; 0, too, where there is no ClusterInformation to be unlocked. */
static int set_lock(struct store *st, bool locked, struct err *err)
{
	int r = store_lock_set_wait(st, locked, 0, err);

	return r == -ENOENT ? 0 : r;
}

/* ---- the move ---- */

static int read_source(struct task *t, struct err *err)
{
	int r;

	snapshot_done(&t->source);
	r = snapshot_read(t->old, &stop, &t->source, err);
	return r < 0 ? r : snapshot_check(&t->source, err);
}

/* Endpoints are Kubernetes' pods in one of the two. */
static bool has_pods(const struct task *t)
{
	return (t->old && store_is_managed(t->old)) || (t->m.to && store_is_managed(t->m.to));
}

static void check_source(struct task *t)
{
	check_done(&t->source_check);
	check_ipam(t->source.v.v, t->source.v.n, has_pods(t), &t->source_check);
	if (t->source_check.problems.n)
		ctl_warn(
			"%zu records of addresses do not agree with others, and are taken along as they "
			"are: margayctl ipam check tells them",
			t->source_check.problems.n);
}

static int refuse(const struct task *t, struct err *err)
{
	const struct move *m = &t->m;
	auto_free char *undefined = kinds_text(&m->undefined);
	const char *written = t->n_written ? "" : ": nothing was written";

	if (*undefined)
		return err_set(err, -EINVAL,
			"%s has no place for %s%s; install their "
			"CustomResourceDefinitions (Calico's), or delete them",
			store_name(m->to), undefined, written);
	if (m->differs.n == 0)
		return 0;
	tell_list("differs: ", m->differs.v, m->differs.n);
	return err_set(err, -EEXIST,
		"%s holds %zu objects that %s does not have so%s; take a datastore "
		"that is empty, or say --overwrite",
		store_name(m->to), m->differs.n, t->source_name, written);
}

/* One pass. 1 = something was to be done. */
static int pass(struct task *t, struct err *err)
{
	struct move *m = &t->m;
	int r = move_plan(m, err);

	if (r == 0)
		r = refuse(t, err);
	if (r < 0 || m->steps.n == 0)
		return r;
	/* Where there is none yet, the first step makes the source's, locked. */
	r = snapshot_find(&t->source, STORE_LOCK_KEY) ? set_lock(m->to, true, err)
						      : store_lock_make_wait(m->to, 0, err);
	t->target_locked |= r == 1 || r == -ETIMEDOUT;
	if (r == 1) { /* that has changed its revision */
		r = move_plan(m, err);
		if (r == 0)
			r = refuse(t, err);
	}
	if (r < 0)
		return r;
	t->told_ms = clock_mono_ms();
	r = move_run(m, err);
	t->n_written += m->n_done + m->n_unsure;
	if (r < 0)
		return r;
	tell_list("", m->failed.v, m->failed.n);
	return m->failed.n ? err_set(err, -EINVAL, "%zu objects could not be written", m->failed.n)
			   : 1;
}

static bool known(const struct check *c, const char *problem)
{
	const struct problem *p;

	vec_for_each (&c->problems, p)
		if (strcmp(p->text, problem) == 0)
			return true;
	return false;
}

/* The target's records; who uses addresses is told by the source where it is not the target's to say. */
static int check_target(const struct task *t, struct err *err)
{
	VEC(struct store_kv) all = {0};
	const struct store_kv *kv;
	const struct problem *p;
	struct check c;
	size_t n = 0, n_roots;
	const struct store_root *roots = store_roots(t->m.to, &n_roots);

	vec_for_each (&t->m.there.v, kv)
		vec_push(&all, *kv);
	for (size_t i = 0; i < n_roots; i++)
		vec_for_each (&t->source.v, kv)
			if ((roots[i].access == STORE_FOREIGN || roots[i].access == STORE_CHANGE) &&
				strncmp(kv->key, roots[i].prefix, strlen(roots[i].prefix)) == 0 &&
				!snapshot_find(&t->m.there, kv->key))
				vec_push(&all, *kv);
	check_ipam(all.v, all.n, has_pods(t), &c);
	vec_for_each (&c.problems, p) {
		if (known(&t->source_check, p->text))
			continue;
		n++;
		ctl_warn("%s", p->text);
	}
	check_done(&c);
	vec_done(&all);
	return n ? err_set(err, -EINVAL, "%s: %zu records of addresses do not agree any more",
			   store_name(t->m.to), n)
		 : 0;
}

/* Until nothing is left to be done, which is the proof that everything is there. */
static int move_all(struct task *t, struct err *err)
{
	int r = 1;

	t->m.overwrite = t->overwrite;
	for (int i = 0; r == 1 && i < PASSES; i++) {
		if (i > 0 && t->old) {
			snapshot_done(&t->before);
			t->before = t->source;
			t->source = (struct snapshot){0};
			t->m.before = &t->before;
			r = read_source(t, err);
			if (r < 0)
				return r;
			check_done(&t->source_check);
			check_ipam(t->source.v.v, t->source.v.n, has_pods(t), &t->source_check);
		}
		r = pass(t, err);
	}
	if (r == 1)
		r = err_set(err, -EAGAIN,
			"%s: objects do not stay as they were written: somebody writes to one of the "
			"datastores",
			store_name(t->m.to));
	return r < 0 ? r : check_target(t, err);
}

static int finish(struct task *t, struct err *err)
{
	bool locked = false;
	int r;

	if (stop)
		return err_set(err, -ECANCELED, "interrupted");
	r = t->keep_locked ? 0 : set_lock(t->m.to, false, err);
	if (r >= 0)
		r = is_locked(t->m.to, &locked, err);
	if (r < 0)
		return r;
	tell_left(&t->m);
	if (t->json)
		print_json(t, locked);
	else
		printf("Successfully %s %zu objects from %s to %s, where %zu are as they should be%s\n",
			t->old ? "moved" : "imported", t->n_written, t->source_name,
			store_name(t->m.to), t->m.n_same,
			locked ? "; it stays locked: margayctl datastore unlock" : "");
	return 0;
}

static void begin(struct task *t, struct store *to)
{
	/* The second one kills. */
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	t->m.from = &t->source;
	t->m.to = to;
	t->m.progress = progress;
	t->m.arg = t;
	t->m.stop = &stop;
}

static void task_done(struct task *t)
{
	move_done(&t->m);
	check_done(&t->source_check);
	snapshot_done(&t->source);
	snapshot_done(&t->before);
}

/* ---- verbs ---- */

static int write_export(struct task *t, struct err *err)
{
	auto_free char *text = NULL;
	struct stat sb;
	size_t len = 0;
	FILE *out;
	int r;

	if (!t->file || strcmp(t->file, "-") == 0)
		return snapshot_print(&t->source, stdout, err);
	/* What is no file, as /dev/stdout or a pipe, is not replaced by one. */
	if (lstat(t->file, &sb) == 0 && !S_ISREG(sb.st_mode))
		out = fopen(t->file, "we");
	else
		out = open_memstream(&text, &len);
	if (!out)
		return err_set(err, -errno, "open %s: %s", t->file, strerror(errno));
	r = snapshot_print(&t->source, out, err);
	fclose(out); /* all of it was written by then */
	if (r < 0)
		err_wrap(err, r, "write %s", t->file);
	return r < 0 || !text ? r : file_write_atomic(t->file, text, len, 0600, err);
}

static int verb_export(struct ctl *c, int argc, char **argv)
{
	struct task t = {.c = c};
	struct err err = ERR_INIT;
	bool locked;
	int r;

	if (parse(&t, argc, argv, "f") < 0)
		return verb_misused("datastore export");
	t.old = own_store(c, false);
	if (!t.old)
		return EXIT_FAILURE;
	r = is_locked(t.old, &locked, &err);
	if (r == 0)
		r = read_source(&t, &err);
	if (r == 0) {
		check_source(&t);
		r = write_export(&t, &err);
	}
	if (r >= 0)
		ctl_warn("exported %zu objects of %s%s", t.source.v.n, store_name(t.old),
			locked ? ""
			       : "; it is not locked: what is written there from now on is not in it "
				 "(margayctl datastore lock)");
	task_done(&t);
	return r < 0 ? ctl_fail(&err) : EXIT_SUCCESS;
}

/* What its lock is, where it can be had. */
static const char *lock_text(struct store *st)
{
	struct err err = ERR_INIT;
	bool locked = false;

	if (is_locked(st, &locked, &err) < 0)
		return "which may be locked";
	return locked ? "which stays locked" : "which is not locked";
}

/* After a failure: as it was where nothing was written, else what it is left as. */
static void leave_target(const struct task *t)
{
	struct err err = ERR_INIT;

	if (t->n_written > 0) {
		ctl_warn(
			"%zu objects were written to %s, %s: the same command goes on where "
			"this one ended; with what is there now, margayctl datastore unlock lets it be used",
			t->n_written, store_name(t->m.to), lock_text(t->m.to));
	} else if (t->target_locked && set_lock(t->m.to, false, &err) < 0) {
		ctl_fail(&err);
		ctl_warn("%s stays locked: margayctl datastore unlock", store_name(t->m.to));
	}
}

static int verb_import(struct ctl *c, int argc, char **argv)
{
	struct task t = {.c = c};
	struct err err = ERR_INIT;
	struct store *to;
	int r;

	if (parse(&t, argc, argv, "fOKo") < 0 || !t.file) {
		if (!t.file)
			ctl_warn("datastore import: want a file by -f");
		return verb_misused("datastore import");
	}
	to = own_store(c, true);
	if (!to)
		return EXIT_FAILURE;
	t.source_name = strcmp(t.file, "-") == 0 ? "standard input" : t.file;
	r = snapshot_load(t.file, &t.source, &err);
	if (r == 0) {
		begin(&t, to);
		check_source(&t);
		r = move_all(&t, &err);
	}
	if (r == 0)
		r = finish(&t, &err);
	if (r < 0) {
		ctl_fail(&err);
		leave_target(&t);
	}
	task_done(&t);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* What both are left as. */
static void tell_failure(struct task *t)
{
	struct err err = ERR_INIT;
	bool locked = false;

	leave_target(t);
	if (t->n_written == 0 && !t->was_locked) {
		if (set_lock(t->old, false, &err) < 0)
			ctl_fail(&err);
		else
			ctl_warn("nothing was written: %s is unlocked again", store_name(t->old));
		return;
	}
	(void)is_locked(t->old, &locked, &err);
	if (locked)
		ctl_warn(
			"%s stays locked, too: margayctl datastore unlock gives it back to its users",
			store_name(t->old));
}

/* What was written to the old one since somebody unlocked it would be missing. */
static int check_held(const struct task *t, struct err *err)
{
	bool locked = false;
	int r = is_locked(t->old, &locked, err);

	return r < 0 || locked
		       ? r
		       : err_set(err, -EAGAIN,
				 "%s was unlocked meanwhile, and what was written there since then "
				 "may be missing",
				 t->source_name);
}

static int migrate(struct task *t, struct store *to, struct err *err)
{
	int r = is_locked(t->old, &t->was_locked, err);

	t->source_name = store_name(t->old);
	begin(t, to);
	if (r == 0)
		r = read_source(t, err);
	if (r == 0 && t->source.v.n == 0)
		r = err_set(err, -ENOENT, "%s holds nothing", t->source_name);
	/* Before anybody is locked out. */
	t->m.overwrite = t->overwrite;
	if (r == 0)
		r = move_plan(&t->m, err);
	if (r == 0)
		r = refuse(t, err);
	if (r == 0)
		r = store_lock_make_wait(t->old, 0, err);
	t->holds = r >= 0 || r == -ETIMEDOUT;
	if (r < 0)
		return r;
	if (r == 1) {
		ctl_warn("%s is locked", t->source_name);
		usleep(SETTLE_US);
	}
	r = read_source(t, err);
	if (r == 0) {
		check_source(t);
		r = move_all(t, err);
	}
	if (r == 0)
		r = check_held(t, err);
	if (r == 0)
		r = finish(t, err);
	if (r < 0)
		return r;
	ctl_warn(
		"%s stays locked; give the new parameters to the programs of every node, and start "
		"them anew",
		t->source_name);
	return 0;
}

static int verb_migrate(struct ctl *c, int argc, char **argv)
{
	struct place from = {0}, to = {0};
	struct task t = {.c = c};
	struct err err = ERR_INIT;
	int r;

	if (parse(&t, argc, argv, "FTOKo") < 0 || !t.to) {
		if (!t.to)
			ctl_warn(
				"datastore migrate: want the new datastore's parameters by --to FILE");
		return verb_misused("datastore migrate");
	}
	r = t.from ? place_open(&from, t.from, false, &err) : 0;
	if (r == 0)
		r = place_open(&to, t.to, true, &err);
	if (r < 0) {
		ctl_fail(&err);
	} else {
		t.old = t.from ? from.st : own_store(c, false);
		r = t.old ? 0 : -EINVAL;
	}
	if (r == 0) {
		struct store_conf *old = t.from ? &from.conf : &c->store_conf;

		old->must_exist = to.conf.must_exist;
		if (store_conf_equal(old, &to.conf))
			r = err_set(&err, -EINVAL, "--to %s: is the datastore that is to be left",
				t.to);
		else
			r = migrate(&t, to.st, &err);
		if (r < 0)
			ctl_fail(&err);
		if (r < 0 && t.holds)
			tell_failure(&t);
	}
	task_done(&t);
	place_done(&from);
	place_done(&to);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int lock(struct ctl *c, int argc, char **argv, bool on)
{
	struct task t = {.c = c};
	struct err err = ERR_INIT;
	int r;

	if (parse(&t, argc, argv, "") < 0)
		return verb_misused(on ? "datastore lock" : "datastore unlock");
	if (!own_store(c, false))
		return EXIT_FAILURE;
	r = store_lock_set_wait(c->st, on, 0, &err);
	if (r == -ENOENT)
		err_set(&err, r,
			"%s has no ClusterInformation, which margay-felix makes at its first start: "
			"nobody is to be locked out",
			store_name(c->st));
	if (r < 0)
		return ctl_fail(&err);
	printf("%s is %s%s\n", store_name(c->st), r == 0 ? "already " : "",
		on ? "locked" : "unlocked");
	return EXIT_SUCCESS;
}

static int verb_lock(struct ctl *c, int argc, char **argv)
{
	return lock(c, argc, argv, true);
}

static int verb_unlock(struct ctl *c, int argc, char **argv)
{
	return lock(c, argc, argv, false);
}

#define INTO_HELP                                                                                           \
	"      --overwrite       replace what differs there, delete what the source does not have\n"        \
	"      --keep-locked     leave the new datastore locked; datastore unlock opens it\n"               \
	"  -o, --output json     the outcome as JSON\n"                                                     \
	"\nWrites what is missing, reads everything back, compares it object by object, and checks\n"       \
	"the records of addresses. A datastore that holds anything else is refused, and what differs\n"     \
	"is told. The datastore is locked meanwhile. What was interrupted goes on when it is started\n"     \
	"again.\n"                                                                                          \
	"\nWhere Kubernetes has a Node of the same name, that takes the annotations; endpoints are Pods:\n" \
	"these, Services and EndpointSlices are left out, and told; so is the status that a controller\n"   \
	"reports of an object.\n"

int verb_datastore(struct ctl *c, int argc, char **argv)
{
	static const struct verb table[] = {
		{"export", verb_export, "[-f FILE]", "everything, as lines of JSON",
			"  -f, --filename FILE   where to; else standard output\n"
			"\nAfter the first line each has one object, in the order of their keys:\n"
			"{\"key\": \"/calico/...\", \"value\": {...}}. Lock the datastore before, where the\n"
			"export is to be used in its place.\n"},
		{"import", verb_import, "-f FILE", "what was exported",
			"  -f, --filename FILE   what export wrote; -: standard input\n" INTO_HELP},
		{"migrate", verb_migrate, "--to FILE [--from FILE]",
			"into another datastore, at once",
			"      --to FILE         the new datastore: lines NAME = VALUE as in margay.conf, such as\n"
			"                        DATASTORE_TYPE = kubernetes and KUBECONFIG = /etc/margay/kubeconfig.\n"
			"                        The environment does not count\n"
			"      --from FILE       the old one; else the one that margayctl uses\n" INTO_HELP
			"\nThe old datastore is locked, and stays so: pods are neither started nor deleted,\n"
			"those that run go on. Then give the new parameters to all programs.\n"},
		{"lock", verb_lock, "", "keep everybody from writing",
			"Sets datastoreReady of ClusterInformation to false, as calicoctl datastore migrate lock\n"
			"does. The plugin, the daemons and margayctl's other verbs write nothing then.\n"},
		{"unlock", verb_unlock, "", "let them write again",
			"Sets datastoreReady of ClusterInformation to true.\n"},
		{0},
	};

	return verb_dispatch(c, table, "margayctl datastore", argc - 1, argv + 1);
}
