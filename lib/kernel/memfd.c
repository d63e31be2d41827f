/* SPDX-License-Identifier: MIT */
/* Sealed memfds. */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/memfd.h"

#define MP_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int mp_memfd_create(const char *name, uint64_t size)
{
    _cleanup_close_ int fd = -1;

    /* A kernel without MFD_NOEXEC_SEAL says EINVAL; the retry must keep MFD_ALLOW_SEALING. */
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0)
        return -errno;
    if (fcntl(fd, F_ADD_SEALS, MP_SEALS) < 0)
        return -errno;
    return mp_take_fd(&fd);
}

int mp_memfd_check(int fd, uint64_t *ret_size)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0)
        return errno == EBADF ? -EBADF : -EPROTO;
    if ((seals & MP_SEALS) != MP_SEALS)
        return -EPROTO;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}
