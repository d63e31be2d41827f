/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The asymmetric fence: publishers run none, the one that goes to sleep runs
 * membarrier(GLOBAL_EXPEDITED) between raising its flag and its last look. Every publisher's
 * process must have registered.
 */

#include <stdbool.h>

/* Register this process (again after a fork is free). False: refused; this process must fence. */
bool mp_membarrier_register(void);

/* A full fence on every CPU that runs a registered process. False: refused. */
bool mp_membarrier(void);
