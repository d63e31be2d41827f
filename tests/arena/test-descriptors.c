/* SPDX-License-Identifier: MIT */
/*
 * The descriptors of an arena: closed by the program, not to be had, and the bytes that they lock.
 * And other limits of a process.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/arena.h"
#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20) /* far more than anything here may take */

struct scene {
    mp_arena *arena;
    mp_lock *lock;
    mp_queue *queue;
    struct shared {
        _Atomic(int) ready;
        _Atomic(int) count;
    } * shared;
};

static void scene_make(struct scene *s)
{
    void *block;

    memset(s, 0, sizeof *s);
    assert_int_equal(
        mp_arena_create("live", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32), &s->arena),
        0);
    assert_int_equal(mp_lock_create(s->arena, "lock", &s->lock), 0);
    assert_int_equal(mp_queue_create(s->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = 16), &s->queue),
                     0);
    assert_int_equal(mp_block_create(s->arena, "shared", sizeof *s->shared, &block), 0);
    s->shared = block;
}

static void scene_close(struct scene *s)
{
    until(participants(s->arena) == 1);
    mp_lock_close(s->lock);
    mp_queue_close(s->queue);
    mp_arena_close(s->arena);
}

/* A child closes what it does not know, as daemons do, and opens files of its own. */
static void close_and_open(void *user)
{
    struct scene *s = user;
    struct stat before[16], after;
    int fds[16];

    assert(close_range(3, ~0U, 0) == 0);
    for (int i = 0; i < 16; i++) {
        fds[i] = memfd_create("mine", 0);
        assert(fds[i] >= 0 && fstat(fds[i], &before[i]) == 0);
    }
    assert(mp_queue_put(s->queue, "mine", 4, 0) == 0);
    mp_queue_close(s->queue);
    mp_lock_close(s->lock);
    mp_arena_close(s->arena);
    for (int i = 0; i < 16; i++)
        assert(fstat(fds[i], &after) == 0 && after.st_ino == before[i].st_ino);
}

static void test_closed_descriptors(void **state)
{
    char text[4];
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    child_join(child_start(close_and_open, &s));
    assert_int_equal(mp_queue_get(s.queue, text, 4, PATIENCE, NULL), 0);
    scene_close(&s);
}

/* Without a descriptor to hold its slot's byte nobody would see that it starts another program. */
static void join_without_room(void *user)
{
    struct scene *s = user;

    assert(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 64}) == 0);
    assert(mp_arena_join(s->arena) == -EMFILE);
    assert(mp_lock_acquire(s->lock, MP_FOREVER) == -EMFILE);
    assert(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64}) == 0);
    assert(mp_lock_acquire(s->lock, MP_FOREVER) == 0);
    ++s->shared->ready;
    execlp("sleep", "sleep", "1000", NULL);
    abort();
}

static void test_no_descriptors(void **state)
{
    struct scene s;
    pid_t pid;

    need_carrier(state);
    scene_make(&s);
    pid = child_start(join_without_room, &s);
    until(s.shared->ready == 1);
    assert_int_equal(mp_lock_acquire(s.lock, PATIENCE), MP_OWNER_DIED);
    child_kill(pid);
    scene_close(&s);
}

static void tell_slot(void *user)
{
    struct scene *s = user;

    assert(mp_arena_join(s->arena) == 0);
    s->shared->count = (int)s->arena->self->slot;
}

/* Somebody keeps the byte of a free slot, as a child of its last user may: others are taken. */
static void test_kept_byte(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    char path[32];
    struct scene s;
    uint32_t slot;
    int fd;

    need_carrier(state);
    scene_make(&s);
    slot = (s.arena->self->slot + 1) % s.arena->geometry.participants;
    snprintf(path, sizeof path, "/proc/self/fd/%d", mp_arena_fd(s.arena));
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    lock.l_start = (off_t)slot;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    mp_store_seqcst(&s.arena->header->next_slot, slot);
    child_join(child_start(tell_slot, &s));
    assert_int_equal(s.shared->count, slot + 1);
    close(fd);
    scene_close(&s);
}

/* ---- other limits of a process ---- */

static void create_over_limit(void *user)
{
    mp_arena *arena = NULL;

    (void)user;
    assert(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 20, RLIM_INFINITY}) == 0);
    assert(mp_arena_create("large", NULL, &arena) == -EFBIG);
    assert(!arena);
}

static void test_file_limit(void **state)
{
    need_carrier(state);
    child_join(child_start(create_over_limit, NULL));
}

/* In place of its stack, the keeper too has these. */
static _Thread_local volatile char variables[600 << 10];

static void test_thread_variables(void **state)
{
    mp_arena *arena;

    (void)state;
    variables[0] = 1;
    assert_int_equal(mp_arena_create("variables", NULL, &arena), 0);
    mp_arena_close(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        carried_test(test_closed_descriptors, FORK), carried_test(test_no_descriptors, FORK),
        carried_test(test_kept_byte, FORK),          carried_test(test_file_limit, FORK),
        clean_test(test_thread_variables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
