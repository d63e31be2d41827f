/* SPDX-License-Identifier: MIT */
/*
 * Executing the program anew: who is taken for a spawned child and who is not, and which program is
 * executed.
 *
 * Each test runs this program again in one of its roles, named by its first argument, as anybody
 * could: by fork and exec.
 */

#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/cleanup.h"
#include "base/leftovers.h"

#define MARKER "--mp-spawn=3"
#define ROLE_MAIN 42 /* what the program's own main() returns when it is given the marker */

MP_ENTRY(returns_nine)
{
    return 9;
}

static int run_spawn(mp_entry_fn *entry, const struct mp_process_options *options)
{
    struct mp_exit_info info;
    mp_process *p;
    int r = mp_process_start(entry, options, &p);

    if (r < 0)
        return r;
    if (mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0)
        return -1;
    mp_process_free(p);
    return info.code;
}

#define SPAWN(entry, ...) \
    run_spawn(entry, MP_PROCESS_OPTIONS(.method = MP_START_SPAWN, __VA_ARGS__))

/* Run a program with the descriptor given as 3; its exit code. */
static int run(const char *path, int fd, const char *a, const char *b)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (fd >= 0)
            dup2(fd, 3);
        else
            close(3);
        execl(path, "test-spawn", a, b, (char *)NULL);
        _exit(126);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- the marker ---- */

static void check_forged(int fd)
{
    assert_int_equal(run("/proc/self/exe", fd, MARKER, "forged"), ROLE_MAIN);
}

/* Bytes of a real one: the header as a child would get it, which a user may have seen. */
static void test_forged(void **state)
{
    static const unsigned char magic[] = {0x1a, 0x0a, 0x6d, 0x70, 0x73, 0x70,
                                          0x77, 0x6e, 1,    0,    0,    0};
    char bytes[4096];
    FILE *file = tmpfile();
    int fd, ends[2];

    (void)state;
    check_forged(-1);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    check_forged(fd);
    close(fd);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    check_forged(ends[0]);
    close(ends[0]);
    close(ends[1]);
    check_forged(fileno(file));
    fclose(file);

    for (int sealed = 0; sealed < 2; sealed++)
        for (int kind = 0; kind < 4; kind++) {
            memset(bytes, kind == 3 ? 0xff : 0, sizeof bytes);
            if (kind >= 2)
                memcpy(bytes, magic, sizeof magic);
            fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
            assert_true(fd >= 0);
            if (kind >= 1)
                assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
            if (sealed)
                assert_int_equal(fcntl(fd, F_ADD_SEALS,
                                       F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL),
                                 0);
            check_forged(fd);
            close(fd);
        }
}

/* In a child that was spawned: the descriptors are used up, so the arguments alone say nothing. */
MP_ENTRY(runs_again)
{
    (void)call;
    execl("/proc/self/exe", "test-spawn", MARKER, "again", (char *)NULL);
    return 1;
}

static void test_again(void **state)
{
    (void)state;
    assert_int_equal(SPAWN(runs_again), ROLE_MAIN);
}

/* ---- which program ---- */

MP_ENTRY(tells_name)
{
    char comm[16];

    (void)call;
    prctl(PR_GET_NAME, comm);
    return strcmp(comm, "test-spawn") ? 1 : strcmp(program_invocation_name, "test-spawn");
}

static int role_names(void)
{
    return SPAWN(tells_name);
}

/* The file it was executed from is replaced by another, then removed. */
static int role_replaced(const char *path)
{
    static const char other[] = "#!/bin/false\n";
    char beside[4096];
    int fd, r;

    snprintf(beside, sizeof beside, "%s.new", path);
    fd = open(beside, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    if (fd < 0 || write(fd, other, sizeof other - 1) != sizeof other - 1)
        return 1;
    close(fd);
    if (rename(beside, path) < 0)
        return 2;
    r = SPAWN(returns_nine);
    if (r != 9 || unlink(path) < 0)
        return r;
    return SPAWN(returns_nine);
}

static int copy_self(char *path)
{
    _cleanup_close_ int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int to = mkostemp(path, O_CLOEXEC);
    char bytes[65536];
    ssize_t n;

    if (from < 0 || to < 0)
        return -1;
    while ((n = read(from, bytes, sizeof bytes)) > 0)
        if (write(to, bytes, (size_t)n) != n)
            return -1;
    return fchmod(to, 0755);
}

static void test_replaced(void **state)
{
    char path[] = "/tmp/mp-test-XXXXXX";

    (void)state;
    assert_int_equal(copy_self(path), 0);
    assert_int_equal(run(path, -1, "replaced", path), 9);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(run("/proc/self/exe", -1, "names", NULL), 0);
}

/* ---- who may not ---- */

static int role_no_main(void)
{
    int r = SPAWN(returns_nine);

    if (r != -ENOENT)
        return 1;
    /* Forking needs no mp_main(). */
    return run_spawn(returns_nine, NULL) == 9 ? 0 : 2;
}

static void test_no_main(void **state)
{
    (void)state;
    assert_int_equal(run("/proc/self/exe", -1, "no-main", NULL), 0);
}

static int role_secure(void)
{
    return SPAWN(returns_nine) == -EPERM && run_spawn(returns_nine, NULL) == 9 ? 0 : 1;
}

/* A program with rights that its caller does not have. */
static void test_set_user_id(void **state)
{
    char path[] = "/tmp/mp-test-XXXXXX";
    struct statvfs fs;

    (void)state;
    if (geteuid() != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0 || statvfs("/tmp", &fs) < 0 ||
        (fs.f_flag & ST_NOSUID))
        skip();
    assert_int_equal(copy_self(path), 0);
    assert_int_equal(chown(path, 65534, 65534), 0);
    assert_int_equal(chmod(path, 04755), 0);
    assert_int_equal(run(path, -1, "secure", NULL), 0);
    unlink(path);
}

/* Where there is neither /proc nor /dev: no spawn, but fork, and daemons too. */
static int role_nowhere(const char *path)
{
    int r;

    if (chroot(path) < 0)
        return errno == EPERM ? 77 : 1;
    r = SPAWN(returns_nine);
    if (r != -EOPNOTSUPP)
        return 2;
    return run_spawn(returns_nine, MP_PROCESS_OPTIONS(.daemon = 1)) == 9 ? 0 : 3;
}

static void test_no_proc(void **state)
{
    char path[] = "/tmp/mp-test-XXXXXX";
    int r;

    (void)state;
    assert_non_null(mkdtemp(path));
    r = run("/proc/self/exe", -1, "nowhere", path);
    rmdir(path);
    if (r == 77)
        skip();
    assert_int_equal(r, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_forged),      clean_test(test_again),   clean_test(test_replaced),
        clean_test(test_names),       clean_test(test_no_main), clean_test(test_no_proc),
        clean_test(test_set_user_id),
    };
    const char *role = argc > 1 ? argv[1] : "";

    if (strcmp(role, "no-main") == 0)
        return role_no_main();
    mp_main(argc, argv);
    if (strcmp(role, MARKER) == 0)
        return ROLE_MAIN;
    if (strcmp(role, "names") == 0)
        return role_names();
    if (strcmp(role, "replaced") == 0)
        return role_replaced(argv[2]);
    if (strcmp(role, "secure") == 0)
        _exit(role_secure()); /* at exit() nothing could look for leaks there */
    if (strcmp(role, "nowhere") == 0)
        _exit(role_nowhere(argv[2]));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
