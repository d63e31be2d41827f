/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The same test over every way to start a process: MP_START by `*state`. Before cmocka's headers
 * are done with, after <mp/mp.h>:
 *
 *     const struct CMUnitTest tests[] = {by_each(test_codes), by_each(test_signals)};
 */

#include "base/leftovers.h"

#define METHOD (*(enum mp_start_method *)*state)
#define START(entry, ret, ...) \
    assert_int_equal(          \
        mp_process_start(entry, MP_PROCESS_OPTIONS(.method = METHOD, __VA_ARGS__), ret), 0)

MP_ENTRY(warms_up)
{
    return 0;
}

/* A forkserver stays when its first child has ended; it is not what a test leaves behind. */
static inline int method_before(void **state)
{
    if (METHOD == MP_START_FORKSERVER) {
        mp_process *p;

        START(warms_up, &p);
        assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
        mp_process_free(p);
    }
    return leftovers_before(state);
}

static enum mp_start_method methods[] = {MP_START_FORK, MP_START_SPAWN, MP_START_FORKSERVER};

#define by_method(f, name, i)                                            \
    {                                                                    \
#f " (" name ")", f, method_before, leftovers_after, &methods[i] \
    }
#define by_each(f) by_method(f, "fork", 0), by_method(f, "spawn", 1), by_method(f, "forkserver", 2)
