/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Nothing left behind: what a test may not leave.
 *
 * Each test is put between a count and a recount of what this process has: open descriptors,
 * mappings of arenas, threads, children, and the entries of /dev/shm. More than before is a
 * failure, and what is there is printed. With cmocka:
 *
 *     const struct CMUnitTest tests[] = {clean_test(test_put), clean_test(test_get)};
 *
 * or, where a test has a fixture of its own or is no cmocka test,
 *
 *     leftovers_count(&before);
 *     ...
 *     if (leftovers_check(&before) != 0)
 *         fail
 */

#define LEFTOVERS_KINDS 5

struct leftovers {
    unsigned n[LEFTOVERS_KINDS];
};

/* Count what this process has now. */
void leftovers_count(struct leftovers *ret_count);

/* Wait until there is no more than before, since threads and children end in their own time. 0; -1
 * when there still is after 10 seconds, with a list of it on stderr. */
int leftovers_check(const struct leftovers *before);

/* Set-up and tear-down for a cmocka test. */
int leftovers_before(void **state);
int leftovers_after(void **state);

#define clean_test(f) cmocka_unit_test_setup_teardown(f, leftovers_before, leftovers_after)
