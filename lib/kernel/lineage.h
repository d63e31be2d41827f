/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which process of a line of forks this is.
 *
 * A number that differs from that of every ancestor, so what carries it can be told to belong to a
 * parent. Not the pid: that is a system call, and a pid can come back in a descendant. The number
 * lies in a page that the kernel wipes in a forked child, however it was forked.
 */

#include <stdint.h>

uint64_t mp_lineage(void);

/* The same, as the first call in a forked child: it does not look before it writes, which spares a
 * page fault. */
uint64_t mp_lineage_begin(void);
