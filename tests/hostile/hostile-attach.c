/* SPDX-License-Identifier: MIT */
/* What is handed in as an arena and is none, or not ours: refused, with the errno that tells
 * why. */

#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/layout.h"
#include "base/cleanup.h"
#include "base/leftovers.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static struct mp_header header; /* of a good arena */
static uint64_t total;

static int read_good(void **state)
{
    mp_arena *arena;
    struct stat st;

    (void)state;
    if (mp_arena_create("good", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 4, .objects = 4),
                        &arena) < 0)
        return -1;
    if (pread(mp_arena_fd(arena), &header, sizeof header, 0) != sizeof header ||
        fstat(mp_arena_fd(arena), &st) < 0)
        return -1;
    total = (uint64_t)st.st_size;
    mp_arena_close(arena);
    return 0;
}

/* A memfd of this size with this header and these seals. */
static int forge(const struct mp_header *h, size_t header_size, uint64_t size, int seals)
{
    int fd = memfd_create("mp:forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_true(pwrite(fd, h, header_size, 0) == (ssize_t)header_size);
    if (size < header_size)
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void refuse(const struct mp_header *h, uint64_t size, int seals, int error)
{
    _cleanup_close_ int fd = forge(h, sizeof *h, size, seals);
    mp_arena *arena = (mp_arena *)&arena;

    assert_int_equal(mp_arena_attach(fd, &arena), error);
    assert_ptr_equal(arena, &arena);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* it stays the caller's */
}

static void test_the_good_one(void **state)
{
    _cleanup_close_ int fd = forge(&header, sizeof header, total, SEALS);
    mp_arena *arena;

    (void)state;
    assert_int_equal(mp_arena_attach(fd, &arena), 0);
    assert_string_equal(mp_arena_name(arena), "good");
    mp_arena_close(arena);
}

static void test_unsealed(void **state)
{
    (void)state;
    refuse(&header, total, 0, -EPROTO);
    refuse(&header, total, F_SEAL_SHRINK, -EPROTO);
    refuse(&header, total, F_SEAL_GROW, -EPROTO);
    refuse(&header, total, F_SEAL_SHRINK | F_SEAL_GROW, -EPROTO);
    refuse(&header, total, F_SEAL_GROW | F_SEAL_SEAL, -EPROTO);
    refuse(&header, total, F_SEAL_SHRINK | F_SEAL_SEAL, -EPROTO);
}

static void test_truncated(void **state)
{
    const uint64_t sizes[] = {0,
                              1,
                              100,
                              sizeof header - 1,
                              sizeof header,
                              4096,
                              total / 2,
                              total - 4096,
                              total - 1,
                              total + 1,
                              total + 4096,
                              2 * total};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        refuse(&header, sizes[i], SEALS, -EPROTO);
}

static void test_foreign(void **state)
{
    struct mp_header h = {0};
    _cleanup_close_ int empty = memfd_create("mp:empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    mp_arena *arena;

    (void)state;
    refuse(&h, total, SEALS, -EPROTO);
    memset(&h, 0xff, sizeof h);
    refuse(&h, total, SEALS, -EPROTO);
    h = header;
    h.magic++;
    refuse(&h, total, SEALS, -EPROTO);
    assert_int_equal(mp_arena_attach(empty, &arena), -EPROTO);
}

static void test_other_version(void **state)
{
    struct mp_header h = header;

    (void)state;
    h.version++;
    refuse(&h, total, SEALS, -ENOEXEC);
    h.version = 0;
    refuse(&h, total, SEALS, -ENOEXEC);
    h = header;
    h.fingerprint ^= 1;
    refuse(&h, total, SEALS, -ENOEXEC);
}

/* Numbers that would give another geometry than the memfd has. */
static void test_other_geometry(void **state)
{
    struct mp_header h;

    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        h = header;
        h.size ^= UINT64_C(1) << bit;
        refuse(&h, total, SEALS, -EPROTO);
        h = header;
        h.total ^= UINT64_C(1) << bit;
        refuse(&h, total, SEALS, -EPROTO);
    }
    for (int bit = 0; bit < 32; bit++) {
        h = header;
        h.participants ^= 1u << bit;
        /* A few more slots may fit into the same page; then it is an arena like any other. */
        if (h.participants > 64 || h.participants == 0)
            refuse(&h, total, SEALS, -EPROTO);
        h = header;
        h.objects ^= 1u << bit;
        if (h.objects > 32 || h.objects == 0)
            refuse(&h, total, SEALS, -EPROTO);
    }
    h = header;
    h.size = UINT64_MAX;
    refuse(&h, total, SEALS, -EPROTO);
    h.size = 0;
    refuse(&h, total, SEALS, -EPROTO);
}

/* A name of any bytes, without an end. */
static void test_name(void **state)
{
    struct mp_header h = header;
    mp_arena *arena;
    int fd;

    (void)state;
    memset(h.name, 0x1b, sizeof h.name);
    fd = forge(&h, sizeof h, total, SEALS);
    assert_int_equal(mp_arena_attach(fd, &arena), 0);
    assert_int_equal(strlen(mp_arena_name(arena)), MP_NAME_MAX);
    assert_null(strchr(mp_arena_name(arena), 0x1b));
    mp_arena_close(arena);
    close(fd);
}

/* Any bits of the header: refused, or an arena that works as far as it goes. */
static void test_random_headers(void **state)
{
    (void)state;
    srand(1);
    for (int i = 0; i < 500; i++) {
        struct mp_header h = header;
        mp_arena *arena;
        int fd, r;

        for (int k = rand() % 8; k >= 0; k--)
            ((unsigned char *)&h)[(size_t)rand() % sizeof h] ^= (unsigned char)(1 << rand() % 8);
        fd = forge(&h, sizeof h, total, SEALS);
        r = mp_arena_attach(fd, &arena);
        if (r == 0) {
            mp_queue *queue;
            mp_lock *lock;
            void *block;

            if (mp_lock_create(arena, "l", &lock) == 0) {
                mp_lock_acquire(lock, 1000);
                mp_lock_close(lock);
            }
            if (mp_queue_create(arena, "q", NULL, &queue) == 0) {
                mp_queue_put(queue, "abc", 3, 1000);
                mp_queue_close(queue);
            }
            if (mp_block_alloc(arena, 1000, 1000, &block) == 0)
                memset(block, 1, 1000);
            mp_arena_close(arena);
        } else {
            assert_true(r == -EPROTO || r == -ENOEXEC || r == -EUSERS);
        }
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_the_good_one),  clean_test(test_unsealed),
        clean_test(test_truncated),     clean_test(test_foreign),
        clean_test(test_other_version), clean_test(test_other_geometry),
        clean_test(test_name),          clean_test(test_random_headers),
    };

    return cmocka_run_group_tests(tests, read_good, NULL);
}
