/* SPDX-License-Identifier: MIT */
/* Stages: what the scenes share, and which there are. */

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macro.h"
#include "tools/stage.h"

void need(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "stage: %s: %s\n", what, strerror(-r));
    exit(1);
}

void tell(const char *key, long value)
{
    printf("%s %ld\n", key, value);
}

void ready(void)
{
    puts("ready");
    fflush(stdout);
}

int is_over(int wait_ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&p, 1, wait_ms) > 0;
}

pid_t start_child(void (*act)(void))
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            act();
        _exit(0);
    }
    need(pid, "fork");
    return pid;
}

void kill_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*play)(const char *name);
    } scenes[] = {
        {"objects", scene_objects},     {"pool", scene_pool},         {"many", scene_many},
        {"churn", scene_churn},         {"scribble", scene_scribble}, {"foreign", scene_foreign},
        {"deadlocks", scene_deadlocks}, {"maze", scene_maze},
    };

    for (size_t i = 0; argc == 3 && i < MP_ARRAY_SIZE(scenes); i++)
        if (strcmp(scenes[i].name, argv[1]) == 0) {
            scenes[i].play(argv[2]);
            _exit(0); /* handles are left to the end of the process */
        }
    fprintf(stderr, "stage SCENE NAME\n");
    return 2;
}
