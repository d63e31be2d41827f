/* SPDX-License-Identifier: MIT */
/* Which rule is broken. */

#include <string.h>

#include "base/macro.h"
#include "base/mutation.h"
#include "crash/mutation.h"

#ifdef MP_MUTATION

enum mp_mutation mp_mutation_chosen;

bool mutation_choose(const char *name)
{
    static const char *const names[] = {"NONE",
#define x(name, what) #name,
                                        MP_MUTATIONS(x)
#undef x
    };

    for (unsigned i = 0; i < MP_ARRAY_SIZE(names); i++)
        if (strcmp(names[i], name) == 0) {
            mp_mutation_chosen = (enum mp_mutation)i;
            return true;
        }
    return false;
}

#else

bool mutation_choose(const char *name)
{
    (void)name;
    return false;
}

#endif
