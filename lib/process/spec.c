/* SPDX-License-Identifier: MIT */
/*
 * What a child is told that is no copy of its parent, and how it becomes what it was told.
 *
 * The spec is a memfd that nobody can change any more: the parent's and a forkserver's look at it
 * is the child's. Its descriptors follow in a fixed order: the lifeline of a daemon, the arenas,
 * those passed.
 */

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "kernel/memfd.h"
#include "process/process.h"
#include "process/registry.h"
#include "process/spec.h"

int mp_spec_freeze(const struct mp_start *s, const mp_process *self)
{
    struct mp_spec spec = {.magic = MP_SPEC_MAGIC,
                           .version = MP_SPEC_VERSION,
                           .size = sizeof spec,
                           .data_size = s->options.size,
                           .n_arenas = (uint32_t)s->options.n_arenas,
                           .n_fds = (uint32_t)s->options.n_fds,
                           .is_daemon = s->options.daemon != 0,
                           .has_lifeline = s->lifeline_fd >= 0,
                           .parent_pid = getpid()};
    struct iovec parts[] = {
        {.iov_base = &spec, .iov_len = sizeof spec},
        {.iov_base = (void *)(uintptr_t)s->options.data, .iov_len = s->options.size},
    };

    if (strlen(s->entry_name) > MP_SPEC_ENTRY_MAX)
        return -ENAMETOOLONG;
    strcpy(spec.entry, s->entry_name);
    memcpy(spec.name, s->name, sizeof spec.name);
    memcpy(spec.parent_name, self->name, sizeof spec.parent_name);
    memcpy(spec.identity, s->identity, sizeof spec.identity);
    mp_module_build_id((void (*)(void))s->entry, &spec.build_id);
    return mp_memfd_freeze("mp-spawn", parts, MP_ARRAY_SIZE(parts));
}

static bool is_text(const char *s, size_t size)
{
    return memchr(s, '\0', size) != NULL;
}

unsigned mp_spec_fds(const struct mp_spec *s)
{
    return (s->has_lifeline ? 1 : 0) + s->n_arenas + s->n_fds;
}

static bool is_sane(const struct mp_spec *s, uint64_t size)
{
    if (s->magic != MP_SPEC_MAGIC || s->version != MP_SPEC_VERSION || s->size != sizeof *s)
        return false;
    if (s->data_size != size - sizeof *s || s->n_arenas > MP_ARENAS_MAX || s->n_fds > MP_FDS_MAX)
        return false;
    return is_text(s->entry, sizeof s->entry) && is_text(s->name, sizeof s->name) &&
           is_text(s->parent_name, sizeof s->parent_name) &&
           is_text(s->identity, sizeof s->identity) && s->build_id.size <= MP_BUILD_ID_MAX;
}

const struct mp_spec *mp_spec_map(int fd)
{
    const struct mp_spec *s;
    uint64_t size;

    if (mp_memfd_check_frozen(fd, &size) < 0 || size < sizeof *s)
        return NULL;
    s = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (s == MAP_FAILED)
        return NULL;
    if (is_sane(s, size))
        return s;
    munmap((void *)(uintptr_t)s, size);
    return NULL;
}

void mp_spec_unmap(const struct mp_spec *s)
{
    if (s)
        munmap((void *)(uintptr_t)s, sizeof *s + s->data_size);
}

mp_entry_fn *mp_spec_entry(const struct mp_spec *s)
{
    mp_entry_fn *entry = mp_registry_entry(s->entry);
    struct mp_build_id id;

    if (!entry)
        return NULL;
    mp_module_build_id((void (*)(void))entry, &id);
    return id.size == s->build_id.size && memcmp(id.bytes, s->build_id.bytes, id.size) == 0 ? entry
                                                                                            : NULL;
}

static int join_household(const struct mp_spec *s, const int *fds, int parent_pidfd)
{
    struct mp_household *h = mp_household();

    if (!h)
        return -ENOMEM;
    memcpy(h->self.name, s->name, sizeof h->self.name);
    memcpy(h->identity, s->identity, sizeof h->identity);
    h->self.is_daemon = s->is_daemon != 0;
    h->has_parent = true;
    h->parent.pid = s->parent_pid;
    h->parent.pidfd = parent_pidfd;
    memcpy(h->parent.name, s->parent_name, sizeof h->parent.name);
    if (!s->is_daemon)
        return 0;
    h->lifeline_fd = s->has_lifeline ? fds[0] : -1;
    return mp_child_guard(h);
}

/* The call; NULL: an arena could not be attached. */
static struct mp_call *make_call(const struct mp_spec *s, const int *fds)
{
    mp_arena *arenas[MP_ARENAS_MAX];
    const int *next = fds + (s->has_lifeline != 0);
    struct mp_process_options options = {
        .arenas = arenas,
        .n_arenas = s->n_arenas,
        .fds = next + s->n_arenas,
        .n_fds = s->n_fds,
    };
    struct mp_call *call;

    for (uint32_t i = 0; i < s->n_arenas; i++) {
        int fd = *next++;

        if (mp_arena_attach(fd, &arenas[i]) < 0)
            return NULL;
        mp_closep(&fd);
    }
    call = mp_call_new(&options);
    if (!call)
        return NULL;
    /* Not copied: the memfd can not be changed, and its mapping stays. */
    call->data = s + 1;
    call->size = s->data_size;
    return call;
}

void mp_spec_run(const struct mp_spec *s, const int *fds, int parent_pidfd)
{
    struct mp_call *call;
    mp_entry_fn *entry;

    if (join_household(s, fds, parent_pidfd) < 0)
        _exit(MP_EXIT_NO_ENTRY);
    entry = mp_spec_entry(s);
    call = entry ? make_call(s, fds) : NULL;
    if (!call)
        _exit(MP_EXIT_NO_ENTRY);
    mp_household()->call = call;
    exit(entry(call));
}
