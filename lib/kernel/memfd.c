/* SPDX-License-Identifier: MIT */
/* Sealed memfds. */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/memfd.h"

#define MP_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int create_unsealed(const char *name)
{
    /* A kernel without MFD_NOEXEC_SEAL says EINVAL; the retry must keep MFD_ALLOW_SEALING. */
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

/* Beyond the limit on the size of files a signal would come that ends the process. */
static bool fits(uint64_t size)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) < 0 || size <= limit.rlim_cur;
}

int mp_memfd_create(const char *name, uint64_t size)
{
    _cleanup_close_ int fd = -1;

    if (!fits(size))
        return -EFBIG;
    fd = create_unsealed(name);
    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)size) < 0)
        return -errno;
    if (fcntl(fd, F_ADD_SEALS, MP_SEALS) < 0)
        return -errno;
    return mp_take_fd(&fd);
}

int mp_memfd_freeze(const char *name, struct iovec *parts, int n)
{
    _cleanup_close_ int fd = -1;
    uint64_t size = 0;

    for (int i = 0; i < n; i++)
        size += parts[i].iov_len;
    if (!fits(size))
        return -EFBIG;
    fd = create_unsealed(name);
    if (fd < 0)
        return fd;
    while (n > 0) {
        ssize_t written = writev(fd, parts, n);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        for (; n > 0 && (size_t)written >= parts->iov_len; parts++, n--)
            written -= (ssize_t)parts->iov_len;
        if (n > 0) {
            parts->iov_base = (char *)parts->iov_base + written;
            parts->iov_len -= (size_t)written;
        }
    }
    if (fcntl(fd, F_ADD_SEALS, MP_SEALS | F_SEAL_WRITE) < 0)
        return -errno;
    return mp_take_fd(&fd);
}

static int check_seals(int fd, int wanted, uint64_t *ret_size)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0)
        return errno == EBADF ? -EBADF : -EPROTO;
    if ((seals & wanted) != wanted)
        return -EPROTO;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int mp_memfd_check(int fd, uint64_t *ret_size)
{
    return check_seals(fd, MP_SEALS, ret_size);
}

int mp_memfd_check_frozen(int fd, uint64_t *ret_size)
{
    return check_seals(fd, MP_SEALS | F_SEAL_WRITE, ret_size);
}
