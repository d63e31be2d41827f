/* SPDX-License-Identifier: MIT */
/* Executing a program: what it has open, what fails, and who hears of it. */

#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/leftovers.h"
#include "kernel/exec.h"
#include "kernel/memfd.h"
#include "kernel/pidfd.h"

static int run(const char *path, char *const *argv, int *fds, unsigned n_fds)
{
    struct mp_exec exec = {
        .path = path, .argv = argv, .envp = environ, .fds = fds, .n_fds = n_fds, .lifeline = -1};
    struct rusage usage;
    int pidfd = -2, status;
    pid_t pid = -2;
    int r = mp_exec_start(&exec, &pid, &pidfd);

    if (r < 0) {
        assert_int_equal(pid, -2);
        assert_int_equal(pidfd, -2);
        return r;
    }
    assert_true(pid > 0);
    assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(mp_pidfd_wait(pidfd, MP_FOREVER), 1);
    assert_int_equal(mp_pidfd_reap(pidfd, &status, &usage), 1);
    assert_int_equal(mp_pidfd_reap(pidfd, &status, &usage), -ECHILD);
    close(pidfd);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define RUN(command, fds, n) run("/bin/sh", ((char *[]){"sh", "-c", command, NULL}), fds, n)

static void test_codes(void **state)
{
    (void)state;
    assert_int_equal(RUN("exit 0", NULL, 0), 0);
    assert_int_equal(RUN("exit 9", NULL, 0), 9);
}

/* What was passed is 3 and up, in this order, whatever numbers it had; nothing else is open. */
static void test_fds(void **state)
{
    int ends[2], other[2], fds[3];
    char text[8] = "";

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(pipe2(other, O_CLOEXEC), 0);
    fds[0] = other[1];
    fds[1] = ends[1];
    fds[2] = ends[1];
    assert_int_equal(RUN("echo a >&4; echo b >&5; echo c >&3;"
                         "for n in 6 7 8 9; do [ -e /dev/fd/$n ] && exit 1; done; exit 0",
                         fds, 3),
                     0);
    assert_int_equal(read(ends[0], text, sizeof text), 4);
    assert_string_equal(text, "a\nb\n");
    assert_int_equal(read(other[0], text, sizeof text), 2);
    assert_int_equal(text[0], 'c');
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(other[i]);
    }
}

static int heard;

static void hear(int signal)
{
    (void)signal;
    heard++;
}

/* A child that could not execute is nobody's business. */
static void test_failures(void **state)
{
    struct sigaction action = {.sa_handler = hear}, old;
    struct rlimit limit, low = {.rlim_cur = 8};
    int closed[1] = {1000};

    (void)state;
    sigaction(SIGCHLD, &action, &old);
    assert_int_equal(run("/no/such/program", ((char *[]){"x", NULL}), NULL, 0), -ENOENT);
    assert_int_equal(run("/dev/null", ((char *[]){"x", NULL}), NULL, 0), -EACCES);
    assert_int_equal(RUN("exit 0", closed, 1), -EBADF);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low.rlim_max = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(RUN("exit 0", ((int[]){0, 1, 2, 0, 1, 2}), 6), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    assert_int_equal(heard, 0);
    assert_int_equal(RUN("exit 0", NULL, 0), 0);
    assert_int_equal(heard, 1);
    sigaction(SIGCHLD, &old, NULL);
}

static void test_frozen(void **state)
{
    struct iovec parts[] = {{.iov_base = "first", .iov_len = 5},
                            {.iov_base = "", .iov_len = 0},
                            {.iov_base = " second", .iov_len = 8}};
    uint64_t size = 0;
    char text[16];
    int fd = mp_memfd_freeze("frozen", parts, 3);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(mp_memfd_check_frozen(fd, &size), 0);
    assert_int_equal(size, 13);
    assert_int_equal(pread(fd, text, sizeof text, 0), 13);
    assert_string_equal(text, "first second");
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    close(fd);
    fd = mp_memfd_create("not frozen", 64);
    assert_int_equal(mp_memfd_check_frozen(fd, &size), -EPROTO);
    close(fd);
    assert_int_equal(mp_memfd_check_frozen(fd, &size), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {clean_test(test_codes), clean_test(test_fds),
                                       clean_test(test_failures), clean_test(test_frozen)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
