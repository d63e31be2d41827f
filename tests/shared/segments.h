/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of named shared memory have in common. */

#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mp/mp.h>

#include "base/leftovers.h"

/* A name of this process's own; good until the fourth call after it. */
static inline const char *own_name(const char *what)
{
    static char names[4][100];
    static unsigned next;
    char *name = names[next++ % 4];

    snprintf(name, sizeof names[0], "mp-test-%d-%s", (int)getpid(), what);
    return name;
}

static inline const char *path_of(const char *name)
{
    static char path[300];

    snprintf(path, sizeof path, "/dev/shm/%s", name);
    return path;
}

static inline bool is_there(const char *name)
{
    struct stat st;

    return lstat(path_of(name), &st) == 0;
}

/* A file of this size in /dev/shm, made as Python does: without reserving anything. */
static inline int sparse_file(const char *name, off_t size)
{
    int fd = open(path_of(name), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    assert(fd >= 0);
    assert(ftruncate(fd, size) == 0);
    return fd;
}

/* How many mappings of /dev/shm this process has; names that hold this string only, or all. */
static inline unsigned mappings(const char *of)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned n = 0;

    assert(maps);
    while (fgets(line, sizeof line, maps))
        n += strstr(line, "/dev/shm/") && strstr(line, of);
    fclose(maps);
    return n;
}

static inline int no_mappings_left(void **state)
{
    if (mappings("") > 0)
        return -1;
    return leftovers_after(state);
}

/* Nothing is left behind, mappings of segments included. */
#define segment_test(f) cmocka_unit_test_setup_teardown(f, leftovers_before, no_mappings_left)
