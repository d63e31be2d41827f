/* SPDX-License-Identifier: MIT */
#pragma once

/* Is the test built with AddressSanitizer? It has signal handlers of its own, and looks for leaks
 * at exit, by a thread that needs /proc and ptrace(). */

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif
