/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The cgroups that this process is in: its own, and those above it as far as they can be seen.
 */

#include <stdbool.h>
#include <stddef.h>

struct mp_cgroup {
    unsigned version; /* 2 or 1 */
    bool is_own;      /* the one the process is in, not one above it */
    const char *path; /* in its hierarchy, as /proc/self/cgroup has it */
    const char *dir;  /* its directory */
};

typedef void mp_cgroup_visit(const struct mp_cgroup *cgroup, void *arg);

/* Call visit for each of them, upwards: those of cgroup v2, then those of the v1 hierarchy of this
 * controller. `root` stands before all paths: "", or where a test has made a tree. What can not be
 * found or makes no sense is not there. */
void mp_cgroup_walk(const char *root, const char *controller, mp_cgroup_visit *visit, void *arg);

/* The text of a small file of a cgroup, without the newline that ends it. False: there is none,
 * or it is longer. */
bool mp_cgroup_read(const struct mp_cgroup *cgroup, const char *name, char *buf, size_t size);
