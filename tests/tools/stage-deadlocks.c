/* SPDX-License-Identifier: MIT */
/*
 * Scenes in which processes wait for each other, and some that only look like it.
 *
 * Each actor is a process that takes one thing, says so, waits until all have theirs, and takes
 * another. The scene stands when each is asleep for its second one, by what it has written there
 * and by what the kernel says.
 */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arena/arena.h"
#include "base/macro.h"
#include "base/until.h"
#include "kernel/pidfd.h"
#include "tools/stage.h"

#define SMALL MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = 32)
#define ACTORS_MAX 8

static const char *scene;
static pid_t actors[64];
static size_t n_actors;

/* ---- a play ---- */

static mp_arena *arena;
static mp_event *go;
static mp_semaphore *holding;
static pid_t players[ACTORS_MAX];
static uint32_t waits[ACTORS_MAX]; /* for what in the end: MP_WAIT_*; 0: for nothing */
static mp_arena *where[ACTORS_MAX];
static size_t n_players;

static void (*first)(void), (*second)(void);

static mp_arena *new_arena(const char *what)
{
    char name[MP_NAME_MAX + 1];
    mp_arena *new;

    snprintf(name, sizeof name, "%.24s-%.20s", scene, what);
    NEED(mp_arena_create(name, SMALL, &new));
    return new;
}

static void begin(const char *what)
{
    arena = new_arena(what);
    NEED(mp_event_create(arena, "go", &go));
    NEED(mp_semaphore_create(arena, "holding", MP_SEMAPHORE_OPTIONS(.flags = MP_SEMAPHORE_SIGNALS),
                             &holding));
    n_players = 0;
}

static void act(void)
{
    first();
    NEED(mp_semaphore_release(holding, 1));
    NEED(mp_event_wait(go, MP_FOREVER));
    second();
    while (pause() < 0) {
    }
}

/* One who takes this, and then that, in arena `in`. */
static void play(void (*take)(void), void (*want)(void), mp_arena *in, uint32_t kind)
{
    first = take;
    second = want;
    where[n_players] = in;
    waits[n_players] = kind;
    actors[n_actors++] = players[n_players++] = start_child(act);
    NEED(mp_semaphore_acquire(holding, MP_FOREVER));
}

static bool is_asleep(const mp_arena *a, pid_t pid, uint32_t kind)
{
    for (uint32_t i = 0; i < a->geometry.participants; i++) {
        uint64_t id = mp_load_relaxed(&a->slots[i].id);

        for (uint32_t n = 0; (pid_t)(uint32_t)id == pid && n < MP_WAIT_RECORDS_PER_SLOT; n++) {
            const struct mp_wait_record *r = &a->waits[i * MP_WAIT_RECORDS_PER_SLOT + n];

            if (mp_load_acquire(&r->who) >> 32 == id >> 32 &&
                (mp_load_relaxed(&r->what) >> 16 & 0xff) == kind)
                return mp_task_state(pid) == 'S';
        }
    }
    return kind == 0 && mp_task_state(pid) == 'S';
}

static void stand(const char *what)
{
    NEED(mp_event_set(go));
    for (size_t i = 0; i < n_players; i++) {
        char key[64];

        until(is_asleep(where[i], players[i], waits[i]));
        snprintf(key, sizeof key, "%s%zu", what, i + 1);
        tell(key, players[i]);
    }
}

/* ---- what they take ---- */

static mp_lock *a, *b, *c;
static mp_rlock *deep, *other;
static mp_rwlock *book;
static mp_semaphore *permits;
static mp_value *number;
static mp_array *row;
static mp_locks *seats;

static void take_nothing(void)
{
}

static void take_a(void)
{
    NEED(mp_lock_acquire(a, MP_FOREVER));
}

static void take_b(void)
{
    NEED(mp_lock_acquire(b, MP_FOREVER));
}

static void take_c(void)
{
    NEED(mp_lock_acquire(c, MP_FOREVER));
}

static void take_deep(void)
{
    NEED(mp_rlock_acquire(deep, MP_FOREVER));
    NEED(mp_rlock_acquire(deep, MP_FOREVER));
}

static void read_book(void)
{
    NEED(mp_rwlock_read(book, MP_FOREVER));
}

static void write_book(void)
{
    NEED(mp_rwlock_write(book, MP_FOREVER));
}

static void take_permit(void)
{
    NEED(mp_semaphore_acquire(permits, MP_FOREVER));
}

static void take_number(void)
{
    NEED(mp_value_lock(number, MP_FOREVER));
}

static void take_row(void)
{
    NEED(mp_array_lock(row, MP_FOREVER));
}

static void take_seat_3(void)
{
    NEED(mp_locks_acquire(seats, 3, MP_FOREVER));
}

static void take_seat_300(void)
{
    NEED(mp_locks_acquire(seats, 300, MP_FOREVER));
}

static void *stay_on(void *unused)
{
    while (pause() < 0) {
    }
    return unused;
}

static void take_a_with_a_thread(void)
{
    pthread_t thread;

    take_a();
    NEED(-pthread_create(&thread, NULL, stay_on, NULL));
}

/* ---- threads of one process ---- */

static pthread_barrier_t both;

static void *deep_then_other(void *unused)
{
    NEED(mp_rlock_acquire(deep, MP_FOREVER));
    pthread_barrier_wait(&both);
    NEED(mp_rlock_acquire(other, MP_FOREVER));
    return unused;
}

static void *other_then_deep(void *unused)
{
    NEED(mp_rlock_acquire(other, MP_FOREVER));
    pthread_barrier_wait(&both);
    NEED(mp_rlock_acquire(deep, MP_FOREVER));
    return unused;
}

static void cross_threads(void)
{
    pthread_t threads[2];

    NEED(-pthread_barrier_init(&both, NULL, 2));
    NEED(-pthread_create(&threads[0], NULL, deep_then_other, NULL));
    NEED(-pthread_create(&threads[1], NULL, other_then_deep, NULL));
}

/* ---- the plays ---- */

static void two_locks(const char *what, void (*one)(void))
{
    begin(what);
    NEED(mp_lock_create(arena, "a", &a));
    NEED(mp_lock_create(arena, "b", &b));
    play(one, take_b, arena, MP_WAIT_LOCK);
    play(take_b, take_a, arena, MP_WAIT_LOCK);
    stand(what);
}

static void ring(void)
{
    mp_arena *far = new_arena("far");

    begin("ring");
    NEED(mp_lock_create(arena, "a", &a));
    NEED(mp_lock_create(far, "b", &b));
    NEED(mp_lock_create(arena, "c", &c));
    play(take_a, take_b, far, MP_WAIT_LOCK);
    play(take_b, take_c, arena, MP_WAIT_LOCK);
    play(take_c, take_a, arena, MP_WAIT_LOCK);
    /* And one behind it, of whom nobody waits. */
    play(take_nothing, take_c, arena, MP_WAIT_LOCK);
    stand("ring");
}

static void recursive(void)
{
    begin("rlock");
    NEED(mp_rlock_create(arena, "deep", &deep));
    NEED(mp_lock_create(arena, "a", &a));
    play(take_deep, take_a, arena, MP_WAIT_LOCK);
    play(take_a, take_deep, arena, MP_WAIT_RLOCK);
    stand("rlock");
}

static void upgrade(void)
{
    begin("upgrade");
    NEED(mp_rwlock_create(arena, "book", &book));
    play(read_book, write_book, arena, MP_WAIT_WRITE);
    play(read_book, write_book, arena, MP_WAIT_WRITE);
    stand("upgrade");
}

static void reader(void)
{
    begin("reader");
    NEED(mp_rwlock_create(arena, "book", &book));
    NEED(mp_lock_create(arena, "a", &a));
    play(write_book, take_a, arena, MP_WAIT_LOCK);
    play(take_a, read_book, arena, MP_WAIT_READ);
    stand("reader");
}

static void all_permits(void)
{
    begin("permits");
    NEED(mp_semaphore_create(arena, "permits", MP_SEMAPHORE_OPTIONS(.value = 2), &permits));
    play(take_permit, take_permit, arena, MP_WAIT_SEMAPHORE);
    play(take_permit, take_permit, arena, MP_WAIT_SEMAPHORE);
    stand("permits");
}

/* A holder is left who can give one back. */
static void some_permits(void)
{
    begin("some");
    NEED(mp_semaphore_create(arena, "permits", MP_SEMAPHORE_OPTIONS(.value = 3), &permits));
    play(take_permit, take_permit, arena, MP_WAIT_SEMAPHORE);
    play(take_permit, take_permit, arena, MP_WAIT_SEMAPHORE);
    play(take_permit, take_nothing, arena, 0);
    stand("some");
}

/* By the locks that these have themselves. */
static void values(void)
{
    begin("values");
    NEED(mp_value_create(arena, "number", MP_VALUE_OPTIONS(.type = MP_TYPE_INT32), &number));
    NEED(mp_array_create(arena, "row", MP_ARRAY_OPTIONS(.type = MP_TYPE_INT32, .length = 3), &row));
    play(take_number, take_row, arena, MP_WAIT_ARRAY);
    play(take_row, take_number, arena, MP_WAIT_VALUE);
    stand("values");
}

/* Two of many. */
static void many(void)
{
    begin("many");
    NEED(mp_locks_create(arena, "seats", 1000, &seats));
    play(take_seat_3, take_seat_300, arena, MP_WAIT_LOCKS);
    play(take_seat_300, take_seat_3, arena, MP_WAIT_LOCKS);
    stand("many");
}

static void self(void)
{
    begin("self");
    NEED(mp_lock_create(arena, "a", &a));
    play(take_a, take_a, arena, MP_WAIT_LOCK);
    stand("self");
}

/* One waits for another, who waits for nobody; and for one that does in a way that may end. */
static void contended(void)
{
    begin("contended");
    NEED(mp_lock_create(arena, "a", &a));
    NEED(mp_lock_create(arena, "b", &b));
    play(take_b, take_a, arena, MP_WAIT_LOCK);
    play(take_nothing, take_b, arena, MP_WAIT_LOCK);
    play(take_a, take_nothing, arena, 0);
    stand("contended");
}

static void threads(void)
{
    begin("threads");
    NEED(mp_rlock_create(arena, "deep", &deep));
    NEED(mp_rlock_create(arena, "other", &other));
    play(take_nothing, cross_threads, arena, MP_WAIT_RLOCK);
    stand("threads");
    until(sleepers(arena, MP_WAIT_RLOCK) == 2);
}

void scene_deadlocks(const char *name)
{
    scene = name;
    two_locks("cross", take_a);
    two_locks("doubt", take_a_with_a_thread);
    ring();
    recursive();
    upgrade();
    reader();
    all_permits();
    some_permits();
    values();
    many();
    self();
    contended();
    threads();
    ready();
    while (!is_over(-1)) {
    }
    for (size_t i = 0; i < n_actors; i++)
        kill_child(actors[i]);
}
