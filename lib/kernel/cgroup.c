/* SPDX-License-Identifier: MIT */
/*
 * Finding our cgroups.
 *
 * /proc/self/cgroup has a path for each hierarchy; /proc/self/mountinfo tells where hierarchies are
 * mounted, and which part of them (its root field): a container often sees its own cgroup only,
 * mounted as if it were all. Where both begin with the same names, what follows is the way down
 * from the mount point. Nothing is assumed about /sys/fs/cgroup.
 *
 * In a cgroup namespace both paths count from the namespace's root, and begin with as many ".." as
 * they lie above it. A mount whose root is nothing but those lies above us; the names on the way
 * down are not told, so of such a mount only the top is looked at.
 *
 * All of it is text that may be anything (a bind mount over /proc/self/cgroup, a FIFO, a file
 * without end): what is not a regular file is not read, no more than TEXT_MAX is, and lines that
 * make no sense are passed over.
 */

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/cgroup.h"

#define TEXT_FIRST ((size_t)4 << 10)
#define TEXT_MAX ((size_t)1 << 20)
#define MOUNTS_MAX 16 /* of one hierarchy */

/* ---- text ---- */

static int open_regular(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    return mp_take_fd(&fd);
}

/* What there is, up to size - 1 bytes. How many; -1. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
    size_t n = 0;

    while (n < size - 1) {
        ssize_t some = read(fd, buf + n, size - 1 - n);

        if (some < 0)
            return -1;
        if (some == 0)
            break;
        n += (size_t)some;
    }
    buf[n] = '\0';
    return (ssize_t)n;
}

/* All of a file, in whole lines. NULL: not to be had. */
static char *read_lines(const char *root, const char *name)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof path, "%s%s", root, name) >= (int)sizeof path)
        return NULL;
    for (size_t size = TEXT_FIRST; size <= TEXT_MAX; size *= 2) {
        _cleanup_close_ int fd = open_regular(path);
        _cleanup_free_ char *text = malloc(size);
        ssize_t n = fd >= 0 && text ? read_all(fd, text, size) : -1;

        if (n < 0)
            return NULL;
        if ((size_t)n < size - 1)
            return mp_take_ptr(text);
        if (size == TEXT_MAX) {
            char *end = strrchr(text, '\n');

            *(end ? end : text) = '\0';
            return mp_take_ptr(text);
        }
    }
    return NULL;
}

bool mp_cgroup_read(const struct mp_cgroup *cgroup, const char *name, char *buf, size_t size)
{
    _cleanup_close_ int fd = -1;
    char path[PATH_MAX];
    ssize_t n;

    if (snprintf(path, sizeof path, "%s/%s", cgroup->dir, name) >= (int)sizeof path)
        return false;
    fd = open_regular(path);
    n = fd >= 0 ? read_all(fd, buf, size) : -1;
    if (n < 0 || (size_t)n >= size - 1)
        return false;
    if (n > 0 && buf[n - 1] == '\n')
        buf[n - 1] = '\0';
    return true;
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; *p;) {
        size_t length = strcspn(p, ",");

        if (length == n && memcmp(p, word, n) == 0)
            return true;
        p += length + (p[length] == ',');
    }
    return false;
}

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* mountinfo writes blanks and backslashes as \ooo. In place. */
static void unescape(char *s)
{
    char *to = s;

    while (*s) {
        if (s[0] == '\\' && is_octal(s[1]) && is_octal(s[2]) && is_octal(s[3])) {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
}

/* ---- the two files ---- */

/* Our path in the hierarchy of this version, in the text. NULL: we are in none. */
static char *find_own(char *text, unsigned version, const char *controller)
{
    for (char *line = text, *next; line; line = next) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!path || (next && path >= next) || path[1] != '/')
            continue;
        *names++ = '\0';
        *path++ = '\0';
        if (version == 2 ? strcmp(line, "0") == 0 && !names[0] : has_word(names, controller))
            return path;
    }
    return NULL;
}

struct mount {
    char *root, *point;
};

/* One line of mountinfo, taken apart. Is it a mount of this hierarchy? */
static bool parse_mount(char *line, unsigned version, const char *controller,
                        struct mount *ret_mount)
{
    enum { ROOT = 3, POINT = 4 };
    char *fields[POINT + 1], *save = NULL, *word, *type, *options;
    int n = 0;

    for (word = strtok_r(line, " ", &save); word && strcmp(word, "-") != 0;
         word = strtok_r(NULL, " ", &save), n++)
        if (n <= POINT)
            fields[n] = word;
    if (!word || n <= POINT)
        return false;
    type = strtok_r(NULL, " ", &save);
    strtok_r(NULL, " ", &save); /* the source, which says nothing */
    options = strtok_r(NULL, " ", &save);
    if (!type || strcmp(type, version == 2 ? "cgroup2" : "cgroup") != 0)
        return false;
    if (version == 1 && (!options || !has_word(options, controller)))
        return false;
    unescape(fields[ROOT]);
    unescape(fields[POINT]);
    *ret_mount = (struct mount){.root = fields[ROOT], .point = fields[POINT]};
    return fields[ROOT][0] == '/' && fields[POINT][0] == '/';
}

/* ---- from one to the other ---- */

static bool has_dots(const char *path)
{
    for (const char *p = path; (p = strstr(p, "/..")); p += 3)
        if (p[3] == '/' || p[3] == '\0')
            return true;
    return false;
}

/* How many ".." a path begins with. */
static unsigned count_dots(const char *path, const char **ret_rest)
{
    unsigned n = 0;

    while (strncmp(path, "/..", 3) == 0 && (path[3] == '/' || path[3] == '\0')) {
        path += 3;
        n++;
    }
    *ret_rest = path;
    return n;
}

/* The way down from the root of a mount to our cgroup: "" or "/...". NULL: not below it. */
static const char *way_down(const char *root, const char *own, bool *ret_is_own)
{
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);
    const char *rest, *own_rest;
    unsigned up, own_up;

    *ret_is_own = true;
    if (strncmp(own, root, n) == 0 && (own[n] == '/' || own[n] == '\0') && !has_dots(own + n))
        return strcmp(own + n, "/") == 0 ? "" : own + n;
    up = count_dots(root, &rest);
    own_up = count_dots(own, &own_rest);
    *ret_is_own = false;
    return up > 0 && up >= own_up && !rest[0] && !has_dots(own_rest) ? "" : NULL;
}

/* Our cgroup, and all up to the top of the mount. */
static void walk_mount(const char *tree, const struct mount *mount, const char *own,
                       struct mp_cgroup *cgroup, mp_cgroup_visit *visit, void *arg)
{
    char dir[PATH_MAX], path[PATH_MAX];
    const char *down = way_down(mount->root, own, &cgroup->is_own);
    const char *above = strcmp(mount->root, "/") == 0 ? "" : mount->root;
    size_t length = down ? strlen(down) : 0;

    if (!down || snprintf(dir, sizeof dir, "%s%s%s", tree, mount->point, down) >= PATH_MAX ||
        snprintf(path, sizeof path, "%s%s", above, down) >= PATH_MAX)
        return;
    cgroup->dir = dir;
    for (size_t at = strlen(dir), to = strlen(path);; at--, to--, length--) {
        if (length > 0 && down[length] != '/' && down[length] != '\0')
            continue;
        dir[at] = '\0';
        path[to] = '\0';
        cgroup->path = path[0] ? path : "/";
        visit(cgroup, arg);
        cgroup->is_own = false;
        if (length == 0)
            return;
    }
}

static void walk_version(const char *root, unsigned version, const char *controller,
                         mp_cgroup_visit *visit, void *arg)
{
    _cleanup_free_ char *cgroups = read_lines(root, "/proc/self/cgroup");
    _cleanup_free_ char *mounts = cgroups ? read_lines(root, "/proc/self/mountinfo") : NULL;
    const char *own = mounts ? find_own(cgroups, version, controller) : NULL;
    unsigned n = 0;

    for (char *line = own ? mounts : NULL, *next; line && n < MOUNTS_MAX; line = next) {
        struct mp_cgroup cgroup = {.version = version};
        struct mount mount;

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!parse_mount(line, version, controller, &mount))
            continue;
        walk_mount(root, &mount, own, &cgroup, visit, arg);
        n++;
    }
}

void mp_cgroup_walk(const char *root, const char *controller, mp_cgroup_visit *visit, void *arg)
{
    walk_version(root, 2, controller, visit, arg);
    walk_version(root, 1, controller, visit, arg);
}
