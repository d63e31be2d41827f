/* SPDX-License-Identifier: MIT */
/* Messages: what they hold, and what may have become of them. */

#include <string.h>

#include "crash/crash.h"
#include "crash/ledger.h"

void ledger_begin(struct ledger *l, uint32_t doing, uint32_t which, uint32_t many)
{
    mp_store_seqcst(&l->which, which);
    mp_store_seqcst(&l->many, many);
    mp_store_seqcst(&l->doing, doing);
}

void ledger_end(struct ledger *l)
{
    mp_store_seqcst(&l->doing, DOING_NOTHING);
}

void ledger_fill(void *data, size_t size, uint32_t number)
{
    memset(data, (int)(number * 7 + 3) & 0xff, size);
    memcpy(data, &number, sizeof number);
}

uint32_t ledger_read(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint32_t number;

    memcpy(&number, data, sizeof number);
    if (number >= LEDGER_MESSAGES || bytes[size - 1] != ((number * 7 + 3) & 0xff))
        return LEDGER_MESSAGES;
    return number;
}

bool ledger_is_whole(const void *data, size_t size)
{
    uint32_t number = ledger_read(data, size);
    const unsigned char *bytes = data;

    for (size_t i = sizeof number; i < size; i++)
        if (bytes[i] != ((number * 7 + 3) & 0xff))
            return false;
    return number != LEDGER_MESSAGES;
}

void ledger_receipt(struct point *p, struct receipts *r, uint32_t number, uint32_t deliveries,
                    bool in_order)
{
    uint32_t *last;

    if (number == LEDGER_MESSAGES) {
        crash_fail(p, "a message is spoiled");
        return;
    }
    atomic_fetch_add(&r->got[number], 1);
    if (deliveries > 1) {
        atomic_fetch_add(&r->marked[number], 1);
        return;
    }
    if (!in_order || number >= LEDGER_THREADS)
        return;
    last = &r->last[number >= LEDGER_SURVIVORS];
    if (number < *last)
        crash_fail(p, "message %u came after message %u", number, *last - 1);
    *last = number + 1;
}

/* What the victim was just doing when it was killed, and may have begun or ended. */
struct doing {
    uint32_t commit_from, commit_to;
    uint32_t release;
    uint32_t may_be_marked;
    uint32_t may_be_missing;
};

static struct doing read_doing(const struct ledger *l, bool drop)
{
    struct doing d = {.release = LEDGER_MESSAGES};
    uint32_t which = mp_load_seqcst(&l->which);
    uint32_t many = mp_load_seqcst(&l->many);

    switch (mp_load_seqcst(&l->doing)) {
    case DOING_COMMIT:
        d.commit_from = which;
        d.commit_to = which + many;
        break;
    case DOING_RECEIVE:
        d.may_be_marked = many;
        d.may_be_missing = drop ? many : 0;
        break;
    case DOING_RELEASE:
        d.release = which;
        break;
    case DOING_GET:
        d.may_be_marked = d.may_be_missing = many;
        break;
    }
    return d;
}

static void check_message(struct point *p, struct doing *d, uint32_t i, uint32_t got,
                          uint32_t marked, bool drop)
{
    uint32_t state = mp_load_seqcst(&p->note->ledger.state[i]);
    uint32_t least = 1, most = 1;

    switch (state) {
    case MESSAGE_NONE:
        least = 0;
        most = i >= d->commit_from && i < d->commit_to;
        break;
    case MESSAGE_HELD:
        if (drop)
            least = most = 0;
        else if (i == d->release)
            least = 0;
        break;
    case MESSAGE_DONE:
        least = most = 0;
        break;
    }
    if (got > most)
        crash_fail(p, "message %u (state %u) came %u times more than it may", i, state, got - most);
    if (got < least && d->may_be_missing > 0)
        d->may_be_missing--;
    else if (got < least)
        crash_fail(p, "message %u (state %u) is lost", i, state);
    if (got && !marked && (state == MESSAGE_HELD || state == MESSAGE_RETURNED))
        crash_fail(p, "message %u came again without a mark", i);
    if (marked && (state == MESSAGE_NONE || state == MESSAGE_SENT)) {
        if (d->may_be_marked > 0)
            d->may_be_marked--;
        else
            crash_fail(p, "message %u is marked though nobody had it", i);
    }
}

void ledger_check(struct point *p, const struct receipts *r, bool drop)
{
    struct doing d = read_doing(&p->note->ledger, drop);

    for (uint32_t i = 0; i < LEDGER_MESSAGES; i++)
        check_message(p, &d, i, mp_load_seqcst(&r->got[i]), mp_load_seqcst(&r->marked[i]), drop);
}
