/* SPDX-License-Identifier: MIT */
/*
 * alone COMMAND [ARGUMENT...]: run a program, and look at what it leaves behind.
 *
 * It is the subreaper of all that the program starts: whatever outlives the program becomes a child
 * of this one, and so can not be missed, nor be mistaken for something of others. What is dying is
 * waited for; what lives 10 seconds later is listed, and killed. The program has an empty /dev/shm
 * to itself where that is allowed (elsewhere the one of the machine is compared by names that
 * multiprocessing would make), and no entry may be in it afterwards.
 *
 * Exit: the program's, 128 and the signal that ended it, or 99 when something was left behind.
 */

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define PATIENCE_NS (UINT64_C(10) * 1000000000)

static void closedirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static void fclosep(FILE **file)
{
    if (*file)
        fclose(*file);
}

/* A mount of our own, seen by us and by what we start. */
static bool own_shm(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, NULL) == 0;
}

/* The entries of /dev/shm: all of our own one, of the machine's those that could be meant. */
static unsigned count_shm(bool own, bool print)
{
    _cleanup_(closedirp) DIR *dir = opendir("/dev/shm");
    struct dirent *e;
    unsigned n = 0;

    while (dir && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (!own && !strstr(e->d_name, "mp")))
            continue;
        n++;
        if (print)
            fprintf(stderr, "left behind: /dev/shm/%s\n", e->d_name);
    }
    return n;
}

/* Lists the children of this process and kills them; they can not be others, as long as they are
 * not waited for. */
static void kill_children(void)
{
    char path[64];
    _cleanup_(fclosep) FILE *children = NULL;
    int pid;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    children = fopen(path, "re");
    while (children && fscanf(children, "%d", &pid) == 1) {
        char command[100] = "";
        _cleanup_(fclosep) FILE *file = NULL;

        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        file = fopen(path, "re");
        if (!file || !fgets(command, sizeof command, file))
            strcpy(command, "?\n");
        fprintf(stderr, "left behind: process %d %s", pid, command);
        kill(pid, SIGKILL);
    }
}

/* Reaps all descendants. true: there are none; false: some live at the deadline. */
static bool reap_all(uint64_t deadline_ns, const sigset_t *sigchld)
{
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        uint64_t now = mp_now_ns();
        struct timespec wait;

        if (pid < 0)
            return errno == ECHILD;
        if (pid > 0)
            continue;
        if (now >= deadline_ns)
            return false;
        wait = mp_timespec(deadline_ns - now);
        sigtimedwait(sigchld, NULL, &wait);
    }
}

int main(int argc, char **argv)
{
    bool own, clean = true;
    unsigned entries;
    sigset_t sigchld, before;
    int status = 0;
    pid_t pid;

    if (argc < 2) {
        fprintf(stderr, "usage: alone COMMAND [ARGUMENT...]\n");
        return 125;
    }
    own = own_shm();
    entries = count_shm(own, false);
    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &sigchld, &before);
    prctl(PR_SET_CHILD_SUBREAPER, 1);

    pid = fork();
    if (pid < 0) {
        perror("alone: fork");
        return 125;
    }
    if (pid == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;

    for (int i = 0; i < 10 && !reap_all(mp_now_ns() + PATIENCE_NS, &sigchld); i++) {
        clean = false;
        kill_children();
    }
    if (count_shm(own, false) > entries) {
        clean = false;
        count_shm(own, true);
    }
    if (!clean)
        return 99;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
