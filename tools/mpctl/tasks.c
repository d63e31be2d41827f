/* SPDX-License-Identifier: MIT */
/*
 * The threads of a process, as /proc has them.
 *
 * The kernel counts how often a thread was taken off a CPU. A thread that is off it at two looks,
 * with the same count, has not run in between: so it is known without stopping anything that
 * several threads, also of different processes, were all asleep at one time.
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "tasks.h"

static void closedirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* The text after a label at the beginning of a line. NULL: there is none. The name of the thread
 * stands in the first line, and the kernel escapes line ends in it. */
static const char *field(const char *text, const char *label)
{
    const char *at = strstr(text, label);

    return at ? at + strlen(label) : NULL;
}

static bool is_helper(const char *name)
{
    static const char *const names[] = {"mp-keeper\n", "mp-lifeline\n", "mp-watch\n",
                                        "mp-supervisor\n"};

    for (size_t i = 0; i < MP_ARRAY_SIZE(names); i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return true;
    return strncmp(name, "iou-", 4) == 0;
}

/* The last number in a line. */
static pid_t last_number(const char *line)
{
    size_t n = strcspn(line, "\n"), at = n;

    while (at > 0 && isdigit((unsigned char)line[at - 1]))
        at--;
    return at < n ? (pid_t)strtol(line + at, NULL, 10) : 0;
}

/* False: it is gone. */
static bool read_task(pid_t pid, pid_t tid, struct task *ret)
{
    _cleanup_close_ int fd = -1;
    const char *name, *state, *inner, *slept, *preempted;
    char path[64], text[8192];
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    name = field(text, "Name:\t");
    state = field(text, "\nState:\t");
    inner = field(text, "\nNSpid:\t");
    slept = field(text, "\nvoluntary_ctxt_switches:\t");
    preempted = field(text, "\nnonvoluntary_ctxt_switches:\t");
    *ret = (struct task){.tid = tid, .inner_tid = inner ? last_number(inner) : tid};
    ret->state = state ? *state : '\0';
    ret->helper = name && is_helper(name);
    ret->switches =
        (slept ? strtoull(slept, NULL, 10) : 0) + (preempted ? strtoull(preempted, NULL, 10) : 0);
    return true;
}

static int by_tid(const void *a, const void *b)
{
    const struct task *x = a, *y = b;

    return (x->tid > y->tid) - (x->tid < y->tid);
}

int tasks_read(pid_t pid, struct task **ret_tasks, size_t *ret_n)
{
    _cleanup_(closedirp) DIR *dir = NULL;
    _cleanup_free_ struct task *tasks = NULL;
    const struct dirent *e;
    char path[32];
    size_t n = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir && (e = readdir(dir))) {
        struct task task, *more;

        /* The main thread may have ended before the others: it is a zombie then. */
        if (!isdigit((unsigned char)e->d_name[0]) || !read_task(pid, atoi(e->d_name), &task) ||
            task.state == 'Z' || task.state == 'X')
            continue;
        more = reallocarray(tasks, n + 1, sizeof *more);
        if (!more)
            return -ENOMEM;
        tasks = more;
        more[n++] = task;
    }
    if (n == 0)
        return -ENOENT;
    qsort(tasks, n, sizeof *tasks, by_tid);
    *ret_tasks = mp_take_ptr(tasks);
    *ret_n = n;
    return 0;
}

struct task *tasks_find_inner(struct task *tasks, size_t n, pid_t inner_tid)
{
    for (size_t i = 0; i < n; i++)
        if (tasks[i].inner_tid == inner_tid)
            return &tasks[i];
    return NULL;
}

const struct task *tasks_find(const struct task *tasks, size_t n, pid_t tid)
{
    struct task key = {.tid = tid};

    return n ? bsearch(&key, tasks, n, sizeof *tasks, by_tid) : NULL;
}

static bool is_asleep(const struct task *task)
{
    return task->state && strchr("SDTtI", task->state);
}

bool task_slept(const struct task *before, const struct task *after)
{
    return is_asleep(before) && is_asleep(after) && before->switches == after->switches;
}
