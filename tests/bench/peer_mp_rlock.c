/* SPDX-License-Identifier: MIT */
/* The recursive lock. */

#include <mp/rlock.h>

#define LOCK mp_rlock
#define LOCK_CALL(f) mp_rlock_##f

#include "lock_bench.h"

int main(int argc, char **argv)
{
    return bench(argc, argv, "mp_rlock");
}
