/* SPDX-License-Identifier: MIT */
/* Readers and writers: who may be in with whom, turns, timeouts, deaths, and every error. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "rwlock", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

static mp_rwlock *make_lock(mp_arena *arena)
{
    mp_rwlock *lock;

    assert_int_equal(mp_rwlock_create(arena, "rwlock", &lock), 0);
    return lock;
}

static uint64_t readers_of(mp_rwlock *lock)
{
    uint64_t n;

    assert(mp_rwlock_readers(lock, &n) == 0);
    return n;
}

static pid_t writer_of(mp_rwlock *lock)
{
    struct mp_lock_owner owner;

    assert(mp_rwlock_writer(lock, &owner) == 0);
    return owner.pid;
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    mp_rwlock *lock = make_lock(arena), *other = NULL;
    struct mp_lock_owner owner;
    char name[MP_NAME_MAX + 2];
    uint64_t n;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_rwlock_create(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_rwlock_create(arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_rwlock_create(arena, "rwlock", &other), -EEXIST);
    assert_int_equal(mp_rwlock_create(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_rwlock_create(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_rwlock_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_rwlock_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_rwlock_open(arena, "rwlock", NULL), -EINVAL);
    assert_int_equal(mp_rwlock_open(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_rwlock_open(arena, "none", &other), -ENOENT);
    assert_null(other);
    assert_null(mp_rwlock_close(NULL));
    assert_int_equal(mp_rwlock_destroy(NULL), -EINVAL);
    assert_int_equal(mp_rwlock_read(NULL, 0), -EINVAL);
    assert_int_equal(mp_rwlock_try_read(NULL), -EINVAL);
    assert_int_equal(mp_rwlock_write(NULL, MP_FOREVER), -EINVAL);
    assert_int_equal(mp_rwlock_try_write(NULL), -EINVAL);
    assert_int_equal(mp_rwlock_release_read(NULL), -EINVAL);
    assert_int_equal(mp_rwlock_release_write(NULL), -EINVAL);
    assert_int_equal(mp_rwlock_writer(NULL, &owner), -EINVAL);
    assert_int_equal(mp_rwlock_writer(lock, NULL), -EINVAL);
    assert_int_equal(mp_rwlock_readers(NULL, &n), -EINVAL);
    assert_int_equal(mp_rwlock_readers(lock, NULL), -EINVAL);
    assert_null(mp_rwlock_name(NULL));
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

static void test_full(void **state)
{
    mp_rwlock *locks[16], *one_more = NULL;
    mp_arena *arena = make_arena();

    (void)state;
    for (int i = 0; i < 16; i++)
        assert_int_equal(mp_rwlock_create(arena, NULL, &locks[i]), 0);
    assert_int_equal(mp_rwlock_create(arena, NULL, &one_more), -ENOBUFS);
    assert_null(one_more);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(mp_rwlock_destroy(locks[i]), 0);
        mp_rwlock_close(locks[i]);
    }
    mp_arena_close(arena);
}

static void test_alone(void **state)
{
    const uint64_t timeouts[] = {0, MP_MSEC(10), MP_FOREVER, MP_FOREVER - 1};
    mp_arena *arena = make_arena();
    mp_rwlock *lock = make_lock(arena), *same;
    struct mp_lock_owner owner;

    (void)state;
    assert_string_equal(mp_rwlock_name(lock), "rwlock");
    assert_int_equal(mp_rwlock_open(arena, "rwlock", &same), 0);
    for (size_t i = 0; i < MP_ARRAY_SIZE(timeouts); i++) {
        assert_int_equal(mp_rwlock_release_read(lock), -EPERM);
        assert_int_equal(mp_rwlock_release_write(lock), -EPERM);
        assert_int_equal(readers_of(lock), 0);
        assert_int_equal(writer_of(lock), 0);

        /* Any number of readers, and no writer. */
        assert_int_equal(mp_rwlock_read(lock, timeouts[i]), 0);
        assert_int_equal(mp_rwlock_read(same, timeouts[i]), 0);
        assert_int_equal(mp_rwlock_try_read(lock), 0);
        assert_int_equal(readers_of(same), 3);
        assert_int_equal(mp_rwlock_try_write(lock), -EAGAIN);
        assert_int_equal(mp_rwlock_write(lock, 1), -ETIMEDOUT);
        assert_int_equal(mp_rwlock_write(same, MP_MSEC(5)), -ETIMEDOUT);
        assert_int_equal(mp_rwlock_release_write(lock), -EPERM);
        assert_int_equal(writer_of(lock), 0);
        assert_int_equal(mp_rwlock_try_read(lock), 0);
        for (int k = 0; k < 4; k++)
            assert_int_equal(mp_rwlock_release_read(k % 2 ? lock : same), 0);
        assert_int_equal(mp_rwlock_release_read(lock), -EPERM);

        /* One writer, and nobody else. */
        assert_int_equal(mp_rwlock_write(lock, timeouts[i]), 0);
        assert_int_equal(mp_rwlock_writer(same, &owner), 0);
        assert_int_equal(owner.pid, getpid());
        assert_int_equal(owner.self, 1);
        assert_int_equal(mp_rwlock_try_write(same), -EAGAIN);
        assert_int_equal(mp_rwlock_write(lock, MP_MSEC(5)), -ETIMEDOUT);
        assert_int_equal(mp_rwlock_try_read(lock), -EAGAIN);
        assert_int_equal(mp_rwlock_read(lock, 1), -ETIMEDOUT);
        assert_int_equal(mp_rwlock_read(same, MP_MSEC(5)), -ETIMEDOUT);
        assert_int_equal(mp_rwlock_release_read(lock), -EPERM);
        assert_int_equal(readers_of(lock), 0);
        assert_int_equal(mp_rwlock_release_write(same), 0);
    }
    mp_rwlock_close(lock);
    mp_rwlock_close(same);
    mp_arena_close(arena);
}

/* It does not end early, for whomever. */
static void test_timeout_is_kept(void **state)
{
    mp_arena *arena = make_arena();
    mp_rwlock *lock = make_lock(arena);

    (void)state;
    for (uint64_t ms = 1; ms <= 64; ms *= 4) {
        uint64_t start = mp_now_ns();

        assert_int_equal(mp_rwlock_try_read(lock), 0);
        assert_int_equal(mp_rwlock_write(lock, MP_MSEC(ms)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
        assert_int_equal(mp_rwlock_release_read(lock), 0);
        start = mp_now_ns();
        assert_int_equal(mp_rwlock_try_write(lock), 0);
        assert_int_equal(mp_rwlock_read(lock, MP_MSEC(ms)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
        assert_int_equal(mp_rwlock_release_write(lock), 0);
    }
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

/* ---- exclusion ---- */

struct pair {
    uint64_t a, b;
};

PART(read_and_write)
{
    struct pair *pair;
    mp_rwlock *lock;

    assert(mp_rwlock_open(part->arena, "rwlock", &lock) == 0);
    assert(mp_block_open(part->arena, "pair", (void **)&pair, NULL) == 0);
    for (uint64_t i = 0; i < part->argument;) {
        const uint64_t timeouts[] = {0, 20000, MP_FOREVER};
        bool writes = (i + part->index) % 4 == 0;
        int r =
            writes ? mp_rwlock_write(lock, timeouts[i % 3]) : mp_rwlock_read(lock, timeouts[i % 3]);

        if (r == -EAGAIN || r == -ETIMEDOUT)
            continue;
        assert(r == 0);
        assert(pair->a == pair->b);
        if (writes) {
            pair->a++;
            pair->b++;
        }
        assert((writes ? mp_rwlock_release_write(lock) : mp_rwlock_release_read(lock)) == 0);
        i++;
    }
    mp_rwlock_close(lock);
}

static void test_exclusion(void **state)
{
    enum { N = 8, TIMES = 4000 };
    struct crew crew;
    struct pair *pair;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_block_create(arena, "pair", sizeof *pair, (void **)&pair), 0);
    crew_start(&crew, carrier_of(state), arena, read_and_write, N, TIMES);
    crew_join(&crew);
    assert_int_equal(pair->a, N * TIMES / 4);
    assert_int_equal(pair->b, N * TIMES / 4);
    assert_int_equal(readers_of(lock), 0);
    mp_rwlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- turns ---- */

struct seen {
    _Atomic(int) in;   /* readers at once */
    _Atomic(int) most; /* so many were */
    _Atomic(int) done;
    _Atomic(int) told;
    _Atomic(int) stop;
};

static struct seen *seen_by(struct part *part, mp_rwlock **ret_lock)
{
    void *shared;

    assert(mp_rwlock_open(part->arena, "rwlock", ret_lock) == 0);
    assert(mp_block_open(part->arena, "seen", &shared, NULL) == 0);
    return shared;
}

static struct seen *make_seen(mp_arena *arena)
{
    void *shared;

    assert_int_equal(mp_block_create(arena, "seen", sizeof(struct seen), &shared), 0);
    return shared;
}

/* All of them are in before one leaves. */
PART(read_together)
{
    mp_rwlock *lock;
    struct seen *seen = seen_by(part, &lock);

    assert(mp_rwlock_read(lock, PATIENCE) == 0);
    seen->in++;
    until(seen->in == (int)part->argument);
    assert(mp_rwlock_release_read(lock) == 0);
    mp_rwlock_close(lock);
}

/* Many readers asleep behind one writer come in together. */
static void test_readers_together(void **state)
{
    enum { N = 8 };
    struct seen *seen;
    struct crew crew;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    seen = make_seen(arena);
    assert_int_equal(mp_rwlock_try_write(lock), 0);
    crew_start(&crew, carrier_of(state), arena, read_together, N, N);
    until(sleepers(arena, MP_WAIT_READ) >= (carrier_of(state) == THREADS ? 4 : N));
    assert_int_equal(seen->in, 0);
    assert_int_equal(mp_rwlock_release_write(lock), 0);
    crew_join(&crew);
    assert_int_equal(seen->in, N);
    mp_rwlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

PART(write_once)
{
    mp_rwlock *lock;
    struct seen *seen = seen_by(part, &lock);
    int r = mp_rwlock_write(lock, PATIENCE);

    assert(r == 0 || r == MP_OWNER_DIED);
    seen->told += r == MP_OWNER_DIED;
    assert(seen->in == 0);
    seen->done++;
    assert(mp_rwlock_release_write(lock) == 0);
    mp_rwlock_close(lock);
}

/* A writer that waits keeps new readers out, and comes in when the last of the old ones leaves. */
static void test_writer_drains(void **state)
{
    struct seen *seen;
    struct crew crew;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    seen = make_seen(arena);
    for (int round = 1; round <= 10; round++) {
        assert_int_equal(mp_rwlock_try_read(lock), 0);
        assert_int_equal(mp_rwlock_try_read(lock), 0);
        crew_start(&crew, carrier_of(state), arena, write_once, 1, 0);
        until(sleepers(arena, MP_WAIT_WRITE) == 1);
        assert_int_equal(writer_of(lock) != 0, 1);
        assert_int_equal(mp_rwlock_try_read(lock), -EAGAIN);
        assert_int_equal(mp_rwlock_read(lock, MP_MSEC(1)), -ETIMEDOUT);
        assert_int_equal(mp_rwlock_release_read(lock), 0);
        assert_int_equal(seen->done, round - 1);
        assert_int_equal(mp_rwlock_release_read(lock), 0);
        crew_join(&crew);
        assert_int_equal(seen->done, round);
        assert_int_equal(mp_rwlock_try_read(lock), 0);
        assert_int_equal(mp_rwlock_release_read(lock), 0);
        until(settled(arena, 1));
    }
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

/* Many writers asleep wake each other in turn. */
static void test_writers_in_turn(void **state)
{
    enum { N = 10 };
    struct seen *seen;
    struct crew crew;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    seen = make_seen(arena);
    assert_int_equal(mp_rwlock_try_read(lock), 0);
    crew_start(&crew, carrier_of(state), arena, write_once, N, 0);
    until(sleepers(arena, MP_WAIT_WRITE) >= (carrier_of(state) == THREADS ? 4 : N));
    assert_int_equal(seen->done, 0);
    assert_int_equal(mp_rwlock_release_read(lock), 0);
    crew_join(&crew);
    assert_int_equal(seen->done, N);
    assert_int_equal(mp_rwlock_try_write(lock), 0);
    mp_rwlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

PART(read_until_told)
{
    mp_rwlock *lock;
    struct seen *seen = seen_by(part, &lock);

    while (!seen->stop) {
        assert(mp_rwlock_read(lock, PATIENCE) == 0);
        seen->done++;
        assert(mp_rwlock_release_read(lock) == 0);
    }
    mp_rwlock_close(lock);
}

/* Readers that never pause do not keep a writer out. */
static void test_writers_do_not_starve(void **state)
{
    enum { N = 4 };
    struct seen *seen;
    struct crew crew;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    seen = make_seen(arena);
    crew_start(&crew, carrier_of(state), arena, read_until_told, N, 0);
    until(seen->done > 100);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(mp_rwlock_write(lock, PATIENCE), 0);
        assert_int_equal(mp_rwlock_release_write(lock), 0);
    }
    seen->stop = 1;
    crew_join(&crew);
    mp_rwlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- destroyed ---- */

PART(wait_until_gone)
{
    bool writes = part->index % 2;
    mp_rwlock *lock;
    int r;

    assert(mp_rwlock_open(part->arena, "rwlock", &lock) == 0);
    /* Readers come in where one reads, until the first writer waits. */
    while ((r = writes ? mp_rwlock_write(lock, MP_FOREVER) : mp_rwlock_read(lock, PATIENCE)) == 0)
        assert(!writes && mp_rwlock_release_read(lock) == 0);
    assert(r == -ESTALE);
    assert(mp_rwlock_try_read(lock) == -ESTALE);
    assert(mp_rwlock_release_read(lock) == -ESTALE);
    mp_rwlock_close(lock);
}

static void use_stale(mp_rwlock *lock)
{
    struct mp_lock_owner owner;
    uint64_t n;

    assert_int_equal(mp_rwlock_destroy(lock), -ESTALE);
    assert_int_equal(mp_rwlock_try_read(lock), -ESTALE);
    assert_int_equal(mp_rwlock_read(lock, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_rwlock_try_write(lock), -ESTALE);
    assert_int_equal(mp_rwlock_write(lock, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_rwlock_release_read(lock), -ESTALE);
    assert_int_equal(mp_rwlock_release_write(lock), -ESTALE);
    assert_int_equal(mp_rwlock_writer(lock, &owner), -ESTALE);
    assert_int_equal(mp_rwlock_readers(lock, &n), -ESTALE);
    assert_string_equal(mp_rwlock_name(lock), "rwlock");
}

/* Both those who wait for a writer, and a writer that drains. */
static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    mp_rwlock *lock, *after;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (int round = 0; round < 6; round++) {
        bool writes = round % 2;

        lock = make_lock(arena);
        assert_int_equal(writes ? mp_rwlock_try_write(lock) : mp_rwlock_try_read(lock), 0);
        crew_start(&crew, carrier_of(state), arena, wait_until_gone, N, 0);
        until(sleepers(arena, MP_WAIT_WRITE) + sleepers(arena, MP_WAIT_READ) == N);
        assert_int_equal(mp_rwlock_destroy(lock), 0);
        crew_join(&crew);
        use_stale(lock);
        /* The next of the name is another. */
        after = make_lock(arena);
        use_stale(lock);
        assert_int_equal(mp_rwlock_try_write(after), 0);
        use_stale(lock);
        assert_int_equal(mp_rwlock_destroy(after), 0);
        mp_rwlock_close(after);
        mp_rwlock_close(lock);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- processes ---- */

static void use_parents_handle(void *user)
{
    mp_rwlock *lock = user;

    /* The parent reads; that is not ours to release. */
    assert(mp_rwlock_release_read(lock) == -EPERM);
    assert(mp_rwlock_try_write(lock) == -EAGAIN);
    assert(mp_rwlock_try_read(lock) == 0);
    assert(readers_of(lock) == 2);
    assert(mp_rwlock_release_read(lock) == 0);
    assert(mp_rwlock_release_read(lock) == -EPERM);
    assert(mp_rwlock_release_write(lock) == -EPERM);
    assert(mp_rwlock_try_read(lock) == 0); /* and ends with it */
}

static void test_fork(void **state)
{
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_rwlock_try_read(lock), 0);
    child_join(child_start(use_parents_handle, lock));
    until(settled(arena, 1));
    assert_int_equal(readers_of(lock), 1);
    assert_int_equal(mp_rwlock_release_read(lock), 0);
    assert_int_equal(mp_rwlock_try_write(lock), 0);
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

static void *read_and_end(void *user)
{
    assert(mp_rwlock_try_read(user) == 0);
    return NULL;
}

/* It belongs to the process: a thread that ends leaves it held, and any other may release it. */
static void test_thread_ends(void **state)
{
    mp_arena *arena = make_arena();
    mp_rwlock *lock = make_lock(arena);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, read_and_end, lock), 0);
    pthread_join(thread, NULL);
    assert_int_equal(mp_rwlock_try_write(lock), -EAGAIN);
    assert_int_equal(mp_rwlock_release_read(lock), 0);
    assert_int_equal(mp_rwlock_try_write(lock), 0);
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

/* ---- deaths ---- */

static void hold_reading(void *user)
{
    for (int i = 0; i < 3; i++)
        assert(mp_rwlock_read(user, PATIENCE) >= 0);
    for (;;)
        pause();
}

static void hold_writing(void *user)
{
    assert(mp_rwlock_write(user, PATIENCE) >= 0);
    for (;;)
        pause();
}

/* What dead readers had comes back, and nobody is told: they wrote nothing. */
static void test_readers_die(void **state)
{
    const uint64_t timeouts[] = {PATIENCE, MP_FOREVER, 0};
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    for (int i = 0; i < 15; i++) {
        pid_t one = child_start(hold_reading, lock), two = child_start(hold_reading, lock);

        until(readers_of(lock) == 6);
        assert_int_equal(mp_rwlock_try_write(lock), -EAGAIN);
        child_kill(one);
        until(settled(arena, 2));
        assert_int_equal(readers_of(lock), 3);
        assert_int_equal(mp_rwlock_try_write(lock), -EAGAIN);
        child_kill(two);
        if (timeouts[i % 3] == 0)
            until(settled(arena, 1));
        assert_int_equal(mp_rwlock_write(lock, timeouts[i % 3]), 0);
        assert_int_equal(mp_rwlock_release_write(lock), 0);
        until(settled(arena, 1));
    }
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

static void leave_dead_writer(mp_rwlock *lock)
{
    pid_t pid = child_start(hold_writing, lock);

    until(writer_of(lock) == pid);
    child_kill(pid);
}

/* Each reader and the next writer are told; the one after him is not. */
static void test_writer_dies(void **state)
{
    const uint64_t timeouts[] = {PATIENCE, MP_FOREVER, 0};
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    for (int i = 0; i < 15; i++) {
        uint64_t timeout = timeouts[i % 3];

        leave_dead_writer(lock);
        if (timeout == 0)
            until(settled(arena, 1));
        if (i % 2)
            for (int k = 0; k < 3; k++) {
                assert_int_equal(mp_rwlock_read(lock, timeout), MP_OWNER_DIED);
                assert_int_equal(mp_rwlock_release_write(lock), -EPERM);
                assert_int_equal(mp_rwlock_release_read(lock), 0);
            }
        assert_int_equal(mp_rwlock_write(lock, timeout), MP_OWNER_DIED);
        assert_int_equal(mp_rwlock_release_write(lock), 0);
        assert_int_equal(mp_rwlock_try_read(lock), 0);
        assert_int_equal(mp_rwlock_release_read(lock), 0);
        assert_int_equal(mp_rwlock_try_write(lock), 0);
        assert_int_equal(mp_rwlock_release_write(lock), 0);
        until(settled(arena, 1));
    }
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

/* A writer that gives up while it drains does not keep the news. */
static void test_news_is_passed_on(void **state)
{
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    leave_dead_writer(lock);
    assert_int_equal(mp_rwlock_read(lock, PATIENCE), MP_OWNER_DIED);
    assert_int_equal(mp_rwlock_try_write(lock), -EAGAIN);
    assert_int_equal(mp_rwlock_write(lock, MP_MSEC(5)), -ETIMEDOUT);
    assert_int_equal(mp_rwlock_try_read(lock), MP_OWNER_DIED);
    assert_int_equal(mp_rwlock_release_read(lock), 0);
    assert_int_equal(mp_rwlock_release_read(lock), 0);
    assert_int_equal(mp_rwlock_try_write(lock), MP_OWNER_DIED);
    assert_int_equal(mp_rwlock_release_write(lock), 0);
    assert_int_equal(mp_rwlock_try_write(lock), 0);
    mp_rwlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

PART(wait_for_dead)
{
    mp_rwlock *lock;
    struct seen *seen = seen_by(part, &lock);
    bool writes = part->index % 2;
    int r = writes ? mp_rwlock_write(lock, PATIENCE) : mp_rwlock_read(lock, PATIENCE);

    assert(r == 0 || r == MP_OWNER_DIED);
    seen->told += writes && r == MP_OWNER_DIED;
    seen->done++;
    assert((writes ? mp_rwlock_release_write(lock) : mp_rwlock_release_read(lock)) == 0);
    mp_rwlock_close(lock);
}

/* Readers and writers asleep behind one who dies, while he writes or reads. */
static void test_waiters_of_dead(void **state)
{
    enum { N = 8 };
    struct seen *seen;
    struct crew crew;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    seen = make_seen(arena);
    for (int i = 0; i < 6; i++) {
        bool writes = i % 2;
        pid_t pid = child_start(writes ? hold_writing : hold_reading, lock);

        until(writes ? writer_of(lock) == pid : readers_of(lock) == 3);
        seen->done = seen->told = 0;
        crew_start(&crew, carrier_of(state), arena, wait_for_dead, N, 0);
        if (writes)
            until(sleepers(arena, MP_WAIT_WRITE) + sleepers(arena, MP_WAIT_READ) == N);
        else
            until(sleepers(arena, MP_WAIT_WRITE) == N / 2);
        child_kill(pid);
        crew_join(&crew);
        assert_int_equal(seen->done, N);
        assert_int_equal(seen->told, writes);
        until(settled(arena, 1));
    }
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

/* Those who wait die, the one that drains among them. */
static void test_waiters_die(void **state)
{
    enum { N = 6 };
    struct seen *seen;
    struct crew crew;
    mp_rwlock *lock;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    seen = make_seen(arena);
    for (int round = 0; round < 6; round++) {
        unsigned killed = 0;

        assert_int_equal(mp_rwlock_try_read(lock) >= 0, 1);
        crew_start(&crew, carrier_of(state), arena, write_once, N, 0);
        until(sleepers(arena, MP_WAIT_WRITE) == N);
        for (unsigned i = 0; i < N; i++)
            if (crew.pids[i] == writer_of(lock) || i % 3 == (unsigned)round % 3) {
                crew_kill(&crew, i);
                killed++;
            }
        assert_true(killed > 0);
        assert_int_equal(mp_rwlock_release_read(lock), 0);
        crew_join(&crew);
        until(settled(arena, 1));
        assert_true(mp_rwlock_write(lock, PATIENCE) >= 0);
        assert_int_equal(mp_rwlock_release_write(lock), 0);
    }
    assert_true(seen->done > 0);
    mp_rwlock_close(lock);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),
        clean_test(test_full),
        clean_test(test_alone),
        clean_test(test_timeout_is_kept),
        on_carriers(test_exclusion),
        on_carriers(test_readers_together),
        on_carriers(test_writer_drains),
        on_carriers(test_writers_in_turn),
        on_carriers(test_writers_do_not_starve),
        on_carriers(test_destroy_wakes),
        carried_test(test_fork, FORK),
        clean_test(test_thread_ends),
        carried_test(test_readers_die, FORK),
        carried_test(test_writer_dies, FORK),
        carried_test(test_news_is_passed_on, FORK),
        on_processes(test_waiters_of_dead),
        on_processes(test_waiters_die),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
