/* SPDX-License-Identifier: MIT */
/* A queue with default options: many producers, many consumers, blocking. */

#include "queue_bench.h"

int main(int argc, char **argv)
{
    return bench(argc, argv, "mp_queue", 0);
}
