/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 /* Linux 6.3 */
#endif

/* A CLOEXEC memfd of this size, sealed against shrinking, growing and further seals. The fd, or a
 * negative errno. */
int mp_memfd_create(const char *name, uint64_t size);

/* Is this a memfd sealed like that? 0 and its size; -EPROTO: no; -EBADF. */
int mp_memfd_check(int fd, uint64_t *ret_size);

struct iovec;

/* A CLOEXEC memfd that holds these bytes and can never be changed. Overwrites the array. */
int mp_memfd_freeze(const char *name, struct iovec *parts, int n);

/* Is this one that mp_memfd_freeze() could have made? 0 and its size; -EPROTO: no; -EBADF. */
int mp_memfd_check_frozen(int fd, uint64_t *ret_size);
