/* SPDX-License-Identifier: MIT */
/* Rows about arenas, made and printed. */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "json.h"
#include "mpctl.h"

static void say(const char *format, va_list arguments)
{
    fflush(stdout);
    fputs("mpctl: ", stderr);
    vfprintf(stderr, format, arguments);
    putc('\n', stderr);
}

void complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

void note(const struct ctl *ctl, const char *format, ...)
{
    va_list arguments;

    if (ctl->quiet)
        return;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

/* ---- parts of rows ---- */

void put_arena(struct table *t, const struct view *v)
{
    put_text(t, v->found->name);
    put_number(t, v->found->inode);
}

void put_pid(struct table *t, const struct participant *p)
{
    char text[16];

    if (p->pid) {
        put_number(t, (uint64_t)p->pid);
    } else if (p->inner_pid) {
        snprintf(text, sizeof text, "(%d)", (int)p->inner_pid);
        put_aside(t, text);
    } else {
        put_null(t);
    }
}

void put_process(struct table *t, const struct participant *p)
{
    put_text(t, p->pid ? proc_state(p->process) : NULL);
    if (p->pid && (p->process == 'T' || p->process == 't'))
        put_color(t, "yellow");
}

/* Words about others in one cell: as many as fit; JSON has all. */
struct crowd {
    char text[160];
    size_t at;
};

static void add_to_crowd(struct crowd *c, const char *word)
{
    size_t room = sizeof c->text - sizeof ", ..." - c->at;

    if (c->at && c->text[c->at - 1] == '.')
        return;
    if (strlen(word) + sizeof ", " <= room)
        c->at += (size_t)snprintf(c->text + c->at, sizeof c->text - c->at, "%s%s",
                                  c->at ? ", " : "", word);
    else
        c->at += (size_t)snprintf(c->text + c->at, sizeof c->text - c->at, " ...");
}

static int shown_pid(const struct participant *p)
{
    return (int)(p->pid ? p->pid : p->inner_pid);
}

static const struct column waiter_columns[] = {
    {"pid", "PID", COLUMN_RIGHT}, {"tid", "TID", COLUMN_RIGHT},  {"slot", "SLOT", COLUMN_RIGHT},
    {"name", "NAME", 0},          {"waits_for", "WAITS-FOR", 0}, {"waited_ms", "FOR", COLUMN_RIGHT},
};

void put_waiters(struct table *t, const struct waits *waits, uint32_t kinds, uint32_t object)
{
    _cleanup_table_ struct table *rows = table_new(waiter_columns, MP_ARRAY_SIZE(waiter_columns));
    struct crowd crowd = {0};

    for (size_t i = 0; rows && i < waits->n; i++) {
        const struct wait *w = &waits->list[i];
        char number[12], span[32], word[80];

        if (w->kind >= 32 || !(kinds >> w->kind & 1) || w->object != (object & 0xffff))
            continue;
        put_pid(rows, &w->who);
        put_number(rows, (uint64_t)w->tid);
        put_number(rows, w->who.slot);
        put_text(rows, w->who.name);
        put_text(rows, wait_kind_word(w->kind, number));
        put_span(rows, w->ms);
        text_span(span, w->ms);
        snprintf(word, sizeof word, "%d/%d %s", shown_pid(&w->who), (int)w->tid, span);
        add_to_crowd(&crowd, word);
    }
    put_table_consume(t, crowd.text, mp_take_ptr(rows));
}

static const struct column holder_columns[] = {
    {"pid", "PID", COLUMN_RIGHT},
    {"slot", "SLOT", COLUMN_RIGHT},
    {"name", "NAME", 0},
    {"process", "PROCESS", 0},
    {"role", "ROLE", 0},
    {"tid", "TID", COLUMN_RIGHT},
    {"units", "UNITS", COLUMN_RIGHT},
};

void put_holders(struct table *t, const struct sync_facts *f)
{
    _cleanup_table_ struct table *rows = table_new(holder_columns, MP_ARRAY_SIZE(holder_columns));
    struct crowd crowd = {0};

    for (size_t i = 0; rows && i < f->n; i++) {
        const struct holding *h = &f->holdings[i];
        char word[64], tid[16] = "", units[24] = "";

        put_pid(rows, &h->who);
        put_number(rows, h->who.slot);
        put_text(rows, h->who.name);
        put_process(rows, &h->who);
        put_text(rows, sync_role_word(h->role));
        if (h->tid)
            put_number(rows, (uint64_t)h->tid);
        else
            put_null(rows);
        put_number(rows, h->units);
        if (h->tid)
            snprintf(tid, sizeof tid, "/%d", (int)h->tid);
        if (h->units > 1)
            snprintf(units, sizeof units, " x%" PRIu64, h->units);
        snprintf(word, sizeof word, "%d%s%s%s", shown_pid(&h->who), tid,
                 h->role == ROLE_WRITER ? " writer" : "", units);
        add_to_crowd(&crowd, word);
    }
    put_table_consume(t, crowd.text, mp_take_ptr(rows));
}

/* ---- a table of all ---- */

/* The columns that --output names. An exit status. */
static int select_columns(const struct ctl *ctl, const struct lister *lister, size_t **ret_selected,
                          size_t *ret_n)
{
    _cleanup_free_ size_t *selected = NULL;
    _cleanup_free_ char *copy = strdup(ctl->output);
    char *rest = copy;
    const char *word;
    size_t n = 0;

    selected = calloc(strlen(ctl->output) + 1, sizeof *selected);
    if (!copy || !selected) {
        complain("%s", strerror(ENOMEM));
        return EXIT_FAILED;
    }
    while ((word = strsep(&rest, ","))) {
        size_t i = 0;

        while (i < lister->n_columns && strcasecmp(lister->columns[i].key, word) != 0)
            i++;
        if (i == lister->n_columns) {
            complain("no column \"%s\" here, see --help", word);
            return EXIT_USAGE;
        }
        selected[n++] = i;
    }
    *ret_selected = mp_take_ptr(selected);
    *ret_n = n;
    return EXIT_OK;
}

int ctl_printed(int r)
{
    if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        r = errno ? -errno : -EIO;
    if (r < 0)
        complain("cannot print: %s", strerror(-r));
    return r < 0 ? EXIT_FAILED : EXIT_OK;
}

static int print_table(const struct ctl *ctl, const struct lister *lister, const struct table *t,
                       const struct table_style *style)
{
    _cleanup_free_ char *json = NULL;
    int r;

    if (ctl->json == JSON_OFF) {
        r = table_print(t, style);
        if (r == 0 && style->legend)
            printf("%s%zu %s.\n", table_rows(t) ? "\n" : "", table_rows(t), lister->noun);
        return ctl_printed(r);
    }
    r = table_json(t, style, &json);
    if (r == 0)
        json_print(stdout, json, ctl->json == JSON_PRETTY);
    return ctl_printed(r);
}

/* One arena into the table. An exit status. */
static int look_into(const struct ctl *ctl, const struct lister *lister, const struct found *found,
                     bool asked, struct table *t)
{
    _cleanup_view_ struct view *v = NULL;
    int r;

    /* Its last holder was gone by the time that we knew: it ends with our look. */
    if (found->n_holders == 0 && !asked)
        return EXIT_OK;
    r = ctl_open(ctl, found, asked, &v);
    if (r < 0)
        return asked || r == -ENOMEM ? EXIT_FAILED : EXIT_OK;
    r = lister->look(v, t);
    if (r == 0)
        r = v->error;
    if (r < 0)
        complain("%s@%ju: %s", found->name, (uintmax_t)found->inode, strerror(-r));
    return r < 0 ? EXIT_FAILED : EXIT_OK;
}

int ctl_list(struct ctl *ctl, const struct lister *lister, const char *word)
{
    _cleanup_table_ struct table *t = table_new(lister->columns, lister->n_columns);
    _cleanup_free_ size_t *selected = NULL;
    struct table_style style = ctl->style;
    const struct found *one = NULL;
    int status, last;

    if (!t) {
        complain("%s", strerror(ENOMEM));
        return EXIT_FAILED;
    }
    if (ctl->output) {
        status = select_columns(ctl, lister, &selected, &style.n_selected);
        if (status != EXIT_OK)
            return status;
        style.selected = selected;
    }
    status = lister->without_arenas ? EXIT_OK : ctl_find(ctl);
    if (status != EXIT_OK)
        return status;
    if (word) {
        status = ctl_select(ctl, word, &one);
        if (status != EXIT_OK)
            return status;
    }
    if (lister->look_all) {
        status = lister->look_all(ctl, one, t);
    } else if (one) {
        status = look_into(ctl, lister, one, true, t);
        if (status != EXIT_OK)
            return status;
    } else {
        for (size_t i = 0; i < ctl->findings.n; i++) {
            last = look_into(ctl, lister, &ctl->findings.found[i], false, t);
            status = last != EXIT_OK ? last : status;
        }
    }
    last = print_table(ctl, lister, t, &style);
    return last != EXIT_OK ? last : status;
}
