/* SPDX-License-Identifier: MIT */
/* Named shared memory: what CPython's tests of SharedMemory try, and every error. What the machine
 * refuses stands in test-shared-memory-limits.c. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/carrier.h"
#include "shared/segments.h"

static mp_shared_memory *create(const char *name, size_t size)
{
    mp_shared_memory *m = NULL;

    assert_int_equal(mp_shared_memory_create(name, size, &m), 0);
    assert_non_null(m);
    return m;
}

static mp_shared_memory *open_again(const mp_shared_memory *m)
{
    mp_shared_memory *other = NULL;

    assert_int_equal(mp_shared_memory_open(mp_shared_memory_name(m), &other), 0);
    assert_non_null(other);
    return other;
}

static void drop(mp_shared_memory *m)
{
    assert_int_equal(mp_shared_memory_unlink(m), 0);
    assert_null(mp_shared_memory_close(m));
}

/* ---- what CPython tests ---- */

static void test_basics(void **state)
{
    const char *name = own_name("basics");
    mp_shared_memory *m = create(name, 512), *also;
    unsigned char *data = mp_shared_memory_data(m);

    (void)state;
    assert_string_equal(mp_shared_memory_name(m), name);
    assert_int_equal(mp_shared_memory_size(m), 512);
    for (size_t i = 0; i < 512; i++)
        assert_int_equal(data[i], 0);
    data[0] = 42;
    data[511] = 43;

    also = open_again(m);
    assert_int_equal(mp_shared_memory_size(also), 512);
    assert_ptr_not_equal(mp_shared_memory_data(also), data);
    assert_int_equal(((unsigned char *)mp_shared_memory_data(also))[0], 42);
    assert_int_equal(((unsigned char *)mp_shared_memory_data(also))[511], 43);
    ((unsigned char *)mp_shared_memory_data(also))[1] = 44;
    assert_null(mp_shared_memory_close(also));

    /* Closing one handle does nothing to the other. */
    assert_int_equal(data[1], 44);
    drop(m);
}

static void test_recreate(void **state)
{
    const char *name = own_name("recreate");
    mp_shared_memory *m = create(name, 100), *again = NULL;

    (void)state;
    assert_int_equal(mp_shared_memory_create(name, 100, &again), -EEXIST);
    assert_null(again);
    assert_int_equal(mp_shared_memory_unlink(m), 0);
    assert_int_equal(mp_shared_memory_unlink(m), -ENOENT);
    again = create(name, 200);
    assert_int_equal(mp_shared_memory_size(again), 200);
    drop(again);
    mp_shared_memory_close(m);
}

static void test_made_up_names(void **state)
{
    mp_shared_memory *a = create(NULL, 1), *b = create(NULL, 1), *again;
    const char *name = mp_shared_memory_name(a);

    (void)state;
    assert_int_equal(strlen(name), 12);
    assert_int_equal(strncmp(name, "psm_", 4), 0);
    assert_int_equal(strspn(name + 4, "0123456789abcdef"), 8);
    assert_string_not_equal(name, mp_shared_memory_name(b));
    again = open_again(a);
    mp_shared_memory_close(again);
    drop(a);
    drop(b);
}

static void refuse_create(const char *name, size_t size, int error)
{
    mp_shared_memory *m = (mp_shared_memory *)&m;

    assert_int_equal(mp_shared_memory_create(name, size, &m), error);
    assert_ptr_equal(m, &m); /* no output was written */
}

static void refuse_open(const char *name, int error)
{
    mp_shared_memory *m = (mp_shared_memory *)&m;

    assert_int_equal(mp_shared_memory_open(name, &m), error);
    assert_ptr_equal(m, &m);
}

static void test_create_refuses(void **state)
{
    const char *name = own_name("refused");

    (void)state;
    refuse_create(name, 0, -EINVAL);
    refuse_create(name, (size_t)SSIZE_MAX + 1, -EINVAL);
    refuse_create(name, SIZE_MAX, -EINVAL);
    refuse_create(NULL, 0, -EINVAL);
    assert_int_equal(mp_shared_memory_create(name, 1, NULL), -EINVAL);
    assert_false(is_there(name));
}

/* What can not be had is told at once: /dev/shm is not filled up first. */
static void test_too_large(void **state)
{
    (void)state;
    refuse_create(own_name("large"), SSIZE_MAX, -ENOSPC);
    refuse_create(NULL, (size_t)1 << 60, -ENOSPC);
    assert_false(is_there(own_name("large")));
}

static void test_no_names(void **state)
{
    static const char *const none[] = {"", ".", "..", "/", "/a", "a/", "a/b", "../x"};
    char name[MP_SHARED_MEMORY_NAME_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        refuse_create(none[i], 1, -ENAMETOOLONG);
        refuse_open(none[i], -ENAMETOOLONG);
        assert_int_equal(mp_shared_memory_unlink_name(none[i]), -ENAMETOOLONG);
    }
    memset(name, 'n', sizeof name);
    name[MP_SHARED_MEMORY_NAME_MAX + 1] = '\0';
    refuse_create(name, 1, -ENAMETOOLONG);
    refuse_open(name, -ENAMETOOLONG);
    assert_int_equal(mp_shared_memory_unlink_name(name), -ENAMETOOLONG);
    name[MP_SHARED_MEMORY_NAME_MAX] = '\0';
    drop(create(name, 1));
    drop(create(own_name("g\xc3\xbcltig, with spaces"), 1));
    drop(create(own_name("...dots"), 1));
}

static void test_open_refuses(void **state)
{
    const char *name = own_name("nobody");

    (void)state;
    refuse_open(NULL, -EINVAL);
    refuse_open(name, -ENOENT);
    assert_int_equal(mp_shared_memory_open(name, NULL), -EINVAL);
    assert_int_equal(mp_shared_memory_unlink_name(NULL), -EINVAL);
    assert_int_equal(mp_shared_memory_unlink_name(name), -ENOENT);
}

/* What lies in /dev/shm and is no segment; none of it may keep us waiting. */
static void test_no_segments(void **state)
{
    const char *name = own_name("strange");
    mp_shared_memory *m;
    int fd;

    (void)state;
    assert_int_equal(mkdir(path_of(name), 0700), 0);
    refuse_open(name, -EPROTO);
    refuse_create(name, 1, -EEXIST);
    assert_int_equal(mp_shared_memory_unlink_name(name), -EPROTO);
    assert_int_equal(rmdir(path_of(name)), 0);

    assert_int_equal(mkfifo(path_of(name), 0600), 0);
    refuse_open(name, -EPROTO);
    assert_int_equal(mp_shared_memory_unlink_name(name), 0);

    m = create(own_name("target"), 1);
    assert_int_equal(symlink(mp_shared_memory_name(m), path_of(name)), 0);
    refuse_open(name, -EPROTO);
    refuse_create(name, 1, -EEXIST);
    assert_int_equal(mp_shared_memory_unlink_name(name), 0);
    drop(m);

    fd = sparse_file(name, 0);
    refuse_open(name, -EAGAIN);
    refuse_create(name, 1, -EEXIST);
    assert_int_equal(mp_shared_memory_unlink_name(name), 0);
    close(fd);
}

static void open_as_nobody(void *user)
{
    mp_shared_memory *m;

    if (geteuid() == 0)
        assert(setresuid(65534, 65534, 65534) == 0);
    assert(mp_shared_memory_open(user, &m) == -EACCES);
}

static void test_no_permission(void **state)
{
    const char *name = own_name("forbidden");
    mp_shared_memory *m = create(name, 1);

    (void)state;
    if (geteuid() != 0)
        assert_int_equal(chmod(path_of(name), 0), 0);
    child_join(child_start(open_as_nobody, (void *)(uintptr_t)name));
    drop(m);
}

static void test_null_handles(void **state)
{
    char byte;

    (void)state;
    assert_null(mp_shared_memory_close(NULL));
    assert_int_equal(mp_shared_memory_unlink(NULL), -EINVAL);
    assert_null(mp_shared_memory_data(NULL));
    assert_int_equal(mp_shared_memory_size(NULL), 0);
    assert_null(mp_shared_memory_name(NULL));
    assert_int_equal(mp_shared_memory_fd(NULL), -EINVAL);
    assert_int_equal(mp_shared_memory_links(NULL), -EINVAL);
    assert_int_equal(mp_shared_memory_read(NULL, 0, &byte, 1), -EINVAL);
    assert_int_equal(mp_shared_memory_write(NULL, 0, &byte, 1), -EINVAL);
}

/* ---- names ---- */

static void test_unlinked(void **state)
{
    mp_shared_memory *m = create(NULL, 4096), *other = open_again(m);
    char *data = mp_shared_memory_data(m);

    (void)state;
    assert_int_equal(mp_shared_memory_links(m), 1);
    assert_int_equal(mp_shared_memory_links(other), 1);
    assert_int_equal(mp_shared_memory_unlink_name(mp_shared_memory_name(m)), 0);
    assert_int_equal(mp_shared_memory_links(m), 0);
    assert_int_equal(mp_shared_memory_links(other), 0);
    refuse_open(mp_shared_memory_name(m), -ENOENT);
    assert_int_equal(mp_shared_memory_unlink(m), -ENOENT);
    /* Those who have it keep it. */
    data[4095] = 1;
    assert_int_equal(((char *)mp_shared_memory_data(other))[4095], 1);
    mp_shared_memory_close(m);
    assert_int_equal(((char *)mp_shared_memory_data(other))[4095], 1);
    mp_shared_memory_close(other);
}

static void test_unlink_of_another(void **state)
{
    const char *name = own_name("taken-over");
    mp_shared_memory *first = create(name, 10), *second;

    (void)state;
    assert_int_equal(mp_shared_memory_unlink_name(name), 0);
    second = create(name, 20);
    assert_int_equal(mp_shared_memory_unlink(first), -ESTALE);
    assert_int_equal(mp_shared_memory_links(second), 1);
    mp_shared_memory_close(first);
    drop(second);
}

/* Whoever looks into /proc finds the name, not the unnamed file that it was made of. */
static void test_looks(void **state)
{
    const char *name = own_name("looks");
    mp_shared_memory *m = create(name, 12345);
    char path[64], link[300];
    struct stat st;
    ssize_t n;

    (void)state;
    assert_int_equal(mappings(name), 1);
    assert_int_equal(mappings("(deleted)"), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", mp_shared_memory_fd(m));
    n = readlink(path, link, sizeof link - 1);
    assert_true(n > 0);
    link[n] = '\0';
    assert_string_equal(link, path_of(name));
    assert_true(fcntl(mp_shared_memory_fd(m), F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fstat(mp_shared_memory_fd(m), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_size, 12345);
    assert_true(st.st_blocks * 512 >= 12345);
    drop(m);
}

/* ---- size ---- */

/* What its creator left in holes has memory once it is open, and holds the same. */
static void test_holes(void **state)
{
    const char *name = own_name("holes");
    off_t size = (1 << 20) + 1;
    int fd = sparse_file(name, size);
    mp_shared_memory *m;
    struct stat st;

    (void)state;
    assert_int_equal(pwrite(fd, "x", 1, 70000), 1);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_blocks * 512 < size);
    assert_int_equal(mp_shared_memory_open(name, &m), 0);
    assert_int_equal(mp_shared_memory_size(m), size);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_blocks * 512 >= size);
    assert_int_equal(st.st_size, size);
    assert_int_equal(((char *)mp_shared_memory_data(m))[70000], 'x');
    assert_int_equal(((char *)mp_shared_memory_data(m))[70001], 0);
    close(fd);
    drop(m);
}

static void test_read_and_write(void **state)
{
    mp_shared_memory *m = create(NULL, 10000);
    char out[10000], in[10000];

    (void)state;
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7 + 1);
    assert_int_equal(mp_shared_memory_write(m, 0, out, sizeof out), 0);
    assert_memory_equal(mp_shared_memory_data(m), out, sizeof out);
    assert_int_equal(mp_shared_memory_read(m, 0, in, sizeof in), 0);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(mp_shared_memory_read(m, 9999, in, 1), 0);
    assert_int_equal(in[0], out[9999]);
    assert_int_equal(mp_shared_memory_write(m, 4090, "twelve bytes", 12), 0);
    assert_memory_equal((char *)mp_shared_memory_data(m) + 4090, "twelve bytes", 12);
    assert_int_equal(mp_shared_memory_read(m, 10000, NULL, 0), 0);
    assert_int_equal(mp_shared_memory_write(m, 10000, NULL, 0), 0);

    assert_int_equal(mp_shared_memory_read(m, 10000, in, 1), -EINVAL);
    assert_int_equal(mp_shared_memory_read(m, 1, in, 10000), -EINVAL);
    assert_int_equal(mp_shared_memory_read(m, SIZE_MAX, in, 2), -EINVAL);
    assert_int_equal(mp_shared_memory_read(m, 2, in, SIZE_MAX), -EINVAL);
    assert_int_equal(mp_shared_memory_read(m, 0, NULL, 1), -EINVAL);
    assert_int_equal(mp_shared_memory_write(m, 10000, in, 1), -EINVAL);
    assert_int_equal(mp_shared_memory_write(m, 1, in, 10000), -EINVAL);
    assert_int_equal(mp_shared_memory_write(m, SIZE_MAX, in, 2), -EINVAL);
    assert_int_equal(mp_shared_memory_write(m, 0, NULL, 1), -EINVAL);
    drop(m);
}

/* Touching the mapping would be the end of us; copying is not. */
static void test_truncated(void **state)
{
    mp_shared_memory *m = create(NULL, 8192);
    char buffer[8192];
    struct stat st;

    (void)state;
    assert_int_equal(mp_shared_memory_write(m, 0, "abc", 3), 0);
    assert_int_equal(truncate(path_of(mp_shared_memory_name(m)), 2), 0);
    assert_int_equal(mp_shared_memory_read(m, 0, buffer, 2), 0);
    assert_memory_equal(buffer, "ab", 2);
    assert_int_equal(mp_shared_memory_read(m, 0, buffer, 3), -ESTALE);
    assert_int_equal(mp_shared_memory_read(m, 0, buffer, 8192), -ESTALE);
    assert_int_equal(mp_shared_memory_read(m, 5000, buffer, 1), -ESTALE);
    assert_int_equal(mp_shared_memory_write(m, 0, "x", 1), 0);
    assert_int_equal(mp_shared_memory_write(m, 0, "xyz", 3), -ESTALE);
    assert_int_equal(mp_shared_memory_write(m, 5000, "x", 1), -ESTALE);
    /* It was not made longer again. */
    assert_int_equal(fstat(mp_shared_memory_fd(m), &st), 0);
    assert_int_equal(st.st_size, 2);
    drop(m);
}

/* ---- processes and threads ---- */

static void write_and_hang(void *user)
{
    mp_shared_memory *m;
    char *data;

    assert(mp_shared_memory_create(user, 100, &m) == 0);
    data = mp_shared_memory_data(m);
    data[0] = 'k';
    for (;;)
        pause();
}

/* It has no owner: who made it may be killed, and it is there for the next one. */
static void test_creator_killed(void **state)
{
    const char *name = own_name("orphan");
    pid_t pid = child_start(write_and_hang, (void *)(uintptr_t)name);
    mp_shared_memory *m;
    char byte = 0;

    (void)state;
    while (byte != 'k') {
        if (mp_shared_memory_open(name, &m) < 0)
            continue;
        assert_int_equal(mp_shared_memory_read(m, 0, &byte, 1), 0);
        mp_shared_memory_close(m);
    }
    child_kill(pid);
    assert_int_equal(mp_shared_memory_open(name, &m), 0);
    assert_int_equal(*(char *)mp_shared_memory_data(m), 'k');
    drop(m);
}

static void use_inherited(void *user)
{
    mp_shared_memory *m = user;
    char *data = mp_shared_memory_data(m);

    assert(data[0] == 'p');
    data[1] = 'c';
    mp_shared_memory_close(m);
}

static void test_fork(void **state)
{
    mp_shared_memory *m = create(NULL, 4096);
    char *data = mp_shared_memory_data(m);

    (void)state;
    data[0] = 'p';
    child_join(child_start(use_inherited, m));
    assert_int_equal(data[1], 'c');
    drop(m);
}

static void *come_and_go(void *name)
{
    for (int i = 0; i < 200; i++) {
        mp_shared_memory *m;
        int r = mp_shared_memory_create(name, 5000, &m);

        if (r == -EEXIST)
            r = mp_shared_memory_open(name, &m);
        if (r == -ENOENT)
            continue;
        assert(r == 0);
        assert(mp_shared_memory_size(m) == 5000);
        ((char *)mp_shared_memory_data(m))[4999] = 1;
        r = mp_shared_memory_unlink(m);
        assert(r == 0 || r == -ENOENT || r == -ESTALE);
        mp_shared_memory_close(m);
    }
    return NULL;
}

/* Nobody who opens a name finds half a segment. */
static void test_threads(void **state)
{
    const char *name = own_name("threads");
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)(uintptr_t)name),
                         0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    mp_shared_memory_unlink_name(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        segment_test(test_basics),         segment_test(test_recreate),
        segment_test(test_made_up_names),  segment_test(test_create_refuses),
        segment_test(test_too_large),      segment_test(test_no_names),
        segment_test(test_open_refuses),   segment_test(test_no_segments),
        segment_test(test_no_permission),  segment_test(test_null_handles),
        segment_test(test_unlinked),       segment_test(test_unlink_of_another),
        segment_test(test_looks),          segment_test(test_holes),
        segment_test(test_read_and_write), segment_test(test_truncated),
        segment_test(test_creator_killed), segment_test(test_fork),
        segment_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
