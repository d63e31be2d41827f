/* SPDX-License-Identifier: MIT */
/* Lineage: another number after every kind of fork, the same for all threads. */

#undef NDEBUG
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/leftovers.h"
#include "kernel/lineage.h"

#define DEPTH 5

static void *ask(void *ret_lineage)
{
    *(uint64_t *)ret_lineage = mp_lineage();
    return NULL;
}

/* In one process: all threads agree, at the first call, too. */
static int check_threads(void)
{
    uint64_t found[4];
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, ask, &found[i]) != 0)
            return 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        if (found[i] == 0 || found[i] != mp_lineage())
            return 2;
    return 0;
}

/* A line of children, none of which has the number of one before it. */
static int descend(uint64_t *line, int depth, int by_syscall)
{
    int status;
    pid_t pid;

    /* Children made by a bare system call have no C library that could start threads. */
    if (!by_syscall && check_threads() != 0)
        return 1;
    line[depth] = mp_lineage();
    for (int i = 0; i < depth; i++)
        if (line[i] == line[depth])
            return 2;
    if (depth + 1 == DEPTH)
        return 0;
    pid = by_syscall ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
    if (pid == 0)
        _exit(descend(line, depth + 1, by_syscall));
    if (pid < 0 || waitpid(pid, &status, 0) != pid || line[depth] != mp_lineage())
        return 3;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}

static void test_fork(void **state)
{
    uint64_t line[DEPTH];

    (void)state;
    assert_int_equal(descend(line, 0, 0), 0);
}

static void test_bare_clone(void **state)
{
    uint64_t line[DEPTH];

    (void)state;
    assert_int_equal(descend(line, 0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {clean_test(test_fork), clean_test(test_bare_clone)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
