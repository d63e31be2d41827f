/* SPDX-License-Identifier: MIT */
#pragma once

/* Finding arenas, and the processes that hold them, through /proc. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "proc.h"
#include "text.h"

/* A process that has an arena open for writing, or mapped. */
struct holder {
    pid_t pid;
    uint64_t start; /* as mp_task_start() tells it */
    uint32_t namespace;
    pid_t inner_pid; /* in that namespace */
    uint32_t fds;
    uint32_t mappings;
    char command[PROC_COMMAND_MAX];
};

/* A memfd whose name says that it is an arena; whether it is one is for view_open() to tell. */
struct found {
    dev_t device;
    ino_t inode;
    int fd;     /* opened for reading only; -1: none */
    int error;  /* a negative errno: why it could not be opened */
    bool alien; /* named like an arena, but on no device of memfds: it is not opened */
    char *name; /* without "mp:", escaped */
    struct holder *holders;
    size_t n_holders;
};

struct findings {
    struct found *found; /* by name, then inode */
    size_t n;
    size_t unreadable; /* processes that may not be looked into */
};

/* 0; -errno of what makes looking impossible. What can not be read of one process is counted. */
int find_arenas(struct findings *ret_findings);

void findings_deinit(struct findings *findings);
#define _cleanup_findings_ _cleanup_(findings_deinit)
