/* SPDX-License-Identifier: MIT */
/*
 * Words and descriptors in one io_uring: IORING_OP_FUTEX_WAITV (Linux 6.7) beside
 * IORING_OP_POLL_ADD. A ring costs more to make than a sleep does, so each thread that sleeps so
 * keeps one until it ends.
 *
 * The ring has no descriptor: it is registered with its thread, and the descriptor is closed. So
 * a program that closes what it does not know takes nothing from us, and nothing is inherited. In a
 * forked child the thread has no ring; its memory is not there either (io_uring_ring_dontfork).
 */

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "loop/wait.h"

#define ENTRIES 128u
#define FDS_MOST (ENTRIES - 8) /* with the words and a cancellation, all fit at once */

#define OP_FUTEX_WAITV 53 /* Linux 6.7 */

struct thread_ring {
    struct io_uring ring;
    pid_t pid; /* of the process that made it */
};

static _Thread_local struct thread_ring *own;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;

static mp_a32 refused; /* and will be the next time */

/* The registration goes with the thread. In a forked child there is only our own memory. */
static void free_ring(void *ring)
{
    struct thread_ring *t = ring;

    if (t->pid == getpid()) {
        struct io_uring_sq *sq = &t->ring.sq;
        struct io_uring_cq *cq = &t->ring.cq;

        munmap(sq->sqes, *sq->kring_entries * sizeof(struct io_uring_sqe));
        if (cq->ring_ptr && cq->ring_ptr != sq->ring_ptr)
            munmap(cq->ring_ptr, cq->ring_sz);
        munmap(sq->ring_ptr, sq->ring_sz);
    }
    free(t);
}

/* A filter that came after the ring refuses to enter it. */
static int give_up(struct thread_ring *t)
{
    mp_store_relaxed(&refused, 1);
    pthread_setspecific(key, NULL);
    own = NULL;
    free_ring(t);
    return -EOPNOTSUPP;
}

static void make_key(void)
{
    has_key = pthread_key_create(&key, free_ring) == 0;
}

static bool has_futex(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool has = probe && io_uring_opcode_supported(probe, OP_FUTEX_WAITV);

    io_uring_free_probe(probe);
    return has;
}

static int make_ring(struct thread_ring *t)
{
    int r = io_uring_queue_init(ENTRIES, &t->ring, 0);

    if (r < 0)
        return r;
    if (!has_futex(&t->ring) || io_uring_ring_dontfork(&t->ring) < 0 ||
        io_uring_register_ring_fd(&t->ring) != 1) {
        io_uring_queue_exit(&t->ring);
        return -EOPNOTSUPP;
    }
    close(t->ring.ring_fd);
    t->ring.ring_fd = -1;
    t->pid = getpid();
    return 0;
}

static struct thread_ring *new_ring(void)
{
    _cleanup_free_ struct thread_ring *t = has_key ? calloc(1, sizeof *t) : NULL;

    if (!t)
        return NULL;
    if (make_ring(t) < 0) {
        mp_store_relaxed(&refused, 1);
        return NULL;
    }
    return mp_take_ptr(t);
}

/* This thread's; NULL: there is none to be had. */
static struct thread_ring *get_ring(void)
{
    struct thread_ring *t = own;

    if (t && t->pid == getpid())
        return t;
    if (mp_load_relaxed(&refused))
        return NULL;
    pthread_once(&once, make_key);
    if (t)
        free_ring(t); /* the parent's */
    own = NULL;
    t = new_ring();
    if (has_key && pthread_setspecific(key, t) != 0 && t) {
        free_ring(t);
        return NULL;
    }
    own = t;
    return t;
}

static void add_words(struct io_uring *ring, struct futex_waitv *v, const struct mp_words *words)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    for (unsigned i = 0; i < words->n; i++)
        v[i] = (struct futex_waitv){
            .val = words->at[i].value, .uaddr = (uintptr_t)words->at[i].word, .flags = FUTEX_32};
    io_uring_prep_rw(OP_FUTEX_WAITV, sqe, 0, v, words->n, 0);
}

/* Whatever is still under way is ended, and all answers are taken: nothing of this sleep may reach
 * the next one, or the memory that it was given. */
static int end_all(struct io_uring *ring, uint32_t left)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;

    io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    left++;
    while (left > 0) {
        int r = io_uring_submit_and_wait(ring, 1);

        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
            return r;
        while (left > 0 && io_uring_peek_cqe(ring, &cqe) == 0) {
            io_uring_cqe_seen(ring, cqe);
            left--;
        }
    }
    return 0;
}

int mp_uring_sleep(const struct mp_words *words, const struct pollfd *fds, uint32_t n_fds,
                   uint64_t deadline_ns)
{
    struct futex_waitv v[MP_WAITV_MAX];
    struct __kernel_timespec timeout = {0};
    struct io_uring_cqe *cqe;
    struct thread_ring *t;
    int r;

    if (words->overflow || n_fds > FDS_MOST)
        return -EOPNOTSUPP;
    t = get_ring();
    if (!t)
        return -EOPNOTSUPP;
    add_words(&t->ring, v, words);
    for (uint32_t i = 0; i < n_fds; i++)
        io_uring_prep_poll_add(io_uring_get_sqe(&t->ring), fds[i].fd, (unsigned)fds[i].events);
    if (deadline_ns != MP_FOREVER) {
        uint64_t now = mp_now_ns();
        struct timespec left = mp_timespec(deadline_ns > now ? deadline_ns - now : 0);

        timeout.tv_sec = left.tv_sec;
        timeout.tv_nsec = left.tv_nsec;
    }
    r = io_uring_submit_and_wait_timeout(&t->ring, &cqe, 1,
                                         deadline_ns == MP_FOREVER ? NULL : &timeout, NULL);
    /* Woken, interrupted or too late: the caller looks. */
    if (io_uring_sq_ready(&t->ring) > 0 && r < 0)
        return give_up(t);
    r = end_all(&t->ring, n_fds + 1);
    return r < 0 ? give_up(t) : 0;
}
