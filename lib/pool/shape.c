/* SPDX-License-Identifier: MIT */
/* Where things lie in a chunk. */

#include <errno.h>

#include "base/macro.h"
#include "pool/layout.h"

/* Room for n things of so many bytes, 16-aligned each, at the end of *total. */
static int place(uint64_t *total, uint64_t limit, uint64_t n, uint64_t stride, uint64_t *ret_offset)
{
    uint64_t bytes, end;

    if (__builtin_mul_overflow(n, stride, &bytes) || __builtin_add_overflow(*total, bytes, &end) ||
        end > limit)
        return -EMSGSIZE;
    *ret_offset = *total;
    *total = end;
    return 0;
}

int mp_shape_compute(struct mp_shape *shape, uint64_t limit)
{
    struct mp_shape s = *shape;
    uint64_t name;
    int r;

    if (s.count == 0 || s.flags & ~MP_CHUNK_FLAGS ||
        (!(s.flags & MP_CHUNK_SECOND) && s.size[1] != 0))
        return -EINVAL;
    if (s.size[0] > limit || s.size[1] > limit || s.result_size > limit || limit > INT64_MAX)
        return -EMSGSIZE;

    s.stride[0] = MP_ALIGN_UP(s.size[0], UINT64_C(16));
    s.stride[1] = MP_ALIGN_UP(s.size[1], UINT64_C(16));
    s.result_stride = MP_ALIGN_UP(s.result_size, UINT64_C(16));
    s.total = sizeof(struct mp_chunk);
    r = place(&s.total, limit, 1, MP_ALIGN_UP((uint64_t)s.name_size, UINT64_C(16)), &name);
    if (r < 0)
        return r;
    r = place(&s.total, limit, s.flags & MP_CHUNK_RECORDS ? s.count : 0, sizeof(struct mp_record),
              &s.records);
    if (r < 0)
        return r;
    r = place(&s.total, limit, s.count, s.stride[0], &s.items[0]);
    if (r < 0)
        return r;
    r = place(&s.total, limit, s.count, s.stride[1], &s.items[1]);
    if (r < 0)
        return r;
    r = place(&s.total, limit, s.count, s.result_stride, &s.results);
    if (r < 0)
        return r;
    *shape = s;
    return 0;
}
