/* SPDX-License-Identifier: MIT */
/*
 * Finding arenas through /proc.
 *
 * An arena is a memfd named mp:NAME, so it shows as "/memfd:mp:NAME (deleted)" in /proc/PID/fd and
 * /proc/PID/maps of those who hold it. Nothing is registered anywhere. Identity is device and
 * inode; the name is the one that the memfd was made with, which nobody can change afterwards.
 *
 * Processes come and go meanwhile: whatever vanishes between two steps was not there. Any process
 * may also show links of any text, to files that block whoever opens them (a FIFO, a FUSE mount of
 * its own). So a candidate is first opened with O_PATH, which asks no file system anything; only if
 * it lies on the same kernel-internal device as a memfd of our own is that very file opened for
 * reading. Nothing is ever opened for writing, and no process is stopped or traced.
 *
 * Where a process holds an arena by a mapping only, /proc/PID/map_files opens it, if we may.
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "find.h"
#include "kernel/memfd.h"
#include "kernel/pidfd.h"

#define PREFIX "/memfd:mp:"
#define SUFFIX " (deleted)"

struct search {
    struct findings *findings;
    dev_t memfd_device;
    int failed; /* 0, or why the search can not go on */
};

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

/* ---- the list of what was found ---- */

static struct found *lookup(const struct findings *f, dev_t device, ino_t inode)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->found[i].inode == inode && f->found[i].device == device)
            return &f->found[i];
    return NULL;
}

static struct found *add_found(struct search *s, dev_t device, ino_t inode, const char *name)
{
    struct findings *f = s->findings;
    size_t length = strlen(name);
    struct found *more = reallocarray(f->found, f->n + 1, sizeof *more);
    struct found *found;

    if (!more) {
        s->failed = -ENOMEM;
        return NULL;
    }
    f->found = more;
    found = &more[f->n];
    *found = (struct found){.device = device, .inode = inode, .fd = -1};
    found->name = malloc(4 * length + 1);
    if (!found->name) {
        s->failed = -ENOMEM;
        return NULL;
    }
    text_escape(found->name, 4 * length + 1, name, length);
    f->n++;
    return found;
}

/* The process among the holders. NULL: it is gone. */
static struct holder *add_holder(struct search *s, struct found *found, pid_t pid)
{
    struct holder h = {.pid = pid}, *more;

    if (found->n_holders && found->holders[found->n_holders - 1].pid == pid)
        return &found->holders[found->n_holders - 1];
    proc_command(pid, h.command);
    h.namespace = proc_namespace(pid);
    h.inner_pid = proc_inner_pid(pid);
    h.start = mp_task_start(pid);
    if (h.start == 0)
        return NULL;
    more = reallocarray(found->holders, found->n_holders + 1, sizeof *more);
    if (!more) {
        s->failed = -ENOMEM;
        return NULL;
    }
    found->holders = more;
    more[found->n_holders] = h;
    return &more[found->n_holders++];
}

/* ---- one link ---- */

/* Strip what the kernel puts around the name of a memfd, in place. NULL: not named as an arena. */
static char *arena_name(char *link)
{
    size_t n = strlen(link), suffix = strlen(SUFFIX);

    if (strncmp(link, PREFIX, strlen(PREFIX)) != 0)
        return NULL;
    if (n >= strlen(PREFIX) + suffix && strcmp(link + n - suffix, SUFFIX) == 0)
        link[n - suffix] = '\0';
    return link + strlen(PREFIX);
}

static char *read_name(int dir_fd, const char *path, char *buf, size_t size)
{
    ssize_t n = readlinkat(dir_fd, path, buf, size - 1);

    if (n < 0)
        return NULL;
    buf[n] = '\0';
    return arena_name(buf);
}

/* A link that looked like one of an arena when it was read. NULL: it is gone, or is another now. */
static struct found *look_at_link(struct search *s, int dir_fd, const char *path)
{
    _cleanup_close_ int path_fd = -1;
    char own[64], buf[512];
    struct found *found;
    const char *name;
    struct statx st;
    dev_t device;

    path_fd = openat(dir_fd, path, O_PATH | O_CLOEXEC);
    if (path_fd < 0)
        return NULL;
    snprintf(own, sizeof own, "/proc/self/fd/%d", path_fd);
    name = read_name(AT_FDCWD, own, buf, sizeof buf);
    if (!name || statx(path_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
        return NULL;
    device = makedev(st.stx_dev_major, st.stx_dev_minor);
    found = lookup(s->findings, device, st.stx_ino);
    if (!found)
        found = add_found(s, device, st.stx_ino, name);
    if (!found || found->fd >= 0)
        return found;
    found->alien = device != s->memfd_device;
    if (found->alien)
        return found;
    found->fd = open(own, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    found->error = found->fd < 0 ? -errno : 0;
    return found;
}

/* ---- one process ---- */

/* An fd that can not write is a look from outside, as ours is: who has no more takes no part, and
 * is not listed (another mpctl would be). The link's own mode tells. */
static bool can_write(int dir_fd, const char *name)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IWUSR);
}

/* How many fds it has; a negative errno: can not be read. `task` is PID or PID/task/TID. */
static int walk_fds(struct search *s, pid_t pid, const char *task)
{
    _cleanup_(closedirp) DIR *dir = NULL;
    const struct dirent *e;
    char path[64], buf[512];
    int n = 0;

    snprintf(path, sizeof path, "/proc/%s/fd", task);
    dir = opendir(path);
    if (!dir)
        return -errno;
    while (!s->failed && (e = readdir(dir))) {
        struct found *found;
        struct holder *holder;

        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        n++;
        if (!read_name(dirfd(dir), e->d_name, buf, sizeof buf) || !can_write(dirfd(dir), e->d_name))
            continue;
        found = look_at_link(s, dirfd(dir), e->d_name);
        holder = found ? add_holder(s, found, pid) : NULL;
        if (holder)
            holder->fds++;
    }
    return n;
}

/* What is mapped there. Only the privileged may open it; that it exists can be told. */
static struct found *look_at_range(struct search *s, pid_t pid, const char *range, dev_t device,
                                   ino_t inode, const char *name)
{
    struct found *known = lookup(s->findings, device, inode), *found;
    char path[96];

    if (known && known->fd >= 0)
        return known;
    snprintf(path, sizeof path, "/proc/%d/map_files/%s", (int)pid, range);
    errno = 0;
    found = look_at_link(s, AT_FDCWD, path);
    if (found || known || (errno != EPERM && errno != EACCES))
        return found ? found : known;
    found = add_found(s, device, inode, name);
    if (found)
        found->error = -EPERM;
    return found;
}

/* One line of /proc/PID/maps; its identity is there, so most need not be opened. */
static void look_at_mapping(struct search *s, pid_t pid, char *line)
{
    unsigned long long from, to, inode;
    unsigned of_device[2];
    struct found *found;
    struct holder *holder;
    const char *name;
    char range[64];
    int at = 0;

    line[strcspn(line, "\n")] = '\0';
    if (!strstr(line, PREFIX) ||
        sscanf(line, "%llx-%llx %*s %*x %x:%x %llu %n", &from, &to, &of_device[0], &of_device[1],
               &inode, &at) != 5 ||
        at == 0)
        return;
    name = arena_name(line + at);
    if (!name)
        return;
    snprintf(range, sizeof range, "%llx-%llx", from, to);
    found = look_at_range(s, pid, range, makedev(of_device[0], of_device[1]), inode, name);
    holder = found ? add_holder(s, found, pid) : NULL;
    if (holder)
        holder->mappings++;
}

static void walk_mappings(struct search *s, pid_t pid, const char *task)
{
    _cleanup_(fclosep) FILE *maps = NULL;
    _cleanup_free_ char *line = NULL;
    size_t size = 0;
    char path[64];

    snprintf(path, sizeof path, "/proc/%s/maps", task);
    maps = fopen(path, "re");
    while (maps && !s->failed && getline(&line, &size, maps) > 0)
        look_at_mapping(s, pid, line);
}

/* When main() has ended by pthread_exit(), the other threads have everything, and it nothing. 0, or
 * a negative errno: they may not be looked at. */
static int walk_other_threads(struct search *s, pid_t pid)
{
    _cleanup_(closedirp) DIR *dir = NULL;
    const struct dirent *e;
    char path[300];
    int n = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (n <= 0 && dir && (e = readdir(dir))) {
        if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == pid)
            continue;
        snprintf(path, sizeof path, "%d/task/%s", (int)pid, e->d_name);
        n = walk_fds(s, pid, path);
        if (n >= 0)
            walk_mappings(s, pid, path);
    }
    return n < 0 ? n : 0;
}

static void walk_process(struct search *s, pid_t pid)
{
    char task[16];
    int n;

    snprintf(task, sizeof task, "%d", (int)pid);
    n = walk_fds(s, pid, task);
    if (n >= 0)
        walk_mappings(s, pid, task);
    if (n <= 0 && mp_task_state(pid) == 'Z')
        n = walk_other_threads(s, pid);
    if ((n == -EACCES || n == -EPERM) && !proc_is_kernel_thread(pid))
        s->findings->unreadable++;
}

/* ---- all of them ---- */

/* The device on which all memfds lie. */
static int memfd_device(dev_t *ret_device)
{
    _cleanup_close_ int fd = memfd_create("mpctl", MFD_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    *ret_device = st.st_dev;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int r = strcmp(x->name, y->name);

    return r ? r : (x->inode > y->inode) - (x->inode < y->inode);
}

int find_arenas(struct findings *ret_findings)
{
    struct search s = {.findings = ret_findings};
    _cleanup_(closedirp) DIR *dir = NULL;
    const struct dirent *e;
    int r;

    r = memfd_device(&s.memfd_device);
    if (r < 0)
        return r;
    dir = opendir("/proc");
    if (!dir)
        return -errno;
    while (!s.failed && (e = readdir(dir))) {
        pid_t pid = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;

        if (pid > 0 && pid != getpid())
            walk_process(&s, pid);
    }
    if (s.failed)
        return s.failed;
    if (ret_findings->n)
        qsort(ret_findings->found, ret_findings->n, sizeof *ret_findings->found, by_name);
    return 0;
}

static void found_deinit(struct found *found)
{
    if (found->fd >= 0)
        close(found->fd);
    free(found->name);
    free(found->holders);
}

void findings_deinit(struct findings *findings)
{
    for (size_t i = 0; i < findings->n; i++)
        found_deinit(&findings->found[i]);
    free(findings->found);
}
