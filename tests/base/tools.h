/* SPDX-License-Identifier: MIT */
#pragma once

/* The tools that a test may run under, and what they can not see. */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTING_THREADS 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TESTING_THREADS 1
#endif

static inline bool under_thread_sanitizer(void)
{
#ifdef TESTING_THREADS
    return true;
#else
    return false;
#endif
}

/* It knows no pidfds, so nobody's death is ever sure there. */
static inline bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}
