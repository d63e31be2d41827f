/* SPDX-License-Identifier: MIT */
/* Probes: what memory, locks, queues and waits are made of. */

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <mp/arena.h>

#include "base/clock.h"
#include "base/macro.h"
#include "kernel/futex.h"
#include "kernel/membarrier.h"
#include "kernel/memfd.h"
#include "kernel/robust.h"
#include "loop/wait.h"
#include "probe.h"

#define NAME "mpctl-doctor"
#define MEMFD_BYTES 4096

static void look_kernel(struct finding *f)
{
    struct utsname name;

    if (uname(&name) < 0) {
        found_error(f, errno);
        return;
    }
    /* What there is counts, not what it calls itself: so this alone is never fatal. */
    found_verdict(f, probe_kernel_is("5.9") ? VERDICT_OK : VERDICT_LIMITED, "%s %s on %s",
                  name.sysname, name.release, name.machine);
}

static void look_arena(struct finding *f)
{
    mp_arena *arena;
    int r = mp_arena_create(NAME, MP_ARENA_OPTIONS(.size = 65536), &arena);

    if (r < 0) {
        found_error(f, -r);
        f->verdict = VERDICT_REFUSED;
        return;
    }
    mp_arena_close(arena);
    found(f, "one was made and closed");
}

static void look_memfd(struct finding *f)
{
    uint64_t size = 0;
    int fd = mp_memfd_create(NAME, MEMFD_BYTES), r;

    if (fd < 0) {
        found_error(f, -fd);
        return;
    }
    r = mp_memfd_check(fd, &size);
    if (r < 0 || size != MEMFD_BYTES || ftruncate(fd, 0) == 0)
        found_verdict(f, VERDICT_MISSING, "a sealed memfd could be changed");
    else
        found(f, "sealed against shrinking and growing");
}

static void look_noexec(struct finding *f)
{
    char mode[32];
    int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0)
        found_error(f, errno);
    else if (probe_read_line("/proc/sys/vm/memfd_noexec", mode, sizeof mode))
        found(f, "vm.memfd_noexec is %s", mode);
}

static void look_futex(struct finding *f)
{
    mp_a32 word = 0;
    int r = mp_futex_wait(&word, 1, MP_FOREVER);

    if (r == 0)
        r = mp_futex_wake(&word, 1);
    if (r < 0)
        found_error(f, -r);
}

static void look_waitv(struct finding *f)
{
    mp_a32 word = 0;
    int r = mp_futex_can_waitv()
                ? 0
                : mp_futex_waitv(&(struct mp_waitv){&word, 1}, 1, mp_now_ns() + MP_MSEC(1));

    if (r < 0)
        found_error(f, -r);
}

struct owned {
    struct robust_list_head head;
    struct robust_list node;
    mp_a32 word;
};

/* A process that dies with a lock: is it marked, as its owner's death? */
static void look_robust(struct finding *f)
{
    struct owned *o =
        mmap(NULL, sizeof *o, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid;
    int status;

    if (o == MAP_FAILED) {
        found_error(f, errno);
        return;
    }
    pid = probe_fork();
    if (pid == 0) {
        o->head.list.next = &o->node;
        o->head.futex_offset = offsetof(struct owned, word) - offsetof(struct owned, node);
        o->node.next = &o->head.list;
        mp_store_relaxed(&o->word, (uint32_t)gettid());
        _exit(-mp_robust_list_set(&o->head));
    }
    status = pid < 0 ? -1 : probe_reap(pid);
    if (status != 0)
        found_error(f, status < 0 ? ECHILD : status >> 8);
    else if (!(mp_load_relaxed(&o->word) & FUTEX_OWNER_DIED))
        found_verdict(f, VERDICT_MISSING, "the kernel did not tell of an owner's death");
    else
        found(f, "a lock was marked as its owner died");
    munmap(o, sizeof *o);
}

static void look_membarrier(struct finding *f)
{
    if (!mp_membarrier_register() || !mp_membarrier())
        found_error(f, errno);
}

static void look_uring(struct finding *f)
{
    struct io_uring ring;
    uint64_t disabled = 0;
    int r = io_uring_queue_init(4, &ring, 0);

    if (r >= 0) {
        found(f, "a ring was made");
        io_uring_queue_exit(&ring);
        return;
    }
    found_error(f, -r);
    if (r == -EPERM && probe_read_number("/proc/sys/kernel/io_uring_disabled", &disabled) &&
        disabled > 0)
        found(f, "kernel.io_uring_disabled is %u", (unsigned)disabled);
    else if (r == -ENOMEM)
        found(f, "%s: before Linux 5.12 RLIMIT_MEMLOCK counts", strerror(ENOMEM));
}

/* The very sleep that libmp makes; the word has changed already. */
static void look_uring_futex(struct finding *f)
{
    mp_a32 word = 0;
    struct mp_words words = {.n = 1, .at = {{&word, 1}}};
    int r = mp_uring_sleep(&words, NULL, 0, mp_now_ns() + MP_SEC(1));

    if (r == 0) {
        found(f, "IORING_OP_FUTEX_WAITV");
        return;
    }
    /* It says no more than that it does not work: is there a ring at all? */
    look_uring(f);
    if (f->verdict == VERDICT_OK)
        found_error(f, -r);
}

static void look_rseq(struct finding *f)
{
    if (__rseq_size == 0)
        found_verdict(f, VERDICT_MISSING, "the C library has none");
}

static const struct probe probes[] = {
    {"kernel", NULL, NEED_NOT, look_kernel, "libmp is made for Linux 5.9 and later; see below"},
    {"arena", NULL, NEED_MUST, look_arena, "nothing: all of libmp lives in arenas"},
    {"memfd", "3.17", NEED_MUST, look_memfd, "nothing: arenas are sealed memfds"},
    {"MFD_NOEXEC_SEAL", "6.3", NEED_NICE, look_noexec,
     "memfds without it: a peer could execute what it writes there"},
    {"futex", NULL, NEED_MUST, look_futex, "nothing: every wait is one"},
    {"robust futexes", NULL, NEED_MUST, look_robust, "nothing: they tell of deaths"},
    {"futex_waitv", "5.16", NEED_NICE, look_waitv,
     "waits for several things look every 2 ms, deaths are seen after up to 50 ms"},
    {"membarrier", "4.16", NEED_NICE, look_membarrier,
     "a full fence in each call that may have to wake: some nanoseconds more"},
    {"io_uring", "5.1", NEED_NICE, look_uring,
     "poll(), with a thread that watches: waits for objects and descriptors together are slower"},
    {"io_uring futexes", "6.7", NEED_NICE, look_uring_futex,
     "poll(), with a thread that watches: waits for objects and descriptors together are slower"},
    {"rseq", "4.18", NEED_NICE, look_rseq, "a system call to learn which CPU a thread is on"},
};

const struct probes sync_probes = {probes, MP_ARRAY_SIZE(probes)};
