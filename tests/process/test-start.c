/* SPDX-License-Identifier: MIT */
/* What a child is given and what it finds; what mp_process_start() refuses; other people's wait().
 */

#undef NDEBUG
#include <dirent.h>
#include <errno.h>
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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/leftovers.h"
#include "base/sanitizer.h"
#include "kernel/pidfd.h"
#include "process/methods.h"

static int finish(mp_process *p)
{
    struct mp_exit_info info;

    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_exit_info(p, &info), 0);
    assert_int_equal(info.known, 1);
    mp_process_free(p);
    return info.code;
}

MP_ENTRY(nothing)
{
    return 0;
}

/* ---- data, descriptors, arenas ---- */

MP_ENTRY(sums)
{
    const unsigned char *data = call->data;
    unsigned sum = 0;

    if ((uintptr_t)call->data % 16)
        return 255;
    for (size_t i = 0; i < call->size; i++)
        sum = sum * 31 + data[i];
    return (int)(sum % 251);
}

static void test_data(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4095, 4096, 1 << 20, (16 << 20) + 3};
    _cleanup_free_ unsigned char *data = malloc((16 << 20) + 16);

    assert_non_null(data);
    for (size_t i = 0; i < (16 << 20) + 16; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t shift = i % 4; /* the child's copy is aligned all the same */
        unsigned sum = 0;
        mp_process *p;

        for (size_t k = 0; k < sizes[i]; k++)
            sum = sum * 31 + data[shift + k];
        START(sums, &p, .data = data + shift, .size = sizes[i]);
        /* It has a copy. */
        data[shift] ^= 1;
        assert_int_equal(finish(p), (int)(sum % 251));
        data[shift] ^= 1;
    }
}

/* Writes one byte to each, after looking what is open at all. */
MP_ENTRY(uses_fds)
{
    bool is_spawned = *(const enum mp_start_method *)call->data == MP_START_SPAWN;
    DIR *dir = opendir("/proc/self/fd");
    int open_fds = 0;

    while (dir && readdir(dir))
        open_fds++;
    if (!dir)
        return 1;
    closedir(dir);
    /* ".", "..", the directory itself and the standard streams come on top. */
    if (is_spawned && open_fds != 6 + (int)call->n_fds)
        return 2;
    for (size_t i = 0; i < call->n_fds; i++) {
        if (call->fds[i] <= STDERR_FILENO || fcntl(call->fds[i], F_GETFD) != FD_CLOEXEC)
            return 3;
        if (write(call->fds[i], "x", 1) != 1)
            return 4;
    }
    return 0;
}

static void test_fds(void **state)
{
    int ends[2], fds[250], saved;
    char text[256];
    mp_process *p;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (size_t i = 0; i < 250; i++)
        fds[i] = ends[1];
    for (size_t n = 1; n <= 250; n = n < 249 ? n * 3 : n + 1) {
        START(uses_fds, &p, .data = *state, .size = sizeof METHOD, .fds = fds, .n_fds = n);
        assert_int_equal(finish(p), 0);
        assert_int_equal(read(ends[0], text, sizeof text), n);
        /* They stay the caller's. */
        assert_int_equal(fcntl(ends[1], F_GETFD), FD_CLOEXEC);
        if (n == 243)
            n = 248;
    }

    /* A standard stream that is passed is not the child's standard stream. */
    saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_int_equal(dup2(ends[1], STDIN_FILENO), STDIN_FILENO);
    fds[0] = STDIN_FILENO;
    START(uses_fds, &p, .data = *state, .size = sizeof METHOD, .fds = fds, .n_fds = 2);
    assert_int_equal(finish(p), 0);
    assert_int_equal(read(ends[0], text, sizeof text), 2);
    if (saved >= 0)
        dup2(saved, STDIN_FILENO);
    else
        close(STDIN_FILENO);
    close(saved);
    close(ends[0]);
    close(ends[1]);
}

MP_ENTRY(uses_arenas)
{
    void *block;

    for (size_t i = 0; i < call->n_arenas; i++) {
        char name[32];

        snprintf(name, sizeof name, "block%zu", i);
        if (mp_block_open(call->arenas[i], name, &block, NULL) < 0)
            return 1;
        ++*(_Atomic(int) *)block;
    }
    return (int)call->n_arenas;
}

static void test_arenas(void **state)
{
    mp_arena *arenas[3];
    _Atomic(int) *blocks[3];
    mp_process *p;

    for (int i = 0; i < 3; i++) {
        char name[32];

        snprintf(name, sizeof name, "block%d", i);
        assert_int_equal(mp_arena_create("three", MP_ARENA_OPTIONS(.size = 1 << 20), &arenas[i]),
                         0);
        assert_int_equal(mp_block_create(arenas[i], name, sizeof(int), (void **)&blocks[i]), 0);
    }
    for (int round = 1; round <= 3; round++) {
        START(uses_arenas, &p, .arenas = arenas, .n_arenas = 3);
        assert_int_equal(finish(p), 3);
        for (int i = 0; i < 3; i++)
            assert_int_equal(*blocks[i], round);
    }
    for (int i = 0; i < 3; i++)
        mp_arena_close(arenas[i]);
}

/* An arena that is full takes no spawned child; a forked one takes part when it first needs to. */
static void test_arena_full(void **state)
{
    mp_arena *arena;
    mp_process *p;

    (void)state;
    assert_int_equal(mp_arena_create("full", MP_ARENA_OPTIONS(.participants = 1), &arena), 0);
    assert_int_equal(
        mp_process_start(uses_arenas,
                         MP_PROCESS_OPTIONS(.method = MP_START_SPAWN, MP_ARENAS(arena)), &p),
        0);
    assert_int_equal(finish(p), 127);
    mp_arena_close(arena);
}

/* ---- the child's surroundings ---- */

static void on_signal(int signal)
{
    (void)signal;
}

MP_ENTRY(looks_round)
{
    struct sigaction action;
    sigset_t blocked;
    char c;

    for (int s = 1; s <= SIGRTMAX; s++)
        if (sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_DFL &&
            !(s > 31 && s < SIGRTMIN) &&
            !(WITH_ASAN && (s == SIGSEGV || s == SIGBUS || s == SIGFPE)))
            return s;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int s = 1; s <= SIGRTMAX; s++)
        if (sigismember(&blocked, s) == 1)
            return 100 + s;
    if (read(STDIN_FILENO, &c, 1) != 0 || getchar() != EOF)
        return 200;
    return 0;
}

static void test_surroundings(void **state)
{
    struct sigaction handle = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    struct sigaction usr1, pipe_action, rt;
    sigset_t set, old;
    mp_process *p;

    sigaction(SIGUSR1, &handle, &usr1);
    sigaction(SIGPIPE, &ignore, &pipe_action);
    sigaction(SIGRTMIN + 3, &ignore, &rt);
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, &old);
    START(looks_round, &p);
    assert_int_equal(finish(p), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    assert_int_equal(sigismember(&set, SIGUSR2), 1);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    sigaction(SIGUSR1, &usr1, NULL);
    sigaction(SIGPIPE, &pipe_action, NULL);
    sigaction(SIGRTMIN + 3, &rt, NULL);
}

/* A helper without standard streams starts a child. */
MP_ENTRY(starts_from_bare)
{
    struct mp_exit_info info;
    int fds[2] = {-1, -1};
    mp_process *p;

    /* What is passed comes to lie where the standard streams were. */
    close(0);
    close(1);
    close(2);
    if (pipe2(fds, O_CLOEXEC) < 0 || fds[0] != 0)
        return 1;
    if (mp_process_start(nothing,
                         MP_PROCESS_OPTIONS(.method = *(const enum mp_start_method *)call->data,
                                            .fds = fds, .n_fds = 2, .daemon = 1),
                         &p) < 0)
        return 2;
    if (mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0)
        return 3;
    mp_process_free(p);
    return info.code;
}

static void test_no_stdio(void **state)
{
    mp_process *p;

    START(starts_from_bare, &p, .data = *state, .size = sizeof METHOD);
    assert_int_equal(finish(p), 0);
}

MP_ENTRY(tells)
{
    (void)call;
    fputs("child\n", stdout);
    return 0;
}

/* What the parent has not flushed is written once, and so is what the child has not. */
static void test_stdio(void **state)
{
    char path[] = "/tmp/mp-test-XXXXXX", text[64] = "";
    int fd = mkostemp(path, O_CLOEXEC | O_APPEND), old;
    mp_process *p;

    assert_true(fd >= 0);
    fflush(stdout);
    old = dup(STDOUT_FILENO);
    assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    fputs("parent\n", stdout);
    START(tells, &p);
    assert_int_equal(finish(p), 0);
    fputs("end\n", stdout);
    fflush(stdout);
    dup2(old, STDOUT_FILENO);
    close(old);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "parent\nchild\nend\n");
    close(fd);
    unlink(path);
}

static void *read_line(void *file)
{
    char line[8];

    return fgets(line, sizeof line, file);
}

/* A thread that waits for input keeps nobody from starting a process. */
static void test_reader(void **state)
{
    int ends[2], saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    mp_process *p;
    pthread_t t;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(pthread_create(&t, NULL, read_line, stdin), 0);
    while (ftrylockfile(stdin) == 0) {
        funlockfile(stdin);
        sched_yield();
    }
    START(nothing, &p);
    assert_int_equal(finish(p), 0);
    assert_int_equal(write(ends[1], "line\n", 5), 5);
    pthread_join(t, NULL);
    if (saved >= 0)
        dup2(saved, STDIN_FILENO);
    close(saved);
    close(ends[0]);
    close(ends[1]);
}

/* ---- exit duties ---- */

MP_ENTRY(writes_late)
{
    struct pollfd f = {.fd = call->fds[1], .events = POLLIN};

    /* Until the daemon is gone. */
    poll(&f, 1, -1);
    return write(call->fds[0], "c", 1) != 1;
}

MP_ENTRY(sleeps)
{
    if (write(call->fds[0], "d", 1) != 1)
        return 1;
    for (;;)
        pause();
}

/* Leaves a daemon and a child behind, of which the child ends only after the daemon. */
MP_ENTRY(leaves_both)
{
    enum mp_start_method method = *(const enum mp_start_method *)call->data;
    int ends[2];
    char c;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return 1;
    if (mp_process_start(
            sleeps, MP_PROCESS_OPTIONS(.method = method, .fds = &ends[1], .n_fds = 1, .daemon = 1),
            NULL) < 0)
        return 2;
    close(ends[1]);
    if (read(ends[0], &c, 1) != 1)
        return 3;
    if (mp_process_start(writes_late,
                         MP_PROCESS_OPTIONS(.method = method,
                                            .fds = ((const int[]){call->fds[0], ends[0]}),
                                            .n_fds = 2),
                         NULL) < 0)
        return 4;
    return 0;
}

static void test_exit_duties(void **state)
{
    int ends[2];
    mp_process *p;
    char c = 0;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    START(leaves_both, &p, .data = *state, .size = sizeof METHOD, .fds = &ends[1], .n_fds = 1);
    assert_int_equal(finish(p), 0);
    /* Joined, so it has written before its parent ended. */
    close(ends[1]);
    assert_int_equal(read(ends[0], &c, 1), 1);
    assert_int_equal(c, 'c');
    assert_int_equal(read(ends[0], &c, 1), 0);
    close(ends[0]);
}

/* ---- others who wait ---- */

static bool kernel_tells(void)
{
    mp_process *p;
    int status;

    assert_int_equal(mp_process_start(nothing, NULL, &p), 0);
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    status = mp_pidfd_status(mp_process_sentinel(p), &status);
    mp_process_free(p);
    return status == 0;
}

MP_ENTRY(returns_six)
{
    return 6;
}

static void check_stolen(mp_process *p)
{
    struct mp_exit_info info;

    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_exit_info(p, &info), 0);
    assert_int_equal(info.known, kernel_tells());
    assert_int_equal(info.code, info.known ? 6 : 255);
    assert_int_equal(mp_process_kill(p), 0);
    mp_process_free(p);
}

static void test_reaped_by_others(void **state)
{
    mp_process *p;

    START(returns_six, &p);
    if (METHOD == MP_START_FORKSERVER) {
        /* Nobody else can: it is not this process's. */
        assert_int_equal(waitpid(mp_process_pid(p), NULL, 0), -1);
        assert_int_equal(finish(p), 6);
        return;
    }
    assert_int_equal(waitpid(mp_process_pid(p), NULL, 0), mp_process_pid(p));
    check_stolen(p);
}

static void test_sigchld_ignored(void **state)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;

    sigaction(SIGCHLD, &ignore, &old);
    for (int i = 0; i < 50; i++) {
        struct mp_exit_info info;
        mp_process *p;

        START(returns_six, &p);
        assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
        assert_int_equal(mp_process_exit_info(p, &info), 0);
        assert_int_equal(info.code, info.known ? 6 : 255);
        mp_process_free(p);
    }
    sigaction(SIGCHLD, &old, NULL);
}

static void *reap_all(void *stop)
{
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED))
        if (waitpid(-1, NULL, WNOHANG) <= 0)
            sched_yield();
    return NULL;
}

/* Somewhere in the program a thread waits for whatever ends. */
static void test_reaper_thread(void **state)
{
    int stop = 0, rounds = METHOD == MP_START_FORK ? 200 : 50;
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, reap_all, &stop), 0);
    for (int i = 0; i < rounds; i++) {
        struct mp_exit_info info;
        mp_process *p;

        START(returns_six, &p);
        assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
        assert_int_equal(mp_process_exit_info(p, &info), 0);
        assert_int_equal(info.code, info.known ? 6 : 255);
        mp_process_free(p);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
}

/* ---- busy parents ---- */

static void *make_noise(void *stop)
{
    FILE *null = fopen("/dev/null", "we");

    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED)) {
        void *p = malloc(100), *q = malloc(5000);

        fprintf(null, "%p %p\n", p, q);
        free(p);
        free(q);
    }
    fclose(null);
    return NULL;
}

MP_ENTRY(allocates)
{
    char *text = NULL;

    for (int i = 0; i < 100; i++) {
        free(text);
        if (asprintf(&text, "%d %p", i, (const void *)call) < 0)
            return 1;
    }
    free(text);
    return 0;
}

static void *start_some(void *method)
{
    for (int i = 0; i < 25; i++) {
        struct mp_exit_info info;
        mp_process *p;

        if (mp_process_start(
                allocates,
                MP_PROCESS_OPTIONS(.method = *(enum mp_start_method *)method, .daemon = i % 2),
                &p) < 0 ||
            mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0 ||
            info.code != 0)
            return method;
        mp_process_free(p);
    }
    return NULL;
}

static void test_busy_threads(void **state)
{
    pthread_t noise[2], starters[4];
    int stop = 0;

    /* Its malloc() is not made for forks while other threads use it. */
    if (WITH_ASAN && METHOD == MP_START_FORK)
        skip();
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&noise[i], NULL, make_noise, &stop), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&starters[i], NULL, start_some, *state), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;

        pthread_join(starters[i], &failed);
        assert_null(failed);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(noise[i], NULL);
}

/* ---- handles after a fork ---- */

static int check_foreign(mp_process *p)
{
    struct mp_exit_info info;
    mp_process **found;

    if (mp_process_join(p, MP_FOREVER) != -ECHILD || mp_process_join(p, 0) != -ECHILD ||
        mp_process_is_alive(p) != -ECHILD || mp_process_exit_info(p, &info) != -ECHILD ||
        mp_process_kill(p) != -ECHILD || mp_process_sentinel(p) != -ECHILD)
        return 1;
    if (mp_process_active_children(&found) != 0)
        return 2;
    free(found);
    if (!mp_process_name(p) || mp_process_pid(p) <= 0)
        return 3;
    mp_process_free(p);
    return 0;
}

static mp_process *foreign;

MP_ENTRY(uses_foreign)
{
    return check_foreign(foreign);
}

static void test_after_fork(void **state)
{
    int ends[2], status;
    mp_process *p;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(
        mp_process_start(sleeps, MP_PROCESS_OPTIONS(.fds = &ends[1], .n_fds = 1), &foreign), 0);
    assert_int_equal(mp_process_start(uses_foreign, NULL, &p), 0);
    assert_int_equal(finish(p), 0);

    /* Forked without our help: it has a household of its own all the same. */
    pid = fork();
    if (pid == 0) {
        int r = check_foreign(foreign);

        if (r == 0 && mp_process_parent())
            r = 10;
        if (r == 0 && mp_process_start(nothing, NULL, &p) < 0)
            r = 11;
        if (r == 0 && mp_process_join(p, MP_FOREVER) < 0)
            r = 12;
        _exit(r);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(mp_process_kill(foreign), 0);
    assert_int_equal(finish(foreign), -SIGKILL);
    close(ends[0]);
    close(ends[1]);
}

/* ---- what is refused ---- */

static int not_an_entry(const struct mp_call *call)
{
    (void)call;
    return 0;
}

static int refused(enum mp_start_method method, mp_entry_fn *entry,
                   struct mp_process_options options)
{
    mp_process *untouched = (mp_process *)&options, *p = untouched;
    int r;

    options.method = method;
    r = mp_process_start(entry, &options, &p);
    assert_ptr_equal(p, untouched);
    return r;
}

#define REFUSED(entry, ...) refused(METHOD, entry, *MP_PROCESS_OPTIONS(__VA_ARGS__))

static void test_bad_input(void **state)
{
    static const int closed_fd = 19999, negative = -1;
    char longer[MP_NAME_MAX + 2];
    mp_arena *none = NULL;
    struct mp_process_options o = {.struct_size = 0};
    mp_process *p = NULL;

    memset(longer, 'n', sizeof longer);
    longer[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(REFUSED(NULL), -EINVAL);
    assert_int_equal(REFUSED(nothing, .name = ""), -ENAMETOOLONG);
    assert_int_equal(REFUSED(nothing, .name = longer), -ENAMETOOLONG);
    assert_int_equal(REFUSED(nothing, .name = "line\n"), -ENAMETOOLONG);
    assert_int_equal(REFUSED(nothing, .name = "\xc3\xa9"), -ENAMETOOLONG);
    assert_int_equal(REFUSED(nothing, .size = 1), -EINVAL);
    assert_int_equal(REFUSED(nothing, .data = "", .size = ((size_t)1 << 30) + 1), -E2BIG);
    assert_int_equal(REFUSED(nothing, .data = "", .size = SIZE_MAX), -E2BIG);
    assert_int_equal(REFUSED(nothing, .n_fds = 1), -EINVAL);
    assert_int_equal(REFUSED(nothing, .fds = &closed_fd, .n_fds = 1), -EBADF);
    assert_int_equal(REFUSED(nothing, .fds = &negative, .n_fds = 1), -EBADF);
    assert_int_equal(REFUSED(nothing, .fds = &negative, .n_fds = 251), -E2BIG);
    assert_int_equal(REFUSED(nothing, .n_arenas = 1), -EINVAL);
    assert_int_equal(REFUSED(nothing, .arenas = &none, .n_arenas = 1), -EINVAL);
    assert_int_equal(REFUSED(nothing, .arenas = &none, .n_arenas = 65), -E2BIG);
    assert_int_equal(refused(77, nothing, *MP_PROCESS_OPTIONS()), -EINVAL);
    assert_int_equal(mp_process_start(nothing, &o, &p), -EINVAL);
    o.struct_size = sizeof o + 8;
    assert_int_equal(mp_process_start(nothing, &o, &p), -EINVAL);
    assert_null(p);
    if (METHOD == MP_START_SPAWN)
        assert_int_equal(REFUSED(not_an_entry), -ENOENT);
}

static void test_null(void **state)
{
    struct mp_exit_info info;
    mp_process *p;

    (void)state;
    assert_int_equal(mp_process_join(NULL, 0), -EINVAL);
    assert_int_equal(mp_process_exit_info(NULL, &info), -EINVAL);
    assert_int_equal(mp_process_is_alive(NULL), -EINVAL);
    assert_int_equal(mp_process_signal(NULL, SIGTERM), -EINVAL);
    assert_int_equal(mp_process_terminate(NULL), -EINVAL);
    assert_int_equal(mp_process_kill(NULL), -EINVAL);
    assert_int_equal(mp_process_sentinel(NULL), -EINVAL);
    assert_int_equal(mp_process_pid(NULL), -EINVAL);
    assert_int_equal(mp_process_is_daemon(NULL), -EINVAL);
    assert_null(mp_process_name(NULL));
    assert_null(mp_process_free(NULL));
    assert_int_equal(mp_process_active_children(NULL), -EINVAL);
    assert_int_equal(mp_process_start(nothing, NULL, &p), 0);
    assert_int_equal(mp_process_exit_info(p, NULL), -EINVAL);
    assert_int_equal(finish(p), 0);
}

/* In a helper: with no descriptor to spare nothing is started, and nothing is lost. */
MP_ENTRY(starts_without_fds)
{
    enum mp_start_method method = *(const enum mp_start_method *)call->data;
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 100};
    int last = -1, starts = 0;

    /* A forkserver keeps the limits that there were when it was made. */
    if (method == MP_START_FORKSERVER) {
        mp_process *p;

        if (mp_process_start(nothing, MP_PROCESS_OPTIONS(.method = method), &p) < 0 ||
            mp_process_join(p, MP_FOREVER) < 0)
            return 5;
        mp_process_free(p);
    }

    for (; limit.rlim_cur < 40; limit.rlim_cur++) {
        mp_process *p;
        int r;

        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return 1;
        r = mp_process_start(nothing, MP_PROCESS_OPTIONS(.method = method, .daemon = 1), &p);
        if (r < 0 && (r != -EMFILE || last == 0))
            return 2;
        last = r;
        if (r == 0) {
            struct mp_exit_info info;

            starts++;
            if (mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0 ||
                info.code != 0)
                return 3;
            mp_process_free(p);
        }
    }
    return starts > 5 ? 0 : 4;
}

static void test_no_fds(void **state)
{
    mp_process *p;

    assert_int_equal(mp_process_start(starts_without_fds,
                                      MP_PROCESS_OPTIONS(.method = MP_START_SPAWN, .data = *state,
                                                         .size = sizeof METHOD),
                                      &p),
                     0);
    assert_int_equal(finish(p), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        by_each(test_data),
        by_each(test_fds),
        by_each(test_arenas),
        clean_test(test_arena_full),
        by_each(test_surroundings),
        by_each(test_no_stdio),
        by_each(test_stdio),
        by_each(test_reader),
        by_each(test_exit_duties),
        by_each(test_reaped_by_others),
        by_each(test_sigchld_ignored),
        by_each(test_reaper_thread),
        by_each(test_busy_threads),
        clean_test(test_after_fork),
        by_each(test_bad_input),
        clean_test(test_null),
        by_each(test_no_fds),
    };

    mp_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
