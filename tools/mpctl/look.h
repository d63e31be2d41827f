/* SPDX-License-Identifier: MIT */
#pragma once

/* What the words of an arena say: who takes part, who waits, queues and blocks. */

#include "view.h"

enum participant_state {
    PARTICIPANT_NONE = 0,
    PARTICIPANT_LIVE,
    PARTICIPANT_DYING,   /* its process ends, or has ended a moment ago */
    PARTICIPANT_RETIRED, /* gone; what it held is being given back */
};

struct participant {
    uint32_t slot;
    uint32_t generation;
    enum participant_state state;
    bool known;         /* the rest is its own */
    uint32_t namespace; /* inode of its pid namespace */
    pid_t inner_pid;    /* its pid there */
    pid_t pid;          /* its pid here; 0: not to be known */
    uint64_t start;
    char process; /* state letter of the process; 0: it is gone, or not to be known */
    char name[4 * sizeof(((struct mp_slot *)NULL)->name) + 1];
};

/* What the live half of a slot's word says. */
enum participant_state participant_state_of(uint32_t live);

/* Who had this slot when it was last read. NONE: nobody. */
void look_participant(struct view *view, uint32_t slot, struct participant *ret_participant);

/* Who has it now. */
void look_slot(struct view *view, uint32_t slot, struct participant *ret_participant);

/* Whom a token names, if that one still takes part; else NONE. */
void look_token(struct view *view, uint32_t token, struct participant *ret_participant);

const char *participant_state_word(enum participant_state state);

/* ---- waits ---- */

struct wait {
    struct participant who;
    pid_t tid;       /* in the namespace of the participant */
    uint32_t kind;   /* MP_WAIT_* */
    uint32_t object; /* index in the directory, as far as it names one */
    uint64_t part;   /* of it: the number of a lock of many */
    uint64_t ms;
    uint32_t record; /* which */
};

struct waits {
    struct wait *list;
    size_t n;
};

int look_waits(struct view *view, struct waits *ret_waits);
void waits_deinit(struct waits *waits);
#define _cleanup_waits_ _cleanup_(waits_deinit)

/* What it is for; a kind that this program does not know as its number, in the buffer. */
const char *wait_kind_word(uint32_t kind, char buffer[static 12]);

/* Of what kind the object is that this is a wait for; NONE: of none. */
enum mp_kind wait_object_kind(uint32_t kind);

/* All kinds of waits for objects of this kind: 1 << MP_WAIT_* each. */
uint32_t wait_kinds_for(enum mp_kind object);

/* ---- objects ---- */

#define OBJECT_NAME_MAX (4 * (MP_NAME_MAX + 1) + 1)

/* Is entry i a live object of this kind? Its name goes to ret_name. */
bool look_is_object(const struct view *view, uint32_t i, enum mp_kind kind,
                    char ret_name[OBJECT_NAME_MAX]);

uint32_t look_count_objects(const struct view *view);

enum queue_state { QUEUE_OPEN, QUEUE_SHUT_DOWN, QUEUE_ENDED, QUEUE_DAMAGED };

#define DEPTH_UNKNOWN UINT64_MAX

struct queue_facts {
    enum queue_state state;
    uint64_t depth;
    uint64_t returned; /* of these: to be delivered again */
    uint32_t maxsize;
    uint32_t flags; /* MP_QUEUE_* */
    uint64_t message_max;
    struct participant producer, consumer; /* who has the single role; NONE: nobody */
};

void look_queue(struct view *view, uint32_t index, struct queue_facts *ret_facts);

/* A named block. Where its memory lies; 0: nonsense. */
uint64_t look_block(const struct view *view, uint32_t index, uint64_t *ret_size);
