/* SPDX-License-Identifier: MIT */
/*
 * Start by spawn, the child's side: mp_main().
 *
 * The marker alone means nothing: without the memfd, sealed and of our making, this is a program
 * that a user gave an odd argument. With it this process was made to run an entry, and does not
 * come back from here. Should the entry not be found then (a module of the program was replaced on
 * the disk meanwhile) or an arena not take another participant, it ends with code 127.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process.h"
#include "process/spec.h"

static const char *program;

const char *mp_main_program(void)
{
    return program;
}

/* The spec and its descriptors; NULL: this process was not spawned. */
static const struct mp_spec *find_spec(int argc, char **argv, int fds[])
{
    const struct mp_spec *s;

    if (argc < 2 || !argv[1] || strcmp(argv[1], MP_SPEC_MARKER) != 0 || getauxval(AT_SECURE))
        return NULL;
    s = mp_spec_map(MP_SPEC_FD);
    for (unsigned i = 0; s && i < mp_spec_fds(s); i++) {
        fds[i] = MP_SPEC_REST_FD + (int)i;
        if (fcntl(fds[i], F_GETFD) < 0) {
            mp_spec_unmap(s);
            s = NULL;
        }
    }
    return s;
}

int mp_main(int argc, char **argv)
{
    int fds[MP_SPEC_FDS_MAX];
    const struct mp_spec *s;
    int spec_fd = MP_SPEC_FD;

    if (argc > 0 && argv)
        program = argv[0];
    s = program ? find_spec(argc, argv, fds) : NULL;
    if (!s)
        return 0;
    /* The program's name rather than "exe", from /proc/self/exe. */
    prctl(PR_SET_NAME, program_invocation_short_name);
    for (unsigned i = 0; i < mp_spec_fds(s); i++)
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    mp_closep(&spec_fd);
    mp_spec_run(s, fds, -1);
}
