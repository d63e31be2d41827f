/* SPDX-License-Identifier: MIT */
/*
 * Runs scenarios: crash GROUP... [--only=TEXT] [--every] [--few=N] [--sample=N] [--seed=N]
 * [--stride=N] [--fast] [--mutation=NAME] [--list]
 *
 * Each scenario is first surveyed: stepped to its end once, noting the address of each instruction
 * and whether anything that outlives the victim (the arena, and what the victim said) changed with
 * it. Then it is run again and again, and killed. Where it has few instructions, up to --few, after
 * each of them. Where it has many: before and after each instruction that changed something, and at
 * each instruction of the program when it is reached for the first time; in between, what a killed
 * process leaves is the same to the byte. --every leaves none out; --sample takes about N of those
 * in between as well, others each time, so that what is said here is tried and not only believed;
 * --stride takes only each Nth of those that are reached for the first time.
 *
 * To come to instruction k it need not be stepped all the way: it runs to a breakpoint at an
 * address that the survey says is near, and on from there by steps.
 */

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "arena/liveness.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "crash/mutation.h"
#include "crash/crash.h"
#include "crash/survey.h"
#include "kernel/futex.h"

#define EVERY_DEFAULT 1500u
#define FAILURES_MOST 5u
#define POORER_KERNEL_POINTS 12u

extern char __executable_start;

static const struct group *const groups[] = {
    &crash_locks,     &crash_mpmc,     &crash_spsc,       &crash_blocks,   &crash_arenas,
    &crash_directory, &crash_recovery, &crash_semaphores, &crash_rwlock,   &crash_barrier,
    &crash_rlocks,    &crash_events,   &crash_conditions, &crash_joinable, &crash_values,
    &crash_maps,      &crash_wait,     &crash_reuse,
};

static struct {
    const char *only;
    bool every;
    uint64_t sample; /* of the points in between, so many */
    uint64_t seed;
    uint64_t stride;
    uint64_t few;
    bool fast; /* the first failure ends it */
    bool verbose;
} options;

/* Of the scenario that runs. */
static struct {
    uint64_t kills;
    uint64_t asleep;
    uint64_t elsewhere; /* it was not where the survey had been after as many instructions */
    unsigned failures;
    uint64_t worst_ns;
} tally;

static unsigned failures_all;
static pid_t tracer;

/* ---- failures ---- */

static void vfail(struct point *p, const char *format, va_list arguments)
{
    uint64_t at = p->victim.pid ? stepper_address(&p->victim) : 0;

    printf("FAIL %s, after %llu instructions", p->scenario->name, (unsigned long long)p->k);
    if (at)
        printf(" (at %#llx)", (unsigned long long)(at - (uint64_t)(uintptr_t)&__executable_start));
    printf(": ");
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    tally.failures++;
    failures_all++;
    if (getpid() != tracer)
        atomic_fetch_add(&p->note->complaints, 1);
}

void crash_fail(struct point *p, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfail(p, format, arguments);
    va_end(arguments);
    if (options.fast && getpid() == tracer)
        _exit(1);
}

void crash_abort(struct point *p, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfail(p, format, arguments);
    va_end(arguments);
    _exit(1);
}

void crash_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* ---- victims ---- */

static void become_victim(struct point *p, void (*prepare)(struct point *),
                          void (*operate)(struct point *))
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (prepare)
        prepare(p);
    stepper_ready();
    operate(p);
    mp_store_seqcst(&p->note->done, 1);
    for (;;)
        pause();
}

void crash_fork(struct point *p, struct victim *v, void (*prepare)(struct point *),
                void (*operate)(struct point *))
{
    pid_t pid = stepper_fork(v);

    if (pid == 0)
        become_victim(p, prepare, operate);
    if (pid < 0)
        crash_abort(p, "the victim could not be started: %d", (int)pid);
}

pid_t crash_thread(pid_t pid, const char *name)
{
    char path[64], text[32];
    struct dirent *e;
    pid_t found = 0;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    d = opendir(path);
    while (d && !found && (e = readdir(d))) {
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/task/%.20s/comm", (int)pid, e->d_name);
        f = fopen(path, "re");
        if (!f)
            continue;
        if (fgets(text, sizeof text, f) && strncmp(text, name, strlen(name)) == 0)
            found = (pid_t)atoi(e->d_name);
        fclose(f);
    }
    if (d)
        closedir(d);
    return found;
}

void crash_turn_to_keeper(struct point *p)
{
    struct victim *v = &p->victim;

    crash_until(p, (v->tid = crash_thread(v->pid, "mp-keeper")) != 0, "the victim's keeper");
    crash_until(p, stepper_state(v->pid, v->tid) == 'S', "the victim's keeper asleep");
    crash_must(p, stepper_seize(v));
    v->held = v->pid;
    ptrace(PTRACE_CONT, v->pid, NULL, NULL);
    crash_until(p, stepper_state(v->pid, v->pid) == 'S', "the victim waits for its keeper");
}

/* ---- driving ---- */

enum driven { DRIVEN_THERE, DRIVEN_FINISHED };

static bool is_finished(const struct point *p, bool asleep)
{
    /* The keeper goes on a little after its main thread has its answer. */
    return mp_load_seqcst(&p->note->done) && (asleep || !p->scenario->keeper);
}

static void do_its_bidding(struct point *p)
{
    if (p->woken || !p->scenario->asleep)
        return;
    p->woken = true;
    stepper_share_cpu(&p->victim, false);
    p->scenario->asleep(p);
    stepper_share_cpu(&p->victim, true);
}

/* After a step that did not end: let the victim go on, and see that it does. */
static enum stepped wake_victim(struct point *p)
{
    uint64_t deadline = mp_now_ns() + MP_SEC(10);
    enum stepped s = STEPPED_ASLEEP;

    do_its_bidding(p);
    while (s == STEPPED_ASLEEP && !is_finished(p, true)) {
        s = stepper_wait(&p->victim);
        if (mp_now_ns() > deadline)
            crash_abort(p, "the victim does not wake up");
    }
    return s;
}

/* What came of a step or a run. True: it stands at an instruction. */
static bool went_on(struct point *p, enum stepped s)
{
    if (s == STEPPED_ASLEEP)
        s = wake_victim(p);
    if (s == STEPPED_GONE)
        crash_abort(p, "the victim was ended by signal %d", p->victim.signal);
    return s == STEPPED_ON;
}

static enum driven drive(struct point *p, const struct survey *survey)
{
    uint64_t i = 0;
    uint32_t times;
    uint64_t address = survey_anchor(survey, p->k, &i, &times);

    for (; address && times > 0; times--)
        if (!went_on(p, stepper_run_to(&p->victim, address)) || is_finished(p, false))
            return DRIVEN_FINISHED;
    for (; i < p->k; i++) {
        enum stepped s;

        if (p->scenario->polls && i >= p->scenario->polls)
            do_its_bidding(p);
        s = stepper_step(&p->victim);

        if (s == STEPPED_ASLEEP && is_finished(p, true))
            return DRIVEN_FINISHED;
        if (s == STEPPED_ASLEEP && i + 1 == p->k) {
            tally.asleep++;
            return DRIVEN_THERE;
        }
        if (!went_on(p, s) || is_finished(p, false))
            return DRIVEN_FINISHED;
    }
    tally.elsewhere += stepper_address(&p->victim) != survey->steps[p->k].address;
    return DRIVEN_THERE;
}

static void explore(struct point *p, struct survey *survey)
{
    survey_note(survey, &p->victim, p);
    for (;;) {
        enum stepped s;

        if (p->scenario->polls && survey->n >= p->scenario->polls)
            do_its_bidding(p);
        s = stepper_step(&p->victim);

        if (s == STEPPED_ASLEEP && is_finished(p, true))
            break;
        if (!went_on(p, s) || is_finished(p, false))
            break;
        survey_note(survey, &p->victim, p);
    }
    survey_end(survey);
}

void crash_step_until(struct point *p, struct victim *v, bool (*condition)(const struct point *),
                      struct survey *way)
{
    bool known = way->n > 0;
    uint64_t at;
    uint32_t times = 0;
    uint64_t address = known ? survey_anchor(way, way->n, &at, &times) : 0;
    enum stepped s = STEPPED_ON;

    stepper_share_cpu(v, true);
    for (; times > 0 && s == STEPPED_ON; times--)
        s = stepper_run_to(v, address);
    if (!known)
        survey_note(way, v, NULL);
    while (s == STEPPED_ON && !condition(p)) {
        s = stepper_step(v);
        if (!known)
            survey_note(way, v, NULL);
    }
    stepper_share_cpu(v, false);
    if (s != STEPPED_ON)
        crash_abort(p, "a victim did not come to what it was to be killed in");
    if (!known)
        survey_end(way);
}

/* ---- one point ---- */

static void begin(struct point *p, const struct scenario *s, struct note *note)
{
    *p = (struct point){.scenario = s, .note = note};
    memset(note, 0, sizeof *note);
    crash_must(
        p, mp_arena_create("crash",
                           MP_ARENA_OPTIONS(.size = s->size ? s->size : 64 << 10,
                                            .participants = s->participants ? s->participants : 8,
                                            .objects = 8),
                           &p->arena));
    if (s->begin)
        s->begin(p);
    crash_fork(p, &p->victim, s->prepare, s->operate);
    if (s->ready)
        s->ready(p);
    if (s->keeper && p->victim.tid == p->victim.pid)
        crash_turn_to_keeper(p);
}

static void finish(struct point *p)
{
    const struct scenario *s = p->scenario;
    uint64_t took;

    stepper_share_cpu(&p->victim, false);
    p->killed_ns = mp_now_ns();
    stepper_kill(&p->victim);
    s->after(p);
    survivors_join(p);
    survivors_wait_swept(p);
    took = mp_now_ns() - p->killed_ns;
    if (took > tally.worst_ns)
        tally.worst_ns = took;
    if (took > SURVIVORS_NS)
        crash_abort(p, "what the dead left was seen to too late");
    audit_arena(p);
    if (mp_load_seqcst(&p->note->complaints))
        crash_fail(p, "the victim complained");
    mp_lock_close(p->lock);
    mp_queue_close(p->queue);
    mp_arena_close(p->arena);
    tally.kills++;
}

static void go_on(struct point *p)
{
    uint64_t deadline = mp_now_ns() + MP_SEC(10);
    enum stepped s = STEPPED_ON;

    if (p->scenario->anywhere) { /* it is far, and there are many: not step by step */
        ptrace(PTRACE_CONT, p->victim.tid, NULL, NULL);
        crash_until(p, mp_load_seqcst(&p->note->done), "the victim at its end");
        return;
    }
    while (!mp_load_seqcst(&p->note->done)) {
        s = s == STEPPED_ASLEEP ? stepper_wait(&p->victim) : stepper_step(&p->victim);
        if (s == STEPPED_GONE || mp_now_ns() > deadline)
            crash_abort(p, "the victim does not come to its end");
    }
}

/* False: it was over before so many instructions. */
static bool run_point(const struct scenario *s, struct note *note, const struct survey *survey,
                      uint64_t k, bool meanwhile)
{
    enum driven d;
    struct point p;

    begin(&p, s, note);
    p.k = k;
    stepper_share_cpu(&p.victim, true);
    d = drive(&p, survey);
    stepper_share_cpu(&p.victim, false);
    if (meanwhile) {
        s->meanwhile(&p);
        if (s->goes_on)
            go_on(&p);
    }
    finish(&p);
    return d == DRIVEN_THERE;
}

/* ---- one scenario ---- */

/* Is it just before or just after something changed? */
static bool is_edge(const struct survey *survey, uint64_t k)
{
    return k == survey->n || survey->steps[k].changed || survey->steps[k + 1].changed;
}

/* One of those in between: is it among the sample? */
static bool is_sampled(const struct survey *survey, uint64_t k)
{
    uint64_t x = (k ^ options.seed) * UINT64_C(0x9e3779b97f4a7c15);

    return options.sample && (x >> 20) % (survey->n + 1) < options.sample;
}

static bool is_wanted(const struct scenario *s, const struct survey *survey, uint64_t k)
{
    if (options.every || survey->n <= (s->every ? s->every : options.few) || k == survey->n)
        return true;
    if (!mp_futex_can_waitv())
        return false;
    if (survey->steps[k].nth == 0 && !s->states && k % options.stride == 0)
        return true;
    return is_edge(survey, k) || is_sampled(survey, k);
}

/* Each death takes the keeper 50 ms to see where there is no futex_waitv: a few points must do. */
static bool is_left_out(const struct survey *survey, uint64_t k)
{
    uint64_t stride = survey->n / POORER_KERNEL_POINTS + 1;

    return !options.every && !mp_futex_can_waitv() && k % stride != 0;
}

static void run_scenario(const struct scenario *s, struct note *note)
{
    _cleanup_(survey_free) struct survey survey = {0};
    uint64_t began = mp_now_ns();
    struct point p;
    uint64_t wanted = 0;

    memset(&tally, 0, sizeof tally);
    begin(&p, s, note);
    stepper_share_cpu(&p.victim, true);
    explore(&p, &survey);
    p.k = survey.n;
    finish(&p);
    for (uint64_t k = 0; k <= survey.n && tally.failures < FAILURES_MOST; k++) {
        if (!is_wanted(s, &survey, k) || is_left_out(&survey, k))
            continue;
        wanted++;
        run_point(s, note, &survey, k, false);
        if (s->meanwhile &&
            (options.every || s->anywhere || is_edge(&survey, k) || is_sampled(&survey, k)))
            run_point(s, note, &survey, k, true);
    }
    printf("%-42s %6llu instructions %4llu states %6llu kill points %6llu kills", s->name,
           (unsigned long long)survey.n, (unsigned long long)survey.states,
           (unsigned long long)wanted, (unsigned long long)tally.kills);
    printf("%s worst %5.1f ms %6.1f s", tally.failures ? " FAILED" : "",
           (double)tally.worst_ns / 1e6, (double)(mp_now_ns() - began) / 1e9);
    if (options.verbose)
        printf(" asleep %llu elsewhere %llu", (unsigned long long)tally.asleep,
               (unsigned long long)tally.elsewhere);
    printf("\n");
    fflush(stdout);
}

/* ---- the program ---- */

static bool parse(int argc, char **argv, bool wanted[], bool *ret_list)
{
    bool any = false;

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        unsigned g = 0;

        if (strncmp(a, "--only=", 7) == 0)
            options.only = a + 7;
        else if (strcmp(a, "--every") == 0)
            options.every = true;
        else if (strncmp(a, "--sample=", 9) == 0)
            options.sample = strtoull(a + 9, NULL, 10);
        else if (strncmp(a, "--seed=", 7) == 0)
            options.seed = strtoull(a + 7, NULL, 10);
        else if (strncmp(a, "--few=", 6) == 0)
            options.few = strtoull(a + 6, NULL, 10);
        else if (strncmp(a, "--stride=", 9) == 0)
            options.stride = strtoull(a + 9, NULL, 10);
        else if (strcmp(a, "--fast") == 0)
            options.fast = true;
        else if (strcmp(a, "--verbose") == 0)
            options.verbose = true;
        else if (strcmp(a, "--list") == 0)
            *ret_list = true;
        else if (strncmp(a, "--mutation=", 11) == 0) {
            if (!mutation_choose(a + 11))
                return false;
        } else {
            while (g < MP_ARRAY_SIZE(groups) && strcmp(groups[g]->name, a) != 0)
                g++;
            if (g == MP_ARRAY_SIZE(groups))
                return false;
            wanted[g] = any = true;
        }
    }
    for (unsigned g = 0; g < MP_ARRAY_SIZE(groups) && !any; g++)
        wanted[g] = true;
    return options.stride > 0;
}

int main(int argc, char **argv)
{
    bool wanted[MP_ARRAY_SIZE(groups)] = {0};
    bool list = false;
    struct note *note;
    uint64_t kills = 0;
    int r;

    options.seed = mp_now_ns();
    options.stride = 1;
    options.few = EVERY_DEFAULT;
    if (!parse(argc, argv, wanted, &list)) {
        fprintf(stderr, "crash: unknown: see the head of crash.c\n");
        return 2;
    }
    tracer = getpid();
    r = stepper_begin();
    if (r < 0) {
        printf("nobody can be stepped here: %s\n", strerror(-r));
        return 77;
    }
    note = mmap(NULL, sizeof *note, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (note == MAP_FAILED)
        return 1;
    if (options.sample && !list)
        printf("--sample=%llu --seed=%llu\n", (unsigned long long)options.sample,
               (unsigned long long)options.seed);
    for (unsigned g = 0; g < MP_ARRAY_SIZE(groups); g++)
        for (unsigned i = 0; wanted[g] && i < groups[g]->n; i++) {
            const struct scenario *s = &groups[g]->scenarios[i];

            if (options.only && !strstr(s->name, options.only))
                continue;
            if (list) {
                printf("%s\n", s->name);
                continue;
            }
            run_scenario(s, note);
            kills += tally.kills;
        }
    if (!list)
        printf("%llu kills, %u failures\n", (unsigned long long)kills, failures_all);
    return failures_all ? 1 : 0;
}
