/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a verb has found: rows of cells, printed as a table or as JSON.
 *
 * A verb declares its columns once and fills each row in their order. A cell knows its words for
 * the table and its value for JSON, so the two can not drift apart.
 *
 *     t = table_new(columns, MP_ARRAY_SIZE(columns));
 *     for each:
 *         put_text(t, name);
 *         put_size(t, bytes);
 *
 * Running out of memory is remembered and told by the functions that print.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct column {
    const char *key;  /* in JSON, and for --output */
    const char *head; /* in the table */
    unsigned flags;
};

enum {
    COLUMN_RIGHT = 1u << 0,
    COLUMN_WIDE = 1u << 1,  /* in a table only where asked for */
    COLUMN_TRUNC = 1u << 2, /* may be cut to the width of the terminal */
    COLUMN_WRAP = 1u << 3,  /* may be broken into lines for it */
};

struct table_style {
    bool legend;
    bool full;              /* never cut a cell */
    bool color;             /* and underline the headings */
    size_t first;           /* leave out so many columns at the front */
    const size_t *selected; /* or print the columns of these numbers in this order */
    size_t n_selected;
};

struct table;

/* NULL: no memory. */
struct table *table_new(const struct column *columns, size_t n_columns);
struct table *table_free(struct table *table);
size_t table_rows(const struct table *table);

/* The next cell. Where NULL or nothing is known: "-", in JSON null. */
void put_null(struct table *table);
void put_text(struct table *table, const char *text);
void put_number(struct table *table, uint64_t number);
void put_size(struct table *table, uint64_t bytes);
void put_span(struct table *table, uint64_t ms);
void put_bool(struct table *table, bool yes);
/* Words for the table; in JSON null. */
void put_aside(struct table *table, const char *text);
/* Strings that end with a NULL; in the table with commas between. */
void put_words(struct table *table, const char *const *words);
/* A table in a cell: `text` stands for it in tables. */
void put_table_consume(struct table *table, const char *text, struct table *inner);
/* Colour the last cell: a name that libsmartcols knows. */
void put_color(struct table *table, const char *color);

/* 0; -ENOMEM, and what writing says. */
int table_print(const struct table *table, const struct table_style *style);
/* The rows one after the other, a line for each cell that is not empty. */
int table_print_vertical(const struct table *table, const struct table_style *style);
/* [{...},...], or of the first row {...}. The string is the caller's. */
int table_json(const struct table *table, const struct table_style *style, char **ret_json);
int table_json_row(const struct table *table, const struct table_style *style, char **ret_json);

static inline void table_freep(struct table **table)
{
    table_free(*table);
}
#define _cleanup_table_ _cleanup_(table_freep)
