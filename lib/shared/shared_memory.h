/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

#include <mp/shared_memory.h>

#define MP_SHARED_MEMORY_FOLDER "/dev/shm/"
#define MP_SHARED_MEMORY_PATH_BYTES (sizeof MP_SHARED_MEMORY_FOLDER + MP_SHARED_MEMORY_NAME_MAX)

struct mp_shared_memory {
    int fd;
    size_t size;
    void *data;
    char name[MP_SHARED_MEMORY_NAME_MAX + 1];
};

/* mp_shared_memory_create(), with these bytes at its start before anyone can see it. */
int mp_shared_memory_build(const char *name, size_t size, const void *image, size_t image_size,
                           mp_shared_memory **ret_memory);

/* 0, or -ENAMETOOLONG. */
int mp_shared_memory_check_name(const char *name);
void mp_shared_memory_path(const char *name, char ret_path[MP_SHARED_MEMORY_PATH_BYTES]);

/* The negative errno that says what it means that such a path could not be used. */
int mp_shared_memory_refusal(int error);

/* A handle with neither file nor memory; NULL: no memory. */
mp_shared_memory *mp_shared_memory_new(void);

/* Map its file, which is so long. */
int mp_shared_memory_map(mp_shared_memory *m, size_t size);

/* Give the first size bytes of a file memory of their own, with this mode of fallocate(); so many
 * have none yet. */
int mp_shared_memory_reserve(int fd, int mode, size_t size, size_t missing);

/* Writing to a file or growing it so far would raise SIGXFSZ: -EFBIG. */
int mp_shared_memory_check_limit(uint64_t end);

/* pwrite() of all of it. */
int mp_shared_memory_write_all(int fd, size_t offset, const void *data, size_t size);
