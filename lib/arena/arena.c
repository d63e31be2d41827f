/* SPDX-License-Identifier: MIT */
/*
 * Arenas: making, mapping, checking, closing.
 *
 * Of a memfd that is handed in nothing is believed: it must be sealed against shrinking and
 * growing, so the mapping can not fault; its size must be what the three numbers in its header
 * give; version and fingerprint must be ours. From then on the numbers in the handle count, not
 * those in memory.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "arena/arena.h"
#include "arena/block.h"
#include "arena/keeper.h"
#include "arena/liveness.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "kernel/memfd.h"
#include "kernel/pidfd.h"

#define SIZE_DEFAULT (UINT64_C(64) << 20)
#define OBJECTS_DEFAULT 1024u
#define PREFIX "mp:"

static struct mp_arena *arenas; /* of this process; under the keeper's lock */

bool mp_arena_is_fd(const struct mp_arena *a, int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == a->device && st.st_ino == a->inode;
}

void mp_arena_close_fd(const struct mp_arena *a, int *fd)
{
    if (mp_arena_is_fd(a, *fd))
        close(*fd);
    *fd = -1;
}

void mp_arena_unmap(struct mp_arena *a)
{
    if (!a)
        return;
    if (a->base)
        munmap(a->base - MP_PRIVATE_BYTES, MP_PRIVATE_BYTES + a->geometry.total);
    mp_arena_close_fd(a, &a->byte_fd);
    mp_arena_close_fd(a, &a->fd);
    free(a);
}

static void unmapp(struct mp_arena **a)
{
    mp_arena_unmap(*a);
}

/* Map the memfd, with private pages right below it. */
static int map(struct mp_arena *a)
{
    const struct mp_geometry *g = &a->geometry;
    size_t total = MP_PRIVATE_BYTES + g->total;
    char *p, *self;

    p = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    if (mprotect(p, MP_PRIVATE_BYTES, PROT_READ | PROT_WRITE) < 0 ||
        mmap(p + MP_PRIVATE_BYTES, g->total, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, a->fd, 0) == MAP_FAILED) {
        int r = -errno;

        munmap(p, total);
        return r;
    }
    a->base = p + MP_PRIVATE_BYTES;
    self = a->base - 4096;
    if (madvise(self, 4096, MADV_WIPEONFORK) < 0)
        return -errno;
    a->self = (struct mp_self *)(void *)self;
    a->header = (struct mp_header *)(void *)a->base;
    a->slots = (struct mp_slot *)(void *)(a->base + g->slots_offset);
    a->waits = (struct mp_wait_record *)(void *)(a->base + g->waits_offset);
    a->directory = (struct mp_directory_entry *)(void *)(a->base + g->directory_offset);
    a->extents = (mp_a32 *)(void *)(a->base + g->extents_offset);
    a->crate_words = (mp_a64 *)(void *)(a->base + g->crate_words_offset);
    a->crates = (struct mp_crate *)(void *)(a->base + g->crates_offset);
    a->words = (mp_a64 *)(void *)(a->base + g->words_offset);
    a->meta = (mp_a64 *)(void *)(a->base + g->meta_offset);
    return 0;
}

static struct mp_arena *new_handle(void)
{
    struct mp_arena *a = calloc(1, sizeof *a);

    if (a) {
        a->references = 1;
        a->fd = a->byte_fd = -1;
    }
    return a;
}

static int identify(struct mp_arena *a)
{
    struct stat st;

    if (fstat(a->fd, &st) < 0)
        return -errno;
    a->device = st.st_dev;
    a->inode = st.st_ino;
    return 0;
}

static void write_header(struct mp_arena *a)
{
    struct mp_header *h = a->header;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    h->version = MP_VERSION;
    h->fingerprint = mp_geometry_fingerprint();
    h->total = a->geometry.total;
    h->size = a->geometry.size;
    h->participants = a->geometry.participants;
    h->objects = a->geometry.objects;
    memcpy(h->name, a->name, sizeof h->name);
    h->creator_pid = (uint32_t)getpid();
    h->creator_start = mp_task_start(getpid());
    h->created_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    h->magic = MP_MAGIC;
}

/* Into the process's list, or the one that is already there. With the lock held. */
static struct mp_arena *find_in_list(dev_t device, ino_t inode)
{
    for (struct mp_arena *a = arenas; a; a = a->next)
        if (a->device == device && a->inode == inode)
            return a;
    return NULL;
}

static void unlink_from_list(struct mp_arena *a)
{
    for (struct mp_arena **p = &arenas; *p; p = &(*p)->next)
        if (*p == a) {
            *p = a->next;
            return;
        }
}

/* Into the list and take part; or, where another thread was first, take its handle instead. The
 * mapping is the list's or gone: *a is what is left to free. */
static int enlist_and_join(struct mp_arena **a, mp_arena **ret_arena)
{
    struct mp_arena *known;
    int r = mp_keeper_lock();

    if (r < 0)
        return r;
    known = find_in_list((*a)->device, (*a)->inode);
    if (known) {
        known->references++;
    } else {
        known = mp_take_ptr(*a);
        known->next = arenas;
        arenas = known;
    }
    mp_keeper_unlock();
    r = mp_arena_join(known);
    if (r < 0) {
        mp_arena_close(known);
        return r;
    }
    *ret_arena = known;
    return 0;
}

int mp_arena_create(const char *name, const struct mp_arena_options *options, mp_arena **ret_arena)
{
    _cleanup_(unmapp) struct mp_arena *a = NULL;
    struct mp_arena_options o = {0};
    char memfd_name[sizeof PREFIX + MP_NAME_MAX];
    int r;

    if (!name || !ret_arena || (options && options->struct_size < sizeof o))
        return -EINVAL;
    if (!mp_name_is_valid(name))
        return -ENAMETOOLONG;
    if (options)
        o = *options;
    a = new_handle();
    if (!a)
        return -ENOMEM;
    r = mp_geometry_compute(o.size ? o.size : SIZE_DEFAULT,
                            o.participants ? o.participants : MP_PARTICIPANTS_DEFAULT,
                            o.objects ? o.objects : OBJECTS_DEFAULT, &a->geometry);
    if (r < 0)
        return r;
    memcpy(a->name, name, strlen(name) + 1);
    strcpy(memfd_name, PREFIX);
    strcat(memfd_name, name);
    a->fd = mp_memfd_create(memfd_name, a->geometry.total);
    if (a->fd < 0)
        return a->fd;
    r = map(a);
    if (r < 0)
        return r;
    r = identify(a);
    if (r < 0)
        return r;
    write_header(a);
    return enlist_and_join(&a, ret_arena);
}

/* The geometry that the header of this memfd gives, if it is an arena. */
static int read_geometry(int fd, uint64_t bytes, struct mp_geometry *ret,
                         char name[MP_NAME_MAX + 1])
{
    struct mp_header h;
    ssize_t n = pread(fd, &h, sizeof h, 0);

    if (n < 0)
        return errno == EBADF ? -EBADF : -EPROTO;
    if ((size_t)n < sizeof h || h.magic != MP_MAGIC)
        return -EPROTO;
    if (h.version != MP_VERSION || h.fingerprint != mp_geometry_fingerprint())
        return -ENOEXEC;
    if (mp_geometry_compute(h.size, h.participants, h.objects, ret) < 0)
        return -EPROTO;
    if (h.total != ret->total || bytes != ret->total || h.size != ret->size)
        return -EPROTO;
    mp_name_copy(name, h.name, sizeof h.name);
    return 0;
}

int mp_arena_map(int fd, struct mp_arena **ret)
{
    _cleanup_(unmapp) struct mp_arena *a = new_handle();
    uint64_t bytes;
    int r;

    if (!a)
        return -ENOMEM;
    r = mp_memfd_check(fd, &bytes);
    if (r < 0)
        return r;
    r = read_geometry(fd, bytes, &a->geometry, a->name);
    if (r < 0)
        return r;
    a->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (a->fd < 0)
        return -errno;
    r = identify(a);
    if (r < 0)
        return r;
    r = map(a);
    if (r < 0)
        return r;
    *ret = mp_take_ptr(a);
    return 0;
}

/* A second handle on what this process has already. NULL: it has not. */
static struct mp_arena *reference_known(int fd)
{
    struct mp_arena *a;
    struct stat st;

    if (fstat(fd, &st) < 0 || mp_keeper_lock() < 0)
        return NULL;
    a = find_in_list(st.st_dev, st.st_ino);
    if (a)
        a->references++;
    mp_keeper_unlock();
    return a;
}

int mp_arena_attach(int fd, mp_arena **ret_arena)
{
    _cleanup_(unmapp) struct mp_arena *a = NULL;
    struct mp_arena *known;
    int r;

    if (!ret_arena)
        return -EINVAL;
    if (fd < 0)
        return -EBADF;
    known = reference_known(fd);
    if (known) {
        r = mp_arena_join(known);
        if (r < 0) {
            mp_arena_close(known);
            return r;
        }
        *ret_arena = known;
        return 0;
    }
    r = mp_arena_map(fd, &a);
    if (r < 0)
        return r;
    return enlist_and_join(&a, ret_arena);
}

mp_arena *mp_arena_close(mp_arena *arena)
{
    bool last;

    if (!arena || mp_keeper_lock() < 0)
        return NULL;
    last = --arena->references == 0;
    if (last) {
        unlink_from_list(arena);
        mp_thread_flush(arena);
        mp_keeper_leave(arena);
    }
    mp_keeper_unlock();
    if (last)
        mp_arena_unmap(arena);
    return NULL;
}

bool mp_arena_hold(const struct mp_arena *arena, uint64_t life)
{
    if (mp_keeper_lock() < 0)
        return false;
    for (struct mp_arena *a = arenas; a; a = a->next)
        if (a == arena && mp_load_relaxed(&a->self->life) == life)
            return true;
    mp_keeper_unlock();
    return false;
}

void mp_arena_let_go(void)
{
    mp_keeper_unlock();
}

MP_NOINLINE uint32_t mp_arena_enter_slow(struct mp_arena *a, int *ret_error)
{
    int r = mp_keeper_join(a);

    if (r < 0) {
        *ret_error = r;
        return 0;
    }
    return mp_load_acquire(&a->self->token);
}

int mp_arena_join(mp_arena *arena)
{
    int r = 0;

    if (!arena)
        return -EINVAL;
    return mp_arena_enter(arena, &r) ? 0 : r;
}

int mp_arena_fd(const mp_arena *arena)
{
    return arena ? arena->fd : -EINVAL;
}

const char *mp_arena_name(const mp_arena *arena)
{
    return arena ? arena->name : NULL;
}

uint64_t mp_arena_max_block(const mp_arena *arena)
{
    return arena ? arena->geometry.classes[arena->geometry.n_classes - 1].block_size : 0;
}

int mp_arena_stats(const mp_arena *arena, struct mp_arena_stats *ret_stats)
{
    struct mp_arena_stats s = {0};

    if (!arena || !ret_stats)
        return -EINVAL;
    s.size = arena->geometry.size;
    s.backed = mp_extent_sum(arena);
    s.participants_max = arena->geometry.participants;
    for (uint32_t i = 0; i < mp_arena_slots_high(arena); i++) {
        uint32_t live = (uint32_t)mp_load_relaxed(&arena->slots[i].state);

        s.participants += live != 0 && live != MP_LIVE_RETIRED && !(live & FUTEX_OWNER_DIED);
    }
    s.objects_max = arena->geometry.objects;
    for (uint32_t i = 0; i < mp_arena_objects_high(arena); i++)
        s.objects +=
            mp_entry_unpack(mp_load_relaxed(&arena->directory[i].state)).state == MP_ENTRY_LIVE;
    s.deaths = mp_load_relaxed(&arena->header->deaths);
    *ret_stats = s;
    return 0;
}
