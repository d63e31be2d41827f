/* SPDX-License-Identifier: MIT */
/* Run under tests/refuse: what it says it refuses is refused, and nothing next to it. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/futex.h"
#include "kernel/membarrier.h"
#include "kernel/pidfd.h"

int main(void)
{
    uint64_t info[16] = {0};
    mp_a32 word = 0;
    int n, fds[2], pidfd = mp_pidfd_open(getpid());

    assert(syscall(SYS_io_uring_setup, 1, info) == -1 && errno == EPERM);
    assert(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) == -1 && errno == EPERM);
    assert(syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS);
    assert(!mp_futex_can_waitv());
    assert(!mp_membarrier_register());
    assert(pidfd >= 0);
    assert(ioctl(pidfd, _IOWR(0xFF, 11, info), info) == -1 && errno == ENOTTY);

    assert(mp_futex_wait(&word, 1, 0) == 0);
    assert(mp_pidfd_wait(pidfd, 0) == 0);
    assert(pipe(fds) == 0 && ioctl(fds[0], FIONREAD, &n) == 0 && n == 0);
    return 0;
}
