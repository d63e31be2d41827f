/* SPDX-License-Identifier: MIT */
/* Where entries are found: in the program and in its modules, all with the one shared library. */

#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/leftovers.h"
#include "process/spawn-module.h"

MP_ENTRY(of_program)
{
    return call->size == 4 ? 9 : 10;
}

/* The module has one of this name, too. */
MP_ENTRY(twice)
{
    return 47;
}

static int run(mp_entry_fn *entry, const struct mp_process_options *options)
{
    struct mp_exit_info info;
    mp_process *p;
    int r = mp_process_start(entry, options, &p);

    if (r < 0)
        return r;
    assert_int_equal(mp_process_join(p, MP_FOREVER), 0);
    assert_int_equal(mp_process_exit_info(p, &info), 0);
    mp_process_free(p);
    return info.code;
}

#define SPAWN(entry, ...) run(entry, MP_PROCESS_OPTIONS(.method = MP_START_SPAWN, __VA_ARGS__))

static void test_entries(void **state)
{
    (void)state;
    assert_int_equal(SPAWN(of_program, MP_DATA("abc")), 9);
    assert_int_equal(SPAWN(of_program), 10);
    assert_int_equal(SPAWN(spawn_module_entry(), MP_DATA("abc")), 44);
    assert_int_equal(SPAWN(spawn_module_entry()), 45);
}

/* Nobody could tell which one is meant; for a fork the pointer does. */
static void test_ambiguous(void **state)
{
    (void)state;
    assert_int_equal(SPAWN(twice), -ENOENT);
    assert_int_equal(SPAWN(spawn_module_twice()), -ENOENT);
    assert_int_equal(run(twice, NULL), 47);
    assert_int_equal(run(spawn_module_twice(), NULL), 46);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {clean_test(test_entries), clean_test(test_ambiguous)};

    mp_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
