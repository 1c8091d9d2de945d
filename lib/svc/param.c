/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svc/param.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/strbuf.h"

#define FILE_MAX (1024 * 1024)

enum source { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_OPTION };

struct params_slot {
	struct param p;
	char **names; /* p.name, then the aliases; ends with NULL */
	char *text;
	char *origin;
	enum source source;
	size_t name_i; /* which of the names it was given by */
};

/* ---- names ---- */

static char fold(char c)
{
	return c == '-' ? '_' : (char)toupper((unsigned char)c);
}

/* MARGAY_RUN_DIR, margay-run-dir and margay_run_dir are one name. */
static bool same_name(const char *name, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (name[i] == '\0' || fold(name[i]) != fold(s[i]))
			return false;
	return name[n] == '\0';
}

static struct params_slot *find(const struct params *ps, const char *s, size_t n, size_t *ret_i)
{
	for (size_t i = 0; i < ps->n; i++) {
		for (size_t j = 0; ps->slots[i].names[j]; j++) {
			if (same_name(ps->slots[i].names[j], s, n)) {
				*ret_i = j;
				return &ps->slots[i];
			}
		}
	}
	return NULL;
}

static char *option_of(const char *name)
{
	char *opt = mem_printf("--%s", name);

	for (char *s = opt; *s; s++)
		*s = *s == '_' ? '-' : (char)tolower((unsigned char)*s);
	return opt;
}

static char **split_names(const struct params *ps, const char *name, const char *aliases)
{
	auto_free char *text = mem_printf("%s %s", name, aliases ?: "");
	char *rest = text, *word, **names = NULL;
	size_t n = 0, unused;

	while ((word = strsep(&rest, " ")) != NULL) {
		if (word[0] == '\0')
			continue;
		assert(!find(ps, word, strlen(word), &unused)); /* a name is declared once */
		names = mem_realloc_array(names, n + 2, sizeof(*names));
		names[n++] = mem_strdup(word);
		names[n] = NULL;
	}
	assert(names);
	return names;
}

/* What it is where nothing is said; "" for text only. */
static const char *default_of(const struct param *row)
{
	if (row->def)
		return row->def;
	switch (row->type) {
	case PARAM_STRING:
		return "";
	case PARAM_U32:
	case PARAM_DURATION:
		return "0";
	case PARAM_BOOL:
		return "false";
	case PARAM_ENUM:
		return row->values[0];
	}
	abort();
}

void params_add(struct params *ps, const struct param *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct param *row = &rows[i];
		struct params_slot slot = {
			.p = *row,
			.names = split_names(ps, row->name, row->aliases),
			.text = mem_strdup(default_of(row)),
			.origin = mem_strdup("default"),
		};

		slot.p.name = slot.names[0];
		slot.p.def = mem_strdup(default_of(row));
		slot.p.doc = mem_strdup(row->doc ?: "");
		if (row->type == PARAM_STRING)
			*row->str = NULL;
		ps->slots = mem_realloc_array(ps->slots, ps->n + 1, sizeof(*ps->slots));
		ps->slots[ps->n++] = slot;
	}
}

void params_done(struct params *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		struct params_slot *s = &ps->slots[i];

		if (s->p.type == PARAM_STRING) {
			free(*s->p.str);
			*s->p.str = NULL;
		}
		for (size_t j = 0; s->names[j]; j++)
			free(s->names[j]);
		free(s->names);
		free((void *)(uintptr_t)s->p.def);
		free((void *)(uintptr_t)s->p.doc);
		free(s->text);
		free(s->origin);
	}
	free(ps->slots);
	free(ps->file);
	free(ps->unused);
	ps->slots = NULL;
	ps->file = ps->unused = NULL;
	ps->n = 0;
}

static const struct params_slot *must_find(const struct params *ps, const char *name)
{
	size_t unused;
	const struct params_slot *s = find(ps, name, strlen(name), &unused);

	assert(s);
	return s;
}

const char *params_origin(const struct params *ps, const char *name)
{
	return must_find(ps, name)->origin;
}

bool params_is_set(const struct params *ps, const char *name)
{
	return must_find(ps, name)->source != FROM_DEFAULT;
}

/* ---- values ---- */

/*
 * Takes origin_take. An empty value changes nothing, nor does one of a lower source; within a source
 * the earlier of the names wins, and of one name the last value.
 */
static void give(struct params_slot *s, enum source source, size_t name_i, const char *text,
	char *origin_take)
{
	if (text[0] == '\0' || source < s->source || (source == s->source && name_i > s->name_i)) {
		free(origin_take);
		return;
	}
	free(s->text);
	free(s->origin);
	s->text = mem_strdup(text);
	s->origin = origin_take;
	s->source = source;
	s->name_i = name_i;
}

static int convert_enum(const struct param *p, const char *text, struct err *err)
{
	auto_strbuf want = STRBUF_INIT;

	for (int i = 0; p->values[i]; i++) {
		if (strcasecmp(p->values[i], text) == 0) {
			*p->choice = i;
			return 0;
		}
		strbuf_addf(&want, "%s%s",
			i == 0		   ? ""
			: p->values[i + 1] ? ", "
					   : " or ",
			p->values[i]);
	}
	return err_set(err, -EINVAL, "\"%.64s\": want %s", text, strbuf_str(&want));
}

static int convert_duration(const struct param *p, const char *text, struct err *err)
{
	int64_t ms = 0;
	int r = parse_duration_ms(text, &ms, err);

	if (r < 0)
		return r;
	if (ms < p->min)
		return err_set(err, -EINVAL, "\"%.64s\": want at least %ums", text, p->min);
	if (p->max && ms > p->max)
		return err_set(err, -EINVAL, "\"%.64s\": want at most %ums", text, p->max);
	*p->ms = ms;
	return 0;
}

static int convert(const struct param *p, const char *text, struct err *err)
{
	int r;

	switch (p->type) {
	case PARAM_STRING:
		r = p->check && text[0] ? p->check(text, err) : 0;
		if (r < 0)
			return r;
		free(*p->str);
		*p->str = mem_strdup(text);
		return 0;
	case PARAM_U32:
		return parse_u32(text, p->min, p->max ?: UINT32_MAX, p->u32, err);
	case PARAM_BOOL:
		/* To Calico everything is true that is not false. A slip shall not be. */
		return parse_bool(text, p->flag, err);
	case PARAM_DURATION:
		return convert_duration(p, text, err);
	case PARAM_ENUM:
		return convert_enum(p, text, err);
	}
	abort();
}

static int convert_all(struct params *ps, struct err *err)
{
	for (size_t i = 0; i < ps->n; i++) {
		struct params_slot *s = &ps->slots[i];
		int r = convert(&s->p, s->text, err);

		if (r == 0 && s->source == FROM_FILE && s->p.not_in_file &&
			strcmp(s->text, s->p.def) != 0)
			r = err_set(err, -EINVAL, "%s", s->p.not_in_file);
		if (r < 0)
			return err_wrap(err, r, "parameter %s (%s)", s->p.name, s->origin);
	}
	return 0;
}

/* ---- sources ---- */

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return s;
}

/* A comment is a '#' at the start of the line or after a blank. */
static void cut_comment(char *line)
{
	for (char *s = line; *s; s++) {
		if (*s == '#' && (s == line || isspace((unsigned char)s[-1]))) {
			*s = '\0';
			return;
		}
	}
}

static int load_file(struct params *ps, const char *path, bool must_exist, struct err *err)
{
	auto_free char *text = NULL;
	auto_strbuf unused = STRBUF_INIT;
	char *rest, *line;
	size_t len;
	int r = file_read(path, FILE_MAX, &text, &len, err);

	if (r == -ENOENT && !must_exist)
		return 0;
	if (r < 0)
		return err_wrap(err, r, "parameters");
	if (strlen(text) != len)
		return err_set(err, -EINVAL, "parameters: %s has a NUL byte: want text", path);
	rest = text;
	for (unsigned int n = 1; (line = strsep(&rest, "\n")) != NULL; n++) {
		struct params_slot *s;
		char *name, *eq;
		size_t i;

		cut_comment(line);
		name = trim(line);
		if (name[0] == '\0')
			continue;
		eq = strchr(name, '=');
		if (!eq || eq == name)
			return err_set(err, -EINVAL, "%s:%u: want `name = value`", path, n);
		*eq = '\0';
		name = trim(name);
		s = find(ps, name, strlen(name), &i);
		if (s)
			give(s, FROM_FILE, i, trim(eq + 1), mem_printf("%s:%u", path, n));
		else
			strbuf_addf(&unused, "# %s:%u: %s is no parameter of %s\n", path, n, name,
				ps->program);
	}
	free(ps->unused);
	ps->unused = strbuf_take(&unused);
	return 0;
}

static void load_env(struct params *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		struct params_slot *s = &ps->slots[i];

		for (size_t j = 0; s->names[j]; j++)
			give(s, FROM_ENV, j, getenv(s->names[j]) ?: "",
				mem_printf("environment %s", s->names[j]));
	}
}

enum wish { WISH_NONE, WISH_HELP, WISH_VERSION, WISH_CONFIG };

static enum wish wish_of(const char *arg)
{
	if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
		return WISH_HELP;
	if (strcmp(arg, "--version") == 0)
		return WISH_VERSION;
	if (strcmp(arg, "--print-config") == 0)
		return WISH_CONFIG;
	return WISH_NONE;
}

struct option_arg {
	struct params_slot *slot; /* NULL: --config */
	size_t name_i;
	const char *value;
	size_t name_len;
};

/* How many arguments the option at argv[i] takes up: 0 = it is not one of ours. */
static int read_option(
	struct params *ps, char **argv, int argc, int i, struct option_arg *ret, struct err *err)
{
	const char *name = argv[i] + 2, *eq;

	if (strncmp(argv[i], "--", 2) != 0 || name[0] == '\0')
		return 0;
	eq = strchr(name, '=');
	ret->name_len = eq ? (size_t)(eq - name) : strlen(name);
	ret->slot = find(ps, name, ret->name_len, &ret->name_i);
	if (!ret->slot && !same_name("CONFIG", name, ret->name_len))
		return 0;
	if (eq) {
		ret->value = eq + 1;
		return 1;
	}
	if (ret->slot && ret->slot->p.type == PARAM_BOOL) {
		const char *next = i + 1 < argc ? argv[i + 1] : "";
		bool value, given = parse_bool(next, &value, NULL) == 0;

		ret->value = given ? next : "true";
		return given ? 2 : 1;
	}
	if (i + 1 >= argc)
		return err_set(err, -EINVAL, "option %s: want a value after it", argv[i]);
	ret->value = argv[i + 1];
	return 2;
}

static int load_options(
	struct params *ps, int *argc, char **argv, char **config, enum wish *wish, struct err *err)
{
	int n_left = 1;

	for (int i = 1; i < *argc;) {
		struct option_arg a = {.value = ""};
		enum wish w;
		int n;

		if (ps->allow_args && strcmp(argv[i], "--") == 0) {
			while (i < *argc)
				argv[n_left++] = argv[i++];
			break;
		}
		w = wish_of(argv[i]);
		if (w == WISH_CONFIG || (n_left == 1 && w != WISH_NONE)) {
			if (*wish == WISH_NONE)
				*wish = w;
			i++;
			continue;
		}
		n = read_option(ps, argv, *argc, i, &a, err);
		if (n < 0)
			return n;
		if (n == 0 && !ps->allow_args)
			return err_set(err, -EINVAL,
				"\"%.64s\" is no option of %s: --help lists them", argv[i],
				ps->program);
		if (n == 0) {
			argv[n_left++] = argv[i++];
			continue;
		}
		if (a.slot) {
			give(a.slot, FROM_OPTION, a.name_i, a.value,
				mem_printf("option --%.*s", (int)a.name_len, argv[i] + 2));
		} else {
			free(*config);
			*config = mem_strdup(a.value);
		}
		i += n;
	}
	*argc = n_left;
	argv[n_left] = NULL;
	return 0;
}

/* ---- answers ---- */

static const char *type_name(const struct param *p)
{
	switch (p->type) {
	case PARAM_STRING:
		return "TEXT";
	case PARAM_U32:
		return "NUMBER";
	case PARAM_BOOL:
		return "BOOL";
	case PARAM_DURATION:
		return "DURATION";
	case PARAM_ENUM:
		return "WORD";
	}
	abort();
}

static void print_facts(const struct params_slot *s)
{
	const struct param *p = &s->p;
	auto_strbuf facts = STRBUF_INIT; /* each ends with "; " */

	for (size_t i = 0; p->type == PARAM_ENUM && p->values[i]; i++)
		strbuf_addf(&facts, "%s%s", p->values[i], p->values[i + 1] ? "|" : "; ");
	if (p->type == PARAM_U32 && p->max)
		strbuf_addf(&facts, "%u to %u; ", p->min, p->max);
	if (p->unit)
		strbuf_addf(&facts, "unit: %s; ", p->unit);
	else if (p->type == PARAM_DURATION)
		strbuf_add(&facts, "unit: seconds, or as 1m30s or 500ms; ");
	if (p->def[0])
		strbuf_addf(&facts, "default: %s; ", p->def);
	if (p->not_in_file)
		strbuf_add(&facts, "not in a file; ");
	for (size_t i = 1; s->names[i]; i++)
		strbuf_addf(&facts, "%s%s%s", i == 1 ? "also " : "", s->names[i],
			s->names[i + 1] ? ", " : "; ");
	if (facts.len > 0)
		printf("        %s [%.*s]\n", p->doc, (int)facts.len - 2, facts.s);
	else
		printf("        %s\n", p->doc);
}

static void print_help(const struct params *ps)
{
	printf("Usage: %s %s\n", ps->program, ps->synopsis ?: "[--NAME VALUE]...");
	if (ps->about)
		printf("%s\n", ps->about);
	printf("\nParameters: each is an option, an environment variable (in parentheses), or a line\n"
	       "`NAME = VALUE` of %s; the first of these wins.\n\n",
		PARAMS_FILE);
	for (size_t i = 0; i < ps->n; i++) {
		const struct params_slot *s = &ps->slots[i];
		auto_free char *opt = option_of(s->p.name);

		printf("  %s %s (%s)\n", opt, type_name(&s->p), s->p.name);
		print_facts(s);
	}
	printf("  --config FILE (MARGAY_CONFIG)\n"
	       "        The file to read instead, which must exist then [default: %s]\n"
	       "  --print-config    show every parameter with its value and where that is from\n"
	       "  --help, --version\n",
		PARAMS_FILE);
}

static bool is_secret(const struct params_slot *s)
{
	return (s->p.secret && s->text[0]) || (s->p.addresses && strchr(s->text, '@'));
}

static void print_config(const struct params *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		const struct params_slot *s = &ps->slots[i];

		printf("%s = %s # %s\n", s->p.name, is_secret(s) ? "(secret)" : s->text, s->origin);
	}
	printf("%s", ps->unused ?: "");
}

static int answer(const struct params *ps, enum wish wish)
{
	switch (wish) {
	case WISH_NONE:
		return 0;
	case WISH_HELP:
		print_help(ps);
		return 1;
	case WISH_VERSION:
		printf("%s %s\n", ps->program, MARGAY_VERSION);
		return 1;
	case WISH_CONFIG:
		print_config(ps);
		return 1;
	}
	abort();
}

static int load(struct params *ps, int *argc, char **argv, struct err *err)
{
	auto_free char *config = NULL;
	enum wish wish = WISH_NONE;
	const char *env;
	int r;

	/* Options first, since one of them names the file: they are not overridden afterwards. */
	if (argv) {
		r = load_options(ps, argc, argv, &config, &wish, err);
		if (r < 0)
			return r;
		if (wish == WISH_HELP || wish == WISH_VERSION)
			return answer(ps, wish);
	}
	env = getenv("MARGAY_CONFIG");
	if (!config && env && env[0])
		config = mem_strdup(env);
	ps->file = mem_strdup(config ?: PARAMS_FILE);
	r = load_file(ps, ps->file, config != NULL, err);
	if (r < 0)
		return r;
	load_env(ps);
	r = convert_all(ps, err);
	if (r < 0)
		return r;
	return answer(ps, wish);
}

int params_load(struct params *ps, int *argc, char **argv, struct err *err)
{
	int r = load(ps, argc, argv, err);

	if (r != 0)
		params_done(ps);
	return r;
}

int params_load_file(struct params *ps, const char *path, struct err *err)
{
	int r = load_file(ps, path, true, err);

	if (r == 0)
		r = convert_all(ps, err);
	if (r < 0)
		params_done(ps);
	return r;
}

int params_fail(const struct params *ps, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", ps->program, err_text(err));
	return EXIT_FAILURE;
}
