/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a process and a forkserver say to each other about one start, over a connection that is
 * made for it.
 *
 *     client                       server
 *     request, descriptors ...  ->            (several messages where one holds too few)
 *                               <-  reply, pidfd
 *     go                        ->            (read by the child)
 *                               <-  report    (it has ended)
 *
 * The child does not begin before it is told to go, so a client that gets no reply knows that
 * nothing runs, and may ask another server. Who closes the connection before that takes the start
 * back.
 */

#include <stdint.h>
#include <sys/resource.h>

#include "kernel/message.h"
#include "process/spec.h"

#define MP_REQUEST_MAGIC 0x71657250u
#define MP_REQUEST_VERSION 1

/* The descriptors: those of the standard streams that are open, and these. */
#define MP_REQUEST_FDS_MAX (4 + MP_SPEC_FDS_MAX)

struct mp_request {
    uint32_t magic;
    uint32_t version;
    uint32_t n_fds;    /* in all: standard streams, the client's pidfd, the spec, the spec's */
    uint32_t standard; /* a bit each: 1 stdout, 2 stderr */
};

struct mp_reply {
    int32_t error; /* 0; a negative errno: there is no child */
    int32_t pid;
};

struct mp_report {
    int32_t status; /* as wait4() gives it */
    struct rusage usage;
};

/* Of a forkserver of one's own, once: its hooks have run. */
struct mp_ready {
    int32_t error; /* 0; -ECANCELED: a hook failed */
};
