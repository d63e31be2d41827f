/* SPDX-License-Identifier: MIT */
/* mp_wait() and pollers: for each kind of object, alone and mixed, by all carriers; who is woken in
 * another's place; the dead; and every error. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/cleanup.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)
#define MANY 600u

/* One of each, in one arena. */
struct objects {
    mp_lock *lock;
    mp_rlock *rlock;
    mp_semaphore *permits;
    mp_semaphore *signals;
    mp_event *event;
    mp_condition *condition;
    mp_lock *guard; /* the condition's */
    mp_queue *queue;
    mp_queue *pair;
};

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "wait", MP_ARENA_OPTIONS(.size = 4 << 20, .participants = 32, .objects = 1024), &arena),
        0);
    return arena;
}

static void make_objects(mp_arena *a, struct objects *o)
{
    assert(mp_lock_create(a, "lock", &o->lock) == 0);
    assert(mp_rlock_create(a, "rlock", &o->rlock) == 0);
    assert(mp_semaphore_create(a, "permits", MP_SEMAPHORE_OPTIONS(.value = 1), &o->permits) == 0);
    assert(mp_semaphore_create(a, "signals", MP_SEMAPHORE_OPTIONS(.value = 0), &o->signals) == 0);
    assert(mp_event_create(a, "event", &o->event) == 0);
    assert(mp_condition_create(a, "condition", &o->condition) == 0);
    assert(mp_lock_create(a, "guard", &o->guard) == 0);
    assert(mp_queue_create(a, "queue", MP_QUEUE_OPTIONS(.maxsize = 3), &o->queue) == 0);
    assert(mp_queue_create(a, "pair",
                           MP_QUEUE_OPTIONS(.maxsize = 3, .flags = MP_QUEUE_SINGLE_PRODUCER |
                                                                   MP_QUEUE_SINGLE_CONSUMER),
                           &o->pair) == 0);
}

static void open_objects(mp_arena *a, struct objects *o)
{
    assert(mp_lock_open(a, "lock", &o->lock) == 0);
    assert(mp_rlock_open(a, "rlock", &o->rlock) == 0);
    assert(mp_semaphore_open(a, "permits", &o->permits) == 0);
    assert(mp_semaphore_open(a, "signals", &o->signals) == 0);
    assert(mp_event_open(a, "event", &o->event) == 0);
    assert(mp_condition_open(a, "condition", &o->condition) == 0);
    assert(mp_lock_open(a, "guard", &o->guard) == 0);
    assert(mp_queue_open(a, "queue", &o->queue) == 0);
    assert(mp_queue_open(a, "pair", &o->pair) == 0);
}

static void close_objects(struct objects *o)
{
    mp_lock_close(o->lock);
    mp_rlock_close(o->rlock);
    mp_semaphore_close(o->permits);
    mp_semaphore_close(o->signals);
    mp_event_close(o->event);
    mp_condition_close(o->condition);
    mp_lock_close(o->guard);
    mp_queue_close(o->queue);
    mp_queue_close(o->pair);
}

/* ---- what makes each of them ready, and not ready again ---- */

enum kind { LOCK, RLOCK, PERMITS, SIGNALS, EVENT, CONDITION, READABLE, PAIR, WRITABLE, KINDS };

static struct mp_waitable waitable_of(struct objects *o, enum kind kind)
{
    switch (kind) {
    case LOCK:
        return mp_lock_waitable(o->lock);
    case RLOCK:
        return mp_rlock_waitable(o->rlock);
    case PERMITS:
        return mp_semaphore_waitable(o->permits);
    case SIGNALS:
        return mp_semaphore_waitable(o->signals);
    case EVENT:
        return mp_event_waitable(o->event);
    case CONDITION:
        return mp_condition_waitable(o->condition);
    case READABLE:
        return mp_queue_readable(o->queue);
    case PAIR:
        return mp_queue_readable(o->pair);
    default:
        return mp_queue_writable(o->queue);
    }
}

/* From here on it is not ready, until make_ready() by the same participant. */
static void make_busy(struct objects *o, enum kind kind)
{
    int r = 0;

    switch (kind) {
    case LOCK:
        r = mp_lock_acquire(o->lock, PATIENCE);
        break;
    case RLOCK:
        r = mp_rlock_acquire(o->rlock, PATIENCE);
        break;
    case PERMITS:
        r = mp_semaphore_acquire(o->permits, PATIENCE);
        break;
    case WRITABLE:
        while (r == 0)
            r = mp_queue_put(o->queue, "x", 1, 0);
        assert(r == -EAGAIN);
        r = 0;
        break;
    default:
        break;
    }
    assert(r == 0 || r == MP_OWNER_DIED);
}

static void make_ready(struct objects *o, enum kind kind)
{
    char c;
    int r = 0;

    switch (kind) {
    case LOCK:
        r = mp_lock_release(o->lock);
        break;
    case RLOCK:
        r = mp_rlock_release(o->rlock);
        break;
    case PERMITS:
        r = mp_semaphore_release(o->permits, 1);
        break;
    case SIGNALS:
        r = mp_semaphore_release(o->signals, 1);
        break;
    case EVENT:
        r = mp_event_set(o->event);
        break;
    case CONDITION:
        assert(mp_lock_acquire(o->guard, PATIENCE) >= 0);
        r = mp_condition_notify(o->condition, o->guard, 1);
        assert(mp_lock_release(o->guard) == 0);
        break;
    case READABLE:
        r = mp_queue_put(o->queue, "x", 1, PATIENCE);
        break;
    case PAIR:
        r = mp_queue_put(o->pair, "x", 1, PATIENCE);
        break;
    default:
        r = mp_queue_get(o->queue, &c, 1, PATIENCE, NULL);
        break;
    }
    assert(r == 0);
}

/* Of one that is ready: what it takes to have it so no more. */
static void use_up(struct objects *o, enum kind kind)
{
    char c;
    int r = 0;

    switch (kind) {
    case SIGNALS:
        r = mp_semaphore_acquire(o->signals, 0);
        break;
    case EVENT:
        r = mp_event_clear(o->event);
        break;
    case READABLE:
        r = mp_queue_get(o->queue, &c, 1, 0, NULL);
        break;
    case PAIR:
        r = mp_queue_get(o->pair, &c, 1, 0, NULL);
        break;
    default:
        break;
    }
    assert(r == 0);
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    struct mp_waitable w = mp_timer_waitable(0);
    struct mp_waitable many[MP_WAIT_MAX + 1];
    mp_poller *p = NULL;

    (void)state;
    assert_int_equal(mp_wait(NULL, 1, 0), -EINVAL);
    assert_int_equal(mp_wait(&w, 0, 0), -EINVAL);
    for (unsigned i = 0; i <= MP_WAIT_MAX; i++)
        many[i] = w;
    assert_int_equal(mp_wait(many, MP_WAIT_MAX + 1, 0), -EINVAL);
    assert_int_equal(mp_wait(many, MP_WAIT_MAX, 0), MP_WAIT_MAX);
    assert_int_equal(mp_poller_new(&w, &p), -EINVAL);
    assert_int_equal(mp_poller_new(NULL, &p), -EINVAL);
    w = mp_lock_waitable(NULL);
    assert_int_equal(mp_poller_new(&w, &p), -EINVAL);
    assert_int_equal(mp_wait(&w, 1, 0), -EINVAL);
    assert_null(p);
    assert_int_equal(mp_poller_fd(NULL), -EINVAL);
    assert_int_equal(mp_poller_check(NULL), -EINVAL);
    assert_null(mp_poller_free(NULL));
    const struct mp_waitable none[] = {
        mp_rlock_waitable(NULL),     mp_semaphore_waitable(NULL), mp_event_waitable(NULL),
        mp_condition_waitable(NULL), mp_queue_readable(NULL),     mp_queue_writable(NULL),
        mp_process_waitable(NULL),   mp_fd_waitable(-1, POLLIN),  {0},
    };

    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++) {
        w = none[i];
        assert_int_equal(mp_wait(&w, 1, MP_FOREVER), -EINVAL);
    }
    /* One that is closed is said to be so. */
    w = mp_fd_waitable(1000, POLLIN);
    assert_int_equal(mp_wait(&w, 1, MP_FOREVER), 1);
    assert_int_equal(w.ready, POLLNVAL);
}

static void test_alone(void **state)
{
    mp_arena *arena = make_arena();
    struct objects o;

    (void)state;
    make_objects(arena, &o);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct mp_waitable w;
        uint64_t start = mp_now_ns();

        /* A recursive lock is had by its owner. */
        if (kind == RLOCK)
            continue;
        make_busy(&o, kind);
        w = waitable_of(&o, kind);
        assert_int_equal(mp_wait(&w, 1, 0), 0);
        assert_int_equal(w.ready, 0);
        assert_int_equal(mp_wait(&w, 1, MP_MSEC(20)), 0);
        assert_true(mp_now_ns() - start >= MP_MSEC(20));
        make_ready(&o, kind);
        assert_int_equal(mp_wait(&w, 1, 0), 1);
        assert_int_equal(w.ready, 1);
        assert_int_equal(mp_wait(&w, 1, MP_FOREVER), 1);
        use_up(&o, kind);
        if (kind == WRITABLE)
            while (mp_queue_get(o.queue, &(char){0}, 1, 0, NULL) == 0) {
            }
    }
    assert_int_equal(mp_rlock_acquire(o.rlock, 0), 0);
    assert_int_equal(mp_wait(&(struct mp_waitable[]){mp_rlock_waitable(o.rlock)}[0], 1, 0), 1);
    assert_int_equal(mp_rlock_release(o.rlock), 0);
    close_objects(&o);
    mp_arena_close(arena);
}

static void test_gone(void **state)
{
    mp_arena *arena = make_arena();
    struct mp_waitable w[KINDS];
    struct objects o;

    (void)state;
    make_objects(arena, &o);
    for (enum kind kind = 0; kind < KINDS; kind++)
        w[kind] = waitable_of(&o, kind);
    assert_int_equal(mp_lock_destroy(o.lock), 0);
    assert_int_equal(mp_rlock_destroy(o.rlock), 0);
    assert_int_equal(mp_semaphore_destroy(o.permits), 0);
    assert_int_equal(mp_semaphore_destroy(o.signals), 0);
    assert_int_equal(mp_event_destroy(o.event), 0);
    assert_int_equal(mp_condition_destroy(o.condition), 0);
    assert_int_equal(mp_queue_destroy(o.queue), 0);
    assert_int_equal(mp_queue_destroy(o.pair), 0);
    assert_int_equal(mp_wait(w, KINDS, MP_FOREVER), KINDS);
    for (enum kind kind = 0; kind < KINDS; kind++)
        assert_int_equal(w[kind].ready, -ESTALE);
    close_objects(&o);
    mp_arena_close(arena);
}

/* ---- with others ---- */

#define ROUNDS 20u

/* Makes each ready once the other one waits, and takes it back when told. */
PART(partner)
{
    enum kind kind = (enum kind)(part->argument & 0xff);
    bool seen_asleep = part->argument >> 8; /* who polls is not */
    struct objects o;
    mp_semaphore *go, *done;

    open_objects(part->arena, &o);
    assert(mp_semaphore_open(part->arena, "go", &go) == 0);
    assert(mp_semaphore_open(part->arena, "done", &done) == 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        make_busy(&o, kind);
        assert(mp_semaphore_release(done, 1) == 0);
        assert(mp_semaphore_acquire(go, PATIENCE) == 0);
        if (i % 2 && seen_asleep)
            until(sleepers(part->arena, MP_WAIT_ANY) == 1);
        make_ready(&o, kind);
        assert(mp_semaphore_acquire(go, PATIENCE) == 0);
    }
    mp_semaphore_close(go);
    mp_semaphore_close(done);
    close_objects(&o);
}

enum how { ALONE, WITH_OTHERS, WITH_FDS, BY_POLLER };

static void wait_for(struct objects *o, struct mp_waitable w, enum how how, const int pipe_fds[2])
{
    struct mp_waitable all[] = {
        mp_queue_readable(o->pair),
        mp_timer_waitable(MP_FOREVER),
        w,
        mp_fd_waitable(pipe_fds[0], POLLIN),
    };
    mp_poller *p;

    switch (how) {
    case ALONE:
        assert_int_equal(mp_wait(&w, 1, PATIENCE), 1);
        assert_int_equal(w.ready, 1);
        break;
    case WITH_OTHERS:
    case WITH_FDS:
        if (w.object == all[0].object)
            all[0] = mp_timer_waitable(MP_FOREVER);
        assert_int_equal(mp_wait(all, how == WITH_FDS ? 4 : 3, PATIENCE), 1);
        assert_int_equal(all[2].ready, 1);
        break;
    case BY_POLLER:
        assert_int_equal(mp_poller_new(&w, &p), 0);
        while (mp_poller_check(p) == 0)
            assert_true(poll(&(struct pollfd){mp_poller_fd(p), POLLIN, 0}, 1, 20000) == 1);
        mp_poller_free(p);
        break;
    }
}

static void with_partner(enum carrier carrier, enum kind kind, enum how how)
{
    mp_arena *arena = make_arena();
    mp_semaphore *go, *done;
    struct crew crew;
    struct objects o;
    int fds[2];

    make_objects(arena, &o);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(mp_semaphore_create(arena, "go", MP_SEMAPHORE_OPTIONS(.value = 0), &go), 0);
    assert_int_equal(mp_semaphore_create(arena, "done", MP_SEMAPHORE_OPTIONS(.value = 0), &done),
                     0);
    crew_start(&crew, carrier, arena, partner, 1, kind | (uint64_t)(how != BY_POLLER) << 8);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct mp_waitable w;

        assert_int_equal(mp_semaphore_acquire(done, PATIENCE), 0);
        w = waitable_of(&o, kind);
        assert_int_equal(mp_wait(&w, 1, 0), 0);
        assert_int_equal(mp_semaphore_release(go, 1), 0);
        wait_for(&o, w, how, fds);
        use_up(&o, kind);
        assert_int_equal(mp_semaphore_release(go, 1), 0);
    }
    crew_join(&crew);
    close(fds[0]);
    close(fds[1]);
    mp_semaphore_close(go);
    mp_semaphore_close(done);
    close_objects(&o);
    mp_arena_close(arena);
}

static void each_kind(void **state, enum how how)
{
    need_carrier(state);
    for (enum kind kind = 0; kind < KINDS; kind++)
        if (kind != RLOCK || carrier_of(state) != THREADS || how != BY_POLLER)
            with_partner(carrier_of(state), kind, how);
}

static void test_one(void **state)
{
    each_kind(state, ALONE);
}

static void test_with_others(void **state)
{
    each_kind(state, WITH_OTHERS);
}

static void test_with_descriptors(void **state)
{
    each_kind(state, WITH_FDS);
}

static void test_by_poller(void **state)
{
    each_kind(state, BY_POLLER);
}

/* ---- nobody's wake is taken ---- */

/* Takes and gives back so many times; half of them wait for it by mp_wait() with something else
 * that is ready as often. */
PART(contender)
{
    unsigned rounds = (unsigned)part->argument;
    struct objects o;

    open_objects(part->arena, &o);
    for (unsigned i = 0; i < rounds; i++) {
        if (part->index % 2) {
            struct mp_waitable w[] = {mp_lock_waitable(o.lock), mp_semaphore_waitable(o.permits)};

            assert(mp_wait(w, 2, PATIENCE) > 0);
            continue; /* and takes neither */
        }
        assert(mp_lock_acquire(o.lock, PATIENCE) == 0);
        assert(mp_semaphore_acquire(o.permits, PATIENCE) == 0);
        assert(mp_semaphore_release(o.permits, 1) == 0);
        assert(mp_lock_release(o.lock) == 0);
    }
    close_objects(&o);
}

static void test_takes_no_wake(void **state)
{
    mp_arena *arena;
    struct crew crew;
    struct objects o;

    need_carrier(state);
    arena = make_arena();
    make_objects(arena, &o);
    crew_start(&crew, carrier_of(state), arena, contender, 6, 2000);
    crew_join(&crew);
    close_objects(&o);
    mp_arena_close(arena);
}

struct pair {
    struct objects *o;
    enum kind kind;
};

static void *watch(void *user)
{
    struct pair *p = user;
    struct mp_waitable w[] = {mp_event_waitable(p->o->event), waitable_of(p->o, p->kind)};

    assert(mp_wait(w, 2, PATIENCE) > 0);
    return NULL;
}

static void *take(void *user)
{
    struct pair *p = user;
    char c;
    int r = -EINVAL;

    if (p->kind == LOCK)
        r = mp_lock_acquire(p->o->lock, PATIENCE);
    else if (p->kind == PERMITS)
        r = mp_semaphore_acquire(p->o->permits, PATIENCE);
    else if (p->kind == READABLE)
        r = mp_queue_get(p->o->queue, &c, 1, PATIENCE, NULL);
    assert(r == 0);
    return NULL;
}

/* Who waits by mp_wait() came first, and is woken first; who sleeps behind it must be, too. The
 * keeper, which would find it a second later, is told that nobody sleeps. */
static void test_passes_on(void **state)
{
    static const uint32_t kinds[][2] = {
        {LOCK, MP_WAIT_LOCK}, {PERMITS, MP_WAIT_SEMAPHORE}, {READABLE, MP_WAIT_NOT_EMPTY}};
    mp_arena *arena = make_arena();
    struct objects o;

    (void)state;
    make_objects(arena, &o);
    for (unsigned i = 0; i < 30; i++) {
        struct pair pair = {&o, (enum kind)kinds[i % 3][0]};
        pthread_t watcher, taker;

        make_busy(&o, pair.kind);
        assert_int_equal(pthread_create(&watcher, NULL, watch, &pair), 0);
        until(sleepers(arena, MP_WAIT_ANY) == 1);
        assert_int_equal(pthread_create(&taker, NULL, take, &pair), 0);
        until(sleepers(arena, kinds[i % 3][1]) == 1);
        mp_store_seqcst(&arena->self->looking, 0);
        make_ready(&o, pair.kind);
        assert_int_equal(pthread_join(taker, NULL), 0);
        assert_int_equal(mp_event_set(o.event), 0); /* it may have been too late to see it */
        assert_int_equal(pthread_join(watcher, NULL), 0);
        assert_int_equal(mp_event_clear(o.event), 0);
        if (pair.kind != READABLE)
            make_ready(&o, pair.kind);
    }
    close_objects(&o);
    mp_arena_close(arena);
}

/* ---- the dead ---- */

PART(holder)
{
    struct objects o;

    open_objects(part->arena, &o);
    make_busy(&o, LOCK);
    make_busy(&o, RLOCK);
    make_busy(&o, PERMITS);
    assert(mp_event_set(o.event) == 0);
    for (;;)
        pause();
}

static void test_owner_dies(void **state)
{
    mp_arena *arena;
    struct crew crew;
    struct objects o;

    need_carrier(state);
    for (int with_fds = 0; with_fds < 2; with_fds++) {
        int fds[2];

        arena = make_arena();
        make_objects(arena, &o);
        assert_int_equal(pipe(fds), 0);
        for (enum kind kind = LOCK; kind <= PERMITS; kind++) {
            struct mp_waitable w[] = {waitable_of(&o, kind), mp_fd_waitable(fds[0], POLLIN)};

            assert_int_equal(mp_event_clear(o.event), 0);
            crew_start(&crew, carrier_of(state), arena, holder, 1, 0);
            assert_int_equal(mp_event_wait(o.event, PATIENCE), 0);
            assert_int_equal(mp_wait(w, 1, 0), 0);
            assert_int_equal(kill(crew.pids[0], SIGKILL), 0);
            assert_int_equal(mp_wait(w, with_fds ? 2 : 1, PATIENCE), 1);
            assert_int_equal(w[0].ready, 1);
            crew_kill(&crew, 0);
        }
        close(fds[0]);
        close(fds[1]);
        close_objects(&o);
        mp_arena_close(arena);
    }
}

MP_ENTRY(ends_soon)
{
    (void)call;
    return 3;
}

static void test_process(void **state)
{
    mp_process *process;
    struct mp_waitable w;

    (void)state;
    if (!carrier_works(FORK))
        skip();
    assert_int_equal(mp_process_start(ends_soon, NULL, &process), 0);
    w = mp_process_waitable(process);
    assert_int_equal(mp_wait(&w, 1, PATIENCE), 1);
    assert_true(w.ready & POLLIN);
    assert_int_equal(mp_process_join(process, MP_FOREVER), 0);
    w = mp_process_waitable(process);
    assert_int_equal(mp_wait(&w, 1, 0), 1);
    mp_process_free(process);
}

/* ---- many ---- */

static void test_many(void **state)
{
    mp_arena *arena = make_arena();
    mp_event *events[MANY];
    struct mp_waitable w[MANY + 1];
    mp_poller *pollers[150];
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(mp_event_create(arena, NULL, &events[i]), 0);
        w[i] = mp_event_waitable(events[i]);
    }
    w[MANY] = mp_fd_waitable(fds[0], POLLIN);
    for (unsigned i = 0; i < 150; i++)
        assert_int_equal(mp_poller_new(&w[i * 4], &pollers[i]), 0);
    for (unsigned n = 1; n <= MANY; n += 59) {
        assert_int_equal(mp_wait(w, n, MP_MSEC(3)), 0);
        assert_int_equal(mp_event_set(events[n - 1]), 0);
        assert_int_equal(mp_wait(w, n, PATIENCE), 1);
        assert_int_equal(w[n - 1].ready, 1);
        assert_int_equal(mp_event_clear(events[n - 1]), 0);
        assert_int_equal(mp_wait(w, MANY + 1, MP_MSEC(3)), 0);
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_int_equal(mp_wait(w, MANY + 1, PATIENCE), 1);
        assert_int_equal(w[MANY].ready, POLLIN);
        assert_int_equal(read(fds[0], &(char){0}, 1), 1);
    }
    for (unsigned i = 0; i < 150; i += 7) {
        struct pollfd f = {mp_poller_fd(pollers[i]), POLLIN, 0};

        assert_int_equal(mp_event_set(events[i * 4]), 0);
        while (mp_poller_check(pollers[i]) == 0)
            poll(&f, 1, -1);
        assert_int_equal(poll(&f, 1, 20000), 1);
        assert_int_equal(mp_event_clear(events[i * 4]), 0);
        while (poll(&f, 1, 0) == 1)
            assert_int_equal(mp_poller_check(pollers[i]), 0);
    }
    for (unsigned i = 0; i < 150; i++)
        mp_poller_free(pollers[i]);
    for (unsigned i = 0; i < MANY; i++)
        mp_event_close(events[i]);
    close(fds[0]);
    close(fds[1]);
    mp_arena_close(arena);
}

/* ---- one who forks, and one who closes what it does not know ---- */

struct inherited {
    struct objects *o;
    mp_poller *poller;
    int fd;
};

static void wait_in_child(void *user)
{
    struct inherited *in = user;
    struct mp_waitable w[] = {mp_event_waitable(in->o->event), mp_fd_waitable(in->fd, POLLIN)};

    assert(mp_poller_check(in->poller) == -ECHILD);
    assert(mp_poller_free(in->poller) == NULL);
    assert(mp_wait(w, 2, MP_MSEC(1)) == 0);
    assert(mp_semaphore_release(in->o->signals, 1) == 0);
    assert(mp_wait(w, 2, PATIENCE) == 1 && w[0].ready == 1);
}

static void test_forks(void **state)
{
    mp_arena *arena = make_arena();
    struct mp_waitable w[2];
    struct inherited in;
    struct objects o;
    int fds[2];
    pid_t pid;

    (void)state;
    make_objects(arena, &o);
    assert_int_equal(pipe(fds), 0);
    in = (struct inherited){.o = &o, .fd = fds[0]};
    w[0] = mp_event_waitable(o.event);
    w[1] = mp_fd_waitable(fds[0], POLLIN);
    assert_int_equal(mp_wait(w, 2, MP_MSEC(1)), 0); /* the thread has what it needs by now */
    assert_int_equal(mp_poller_new(&w[0], &in.poller), 0);
    if (carrier_works(FORK)) {
        pid = child_start(wait_in_child, &in);
        assert_int_equal(mp_semaphore_acquire(o.signals, PATIENCE), 0);
        assert_int_equal(mp_event_set(o.event), 0);
        child_join(pid);
    }
    assert_int_equal(mp_event_clear(o.event), 0);
    mp_poller_free(in.poller);
    assert_int_equal(mp_wait(w, 2, MP_MSEC(1)), 0);
    close_objects(&o);
    close(fds[0]);
    close(fds[1]);
    mp_arena_close(arena);
}

/* A sandbox that a program puts itself in once it works. */
static void wait_before_and_after(void *user)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = 4, .filter = filter};
    struct inherited *in = user;
    struct mp_waitable w[] = {mp_event_waitable(in->o->event), mp_fd_waitable(in->fd, POLLIN)};

    assert(mp_wait(w, 2, MP_MSEC(1)) == 0);
    assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
    assert(mp_wait(w, 2, MP_MSEC(1)) == 0);
    assert(mp_semaphore_release(in->o->signals, 1) == 0);
    assert(mp_wait(w, 2, PATIENCE) == 1 && w[0].ready == 1);
}

static void test_refused_later(void **state)
{
    mp_arena *arena = make_arena();
    struct inherited in;
    struct objects o;
    int fds[2];
    pid_t pid;

    (void)state;
    if (!carrier_works(FORK)) {
        mp_arena_close(arena);
        skip();
    }
    make_objects(arena, &o);
    assert_int_equal(pipe(fds), 0);
    in = (struct inherited){.o = &o, .fd = fds[0]};
    pid = child_start(wait_before_and_after, &in);
    assert_int_equal(mp_semaphore_acquire(o.signals, PATIENCE), 0);
    until(sleepers(arena, MP_WAIT_ANY) == 1);
    assert_int_equal(mp_event_set(o.event), 0);
    child_join(pid);
    close_objects(&o);
    close(fds[0]);
    close(fds[1]);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),      clean_test(test_alone),
        clean_test(test_gone),         on_carriers(test_one),
        on_carriers(test_with_others), on_carriers(test_with_descriptors),
        on_carriers(test_by_poller),   on_carriers(test_takes_no_wake),
        clean_test(test_passes_on),    on_processes(test_owner_dies),
        clean_test(test_process),      clean_test(test_many),
        clean_test(test_forks),        clean_test(test_refused_later),
    };

    mp_main(argc, argv);
    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
