/* SPDX-License-Identifier: MIT */
/* Rows of cells, printed as a table or as JSON. */

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libsmartcols/libsmartcols.h>

#include "json.h"
#include "table.h"
#include "text.h"

struct cell {
    char *text; /* NULL: nothing */
    char *json; /* NULL: null */
    const char *color;
};

struct table {
    const struct column *columns;
    size_t n_columns;
    struct cell *cells;
    size_t n, room;
    bool failed; /* no memory */
};

struct table *table_new(const struct column *columns, size_t n_columns)
{
    struct table *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->columns = columns;
    t->n_columns = n_columns;
    return t;
}

struct table *table_free(struct table *t)
{
    if (!t)
        return NULL;
    for (size_t i = 0; i < t->n; i++) {
        free(t->cells[i].text);
        free(t->cells[i].json);
    }
    free(t->cells);
    free(t);
    return NULL;
}

size_t table_rows(const struct table *t)
{
    return t->n / t->n_columns;
}

/* ---- cells ---- */

static void put_consume(struct table *t, char *text, char *json)
{
    _cleanup_free_ char *own_text = text;
    _cleanup_free_ char *own_json = json;

    if (t->n == t->room) {
        size_t room = t->room ? t->room * 2 : 8 * t->n_columns;
        struct cell *more = reallocarray(t->cells, room, sizeof *more);

        if (!more) {
            t->failed = true;
            return;
        }
        t->cells = more;
        t->room = room;
    }
    t->cells[t->n++] = (struct cell){.text = mp_take_ptr(own_text), .json = mp_take_ptr(own_json)};
}

/* Both forms; what is NULL here is for want of memory. */
static void put_both_consume(struct table *t, char *text, char *json)
{
    if (!text || !json)
        t->failed = true;
    put_consume(t, text, json);
}

void put_null(struct table *t)
{
    put_consume(t, NULL, NULL);
}

static void fclosep(FILE **stream)
{
    if (*stream)
        fclose(*stream);
}

/* What was written to a memory stream. NULL: no memory. */
static char *finish(FILE **stream, char **buffer)
{
    bool failed = ferror(*stream);
    FILE *closing = mp_take_ptr(*stream);

    failed |= fclose(closing) != 0;
    return failed ? NULL : mp_take_ptr(*buffer);
}

static char *quoted(const char *text)
{
    _cleanup_free_ char *json = NULL;
    _cleanup_(fclosep) FILE *stream = NULL;
    size_t size;

    stream = open_memstream(&json, &size);
    if (!stream)
        return NULL;
    json_string(stream, text);
    return finish(&stream, &json);
}

static char *digits(uint64_t number)
{
    char *s;

    return asprintf(&s, "%" PRIu64, number) < 0 ? NULL : s;
}

void put_text(struct table *t, const char *text)
{
    if (!text || !text[0])
        put_null(t);
    else
        put_both_consume(t, strdup(text), quoted(text));
}

void put_number(struct table *t, uint64_t number)
{
    put_both_consume(t, digits(number), digits(number));
}

void put_size(struct table *t, uint64_t bytes)
{
    char text[16];

    text_size(text, bytes);
    put_both_consume(t, strdup(text), digits(bytes));
}

void put_span(struct table *t, uint64_t ms)
{
    char text[32];

    text_span(text, ms);
    put_both_consume(t, strdup(text), digits(ms));
}

void put_bool(struct table *t, bool yes)
{
    put_both_consume(t, strdup(yes ? "yes" : "no"), strdup(yes ? "true" : "false"));
}

void put_aside(struct table *t, const char *text)
{
    char *copy = strdup(text);

    t->failed |= !copy;
    put_consume(t, copy, NULL);
}

void put_words(struct table *t, const char *const *words)
{
    _cleanup_free_ char *text = NULL, *json = NULL;
    _cleanup_(fclosep) FILE *as_text = NULL, *as_json = NULL;
    size_t text_bytes, json_bytes;
    char *made;

    as_text = open_memstream(&text, &text_bytes);
    as_json = open_memstream(&json, &json_bytes);
    if (!as_text || !as_json) {
        put_both_consume(t, NULL, NULL);
        return;
    }
    putc('[', as_json);
    for (size_t i = 0; words[i]; i++) {
        fprintf(as_text, "%s%s", i ? "," : "", words[i]);
        fputs(i ? "," : "", as_json);
        json_string(as_json, words[i]);
    }
    putc(']', as_json);
    made = finish(&as_text, &text);
    put_both_consume(t, made, finish(&as_json, &json));
}

void put_table_consume(struct table *t, const char *text, struct table *inner)
{
    static const struct table_style plain = {0};
    _cleanup_table_ struct table *own = inner;
    char *json = NULL;

    if (!own || table_json(own, &plain, &json) < 0)
        put_both_consume(t, NULL, NULL);
    else
        put_both_consume(t, strdup(text), json);
}

void put_color(struct table *t, const char *color)
{
    if (!t->failed)
        t->cells[t->n - 1].color = color;
}

/* ---- printing ---- */

static size_t n_printed(const struct table *t, const struct table_style *style)
{
    return style->selected ? style->n_selected : t->n_columns - style->first;
}

static size_t printed(const struct table_style *style, size_t i)
{
    return style->selected ? style->selected[i] : style->first + i;
}

static const char *cell_text(const struct cell *cell)
{
    return cell->text && cell->text[0] ? cell->text : "-";
}

static void unrefp(struct libscols_table **table)
{
    scols_unref_table(*table);
}

static int add_column(struct libscols_table *table, const struct column *c,
                      const struct table_style *style)
{
    int flags = (c->flags & COLUMN_RIGHT ? SCOLS_FL_RIGHT : 0) |
                (c->flags & COLUMN_TRUNC && !style->full ? SCOLS_FL_TRUNC : 0) |
                (c->flags & COLUMN_WRAP && !style->full ? SCOLS_FL_WRAP : 0);
    struct libscols_column *column = scols_table_new_column(table, c->head, 0, flags);

    if (!column)
        return -ENOMEM;
    return style->color ? scols_cell_set_color(scols_column_get_header(column), "bold") : 0;
}

static int add_line(struct libscols_table *table, const struct table *t, size_t row,
                    const struct table_style *style, const size_t *columns, size_t n)
{
    struct libscols_line *line = scols_table_new_line(table, NULL);
    int r = line ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && r == 0; i++) {
        const struct cell *cell = &t->cells[row * t->n_columns + columns[i]];

        r = scols_line_set_data(line, i, cell_text(cell));
        if (r == 0 && style->color && cell->color)
            r = scols_cell_set_color(scols_line_get_cell(line, i), cell->color);
    }
    return r;
}

int table_print(const struct table *t, const struct table_style *style)
{
    _cleanup_(unrefp) struct libscols_table *table = NULL;
    _cleanup_free_ size_t *columns = NULL;
    size_t n = 0;
    int r = 0;

    if (t->failed)
        return -ENOMEM;
    assert(t->n % t->n_columns == 0);
    table = scols_new_table();
    columns = calloc(n_printed(t, style), sizeof *columns);
    if (!table || !columns)
        return -ENOMEM;
    scols_table_enable_noheadings(table, !style->legend);
    /* Names are escaped already. */
    scols_table_enable_noencoding(table, 1);
    scols_table_enable_colors(table, style->color);
    if (style->full)
        scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
    for (size_t i = 0; i < n_printed(t, style) && r == 0; i++) {
        size_t column = printed(style, i);

        if (!style->selected && (t->columns[column].flags & COLUMN_WIDE))
            continue;
        columns[n++] = column;
        r = add_column(table, &t->columns[column], style);
    }
    for (size_t row = 0; row < table_rows(t) && r == 0; row++)
        r = add_line(table, t, row, style, columns, n);
    return r < 0 ? r : scols_print_table(table);
}

/* A heading as the label of a line: "Created" of "CREATED". */
static void print_label(const char *head, int width)
{
    printf("%*s%c", width - (int)strlen(head), "", head[0]);
    for (const char *p = head + 1; *p; p++)
        putchar(tolower((unsigned char)*p));
}

int table_print_vertical(const struct table *t, const struct table_style *style)
{
    int width = 0;

    if (t->failed)
        return -ENOMEM;
    for (size_t i = 0; i < t->n_columns; i++) {
        int length = (int)strlen(t->columns[i].head);

        width = length > width ? length : width;
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct cell *cell = &t->cells[i];
        bool color = style->color && cell->color;

        if (!cell->text || !cell->text[0])
            continue;
        print_label(t->columns[i % t->n_columns].head, width);
        printf(": %s%s%s\n", color ? "\033[1m" : "", cell->text, color ? "\033[0m" : "");
    }
    return 0;
}

static void write_row(FILE *stream, const struct table *t, const struct table_style *style,
                      size_t row)
{
    putc('{', stream);
    for (size_t i = 0; i < n_printed(t, style); i++) {
        const struct cell *cell = &t->cells[row * t->n_columns + printed(style, i)];

        fputs(i ? "," : "", stream);
        json_string(stream, t->columns[printed(style, i)].key);
        fprintf(stream, ":%s", cell->json ? cell->json : "null");
    }
    putc('}', stream);
}

static int write_rows(const struct table *t, const struct table_style *style, bool one,
                      char **ret_json)
{
    _cleanup_free_ char *json = NULL;
    _cleanup_(fclosep) FILE *stream = NULL;
    size_t size;
    char *made;

    if (t->failed)
        return -ENOMEM;
    assert(t->n % t->n_columns == 0 && (!one || t->n > 0));
    stream = open_memstream(&json, &size);
    if (!stream)
        return -ENOMEM;
    if (!one)
        putc('[', stream);
    for (size_t row = 0; row < (one ? 1 : table_rows(t)); row++) {
        fputs(row ? "," : "", stream);
        write_row(stream, t, style, row);
    }
    if (!one)
        putc(']', stream);
    made = finish(&stream, &json);
    if (!made)
        return -ENOMEM;
    *ret_json = made;
    return 0;
}

int table_json(const struct table *t, const struct table_style *style, char **ret_json)
{
    return write_rows(t, style, false, ret_json);
}

int table_json_row(const struct table *t, const struct table_style *style, char **ret_json)
{
    return write_rows(t, style, true, ret_json);
}
