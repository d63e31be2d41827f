/* SPDX-License-Identifier: MIT */
/*
 * Where LeakSanitizer looks for leaks: in the process that runs a test, when its main thread ends
 * it.
 *
 * In a forked child the memory of the parent's other threads is lost by design (the child may not
 * touch it), and where main has ended by pthread_exit() its stack, which held the rest, is gone.
 * Every test program has this file; without the sanitizer nobody calls the function.
 */

#include <unistd.h>

int __lsan_is_turned_off(void);

static pid_t self;

__attribute__((constructor)) static void remember_self(void)
{
    self = getpid();
}

int __lsan_is_turned_off(void)
{
    return getpid() != self || gettid() != self;
}
