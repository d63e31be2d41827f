/* SPDX-License-Identifier: MIT */
/*
 * Named shared memory where the machine is small or poor: a full /dev/shm, none at all, limits, a
 * file system or a filter that refuses unnamed files; and creators killed at each system call.
 *
 * A /dev/shm of its own takes a mount namespace, where one may be had: exit code 77 of the child
 * says that none may.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/carrier.h"
#include "base/macro.h"
#include "base/sanitizer.h"
#include "base/tools.h"
#include "shared/segments.h"

#define MIB ((size_t)1 << 20)

/* A child that says by 77 that the test can not be made here. */
static void run(void (*f)(void *user), void *user)
{
    pid_t pid = child_start(f, user);
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

static void refuse_create(size_t size, int error)
{
    mp_shared_memory *m = (mp_shared_memory *)&m;

    assert(mp_shared_memory_create("refused", size, &m) == error);
    assert(mp_shared_memory_create(NULL, size, &m) == error);
    assert(m == (mp_shared_memory *)&m);
    assert(!is_there("refused"));
}

static void drop(mp_shared_memory *m)
{
    assert(mp_shared_memory_unlink(m) == 0);
    mp_shared_memory_close(m);
}

/* ---- mounts ---- */

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        _exit(77);
    close(fd);
}

/* Who is not root becomes it, in a user namespace. */
static void unshare_mounts(void)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char map[64];

    if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) < 0)
        _exit(77);
    if (uid == 0)
        return;
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
    write_file("/proc/self/gid_map", map);
}

/* From here on this process, and no other, has an empty tmpfs there. */
static void mount_own(const char *where, const char *options)
{
    unshare_mounts();
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        _exit(77);
    if (mount("none", where, "tmpfs", 0, options) < 0)
        _exit(77);
}

static void in_small_shm(void *unused)
{
    mp_shared_memory *m, *other = NULL;
    int fd;

    (void)unused;
    mount_own("/dev/shm", "size=1m,mode=1777");
    refuse_create(64 * MIB, -ENOSPC);
    assert(mp_shared_memory_create(NULL, MIB / 2, &m) == 0);
    refuse_create(MIB * 3 / 4, -ENOSPC);
    memset(mp_shared_memory_data(m), 1, MIB / 2);

    /* More than there is, and memory that runs out beside it: never a SIGBUS. */
    fd = sparse_file("sparse", 64 * (off_t)MIB);
    assert(mp_shared_memory_open("sparse", &other) == -ENOSPC);
    assert(ftruncate(fd, MIB / 2) == 0);
    assert(mp_shared_memory_open("sparse", &other) == 0);
    refuse_create(1, -ENOSPC);
    memset(mp_shared_memory_data(other), 2, MIB / 2);
    drop(other);
    close(fd);
    drop(m);
    assert(mp_shared_memory_create(NULL, MIB, &m) == 0);
    drop(m);
}

static void test_small_shm(void **state)
{
    (void)state;
    run(in_small_shm, NULL);
}

static void without_shm(void *unused)
{
    mp_shared_memory *m;
    mp_shareable_list *l;

    (void)unused;
    mount_own("/dev", "size=1m");
    refuse_create(1, -EOPNOTSUPP);
    assert(mp_shared_memory_open("refused", &m) == -EOPNOTSUPP);
    assert(mp_shared_memory_unlink_name("refused") == -EOPNOTSUPP);
    assert(mp_shareable_list_create(NULL, NULL, 0, &l) == -EOPNOTSUPP);
    assert(mp_shareable_list_open("refused", &l) == -EOPNOTSUPP);
}

static void test_no_shm(void **state)
{
    (void)state;
    run(without_shm, NULL);
}

static void in_read_only_shm(void *unused)
{
    mp_shared_memory *m;

    (void)unused;
    mount_own("/dev/shm", "size=1m,mode=1777");
    assert(mp_shared_memory_create("there", 10, &m) == 0);
    if (mount("none", "/dev/shm", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0) {
        /* A file open for writing keeps it from being read-only. */
        assert(errno == EBUSY);
        mp_shared_memory_close(m);
        assert(mount("none", "/dev/shm", NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    } else {
        mp_shared_memory_close(m);
    }
    refuse_create(1, -EROFS);
    assert(mp_shared_memory_open("there", &m) == -EROFS);
    assert(mp_shared_memory_unlink_name("there") == -EROFS);
}

static void test_read_only_shm(void **state)
{
    (void)state;
    run(in_read_only_shm, NULL);
}

/* ---- limits ---- */

/* SIGXFSZ would be the end of the child. */
static void under_file_limit(void *user)
{
    const struct rlimit limit = {4096, 4096};
    mp_shared_memory *m = user;
    mp_shareable_list *l;

    assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    refuse_create(4097, -EFBIG);
    assert(mp_shared_memory_write(m, 0, "x", 1) == 0);
    assert(mp_shared_memory_write(m, 4096, "x", 1) == -EFBIG);
    assert(mp_shareable_list_create_in(m, NULL, 0, &l) == 0);
    mp_shareable_list_close(l);
}

static void test_file_limit(void **state)
{
    mp_shared_memory *m;

    (void)state;
    assert_int_equal(mp_shared_memory_create(NULL, 8192, &m), 0);
    run(under_file_limit, m);
    drop(m);
}

static void under_memory_limit(void *unused)
{
    const struct rlimit limit = {64 * MIB, 64 * MIB};

    (void)unused;
    assert(setrlimit(RLIMIT_AS, &limit) == 0);
    refuse_create(65 * MIB, -ENOMEM);
}

static void test_memory_limit(void **state)
{
    (void)state;
    if (WITH_ASAN)
        skip(); /* its shadow is larger than any limit */
    run(under_memory_limit, NULL);
}

static void test_no_descriptors(void **state)
{
    mp_shared_memory *m, *other;
    struct rlimit old, none;
    int fd;

    (void)state;
    assert_int_equal(mp_shared_memory_create(NULL, 10, &m), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    fd = dup(0);
    close(fd); /* the first that is free */
    none = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    refuse_create(10, -EMFILE);
    assert_int_equal(mp_shared_memory_open(mp_shared_memory_name(m), &other), -EMFILE);
    assert_int_equal(mp_shared_memory_unlink(m), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    mp_shared_memory_close(m);
}

/* ---- no unnamed files ---- */

/* These bits in this argument of this system call give this error. */
static void refuse(long call, unsigned argument, uint32_t bits, uint32_t error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 (uint32_t)offsetof(struct seccomp_data, args[0]) + argument * sizeof(uint64_t)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = MP_ARRAY_SIZE(filter), .filter = filter};

    assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(77);
}

static void use_all(void)
{
    const struct mp_list_item items[] = {mp_list_item_integer(5), mp_list_item_string("five")};
    const char *name = own_name("poor");
    mp_shared_memory *m, *other;
    mp_shareable_list *l, *again;
    struct mp_list_item item;

    assert(mp_shared_memory_create(name, 5000, &m) == 0);
    assert(mp_shared_memory_create(name, 5000, &other) == -EEXIST);
    memset(mp_shared_memory_data(m), 1, 5000);
    assert(mp_shared_memory_open(name, &other) == 0);
    assert(((char *)mp_shared_memory_data(other))[4999] == 1);
    mp_shared_memory_close(other);
    drop(m);
    refuse_create((size_t)1 << 60, -ENOSPC);

    assert(mp_shareable_list_create(NULL, items, 2, &l) == 0);
    assert(mp_shareable_list_open(mp_shared_memory_name(mp_shareable_list_memory(l)), &again) == 0);
    assert(mp_shareable_list_get(again, 0, NULL, 0, &item) == 0 && item.integer == 5);
    assert(mp_shared_memory_unlink(mp_shareable_list_memory(again)) == 0);
    mp_shareable_list_close(again);
    mp_shareable_list_close(l);
}

static void without_unnamed_files(void *unused)
{
    (void)unused;
    refuse(SYS_openat, 2, O_TMPFILE & ~(uint32_t)O_DIRECTORY, EOPNOTSUPP);
    assert(open("/dev/shm", O_TMPFILE | O_RDWR, 0600) < 0 && errno == EOPNOTSUPP);
    use_all();
}

static void without_links(void *unused)
{
    (void)unused;
    refuse(SYS_linkat, 0, 0, EPERM);
    use_all();
}

static void without_reservations(void *unused)
{
    (void)unused;
    refuse(SYS_fallocate, 0, 0, EOPNOTSUPP);
    refuse_create(10, -EOPNOTSUPP);
}

/* Made-up names that are all taken: it gives up. */
static void without_free_names(void *unused)
{
    (void)unused;
    refuse(SYS_linkat, 0, 0, EEXIST);
    refuse_create(10, -EEXIST);
}

static void test_poor_file_system(void **state)
{
    (void)state;
    run(without_unnamed_files, NULL);
    run(without_links, NULL);
    run(without_reservations, NULL);
    run(without_free_names, NULL);
}

/* ---- killed ---- */

static void be_traced(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(77);
    raise(SIGSTOP);
}

/* Run f in a child, up to so many entries to and exits from system calls, and kill it there. False:
 * it was done before. */
static bool killed_after(void (*f)(void *user), void *user, unsigned stops)
{
    pid_t pid = child_start(f, user);
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    for (; stops > 0; stops--) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
        assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return true;
}

#define ITEMS 3

static const struct mp_list_item *some_items(void)
{
    static struct mp_list_item items[ITEMS];

    items[0] = mp_list_item_string("a string, and not a short one");
    items[1] = mp_list_item_double(0.5);
    items[2] = mp_list_item_none();
    return items;
}

static void create_list(void *name)
{
    mp_shareable_list *l;

    be_traced();
    assert(mp_shareable_list_create(name, some_items(), ITEMS, &l) == 0);
    _exit(0);
}

static void test_killed_creators(void **state)
{
    const char *name = own_name("killed");
    unsigned stops = 0, complete = 0;

    (void)state;
    if (under_valgrind())
        skip();
    while (killed_after(create_list, (void *)(uintptr_t)name, stops)) {
        mp_shareable_list *l;
        int r = mp_shareable_list_open(name, &l);
        size_t n;

        if (r == 0) {
            assert_int_equal(mp_shareable_list_length(l), ITEMS);
            assert_int_equal(mp_shareable_list_index(l, &some_items()[0], &n), 0);
            assert_int_equal(n, 0);
            assert_int_equal(mp_shareable_list_count(l, &some_items()[2], &n), 0);
            assert_int_equal(n, 1);
            mp_shareable_list_close(l);
            assert_int_equal(mp_shared_memory_unlink_name(name), 0);
            complete++;
        } else {
            assert_int_equal(r, -ENOENT);
        }
        stops++;
    }
    assert_true(complete > 0 && complete < stops);
    assert_int_equal(mp_shared_memory_unlink_name(name), 0);
    print_message("%u places, %u of them with the list there\n", stops, complete);
}

struct change {
    mp_shareable_list *list;
    struct mp_list_item item;
};

static void change_item(void *user)
{
    struct change *c = user;

    be_traced();
    assert(mp_shareable_list_set(c->list, 0, &c->item) == 0);
    _exit(0);
}

static bool equals(const struct mp_list_item *a, const struct mp_list_item *b)
{
    return a->type == b->type && a->size == b->size && a->integer == b->integer &&
           a->real == b->real && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* Each change of an item to one of another type or length, killed anywhere: it is the old one,
 * None, or the new one. */
static void test_killed_changers(void **state)
{
    const struct mp_list_item items[] = {
        mp_list_item_string("some"),   mp_list_item_integer(-1),    mp_list_item_bytes("\0\1\2", 3),
        mp_list_item_bool(true),       mp_list_item_double(1e300),  mp_list_item_none(),
        mp_list_item_string("others"), mp_list_item_integer(-1000), mp_list_item_string("some"),
    };
    unsigned places = 0;

    (void)state;
    if (under_valgrind())
        skip();
    for (size_t i = 0; i + 1 < MP_ARRAY_SIZE(items); i++) {
        struct change c = {.item = items[i + 1]};
        bool killed = true;

        assert_int_equal(mp_shareable_list_create(NULL, &items[0], 1, &c.list), 0);
        for (unsigned stops = 0; killed; stops++) {
            char buffer[32];
            struct mp_list_item found;

            assert_int_equal(mp_shareable_list_set(c.list, 0, &items[i]), 0);
            killed = killed_after(change_item, &c, stops);
            assert_int_equal(mp_shareable_list_get(c.list, 0, buffer, sizeof buffer, &found), 0);
            if (killed)
                assert_true(equals(&found, &items[i]) || equals(&found, &items[i + 1]) ||
                            found.type == MP_LIST_ITEM_NONE);
            else
                assert_true(equals(&found, &items[i + 1]));
            places++;
        }
        assert_int_equal(mp_shared_memory_unlink(mp_shareable_list_memory(c.list)), 0);
        mp_shareable_list_close(c.list);
    }
    print_message("%u places\n", places);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        segment_test(test_small_shm),        segment_test(test_no_shm),
        segment_test(test_read_only_shm),    segment_test(test_file_limit),
        segment_test(test_memory_limit),     segment_test(test_no_descriptors),
        segment_test(test_poor_file_system), segment_test(test_killed_creators),
        segment_test(test_killed_changers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
