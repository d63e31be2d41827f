/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Stepping a thread of another process, one instruction at a time, and killing it.
 *
 * All calls come from one thread, the tracer's. It blocks SIGCHLD (stepper_begin), which is how it
 * waits for a victim that may have fallen asleep in a system call instead of stopping.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct victim {
    pid_t pid;
    pid_t tid;  /* the thread that is stepped */
    pid_t held; /* another one that is kept stopped; 0: none */
    int signal; /* what it stopped for, where that was neither a step nor a breakpoint */
    bool breakpoint;
    bool in_call; /* it was stopped inside a system call, which the next step goes on with */
};

enum stepped {
    STEPPED_ON,     /* it stands at the next instruction (or at the breakpoint) */
    STEPPED_ASLEEP, /* it sleeps in a system call: the step goes on, see stepper_wait() */
    STEPPED_STOP,   /* it stopped itself by SIGSTOP */
    STEPPED_GONE,   /* a signal, or its end */
};

/* 0; -EOPNOTSUPP: this kernel or sandbox lets nobody step; otherwise a negative errno. */
int stepper_begin(void);

/* Fork a child that the calling thread traces. In the child: returns 0 and nothing is stepped. In
 * the tracer: the pid, once the child has called stepper_ready(). */
pid_t stepper_fork(struct victim *v);
void stepper_ready(void);

/* Trace the thread v->tid, which runs, and stop it. 0, or a negative errno. */
int stepper_seize(struct victim *v);

/* One instruction of the victim; a system call is one. */
enum stepped stepper_step(struct victim *v);

/* Run until it comes to an address, again if it stands there and came by a breakpoint. */
enum stepped stepper_run_to(struct victim *v, uint64_t address);

/* Go on waiting for a victim that was asleep. */
enum stepped stepper_wait(struct victim *v);

uint64_t stepper_address(const struct victim *v);

/* SIGKILL, and wait until the whole process is gone. */
void stepper_kill(struct victim *v);

/* Tracer and victim take turns, so on one CPU they are faster: put both there, or let go again. */
void stepper_share_cpu(const struct victim *v, bool on);

/* The state letter of a thread in /proc; 0: gone. */
char stepper_state(pid_t pid, pid_t tid);
