/* SPDX-License-Identifier: MIT */
#pragma once

/* The robust list of this thread: what the kernel marks when the thread ends, however it ends. */

#include <linux/futex.h>

/* Replace it; the head and what it links must stay. 0; a negative errno. */
int mp_robust_list_set(struct robust_list_head *head);
