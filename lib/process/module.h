/* SPDX-License-Identifier: MIT */
#pragma once

/* The program and the modules that it has loaded, told apart by their build-ids. */

#include <stdbool.h>
#include <stdint.h>

#define MP_BUILD_ID_MAX 32

struct mp_build_id {
    uint32_t size; /* 0: the linker put none in */
    uint8_t bytes[MP_BUILD_ID_MAX];
};

/* The build-id of the module that this function is in. */
void mp_module_build_id(void (*fn)(void), struct mp_build_id *ret_id);

/* Was this process executed from the program's own file? Not if by way of the dynamic loader as a
 * command (ld.so PROGRAM), and then executing it again gives no second one. */
bool mp_module_can_reexec(void);
