/* SPDX-License-Identifier: MIT */
/*
 * What CPython's TestWait asks of connection.wait(), case by case, under its names: pipes, sockets
 * and processes together, which are started by fork and by spawn.
 *
 * A negative timeout (test_neg_timeout), which only looks, is one of 0 here.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/clock.h"
#include "base/leftovers.h"

#define PATIENCE MP_SEC(20)
#define TIMEOUT MP_MSEC(30)

enum { WRITERS = 4, MESSAGES = 10 };

struct greeting {
    int number;
    pid_t pid;
};

static enum mp_start_method method_of(void **state)
{
    return carrier_of(state) == EXEC ? MP_START_SPAWN : MP_START_FORK;
}

/* Not all at once, and each at its own pace. */
static void dawdle(int slow, int i)
{
    if (slow)
        poll(NULL, 0, (getpid() + i * 7) % 10);
}

static void end_process(mp_process *process)
{
    struct mp_exit_info info;

    assert_int_equal(mp_process_join(process, PATIENCE), 0);
    assert_int_equal(mp_process_exit_info(process, &info), 0);
    assert_int_equal(info.code, 0);
    mp_process_free(process);
}

/* ---- pipes ---- */

MP_ENTRY(write_greetings)
{
    for (int i = 0; i < MESSAGES; i++) {
        struct greeting g = {i, getpid()};

        dawdle(*(const int *)call->data, i);
        assert(write(call->fds[0], &g, sizeof g) == sizeof g);
    }
    return 0;
}

/* Read one; false, and it is closed, at the end. */
static bool read_greeting(int fd, mp_process *const *processes, unsigned seen[WRITERS])
{
    struct greeting g;
    ssize_t n = read(fd, &g, sizeof g);
    unsigned who = 0;

    if (n == 0) {
        close(fd);
        return false;
    }
    assert_int_equal(n, sizeof g);
    while (mp_process_pid(processes[who]) != g.pid)
        assert_true(++who < WRITERS);
    assert_int_equal(seen[who] & 1u << g.number, 0);
    seen[who] |= 1u << g.number;
    return true;
}

/* Drop those that are at their end; wait until there are none left. */
static void read_all(struct mp_waitable *readers, mp_process *const *processes,
                     unsigned seen[WRITERS])
{
    uint32_t left = WRITERS;

    while (left > 0) {
        assert_true(mp_wait(readers, left, PATIENCE) > 0);
        for (uint32_t i = left; i-- > 0;)
            if (readers[i].ready && !read_greeting(readers[i].fd, processes, seen))
                readers[i] = readers[--left];
    }
}

static void wait_for_pipes(void **state, int slow)
{
    struct mp_waitable readers[WRITERS];
    mp_process *processes[WRITERS];
    unsigned seen[WRITERS] = {0};

    need_carrier(state);
    for (int i = 0; i < WRITERS; i++) {
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(
            mp_process_start(write_greetings,
                             MP_PROCESS_OPTIONS(.method = method_of(state), MP_DATA(slow),
                                                .fds = &fds[1], .n_fds = 1),
                             &processes[i]),
            0);
        close(fds[1]);
        readers[i] = mp_fd_waitable(fds[0], POLLIN);
    }
    read_all(readers, processes, seen);
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(seen[i], (1u << MESSAGES) - 1);
        end_process(processes[i]);
    }
}

static void test_wait(void **state)
{
    wait_for_pipes(state, 0);
}

static void test_wait_slow(void **state)
{
    wait_for_pipes(state, 1);
}

/* ---- sockets ---- */

struct address {
    int slow;
    socklen_t size;
    struct sockaddr_un un;
};

MP_ENTRY(connect_and_send)
{
    const struct address *a = call->data;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char line[4];

    assert(fd >= 0 && connect(fd, (const struct sockaddr *)&a->un, a->size) == 0);
    for (int i = 0; i < MESSAGES; i++) {
        int n = snprintf(line, sizeof line, "%d\n", i);

        dawdle(a->slow, i);
        assert(send(fd, line, (size_t)n, 0) == n);
    }
    close(fd);
    return 0;
}

/* A name that the kernel makes up, not in the file system. */
static int listen_somewhere(struct address *ret)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ret->un.sun_family = AF_UNIX;
    ret->size = sizeof ret->un;
    assert_int_equal(bind(fd, (struct sockaddr *)&ret->un, sizeof(sa_family_t)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ret->un, &ret->size), 0);
    assert_int_equal(listen(fd, WRITERS), 0);
    return fd;
}

static void wait_for_sockets(void **state, int slow)
{
    struct mp_waitable readers[WRITERS];
    mp_process *processes[WRITERS];
    struct address address = {.slow = slow};
    char texts[WRITERS][64] = {0};
    int of[WRITERS], listener;
    uint32_t left = WRITERS;

    need_carrier(state);
    listener = listen_somewhere(&address);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(
            mp_process_start(connect_and_send,
                             MP_PROCESS_OPTIONS(.method = method_of(state), MP_DATA(address)),
                             &processes[i]),
            0);
    for (int i = 0; i < WRITERS; i++) {
        readers[i] = mp_fd_waitable(accept(listener, NULL, NULL), POLLIN);
        of[i] = i;
    }
    close(listener);
    while (left > 0) {
        assert_true(mp_wait(readers, left, PATIENCE) > 0);
        for (uint32_t i = left; i-- > 0;) {
            char *text = texts[of[i]];
            size_t n = strlen(text);
            ssize_t r;

            if (!readers[i].ready)
                continue;
            r = recv(readers[i].fd, text + n, sizeof texts[0] - 1 - n, 0);
            assert_true(r >= 0);
            if (r > 0)
                continue;
            close(readers[i].fd);
            readers[i] = readers[--left];
            of[i] = of[left];
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        assert_string_equal(texts[i], "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        end_process(processes[i]);
    }
}

static void test_wait_socket(void **state)
{
    wait_for_sockets(state, 0);
}

static void test_wait_socket_slow(void **state)
{
    wait_for_sockets(state, 1);
}

/* ---- timeouts ---- */

static void test_wait_timeout(void **state)
{
    struct mp_waitable w[2];
    uint64_t began;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        w[i] = mp_fd_waitable(fds[i], POLLIN);
    began = mp_now_ns();
    assert_int_equal(mp_wait(w, 2, TIMEOUT), 0);
    assert_true(mp_now_ns() - began >= TIMEOUT);
    assert_int_equal(mp_wait(w, 1, 0), 0); /* test_neg_timeout */
    assert_int_equal(write(fds[1], "", 1), 1);
    assert_int_equal(mp_wait(w, 2, PATIENCE), 1);
    assert_int_equal(w[0].ready, POLLIN);
    assert_int_equal(w[1].ready, 0);
    close(fds[0]);
    close(fds[1]);
}

/* ---- with the end of a process ---- */

MP_ENTRY(signal_and_stay)
{
    mp_semaphore *started;
    mp_event *end;

    assert(mp_semaphore_open(call->arenas[0], "started", &started) == 0);
    assert(mp_event_open(call->arenas[0], "end", &end) == 0);
    assert(mp_semaphore_release(started, 1) == 0);
    assert(mp_event_wait(end, PATIENCE) == 0);
    mp_semaphore_close(started);
    mp_event_close(end);
    return 0;
}

/* Who of a, the process and b is ready, as bits. */
static unsigned ready(struct mp_waitable w[3], uint64_t timeout_ns)
{
    unsigned bits = 0;
    int r = mp_wait(w, 3, timeout_ns);

    for (int i = 0; i < 3; i++) {
        assert_true(w[i].ready == 0 || w[i].ready == POLLIN);
        bits |= (unsigned)(w[i].ready != 0) << i;
    }
    assert_int_equal(r, __builtin_popcount(bits));
    return bits;
}

static void test_wait_integer(void **state)
{
    mp_semaphore *started;
    struct mp_waitable w[3];
    mp_process *process;
    mp_arena *arena;
    mp_event *end;
    int fds[2];

    need_carrier(state);
    assert_int_equal(mp_arena_create("wait", MP_ARENA_OPTIONS(.size = 1 << 20), &arena), 0);
    assert_int_equal(mp_semaphore_create(arena, "started",
                                         MP_SEMAPHORE_OPTIONS(.flags = MP_SEMAPHORE_SIGNALS),
                                         &started),
                     0);
    assert_int_equal(mp_event_create(arena, "end", &end), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(
        mp_process_start(signal_and_stay,
                         MP_PROCESS_OPTIONS(.method = method_of(state), MP_ARENAS(arena)),
                         &process),
        0);
    assert_int_equal(mp_semaphore_acquire(started, PATIENCE), 0);
    w[0] = mp_fd_waitable(fds[0], POLLIN);
    w[1] = mp_process_waitable(process);
    w[2] = mp_fd_waitable(fds[1], POLLIN);
    assert_int_equal(ready(w, TIMEOUT), 0);
    assert_int_equal(mp_event_set(end), 0);
    assert_int_equal(ready(w, PATIENCE), 2);
    assert_int_equal(write(fds[0], "", 1), 1);
    assert_int_equal(ready(w, PATIENCE), 2 | 4);
    assert_int_equal(write(fds[1], "", 1), 1);
    assert_int_equal(ready(w, PATIENCE), 1 | 2 | 4);
    end_process(process);
    close(fds[0]);
    close(fds[1]);
    mp_semaphore_close(started);
    mp_event_close(end);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_processes(test_wait),        on_processes(test_wait_slow),
        on_processes(test_wait_socket), on_processes(test_wait_socket_slow),
        clean_test(test_wait_timeout),  on_processes(test_wait_integer),
    };

    mp_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
