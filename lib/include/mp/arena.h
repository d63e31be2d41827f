/* SPDX-License-Identifier: MIT */
#ifndef MP_ARENA_H
#define MP_ARENA_H

/*
 * An arena: shared memory in which locks, queues and blocks live, and the processes that take part
 * in it.
 *
 * An arena is a sealed memfd, so it has no name in the file system, is not bound by the size of
 * /dev/shm, can not be truncated under its users, and is gone with its last user. A process takes
 * part as soon as it creates or attaches the arena; a forked child takes part by itself at its
 * first use. When a participant dies, at any instruction, what it held is given back to the others.
 *
 *     mp_arena *arena;
 *     int r = mp_arena_create("example", MP_ARENA_OPTIONS(.size = 1 << 20), &arena);
 *
 * Handles (mp_arena *, mp_lock *, mp_queue *) may be used by all threads of a process and stay
 * usable in a forked child, where any function may give what mp_arena_join() does as long as the
 * child does not take part, also where only -EUSERS or nothing of it is listed: -EUSERS, -EMFILE,
 * -ENFILE, -ENOMEM. Closing a handle while another thread uses it is an error of the caller. No
 * function of libmp may be called from a signal handler.
 */

#include <stddef.h>
#include <stdint.h>

#include <mp/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_arena mp_arena;

/** Longest name of an arena, a participant or an object, without the closing NUL. */
#define MP_NAME_MAX 47

/** Most participants that an arena can be made for, and the number when the options say nothing. */
#define MP_PARTICIPANTS_MAX 1024
#define MP_PARTICIPANTS_DEFAULT 256

struct mp_arena_options {
    size_t struct_size; /* filled by MP_ARENA_OPTIONS */
    uint64_t size; /* bytes for blocks and messages, 64 KiB to 1 TiB; 0: 64 MiB. Used only as far as
                      touched. */
    uint32_t participants; /* 1 to MP_PARTICIPANTS_MAX; 0: MP_PARTICIPANTS_DEFAULT */
    uint32_t objects;      /* named and unnamed locks, queues and blocks, 1 to 65536; 0: 1024 */
};

#define MP_ARENA_OPTIONS(...) \
    (&(struct mp_arena_options){.struct_size = sizeof(struct mp_arena_options), __VA_ARGS__})

/**
 * mp_arena_create() - make an arena and take part in it.
 * @name: 1 to MP_NAME_MAX printable ASCII characters without '/'; shows as memfd:mp:NAME in /proc.
 * Need not be unique.
 * @options: NULL for the defaults
 * @ret_arena: the new handle, to be closed with mp_arena_close()
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -ENOMEM (or no thread could be started), -EMFILE (or more than
 * 2048 arenas in this process), -ENFILE, -EFBIG (RLIMIT_FSIZE; the memfd is sparse, and its
 * length many times the size).
 */
int mp_arena_create(const char *name, const struct mp_arena_options *options, mp_arena **ret_arena);

/**
 * mp_arena_attach() - take part in an arena that another process made.
 * @fd: its memfd, from mp_arena_fd() by inheritance or SCM_RIGHTS; stays the caller's
 * @ret_arena: the new handle, to be closed with mp_arena_close()
 *
 * Checks the seals, the size and the layout before anything is believed. Attaching an arena that
 * this process already has gives a second handle on the same participant.
 *
 * Return: 0; -EINVAL (bad pointer), -EBADF, -EPROTO (not a memfd, not sealed, truncated, not an
 * arena), -ENOEXEC (version or layout differ), -EUSERS (no participant slot is free), -ENOMEM,
 * -EMFILE (or more than 2048 arenas in this process), -ENFILE.
 */
int mp_arena_attach(int fd, mp_arena **ret_arena);

/**
 * mp_arena_close() - drop a handle; with the last one of a process its participation ends.
 * @arena: NULL is fine
 *
 * Whatever this process still holds (locks, messages, blocks) goes back as if it had died. Handles
 * of objects in the arena must have been closed.
 *
 * Return: NULL, always.
 */
mp_arena *mp_arena_close(mp_arena *arena);

/** mp_arena_fd() - the memfd, to be passed on. It stays the arena's; CLOEXEC. Return: the fd;
 * -EINVAL. */
int mp_arena_fd(const mp_arena *arena);

/** mp_arena_name() - the name given at creation. Return: a string that lives as long as the handle;
 * NULL for NULL. */
const char *mp_arena_name(const mp_arena *arena);

/** mp_arena_max_block() - the largest block or message that fits, in bytes: at least half the size
 * asked for at creation. */
uint64_t mp_arena_max_block(const mp_arena *arena);

/**
 * mp_arena_join() - take part now, rather than at the first use.
 *
 * Only forked children need it, and only those that want the error early.
 *
 * Return: 0; -EINVAL, -EUSERS, -EMFILE, -ENFILE, -ENOMEM.
 */
int mp_arena_join(mp_arena *arena);

struct mp_arena_stats {
    uint64_t size;         /* bytes for blocks, as asked for */
    uint64_t backed;       /* bytes of it that are cut into blocks now */
    uint32_t participants; /* live ones */
    uint32_t participants_max;
    uint32_t objects; /* live ones */
    uint32_t objects_max;
    uint64_t deaths; /* participants that left, died or closed, since creation */
};

/** mp_arena_stats() - a snapshot for people to look at. Return: 0; -EINVAL. */
int mp_arena_stats(const mp_arena *arena, struct mp_arena_stats *ret_stats);

/**
 * mp_block_alloc() - allocate shared memory that belongs to this process.
 * @size: 0 to mp_arena_max_block() bytes
 * @timeout_ns: how long to wait for others to free memory; 0 does not wait
 * @ret_block: aligned to 64 bytes, contents undefined
 *
 * Freed by mp_block_free() in the same process, or by the arena when the process dies.
 *
 * Return: 0; -EINVAL, -EMSGSIZE, -ENOBUFS (timeout 0), -ETIMEDOUT, -EUSERS.
 */
int mp_block_alloc(mp_arena *arena, size_t size, uint64_t timeout_ns, void **ret_block);

/** mp_block_free() - give a block of this process back. Return: 0; -EINVAL (not a block), -EPERM
 * (not this process's). */
int mp_block_free(mp_arena *arena, void *block);

/**
 * mp_block_create() - allocate shared memory with a name, which belongs to the arena: it outlives
 * this process.
 * @name: 1 to MP_NAME_MAX printable ASCII characters, unique in the arena; NULL makes one up
 * @size: 0 to mp_arena_max_block() bytes; zeroed
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -EMSGSIZE, -ENOBUFS (memory or objects), -EUSERS.
 */
int mp_block_create(mp_arena *arena, const char *name, size_t size, void **ret_block);

/** mp_block_open() - find a named block. @ret_size may be NULL. Return: 0; -EINVAL, -ENAMETOOLONG,
 * -ENOENT. */
int mp_block_open(mp_arena *arena, const char *name, void **ret_block, size_t *ret_size);

/** mp_block_destroy() - remove a named block for all; its memory is used again. Return: 0; -EINVAL,
 * -ENOENT. */
int mp_block_destroy(mp_arena *arena, const char *name);

static inline void mp_arena_closep(mp_arena **arena)
{
    if (*arena)
        mp_arena_close(*arena);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
