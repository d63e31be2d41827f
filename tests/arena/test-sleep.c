/* SPDX-License-Identifier: MIT */
/*
 * Sleepers that nobody wakes: who was to do it, or was woken in their place, is stopped.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/directory.h"
#include "base/leftovers.h"
#include "base/until.h"
#include "kernel/futex.h"
#include "kernel/pidfd.h"

struct scene {
    mp_arena *arena;
    mp_lock *lock;
    mp_queue *queue;
    pthread_t thread;
    _Atomic(int) got;
};

static void scene_make(struct scene *s)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(
        mp_arena_create("live", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32), &s->arena),
        0);
    assert_int_equal(mp_lock_create(s->arena, "lock", &s->lock), 0);
    assert_int_equal(mp_queue_create(s->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = 16), &s->queue),
                     0);
}

static void scene_close(struct scene *s)
{
    until(participants(s->arena) == 1);
    mp_lock_close(s->lock);
    mp_queue_close(s->queue);
    mp_arena_close(s->arena);
}

#define NOTHING_YET 1000

struct decoy {
    mp_a32 *word;
    uint32_t value;
    mp_a32 tid;
};

/* Asleep before all others, and woken in their place: as one that is stopped just then. */
static void *sleep_as_decoy(void *user)
{
    struct decoy *d = user;

    mp_store_seqcst(&d->tid, (uint32_t)gettid());
    mp_futex_wait(d->word, d->value, MP_FOREVER);
    return NULL;
}

static void *take_lock(void *user)
{
    struct scene *s = user;

    s->got = mp_lock_acquire(s->lock, MP_FOREVER);
    return NULL;
}

static void *take_message(void *user)
{
    struct scene *s = user;
    uint32_t number;

    s->got = mp_queue_get(s->queue, &number, sizeof number, MP_FOREVER, NULL);
    return NULL;
}

static bool is_asleep(uint32_t tid)
{
    return tid != 0 && mp_task_state((pid_t)tid) == 'S';
}

/* `take` sleeps behind a decoy on `word`; then `give` wakes one. */
static void woken_in_vain(struct scene *s, mp_a32 *word, uint32_t kind, void *(*take)(void *),
                          int (*give)(struct scene *s))
{
    struct decoy d = {.word = word, .value = mp_load_seqcst(word)};
    pthread_t decoy;

    assert_int_equal(pthread_create(&decoy, NULL, sleep_as_decoy, &d), 0);
    until(is_asleep(mp_load_seqcst(&d.tid)));
    s->got = NOTHING_YET;
    assert_int_equal(pthread_create(&s->thread, NULL, take, s), 0);
    until(sleepers(s->arena, kind) == 1);
    assert_int_equal(give(s), 0);
    until(s->got != NOTHING_YET);
    assert_int_equal(s->got, 0);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(pthread_join(decoy, NULL), 0);
}

static int give_lock(struct scene *s)
{
    return mp_lock_release(s->lock);
}

static int give_message(struct scene *s)
{
    return mp_queue_put(s->queue, "give", 4, 0);
}

static void test_woken_in_vain(void **state)
{
    const uint32_t single = MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER;
    struct mp_directory_entry *e;
    struct mp_ring *ring;
    uint32_t cells;
    struct scene s;

    (void)state;
    scene_make(&s);
    assert_int_equal(mp_lock_acquire(s.lock, 0), 0);
    e = &s.arena->directory[0];
    assert_string_equal(e->name, "lock");
    atomic_fetch_or(&e->word, MP_TOKEN_WAITERS);
    woken_in_vain(&s, &e->word, MP_WAIT_LOCK, take_lock, give_lock);
    assert_int_equal(mp_lock_release(s.lock), 0);

    for (int i = 0; i < 2; i++) {
        ring = mp_directory_ring(s.arena, &s.arena->directory[1 + i], &cells);
        assert_non_null(ring);
        mp_store_seqcst(&ring->filled, 1);
        woken_in_vain(&s, &ring->filled, MP_WAIT_NOT_EMPTY, take_message, give_message);
        if (i == 1)
            break;
        mp_queue_close(s.queue);
        assert_int_equal(
            mp_queue_create(s.arena, "single", MP_QUEUE_OPTIONS(.flags = single), &s.queue), 0);
    }
    scene_close(&s);
}

/* Who ends what they sleep for is stopped before it wakes them. */
static void test_ended_in_silence(void **state)
{
    struct mp_directory_entry *e;
    struct mp_ring *ring;
    uint32_t cells;
    struct scene s;

    (void)state;
    scene_make(&s);
    e = &s.arena->directory[1];
    ring = mp_directory_ring(s.arena, e, &cells);
    assert_non_null(ring);
    s.got = NOTHING_YET;
    assert_int_equal(pthread_create(&s.thread, NULL, take_message, &s), 0);
    until(sleepers(s.arena, MP_WAIT_NOT_EMPTY) == 1);
    until(mp_load_seqcst(&s.arena->self->sleepers) == 1);
    atomic_fetch_or(&ring->phase, MP_PHASE_SHUT);
    until(s.got != NOTHING_YET);
    assert_int_equal(s.got, -EPIPE);
    assert_int_equal(pthread_join(s.thread, NULL), 0);
    assert_int_equal(mp_queue_destroy(s.queue), 0);

    assert_int_equal(mp_lock_acquire(s.lock, 0), 0);
    e = &s.arena->directory[0];
    s.got = NOTHING_YET;
    assert_int_equal(pthread_create(&s.thread, NULL, take_lock, &s), 0);
    until(sleepers(s.arena, MP_WAIT_LOCK) == 1);
    until(mp_load_seqcst(&s.arena->self->sleepers) == 1);
    atomic_fetch_xor(&e->state, MP_ENTRY_LIVE ^ MP_ENTRY_DYING);
    until(s.got != NOTHING_YET);
    assert_int_equal(s.got, -ESTALE);
    assert_int_equal(pthread_join(s.thread, NULL), 0);
    scene_close(&s);
}

static void *wait_for_event(void *event)
{
    assert(mp_event_wait(event, MP_SEC(60)) == 0);
    return NULL;
}

/* How long one has slept for an event, in ms; -1: nobody does now. */
static int64_t asleep_for_ms(const mp_arena *a)
{
    for (uint32_t i = 0; i < MP_WAIT_RECORDS_PER_SLOT; i++) {
        const struct mp_wait_record *r = &a->waits[a->self->slot * MP_WAIT_RECORDS_PER_SLOT + i];
        uint64_t what = mp_load_relaxed(&r->what);

        if (mp_load_acquire(&r->who) != 0 && (what >> 16 & 0xff) == MP_WAIT_EVENT)
            return (int64_t)(mp_now_ns() / 1000000 - (what >> 24));
    }
    return -1;
}

/* Keepers wake sleepers to look round each second. For people it is one wait all the same; and the
 * next one begins anew. */
static void test_since(void **state)
{
    struct scene s;
    mp_event *event;
    pthread_t thread;

    (void)state;
    scene_make(&s);
    assert_int_equal(mp_event_create(s.arena, "event", &event), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_event, event), 0);
    until(asleep_for_ms(s.arena) > 2500);
    assert_int_equal(mp_event_set(event), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(mp_event_clear(event), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_event, event), 0);
    until(asleep_for_ms(s.arena) >= 0);
    assert_true(asleep_for_ms(s.arena) < 2500);
    assert_int_equal(mp_event_set(event), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    mp_event_close(event);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_woken_in_vain),
        clean_test(test_ended_in_silence),
        clean_test(test_since),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
