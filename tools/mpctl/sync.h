/* SPDX-License-Identifier: MIT */
#pragma once

/* What the words of the objects to synchronise with say: who holds them, and in what state they
 * are. */

#include "look.h"

/* How it works, whatever it is: kinds may be added that have a lock in them. */
enum sync_shape {
    SHAPE_NONE, /* none of these */
    SHAPE_LOCK,
    SHAPE_RLOCK,
    SHAPE_RWLOCK,
    SHAPE_SEMAPHORE,
    SHAPE_CONDITION,
    SHAPE_EVENT,
    SHAPE_BARRIER,
    SHAPE_LOCKS, /* many: each of its owners has a holding of as many units */
};

enum sync_state {
    SYNC_FREE,
    SYNC_HELD,
    SYNC_DYING, /* held by a process that is being killed */
    SYNC_DIED,  /* its owner died: the next one is told */
    SYNC_READ,
    SYNC_DRAINING,  /* a writer waits for readers to leave */
    SYNC_AVAILABLE, /* of a semaphore: there are free units */
    SYNC_USED_UP,
    SYNC_OPEN,
    SYNC_BROKEN,
    SYNC_SET,
    SYNC_CLEAR,
    SYNC_DAMAGED,
};

enum sync_role { ROLE_OWNER, ROLE_WRITER, ROLE_READER, ROLE_PERMITS, ROLE_MEMBER };

struct holding {
    struct participant who;
    enum sync_role role;
    pid_t tid; /* of a rlock: the thread, in its pid namespace; 0: not to be told */
    uint64_t units;
};

struct sync_facts {
    enum mp_kind kind;
    enum sync_shape shape;
    enum sync_state state;
    bool contended;           /* somebody is or was asleep for it */
    struct participant owner; /* lock, rlock, the writer of a rwlock; NONE: nobody */
    uint32_t depth;           /* of a rlock */
    pid_t tid;                /* of a rlock: as in its holding */
    uint64_t units;           /* rwlock: readers; semaphore: free units; many locks: free ones */
    uint64_t limit;           /* semaphore: what it began with; many locks: how many */
    bool signals, bounded;
    uint32_t parties, arrived;
    bool complete; /* all holdings are known */
    struct holding *holdings;
    size_t n;
};

/* Entry i as it is now. 1, or 0: it is none of these, or was destroyed; -ENOMEM. */
int sync_look(struct view *view, uint32_t index, struct sync_facts *ret_facts);

/* The same of one of many locks, as of a lock; they are told by the kind. */
int sync_look_one(struct view *view, uint32_t index, uint64_t number, struct sync_facts *ret_facts);

void sync_facts_deinit(struct sync_facts *facts);
#define _cleanup_sync_ _cleanup_(sync_facts_deinit)

const char *sync_kind_word(enum mp_kind kind); /* NULL: it is none of these */
const char *sync_state_word(enum sync_state state);
const char *sync_role_word(enum sync_role role);
