/* SPDX-License-Identifier: MIT */
/*
 * Daemons end with their parent's process, whatever ends it, and not with a thread of it.
 *
 * The parent here is a process started for it. It starts the daemon and dies; the daemon's end is
 * seen by a pipe of which nobody but the daemon has the other end. How long that takes is not
 * measured, only that it comes: the tests would not end.
 */

#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/clock.h"
#include "base/leftovers.h"
#include "base/sanitizer.h"
#include "process/methods.h"

#define ROUNDS 200

enum end { BY_KILL, BY_EXIT, BY_RETURN, BY_UNDERSCORE_EXIT, BY_SEGV, BY_EXEC, BY_LAST_THREAD };

/* What the parent and its daemon are told. */
struct scene {
    enum mp_start_method method;
    enum end end;
    int stopped;      /* the daemon stops itself */
    int stubborn;     /* the daemon ignores SIGTERM */
    int leaderless;   /* the daemon's main thread ends */
    int fork_stays;   /* the parent leaves a forked child behind */
    int from_thread;  /* the daemon is started by a thread that ends */
    int refuse_owner; /* the lifeline does not work */
};

static void wait_for_ever(void)
{
    for (;;)
        pause();
}

static void *pause_thread(void *unused)
{
    wait_for_ever();
    return unused;
}

/* fds: a pipe to say "here" and never to close. */
MP_ENTRY(daemon_entry)
{
    const struct scene *s = call->data;
    pthread_t t;

    if (mp_process_is_daemon(mp_process_current()) != 1)
        return 1;
    if (mp_process_start(daemon_entry, NULL, NULL) != -EPERM)
        return 1;
    if (s->stubborn)
        signal(SIGTERM, SIG_IGN);
    if (s->leaderless && pthread_create(&t, NULL, pause_thread, NULL) != 0)
        return 1;
    if (write(call->fds[0], "d", 1) != 1)
        return 1;
    if (s->leaderless)
        pthread_exit(NULL);
    if (s->stopped)
        raise(SIGSTOP);
    wait_for_ever();
    return 0;
}

struct errand {
    const struct scene *scene;
    const struct mp_call *call;
    int answer;
};

static void *start_daemon(void *arg)
{
    struct errand *e = arg;

    e->answer = mp_process_start(daemon_entry,
                                 MP_PROCESS_OPTIONS(.method = e->scene->method, .daemon = 1,
                                                    .data = e->scene, .size = sizeof *e->scene,
                                                    .fds = e->call->fds, .n_fds = 1),
                                 NULL);
    return NULL;
}

static int refuse_owner(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int r = filter ? seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(fcntl), 1,
                                      SCMP_A1(SCMP_CMP_EQ, F_SETSIG))
                   : -ENOMEM;

    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r;
}

static _Noreturn void come_to_end(enum end end)
{
    switch (end) {
    case BY_EXIT:
        exit(5);
    case BY_UNDERSCORE_EXIT:
        _exit(5);
    case BY_SEGV:
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
        break;
    case BY_EXEC:
        execl("/bin/sleep", "sleep", "3600", (char *)NULL);
        break;
    case BY_LAST_THREAD:
        pthread_exit(NULL);
    default:
        break;
    }
    wait_for_ever();
    _exit(1);
}

/* fds: the daemon's pipe; one of our own to say that all is set up; one that tells us to end. */
MP_ENTRY(parent_entry)
{
    const struct scene *s = call->data;
    struct errand e = {.scene = s, .call = call};
    char c;

    if (s->refuse_owner && refuse_owner() != 0)
        return 1;
    if (s->from_thread) {
        pthread_t t;

        if (pthread_create(&t, NULL, start_daemon, &e) != 0 || pthread_join(t, NULL) != 0)
            return 1;
    } else {
        start_daemon(&e);
    }
    if (e.answer < 0)
        return 2;
    if (s->fork_stays && fork() == 0) {
        /* Keeps what it inherited, but for the pipe by which the daemon's end is seen. */
        close(call->fds[0]);
        _exit(read(call->fds[2], &c, 1) != 1);
    }
    close(call->fds[0]);
    if (write(call->fds[1], "p", 1) != 1 || read(call->fds[2], &c, 1) != 1)
        return 1;
    if (s->end == BY_RETURN)
        return 5;
    come_to_end(s->end);
}

struct stage {
    mp_process *parent;
    int daemon[2], ready[2], go[2];
};

static void open_stage(struct stage *g, const struct scene *s, enum mp_start_method method)
{
    char c;

    assert_int_equal(pipe2(g->daemon, O_CLOEXEC), 0);
    assert_int_equal(pipe2(g->ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(g->go, O_CLOEXEC), 0);
    assert_int_equal(
        mp_process_start(
            parent_entry,
            MP_PROCESS_OPTIONS(.method = method, .data = s, .size = sizeof *s,
                               .fds = ((const int[]){g->daemon[1], g->ready[1], g->go[0]}),
                               .n_fds = 3),
            &g->parent),
        0);
    close(g->daemon[1]);
    close(g->ready[1]);
    assert_int_equal(read(g->ready[0], &c, 1), 1);
    assert_int_equal(read(g->daemon[0], &c, 1), 1);
}

static bool is_daemon_gone(struct stage *g, int timeout_msec)
{
    struct pollfd f = {.fd = g->daemon[0], .events = POLLIN};

    return poll(&f, 1, timeout_msec) == 1 && (f.revents & POLLHUP);
}

static void let_go(struct stage *g)
{
    assert_int_equal(write(g->go[1], "g", 1), 1);
}

static void close_stage(struct stage *g)
{
    mp_process_free(g->parent);
    close(g->daemon[0]);
    close(g->ready[0]);
    close(g->go[0]);
    close(g->go[1]);
}

static void play(struct scene s, int code)
{
    struct mp_exit_info info;
    struct stage g;

    open_stage(&g, &s, s.method);
    assert_false(is_daemon_gone(&g, 0));
    let_go(&g);
    if (s.end == BY_KILL)
        assert_int_equal(mp_process_kill(g.parent), 0);
    if (s.end != BY_EXEC) {
        assert_int_equal(mp_process_join(g.parent, MP_FOREVER), 0);
        assert_int_equal(mp_process_exit_info(g.parent, &info), 0);
        assert_int_equal(info.code, code);
    }
    assert_true(is_daemon_gone(&g, -1));
    if (s.end == BY_EXEC) {
        /* The parent lives on as another program. */
        assert_int_equal(mp_process_is_alive(g.parent), 1);
        assert_int_equal(mp_process_kill(g.parent), 0);
        assert_int_equal(mp_process_join(g.parent, MP_FOREVER), 0);
    }
    close_stage(&g);
}

#define PLAY(code, ...) \
    play((struct scene){.method = *(enum mp_start_method *)*state, __VA_ARGS__}, code)

static void test_parent_killed(void **state)
{
    PLAY(-SIGKILL, .end = BY_KILL);
    PLAY(-SIGKILL, .end = BY_KILL, .stubborn = 1);
    PLAY(-SIGKILL, .end = BY_KILL, .stopped = 1);
    PLAY(-SIGKILL, .end = BY_KILL, .leaderless = 1);
    PLAY(-SIGKILL, .end = BY_KILL, .from_thread = 1);
}

static void test_parent_ends_otherwise(void **state)
{
    PLAY(5, .end = BY_EXIT);
    PLAY(5, .end = BY_RETURN);
    PLAY(5, .end = BY_UNDERSCORE_EXIT);
    PLAY(-SIGSEGV, .end = BY_SEGV);
    PLAY(0, .end = BY_EXEC);
    /* Without main's stack what it points to looks leaked. */
    if (!WITH_ASAN)
        PLAY(0, .end = BY_LAST_THREAD);
}

/* At exit a daemon has a second to follow SIGTERM. */
static void test_stubborn_at_exit(void **state)
{
    PLAY(5, .end = BY_EXIT, .stubborn = 1);
    PLAY(5, .end = BY_RETURN, .stopped = 1);
}

/* What the parent forked otherwise has copies of all its descriptors, and holds up nothing. */
static void test_fork_stays(void **state)
{
    struct scene s = {.method = *(enum mp_start_method *)*state, .fork_stays = 1};
    struct stage g;

    open_stage(&g, &s, s.method);
    assert_int_equal(mp_process_kill(g.parent), 0);
    assert_int_equal(mp_process_join(g.parent, MP_FOREVER), 0);
    assert_true(is_daemon_gone(&g, -1));
    let_go(&g);
    close_stage(&g);
}

/* With no lifeline a thread of the daemon watches, unless it is stopped. */
static void test_second_best(void **state)
{
    PLAY(-SIGKILL, .end = BY_KILL, .refuse_owner = 1);
    PLAY(-SIGKILL, .end = BY_KILL, .refuse_owner = 1, .leaderless = 1, .from_thread = 1);
    PLAY(5, .end = BY_UNDERSCORE_EXIT, .refuse_owner = 1);
}

/* Starts daemons without end. fds: the pipe by which their end is seen. */
MP_ENTRY(starts_daemons)
{
    struct scene s = {.method = *(const enum mp_start_method *)call->data};
    struct errand e = {.scene = &s, .call = call};

    for (;;) {
        mp_process **found;
        int n;

        start_daemon(&e);
        if (e.answer < 0)
            return 1;
        n = mp_process_active_children(&found);
        for (int i = 0; i < n; i++) {
            if (i < n - 2)
                mp_process_kill(found[i]);
            mp_process_free(found[i]);
        }
        if (n >= 0)
            free(found);
    }
}

/* Killed at any time, while it starts one as well, it leaves none behind. */
static void test_killed_while_starting(void **state)
{
    for (int round = 0; round < ROUNDS / 2; round++) {
        uint64_t until;
        mp_process *p;
        int ends[2];
        char c;

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(mp_process_start(starts_daemons,
                                          MP_PROCESS_OPTIONS(.data = *state, .size = sizeof METHOD,
                                                             .fds = &ends[1], .n_fds = 1),
                                          &p),
                         0);
        close(ends[1]);
        /* From the first daemon on, anywhere in the start of a later one. */
        assert_int_equal(read(ends[0], &c, 1), 1);
        until = mp_now_ns() + (uint64_t)round * 15000;
        while (mp_now_ns() < until)
            ;
        assert_int_equal(mp_process_kill(p), 0);
        while (read(ends[0], &c, 1) > 0)
            ;
        assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
        mp_process_free(p);
        close(ends[0]);
    }
}

/* The thread that starts the daemon ends; nothing happens to the daemon. */
static void test_thread_ends(void **state)
{
    int rounds = *(enum mp_start_method *)*state == MP_START_FORK ? ROUNDS : ROUNDS / 4;

    for (int i = 0; i < rounds; i++) {
        struct scene s = {.method = *(enum mp_start_method *)*state};
        struct errand e = {.scene = &s};
        struct mp_call call;
        mp_process **found;
        pthread_t t;
        int ends[2];
        char c;

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        call = (struct mp_call){.fds = &ends[1], .n_fds = 1};
        e.call = &call;
        assert_int_equal(pthread_create(&t, NULL, start_daemon, &e), 0);
        pthread_join(t, NULL);
        assert_int_equal(e.answer, 0);
        assert_int_equal(read(ends[0], &c, 1), 1);
        assert_int_equal(mp_process_active_children(&found), 1);
        assert_int_equal(mp_process_join(found[0], i % 20 ? 0 : MP_MSEC(20)),
                         i % 20 ? -EAGAIN : -ETIMEDOUT);
        assert_int_equal(mp_process_terminate(found[0]), 0);
        assert_int_equal(mp_process_join(found[0], MP_FOREVER), 0);
        mp_process_free(found[0]);
        free(found);
        close(ends[0]);
        close(ends[1]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        by_each(test_parent_killed),    by_each(test_parent_ends_otherwise),
        by_each(test_stubborn_at_exit), by_each(test_fork_stays),
        by_each(test_second_best),      by_each(test_killed_while_starting),
        by_each(test_thread_ends),
    };

    mp_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
