/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Probes: does a facility of the kernel work here? Each is tried by using it.
 *
 * A probe that does more than read runs in a process of its own, so whatever it does to itself
 * (filters, namespaces, closed descriptors) ends with it; a filter that kills who calls something
 * kills only that one; and one that hangs is ended. It says what it found by the functions below,
 * the last word counts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum verdict {
    VERDICT_OK,
    VERDICT_LIMITED, /* it works, within limits */
    VERDICT_REFUSED, /* the kernel has it, and does not let us: a filter, a setting, a right */
    VERDICT_MISSING, /* the kernel does not have it */
};

#define DETAIL_MAX 400

struct finding {
    enum verdict verdict;
    int error;  /* the errno behind it; 0: none */
    bool kills; /* whoever tries it: so nothing can fall back */
    bool has_value;
    uint64_t value; /* of a limit */
    char detail[DETAIL_MAX];
};

enum need {
    NEED_NOT,  /* no part of libmp uses it */
    NEED_NICE, /* it is tried, and if it fails something else takes its place */
    NEED_MUST, /* libmp can not do without */
};

struct probe {
    const char *facility;
    const char *since; /* the version of Linux that brought it; NULL: as old as the hills */
    enum need need;
    void (*look)(struct finding *finding);
    const char *instead; /* what libmp does, or what does not work, unless the verdict is OK */
};

/* By what they look at. */
struct probes {
    const struct probe *probe;
    size_t n;
    bool in_place; /* they only read, and tell why others may get no process */
};
extern const struct probes sync_probes, process_probes, place_probes, limit_probes;

/* Run one; in this process, or in one of its own. */
void probe_run(const struct probe *probe, bool in_place, struct finding *ret_finding);

/* ---- for probes ---- */

/* Words about it; the verdict stays. */
void found(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A verdict that is not the kernel's, and why. */
void found_verdict(struct finding *finding, enum verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What an errno (positive) says: missing, refused, or anything else, which limits. */
void found_error(struct finding *finding, int error);

/* A limit; `limited` if it is one that is felt. */
void found_value(struct finding *finding, uint64_t value, bool limited);

/* Like fork(), but the child ends with its parent. */
pid_t probe_fork(void);

/* Reap a child. Its status as wait() gives it; -1: there is none. */
int probe_reap(pid_t pid);

/* The first line of a small file of text, escaped. False: can not be read. */
bool probe_read_line(const char *path, char *ret_line, size_t size);

/* The same, as a number. */
bool probe_read_number(const char *path, uint64_t *ret_number);

/* Is this process under a seccomp filter? */
bool probe_is_filtered(void);

/* Is the kernel, by what it calls itself, at least this version ("5.9")? */
bool probe_kernel_is(const char *version);
