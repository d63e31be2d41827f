/* SPDX-License-Identifier: MIT */
/* mpctl show: everything about one arena. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arena/directory.h"
#include "base/macro.h"
#include "json.h"
#include "kernel/pidfd.h"
#include "mpctl.h"

/* ---- who takes part, and who has it open ---- */

static const struct column participant_columns[] = {
    {"slot", "SLOT", COLUMN_RIGHT},
    {"generation", "GENERATION", COLUMN_RIGHT | COLUMN_WIDE},
    {"pid", "PID", COLUMN_RIGHT},
    {"inner_pid", "INNER-PID", COLUMN_RIGHT | COLUMN_WIDE},
    {"namespace", "NAMESPACE", COLUMN_RIGHT | COLUMN_WIDE},
    {"name", "NAME", 0},
    {"state", "STATE", 0},
    {"process", "PROCESS", 0},
    {"age_ms", "SINCE", COLUMN_RIGHT},
};

static void put_participant(struct table *t, const struct participant *p)
{
    put_number(t, p->slot);
    put_number(t, p->generation);
    put_pid(t, p);
    if (p->known) {
        put_number(t, (uint64_t)p->inner_pid);
        put_number(t, p->namespace);
    } else {
        put_null(t);
        put_null(t);
    }
    put_text(t, p->name);
    put_text(t, participant_state_word(p->state));
    if (p->state != PARTICIPANT_LIVE)
        put_color(t, "red");
    put_process(t, p);
    if (p->known)
        put_span(t, proc_age_ms(p->start));
    else
        put_null(t);
}

static int look_participants(struct view *v, struct table *t)
{
    for (uint32_t i = 0; i < v->g.participants; i++) {
        struct participant p;

        look_participant(v, i, &p);
        if (p.state != PARTICIPANT_NONE)
            put_participant(t, &p);
    }
    return 0;
}

static const struct column process_columns[] = {
    {"pid", "PID", COLUMN_RIGHT}, {"inner_pid", "INNER-PID", COLUMN_RIGHT | COLUMN_WIDE},
    {"command", "COMMAND", 0},    {"process", "PROCESS", 0},
    {"fds", "FDS", COLUMN_RIGHT}, {"mappings", "MAPPINGS", COLUMN_RIGHT},
};

static int look_processes(struct view *v, struct table *t)
{
    for (size_t i = 0; i < v->found->n_holders; i++) {
        const struct holder *h = &v->found->holders[i];

        put_number(t, (uint64_t)h->pid);
        put_number(t, (uint64_t)h->inner_pid);
        put_text(t, h->command);
        put_text(t, proc_state(mp_task_start(h->pid) == h->start ? mp_task_state(h->pid) : 0));
        put_number(t, h->fds);
        put_number(t, h->mappings);
    }
    return 0;
}

/* ---- who waits ---- */

static const struct column wait_columns[] = {
    {"slot", "SLOT", COLUMN_RIGHT},    {"pid", "PID", COLUMN_RIGHT},
    {"tid", "TID", COLUMN_RIGHT},      {"name", "NAME", 0},
    {"kind", "WAITS-FOR", 0},          {"object", "OBJECT", 0},
    {"object_kind", "OBJECT-KIND", 0}, {"waited_ms", "FOR", COLUMN_RIGHT},
};

/* What is waited for, of whatever kind it is: waits of kinds that we do not know name one, too.
 * NONE: there is no such object. */
static enum mp_kind find_waited_for(const struct view *v, const struct wait *w,
                                    char ret_name[OBJECT_NAME_MAX])
{
    uint32_t kind;

    if (w->object >= v->n_entries || w->kind == MP_WAIT_BLOCK)
        return MP_KIND_NONE;
    kind = mp_entry_unpack(mp_load_relaxed(&v->entries[w->object].state)).kind;
    return look_is_object(v, w->object, (enum mp_kind)kind, ret_name) ? (enum mp_kind)kind
                                                                      : MP_KIND_NONE;
}

static int look_wait_rows(struct view *v, struct table *t)
{
    _cleanup_waits_ struct waits waits = {0};
    char name[OBJECT_NAME_MAX], number[12];
    int r = look_waits(v, &waits);

    for (size_t i = 0; r == 0 && i < waits.n; i++) {
        const struct wait *w = &waits.list[i];
        enum mp_kind kind = find_waited_for(v, w, name);

        put_number(t, w->who.slot);
        put_pid(t, &w->who);
        put_number(t, (uint64_t)w->tid);
        put_text(t, w->who.name);
        put_text(t, wait_kind_word(w->kind, number));
        put_text(t, kind ? name : NULL);
        put_text(t, kind ? mp_kind_name(kind) : NULL);
        put_span(t, w->ms);
    }
    return r;
}

/* ---- memory ---- */

static const struct column block_columns[] = {
    {"name", "NAME", 0},
    {"size", "SIZE", COLUMN_RIGHT},
    {"offset", "OFFSET", COLUMN_RIGHT},
};

static int look_blocks(struct view *v, struct table *t)
{
    char name[OBJECT_NAME_MAX];

    for (uint32_t i = 0; i < v->n_entries; i++) {
        uint64_t size, at;

        if (!look_is_object(v, i, MP_KIND_BLOCK, name))
            continue;
        at = look_block(v, i, &size);
        put_text(t, name);
        if (at) {
            put_size(t, size);
            put_number(t, at);
        } else {
            put_null(t);
            put_null(t);
        }
    }
    return 0;
}

static const struct column class_columns[] = {
    {"block_size", "BLOCK-SIZE", COLUMN_RIGHT},
    {"extents", "EXTENTS", COLUMN_RIGHT},
    {"backed", "BACKED", COLUMN_RIGHT},
    {"blocks", "BLOCKS", COLUMN_RIGHT},
    {"free", "FREE", COLUMN_RIGHT},
};

/* Blocks in full crates; those in the magazines of threads are nobody else's to count. */
static uint64_t count_free(struct view *v, uint32_t class)
{
    const struct mp_class *k = &v->g.classes[class];
    uint32_t high = mp_min(mp_load_relaxed(&v->header.classes[class].high), k->crates);
    uint64_t n = 0;

    for (uint32_t i = 0; i < high; i++) {
        uint64_t at = v->g.crate_words_offset + (uint64_t)(k->first_crate + i) * sizeof(mp_a64);
        uint64_t word = view_word(v, at);

        if (mp_crate_state(word) == MP_CRATE_FULL)
            n += mp_min(mp_crate_count(word), MP_CRATE_SIZE);
    }
    return n;
}

static int look_memory(struct view *v, struct table *t)
{
    for (uint32_t c = 0; c < v->g.n_classes; c++) {
        const struct mp_class *k = &v->g.classes[c];
        uint64_t n = 0;

        for (uint32_t e = 0; e < k->extents; e++)
            n += view_extent_is_backed(v, k, e);
        if (n == 0)
            continue;
        put_size(t, k->block_size);
        put_number(t, n);
        put_size(t, n * (k->block_size << k->extent_shift));
        put_number(t, n * k->extent_blocks);
        put_number(t, count_free(v, c));
    }
    return 0;
}

/* ---- all of it ---- */

struct section {
    const char *key;
    const char *title; /* NULL: one row, printed vertically */
    const struct column *columns;
    size_t n_columns;
    int (*look)(struct view *view, struct table *table);
    const struct lister *lister; /* instead of the three before */
};

static const struct section sections[] = {
    {"arena", .lister = &list_lister},
    {"participants", "Participants", participant_columns, MP_ARRAY_SIZE(participant_columns),
     look_participants},
    {"processes", "Processes that have it open or mapped", process_columns,
     MP_ARRAY_SIZE(process_columns), look_processes},
    {"queues", "Queues", .lister = &queues_lister},
    {"locks", "Locks", .lister = &locks_lister},
    {"blocks", "Blocks", block_columns, MP_ARRAY_SIZE(block_columns), look_blocks},
    {"pools", "Pool", .lister = &pools_lister},
    {"workers", "Workers", worker_columns, WORKER_COLUMNS, look_workers},
    {"waits", "Waits", wait_columns, MP_ARRAY_SIZE(wait_columns), look_wait_rows},
    {"memory", "Memory", class_columns, MP_ARRAY_SIZE(class_columns), look_memory},
};

static int print_section(const struct ctl *ctl, const struct section *s, const struct table *t)
{
    struct table_style style = ctl->style;

    if (!s->title)
        return table_print_vertical(t, &style);
    if (table_rows(t) == 0)
        return 0;
    style.first = s->lister ? N_ARENA_COLUMNS : 0;
    if (style.legend)
        printf("\n%s%s:%s\n", style.color ? "\033[4m" : "", s->title, style.color ? "\033[0m" : "");
    else
        putchar('\n');
    return table_print(t, &style);
}

static int write_section(FILE *stream, const struct section *s, const struct table *t)
{
    static const struct table_style plain = {0};
    _cleanup_free_ char *json = NULL;
    int r = s->title ? table_json(t, &plain, &json) : table_json_row(t, &plain, &json);

    if (r == 0)
        fprintf(stream, "%s\"%s\":%s", s == sections ? "{" : ",", s->key, json);
    return r;
}

static int look_at_section(struct view *v, const struct section *s, struct table **ret_table)
{
    _cleanup_table_ struct table *t = NULL;
    int r;

    t = s->lister ? table_new(s->lister->columns, s->lister->n_columns)
                  : table_new(s->columns, s->n_columns);
    if (!t)
        return -ENOMEM;
    r = s->lister ? s->lister->look(v, t) : s->look(v, t);
    if (r == 0)
        *ret_table = mp_take_ptr(t);
    return r;
}

/* To standard output, or as JSON to the stream. */
static int show_sections(const struct ctl *ctl, struct view *v, FILE *stream)
{
    for (size_t i = 0; i < MP_ARRAY_SIZE(sections); i++) {
        _cleanup_table_ struct table *t = NULL;
        int r = look_at_section(v, &sections[i], &t);

        if (r == 0)
            r = stream ? write_section(stream, &sections[i], t)
                       : print_section(ctl, &sections[i], t);
        if (r < 0)
            return r;
    }
    return 0;
}

static void fclosep(FILE **stream)
{
    if (*stream)
        fclose(*stream);
}

static int show_json(const struct ctl *ctl, struct view *v)
{
    _cleanup_free_ char *json = NULL;
    _cleanup_(fclosep) FILE *stream = NULL;
    size_t size;
    int r;

    stream = open_memstream(&json, &size);
    if (!stream)
        return -ENOMEM;
    r = show_sections(ctl, v, stream);
    if (r < 0)
        return r;
    putc('}', stream);
    if (fflush(stream) != 0 || ferror(stream))
        return -ENOMEM;
    json_print(stdout, json, ctl->json == JSON_PRETTY);
    return 0;
}

int ctl_show(struct ctl *ctl, const char *word)
{
    _cleanup_view_ struct view *v = NULL;
    const struct found *found;
    int r, status;

    if (ctl->output) {
        complain("show prints several tables, so \"--output\" does not fit, see --help");
        return EXIT_USAGE;
    }
    status = ctl_find(ctl);
    if (status == EXIT_OK)
        status = ctl_select(ctl, word, &found);
    if (status != EXIT_OK)
        return status;
    if (ctl_open(ctl, found, true, &v) < 0)
        return EXIT_FAILED;
    r = ctl->json == JSON_OFF ? show_sections(ctl, v, NULL) : show_json(ctl, v);
    return ctl_printed(r ? r : v->error);
}
