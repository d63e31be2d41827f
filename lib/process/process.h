/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Inside lib/process: handles, the household they belong to, and the steps of a start.
 *
 * A household is what a process knows of itself, its parent and its children. It belongs to one
 * process: a forked child finds that it carries another lineage, leaves it alone, and makes its
 * own. So nothing has to be repaired after a fork, whatever was locked at that moment.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#include <mp/process.h>

#include "base/atomic.h"
#include "kernel/lifeline.h"

/* mp_exit_info.code of a process of which nobody knows how it ended. */
#define MP_EXIT_UNKNOWN 255

/* The exit code of a child that could not be set up: a shell's for a command that is not there. */
#define MP_EXIT_NO_ENTRY 127

#define MP_FDS_MAX 250
#define MP_ARENAS_MAX 64

enum mp_kin { MP_KIN_CHILD, MP_KIN_SELF, MP_KIN_PARENT };

struct mp_process {
    mp_process *next, *previous; /* of all handles of children in the household */
    uint64_t lineage;            /* of the process whose handle it is */
    mp_a32 references;           /* the callers', and one of the household until it is reaped */
    enum mp_kin kin;
    bool is_daemon;
    bool has_ended;   /* and was reaped: info is filled */
    bool is_given_up; /* ended, and its reaping left to a tracer: the household waits no longer */
    pid_t pid;
    int pidfd;             /* -1: not opened yet, or the parent's, in a forked child */
    int report_fd;         /* of a forkserver's child: where its end is reported; -1: it is ours */
    bool is_orphan;        /* nobody will report it */
    _Atomic(bool) is_late; /* it was waited for once, after the end */
    uint64_t started_ns;
    struct mp_exit_info info;
    char name[MP_NAME_MAX + 1];
};

/* A forkserver of our own (process/forkserver.h). */
struct mp_forkserver {
    int control; /* -1: there is none */
    int pidfd;
    pid_t pid;
};

/* Where a process stands: "1:2" is the second child of the first child. */
#define MP_IDENTITY_MAX 31

struct mp_household {
    uint64_t lineage;
    pthread_mutex_t gate; /* one start at a time: a forked child knows what else was going on */
    pthread_mutex_t lock; /* over all that follows; taken after the gate */
    int cancel_state;     /* of the thread that has the lock */
    mp_process self;
    mp_process parent;
    bool has_parent;
    char identity[MP_IDENTITY_MAX + 1];
    mp_a32 started;               /* children so far, failed starts included: numbers their names */
    mp_process *children;         /* all handles, newest first */
    uint32_t daemons;             /* of them, alive */
    struct mp_lifeline *lifeline; /* NULL before the first daemon */
    struct mp_forkserver forkserver;
    mp_a32 *launch; /* in memory shared with forked children: see fork.c */
    uint32_t launches;
    struct mp_household *forebear; /* the parent's, if it forked this process; not ours to use */
    struct mp_call *call;          /* what the entry was given, which lives as long as we do */
    /* How this process itself is tied to its parent, if it is a daemon. */
    int lifeline_fd;
    struct mp_watch *watch;
};

/* This process's household; NULL: no memory. */
struct mp_household *mp_household(void);

/* A household for a child yet to be; mp_household_adopt() makes it this process's, in the child. */
struct mp_household *mp_household_new(void);
struct mp_household *mp_household_free(struct mp_household *household);
void mp_household_adopt(struct mp_household *household);

/* A thread that is cancelled in a system call under the lock would keep it for ever. */
static inline void mp_household_lock(struct mp_household *household)
{
    int cancel_state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    pthread_mutex_lock(&household->lock);
    household->cancel_state = cancel_state;
}

static inline void mp_household_unlock(struct mp_household *household)
{
    int cancel_state = household->cancel_state;

    pthread_mutex_unlock(&household->lock);
    pthread_setcancelstate(cancel_state, NULL);
}

/* A daemon more: the lifeline that it is to hold; negative: it has to do without. And one less. */
int mp_household_tie(struct mp_household *household);
void mp_household_untie(struct mp_household *household);

/* What Python's module does at exit: daemons are ended, all others joined. At exit() it runs by
 * itself. */
void mp_household_end(struct mp_household *household);

/* Is the handle this process's? 0 and its household; -EINVAL, -ECHILD. */
int mp_process_check(const mp_process *process, struct mp_household **ret_household);

/* Under the household's lock: drop a reference. The handle, if it is to be freed now. */
mp_process *mp_process_unref_locked(struct mp_household *household, mp_process *process);
void mp_process_destroy(mp_process *process);

/* A descriptor that polls readable when the process has ended, usually a pidfd. It stays the
 * handle's. */
int mp_process_pidfd(struct mp_household *household, mp_process *process);

/* Under the lock: take note if it has ended. Frees the handle if nobody else has it. */
void mp_process_reap_locked(struct mp_household *household, mp_process *process);

/* What a start was asked for, checked. */
struct mp_start {
    mp_entry_fn *entry;
    const char *entry_name; /* spawn */
    struct mp_process_options options;
    char name[MP_NAME_MAX + 1];
    char identity[MP_IDENTITY_MAX + 1];
    int lifeline_fd;  /* a daemon's; -1: the child has to watch its parent */
    int cancel_state; /* of the thread that starts it, which is not to be cancelled meanwhile */
};

/* Under the gate. 0, the pid and its pidfd; a negative errno: there is no child. */
int mp_start_fork(struct mp_household *household, const struct mp_start *start, pid_t *ret_pid,
                  int *ret_pidfd);
int mp_start_spawn(const struct mp_household *household, const struct mp_start *start,
                   pid_t *ret_pid, int *ret_pidfd);

/* The call that an entry gets, with everything it points to, in one piece of memory. */
struct mp_call *mp_call_new(const struct mp_process_options *options);
static inline void mp_call_freep(struct mp_call **call)
{
    free(*call);
}

/* Tie this process, a daemon, to its parent. 0; -ESRCH: too late; a negative errno. */
int mp_child_guard(struct mp_household *household);

/* mp_main() was called, and with which argv[0]; NULL: not. */
const char *mp_main_program(void);
