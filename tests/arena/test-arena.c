/* SPDX-License-Identifier: MIT */
/* Arenas: making, attaching, closing, and every error of them. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/cleanup.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define SMALL MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 8, .objects = 16)

static mp_arena *small_arena(void)
{
    mp_arena *arena = NULL;

    assert_int_equal(mp_arena_create("test", SMALL, &arena), 0);
    assert_non_null(arena);
    return arena;
}

/* ---- create ---- */

static void refuse_create(const char *name, const struct mp_arena_options *options, int error)
{
    mp_arena *arena = (mp_arena *)&arena;

    assert_int_equal(mp_arena_create(name, options, &arena), error);
    assert_ptr_equal(arena, &arena); /* no output was written */
}

static void test_create_refuses(void **state)
{
    struct mp_arena_options unfilled = {0};
    char name[MP_NAME_MAX + 2];

    (void)state;
    assert_int_equal(mp_arena_create("test", NULL, NULL), -EINVAL);
    refuse_create(NULL, NULL, -EINVAL);
    refuse_create("test", &unfilled, -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.size = 1), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.size = (64 << 10) - 1), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.size = (UINT64_C(1) << 40) + 1), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.size = UINT64_MAX), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.participants = MP_PARTICIPANTS_MAX + 1), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.participants = UINT32_MAX), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.objects = 65537), -EINVAL);
    refuse_create("test", MP_ARENA_OPTIONS(.objects = UINT32_MAX), -EINVAL);

    refuse_create("", NULL, -ENAMETOOLONG);
    refuse_create("a/b", NULL, -ENAMETOOLONG);
    refuse_create("a\nb", NULL, -ENAMETOOLONG);
    refuse_create("a\x7f", NULL, -ENAMETOOLONG);
    refuse_create("\xc3\xa4", NULL, -ENAMETOOLONG);
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    refuse_create(name, NULL, -ENAMETOOLONG);
}

static void test_longest_name(void **state)
{
    char name[MP_NAME_MAX + 1], link[256];
    char path[64];
    mp_arena *arena;
    ssize_t n;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX] = '\0';
    assert_int_equal(mp_arena_create(name, SMALL, &arena), 0);
    assert_string_equal(mp_arena_name(arena), name);
    snprintf(path, sizeof path, "/proc/self/fd/%d", mp_arena_fd(arena));
    n = readlink(path, link, sizeof link - 1);
    assert_true(n > 0);
    link[n] = '\0';
    assert_non_null(strstr(link, name));
    assert_int_equal(strncmp(link, "/memfd:mp:n", 11), 0);
    mp_arena_close(arena);
}

static void test_defaults(void **state)
{
    struct mp_arena_stats s;
    mp_arena *arena;

    (void)state;
    assert_int_equal(mp_arena_create("default", NULL, &arena), 0);
    assert_int_equal(mp_arena_stats(arena, &s), 0);
    assert_int_equal(s.size, 64 << 20);
    assert_int_equal(s.participants_max, MP_PARTICIPANTS_DEFAULT);
    assert_int_equal(s.participants, 1);
    assert_int_equal(s.objects_max, 1024);
    assert_int_equal(s.objects, 0);
    assert_int_equal(s.deaths, 0);
    assert_true(mp_arena_max_block(arena) >= 32 << 20);
    assert_true(fcntl(mp_arena_fd(arena), F_GETFD) & FD_CLOEXEC);
    mp_arena_close(arena);
}

/* From the smallest to the largest of everything, and sizes that are no powers of two. */
static void test_geometries(void **state)
{
    const struct mp_arena_options all[] = {
        {.size = 64 << 10, .participants = 1, .objects = 1},
        {.size = 65537, .participants = 3, .objects = 3},
        {.size = 100000, .participants = 1, .objects = 1000},
        {.size = 10 << 20, .participants = MP_PARTICIPANTS_MAX, .objects = 65536},
        {.size = (UINT64_C(3) << 30) + 12345, .participants = 2, .objects = 5},
        {.size = UINT64_C(1) << 40, .participants = 2, .objects = 5},
    };

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(all); i++) {
        struct mp_arena_options o = all[i];
        struct mp_arena_stats s;
        mp_arena *arena;
        void *block;

        /* Tools that keep shadows of all memory have less of it. */
        if (o.size > UINT64_C(1) << 33 && (under_thread_sanitizer() || under_valgrind()))
            continue;
        o.struct_size = sizeof o;
        assert_int_equal(mp_arena_create("geometry", &o, &arena), 0);
        assert_int_equal(mp_arena_stats(arena, &s), 0);
        assert_true(s.size >= o.size);
        assert_int_equal(s.participants_max, o.participants);
        assert_int_equal(s.objects_max, o.objects);
        assert_true(mp_arena_max_block(arena) >= o.size / 2);
        assert_int_equal(mp_block_alloc(arena, o.size / 2, 0, &block), 0);
        ((char *)block)[0] = 1;
        ((char *)block)[o.size / 2 - 1] = 1;
        assert_int_equal(mp_block_free(arena, block), 0);
        mp_arena_close(arena);
    }
}

static void test_null_handles(void **state)
{
    struct mp_arena_stats s;
    void *block;

    (void)state;
    assert_null(mp_arena_close(NULL));
    assert_int_equal(mp_arena_fd(NULL), -EINVAL);
    assert_null(mp_arena_name(NULL));
    assert_int_equal(mp_arena_max_block(NULL), 0);
    assert_int_equal(mp_arena_join(NULL), -EINVAL);
    assert_int_equal(mp_arena_stats(NULL, &s), -EINVAL);
    assert_int_equal(mp_block_alloc(NULL, 1, 0, &block), -EINVAL);
    assert_int_equal(mp_block_free(NULL, &block), -EINVAL);
    assert_int_equal(mp_block_create(NULL, "b", 1, &block), -EINVAL);
    assert_int_equal(mp_block_open(NULL, "b", &block, NULL), -EINVAL);
    assert_int_equal(mp_block_destroy(NULL, "b"), -EINVAL);
}

static void test_stats_refuses(void **state)
{
    mp_arena *arena = small_arena();

    (void)state;
    assert_int_equal(mp_arena_stats(arena, NULL), -EINVAL);
    mp_arena_close(arena);
}

/* Where descriptors run out each one that is missing is told of, and none is lost. */
static void test_no_descriptors(void **state)
{
    mp_arena *arena, *other;
    struct rlimit old, none;
    int fd;

    (void)state;
    arena = small_arena();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    fd = dup(0);
    close(fd); /* the first that is free */
    none = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(mp_arena_create("more", SMALL, &other), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(mp_arena_create("more", SMALL, &other), 0);
    mp_arena_close(other);
    mp_arena_close(arena);
}

/* ---- attach ---- */

static void refuse_attach(int fd, int error)
{
    mp_arena *arena = (mp_arena *)&arena;

    assert_int_equal(mp_arena_attach(fd, &arena), error);
    assert_ptr_equal(arena, &arena);
}

static void test_attach_refuses(void **state)
{
    _cleanup_close_ int memfd = memfd_create("mp:not", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    _cleanup_close_ int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    mp_arena *arena = small_arena();
    int fds[2];

    (void)state;
    assert_int_equal(mp_arena_attach(mp_arena_fd(arena), NULL), -EINVAL);
    refuse_attach(-1, -EBADF);
    refuse_attach(INT32_MIN, -EBADF);
    refuse_attach(19999, -EBADF);
    refuse_attach(file, -EPROTO);
    refuse_attach(memfd, -EPROTO);
    assert_int_equal(pipe(fds), 0);
    refuse_attach(fds[0], -EPROTO);
    close(fds[0]);
    close(fds[1]);
    refuse_attach(fds[0], -EBADF);
    mp_arena_close(arena);
}

static void test_attach_twice(void **state)
{
    mp_arena *arena = small_arena(), *second = NULL, *third = NULL;
    _cleanup_close_ int fd = dup(mp_arena_fd(arena));
    mp_lock *lock, *same;

    (void)state;
    assert_int_equal(mp_arena_attach(mp_arena_fd(arena), &second), 0);
    assert_int_equal(mp_arena_attach(fd, &third), 0);
    assert_int_equal(participants(arena), 1);
    assert_int_equal(mp_lock_create(arena, "lock", &lock), 0);
    assert_int_equal(mp_lock_open(third, "lock", &same), 0);
    assert_int_equal(mp_lock_try(lock), 0);
    assert_int_equal(mp_lock_try(same), -EAGAIN);
    mp_arena_close(arena);
    mp_arena_close(second);
    /* The third one still takes part, and holds. */
    assert_int_equal(participants(third), 1);
    assert_int_equal(mp_lock_try(same), -EAGAIN);
    assert_int_equal(mp_lock_release(same), 0);
    mp_lock_close(lock);
    mp_lock_close(same);
    mp_arena_close(third);
}

/* With its last handle a process leaves; the same memfd can be attached again. */
static void test_close_and_attach_again(void **state)
{
    mp_arena *arena = small_arena();
    _cleanup_close_ int fd = dup(mp_arena_fd(arena));
    mp_lock *lock;
    void *block;

    (void)state;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(mp_lock_create(arena, NULL, &lock), 0);
        assert_int_equal(mp_lock_try(lock), 0);
        assert_int_equal(mp_block_alloc(arena, 512 << 10, 0, &block), 0);
        mp_lock_close(lock);
        mp_arena_close(arena);
        assert_int_equal(mp_arena_attach(fd, &arena), 0);
        assert_int_equal(participants(arena), 1);
        /* What it held when it left came back. */
        assert_int_equal(mp_lock_open(arena, "lock-0.1", &lock), 0);
        assert_int_equal(mp_lock_try(lock), MP_OWNER_DIED);
        assert_int_equal(mp_block_alloc(arena, 512 << 10, 0, &block), 0);
        assert_int_equal(mp_block_free(arena, block), 0);
        assert_int_equal(mp_lock_destroy(lock), 0);
        mp_lock_close(lock);
        assert_int_equal(mp_lock_create(arena, "lock-0.1", &lock), 0);
        assert_int_equal(mp_lock_destroy(lock), 0);
        mp_lock_close(lock);
        mp_arena_close(arena);
        close(fd);
        arena = small_arena();
        fd = dup(mp_arena_fd(arena));
    }
    mp_arena_close(arena);
}

PART(attach_and_look)
{
    struct mp_arena_stats s;

    assert(strcmp(mp_arena_name(part->arena), "test") == 0);
    assert(mp_arena_stats(part->arena, &s) == 0);
    assert(s.size == 1 << 20 && s.participants_max == 8 && s.objects_max == 16);
    assert(mp_arena_join(part->arena) == 0);
    assert(participants(part->arena) == (part->carrier == THREADS ? 1 : 2));
}

static void test_attach(void **state)
{
    mp_arena *arena;
    struct crew crew;

    need_carrier(state);
    arena = small_arena();
    crew_start(&crew, carrier_of(state), arena, attach_and_look, 1, 0);
    crew_join(&crew);
    until(participants(arena) == 1);
    mp_arena_close(arena);
}

/* ---- participants ---- */

/* Holds its slot until the parent closes the pipe, or it is killed. */
static void take_slot(void *user)
{
    mp_arena *arena = *(mp_arena **)user;

    assert(mp_arena_join(arena) == 0);
    for (;;)
        pause();
}

/* Everything that would have to take part says so when there is no slot. */
static void find_no_slot(void *user)
{
    mp_arena *arena = *(mp_arena **)user, *again;
    struct mp_message m;
    mp_lock *lock, *l;
    mp_queue *queue, *q;
    void *block;
    char byte;

    lock = ((void **)user)[1];
    queue = ((void **)user)[2];
    assert(mp_arena_join(arena) == -EUSERS);
    assert(mp_arena_attach(mp_arena_fd(arena), &again) == -EUSERS);
    assert(mp_lock_acquire(lock, MP_FOREVER) == -EUSERS);
    assert(mp_lock_try(lock) == -EUSERS);
    assert(mp_lock_create(arena, "new", &l) == -EUSERS);
    assert(mp_lock_open(arena, "lock", &l) == -EUSERS);
    assert(mp_block_alloc(arena, 1, MP_FOREVER, &block) == -EUSERS);
    assert(mp_block_create(arena, "new", 1, &block) == -EUSERS);
    assert(mp_queue_create(arena, "new", NULL, &q) == -EUSERS);
    assert(mp_queue_open(arena, "queue", &q) == -EUSERS);
    assert(mp_queue_loan(queue, 1, MP_FOREVER, &m) == -EUSERS);
    assert(mp_queue_receive(queue, MP_FOREVER, &m) == -EUSERS);
    assert(mp_queue_put(queue, "a", 1, MP_FOREVER) == -EUSERS);
    assert(mp_queue_get(queue, &byte, 1, MP_FOREVER, NULL) == -EUSERS);
    assert(mp_queue_put_batch(queue, "ab", 1, 2, MP_FOREVER) == -EUSERS);
    assert(mp_queue_get_batch(queue, &byte, 1, NULL, 1, MP_FOREVER) == -EUSERS);
    assert(mp_queue_loan_batch(queue, 1, 1, MP_FOREVER, &m) == -EUSERS);
    assert(mp_queue_receive_batch(queue, 1, MP_FOREVER, &m) == -EUSERS);
    assert(mp_queue_fd(queue) == -EUSERS);
}

static void attach_in_vain(void *user)
{
    find_no_slot(user);
}

static void test_no_slot(void **state)
{
    mp_arena *arena;
    mp_lock *lock;
    mp_queue *queue;
    void *all[3];
    pid_t a, b;

    need_carrier(state);
    assert_int_equal(
        mp_arena_create("test", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 3), &arena), 0);
    assert_int_equal(mp_lock_create(arena, "lock", &lock), 0);
    assert_int_equal(mp_queue_create(arena, "queue", NULL, &queue), 0);
    all[0] = arena;
    all[1] = lock;
    all[2] = queue;
    a = child_start(take_slot, all);
    b = child_start(take_slot, all);
    until(participants(arena) == 3);
    child_join(child_start(attach_in_vain, all));

    /* One place is free again as soon as one is gone. */
    child_kill(a);
    a = child_start(take_slot, all);
    until(participants(arena) == 3 && deaths(arena) == 1);
    child_join(child_start(find_no_slot, all));
    child_kill(a);
    child_kill(b);
    until(participants(arena) == 1);
    mp_queue_close(queue);
    mp_lock_close(lock);
    mp_arena_close(arena);
}

static void join_once(void *user)
{
    assert(mp_arena_join(*(mp_arena **)user) == 0);
}

/* Slots are used again and again, whatever ended their users. */
static void test_slots_again(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    assert_int_equal(
        mp_arena_create("test", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 2), &arena), 0);
    for (int i = 0; i < 200; i++) {
        pid_t pid;

        if (i % 2) {
            child_join(child_start(join_once, &arena));
            continue;
        }
        pid = child_start(take_slot, &arena);
        until(participants(arena) == 2);
        child_kill(pid);
    }
    until(participants(arena) == 1);
    until(deaths(arena) == 200);
    mp_arena_close(arena);
}

/* All slots that there may be. */
static void test_most_participants(void **state)
{
    mp_arena *arena;
    pid_t pids[300];
    const uint32_t n = MP_ARRAY_SIZE(pids);

    need_carrier(state);
    assert_int_equal(
        mp_arena_create("test", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = n + 1), &arena),
        0);
    for (uint32_t i = 0; i < n; i++)
        pids[i] = child_start(take_slot, &arena);
    until(participants(arena) == n + 1);
    for (uint32_t i = 0; i < n; i++)
        child_kill(pids[i]);
    until(participants(arena) == 1);
    until(deaths(arena) == n);
    mp_arena_close(arena);
}

/* ---- fork ---- */

static void grandchild(void *user)
{
    mp_arena *arena = *(mp_arena **)user;
    void *block;

    assert(mp_block_open(arena, "block", &block, NULL) == 0);
    assert(mp_arena_join(arena) == 0);
    ++*(_Atomic(int) *)block;
}

static void use_and_fork(void *user)
{
    mp_arena *arena = *(mp_arena **)user;
    void *block;

    /* Without having taken part yet. */
    child_join(child_start(grandchild, user));
    assert(mp_block_open(arena, "block", &block, NULL) == 0);
    assert(mp_block_alloc(arena, 100, 0, &block) == 0);
    child_join(child_start(grandchild, user));
    assert(mp_block_free(arena, block) == 0);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    void *block;

    need_carrier(state);
    arena = small_arena();
    assert_int_equal(mp_block_create(arena, "block", sizeof(int), &block), 0);
    for (int i = 0; i < 20; i++)
        child_join(child_start(use_and_fork, &arena));
    assert_int_equal(*(_Atomic(int) *)block, 40);
    until(participants(arena) == 1);
    mp_arena_close(arena);
}

static void close_unused(void *user)
{
    struct leftovers before;
    mp_arena *arena = *(mp_arena **)user;
    int fd = mp_arena_fd(arena);

    leftovers_count(&before);
    mp_arena_close(arena);
    assert(fcntl(fd, F_GETFD) < 0);
}

static void use_and_close(void *user)
{
    mp_arena *arena = *(mp_arena **)user;

    assert(mp_arena_join(arena) == 0);
    assert(participants(arena) == 2);
    mp_arena_close(arena);
}

static void test_close_in_child(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = small_arena();
    child_join(child_start(close_unused, &arena));
    assert_int_equal(participants(arena), 1);
    child_join(child_start(use_and_close, &arena));
    until(participants(arena) == 1);
    assert_int_equal(deaths(arena), 1);
    mp_arena_close(arena);
}

/* ---- many ---- */

#define MANY 100

static void join_all(void *user)
{
    mp_arena **arenas = user;

    for (int i = 0; i < MANY; i++)
        assert(mp_arena_join(arenas[i]) == 0);
    for (;;)
        pause();
}

/* More arenas than the keeper can wait for in one system call. */
static void test_many_arenas(void **state)
{
    mp_arena *arenas[MANY];
    pid_t pid;

    need_carrier(state);
    for (int i = 0; i < MANY; i++)
        arenas[i] = small_arena();
    pid = child_start(join_all, arenas);
    until(participants(arenas[MANY - 1]) == 2);
    child_kill(pid);
    for (int i = 0; i < MANY; i++)
        until(participants(arenas[i]) == 1 && deaths(arenas[i]) == 1);
    for (int i = 0; i < MANY; i++)
        mp_arena_close(arenas[i]);
}

/* The kernel looks after 2048 entries of a robust list, so more can not be taken part in. */
static void test_too_many_arenas(void **state)
{
    enum { LIMIT = 2048 };
    static mp_arena *arenas[LIMIT + 1];
    struct rlimit limit;
    int n = 0, r = 0;

    need_carrier(state);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 2 * LIMIT + 100)
        skip();
    while (n <= LIMIT) {
        r = mp_arena_create("many",
                            MP_ARENA_OPTIONS(.size = 64 << 10, .participants = 1, .objects = 1),
                            &arenas[n]);
        if (r < 0)
            break;
        n++;
    }
    for (int i = 0; i < n; i++)
        mp_arena_close(arenas[i]);
    assert_int_equal(n, LIMIT);
    assert_int_equal(r, -EMFILE);
}

/* ---- threads ---- */

static void *open_and_close(void *user)
{
    int fd = *(int *)user;

    for (int i = 0; i < 200; i++) {
        mp_arena *arena;
        void *block;

        assert(mp_arena_attach(fd, &arena) == 0);
        assert(mp_block_alloc(arena, 100, 0, &block) == 0);
        assert(mp_block_free(arena, block) == 0);
        mp_arena_close(arena);
    }
    return NULL;
}

/* Threads that each come and go in an arena of their own, and in one that they share. */
static void test_threads_come_and_go(void **state)
{
    mp_arena *arena = small_arena();
    pthread_t threads[4];
    int fd = mp_arena_fd(arena);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, &fd), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(participants(arena), 1);
    assert_int_equal(deaths(arena), 0);
    mp_arena_close(arena);
}

static void *make_and_close(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50; i++) {
        mp_arena *arena;
        void *block;

        assert(mp_arena_create("own", SMALL, &arena) == 0);
        assert(mp_block_alloc(arena, 100, 0, &block) == 0);
        mp_arena_close(arena);
    }
    return NULL;
}

static void test_threads_with_own(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_close, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_create_refuses),
        clean_test(test_longest_name),
        clean_test(test_defaults),
        clean_test(test_geometries),
        clean_test(test_null_handles),
        clean_test(test_stats_refuses),
        clean_test(test_no_descriptors),
        clean_test(test_attach_refuses),
        clean_test(test_attach_twice),
        clean_test(test_close_and_attach_again),
        on_carriers(test_attach),
        carried_test(test_no_slot, FORK),
        carried_test(test_slots_again, FORK),
        carried_test(test_most_participants, FORK),
        carried_test(test_fork, FORK),
        carried_test(test_close_in_child, FORK),
        carried_test(test_many_arenas, FORK),
        carried_test(test_too_many_arenas, FORK),
        clean_test(test_threads_come_and_go),
        clean_test(test_threads_with_own),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
