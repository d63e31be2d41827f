/* SPDX-License-Identifier: MIT */
/* Starting, waiting, ending: each test by fork and by spawn. */

#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/clock.h"
#include "base/leftovers.h"
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

/* ---- codes and signals ---- */

MP_ENTRY(returns)
{
    return *(const int *)call->data;
}

MP_ENTRY(exits)
{
    exit(*(const int *)call->data);
}

MP_ENTRY(raises)
{
    signal(*(const int *)call->data, SIG_DFL);
    raise(*(const int *)call->data);
    return 99;
}

static void test_codes(void **state)
{
    static const struct {
        int given, code;
    } cases[] = {{0, 0}, {1, 1}, {7, 7}, {255, 255}, {256, 0}, {-1, 255}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mp_process *p;

        START(returns, &p, MP_DATA(cases[i].given));
        assert_int_equal(finish(p), cases[i].code);
        START(exits, &p, MP_DATA(cases[i].given));
        assert_int_equal(finish(p), cases[i].code);
    }
}

static void test_signals(void **state)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGUSR1, SIGABRT, SIGSEGV, SIGHUP};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct mp_exit_info info;
        mp_process *p;

        START(raises, &p, MP_DATA(signals[i]));
        assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
        assert_int_equal(mp_process_exit_info(p, &info), 0);
        assert_int_equal(info.code, -signals[i]);
        assert_int_equal(info.signal, signals[i]);
        mp_process_free(p);
    }
}

MP_ENTRY(burns)
{
    struct timespec t;

    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    while (t.tv_sec == 0 && t.tv_nsec < 30000000);
    return 0;
}

static void test_usage(void **state)
{
    struct mp_exit_info info;
    mp_process *p;

    START(burns, &p);
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_exit_info(p, &info), 0);
    assert_true(info.wall_ns > 0);
    /* Ticks, so about. */
    assert_true(info.usage.ru_utime.tv_usec + info.usage.ru_stime.tv_usec >= 10000 ||
                info.usage.ru_utime.tv_sec + info.usage.ru_stime.tv_sec > 0);
    mp_process_free(p);
}

/* ---- waiting ---- */

/* Until the other end of the pipe is closed; says first that it is there. */
MP_ENTRY(waits)
{
    char c = 0;

    if (call->n_fds == 2 && write(call->fds[1], "x", 1) != 1)
        return 1;
    return read(call->fds[0], &c, 1) == 1 ? c : 0;
}

struct pipes {
    int down[2], up[2];
};

static void pipes_open(struct pipes *q)
{
    assert_int_equal(pipe2(q->down, O_CLOEXEC), 0);
    assert_int_equal(pipe2(q->up, O_CLOEXEC), 0);
}

static void pipes_close(struct pipes *q)
{
    close(q->down[0]);
    close(q->down[1]);
    close(q->up[0]);
    close(q->up[1]);
}

#define PIPES(q) .fds = ((const int[]){(q).down[0], (q).up[1]}), .n_fds = 2

static void await_byte(int fd)
{
    char c;

    assert_int_equal(read(fd, &c, 1), 1);
}

static void test_timeouts(void **state)
{
    struct mp_exit_info info = {.code = 12345};
    struct pipes q;
    mp_process *p;

    pipes_open(&q);
    START(waits, &p, PIPES(q));
    await_byte(q.up[0]);
    assert_int_equal(mp_process_is_alive(p), 1);
    assert_int_equal(mp_process_join(p, 0), -EAGAIN);
    assert_int_equal(mp_process_join(p, MP_MSEC(5)), -ETIMEDOUT);
    assert_int_equal(mp_process_exit_info(p, &info), -EAGAIN);
    assert_int_equal(info.code, 12345);
    assert_int_equal(write(q.down[1], "\3", 1), 1);
    assert_int_equal(mp_process_join(p, MP_FOREVER - 1), 0);
    assert_int_equal(mp_process_join(p, 0), 0);
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_is_alive(p), 0);
    assert_int_equal(finish(p), 3);
    pipes_close(&q);
}

static void test_sentinel(void **state)
{
    struct pollfd f = {.events = POLLIN};
    struct pipes q;
    mp_process *p;

    pipes_open(&q);
    START(waits, &p, PIPES(q));
    f.fd = mp_process_sentinel(p);
    assert_true(f.fd >= 0);
    assert_int_equal(fcntl(f.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(poll(&f, 1, 0), 0);
    assert_int_equal(write(q.down[1], "\5", 1), 1);
    assert_int_equal(poll(&f, 1, -1), 1);
    assert_int_equal(mp_process_join(p, 0), 0);
    assert_int_equal(mp_process_sentinel(p), f.fd);
    assert_int_equal(poll(&f, 1, 0), 1);
    assert_int_equal(finish(p), 5);
    pipes_close(&q);
}

static void test_terminate(void **state)
{
    struct pipes q;
    mp_process *p;

    pipes_open(&q);
    START(waits, &p, PIPES(q));
    assert_int_equal(mp_process_signal(p, 0), 0);
    assert_int_equal(mp_process_signal(p, 65), -EINVAL);
    assert_int_equal(mp_process_signal(p, -1), -EINVAL);
    assert_int_equal(mp_process_terminate(p), 0);
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_terminate(p), 0);
    assert_int_equal(mp_process_kill(p), 0);
    assert_int_equal(finish(p), -SIGTERM);

    /* A stopped one is killed all the same. */
    START(waits, &p, PIPES(q));
    assert_int_equal(mp_process_signal(p, SIGSTOP), 0);
    assert_int_equal(mp_process_is_alive(p), 1);
    assert_int_equal(mp_process_kill(p), 0);
    assert_int_equal(finish(p), -SIGKILL);
    pipes_close(&q);
}

static void *join_thread(void *p)
{
    struct mp_exit_info info;

    if (mp_process_join(p, MP_FOREVER) != 0 || mp_process_exit_info(p, &info) != 0)
        return NULL;
    return info.known && info.code == 4 ? p : NULL;
}

static void test_join_by_many(void **state)
{
    for (int round = 0; round < 20; round++) {
        pthread_t threads[6];
        struct pipes q;
        mp_process *p;

        pipes_open(&q);
        START(waits, &p, PIPES(q));
        for (int i = 0; i < 6; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, join_thread, p), 0);
        assert_int_equal(write(q.down[1], "\4", 1), 1);
        for (int i = 0; i < 6; i++) {
            void *found;

            pthread_join(threads[i], &found);
            assert_ptr_equal(found, p);
        }
        assert_int_equal(finish(p), 4);
        pipes_close(&q);
    }
}

/* ---- names and kin ---- */

/* Writes "NAME|PARENT'S NAME|is_daemon". */
static int say_name(const struct mp_call *call)
{
    bool forkserver = *(const enum mp_start_method *)call->data == MP_START_FORKSERVER;
    mp_process *self = mp_process_current(), *parent = mp_process_parent();
    char text[128];
    int n;

    if (!self || !parent || mp_process_pid(self) != getpid() ||
        (mp_process_pid(parent) == getppid()) == forkserver || mp_process_is_alive(parent) != 1 ||
        mp_process_is_alive(self) != 1)
        return 1;
    n = snprintf(text, sizeof text, "%s|%s|%d\n", mp_process_name(self), mp_process_name(parent),
                 mp_process_is_daemon(self));
    return write(call->fds[0], text, (size_t)n) == n ? 0 : 1;
}

MP_ENTRY(says_name)
{
    return say_name(call);
}

MP_ENTRY(says_names)
{
    enum mp_start_method method = *(const enum mp_start_method *)call->data;
    int r = say_name(call);

    for (int i = 0; i < 2; i++) {
        struct mp_exit_info info;
        mp_process *p;

        if (mp_process_start(says_name,
                             MP_PROCESS_OPTIONS(.method = method, .data = call->data,
                                                .size = call->size, .fds = call->fds, .n_fds = 1),
                             &p) < 0 ||
            mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0 || info.code)
            return 1;
        mp_process_free(p);
    }
    return r;
}

static void test_names(void **state)
{
    char text[1024] = "", expected[1024], longest[MP_NAME_MAX + 2];
    unsigned number;
    mp_process *p;
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    START(says_names, &p, .data = *state, .size = sizeof METHOD, .fds = &ends[1], .n_fds = 1);
    assert_int_equal(sscanf(mp_process_name(p), "Process-%u", &number), 1);
    assert_int_equal(finish(p), 0);
    START(says_names, &p, .name = "a name", .data = *state, .size = sizeof METHOD, .fds = &ends[1],
          .n_fds = 1);
    assert_string_equal(mp_process_name(p), "a name");
    assert_int_equal(finish(p), 0);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    snprintf(expected, sizeof expected,
             "Process-%1$u|MainProcess|0\n"
             "Process-%1$u:1|Process-%1$u|0\n"
             "Process-%1$u:2|Process-%1$u|0\n"
             "a name|MainProcess|0\n"
             "Process-%2$u:1|a name|0\n"
             "Process-%2$u:2|a name|0\n",
             number, number + 1);
    assert_string_equal(text, expected);

    memset(longest, 'n', sizeof longest);
    longest[MP_NAME_MAX] = '\0';
    START(says_name, &p, .name = longest, .data = *state, .size = sizeof METHOD, .fds = &ends[1],
          .n_fds = 1, .daemon = 1);
    assert_int_equal(mp_process_is_daemon(p), 1);
    assert_int_equal(finish(p), 0);
    memset(text, 0, sizeof text);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    snprintf(expected, sizeof expected, "%s|MainProcess|1\n", longest);
    assert_string_equal(text, expected);
    close(ends[0]);
    close(ends[1]);
}

static void test_self(void **state)
{
    mp_process *self = mp_process_current();
    struct mp_exit_info info;
    struct pollfd f = {.events = POLLIN};

    (void)state;
    assert_non_null(self);
    assert_ptr_equal(mp_process_current(), self);
    assert_null(mp_process_parent());
    assert_string_equal(mp_process_name(self), "MainProcess");
    assert_int_equal(mp_process_pid(self), getpid());
    assert_int_equal(mp_process_is_alive(self), 1);
    assert_int_equal(mp_process_is_daemon(self), 0);
    assert_int_equal(mp_process_join(self, 0), -EINVAL);
    assert_int_equal(mp_process_exit_info(self, &info), -EAGAIN);
    assert_int_equal(mp_process_signal(self, 0), 0);
    f.fd = mp_process_sentinel(self);
    assert_true(f.fd >= 0);
    assert_int_equal(poll(&f, 1, 0), 0);
    assert_null(mp_process_free(self));
    assert_ptr_equal(mp_process_current(), self);
}

/* Waits for its parent's end, then says what it knows of it. */
MP_ENTRY(orphan)
{
    mp_process *parent = mp_process_parent();
    struct mp_exit_info info = {.known = 1};
    char text[] = "ok";

    if (write(call->fds[0], "r", 1) != 1)
        return 1;
    if (mp_process_join(parent, MP_FOREVER) != 0 || mp_process_is_alive(parent) != 0 ||
        mp_process_exit_info(parent, &info) != 0 || info.known != 0 || info.code != 255 ||
        mp_process_kill(parent) != 0)
        text[0] = 'x';
    if (mp_process_join(parent, 0) != 0)
        text[1] = 'x';
    return write(call->fds[0], text, 2) == 2 ? 0 : 1;
}

MP_ENTRY(leaves_orphan)
{
    enum mp_start_method method = *(const enum mp_start_method *)call->data;
    char c;

    if (mp_process_start(orphan,
                         MP_PROCESS_OPTIONS(.method = method, .fds = &call->fds[0], .n_fds = 1),
                         NULL) < 0)
        return 1;
    /* The orphan is ready; dying is for another to see to. */
    return read(call->fds[1], &c, 1) == 1 ? raise(SIGKILL) : 1;
}

static void test_parent_dies(void **state)
{
    char text[4] = "";
    struct pipes q;
    mp_process *p;

    pipes_open(&q);
    START(leaves_orphan, &p, .data = *state, .size = sizeof METHOD,
          .fds = ((const int[]){q.up[1], q.down[0]}), .n_fds = 2);
    await_byte(q.up[0]);
    assert_int_equal(write(q.down[1], "d", 1), 1);
    assert_int_equal(finish(p), -SIGKILL);
    assert_int_equal(read(q.up[0], text, 2), 2);
    assert_string_equal(text, "ok");
    pipes_close(&q);
}

static void test_active_children(void **state)
{
    mp_process *p[3], **found;
    struct pipes q;

    pipes_open(&q);
    assert_int_equal(mp_process_active_children(&found), 0);
    free(found);
    for (int i = 0; i < 3; i++)
        START(waits, &p[i], PIPES(q));
    /* A dropped handle drops no child. */
    mp_process_free(p[1]);
    assert_int_equal(mp_process_active_children(&found), 3);
    assert_ptr_equal(found[0], p[0]);
    assert_ptr_equal(found[2], p[2]);
    p[1] = found[1];
    mp_process_free(found[0]);
    mp_process_free(found[2]);
    free(found);

    assert_int_equal(mp_process_kill(p[0]), 0);
    assert_int_equal(mp_process_join(p[0], MP_FOREVER), 0);
    assert_int_equal(mp_process_active_children(&found), 2);
    assert_ptr_equal(found[0], p[1]);
    mp_process_free(found[0]);
    mp_process_free(found[1]);
    free(found);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mp_process_kill(p[i]), 0);
        assert_int_equal(finish(p[i]), -SIGKILL);
    }
    pipes_close(&q);
}

/* Nobody has the handle: the next start reaps. */
static void test_forgotten(void **state)
{
    struct pollfd f = {.events = POLLIN};
    mp_process *p;
    int code = 0, fds[10], last;

    for (int i = 0; i < 10; i++) {
        START(returns, &p, MP_DATA(code));
        fds[i] = dup(mp_process_sentinel(p));
        mp_process_free(p);
    }
    START(returns, NULL, MP_DATA(code));
    for (int i = 0; i < 10; i++) {
        f.fd = fds[i];
        assert_int_equal(poll(&f, 1, -1), 1);
        close(fds[i]);
    }
    START(returns, &p, MP_DATA(code));
    assert_int_equal(finish(p), 0);
    /* The one without a handle ends at a time of its own. */
    do {
        mp_process **found;

        last = mp_process_active_children(&found);
        for (int i = 0; i < last; i++) {
            mp_process_join(found[i], MP_FOREVER);
            mp_process_free(found[i]);
        }
        free(found);
    } while (last > 0);
}

/* ---- cancelled threads ---- */

struct cancelled {
    enum mp_start_method *method;
    mp_process *process;
};

/* Cancelled already, so it ends at the first point in the library where that is allowed. */
static void *start_cancelled(void *user)
{
    struct cancelled *c = user;
    void **state = (void **)&c->method;
    int code = 3;

    pthread_cancel(pthread_self());
    START(returns, &c->process, MP_DATA(code));
    mp_process_join(c->process, MP_FOREVER);
    pthread_testcancel();
    return NULL;
}

/* It keeps nothing locked that others need. */
static void test_cancelled(void **state)
{
    struct cancelled c = {.method = *state};
    pthread_t thread;
    mp_process *p;
    void *result;
    int code = 4;

    assert_int_equal(pthread_create(&thread, NULL, start_cancelled, &c), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    START(returns, &p, MP_DATA(code));
    assert_int_equal(finish(p), 4);
    assert_non_null(c.process);
    assert_int_equal(finish(c.process), 3);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        by_each(test_codes),        by_each(test_signals),         by_each(test_usage),
        by_each(test_timeouts),     by_each(test_sentinel),        by_each(test_terminate),
        by_each(test_join_by_many), by_each(test_names),           cmocka_unit_test(test_self),
        by_each(test_parent_dies),  by_each(test_active_children), by_each(test_forgotten),
        by_each(test_cancelled),
    };

    mp_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
