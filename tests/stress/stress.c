/* SPDX-License-Identifier: MIT */
/*
 * The frame of the stress tests.
 *
 * That a stopped process changes nothing is seen from two sides: what the workers assert, and that
 * nobody was declared dead. One who holds what others wait for is stopped for so long that all who
 * sleep look for the dead meanwhile, which they do each second.
 */

#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"
#include "stress/stress.h"

#define DEATHS 50u /* a round */
#define STOPS_LEAST 20u
#define LONG_MS 1300u /* longer than a sleep without a look at the others */

struct together {
    _Atomic(bool) over;
    _Atomic(bool) holds[WORKERS_MOST];
    _Atomic(uint64_t) turns[WORKERS_MOST];
};

struct stress_run {
    const struct stress *stress;
    enum stress_mode mode;
    mp_arena *arena;
    struct together *together;
    struct worker workers[WORKERS_MOST];
    pthread_t threads[WORKERS_MOST];
    pid_t pids[WORKERS_MOST];
    uint32_t seed;
    uint32_t killed;
};

/* ---- for workers ---- */

static uint32_t dice(uint32_t *seed, uint32_t sides)
{
    *seed = *seed * 1103515245 + 12345;
    return *seed / 65536 % sides;
}

uint32_t stress_dice(struct worker *w, uint32_t sides)
{
    return dice(&w->seed, sides);
}

uint64_t stress_timeout(struct worker *w)
{
    return stress_dice(w, 4) ? PATIENCE : stress_dice(w, 500) * UINT64_C(1000);
}

bool stress_is_over(const struct worker *w)
{
    return w->run->together->over;
}

bool stress_turn(struct worker *w)
{
    if (w->begun)
        w->run->together->turns[w->index]++;
    w->begun = !stress_is_over(w);
    return w->begun;
}

void stress_holds(const struct worker *w, bool holds)
{
    w->run->together->holds[w->index] = holds;
}

enum stress_mode stress_mode(const struct worker *w)
{
    return w->run->mode;
}

void stress_spin(uint32_t turns)
{
    volatile uint32_t x = 1;

    while (turns--)
        x = x * 1103515245 + 12345;
}

void stress_work(struct worker *w)
{
    stress_spin(stress_dice(w, 32) ? stress_dice(w, 100) : 20000);
}

/* ---- a run ---- */

static uint64_t turns(const struct stress_run *run)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < run->stress->workers; i++)
        n += run->together->turns[i];
    return n;
}

static void be_worker(void *user)
{
    struct worker *w = user;

    w->run->stress->work(w);
}

static void *worker_main(void *user)
{
    be_worker(user);
    return NULL;
}

static void start(struct stress_run *run, uint32_t i)
{
    struct worker *w = &run->workers[i];

    *w = (struct worker){.run = run, .index = i, .seed = run->seed + i};
    run->seed = run->seed * 69069 + 1;
    run->together->holds[i] = false;
    if (run->mode == STRESS_THREADS)
        assert(pthread_create(&run->threads[i], NULL, worker_main, w) == 0);
    else
        run->pids[i] = child_start(be_worker, w);
}

static void join(struct stress_run *run, uint32_t i)
{
    if (run->mode == STRESS_THREADS)
        assert(pthread_join(run->threads[i], NULL) == 0);
    else if (run->mode == STRESS_STOPPED)
        child_join(run->pids[i]);
    else
        child_kill(run->pids[i]);
}

static void stop(const struct stress_run *run, uint32_t i)
{
    int status;

    assert(kill(run->pids[i], SIGSTOP) == 0);
    assert(waitpid(run->pids[i], &status, WUNTRACED) == run->pids[i]);
    assert(WIFSTOPPED(status));
}

/* ---- what happens to them ---- */

static void leave_alone(const struct stress_run *run, uint64_t ns)
{
    uint64_t deadline = mp_deadline(ns);

    while (mp_now_ns() < deadline)
        poll(NULL, 0, 10);
    until(turns(run) > 0);
}

/* Anyone; every other time rather one who holds something. */
static uint32_t choose(struct stress_run *run, uint32_t stops)
{
    uint32_t workers = run->stress->workers, first = dice(&run->seed, workers);

    for (uint32_t n = 0; n < workers && stops % 2; n++)
        if (run->together->holds[(first + n) % workers])
            return (first + n) % workers;
    return first;
}

static void stop_in_turn(struct stress_run *run, uint64_t ns)
{
    uint32_t workers = run->stress->workers, stops = 0, owners = 0;
    uint64_t end = mp_deadline(ns);

    /* All of them take part: from now on nobody may be missed. */
    until(participants(run->arena) == workers + 1);
    while (mp_now_ns() < end || stops < STOPS_LEAST || owners == 0) {
        uint64_t was = turns(run);
        uint32_t i, ms = dice(&run->seed, 16);

        assert(mp_now_ns() < end + PATIENCE);
        poll(NULL, 0, (int)dice(&run->seed, 4));
        i = choose(run, stops);
        stop(run, i);
        if (run->together->holds[i] && owners++ == 0)
            ms = LONG_MS;
        poll(NULL, 0, (int)ms);
        assert(kill(run->pids[i], SIGCONT) == 0);
        stops++;
        until(turns(run) > was);
    }
    printf("%u stops, %u of owners, ", stops, owners);
    assert(deaths(run->arena) == 0 && participants(run->arena) == workers + 1);
}

static void kill_in_turn(struct stress_run *run)
{
    for (uint32_t k = 0; k < DEATHS; k++) {
        uint64_t was = turns(run);
        uint32_t i = dice(&run->seed, run->stress->workers);

        /* Now and then stopped wherever it is, and killed like that. */
        if (k % 25 == 24)
            stop(run, i);
        poll(NULL, 0, (int)dice(&run->seed, 8));
        child_kill(run->pids[i]);
        run->killed++;
        start(run, i);
        until(turns(run) > was);
    }
    run->killed += run->stress->workers; /* join() */
}

static void one_run(const struct stress *stress, enum stress_mode mode, uint64_t ns)
{
    static const char *const modes[] = {"threads", "stopped", "killed"};
    struct stress_run run = {.stress = stress, .mode = mode, .seed = (uint32_t)mp_now_ns()};
    void *shared;

    printf("%s, %s (seed %u): ", stress->name, modes[mode], run.seed);
    assert(mp_arena_create("stress", MP_ARENA_OPTIONS(.size = 4 << 20, .participants = 64),
                           &run.arena) == 0);
    assert(mp_block_create(run.arena, NULL, sizeof *run.together, &shared) == 0);
    run.together = shared;
    assert(mp_block_create(run.arena, NULL, stress->size, &shared) == 0);
    stress->begin(run.arena, shared);
    for (uint32_t i = 0; i < stress->workers; i++)
        start(&run, i);
    if (mode == STRESS_THREADS)
        leave_alone(&run, ns);
    else if (mode == STRESS_STOPPED)
        stop_in_turn(&run, ns);
    else
        kill_in_turn(&run);
    run.together->over = mode != STRESS_KILLED;
    if (stress->finish && mode != STRESS_KILLED)
        stress->finish();
    for (uint32_t i = 0; i < stress->workers; i++)
        join(&run, i);
    until(settled(run.arena, 1));
    printf("%llu turns\n", (unsigned long long)turns(&run));
    stress->end(turns(&run), run.killed);
    mp_arena_close(run.arena);
}

int stress_main(const struct stress *stress, int argc, char **argv)
{
    uint64_t ns = MP_SEC(argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    struct leftovers before;

    assert(stress->workers <= WORKERS_MOST);
    leftovers_count(&before);
    setlinebuf(stdout);
    one_run(stress, STRESS_THREADS, ns);
    if (carrier_works(FORK))
        one_run(stress, STRESS_STOPPED, 2 * ns);
    for (uint32_t i = 0; i < stress->rounds && carrier_works(FORK); i++)
        one_run(stress, STRESS_KILLED, 0);
    /* ThreadSanitizer starts a thread of its own. */
    return under_thread_sanitizer() || leftovers_check(&before) == 0 ? 0 : 1;
}
