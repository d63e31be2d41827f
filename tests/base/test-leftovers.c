/* SPDX-License-Identifier: MIT */
/* The watchman is watched: each kind of leftover is seen, and gone when it is gone. */

#undef NDEBUG
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/leftovers.h"

enum { FD, MAPPING, THREAD, CHILD };

static void assert_more(const struct leftovers *before, int kind, unsigned more)
{
    struct leftovers now;

    leftovers_count(&now);
    assert_int_equal(now.n[kind], before->n[kind] + more);
}

static void test_descriptor(void **state)
{
    struct leftovers before;
    int fd;

    (void)state;
    leftovers_count(&before);
    fd = dup(0);
    assert_true(fd >= 0);
    assert_more(&before, FD, 1);
    close(fd);
    assert_more(&before, FD, 0);
    assert_int_equal(leftovers_check(&before), 0);
}

static void test_mapping(void **state)
{
    struct leftovers before;
    void *map;
    int fd;

    (void)state;
    leftovers_count(&before);
    fd = memfd_create("mp:left", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    close(fd);
    assert_more(&before, MAPPING, 1);
    munmap(map, 4096);
    assert_more(&before, MAPPING, 0);
}

static void *wait_for_close(void *fd)
{
    char byte;

    return (void *)(intptr_t)read(*(int *)fd, &byte, 1);
}

static void test_thread(void **state)
{
    struct leftovers before;
    pthread_t thread;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    leftovers_count(&before);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_close, &fds[0]), 0);
    assert_more(&before, THREAD, 1);
    close(fds[1]);
    pthread_join(thread, NULL);
    close(fds[0]);
    assert_int_equal(leftovers_check(&before), 0);
}

static void test_child(void **state)
{
    struct leftovers before;
    pid_t child;

    (void)state;
    leftovers_count(&before);
    child = fork();
    if (child == 0)
        _exit(0);
    assert_true(child > 0);
    /* Running or a zombie: it counts until it is reaped. */
    assert_more(&before, CHILD, 1);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_more(&before, CHILD, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_descriptor),
        clean_test(test_mapping),
        clean_test(test_thread),
        clean_test(test_child),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
