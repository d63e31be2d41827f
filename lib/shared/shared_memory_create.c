/* SPDX-License-Identifier: MIT */
/*
 * Making named shared memory.
 *
 * The bytes have no header, so nothing in a segment tells whether its creator is done with it. A
 * segment is therefore built as a file without a name: memory reserved to its full size, its first
 * bytes written; then one linkat() gives it the name, or says that the name is taken. Whoever opens
 * the name finds all of it, and a creator that is killed before leaves nothing. A file that got its
 * name so shows as "#INODE (deleted)" in /proc, so it is opened once more by its name.
 *
 * Where unnamed files are refused (a file system without O_TMPFILE, a filter, no /proc) the name
 * comes first, as Python's does: another may then open an empty file (-EAGAIN), or one without its
 * first bytes, and a creator that is killed leaves such a one behind.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "shared/shared_memory.h"

#define MODE 0600
#define MADE_UP_TRIES 100

typedef int (*claim_fn)(mp_shared_memory *m, const char *path);

/* Try the name given, or made-up ones until one is free. */
static int claim_name(mp_shared_memory *m, const char *name, claim_fn claim)
{
    char path[MP_SHARED_MEMORY_PATH_BYTES];
    int r = -EEXIST;

    for (unsigned i = 0; r == -EEXIST && i < (name ? 1 : MADE_UP_TRIES); i++) {
        uint32_t number;

        if (name)
            memcpy(m->name, name, strlen(name) + 1);
        else if (getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number)
            snprintf(m->name, sizeof m->name, "psm_%08x", number);
        else
            return -errno;
        mp_shared_memory_path(m->name, path);
        r = claim(m, path);
    }
    return r;
}

static int link_file(mp_shared_memory *m, const char *path)
{
    char from[64];

    snprintf(from, sizeof from, "/proc/self/fd/%d", m->fd);
    return linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int create_file(mp_shared_memory *m, const char *path)
{
    m->fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, MODE);
    return m->fd < 0 ? mp_shared_memory_refusal(errno) : 0;
}

static bool same_file(int a, int b)
{
    struct stat sa, sb;

    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* Have the file by its name, if that is still its own: only for how it looks in /proc. */
static void reopen(mp_shared_memory *m)
{
    _cleanup_close_ int fd = -1;
    char path[MP_SHARED_MEMORY_PATH_BYTES];

    mp_shared_memory_path(m->name, path);
    fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && same_file(fd, m->fd)) {
        int unnamed = m->fd;

        m->fd = mp_take_fd(&fd);
        fd = unnamed;
    }
}

static int fill(int fd, size_t size, const void *image, size_t image_size)
{
    int r = mp_shared_memory_reserve(fd, 0, size, size);

    return r < 0 ? r : mp_shared_memory_write_all(fd, 0, image, image_size);
}

static int build_unseen(mp_shared_memory *m, const char *name, size_t size, const void *image,
                        size_t image_size)
{
    _cleanup_close_ int fd = open(MP_SHARED_MEMORY_FOLDER, O_TMPFILE | O_RDWR | O_CLOEXEC, MODE);
    int r;

    if (fd < 0)
        return mp_shared_memory_refusal(errno);
    r = fill(fd, size, image, image_size);
    if (r < 0)
        return r;
    m->fd = fd;
    r = claim_name(m, name, link_file);
    m->fd = -1;
    if (r < 0)
        return r;
    m->fd = mp_take_fd(&fd);
    reopen(m);
    return 0;
}

static int build_in_sight(mp_shared_memory *m, const char *name, size_t size, const void *image,
                          size_t image_size)
{
    int r = claim_name(m, name, create_file);

    if (r < 0)
        return r;
    r = fill(m->fd, size, image, image_size);
    if (r < 0)
        mp_shared_memory_unlink(m);
    return r;
}

int mp_shared_memory_build(const char *name, size_t size, const void *image, size_t image_size,
                           mp_shared_memory **ret_memory)
{
    _cleanup_(mp_shared_memory_closep) mp_shared_memory *m = NULL;
    char path[MP_SHARED_MEMORY_PATH_BYTES];
    struct stat st;
    int r = name ? mp_shared_memory_check_name(name) : 0;

    if (r < 0)
        return r;
    if (size == 0 || size > SSIZE_MAX || image_size > size || !ret_memory)
        return -EINVAL;
    if (name) {
        /* A name that is taken need not wait for memory. */
        mp_shared_memory_path(name, path);
        if (lstat(path, &st) == 0)
            return -EEXIST;
    }
    m = mp_shared_memory_new();
    if (!m)
        return -ENOMEM;
    r = build_unseen(m, name, size, image, image_size);
    if (r < 0 && r != -EEXIST)
        r = build_in_sight(m, name, size, image, image_size);
    if (r < 0)
        return r;
    r = mp_shared_memory_map(m, size);
    if (r < 0) {
        mp_shared_memory_unlink(m);
        return r;
    }
    *ret_memory = mp_take_ptr(m);
    return 0;
}

int mp_shared_memory_create(const char *name, size_t size, mp_shared_memory **ret_memory)
{
    return mp_shared_memory_build(name, size, NULL, 0, ret_memory);
}
