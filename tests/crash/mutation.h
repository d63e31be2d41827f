/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/* Break a rule of lib/base/mutation.h from now on. False: there is none of this name, or this
 * program was built with all rules in force. */
bool mutation_choose(const char *name);
