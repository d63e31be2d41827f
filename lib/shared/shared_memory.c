/* SPDX-License-Identifier: MIT */
/*
 * Named shared memory: files in /dev/shm, where the C library's shm_open() puts them and Python
 * looks for them. How they are made stands in shared_memory_create.c.
 *
 * A file there can not be sealed, so its size is believed only as far as nothing can fault: reading
 * and writing by descriptor. Its holes are filled when it is opened, since touching one while
 * /dev/shm is full is a SIGBUS as well.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "shared/shared_memory.h"

/* A signal makes the kernel start a reservation over: so much at a time gets on all the same. */
#define RESERVE_STEP ((size_t)64 << 20)

int mp_shared_memory_check_name(const char *name)
{
    size_t n = strnlen(name, MP_SHARED_MEMORY_NAME_MAX + 1);

    if (n == 0 || n > MP_SHARED_MEMORY_NAME_MAX || strchr(name, '/') || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return -ENAMETOOLONG;
    return 0;
}

void mp_shared_memory_path(const char *name, char ret_path[MP_SHARED_MEMORY_PATH_BYTES])
{
    snprintf(ret_path, MP_SHARED_MEMORY_PATH_BYTES, MP_SHARED_MEMORY_FOLDER "%s", name);
}

int mp_shared_memory_refusal(int error)
{
    struct stat st;

    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return stat(MP_SHARED_MEMORY_FOLDER, &st) == 0 && S_ISDIR(st.st_mode) ? -ENOENT
                                                                              : -EOPNOTSUPP;
    case ELOOP:
    case EISDIR:
    case ENXIO:
        return -EPROTO;
    default:
        return -error;
    }
}

mp_shared_memory *mp_shared_memory_new(void)
{
    mp_shared_memory *m = calloc(1, sizeof *m);

    if (m)
        m->fd = -1;
    return m;
}

int mp_shared_memory_check_limit(uint64_t end)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
        return -errno;
    return limit.rlim_cur != RLIM_INFINITY && end > limit.rlim_cur ? -EFBIG : 0;
}

int mp_shared_memory_reserve(int fd, int mode, size_t size, size_t missing)
{
    struct statvfs fs;
    size_t at = 0;
    int r = mp_shared_memory_check_limit(size);

    if (r < 0)
        return r;
    /* What can not succeed shall not fill /dev/shm before it fails. Without a limit it has no
     * blocks. */
    if (fstatvfs(fd, &fs) < 0)
        return -errno;
    if (fs.f_blocks > 0 && missing / fs.f_frsize > fs.f_bfree)
        return -ENOSPC;
    while (at < size) {
        size_t n = mp_min(size - at, RESERVE_STEP);

        if (fallocate(fd, mode, (off_t)at, (off_t)n) == 0)
            at += n;
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int mp_shared_memory_write_all(int fd, size_t offset, const void *data, size_t size)
{
    const char *from = data;

    while (size > 0) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        from += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int mp_shared_memory_map(mp_shared_memory *m, size_t size)
{
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);

    if (data == MAP_FAILED)
        return -errno;
    m->data = data;
    m->size = size;
    return 0;
}

static int fill_holes(int fd, const struct stat *st)
{
    size_t size = (size_t)st->st_size, has = (size_t)st->st_blocks * 512;

    if (has >= size)
        return 0;
    return mp_shared_memory_reserve(fd, FALLOC_FL_KEEP_SIZE, size, size - has);
}

int mp_shared_memory_open(const char *name, mp_shared_memory **ret_memory)
{
    _cleanup_(mp_shared_memory_closep) mp_shared_memory *m = NULL;
    char path[MP_SHARED_MEMORY_PATH_BYTES];
    struct stat st;
    int r;

    if (!name || !ret_memory)
        return -EINVAL;
    r = mp_shared_memory_check_name(name);
    if (r < 0)
        return r;
    m = mp_shared_memory_new();
    if (!m)
        return -ENOMEM;
    memcpy(m->name, name, strlen(name) + 1);
    mp_shared_memory_path(name, path);
    /* Not to be kept waiting by what is no segment, either. */
    m->fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (m->fd < 0)
        return mp_shared_memory_refusal(errno);
    if (fstat(m->fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EPROTO;
    if (st.st_size == 0)
        return -EAGAIN;
    r = fill_holes(m->fd, &st);
    if (r < 0)
        return r;
    r = mp_shared_memory_map(m, (size_t)st.st_size);
    if (r < 0)
        return r;
    *ret_memory = mp_take_ptr(m);
    return 0;
}

mp_shared_memory *mp_shared_memory_close(mp_shared_memory *memory)
{
    if (!memory)
        return NULL;
    if (memory->data)
        munmap(memory->data, memory->size);
    if (memory->fd >= 0)
        close(memory->fd);
    free(memory);
    return NULL;
}

int mp_shared_memory_unlink(const mp_shared_memory *memory)
{
    char path[MP_SHARED_MEMORY_PATH_BYTES];
    struct stat st, ours;

    if (!memory)
        return -EINVAL;
    mp_shared_memory_path(memory->name, path);
    if (lstat(path, &st) < 0)
        return mp_shared_memory_refusal(errno);
    if (fstat(memory->fd, &ours) < 0)
        return -errno;
    if (st.st_dev != ours.st_dev || st.st_ino != ours.st_ino)
        return -ESTALE;
    return mp_shared_memory_unlink_name(memory->name);
}

int mp_shared_memory_unlink_name(const char *name)
{
    char path[MP_SHARED_MEMORY_PATH_BYTES];
    int r;

    if (!name)
        return -EINVAL;
    r = mp_shared_memory_check_name(name);
    if (r < 0)
        return r;
    mp_shared_memory_path(name, path);
    return unlink(path) < 0 ? mp_shared_memory_refusal(errno) : 0;
}

void *mp_shared_memory_data(const mp_shared_memory *memory)
{
    return memory ? memory->data : NULL;
}

size_t mp_shared_memory_size(const mp_shared_memory *memory)
{
    return memory ? memory->size : 0;
}

const char *mp_shared_memory_name(const mp_shared_memory *memory)
{
    return memory ? memory->name : NULL;
}

int mp_shared_memory_fd(const mp_shared_memory *memory)
{
    return memory ? memory->fd : -EINVAL;
}

int mp_shared_memory_links(const mp_shared_memory *memory)
{
    struct stat st;

    if (!memory)
        return -EINVAL;
    if (fstat(memory->fd, &st) < 0)
        return -errno;
    return (int)mp_min(st.st_nlink, (nlink_t)INT_MAX);
}

static bool lies_within(const mp_shared_memory *m, size_t offset, size_t size)
{
    return offset <= m->size && size <= m->size - offset;
}

int mp_shared_memory_read(const mp_shared_memory *memory, size_t offset, void *buffer, size_t size)
{
    char *to = buffer;

    if (!memory || (!buffer && size > 0) || !lies_within(memory, offset, size))
        return -EINVAL;
    while (size > 0) {
        ssize_t n = pread(memory->fd, to, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ESTALE;
        to += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int mp_shared_memory_write(const mp_shared_memory *memory, size_t offset, const void *data,
                           size_t size)
{
    struct stat st;
    int r;

    if (!memory || (!data && size > 0) || !lies_within(memory, offset, size))
        return -EINVAL;
    r = mp_shared_memory_check_limit(offset + size);
    if (r < 0)
        return r;
    /* It would grow again, with holes. */
    if (fstat(memory->fd, &st) < 0)
        return -errno;
    if ((size_t)st.st_size < offset + size)
        return -ESTALE;
    return mp_shared_memory_write_all(memory->fd, offset, data, size);
}
