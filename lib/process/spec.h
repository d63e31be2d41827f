/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a spawned child is told: a memfd that can not be changed any more, with this header and the
 * data of the call behind it.
 *
 * The child finds it as its first descriptor, named by a marker among its arguments. Who types the
 * marker by hand has no such memfd to go with it, and gets the program's own main().
 */

#include <stdint.h>

#include <mp/process.h>

#include "kernel/exec.h"
#include "process/module.h"
#include "process/process.h"

#define MP_SPEC_MARKER "--mp-spawn=3"
#define MP_SPEC_MAGIC UINT64_C(0x6e777073706d0a1a)
#define MP_SPEC_VERSION 1
#define MP_SPEC_ENTRY_MAX 255

/* Descriptors of the child, in this order; then the arenas, then those passed. */
enum { MP_SPEC_FD = MP_EXEC_FIRST_FD, MP_SPEC_REST_FD };

struct mp_spec {
    uint64_t magic;
    uint32_t version;
    uint32_t size; /* of this header, data follows */
    uint64_t data_size;
    uint32_t n_arenas;
    uint32_t n_fds;
    uint32_t is_daemon;
    uint32_t has_lifeline; /* its descriptor comes next, before the arenas */
    int32_t parent_pid;
    struct mp_build_id build_id; /* of the module that the entry is in */
    char entry[MP_SPEC_ENTRY_MAX + 1];
    char name[MP_NAME_MAX + 1];
    char parent_name[MP_NAME_MAX + 1];
    char identity[MP_IDENTITY_MAX + 1];
};

/* Its descriptors, without its own. */
#define MP_SPEC_FDS_MAX (1 + MP_ARENAS_MAX + MP_FDS_MAX)

_Static_assert(sizeof(struct mp_spec) % 16 == 0, "the data behind it is aligned to 16");

/* The memfd for this start; a negative errno. */
int mp_spec_freeze(const struct mp_start *start, const mp_process *self);

/* Mapped to be read, where it is one that can not be changed, and makes sense; NULL: it is not. */
const struct mp_spec *mp_spec_map(int fd);
void mp_spec_unmap(const struct mp_spec *spec);

/* How many descriptors go with it. */
unsigned mp_spec_fds(const struct mp_spec *spec);

/* The entry, if this program has it; NULL. */
mp_entry_fn *mp_spec_entry(const struct mp_spec *spec);

/* Become that process: `fds` are its descriptors, and `parent_pidfd` its parent's, if that did not
 * make it itself (else -1). */
_Noreturn void mp_spec_run(const struct mp_spec *spec, const int *fds, int parent_pidfd);
