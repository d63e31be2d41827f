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
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/memfd.h"
#include "process/module.h"
#include "process/process.h"
#include "process/registry.h"
#include "process/spec.h"

static const char *program;

const char *mp_main_program(void)
{
    return program;
}

static bool is_text(const char *s, size_t size)
{
    return memchr(s, '\0', size) != NULL;
}

static unsigned count_fds(const struct mp_spec *s)
{
    unsigned own = MP_SPEC_REST_FD - MP_EXEC_FIRST_FD;

    return own + (s->has_lifeline ? 1 : 0) + s->n_arenas + s->n_fds;
}

static bool is_sane(const struct mp_spec *s, uint64_t size)
{
    if (s->magic != MP_SPEC_MAGIC || s->version != MP_SPEC_VERSION || s->size != sizeof *s)
        return false;
    if (s->data_size != size - sizeof *s || s->n_arenas > MP_ARENAS_MAX || s->n_fds > MP_FDS_MAX)
        return false;
    if (!is_text(s->entry, sizeof s->entry) || !is_text(s->name, sizeof s->name) ||
        !is_text(s->parent_name, sizeof s->parent_name) ||
        !is_text(s->identity, sizeof s->identity) || s->build_id.size > MP_BUILD_ID_MAX)
        return false;
    for (unsigned i = 0; i < count_fds(s); i++)
        if (fcntl(MP_EXEC_FIRST_FD + (int)i, F_GETFD) < 0)
            return false;
    return true;
}

/* The spec, mapped for good; NULL: this process was not spawned. */
static const struct mp_spec *map_spec(int argc, char **argv)
{
    const struct mp_spec *s;
    uint64_t size;

    if (argc < 2 || !argv[1] || strcmp(argv[1], MP_SPEC_MARKER) != 0 || getauxval(AT_SECURE))
        return NULL;
    if (mp_memfd_check_frozen(MP_SPEC_FD, &size) < 0 || size < sizeof *s)
        return NULL;
    s = mmap(NULL, size, PROT_READ, MAP_PRIVATE, MP_SPEC_FD, 0);
    if (s == MAP_FAILED)
        return NULL;
    if (is_sane(s, size))
        return s;
    munmap((void *)(uintptr_t)s, size);
    return NULL;
}

static mp_entry_fn *find_entry(const struct mp_spec *s)
{
    mp_entry_fn *entry = mp_registry_entry(s->entry);
    struct mp_build_id id;

    if (!entry)
        return NULL;
    mp_module_build_id((void (*)(void))entry, &id);
    return id.size == s->build_id.size && memcmp(id.bytes, s->build_id.bytes, id.size) == 0 ? entry
                                                                                            : NULL;
}

static int join_household(const struct mp_spec *s)
{
    struct mp_household *h = mp_household();

    if (!h)
        return -ENOMEM;
    memcpy(h->self.name, s->name, sizeof h->self.name);
    memcpy(h->identity, s->identity, sizeof h->identity);
    h->self.is_daemon = s->is_daemon != 0;
    h->has_parent = true;
    h->parent.pid = s->parent_pid;
    memcpy(h->parent.name, s->parent_name, sizeof h->parent.name);
    if (!s->is_daemon)
        return 0;
    h->lifeline_fd = s->has_lifeline ? MP_SPEC_REST_FD : -1;
    return mp_child_guard(h);
}

/* The call; NULL: an arena could not be attached. */
static struct mp_call *make_call(const struct mp_spec *s)
{
    mp_arena *arenas[MP_ARENAS_MAX];
    int fds[MP_FDS_MAX];
    int next = MP_SPEC_REST_FD + (s->has_lifeline != 0);
    struct mp_process_options options = {
        .arenas = arenas, .n_arenas = s->n_arenas, .fds = fds, .n_fds = s->n_fds};
    struct mp_call *call;

    for (uint32_t i = 0; i < s->n_arenas; i++) {
        int fd = next++;

        if (mp_arena_attach(fd, &arenas[i]) < 0)
            return NULL;
        mp_closep(&fd);
    }
    for (uint32_t i = 0; i < s->n_fds; i++)
        fds[i] = next++;
    call = mp_call_new(&options);
    if (!call)
        return NULL;
    /* Not copied: the memfd can not be changed, and its mapping stays. */
    call->data = s + 1;
    call->size = s->data_size;
    return call;
}

int mp_main(int argc, char **argv)
{
    const struct mp_spec *s;
    struct mp_call *call;
    mp_entry_fn *entry;
    int spec_fd = MP_SPEC_FD;

    if (argc > 0 && argv)
        program = argv[0];
    s = program ? map_spec(argc, argv) : NULL;
    if (!s)
        return 0;
    /* The program's name rather than "exe", from /proc/self/exe. */
    prctl(PR_SET_NAME, program_invocation_short_name);
    for (unsigned i = 0; i < count_fds(s); i++)
        fcntl(MP_EXEC_FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC);
    mp_closep(&spec_fd);
    if (join_household(s) < 0)
        _exit(MP_EXIT_NO_ENTRY);
    entry = find_entry(s);
    call = entry ? make_call(s) : NULL;
    if (!call)
        _exit(MP_EXIT_NO_ENTRY);
    mp_household()->call = call;
    exit(entry(call));
}
