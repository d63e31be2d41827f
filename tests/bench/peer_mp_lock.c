/* SPDX-License-Identifier: MIT */
/* The lock. */

#include <mp/lock.h>

#define LOCK mp_lock
#define LOCK_CALL(f) mp_lock_##f

#include "lock_bench.h"

int main(int argc, char **argv)
{
    return bench(argc, argv, "mp_lock");
}
