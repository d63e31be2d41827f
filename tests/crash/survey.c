/* SPDX-License-Identifier: MIT */
/*
 * Surveys: addresses, and what changed.
 *
 * What outlives a process that is killed: the pages of the arena that exist, and what it said to
 * the tracer. Both are compared with a copy after each step.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"
#include "crash/crash.h"
#include "crash/survey.h"

#define NEAR 400u /* how far before an instruction an anchor is looked for */

struct survey_image {
    blkcnt_t blocks; /* of the memfd: moves when a page comes into being */
    struct {
        off_t at;
        size_t size;
    } ranges[256];
    unsigned n;
    char *copy;
    struct note note;
};

static void find_ranges(struct survey_image *m, int fd)
{
    off_t end = 0;
    size_t size = 0;

    m->n = 0;
    while (m->n < MP_ARRAY_SIZE(m->ranges)) {
        off_t at = lseek(fd, end, SEEK_DATA);

        end = at < 0 ? -1 : lseek(fd, at, SEEK_HOLE);
        if (end < 0)
            break;
        m->ranges[m->n].at = at;
        m->ranges[m->n++].size = (size_t)(end - at);
        size += (size_t)(end - at);
    }
    free(m->copy);
    m->copy = malloc(size);
    if (!m->copy)
        abort();
}

/* Has anything changed since the last look? */
static bool look(struct survey_image *m, const struct point *p)
{
    struct stat st = {0};
    bool changed;
    char *copy;

    changed = memcmp(&m->note, p->note, sizeof m->note) != 0;
    if (changed)
        memcpy(&m->note, p->note, sizeof m->note);
    fstat(p->arena->fd, &st);
    if (st.st_blocks != m->blocks) {
        m->blocks = st.st_blocks;
        find_ranges(m, p->arena->fd);
        changed = true;
        for (unsigned i = 0, at = 0; i < m->n; at += (unsigned)m->ranges[i++].size)
            memcpy(m->copy + at, p->arena->base + m->ranges[i].at, m->ranges[i].size);
        return true;
    }
    copy = m->copy;
    for (unsigned i = 0; i < m->n; copy += m->ranges[i++].size)
        if (memcmp(copy, p->arena->base + m->ranges[i].at, m->ranges[i].size) != 0) {
            memcpy(copy, p->arena->base + m->ranges[i].at, m->ranges[i].size);
            changed = true;
        }
    return changed;
}

static void append(struct survey *s, uint64_t address, bool changed)
{
    if (s->n + 3 > s->room) {
        s->room = s->room ? s->room * 2 : 4096;
        s->steps = realloc(s->steps, s->room * sizeof *s->steps);
        if (!s->steps)
            abort();
    }
    s->steps[s->n++] = (struct survey_step){.address = address, .changed = changed};
    s->states += changed;
}

void survey_note(struct survey *s, const struct victim *v, const struct point *p)
{
    if (p && !s->image) {
        s->image = calloc(1, sizeof *s->image);
        if (!s->image)
            abort();
    }
    append(s, stepper_address(v), p && look(s->image, p));
}

/* How often each address had been reached before: counted in a table by address. */
static void count_visits(struct survey *s)
{
    uint64_t size = 1024;
    struct {
        uint64_t address;
        uint32_t n;
    } * table;

    while (size < s->n * 2)
        size *= 2;
    table = calloc(size, sizeof *table);
    if (!table)
        abort();
    for (uint64_t k = 0; k < s->n; k++) {
        uint64_t i = s->steps[k].address * UINT64_C(0x9e3779b97f4a7c15) >> 20 & (size - 1);

        while (table[i].address != 0 && table[i].address != s->steps[k].address)
            i = (i + 1) & (size - 1);
        table[i].address = s->steps[k].address;
        s->steps[k].nth = table[i].n++;
    }
    free(table);
}

void survey_end(struct survey *s)
{
    count_visits(s);
    s->steps[s->n] = (struct survey_step){0};
    s->steps[s->n + 1] = (struct survey_step){0};
    s->n--; /* steps[0] stands before the first instruction */
    if (s->image)
        free(s->image->copy);
    free(s->image);
    s->image = NULL;
}

void survey_free(struct survey *s)
{
    free(s->steps);
    *s = (struct survey){0};
}

uint64_t survey_anchor(const struct survey *s, uint64_t k, uint64_t *ret_at, uint32_t *ret_times)
{
    uint64_t best = k;
    uint64_t address = 0;

    for (uint64_t j = k; j > 0 && k - j < NEAR; j--) {
        uint64_t cost = s->steps[j].nth + 1 + (k - j);

        /* An instruction that repeats itself is one stop for a breakpoint, but many steps. */
        if (cost >= best || s->steps[j].address == s->steps[j - 1].address)
            continue;
        best = cost;
        address = s->steps[j].address;
        *ret_at = j;
        *ret_times = s->steps[j].nth + 1;
    }
    return address;
}
