/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What became of each message, as far as its users said.
 *
 * A victim says what it is about to do before it calls the library, and what it has done after the
 * call returned. Where it is killed in between, both outcomes are right. Everything else is
 * checked: nothing lost, nothing twice, nothing delivered again without a mark, nothing changed,
 * all in order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define LEDGER_MESSAGES 512u
#define LEDGER_SURVIVORS 256u /* the numbers of the survivors' messages start here */
#define LEDGER_THREADS 480u /* and those of their sleeping threads, which come in no order, here */

enum {
    MESSAGE_NONE = 0,
    MESSAGE_SENT,
    MESSAGE_HELD,     /* received by a victim, not released */
    MESSAGE_RETURNED, /* to be delivered again */
    MESSAGE_DONE,
};

enum {
    DOING_NOTHING = 0,
    DOING_COMMIT,  /* message `which`, and so many after it */
    DOING_RECEIVE, /* whichever comes */
    DOING_RELEASE, /* message `which` */
    DOING_GET,     /* up to `many` that come */
};

/* Said by the victims; shared. */
struct ledger {
    mp_a32 doing;
    mp_a32 which;
    mp_a32 many;
    mp_a32 state[LEDGER_MESSAGES];
};

/* Seen by the survivors. */
struct receipts {
    mp_a32 got[LEDGER_MESSAGES];
    mp_a32 marked[LEDGER_MESSAGES];
    uint32_t last[2]; /* number + 1 of the last unmarked message of victim and survivors */
};

struct point;

void ledger_begin(struct ledger *l, uint32_t doing, uint32_t which, uint32_t many);
void ledger_end(struct ledger *l);

/* The bytes of a message, and its number by its first and last bytes; LEDGER_MESSAGES: nonsense. */
void ledger_fill(void *data, size_t size, uint32_t number);
uint32_t ledger_read(const void *data, size_t size);

/* Are all its bytes as they were? */
bool ledger_is_whole(const void *data, size_t size);

/* A survivor received a message; LEDGER_MESSAGES: nonsense. */
void ledger_receipt(struct point *p, struct receipts *r, uint32_t number, uint32_t deliveries,
                    bool in_order);

/* All is received. `drop`: what the dead held is dropped. */
void ledger_check(struct point *p, const struct receipts *r, bool drop);
