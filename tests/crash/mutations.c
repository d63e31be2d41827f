/* SPDX-License-Identifier: MIT */
/*
 * Would the crash tests notice? crash-mutations PROGRAM PART PARTS: for each rule of
 * lib/base/mutation.h, run PROGRAM with that rule broken, and the scenario that rests on it. It has
 * to fail. Of PARTS that share the rules out, this is PART.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "base/mutation.h"
#include "kernel/futex.h"
#include "kernel/pidfd.h"

#define LIMIT_NS MP_SEC(60)

static const struct {
    const char *name;
    const char *what;
} rules[] = {
#define x(name, what) {#name, what},
    MP_MUTATIONS(x)
#undef x
};

static const struct {
    const char *name;
    const char *scenario;
} scenarios[] = {
    {"TAKE_CELL_FIRST", "mpmc: receive"},
    {"TAKE_NAMELESS", "mpmc: receive"},
    {"TAKE_STORES", "mpmc: receive, release, stopped, goes on"},
    {"HELP_BY_HALF", "mpmc: receive, release, stopped"},
    {"REFILL_CRATE_FIRST", "block: allocate, refill"},
    {"FLUSH_MARKS_FREE", "block: free, flush"},
    {"BACKED_FIRST", "block: allocate, back an extent"},
    {"STRIP_ENTRY_FIRST", "directory: destroy a block"},
    {"LEASE_UNTAGGED", "spsc: receive"},
    {"PUBLISH_AFTER_GIVING", "spsc: release, "},
    {"TENURE_FORGOTTEN", "permits: acquire, after another"},
    {"TENURE_UNFROZEN", "permits: after another, stopped, goes on"},
    {"PERMITS_RETURN_UNTOLD", "permits: the sweep"},
    {"SWALLOW_DEATH", "lock: acquire and release"},
    {"LOCKS_TELL_NOBODY", "locks: acquire, behind a waiter"},
    {"LOCKS_ARMED_LATE", "locks: acquire, stopped, goes on"},
    {"LIVES_ALIKE", "reuse: wait for others"},
    {"READER_OF_ANOTHER", "reuse: read"},
    {"SWEEP_KEEPS_READERS", "rwlock: read and release"},
    {"READER_UNANNOUNCED", "rwlock: try to read, stopped, goes on"},
    {"READERS_UNANNOUNCED", "rwlock: read, behind a writer"},
    {"READERS_SLEEP_ON", "rwlock: read, behind a writer"},
    {"READER_LOOKS_ONCE", "rwlock: try to read, stopped, the writer leaves"},
    {"READER_TAKES_NOTICE", "rwlock: read, the last writer died"},
    {"WRITER_TAKES_NOTICE", "rwlock: write, timed out, told"},
    {"SWEEP_KEEPS_BARRIER", "barrier: wait, the last one"},
    {"MEMBER_EMPTIED_FIRST", "barrier: sweep after a member"},
    {"ACTION_AFTERWARDS", "barrier: wait, with an action"},
    {"RESET_PASSES", "barrier: reset, two asleep"},
    {"RETIRE_SAME_LIFE", "lock: acquire and release"},
    {"JOIN_NOT_PENDING", "arena: join after a fork, the keeper"},
    {"LEAVE_UNSWEPT", "arena: close, the keeper"},
    {"SWEEP_EMPTIES_DRAIN", "block: allocate, refill"},
    {"SWEEP_LEAVES_EXTENTS", "block: allocate, back an extent"},
    {"SWEEP_KEEPS_LEASES", "mpmc: release"},
    {"SWEEP_HINTS_ONCE", "sweep: after one"},
    {"SWEEP_BLIND_TO_CELLS", "mpmc: commit"},
    {"SWEEP_BLIND_TO_CRATES", "block: free, flush"},
    {"SWEEP_WAKES_NOBODY", "lock: release, two asleep"},
    {"SLOT_FREED_FIRST", "sweep: after one"},
    {"SWEEPER_FOR_EVER", "sweep: after one"},
    {"EVENT_NOT_COUNTED", "event: set and clear"},
    {"RLOCK_KEEPS_COUNT", "rlock: acquire twice"},
    {"WAITER_UNANNOUNCED", "condition: notify, two asleep"},
    {"CONDITION_SWALLOWS", "condition: wait, another takes the token"},
    {"VERSION_IN_PLACE", "value: set, versioned"},
    {"VALUE_TOLD_ONCE", "value: get, half written by the dead"},
    {"MAP_IN_PLACE", "map: put, over another"},
    {"MAP_LINKED_FIRST", "map: put, new"},
    {"MAP_NOT_GATHERED", "map: put, new"},
    {"SWEEP_PASSES_NOTHING_ON", "condition: wait, two groups"},
    {"WAITER_EMPTIED_FIRST", "condition: sweep after one that was notified"},
    {"GET_IS_DONE", "joinable: get, hold"},
    {"LAST_TASK_UNTOLD", "joinable: join, asleep"},
    {"JOIN_LOOKS_ONCE", "joinable: join, a task puts another"},
    {"WAIT_PASSES_NOTHING_ON", "wait: any, before a waiter"},
    {"SWEEP_MOVES_NO_CONDITION", "condition: notify, a waiter about to sleep"},
};

/* How it ended: its exit status, 128 and more for a signal; 1 as well where it did not end. */
static int run(const char *program, const char *name, const char *scenario)
{
    char mutation[64], only[128];
    int fd, status;
    pid_t pid;

    snprintf(mutation, sizeof mutation, "--mutation=%s", name);
    snprintf(only, sizeof only, "--only=%s", scenario);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
        execl(program, program, "--fast", mutation, only, (char *)NULL);
        _exit(127);
    }
    fd = pid < 0 ? -1 : mp_pidfd_open(pid);
    if (fd < 0)
        return 127;
    if (mp_pidfd_wait(fd, mp_deadline(LIMIT_NS)) != 1) {
        mp_pidfd_signal(fd, SIGKILL);
        waitpid(pid, &status, 0);
        close(fd);
        return 1;
    }
    close(fd);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *scenario_of(const char *name)
{
    for (size_t i = 0; i < MP_ARRAY_SIZE(scenarios); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return scenarios[i].scenario;
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned caught = 0, tried = 0;
    size_t part, parts;

    if (argc != 4 || atoi(argv[2]) < 0 || atoi(argv[2]) >= atoi(argv[3])) {
        fprintf(stderr, "usage: crash-mutations PROGRAM PART PARTS\n");
        return 2;
    }
    part = (size_t)atoi(argv[2]);
    parts = (size_t)atoi(argv[3]);
    if (!mp_futex_can_waitv())
        return 77; /* deaths are noticed slowly there, and only few are tried */
    for (size_t i = part; i < MP_ARRAY_SIZE(rules); i += parts) {
        const char *scenario = scenario_of(rules[i].name);
        int r = scenario ? run(argv[1], rules[i].name, scenario) : 127;

        if (r == 77)
            return 77;
        printf("%-8s %-22s %s\n", r == 1 ? "caught" : "MISSED", rules[i].name, rules[i].what);
        caught += r == 1;
        tried++;
    }
    printf("%u of %u caught\n", caught, tried);
    return tried > 0 && caught == tried ? 0 : 1;
}
