/* SPDX-License-Identifier: MIT */
/*
 * Counting what a process has, from /proc.
 *
 * Each kind is a walk that calls count_one() with a line of text for each thing found; the same
 * walk counts silently and prints, so that what is printed is what was counted.
 */

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/leftovers.h"
#include "base/tools.h"

struct walk {
    const char *kind;
    bool print;
    unsigned n;
};

static void count_one(struct walk *w, const char *what)
{
    w->n++;
    if (w->print)
        fprintf(stderr, "left behind: %s %s\n", w->kind, what);
}

static void closedirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static void fclosep(FILE **file)
{
    if (*file)
        fclose(*file);
}

static bool is_number(const char *s)
{
    return s[0] && s[strspn(s, "0123456789")] == '\0';
}

/* The first line of a file, without its newline; empty when it can not be read. */
static void read_line(const char *path, char *ret_line, size_t size)
{
    _cleanup_(fclosep) FILE *file = fopen(path, "re");

    if (!file || !fgets(ret_line, (int)size, file))
        ret_line[0] = '\0';
    ret_line[strcspn(ret_line, "\n")] = '\0';
}

static void walk_fds(struct walk *w)
{
    _cleanup_(closedirp) DIR *dir = opendir("/proc/self/fd");
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        char path[300], target[200], what[512];
        ssize_t n;

        if (!is_number(e->d_name) || atoi(e->d_name) == dirfd(dir))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        n = readlink(path, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = '\0';
        snprintf(what, sizeof what, "%s -> %s", e->d_name, target);
        count_one(w, what);
    }
}

static void walk_mappings(struct walk *w)
{
    _cleanup_(fclosep) FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    while (maps && fgets(line, sizeof line, maps)) {
        if (!strstr(line, "/memfd:mp:"))
            continue;
        line[strcspn(line, "\n")] = '\0';
        count_one(w, line);
    }
}

/* One keeper stays for as long as the process, whoever started it; a second one would be left. */
static void walk_threads(struct walk *w)
{
    _cleanup_(closedirp) DIR *dir = opendir("/proc/self/task");
    bool keeper_seen = false;
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        char path[300], name[64], what[512];

        if (!is_number(e->d_name))
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        read_line(path, name, sizeof name);
        if (strcmp(name, "mp-keeper") == 0 && !keeper_seen) {
            keeper_seen = true;
            continue;
        }
        snprintf(what, sizeof what, "%s (%s)", e->d_name, name);
        count_one(w, what);
    }
}

/* By the parent's number in each /proc/PID/stat: not every kernel lists children. */
static void walk_children(struct walk *w)
{
    _cleanup_(closedirp) DIR *dir = opendir("/proc");
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        char path[300], line[512], state;
        const char *end;
        int parent;

        if (!is_number(e->d_name))
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        read_line(path, line, sizeof line);
        end = strrchr(line, ')');
        if (end && sscanf(end, ") %c %d", &state, &parent) == 2 && parent == (int)getpid())
            count_one(w, line);
    }
}

static void walk_shm(struct walk *w)
{
    _cleanup_(closedirp) DIR *dir = opendir("/dev/shm");
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        if (e->d_name[0] != '.')
            count_one(w, e->d_name);
    }
}

static const struct {
    const char *name;
    void (*walk)(struct walk *w);
} kinds[LEFTOVERS_KINDS] = {
    {"descriptor", walk_fds},         {"mapping", walk_mappings},   {"thread", walk_threads},
    {"child process", walk_children}, {"/dev/shm entry", walk_shm},
};

static unsigned count_kind(int kind, bool print)
{
    struct walk w = {.kind = kinds[kind].name, .print = print};

    kinds[kind].walk(&w);
    return w.n;
}

void leftovers_count(struct leftovers *ret_count)
{
    for (int i = 0; i < LEFTOVERS_KINDS; i++)
        ret_count->n[i] = count_kind(i, false);
}

int leftovers_check(const struct leftovers *before)
{
    uint64_t deadline = mp_deadline(MP_SEC(10));
    int kind = 0;

    /* The kernel tells nobody when a task is gone from /proc: look again every millisecond. */
    while (kind < LEFTOVERS_KINDS) {
        if (count_kind(kind, false) <= before->n[kind]) {
            kind++;
        } else if (mp_now_ns() < deadline) {
            poll(NULL, 0, 1);
        } else {
            fprintf(stderr, "left behind: %u of kind \"%s\" before, now these:\n", before->n[kind],
                    kinds[kind].name);
            count_kind(kind, true);
            return -1;
        }
    }
    return 0;
}

static struct leftovers before_test;

/* ThreadSanitizer starts a thread of its own with the first one: not during a test. */
static void *nothing(void *unused)
{
    return unused;
}

int leftovers_before(void **state)
{
    pthread_t thread;

    (void)state;
    if (under_thread_sanitizer() && pthread_create(&thread, NULL, nothing, NULL) == 0)
        pthread_join(thread, NULL);
    leftovers_count(&before_test);
    return 0;
}

int leftovers_after(void **state)
{
    (void)state;
    return leftovers_check(&before_test);
}
