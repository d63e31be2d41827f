/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sleeping for words and descriptors at the same time, in two ways. Both return when a word is no
 * longer what it was when it was armed, when a descriptor is ready, at the deadline, or for
 * nothing: whoever calls looks again. 0; negative errno.
 */

#include <poll.h>

#include "arena/waitable.h"

/* By io_uring. -EOPNOTSUPP: not here, or not so many. */
int mp_uring_sleep(const struct mp_words *words, const struct pollfd *fds, uint32_t n_fds,
                   uint64_t deadline_ns);

/* By poll(2), while the keeper watches the words of these waitables. */
int mp_poll_sleep(const struct mp_waitable *waitables, uint32_t n, struct pollfd *fds,
                  uint32_t n_fds, uint64_t deadline_ns);

/* ppoll(2) until a deadline. How many are ready; 0 also at the deadline or after a signal. */
int mp_poll_until(struct pollfd *fds, uint32_t n, uint64_t deadline_ns);
