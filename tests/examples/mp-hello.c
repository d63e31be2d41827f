/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <mp/mp.h>

MP_ENTRY(hello)
{
    return printf("hello %s\n", (const char *)call->data) < 0;
}

int main(int argc, char **argv)
{
    mp_process *process;

    mp_main(argc, argv);
    if (mp_process_start(hello, MP_PROCESS_OPTIONS(MP_DATA("bob")), &process) < 0)
        return 1;
    mp_process_join(process, MP_FOREVER);
    mp_process_free(process);
    return 0;
}
