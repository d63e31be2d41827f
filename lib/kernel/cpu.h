/* SPDX-License-Identifier: MIT */
#pragma once

/* Where this thread runs, and where it may. */

#include <stdint.h>

/* The CPU this thread runs on now. */
uint32_t mp_cpu_current(void);

/* How many CPUs this thread may use (its affinity), at least 1; asked anew at most every few
 * milliseconds. */
uint32_t mp_cpu_allowed(void);
