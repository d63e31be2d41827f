/* SPDX-License-Identifier: MIT */
/* membarrier(2), global expedited. */

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/membarrier.h"

bool mp_membarrier_register(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool mp_membarrier(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}
