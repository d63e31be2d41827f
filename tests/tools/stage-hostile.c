/* SPDX-License-Identifier: MIT */
/*
 * Scenes that lie: an arena in which everything is overwritten while mpctl looks, and memfds and
 * files that only have the name of one.
 */

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena/arena.h"
#include "arena/block.h"
#include "base/macro.h"
#include "kernel/memfd.h"
#include "pool/layout.h"
#include "tools/stage.h"

/* ---- scribble ---- */

static uint64_t seed = 88172645463325252u;

static uint64_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A pool's page that says it has more rows than there are. */
static void make_pool_page(mp_arena *arena)
{
    struct mp_pool_page *page;
    void *block;

    NEED(mp_block_create(arena, MP_POOL_PAGE, sizeof *page + 4 * sizeof page->row[0], &block));
    page = block;
    page->version = MP_POOL_VERSION;
    page->row_size = sizeof page->row[0];
    page->rows = UINT32_MAX;
    for (uint32_t i = 0; i < 4; i++)
        mp_store_relaxed(&page->row[i].state, MP_WORKER_RUNNING);
    mp_store_relaxed(&page->magic, MP_POOL_MAGIC);
}

/* One of each that has holders, with one. */
static void fill_sync(mp_arena *arena)
{
    mp_semaphore *semaphore;
    mp_condition *condition;
    mp_rwlock *rwlock;
    mp_locks *locks;
    mp_rlock *rlock;
    mp_barrier *barrier;
    mp_event *event;

    NEED(mp_rlock_create(arena, NULL, &rlock));
    NEED(mp_rlock_acquire(rlock, 0));
    NEED(mp_rwlock_create(arena, NULL, &rwlock));
    NEED(mp_rwlock_read(rwlock, 0));
    NEED(mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.value = 1), &semaphore));
    NEED(mp_semaphore_acquire(semaphore, 0));
    NEED(mp_barrier_create(arena, NULL, 2, NULL, &barrier));
    NEED(mp_condition_create(arena, NULL, &condition));
    NEED(mp_event_create(arena, NULL, &event));
    NEED(mp_locks_create(arena, NULL, 100, &locks));
    NEED(mp_locks_acquire(locks, 5, 0));
}

static void fill(mp_arena *arena)
{
    const uint32_t both = MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER;
    mp_queue *queue;
    mp_lock *lock;

    for (uint32_t i = 0; i < 12; i++) {
        NEED(mp_queue_create(
            arena, NULL, MP_QUEUE_OPTIONS(.maxsize = 16u << i, .flags = i & 1 ? both : 0), &queue));
        NEED(mp_queue_put(queue, "", 1, 0));
        NEED(mp_lock_create(arena, NULL, &lock));
        NEED(mp_lock_acquire(lock, 0));
    }
    for (uint32_t i = 0; i < 2; i++)
        fill_sync(arena);
    make_pool_page(arena);
    for (uint32_t i = 0; i < MP_WAIT_RECORDS_PER_SLOT; i++) {
        mp_store_relaxed(&arena->waits[i].what, (uint64_t)(MP_WAIT_LOCK + i) << 16 | i);
        mp_store_relaxed(&arena->waits[i].part, UINT64_MAX << i);
        mp_store_relaxed(&arena->waits[i].who, mp_load_relaxed(&arena->slots[0].id));
    }
}

/* Its bytes in a memfd, in which nobody takes part: no keeper is in the way. */
static char *copy_arena(const mp_arena *arena, const char *name, int *ret_fd)
{
    uint64_t total = arena->geometry.total;
    char memfd_name[MP_NAME_MAX + 8];
    char *copy;
    int fd;

    snprintf(memfd_name, sizeof memfd_name, "mp:%s", name);
    fd = mp_memfd_create(memfd_name, total);
    NEED(fd);
    copy = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    NEED(copy == MAP_FAILED ? -1 : 0);
    for (off_t at = 0; (at = lseek(arena->fd, at, SEEK_DATA)) >= 0;) {
        off_t end = lseek(arena->fd, at, SEEK_HOLE);

        memcpy(copy + at, arena->base + at, (size_t)(end - at));
        at = end;
    }
    *ret_fd = fd;
    return copy;
}

/* What makes trouble: anything, small numbers, bits of what was there, all ones. */
static uint64_t bad_word(uint64_t old)
{
    uint64_t r = random_word();

    switch (r >> 61) {
    case 0:
        return r;
    case 1:
        return r & 0xff;
    case 2:
        return (r & 0xff) << 32 | (r >> 8 & 0xff);
    case 3:
        return UINT64_MAX;
    case 4:
        return old ^ UINT64_C(1) << (r & 63);
    case 5:
        return UINT64_C(1) << 63 | (r & 0xffff); /* a block, to a directory entry */
    default:
        return old + 1;
    }
}

#define HEAD 512 /* of a block: all that is scribbled over */

struct target {
    char *copy;
    char *pristine; /* of everything before the blocks */
    struct mp_geometry g;
    uint64_t blocks[32]; /* where those lie that the directory names */
    char heads[32][HEAD];
    uint32_t n_blocks;
};

static void restore(struct target *t)
{
    memcpy(t->copy + 64, t->pristine + 64, t->g.blocks_offset - 64);
    for (uint32_t i = 0; i < t->n_blocks; i++)
        memcpy(t->copy + t->blocks[i], t->heads[i], HEAD);
}

/* Where most of the meaning is: the directory, rings and the pool's page, slots and waits; or
 * anywhere before the blocks. */
static uint64_t place(const struct target *t)
{
    const struct mp_geometry *g = &t->g;
    uint64_t r = random_word();

    switch (r >> 62) {
    case 0:
        return g->directory_offset + r % (48 * sizeof(struct mp_directory_entry));
    case 1:
        return t->blocks[r % t->n_blocks] + (r >> 32) % HEAD;
    case 2:
        return g->slots_offset + r % (g->directory_offset - g->slots_offset);
    default:
        return 64 + r % (g->blocks_offset - 64);
    }
}

static void scribble(struct target *t)
{
    while (!is_over(1)) {
        mp_a64 *head = (mp_a64 *)(void *)t->copy;
        /* A word here and there, up to everything at once; and from time to time all is well. */
        unsigned n = 1u << random_word() % 13;

        if (random_word() % 2 == 0)
            restore(t);
        for (unsigned i = 0; i < n; i++) {
            uint64_t at = place(t) & ~UINT64_C(7);
            mp_a64 *word = (mp_a64 *)(void *)(t->copy + at);

            mp_store_relaxed(word, bad_word(mp_load_relaxed(word)));
        }
        if (random_word() % 8 == 0) {
            uint64_t at = random_word() % 5, old = mp_load_relaxed(&head[at]);

            mp_store_relaxed(&head[at], bad_word(old));
            sched_yield();
            mp_store_relaxed(&head[at], old);
        }
    }
}

void scene_scribble(const char *name)
{
    struct target t = {0};
    mp_arena *arena;
    int fd;

    NEED(mp_arena_create(name, MP_ARENA_OPTIONS(.size = 4 << 20, .participants = 32, .objects = 64),
                         &arena));
    fill(arena);
    t.g = arena->geometry;
    for (uint32_t i = 0; i < mp_arena_objects_high(arena); i++) {
        uint64_t block = mp_load_relaxed(&arena->directory[i].block);
        uint32_t x = (uint32_t)block;

        if (block && t.n_blocks < MP_ARRAY_SIZE(t.blocks))
            t.blocks[t.n_blocks++] = mp_geometry_offset(&t.g, mp_geometry_block_class(&t.g, x), x);
    }
    t.copy = copy_arena(arena, name, &fd);
    t.pristine = malloc(t.g.blocks_offset);
    NEED(t.pristine ? 0 : -1);
    memcpy(t.pristine, t.copy, t.g.blocks_offset);
    for (uint32_t i = 0; i < t.n_blocks; i++)
        memcpy(t.heads[i], t.copy + t.blocks[i], HEAD);
    mp_arena_close(arena);
    ready();
    scribble(&t);
}

/* ---- foreign ---- */

static void make_memfd(const char *name, const char *more, const void *bytes, size_t n, int seals)
{
    char memfd_name[200];
    int fd;

    snprintf(memfd_name, sizeof memfd_name, "mp:%s%s", name, more);
    fd = memfd_create(memfd_name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    NEED(fd);
    NEED(pwrite(fd, bytes, n, 0) == (ssize_t)n ? 0 : -1);
    NEED(fcntl(fd, F_ADD_SEALS, seals));
}

/* A FIFO whose link reads like that of an arena. Whoever opens it for reading waits. */
static void make_fifo(void)
{
    char folder[] = "/tmp/stage-XXXXXX", path[64];

    if (!mkdtemp(folder) || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", folder, "tmpfs", 0, NULL) < 0) {
        rmdir(folder);
        return; /* only root can */
    }
    snprintf(path, sizeof path, "%s/memfd:mp:fifo", folder);
    NEED(mkfifo(path, 0600));
    NEED(open(path, O_RDWR | O_CLOEXEC));
    NEED(umount2(folder, MNT_DETACH));
    NEED(rmdir(folder));
    tell("fifo", 1);
}

void scene_foreign(const char *name)
{
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    static char zeros[8192];
    char mapped[MP_NAME_MAX + 1];
    struct mp_header torn;
    mp_arena *arena;
    int fd;

    make_memfd(name, "-unsealed", zeros, sizeof zeros, 0);
    make_memfd(name, "-short", zeros, 100, all);
    make_memfd(name, "-zeros", zeros, sizeof zeros, all);
    make_memfd(name, "-e\033[2J\n\"\\x\xff", zeros, 1, all);

    NEED(mp_arena_create(name, MP_ARENA_OPTIONS(.size = 1 << 20), &arena));
    torn = *arena->header;
    make_memfd(name, "-torn", &torn, sizeof torn, all);
    torn.fingerprint++;
    make_memfd(name, "-version", &torn, sizeof torn, all);
    /* By the name of the arena, too. */
    make_memfd(name, "", zeros, sizeof zeros, all);
    /* Held by a mapping alone. */
    snprintf(mapped, sizeof mapped, "%.30s-mapped", name);
    copy_arena(arena, mapped, &fd);
    close(fd);
    make_fifo();
    ready();
    while (!is_over(-1)) {
    }
}
