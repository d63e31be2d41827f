/* SPDX-License-Identifier: MIT */
/*
 * mpctl doctor: what this machine gives us, what it does not, and what libmp does then.
 *
 * Each facility is tried, not looked up: containers refuse calls that the kernel has, in more ways
 * than a version number or a file tells. The tables of probes (probe_*.c) say what is tried and,
 * for when it does not work, what takes its place; here they are run and printed.
 */

#include <signal.h>
#include <string.h>

#include "base/macro.h"
#include "mpctl.h"
#include "probe.h"

static const struct column columns[] = {
    {"facility", "FACILITY", 0},           {"state", "STATE", 0},
    {"detail", "FOUND", COLUMN_WRAP},      {"instead", "INSTEAD", COLUMN_WRAP},
    {"required", "REQUIRED", COLUMN_WIDE}, {"since", "SINCE", COLUMN_WIDE},
    {"error", "ERROR", COLUMN_WIDE},       {"value", "VALUE", COLUMN_RIGHT | COLUMN_WIDE},
};

static const struct {
    const char *word, *color;
} verdicts[] = {
    [VERDICT_OK] = {"ok", "green"},
    [VERDICT_LIMITED] = {"limited", "yellow"},
    [VERDICT_REFUSED] = {"refused", "yellow"},
    [VERDICT_MISSING] = {"missing", "yellow"},
};

/* Is there no libmp here because of this? */
static bool is_fatal(const struct probe *p, const struct finding *f)
{
    if (f->kills)
        return p->need != NEED_NOT;
    return p->need == NEED_MUST && (f->verdict == VERDICT_REFUSED || f->verdict == VERDICT_MISSING);
}

static const char *what_instead(const struct probe *p, const struct finding *f)
{
    if (f->verdict == VERDICT_OK)
        return NULL;
    return f->kills && p->need != NEED_NOT ? "nothing: libmp tries it, and is killed" : p->instead;
}

static void put_finding(struct table *t, const struct probe *p, const struct finding *f)
{
    put_text(t, p->facility);
    put_text(t, verdicts[f->verdict].word);
    put_color(t, is_fatal(p, f) ? "red" : verdicts[f->verdict].color);
    put_text(t, f->detail);
    put_text(t, what_instead(p, f));
    put_bool(t, p->need == NEED_MUST);
    put_text(t, p->since);
    put_text(t, f->error ? strerrorname_np(f->error) : NULL);
    if (f->has_value)
        put_number(t, f->value);
    else
        put_null(t);
}

static int examine(const struct ctl *ctl, const struct found *one, struct table *t)
{
    static const struct probes *const all[] = {&sync_probes, &process_probes, &place_probes,
                                               &limit_probes};
    int status = EXIT_OK;

    (void)ctl;
    (void)one;
    /* Whoever started us may ignore it, and children would not be ours to reap. */
    signal(SIGCHLD, SIG_DFL);
    for (size_t i = 0; i < MP_ARRAY_SIZE(all); i++)
        for (size_t j = 0; j < all[i]->n; j++) {
            struct finding f;

            probe_run(&all[i]->probe[j], all[i]->in_place, &f);
            put_finding(t, &all[i]->probe[j], &f);
            if (is_fatal(&all[i]->probe[j], &f)) {
                complain("libmp does not work here: %s: %s: %s", all[i]->probe[j].facility,
                         verdicts[f.verdict].word, f.detail);
                status = EXIT_FAILED;
            }
        }
    return status;
}

const struct lister doctor_lister = {"facilities", columns, MP_ARRAY_SIZE(columns),
                                     .without_arenas = true, .look_all = examine};
