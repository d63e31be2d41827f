/* SPDX-License-Identifier: MIT */
#ifndef MP_SHARED_MEMORY_H
#define MP_SHARED_MEMORY_H

/*
 * Named shared memory as Python's multiprocessing.shared_memory makes and opens it. (What lies in
 * it may be a list that Python can read: mp/shareable_list.h.)
 *
 *     mp_shared_memory *memory;
 *     mp_shared_memory_create("frames", 1 << 20, &memory);
 *     memcpy(mp_shared_memory_data(memory), frame, size);
 *
 *     memory = SharedMemory(name="frames")                  the same memory, in Python
 *
 * This is for talking to Python, and to others that know only a name. Between programs that use
 * libmp an arena does it better: it has no name that outlives its users, is not bound by the size
 * of /dev/shm, and can not be truncated by anyone.
 *
 * What a name means. The segment is the file /dev/shm/NAME, mode 0600. It stays until it is
 * unlinked (or the machine restarts), whoever dies; memory that is mapped stays until it is closed
 * as well. Any process of the same user may unlink it, or truncate it.
 *
 * Python unlinks too much: up to 3.12 each Python process that creates or only opens a segment, and
 * from 3.13 on unless it says track=False, unlinks it when it ends, even by a crash. Who needs the
 * name after that can have Python call resource_tracker.unregister("/" + name, "shared_memory"),
 * and can see by mp_shared_memory_links() that the name is gone. That tracker takes only ASCII
 * names without a colon.
 *
 * SIGBUS. Touching mapped memory of a file in /dev/shm kills when there is no memory for it, or
 * when the file has become shorter. The first can not happen: memory for all of a segment is
 * reserved when it is created or opened, or that fails by -ENOSPC (Python reserves nothing). The
 * second nobody can prevent: another process of the same user may truncate the file at any time.
 * Who can not trust them uses mp_shared_memory_read() and mp_shared_memory_write(), which give
 * -ESTALE instead.
 *
 * Everything here may be called from any thread, and nothing from a signal handler. Closing a
 * handle while another thread uses it is an error of the caller. Handles stay usable in a forked
 * child, which closes its own. Nothing here locks what is shared: two that change the same bytes or
 * the same item at once need a lock of their own.
 */

#include <stddef.h>
#include <stdint.h>

#include <mp/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_shared_memory mp_shared_memory;

/** Longest name of a segment, in bytes without the closing NUL. */
#define MP_SHARED_MEMORY_NAME_MAX 255

/**
 * mp_shared_memory_create() - make a segment: SharedMemory(name, create=True, size=size).
 * @name: 1 to MP_SHARED_MEMORY_NAME_MAX bytes without '/', and neither "." nor ".."; NULL makes up
 * psm_ and eight hexadecimal digits, as Python does (mp_shared_memory_name() tells it)
 * @size: in bytes, 1 to SSIZE_MAX; all of them zero at first
 * @ret_memory: a handle, to be closed with mp_shared_memory_close()
 *
 * The name appears when the memory is there to its full size, so nobody opens half a segment, and
 * who is killed while creating leaves nothing behind. (Where /dev/shm has no unnamed files
 * (O_TMPFILE) the name comes first, as with Python.)
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG (the name is none), -EEXIST, -ENOSPC (/dev/shm is too small or
 * full), -EFBIG (larger than RLIMIT_FSIZE), -EOPNOTSUPP (there is no /dev/shm, or it can reserve no
 * memory), -EACCES, -EROFS, -ENOMEM, -EMFILE, -ENFILE.
 */
int mp_shared_memory_create(const char *name, size_t size, mp_shared_memory **ret_memory);

/**
 * mp_shared_memory_open() - open a segment by name, for reading and writing: SharedMemory(name).
 * @name: as mp_shared_memory_create(), not NULL
 * @ret_memory: a handle, to be closed with mp_shared_memory_close()
 *
 * Its size is that of the file now. Memory that its creator has not touched yet is reserved.
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -EAGAIN (it is empty: its creator is about to give it
 * a size), -EPROTO (not a regular file), -EACCES, -EROFS, -ENOSPC, -EFBIG, -EOPNOTSUPP, -ENOMEM,
 * -EMFILE, -ENFILE.
 */
int mp_shared_memory_open(const char *name, mp_shared_memory **ret_memory);

/** mp_shared_memory_close() - unmap it and drop the handle; the segment and its name stay, as with
 * SharedMemory.close(). NULL is fine. Return: NULL. */
mp_shared_memory *mp_shared_memory_close(mp_shared_memory *memory);

/**
 * mp_shared_memory_unlink() - take the name away: SharedMemory.unlink().
 *
 * The memory stays for those who have it, and is freed with the last of them. Do it once.
 *
 * Return: 0; -EINVAL, -ENOENT (the name is gone), -ESTALE (it belongs to another segment by now,
 * which stays), -EOPNOTSUPP (no /dev/shm), -EACCES, -EPERM, -EROFS.
 */
int mp_shared_memory_unlink(const mp_shared_memory *memory);

/** mp_shared_memory_unlink_name() - take a name away without having opened it. Return: 0; -EINVAL,
 * -ENAMETOOLONG, -ENOENT, -EPROTO (a directory), -EOPNOTSUPP (no /dev/shm), -EACCES, -EPERM,
 * -EROFS. */
int mp_shared_memory_unlink_name(const char *name);

/** mp_shared_memory_data() - the mapped memory. Return: a page-aligned pointer to size bytes, valid
 * until the handle is closed; NULL for NULL. */
void *mp_shared_memory_data(const mp_shared_memory *memory);

/** mp_shared_memory_size() - its size in bytes when it was created or opened. Return: at least 1; 0
 * for NULL. */
size_t mp_shared_memory_size(const mp_shared_memory *memory);

/** mp_shared_memory_name() - its name, without a slash. Return: a string that lives as long as the
 * handle; NULL for NULL. */
const char *mp_shared_memory_name(const mp_shared_memory *memory);

/** mp_shared_memory_fd() - its descriptor, to be passed on or looked at; it belongs to the handle
 * and is close-on-exec. Return: the fd; -EINVAL. */
int mp_shared_memory_fd(const mp_shared_memory *memory);

/** mp_shared_memory_links() - how many names lead to it. Return: 1; 0: it was unlinked, perhaps by
 * Python, and who looks for the name will not find it; -EINVAL. */
int mp_shared_memory_links(const mp_shared_memory *memory);

/**
 * mp_shared_memory_read() - copy out, without a fault where the file was truncated.
 * @offset: in bytes; offset and size must lie within mp_shared_memory_size()
 * @buffer: size bytes; may be NULL when @size is 0. What it holds after an error is not said.
 *
 * Return: 0; -EINVAL, -ESTALE (the file is shorter than it was), -ENOMEM.
 */
int mp_shared_memory_read(const mp_shared_memory *memory, size_t offset, void *buffer, size_t size);

/**
 * mp_shared_memory_write() - copy in, without a fault where the file was truncated.
 * @offset: as mp_shared_memory_read()
 * @data: size bytes; may be NULL when @size is 0
 *
 * Return: 0; -EINVAL, -ESTALE, -ENOSPC (the memory was taken away), -EFBIG (beyond RLIMIT_FSIZE),
 * -ENOMEM. After the last three a part may have been written.
 */
int mp_shared_memory_write(const mp_shared_memory *memory, size_t offset, const void *data,
                           size_t size);

static inline void mp_shared_memory_closep(mp_shared_memory **memory)
{
    if (*memory)
        mp_shared_memory_close(*memory);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
