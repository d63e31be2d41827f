/* SPDX-License-Identifier: MIT */
/*
 * A scene of processes that do nothing, in an arena that says that their threads wait for each
 * other, at random: another maze for each line on standard input. The threads sleep all the time,
 * so there is one right answer to each maze, and somebody else can work it out, too.
 */

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena/arena.h"
#include "arena/directory.h"
#include "arena/permits.h"
#include "arena/token.h"
#include "base/cleanup.h"
#include "base/macro.h"
#include "base/until.h"
#include "tools/stage.h"

#define PLAYERS 6u
#define THREADS 3u /* of each; beside the keeper */
#define OF_A_KIND 3u

static mp_arena *arena;
static uint64_t seed = 88172645463325252u;

static struct {
    pid_t pid;
    uint32_t slot;
    pid_t tids[THREADS];
} players[PLAYERS];

static uint32_t any(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

/* ---- the processes ---- */

static void *stay_on(void *unused)
{
    while (pause() < 0) {
    }
    return unused;
}

static void idle(void)
{
    pthread_t thread;

    NEED(mp_arena_join(arena));
    for (uint32_t i = 1; i < THREADS; i++)
        NEED(-pthread_create(&thread, NULL, stay_on, NULL));
    stay_on(NULL);
}

static void closedirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* All of them but the keeper, which says so a moment after it began. */
static bool find_threads(uint32_t player)
{
    _cleanup_(closedirp) DIR *dir = NULL;
    const struct dirent *e;
    char path[64], name[32];
    uint32_t n = 0, keepers = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)players[player].pid);
    dir = opendir(path);
    NEED(dir ? 0 : -1);
    while ((e = readdir(dir))) {
        _cleanup_close_ int fd = -1;
        pid_t tid = atoi(e->d_name);
        ssize_t length;

        if (tid == 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)players[player].pid, (int)tid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        length = fd < 0 ? -1 : read(fd, name, sizeof name - 1);
        name[length < 0 ? 0 : length] = '\0';
        if (strcmp(name, "mp-keeper\n") == 0)
            keepers++;
        else if (n < THREADS)
            players[player].tids[n++] = tid;
    }
    return n == THREADS && keepers == 1;
}

static bool find_slot(uint32_t player)
{
    for (uint32_t i = 0; i < arena->geometry.participants; i++)
        if ((pid_t)(uint32_t)mp_load_acquire(&arena->slots[i].id) == players[player].pid) {
            players[player].slot = i;
            return true;
        }
    return false;
}

/* ---- a maze ---- */

static uint32_t generation(uint32_t slot)
{
    return (uint32_t)(mp_load_acquire(&arena->slots[slot].state) >> 32);
}

/* Of some player, or now and then of nobody. */
static uint32_t any_token(uint32_t *ret_player)
{
    uint32_t slot;

    *ret_player = any(PLAYERS);
    slot = players[*ret_player].slot;
    return any(8) ? mp_token(slot, generation(slot)) : any(3) ? 0 : any(UINT32_MAX) >> 1;
}

static void fill_shares(struct mp_directory_entry *e, uint32_t one_in, uint32_t most)
{
    for (uint32_t i = 0; i < PLAYERS; i++)
        mp_store_seqcst(mp_directory_share(arena, e, players[i].slot),
                        any(one_in) ? 0 : 1 + any(most));
}

static void fill_entry(struct mp_directory_entry *e)
{
    uint32_t player, token = any_token(&player), tid;

    switch (mp_entry_unpack(mp_load_relaxed(&e->state)).kind) {
    case MP_KIND_RLOCK:
        tid = (uint32_t)players[player].tids[any(THREADS)];
        mp_store_seqcst(&e->value, UINT64_C(1) << 42 | (uint64_t)(token & 0xfffff) << 22 | tid);
        mp_store_seqcst(&e->word, token);
        break;
    case MP_KIND_LOCK:
        mp_store_seqcst(&e->word, token);
        break;
    case MP_KIND_RWLOCK:
        mp_store_seqcst(&e->word, token);
        fill_shares(e, 4, 2);
        break;
    default:
        mp_store_seqcst(&e->value, MP_PERMITS_FIRST(any(8) ? 0u : 1u));
        fill_shares(e, 3, 3);
    }
}

static void fill_record(uint32_t player, uint32_t i, uint32_t n_entries)
{
    static const uint32_t kinds[] = {
        [MP_KIND_LOCK] = MP_WAIT_LOCK,
        [MP_KIND_RLOCK] = MP_WAIT_RLOCK,
        [MP_KIND_RWLOCK] = MP_WAIT_WRITE,
        [MP_KIND_SEMAPHORE] = MP_WAIT_SEMAPHORE,
    };
    uint32_t slot = players[player].slot, index = any(n_entries);
    struct mp_wait_record *r = &arena->waits[slot * MP_WAIT_RECORDS_PER_SLOT + i];
    uint32_t kind = kinds[mp_entry_unpack(mp_load_relaxed(&arena->directory[index].state)).kind];
    uint64_t who = (uint64_t)(generation(slot) + 1) << 32 | (uint32_t)players[player].tids[i];

    if (kind == MP_WAIT_WRITE && any(2))
        kind = MP_WAIT_READ;
    mp_store_seqcst(&r->what, mp_now_ns() / 1000000 << 24 | (uint64_t)kind << 16 | index);
    mp_store_seqcst(&r->who, any(10) ? who : 0);
}

static void make_maze(void)
{
    uint32_t n = mp_arena_objects_high(arena);

    for (uint32_t i = 0; i < n; i++)
        fill_entry(&arena->directory[i]);
    for (uint32_t player = 0; player < PLAYERS; player++)
        for (uint32_t i = 0; i < THREADS; i++)
            fill_record(player, i, n);
}

static void make_objects(void)
{
    mp_lock *lock;
    mp_rlock *rlock;
    mp_rwlock *rwlock;
    mp_semaphore *semaphore;

    for (uint32_t i = 0; i < OF_A_KIND; i++) {
        NEED(mp_lock_create(arena, NULL, &lock));
        NEED(mp_rlock_create(arena, NULL, &rlock));
        NEED(mp_rwlock_create(arena, NULL, &rwlock));
        NEED(mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.value = 1), &semaphore));
    }
}

void scene_maze(const char *name)
{
    char line;

    NEED(mp_arena_create(name, MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = 32),
                         &arena));
    make_objects();
    for (uint32_t i = 0; i < PLAYERS; i++) {
        players[i].pid = start_child(idle);
        until(find_slot(i) && find_threads(i));
    }
    ready();
    while (read(STDIN_FILENO, &line, 1) == 1) {
        make_maze();
        ready();
    }
    for (uint32_t i = 0; i < PLAYERS; i++)
        kill_child(players[i].pid);
}
