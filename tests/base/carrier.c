/* SPDX-License-Identifier: MIT */
/*
 * Crews of threads, forked processes, and programs started anew.
 *
 * A program started anew is this one again with the words --part NAME FD INDEX ARGUMENT: it
 * attaches the arena from the descriptor that it inherited.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/carrier.h"
#include "base/cleanup.h"
#include "base/tools.h"

static struct part_name *names;

void part_register(struct part_name *name)
{
    name->next = names;
    names = name;
}

static const struct part_name *find_name(part_fn run)
{
    const struct part_name *n = names;

    while (n && n->run != run)
        n = n->next;
    assert(n);
    return n;
}

bool carrier_works(enum carrier carrier)
{
    return carrier == THREADS || !(under_thread_sanitizer() || under_valgrind());
}

static void exec_part(const struct part *part, const char *name)
{
    char fd[16], index[16], argument[32];
    int passed = dup(mp_arena_fd(part->arena)); /* without CLOEXEC */

    assert(passed >= 0);
    snprintf(fd, sizeof fd, "%d", passed);
    snprintf(index, sizeof index, "%u", part->index);
    snprintf(argument, sizeof argument, "%llu", (unsigned long long)part->argument);
    execl("/proc/self/exe", program_invocation_name, "--part", name, fd, index, argument,
          (char *)NULL);
    perror("exec");
    _exit(127);
}

bool crew_member(int argc, char **argv)
{
    struct part part = {.carrier = EXEC};
    const struct part_name *n = names;
    int fd;

    if (argc != 6 || strcmp(argv[1], "--part") != 0)
        return false;
    while (n && strcmp(n->name, argv[2]) != 0)
        n = n->next;
    assert(n);
    fd = atoi(argv[3]);
    part.index = (unsigned)strtoul(argv[4], NULL, 10);
    part.argument = strtoull(argv[5], NULL, 10);
    assert(mp_arena_attach(fd, &part.arena) == 0);
    close(fd);
    n->run(&part);
    mp_arena_close(part.arena);
    return true;
}

struct start {
    struct crew *crew;
    unsigned index;
};

static void *run_thread(void *user)
{
    struct start start = *(struct start *)user;

    free(user);
    start.crew->run(&start.crew->parts[start.index]);
    return NULL;
}

static void run_process(void *user)
{
    struct start *start = user;
    struct crew *crew = start->crew;

    if (crew->carrier == EXEC)
        exec_part(&crew->parts[start->index], find_name(crew->run)->name);
    crew->run(&crew->parts[start->index]);
}

void crew_start(struct crew *crew, enum carrier carrier, mp_arena *arena, part_fn run, unsigned n,
                uint64_t argument)
{
    assert(n <= CREW_MOST);
    memset(crew, 0, sizeof *crew);
    crew->carrier = carrier;
    crew->n = n;
    crew->run = run;
    for (unsigned i = 0; i < n; i++) {
        crew->parts[i] = (struct part){arena, i, argument, carrier};
        if (carrier == THREADS) {
            struct start *start = malloc(sizeof *start);

            assert(start);
            *start = (struct start){crew, i};
            assert(pthread_create(&crew->threads[i], NULL, run_thread, start) == 0);
        } else {
            crew->pids[i] = child_start(run_process, &(struct start){crew, i});
        }
    }
}

void crew_join(struct crew *crew)
{
    for (unsigned i = 0; i < crew->n; i++)
        if (crew->carrier == THREADS)
            assert(pthread_join(crew->threads[i], NULL) == 0);
        else if (crew->pids[i])
            child_join(crew->pids[i]);
}

void crew_kill(struct crew *crew, unsigned index)
{
    assert(crew->carrier != THREADS);
    child_kill(crew->pids[index]);
    crew->pids[index] = 0;
}

pid_t child_start(void (*f)(void *user), void *user)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        f(user);
        _exit(0);
    }
    return pid;
}

void child_join(pid_t pid)
{
    int status;

    assert(waitpid(pid, &status, 0) == pid);
    assert(status == 0);
}

void child_kill(pid_t pid)
{
    int status;

    assert(kill(pid, SIGKILL) == 0);
    assert(waitpid(pid, &status, 0) == pid);
}
