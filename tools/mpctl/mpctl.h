/* SPDX-License-Identifier: MIT */
#pragma once

/* What the verbs share: the command line, the arenas to look at, and how to print. */

#include "find.h"
#include "look.h"
#include "sync.h"
#include "table.h"

enum exit_status { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_FOUND = 3 };

enum json_mode { JSON_OFF = 0, JSON_SHORT, JSON_PRETTY };

struct ctl {
    enum json_mode json;
    bool quiet;
    const char *output; /* the columns asked for; NULL: as the verb likes */
    struct table_style style;
    struct findings findings;
};

/* "mpctl: ..." on standard error; a note is one that --quiet leaves out. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
void note(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A verb that makes one table, of what it finds in all arenas or the one that is named. */
struct lister {
    const char *noun; /* plural, for the legend */
    const struct column *columns;
    size_t n_columns;
    int (*look)(struct view *view, struct table *table); /* 0; a negative errno */
    /* Or, for what spans arenas; `one`, if not NULL, was asked for. An exit status. */
    int (*look_all)(const struct ctl *ctl, const struct found *one, struct table *table);
    bool without_arenas; /* it is about none: they are not looked for */
};

extern const struct lister list_lister, queues_lister, locks_lister, pools_lister, deadlocks_lister,
    doctor_lister;

/* The first columns of a lister name the arena. */
#define ARENA_COLUMNS                                \
    {"arena", "ARENA", 0},                           \
    {                                                \
        "inode", "INODE", COLUMN_RIGHT | COLUMN_WIDE \
    }
#define N_ARENA_COLUMNS 2
void put_arena(struct table *table, const struct view *view);

/* `word` names an arena, or is NULL. An exit status. */
int ctl_list(struct ctl *ctl, const struct lister *lister, const char *word);

/* Everything about one arena. An exit status. */
int ctl_show(struct ctl *ctl, const char *word);

/* ---- which arenas (select.c) ---- */

/* All there are, with notes on what can not be looked at. An exit status. */
int ctl_find(struct ctl *ctl);

/* The one that is meant. An exit status. */
int ctl_select(struct ctl *ctl, const char *word, const struct found **ret_found);

/* Look into it. 0; negative, after saying why: as a note, unless just this one was asked for. */
int ctl_open(const struct ctl *ctl, const struct found *found, bool asked, struct view **ret_view);

/* What printing came to, with standard output flushed. An exit status. */
int ctl_printed(int r);

/* ---- parts of rows ---- */

/* Its pid here; where that is not to be known, in brackets the one in its pid namespace. */
void put_pid(struct table *table, const struct participant *participant);

/* What its process does: "stopped" ... */
void put_process(struct table *table, const struct participant *participant);

/* Those who wait for an object, in one of these ways (1 << MP_WAIT_* each): as a cell of their own
 * rows. */
void put_waiters(struct table *table, const struct waits *waits, uint32_t kinds, uint32_t object);

/* Those who hold one: likewise. */
void put_holders(struct table *table, const struct sync_facts *facts);

/* Rows about the workers, when the arena is that of a pool. */
#define WORKER_COLUMNS 8
extern const struct column worker_columns[WORKER_COLUMNS];
int look_workers(struct view *view, struct table *table);
