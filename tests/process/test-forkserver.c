/* SPDX-License-Identifier: MIT */
/*
 * The forkserver itself: its hooks, and what happens when it is killed or stopped at any moment.
 * Everything that its children have in common with others is in the tests of all methods.
 */

#undef NDEBUG
#include <errno.h>
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/clock.h"
#include "base/leftovers.h"
#include "base/until.h"
#include "kernel/memfd.h"
#include "kernel/pidfd.h"

#define START(entry, ret, ...) \
    mp_process_start(entry, MP_PROCESS_OPTIONS(.method = MP_START_FORKSERVER, __VA_ARGS__), ret)

/* What hooks and children count in. */
struct counts {
    _Atomic(uint32_t) begun;
};

static struct counts *counts;
static int counts_fd;

static struct counts *map_counts(int fd)
{
    struct counts *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return c == MAP_FAILED ? NULL : c;
}

MP_ENTRY(returns_seven)
{
    return 7;
}

MP_ENTRY(counts_itself)
{
    struct counts *c = map_counts(call->fds[0]);

    if (!c)
        return 1;
    c->begun++;
    return 0;
}

MP_ENTRY(waits)
{
    while (pause() < 0)
        ;
    return 0;
}

static int preloaded; /* by a hook, in the server */

MP_ENTRY(preloads)
{
    preloaded++;
    return 0;
}

MP_ENTRY(preloads_more)
{
    preloaded += 10;
    return 0;
}

MP_ENTRY(tells_preloaded)
{
    return preloaded;
}

MP_ENTRY(fails)
{
    return 1;
}

MP_ENTRY(dies)
{
    raise(SIGKILL);
    return 0;
}

static int finish(mp_process *p)
{
    struct mp_exit_info info;

    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_exit_info(p, &info), 0);
    mp_process_free(p);
    return info.known ? info.code : 1000;
}

static int run(mp_entry_fn *entry)
{
    mp_process *p;

    assert_int_equal(START(entry, &p), 0);
    return finish(p);
}

/* The forkserver that this process has now; 0: none. It has one child that executes the program
 * under another name. */
static pid_t server(void)
{
    pid_t found = 0, pid;
    FILE *f;
    char path[64], line[512];

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    f = fopen(path, "re");
    assert_non_null(f);
    while (fscanf(f, "%d", &pid) == 1) {
        FILE *command;
        size_t n;

        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
        command = fopen(path, "re");
        if (!command)
            continue;
        n = fread(line, 1, sizeof line, command);
        fclose(command);
        if (n > sizeof "forkserver" &&
            memcmp(line + n - sizeof "forkserver", "forkserver", sizeof "forkserver") == 0)
            found = pid;
    }
    fclose(f);
    return found;
}

static void signal_server(int signal)
{
    int fd;
    pid_t pid;

    until((pid = server()) != 0);
    fd = mp_pidfd_open(pid);
    assert_true(fd >= 0);
    assert_int_equal(mp_pidfd_signal(fd, signal), 0);
    if (signal == SIGKILL)
        assert_int_equal(mp_pidfd_wait(fd, MP_FOREVER), 1);
    close(fd);
}

static int before(void **state)
{
    assert_int_equal(mp_forkserver_preload(NULL, 0), 0);
    if (server() == 0)
        assert_int_equal(run(returns_seven), 7);
    return leftovers_before(state);
}

/* ---- hooks ---- */

static void test_hooks(void **state)
{
    mp_entry_fn *hooks[] = {preloads, preloads_more};
    mp_process *p;

    (void)state;
    assert_int_equal(mp_forkserver_preload(hooks, 2), 0);
    /* The one that runs has had its hooks: none. */
    assert_int_equal(run(tells_preloaded), 0);
    signal_server(SIGKILL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(run(tells_preloaded), 11);
    hooks[0] = fails;
    assert_int_equal(mp_forkserver_preload(hooks, 2), 0);
    assert_int_equal(run(tells_preloaded), 11);
    signal_server(SIGKILL);
    assert_int_equal(START(returns_seven, &p), -ECANCELED);
    hooks[0] = dies;
    assert_int_equal(mp_forkserver_preload(hooks, 2), 0);
    assert_int_equal(START(returns_seven, &p), -ECANCELED);
    assert_int_equal(mp_forkserver_preload(NULL, 0), 0);
    assert_int_equal(run(tells_preloaded), 0);
}

static int not_an_entry(const struct mp_call *call)
{
    (void)call;
    return 0;
}

static void test_bad_hooks(void **state)
{
    mp_entry_fn *hooks[MP_FORKSERVER_HOOKS_MAX + 1] = {preloads, not_an_entry, NULL};

    (void)state;
    assert_int_equal(mp_forkserver_preload(NULL, 1), -EINVAL);
    assert_int_equal(mp_forkserver_preload(hooks, MP_FORKSERVER_HOOKS_MAX + 1), -E2BIG);
    assert_int_equal(mp_forkserver_preload(hooks, 2), -ENOENT);
    hooks[1] = NULL;
    assert_int_equal(mp_forkserver_preload(hooks, 2), -ENOENT);
    assert_int_equal(START(not_an_entry, NULL), -ENOENT);
}

/* ---- the server dies, or stands still ---- */

static void test_killed_between(void **state)
{
    mp_process *p;

    (void)state;
    assert_int_equal(START(waits, &p), 0);
    signal_server(SIGKILL);
    /* The child goes on, and its end is known where the kernel tells. */
    assert_int_equal(mp_process_join(p, MP_MSEC(20)), -ETIMEDOUT);
    assert_int_equal(run(returns_seven), 7);
    assert_int_equal(mp_process_kill(p), 0);
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    mp_process_free(p);
    assert_int_equal(run(returns_seven), 7);
}

/* Also one that was killed before it began ends in a known way, whatever the kernel tells. */
static void test_killed_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        mp_process *p;

        assert_int_equal(START(waits, &p), 0);
        assert_int_equal(mp_process_kill(p), 0);
        assert_int_equal(finish(p), -SIGKILL);
    }
}

static void test_stopped(void **state)
{
    struct mp_exit_info info;
    mp_process *p, *late;

    (void)state;
    assert_int_equal(START(waits, &p), 0);
    signal_server(SIGSTOP);
    assert_int_equal(mp_process_kill(p), 0);
    /* That it has ended anybody can see; how, its parent has to say. */
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_is_alive(p), 0);
    assert_int_equal(mp_process_exit_info(p, &info), -EAGAIN);
    assert_int_equal(START(returns_seven, &late), -ETIMEDOUT);
    signal_server(SIGCONT);
    until(mp_process_exit_info(p, &info) == 0);
    assert_int_equal(info.signal, SIGKILL);
    mp_process_free(p);
    assert_int_equal(run(returns_seven), 7);
}

static void *kill_servers(void *stop)
{
    while (!*(_Atomic(bool) *)stop) {
        pid_t pid = server();
        int fd = pid ? mp_pidfd_open(pid) : -1;

        if (fd >= 0) {
            mp_pidfd_signal(fd, SIGKILL);
            close(fd);
        }
        poll(NULL, 0, 1 + rand() % 8);
    }
    return NULL;
}

/* However often it is killed: who was started has begun once, who was not has not. */
static void test_killed_at_any_moment(void **state)
{
    _Atomic(bool) stop = false;
    uint32_t started = 0;
    pthread_t killer;

    (void)state;
    counts->begun = 0;
    assert_int_equal(pthread_create(&killer, NULL, kill_servers, &stop), 0);
    for (int i = 0; i < 300; i++) {
        mp_process *p;
        int r = START(counts_itself, &p, .fds = &counts_fd, .n_fds = 1);

        assert_true(r == 0 || r == -EAGAIN || r == -ECANCELED);
        if (r < 0)
            continue;
        started++;
        assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
        mp_process_free(p);
    }
    stop = true;
    pthread_join(killer, NULL);
    printf("%u of 300 started\n", started);
    assert_true(started > 0);
    assert_int_equal(counts->begun, started);
    assert_int_equal(run(returns_seven), 7);
}

/* ---- no standard streams ---- */

/* All that was passed is what it was, and the numbers of the standard streams are nobody's. */
MP_ENTRY(looks_at_fds)
{
    for (size_t i = 0; i < call->n_fds; i++)
        if (call->fds[i] <= STDERR_FILENO || !map_counts(call->fds[i]))
            return 1;
    if (mp_process_is_alive(mp_process_parent()) != 1)
        return 3;
    return fcntl(STDOUT_FILENO, F_GETFD) < 0 && fcntl(STDERR_FILENO, F_GETFD) < 0 ? 7 : 2;
}

MP_ENTRY(starts_without_streams)
{
    int passed[] = {call->fds[0], call->fds[0], call->fds[0], call->fds[0]};
    struct mp_exit_info info;
    mp_process *p;

    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    for (int i = 0; i < 2; i++) {
        if (START(looks_at_fds, &p, .fds = passed, .n_fds = 4) < 0 ||
            mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0)
            return 10;
        mp_process_free(p);
        if (info.code != 7)
            return info.code;
    }
    return 7;
}

static void test_without_streams(void **state)
{
    mp_process *p;

    (void)state;
    assert_int_equal(mp_process_start(starts_without_streams,
                                      MP_PROCESS_OPTIONS(.method = MP_START_SPAWN,
                                                         .fds = &counts_fd, .n_fds = 1),
                                      &p),
                     0);
    assert_int_equal(finish(p), 7);
}

/* ---- its owner ends ---- */

MP_ENTRY(owns_a_server)
{
    pid_t pid;

    if (run(returns_seven) != 7)
        return 1;
    pid = server();
    return write(call->fds[0], &pid, sizeof pid) == sizeof pid ? 0 : 1;
}

MP_ENTRY(owns_a_server_and_is_killed)
{
    mp_process *p;
    pid_t pids[2];

    if (START(waits, &p, .daemon = 1) < 0)
        return 1;
    pids[0] = server();
    pids[1] = mp_process_pid(p);
    if (write(call->fds[0], pids, sizeof pids) != sizeof pids)
        return 1;
    raise(SIGKILL);
    return 1;
}

static bool is_gone(pid_t pid)
{
    char state = mp_task_state(pid);

    return state == 0 || state == 'Z';
}

static void test_owner_ends(void **state)
{
    mp_process *p;
    pid_t pids[2];
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(
        mp_process_start(owns_a_server,
                         MP_PROCESS_OPTIONS(.method = MP_START_SPAWN, .fds = &ends[1], .n_fds = 1),
                         &p),
        0);
    assert_int_equal(read(ends[0], pids, sizeof pids[0]), sizeof pids[0]);
    assert_int_equal(finish(p), 0);
    until(is_gone(pids[0]));
    assert_int_equal(
        mp_process_start(owns_a_server_and_is_killed,
                         MP_PROCESS_OPTIONS(.method = MP_START_SPAWN, .fds = &ends[1], .n_fds = 1),
                         &p),
        0);
    assert_int_equal(read(ends[0], pids, sizeof pids), sizeof pids);
    assert_int_equal(finish(p), -SIGKILL);
    until(is_gone(pids[0]));
    until(is_gone(pids[1]));
    close(ends[0]);
    close(ends[1]);
}

#define with_server(f) cmocka_unit_test_setup_teardown(f, before, leftovers_after)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        with_server(test_hooks),           with_server(test_bad_hooks),
        with_server(test_stopped),         with_server(test_killed_at_once),
        with_server(test_killed_between),  with_server(test_owner_ends),
        with_server(test_without_streams), with_server(test_killed_at_any_moment),
    };
    int r;

    mp_main(argc, argv);
    counts_fd = mp_memfd_create("counts", sizeof *counts);
    counts = map_counts(counts_fd);
    assert(counts);
    r = cmocka_run_group_tests(tests, NULL, NULL);
    munmap(counts, sizeof *counts);
    close(counts_fd);
    return r;
}
