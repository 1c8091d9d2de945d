/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cluster that serves both groups which may have Calico's resources: one of them is used. Where the
 * other has kinds of objects of which the one that is used has none, those may be the cluster's.
 */
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/json.h"
#include "store/kube.h"

/* What is only there where somebody has used it; felix makes others in any case. */
static const char *const asked[] = {
	"IPPool", "IPAMBlock", "BlockAffinity", "IPAMHandle", "BGPPeer", "IPReservation"};
#define N_ASKED array_size(asked)

struct advice {
	struct store_advice advice;
	store_advice_fn *done;
	void *arg;
	struct kube_wait wait;
	struct kube_call call;
	struct event *begin;
	size_t i;
	json_int_t n[2][N_ASKED]; /* by enum kube_group */
};

static struct kube *kube_of(const struct advice *a)
{
	return kube_of_store(a->advice.st);
}

static void finish(struct advice *a, const char *text)
{
	store_advice_fn *done = a->done;
	void *arg = a->arg;

	kube_advice_cancel(&a->advice);
	done(arg, text);
}

static const struct kube_kind *kind_of(const char *name)
{
	const struct kube_kind *k = kube_kinds;

	while (strcmp(k->name, name) != 0)
		k++;
	return k;
}

static void say(struct advice *a)
{
	enum kube_group used = kube_of(a)->group,
			other = used == KUBE_CRD_V1 ? KUBE_NATIVE_V3 : KUBE_CRD_V1;
	const char *names[] = {kube_api_version(kind_of("IPPool"), KUBE_CRD_V1),
		kube_api_version(kind_of("IPPool"), KUBE_NATIVE_V3)};
	auto_strbuf what = STRBUF_INIT;
	auto_free char *text = NULL;

	for (size_t i = 0; i < N_ASKED; i++)
		if (a->n[used][i] == 0 && a->n[other][i] > 0)
			strbuf_addf(&what, "%s%lld %s", what.len ? ", " : "",
				(long long)a->n[other][i], asked[i]);
	if (what.len)
		text = mem_printf(
			"datastore %s: two groups are served: %s is used, and has none of what %s has: "
			"%s; if these are the cluster's, set CALICO_API_GROUP=%s, or move them "
			"(margayctl datastore migrate); then delete the CustomResourceDefinitions of the "
			"group that is not used",
			a->advice.st->name, names[used], names[other], what.s, names[other]);
	finish(a, text);
}

static void count_next(struct advice *a);

static void on_count(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct advice *a = container_of(c, struct advice, call);
	auto_(json) json_t *list = r == 0 ? json_loadb(body, len, 0, NULL) : NULL;
	const json_t *rest =
		json_object_get(json_object_get(list, "metadata"), "remainingItemCount");

	(void)err;
	/* What cannot be listed there is not known to be there. */
	a->n[a->i / N_ASKED][a->i % N_ASKED] =
		r < 0 ? -1
		      : (json_int_t)json_array_size(json_object_get(list, "items")) +
				json_integer_value(rest);
	a->i++;
	kube_call_stop(&a->call);
	count_next(a);
}

static void count_next(struct advice *a)
{
	auto_free char *path = NULL;

	if (a->i == 2 * N_ASKED) {
		say(a);
		return;
	}
	path = kube_path(kind_of(asked[a->i % N_ASKED]), (enum kube_group)(a->i / N_ASKED), "", "");
	a->call = (struct kube_call){
		.k = kube_of(a), .path = mem_printf("%s?limit=1", path), .answer = on_count};
	kube_call_start(&a->call);
}

static void go_on(struct advice *a, unsigned n_groups)
{
	if (n_groups == 2)
		count_next(a);
	else
		finish(a, NULL);
}

static void on_groups(
	struct kube_call *c, int r, const char *body, size_t len, const struct err *err)
{
	struct advice *a = container_of(c, struct advice, call);
	auto_(json) json_t *answer = r == 0 ? json_loadb(body, len, 0, NULL) : NULL;
	const json_t *g;
	unsigned n = 0;
	size_t i;

	(void)err;
	json_array_foreach (json_object_get(answer, "groups"), i, g) {
		const char *name = json_string_value(json_object_get(g, "name"));

		n += name && (strcmp(name, "crd.projectcalico.org") == 0 ||
				     strcmp(name, "projectcalico.org") == 0);
	}
	kube_call_stop(&a->call);
	go_on(a, n);
}

/* The group is known by now, and which are served is asked where that was by a parameter. */
static void on_group(struct kube_wait *w, int r, const struct err *err)
{
	struct advice *a = container_of(w, struct advice, wait);

	(void)err;
	if (r < 0) {
		finish(a, NULL); /* who uses the datastore will say why */
		return;
	}
	if (kube_of(a)->n_groups) {
		go_on(a, kube_of(a)->n_groups);
		return;
	}
	a->call = (struct kube_call){
		.k = kube_of(a), .path = mem_strdup("/apis"), .answer = on_groups};
	kube_call_start(&a->call);
}

static void begin(evutil_socket_t fd, short what, void *arg)
{
	struct advice *a = arg;

	(void)fd;
	(void)what;
	kube_wait(kube_of(a), &kube_of(a)->which_group, &a->wait);
}

struct store_advice *kube_advise(struct store *st, store_advice_fn *done, void *arg)
{
	struct advice *a = mem_new(struct advice);

	a->advice.st = st;
	a->done = done;
	a->arg = arg;
	a->wait.go = on_group;
	a->begin = evtimer_new(st->base, begin, a);
	if (!a->begin)
		abort();
	store_arm(a->begin, 0);
	return &a->advice;
}

void kube_advice_cancel(struct store_advice *advice)
{
	struct advice *a = container_of(advice, struct advice, advice);

	kube_wait_stop(&a->wait);
	kube_call_stop(&a->call);
	event_free(a->begin);
	free(a);
}
