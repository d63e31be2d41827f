/* SPDX-License-Identifier: MIT */
/*
 * Random words written over an arena while a trusted process works in it.
 *
 * The victim tries everything with short timeouts; whatever it is told, it must not crash, read or
 * write outside the arena, or be held up much longer than its timeouts. Its keeper and its sweeps
 * run in the same arena, and so do those of this process. A bystander, whose number is written into
 * the slots of the dead, must not be touched.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/arena.h"
#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"
#include "kernel/futex.h"

#define SHORT MP_MSEC(20)
#define LAST_NS MP_MSEC(300)

/* Of the victim, for each region; or as many as the first argument says. */
static uint32_t rounds_least = 8;

/* What the arena can not spoil. */
struct board {
    _Atomic(uint32_t) steps;
    _Atomic(uint32_t) rounds;
    _Atomic(int) stop;
    /* It takes a lock without a timeout: after a wait for a condition, and a value's. */
    _Atomic(int) retakes;
};

struct scene {
    mp_arena *arena;
    struct board *board;
    uint64_t from, bytes; /* what is written over */
    pid_t bystander;
    int way;
};

enum { RANDOM, BITS, COPIES, DEAD_SLOTS, WAYS };

static uint64_t seed;

static uint64_t dice(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ---- the hostile ---- */

static void scribble_slots(const struct scene *s)
{
    mp_arena *a = s->arena;
    struct mp_slot *slot = &a->slots[dice() % a->geometry.participants];
    uint32_t generation = (uint32_t)(mp_load_relaxed(&slot->state) >> 32);

    mp_store_relaxed(&slot->id, (uint64_t)(generation + 1) << 32 | (uint32_t)s->bystander);
    mp_store_relaxed(&slot->state, (uint64_t)generation << 32 | (dice() & 1 ? 0x40000000u : 0) |
                                       0x80000000u | (uint32_t)s->bystander);
    mp_store_relaxed(&a->header->high, (uint32_t)dice() % 40);
}

static void scribble(void *user)
{
    const struct scene *s = user;
    _Atomic(uint64_t) *words = (void *)(s->arena->base + s->from);
    uint64_t n = s->bytes / 8;

    seed = (uint64_t)getpid() * UINT64_C(0x9e3779b97f4a7c15);
    while (!s->board->stop) {
        for (int i = 0; i < 16; i++) {
            uint64_t w = dice() % n;

            switch (s->way) {
            case RANDOM:
                mp_store_relaxed(&words[w], dice());
                break;
            case BITS:
                atomic_fetch_xor(&words[w], UINT64_C(1) << dice() % 64);
                break;
            case COPIES:
                mp_store_relaxed(&words[w], mp_load_relaxed(&words[dice() % n]));
                break;
            case DEAD_SLOTS:
                scribble_slots(s);
                break;
            }
        }
        sched_yield();
    }
}

/* ---- the victim ---- */

static bool is_inside(const mp_arena *a, const void *p, size_t size)
{
    uint64_t at = (uint64_t)((const char *)p - a->base);

    return at <= a->geometry.total && size <= a->geometry.total - at;
}

static void touch(const mp_arena *a, void *p, size_t size)
{
    assert(is_inside(a, p, size));
    if (size) {
        ((volatile char *)p)[0] = 1;
        ((volatile char *)p)[size - 1] = 1;
    }
}

static void step(struct scene *s)
{
    s->board->steps++;
}

static void use_blocks(struct scene *s)
{
    mp_arena *a = s->arena;
    void *blocks[8], *block;
    size_t size;

    for (int i = 0; i < 8; i++) {
        size = (size_t)1 << dice() % 18;
        blocks[i] = NULL;
        if (mp_block_alloc(a, size, i ? 0 : SHORT, &blocks[i]) == 0)
            touch(a, blocks[i], size);
        step(s);
    }
    for (int i = 0; i < 8; i++)
        if (blocks[i])
            mp_block_free(a, blocks[i]);
    if (mp_block_create(a, "block", 5000, &block) == 0)
        touch(a, block, 5000);
    step(s);
    if (mp_block_open(a, "block", &block, &size) == 0)
        touch(a, block, size);
    mp_block_destroy(a, "block");
    step(s);
}

static void use_lock(struct scene *s, mp_lock *lock)
{
    struct mp_lock_owner owner;

    if (mp_lock_acquire(lock, SHORT) >= 0)
        mp_lock_release(lock);
    step(s);
    mp_lock_owner(lock, &owner);
    mp_lock_try(lock);
    mp_lock_release(lock);
    step(s);
}

static void use_semaphore(struct scene *s, mp_semaphore **semaphore, uint32_t value)
{
    struct mp_semaphore_holder holders[4];
    mp_semaphore *sem = *semaphore;

    if (!sem && mp_semaphore_create(s->arena, value ? "permits" : "signals",
                                    MP_SEMAPHORE_OPTIONS(.value = value), semaphore) < 0)
        mp_semaphore_open(s->arena, value ? "permits" : "signals", semaphore);
    sem = *semaphore;
    step(s);
    if (!sem)
        return;
    for (int i = 0; i < 3; i++)
        if (mp_semaphore_acquire(sem, i ? SHORT : 0) == 0 && dice() & 1)
            mp_semaphore_release(sem, 1 + (uint32_t)dice() % 3);
    step(s);
    mp_semaphore_release(sem, (uint32_t)dice() | 1);
    mp_semaphore_holders(sem, holders, 4);
    mp_semaphore_value(sem);
    if (dice() % 8 == 0) {
        mp_semaphore_destroy(sem);
        *semaphore = mp_semaphore_close(sem);
    }
    step(s);
}

static void use_rwlock(struct scene *s, mp_rwlock *lock)
{
    struct mp_lock_owner owner;
    uint64_t n;

    if (mp_rwlock_read(lock, SHORT) >= 0)
        mp_rwlock_release_read(lock);
    step(s);
    if (mp_rwlock_write(lock, SHORT) >= 0)
        mp_rwlock_release_write(lock);
    step(s);
    mp_rwlock_writer(lock, &owner);
    mp_rwlock_readers(lock, &n);
    mp_rwlock_try_write(lock);
    mp_rwlock_try_read(lock);
    mp_rwlock_release_write(lock);
    mp_rwlock_release_read(lock);
    step(s);
}

static void use_barrier(struct scene *s, mp_barrier *barrier)
{
    int r = mp_barrier_wait(barrier, SHORT);

    assert(r < mp_barrier_parties(barrier));
    step(s);
    assert(mp_barrier_n_waiting(barrier) <= mp_barrier_parties(barrier));
    mp_barrier_broken(barrier);
    if (dice() & 1)
        mp_barrier_abort(barrier);
    mp_barrier_wait(barrier, 0);
    mp_barrier_reset(barrier);
    step(s);
}

static void use_rwlock_and_barrier(struct scene *s)
{
    mp_barrier *barrier = NULL;
    mp_rwlock *lock = NULL;

    if (mp_rwlock_open(s->arena, "rwlock", &lock) < 0)
        mp_rwlock_create(s->arena, "rwlock", &lock);
    if (mp_barrier_open(s->arena, "barrier", NULL, &barrier) < 0)
        mp_barrier_create(s->arena, "barrier", 1 + (uint32_t)dice() % 2, NULL, &barrier);
    step(s);
    if (lock)
        use_rwlock(s, lock);
    if (barrier)
        use_barrier(s, barrier);
    if (dice() % 8 == 0) {
        mp_rwlock_destroy(lock);
        mp_barrier_destroy(barrier);
    }
    mp_rwlock_close(lock);
    mp_barrier_close(barrier);
    step(s);
}

static int is_odd(void *user)
{
    return (int)(*(uint64_t *)user & 1);
}

static void use_rlock(struct scene *s, mp_rlock *rlock, mp_condition *cond)
{
    int deep = 0;

    while (deep < 3 && mp_rlock_acquire(rlock, SHORT) >= 0)
        deep++;
    step(s);
    mp_rlock_count(rlock);
    s->board->retakes = 1;
    if (cond && dice() & 1)
        mp_condition_wait_rlock(cond, rlock, MP_MSEC(1));
    s->board->retakes = 0;
    if (cond)
        mp_condition_notify_rlock(cond, rlock, (uint32_t)dice() % 4);
    step(s);
    while (deep-- > 0)
        mp_rlock_release(rlock);
}

static void use_event(struct scene *s, mp_event *event)
{
    if (dice() & 1)
        mp_event_set(event);
    mp_event_wait(event, dice() & 1 ? MP_MSEC(2) : 0);
    step(s);
    mp_event_is_set(event);
    mp_event_clear(event);
    mp_event_wait(event, MP_MSEC(2));
    step(s);
}

static void use_condition(struct scene *s, mp_condition *cond, mp_lock *lock)
{
    if (mp_lock_acquire(lock, SHORT) < 0)
        return;
    s->board->retakes = 1;
    mp_condition_wait(cond, lock, dice() & 1 ? MP_MSEC(2) : 0);
    step(s);
    mp_condition_notify(cond, lock, (uint32_t)dice() % 4);
    mp_condition_wait_for(cond, lock, is_odd, &seed, MP_MSEC(1));
    s->board->retakes = 0;
    mp_condition_notify_all(cond, lock);
    mp_lock_release(lock);
    step(s);
}

static void use_locks(struct scene *s, mp_locks *locks)
{
    uint32_t i = (uint32_t)dice() % mp_locks_count(locks);

    if (mp_locks_acquire(locks, i, SHORT) >= 0) {
        step(s);
        mp_locks_release(locks, i);
    }
    mp_locks_try(locks, i / 2);
    mp_locks_owner(locks, i, &(struct mp_lock_owner){0});
    step(s);
}

/* All at once, with a descriptor and without; and by the keeper. */
static void use_wait(struct scene *s, mp_lock *lock, mp_event *event, mp_condition *cond,
                     mp_locks *locks)
{
    struct mp_waitable w[5] = {mp_fd_waitable(s->arena->fd, POLLERR)};
    mp_poller *poller = NULL;
    uint32_t n = 1;

    if (lock)
        w[n++] = mp_lock_waitable(lock);
    if (event)
        w[n++] = mp_event_waitable(event);
    if (cond)
        w[n++] = mp_condition_waitable(cond);
    if (locks)
        w[n++] = mp_locks_waitable(locks, 1);
    mp_wait(w, n, MP_MSEC(1));
    step(s);
    if (n == 1)
        return;
    mp_wait(w + 1, n - 1, MP_MSEC(1));
    step(s);
    if (mp_poller_new(&w[n - 1], &poller) == 0)
        mp_poller_check(poller);
    mp_poller_free(poller);
    step(s);
}

/* Objects of the sync kind, made and used and gone again. */
static void use_sync(struct scene *s, mp_lock *lock)
{
    mp_arena *a = s->arena;
    mp_condition *cond = NULL;
    mp_event *event = NULL;
    mp_rlock *rlock = NULL;
    mp_locks *locks = NULL;

    if (mp_condition_create(a, "cond", &cond) < 0)
        mp_condition_open(a, "cond", &cond);
    if (mp_event_create(a, "event", &event) < 0)
        mp_event_open(a, "event", &event);
    if (mp_rlock_create(a, "rlock", &rlock) < 0)
        mp_rlock_open(a, "rlock", &rlock);
    if (mp_locks_create(a, "locks", 70, &locks) < 0)
        mp_locks_open(a, "locks", &locks);
    step(s);
    if (locks)
        use_locks(s, locks);
    use_wait(s, lock, event, cond, locks);
    if (rlock)
        use_rlock(s, rlock, cond);
    if (event)
        use_event(s, event);
    if (cond && lock)
        use_condition(s, cond, lock);
    if (dice() % 4 == 0) {
        mp_condition_destroy(cond);
        mp_event_destroy(event);
        mp_rlock_destroy(rlock);
        mp_locks_destroy(locks);
    }
    mp_condition_close(cond);
    mp_event_close(event);
    mp_rlock_close(rlock);
    mp_locks_close(locks);
    step(s);
}

static void use_values(struct scene *s)
{
    uint64_t words[9] = {dice()}, n = dice();
    mp_value *plain = NULL, *versioned = NULL;
    mp_array *array = NULL;

    if (mp_value_create(s->arena, "plain", MP_VALUE_OPTIONS(.type = 'q'), &plain) < 0)
        mp_value_open(s->arena, "plain", &plain);
    if (mp_value_create(s->arena, "versioned",
                        MP_VALUE_OPTIONS(.size = sizeof words, .flags = MP_VALUE_VERSIONED),
                        &versioned) < 0)
        mp_value_open(s->arena, "versioned", &versioned);
    if (mp_array_create(s->arena, "array", MP_ARRAY_OPTIONS(.type = 'i', .length = 50), &array) < 0)
        mp_array_open(s->arena, "array", &array);
    step(s);
    if (mp_value_memory(plain))
        touch(s->arena, mp_value_memory(plain), mp_value_size(plain));
    if (array)
        touch(s->arena, mp_array_memory(array), mp_array_len(array) * mp_array_item_size(array));
    if (mp_value_lock(plain, SHORT) >= 0)
        mp_value_unlock(plain);
    step(s);
    s->board->retakes = 1;
    mp_value_add(plain, 1, NULL);
    mp_value_get(plain, &n, sizeof n);
    mp_value_set(versioned, words, sizeof words);
    mp_array_set_slice(array, 40, 10, words, 40);
    mp_array_get_slice(array, 40, 10, words, 40);
    s->board->retakes = 0;
    step(s);
    mp_value_get(versioned, words, sizeof words);
    mp_value_atomic_add(plain, 0, 8, 1, NULL);
    mp_array_atomic_store(array, 49, 1);
    if (dice() % 4 == 0) {
        mp_value_destroy(plain);
        mp_value_destroy(versioned);
        mp_array_destroy(array);
    }
    mp_value_close(plain);
    mp_value_close(versioned);
    mp_array_close(array);
    step(s);
}

static void use_map(struct scene *s)
{
    char key[24], value[40];
    struct mp_map_item item = {.key = key, .value = value};
    size_t size;
    mp_map *map = NULL;
    uint64_t n;

    if (mp_map_create(s->arena, "map",
                      MP_MAP_OPTIONS(.capacity = 20, .key_max = 24, .value_max = 40), &map) < 0)
        mp_map_open(s->arena, "map", &map);
    step(s);
    /* One that was opened may be of another shape. */
    if (!map || mp_map_key_max(map) > sizeof key || mp_map_value_max(map) > sizeof value) {
        mp_map_close(map);
        return;
    }
    for (int i = 0; i < 6; i++) {
        memset(key, (int)dice() & 7, sizeof key);
        mp_map_put(map, key, 1 + dice() % 24, value, dice() % 41, SHORT);
        if (mp_map_get(map, key, 1 + dice() % 24, value, sizeof value, &size) == 0)
            assert(size <= sizeof value);
        mp_map_delete(map, key, 1 + dice() % 24, dice() & 1 ? SHORT : 0);
        step(s);
    }
    for (int i = 0; i < 30 && mp_map_next(map, &item) == 1; i++)
        assert(item.key_size <= sizeof key && item.value_size <= sizeof value);
    mp_map_put_if(map, key, 5, NULL, 0, value, 5, SHORT);
    mp_map_len(map, &n);
    step(s);
    if (dice() % 4 == 0)
        mp_map_destroy(map);
    mp_map_close(map);
    step(s);
}

static void use_queue(struct scene *s, mp_queue *queue)
{
    mp_arena *a = s->arena;
    static char buffer[70000];
    struct mp_queue_stats stats;
    struct mp_message m, more[4];
    size_t sizes[4];
    int r;

    mp_queue_put(queue, buffer, dice() % 3000, SHORT);
    step(s);
    mp_queue_put_batch(queue, buffer, 100, 4, SHORT);
    step(s);
    if (mp_queue_loan(queue, dice() % 60000, SHORT, &m) == 0) {
        touch(a, m.data, m.size);
        if (mp_queue_commit(queue, &m, SHORT) < 0)
            mp_queue_abandon(queue, &m);
    }
    step(s);
    if (mp_queue_receive(queue, SHORT, &m) == 0) {
        touch(a, m.data, m.size);
        if (dice() & 1)
            mp_queue_release(queue, &m);
        else
            mp_queue_abandon(queue, &m);
    }
    step(s);
    if (mp_queue_get(queue, buffer, sizeof buffer, SHORT, &sizes[0]) == 0)
        assert(sizes[0] <= sizeof buffer);
    step(s);
    r = mp_queue_get_batch(queue, buffer, 1000, sizes, 4, SHORT);
    for (int i = 0; i < r; i++)
        assert(sizes[i] <= 1000);
    step(s);
    r = mp_queue_receive_batch(queue, 4, 0, more);
    for (int i = 0; i < r; i++)
        touch(a, more[i].data, more[i].size);
    if (r > 0)
        mp_queue_release_batch(queue, more, (uint32_t)r);
    mp_queue_stats(queue, &stats);
    mp_queue_fd(queue);
    step(s);
}

static void use_tasks(struct scene *s, mp_queue *queue)
{
    while (dice() % 8 && mp_queue_task_done(queue) == 0) {
    }
    step(s);
    mp_queue_join(queue, dice() & 1 ? MP_MSEC(2) : 0);
    step(s);
    mp_queue_size(queue);
    mp_queue_is_full(queue);
    step(s);
}

static void work(void *user)
{
    struct scene *s = user;
    mp_queue *queue = NULL, *other = NULL;
    struct mp_arena_stats stats;
    mp_lock *lock = NULL;
    mp_semaphore *permits = NULL, *signals = NULL;

    seed = (uint64_t)getpid() * UINT64_C(0xbf58476d1ce4e5b9);
    if (mp_arena_join(s->arena) < 0)
        return;
    for (; !s->board->stop; s->board->rounds++) {
        uint32_t kind = (uint32_t)dice() % 4; /* of one producer, one consumer, both */

        if (kind != 3 && dice() & 1)
            kind |= MP_QUEUE_JOINABLE;

        if (!lock && mp_lock_create(s->arena, "lock", &lock) < 0)
            mp_lock_open(s->arena, "lock", &lock);
        if (!queue &&
            mp_queue_create(s->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = 20), &queue) < 0)
            mp_queue_open(s->arena, "queue", &queue);
        if (!other)
            mp_queue_create(s->arena, NULL, MP_QUEUE_OPTIONS(.maxsize = 5, .flags = kind), &other);
        step(s);
        use_blocks(s);
        if (lock)
            use_lock(s, lock);
        switch (dice() % 4) {
        case 0:
            use_semaphore(s, &permits, 5);
            use_semaphore(s, &signals, 0);
            break;
        case 1:
            use_rwlock_and_barrier(s);
            break;
        case 2:
            use_sync(s, lock);
            break;
        case 3:
            use_values(s);
            use_map(s);
            break;
        }
        if (queue)
            use_queue(s, queue);
        if (other)
            use_queue(s, other);
        if (other)
            use_tasks(s, other);
        mp_arena_stats(s->arena, &stats);
        if (other && dice() % 4 == 0) {
            if (dice() & 1)
                mp_queue_shutdown(other, (int)dice() & 1);
            use_tasks(s, other);
            mp_queue_destroy(other);
            other = mp_queue_close(other);
        }
        if (queue && dice() % 8 == 0) {
            mp_queue_shutdown(queue, (int)dice() & 1);
            mp_queue_destroy(queue);
            queue = mp_queue_close(queue);
        }
        if (lock && dice() % 8 == 0) {
            mp_lock_destroy(lock);
            lock = mp_lock_close(lock);
        }
        step(s);
    }
    mp_lock_close(lock);
    mp_semaphore_close(permits);
    mp_semaphore_close(signals);
    mp_queue_close(queue);
    mp_queue_close(other);
    mp_arena_close(s->arena);
}

static void wait_for_signals(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

/* ---- the tests ---- */

/* Whoever waits for a lock that nobody will ever release, since its word was written over. */
static void release_locks(const struct scene *s)
{
    for (uint32_t i = 0; s->board->retakes && i < s->arena->geometry.objects; i++) {
        mp_store_seqcst(&s->arena->directory[i].word, 0);
        mp_futex_wake(&s->arena->directory[i].word, INT_MAX);
    }
}

static bool has_ended(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void run(struct scene *s)
{
    pid_t victim, hostile;
    uint32_t steps = 0;
    uint64_t start, moved;
    int status = 0;

    s->board->stop = 0;
    s->board->steps = s->board->rounds = 0;
    s->board->retakes = 0;
    victim = child_start(work, s);
    until(s->board->rounds > 0);
    hostile = child_start(scribble, s);
    start = moved = mp_now_ns();
    while (mp_now_ns() - start < LAST_NS || s->board->rounds < rounds_least) {
        poll(NULL, 0, 5);
        if (s->board->steps != steps) {
            steps = s->board->steps;
            moved = mp_now_ns();
        }
        if (mp_now_ns() - moved > MP_SEC(1))
            release_locks(s);
        assert_true(mp_now_ns() - moved < MP_SEC(20)); /* a call that never returns */
        assert_int_equal(waitpid(victim, &status, WNOHANG), 0);
        if (mp_now_ns() - start > (rounds_least + 2) * MP_MSEC(500))
            break;
    }
    s->board->stop = 1;
    child_join(hostile);
    until(has_ended(victim) || (release_locks(s), false));
    child_join(victim);
    assert_int_equal(waitpid(s->bystander, &status, WNOHANG), 0);
}

static void with_arena(uint64_t (*from)(const mp_arena *), uint64_t (*to)(const mp_arena *),
                       int way)
{
    struct scene s = {.way = way};

    s.board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(s.board != MAP_FAILED);
    assert_int_equal(
        mp_arena_create("hostile",
                        MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 32),
                        &s.arena),
        0);
    s.bystander = child_start(wait_for_signals, NULL);
    s.from = from(s.arena);
    s.bytes = to(s.arena) - s.from;
    run(&s);
    child_kill(s.bystander);
    mp_arena_close(s.arena);
    munmap(s.board, 4096);
}

#define edge(name, offset)                  \
    static uint64_t name(const mp_arena *a) \
    {                                       \
        return (void)a, (uint64_t)(offset); \
    }

edge(header, 0) edge(slots, a->geometry.slots_offset) edge(waits, a->geometry.waits_offset)
    edge(directory, a->geometry.directory_offset) edge(extents, a->geometry.extents_offset)
        edge(crate_words, a->geometry.crate_words_offset) edge(crates, a->geometry.crates_offset)
            edge(words, a->geometry.words_offset) edge(meta, a->geometry.meta_offset)
                edge(blocks, a->geometry.blocks_offset) edge(the_end, a->geometry.total)
    /* Rings are the largest of the first blocks in use: 20 cells and 5 are 448 to 576 bytes. */
    edge(rings, a->geometry.classes[3].offset) edge(rings_end, a->geometry.classes[4].offset + 8192)

#define test_region(name, from, to)                  \
    static void name(void **state)                   \
    {                                                \
        (void)state;                                 \
        if (!carrier_works(FORK))                    \
            skip();                                  \
        for (int way = RANDOM; way <= COPIES; way++) \
            with_arena(from, to, way);               \
    }

        test_region(test_header, header, slots) test_region(test_slots, slots, waits)
            test_region(test_waits, waits, directory)
                test_region(test_directory, directory, extents)
                    test_region(test_extents, extents, crate_words)
                        test_region(test_crate_words, crate_words, crates)
                            test_region(test_crates, crates, words)
                                test_region(test_block_words, words, meta)
                                    test_region(test_meta, meta, blocks)
                                        test_region(test_rings, rings, rings_end)
                                            test_region(test_blocks, blocks, the_end)
                                                test_region(test_control, header, blocks)
                                                    test_region(test_all, header, the_end)

                                                        static void test_dead_slots(void **state)
{
    (void)state;
    if (!carrier_works(FORK))
        skip();
    with_arena(slots, waits, DEAD_SLOTS);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_header),    clean_test(test_slots),       clean_test(test_waits),
        clean_test(test_directory), clean_test(test_extents),     clean_test(test_crate_words),
        clean_test(test_crates),    clean_test(test_block_words), clean_test(test_meta),
        clean_test(test_rings),     clean_test(test_blocks),      clean_test(test_control),
        clean_test(test_all),       clean_test(test_dead_slots),
    };

    if (argc > 1)
        rounds_least = (uint32_t)atoi(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
