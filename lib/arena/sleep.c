/* SPDX-License-Identifier: MIT */
/* Sleep words, sleeps that are visible from outside, and the spin before them. */

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "arena/block.h"
#include "arena/keeper.h"
#include "arena/sleep.h"
#include "base/clock.h"
#include "kernel/cpu.h"
#include "kernel/futex.h"
#include "kernel/membarrier.h"

#define SAME_WAIT_NS MP_MSEC(100)
#define SPIN_TURNS_FIRST 192u
#define SPIN_TURNS_LEAST 96u
#define SPIN_TURNS_MOST 384u

uint32_t mp_sleep_arm_fenced(mp_a32 *word)
{
    uint32_t w;

    /* The count first: from then on no waker can clear S, as it expects the count that it saw. */
    atomic_fetch_add(word, 2);
    w = atomic_fetch_or(word, 1) | 1;
    atomic_thread_fence(memory_order_seq_cst);
    return w;
}

uint32_t mp_sleep_arm(const struct mp_arena *a, mp_a32 *word)
{
    uint32_t value = mp_sleep_arm_fenced(word);

    /* Pairs with the compiler barrier in mp_sleep_wake. Refused: mp_header.fence is set, and the
     * publisher fences. */
    if (!mp_load_relaxed(&a->header->fence) && !mp_membarrier())
        mp_store_seqcst(&a->header->fence, 1); /* refused since the attach */
    atomic_thread_fence(memory_order_seq_cst);
    return value;
}

void mp_sleep_wake_slow(mp_a32 *word)
{
    uint32_t w = mp_load_relaxed(word);
    uint32_t moved;

    if ((w & 1) == 0)
        return;
    moved = w + 2;
    if (!mp_cas_seqcst(word, &w, moved)) {
        if ((w & 1) == 0)
            return;
        moved = 0; /* somebody else moved it: wake, but do not clear */
    }
    if (mp_futex_wake(word, 1) == 0 && moved)
        mp_cas_seqcst(word, &moved, moved & ~1u);
}

void mp_sleep_wake_all(mp_a32 *word)
{
    uint32_t w = mp_load_relaxed(word);

    /* The count moves, so who is about to sleep does not; then S may go, as all who slept wake. Not
     * cleared when the word is written to meanwhile: that costs an idle wake. */
    if (!mp_cas_seqcst(word, &w, (w + 2) & ~1u))
        atomic_fetch_add(word, 2);
    mp_futex_wake(word, INT_MAX);
}

/* ---- records for people ---- */

_Thread_local struct mp_thread_number mp_thread_number;

MP_NOINLINE uint32_t mp_thread_id_slow(const struct mp_arena *a)
{
    mp_thread_number.tid = (uint32_t)gettid();
    mp_thread_number.life = mp_load_relaxed(&a->self->life);
    return mp_thread_number.tid;
}

/* The wait that this thread's last sleep belonged to. There are waits of many short sleeps: those
 * that say when they begin (mp_sleep_begins_anew) have lasted since then; and of the others, one
 * that goes on within a moment has lasted since the first. */
_Thread_local struct mp_waiting_thread mp_waiting_thread;
#define waiting mp_waiting_thread

static uint64_t waiting_since(const struct mp_arena *a, uint32_t kind, uint64_t object,
                              uint64_t now_ns)
{
    uint64_t life = mp_load_relaxed(&a->self->life);

    bool goes_on =
        waiting.told || (waiting.ended_ns != 0 && now_ns - waiting.ended_ns <= SAME_WAIT_NS);

    if (!goes_on || waiting.life != life || waiting.kind != kind || waiting.object != object) {
        waiting.told = waiting.fresh;
        waiting.fresh = false;
        waiting.life = life;
        waiting.since_ns = now_ns;
        waiting.kind = kind;
        waiting.object = object;
    }
    return waiting.since_ns;
}

static struct mp_wait_record *record_begin(struct mp_arena *a, uint32_t kind, uint64_t object,
                                           uint64_t now_ns)
{
    uint64_t since_ms = waiting_since(a, kind, object, now_ns) / 1000000 & 0xffffffffff;
    uint64_t me = (uint64_t)(a->self->generation + 1) << 32 | mp_thread_id(a);
    struct mp_wait_record *first = &a->waits[(uint64_t)a->self->slot * MP_WAIT_RECORDS_PER_SLOT];

    for (uint32_t i = 0; i < MP_WAIT_RECORDS_PER_SLOT; i++) {
        uint64_t who = mp_load_relaxed(&first[i].who);

        /* One that a former user of the slot left behind is as good as free. */
        if (who != 0 && (uint32_t)(who >> 32) == a->self->generation + 1)
            continue;
        mp_store_relaxed(&first[i].what, since_ms << 24 | (uint64_t)kind << 16 | (object & 0xffff));
        mp_store_relaxed(&first[i].part, object >> 32);
        if (mp_cas_acqrel(&first[i].who, &who, me))
            return &first[i];
    }
    return NULL; /* more sleepers than records: the others do without */
}

struct mp_wait_record *mp_sleep_begin(struct mp_arena *a, uint32_t kind, uint64_t object,
                                      uint64_t now_ns)
{
    struct mp_wait_record *record;

    /* Somebody starves for memory: what this thread keeps is of no use while it sleeps. */
    if (kind != MP_WAIT_BLOCK && (mp_load_relaxed(&a->header->freed) & 1))
        mp_thread_flush(a);
    record = record_begin(a, kind, object, now_ns);
    atomic_fetch_add(&a->self->sleepers, 1);
    if (mp_unlikely(!mp_load_seqcst(&a->self->looking)))
        mp_keeper_look(a);
    return record;
}

void mp_sleep_end(struct mp_arena *a, struct mp_wait_record *record)
{
    atomic_fetch_sub(&a->self->sleepers, 1);
    if (record)
        mp_store_release(&record->who, 0);
}

int mp_sleep_on(struct mp_arena *a, const mp_a32 *word, uint32_t value, uint64_t deadline_ns,
                uint32_t kind, uint64_t object)
{
    return mp_sleep_on_bits(a, word, value, deadline_ns, kind, object, FUTEX_BITSET_MATCH_ANY);
}

int mp_sleep_on_bits(struct mp_arena *a, const mp_a32 *word, uint32_t value, uint64_t deadline_ns,
                     uint32_t kind, uint64_t object, uint32_t bits)
{
    uint64_t now = mp_now_ns();
    struct mp_wait_record *record;
    int r;

    /* Looked at here, too: the kernel does not, when somebody writes to the word without end. */
    if (now >= deadline_ns)
        return -ETIMEDOUT;
    record = mp_sleep_begin(a, kind, object, now);
    r = mp_futex_wait_bits(word, value, deadline_ns, bits);
    mp_sleep_end(a, record);
    waiting.ended_ns = r == -ETIMEDOUT ? deadline_ns : 0;
    return r;
}

/* ---- spin ---- */

void mp_spin_begin(struct mp_spinner *s, struct mp_spin *spin, mp_a32 *my_cpu,
                   const mp_a32 *other_cpu)
{
    uint32_t cpu = mp_cpu_current() + 1;
    uint32_t length = mp_load_relaxed(&spin->length);

    s->spin = spin;
    s->left = s->begun = length ? mp_min(length, SPIN_TURNS_MOST) : SPIN_TURNS_FIRST;
    if (mp_load_relaxed(my_cpu) != cpu)
        mp_store_relaxed(my_cpu, cpu);
    if (mp_load_relaxed(other_cpu) == cpu)
        s->left = s->begun = 0;
}

void mp_spin_end(struct mp_spinner *s, bool success)
{
    uint32_t length = s->begun;

    if (length == 0)
        return; /* it did not spin, so it learned nothing */
    length = success ? mp_min(length * 2, SPIN_TURNS_MOST) : mp_max(length / 2, SPIN_TURNS_LEAST);
    if (mp_load_relaxed(&s->spin->length) != length)
        mp_store_relaxed(&s->spin->length, length);
    s->begun = 0;
}
