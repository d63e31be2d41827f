/* SPDX-License-Identifier: MIT */
/* A queue declared for one producer and one consumer. */

#include "queue_bench.h"

int main(int argc, char **argv)
{
    return bench(argc, argv, "mp_queue_spsc", MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER);
}
