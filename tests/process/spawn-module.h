/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/process.h>

mp_entry_fn *spawn_module_entry(void);
mp_entry_fn *spawn_module_twice(void);
