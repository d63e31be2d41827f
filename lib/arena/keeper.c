/* SPDX-License-Identifier: MIT */
/*
 * The keeper thread.
 *
 * Its robust list names our slot in each arena: when this process ends for any reason, the kernel
 * walks the list and marks the slots. The thread's list is replaced by one of our own (no pthread
 * robust mutex is ever locked by it), whose nodes lie in private memory, where no other participant
 * can reach them.
 *
 * Keepers watch each other in a ring: each waits for the liveness word of the next live slot, and
 * is that word's only waiter, so it does not matter that the kernel wakes just one. A newcomer
 * pokes the one before it. Whoever sees a death confirms it, retires the slot and sweeps. If a
 * keeper is stopped, those of processes with sleepers look at all slots each second, and whether
 * what their sleepers wait for is there.
 *
 * All state lies in one page that a fork wipes: in a child it reads 0, "there is no keeper", and
 * nothing is locked.
 *
 * Everything in one wait: our request word, and for each arena our poke word and the neighbour's
 * liveness, and each polled sleep word (futex_waitv). Where the kernel has no futex_waitv the
 * keeper waits for requests and looks round every 50 ms, every 5 ms while somebody polls.
 *
 * A thread can not outlive its process, but it can keep it alive: when main() has ended by
 * pthread_exit() and nobody is left but the keeper, it ends, and the process with it, as it would
 * have without us. Main tells when it ends, if it ever used the library; else the keeper looks each
 * second.
 */

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "arena/keeper.h"
#include "arena/liveness.h"
#include "arena/recover.h"
#include "arena/sleep.h"
#include "base/clock.h"
#include "kernel/bare.h"
#include "kernel/futex.h"
#include "kernel/membarrier.h"
#include "kernel/pidfd.h"
#include "kernel/robust.h"

#define STACK_BYTES ((size_t)256 << 10)
#define WATCHES_MOST 2048u /* the kernel looks no further into a robust list */
#define BACKOFF_FIRST_NS MP_MSEC(1)
#define BACKOFF_LAST_NS MP_SEC(1)

enum { OP_JOIN = 1, OP_LEAVE, OP_POLL, OP_UNPOLL };

/* In the page that a fork wipes. */
struct keeper {
    mp_a32 lock;   /* 0 free, 1 held, 2 held and somebody waits */
    mp_a32 tid;    /* 0: there is no keeper */
    mp_a32 asked;  /* moved by a request */
    mp_a32 served; /* the last request done */
    mp_a32 check_alone;
    int operation;
    int answer;
    void *subject;
    uint32_t namespace;
    bool registered;   /* for membarrier */
    mp_a32 main_tells; /* 1: we hear of it when the main thread ends */
    struct mp_watch *watches;
    uint32_t n_watches;
    struct mp_poller *pollers;
    struct robust_list_head list;
};

static struct keeper *K;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_page(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return;
    if (madvise(p, 4096, MADV_WIPEONFORK) < 0) {
        munmap(p, 4096);
        return;
    }
    K = p;
}

/* A lock of our own, in the wiped page: a pthread mutex that another thread held at a fork would
 * stay locked in the child. */
int mp_keeper_lock(void)
{
    uint32_t v = 0;

    pthread_once(&once, make_page);
    if (!K)
        return -ENOMEM;
    if (mp_cas_acquire(&K->lock, &v, 1))
        return 0;
    while (atomic_exchange(&K->lock, 2) != 0)
        mp_futex_wait(&K->lock, 2, MP_FOREVER);
    return 0;
}

void mp_keeper_unlock(void)
{
    if (atomic_exchange(&K->lock, 0) == 2)
        mp_futex_wake(&K->lock, 1);
}

struct robust_list_head *mp_keeper_list(void)
{
    return &K->list;
}

uint32_t mp_keeper_namespace(void)
{
    return K ? K->namespace : 0;
}

/* ---- requests, on the keeper thread ---- */

static int join(struct mp_arena *a)
{
    struct mp_watch *w = &a->watch;
    int r;

    if (K->n_watches == WATCHES_MOST)
        return -EMFILE;
    a->self->fence = !K->registered;
    if (!K->registered || !mp_membarrier())
        mp_store_seqcst(&a->header->fence, 1);
    r = mp_slot_join(a, mp_load_relaxed(&K->tid));
    if (r < 0)
        return r;
    *w = (struct mp_watch){.next = K->watches, .arena = a};
    K->watches = w;
    K->n_watches++;
    return 0;
}

static void leave(struct mp_arena *a)
{
    for (struct mp_watch **p = &K->watches; *p; p = &(*p)->next)
        if ((*p)->arena == a) {
            struct mp_watch *w = *p;

            *p = w->next;
            K->n_watches--;
            mp_slot_leave(a);
            return;
        }
}

static void unpoll(const struct mp_poller *poller)
{
    for (struct mp_poller **p = &K->pollers; *p; p = &(*p)->next)
        if (*p == poller) {
            *p = poller->next;
            return;
        }
}

static void serve(uint32_t request)
{
    struct mp_poller *p;

    K->answer = 0;
    switch (K->operation) {
    case OP_JOIN:
        K->answer = join(K->subject);
        break;
    case OP_LEAVE:
        leave(K->subject);
        break;
    case OP_POLL:
        p = K->subject;
        p->next = K->pollers;
        K->pollers = p;
        mp_store_seqcst(&p->what.arena->self->looking, 1);
        break;
    case OP_UNPOLL:
        unpoll(K->subject);
        break;
    }
    mp_store_seqcst(&K->served, request);
    mp_futex_wake(&K->served, INT_MAX);
}

/* ---- watching, on the keeper thread ---- */

struct round {
    struct mp_words words;
    bool again; /* something changed meanwhile: do not sleep */
    uint64_t deadline_ns;
};

static void back_off(struct round *r, struct mp_watch *w)
{
    w->backoff_ns = w->backoff_ns ? mp_min(w->backoff_ns * 2, BACKOFF_LAST_NS) : BACKOFF_FIRST_NS;
    w->retry_ns = mp_now_ns() + w->backoff_ns;
    r->deadline_ns = mp_min(r->deadline_ns, w->retry_ns);
}

/* Does anybody of us sleep there, or poll? Those who poll sleep in us. */
static bool is_waited_in(const struct mp_arena *a)
{
    if (mp_load_seqcst(&a->self->sleepers) != 0)
        return true;
    for (struct mp_poller *p = K->pollers; p; p = p->next)
        if (p->what.arena == a && mp_load_seqcst(&p->armed))
            return true;
    return false;
}

/* What our sleepers wait for may be there, and who was to wake them, or was woken in their place,
 * be stopped. There are more sleepers than records where many threads sleep. */
static void wake_ready(struct mp_arena *a)
{
    const struct mp_wait_record *r = &a->waits[(uint64_t)a->self->slot * MP_WAIT_RECORDS_PER_SLOT];
    uint32_t high = mp_arena_objects_high(a);
    uint32_t left = mp_load_seqcst(&a->self->sleepers);

    for (uint32_t i = 0; i < MP_WAIT_RECORDS_PER_SLOT; i++, r++) {
        uint64_t what = mp_load_relaxed(&r->what);
        uint32_t kind = (uint32_t)(what >> 16) & 0xff;

        if ((uint32_t)(mp_load_acquire(&r->who) >> 32) != a->self->generation + 1)
            continue;
        if (kind == MP_WAIT_ANY)
            continue; /* one of how many, it does not say */
        left -= left > 0;
        if (kind == MP_WAIT_BLOCK)
            mp_sleep_wake_all(&a->header->freed);
        else if ((what & 0xffff) < high)
            mp_directory_wake_ready(a, (uint32_t)what & 0xffff);
    }
    if (left == 0)
        return;
    mp_sleep_wake_all(&a->header->freed);
    for (uint32_t i = 0; i < high; i++)
        mp_directory_wake_ready(a, i);
}

/* In case the watcher of one who died is stopped: look at all, each second while anybody of us
 * waits. A sweep that does not end may be stopped, too: those who sleep look again, since not all
 * need it. */
static void look_round(struct round *r, struct mp_watch *w)
{
    struct mp_self *self = w->arena->self;
    uint64_t now;

    if (!mp_load_seqcst(&self->looking))
        return;
    now = mp_now_ns();
    if (w->look_ns && now >= w->look_ns) {
        mp_liveness_check(w->arena);
        if (mp_recover_is_due(w->arena))
            mp_recover_wake(w->arena);
        wake_ready(w->arena);
        w->look_ns = 0;
        if (!is_waited_in(w->arena)) {
            mp_store_seqcst(&self->looking, 0);
            /* Pairs with mp_sleep_on: either we see the sleeper, or it pokes us. */
            if (!is_waited_in(w->arena))
                return;
            mp_store_seqcst(&self->looking, 1);
        }
    }
    if (w->look_ns == 0)
        w->look_ns = now + MP_SLEEP_LOOK_NS;
    r->deadline_ns = mp_min(r->deadline_ns, w->look_ns);
}

static void watch_arena(struct round *r, struct mp_watch *w)
{
    struct mp_arena *a = w->arena;
    uint32_t slot = a->self->slot;
    mp_a32 *poke = &a->slots[slot].poke;
    uint32_t poked = mp_load_seqcst(poke);
    uint32_t next = mp_slot_next(a, slot);
    mp_a32 *live = (mp_a32 *)(void *)&a->slots[next].state;
    uint32_t v = mp_load_seqcst(live);

    mp_words_add(&r->words, poke, poked);
    /* Left without a word (a detach), or by a sweeper that died. Busy with another sweeper: that
     * one looks again; but it may be stopped, or have been out of memory. */
    mp_recover(a);
    if (mp_recover_is_due(a))
        r->deadline_ns = mp_min(r->deadline_ns, mp_now_ns() + MP_SLEEP_LOOK_NS);
    look_round(r, w);
    if (next == slot)
        return;
    if (v == 0 || v == MP_LIVE_RETIRED) {
        r->again = true;
        return;
    }
    if ((v & FUTEX_OWNER_DIED) == 0) {
        w->backoff_ns = 0;
        mp_words_add(&r->words, live, v);
        return;
    }
    if (w->backoff_ns && mp_now_ns() < w->retry_ns) {
        r->deadline_ns = mp_min(r->deadline_ns, w->retry_ns);
        return;
    }
    if (mp_slot_reap(a, next, MP_MSEC(5))) {
        w->backoff_ns = 0;
        mp_recover(a);
        r->again = true;
        return;
    }
    back_off(r, w);
}

/* All are armed before any is looked at: two may have one word, which moves as it is armed. */
static void watch_pollers(struct round *r)
{
    for (struct mp_poller *p = K->pollers; p; p = p->next)
        if (mp_load_acquire(&p->armed))
            mp_words_arm(&r->words, &p->what);
    for (struct mp_poller *p = K->pollers; p; p = p->next) {
        if (!mp_load_acquire(&p->armed))
            continue;
        if (p->what.type->look_ns)
            r->deadline_ns = mp_min(r->deadline_ns, mp_now_ns() + p->what.type->look_ns);
        if (p->what.type->ready(&p->what) == 0)
            continue;
        mp_store_seqcst(&p->armed, 0);
        eventfd_write(p->event_fd, 1);
        /* Whoever polls need not take it: let a sleeper look, too. */
        mp_futex_wake(p->what.word, p->what.type->crowd ? INT_MAX : 1);
    }
}

/* Main has ended by pthread_exit(), and no thread but this one is left. */
static bool is_alone(void)
{
    DIR *d;
    unsigned threads = 0;

    if (mp_task_state(getpid()) != 'Z')
        return false;
    d = opendir("/proc/self/task");
    if (!d)
        return false;
    while (readdir(d))
        threads++;
    closedir(d);
    /* ".", "..", main, which is a zombie, the keeper, and threads that do not count. */
    return threads <= 4 + mp_bare_count();
}

static void *keep(void *unused)
{
    struct round r;

    (void)unused;
    prctl(PR_SET_NAME, "mp-keeper");
    mp_block_turn_begin();
    K->list.list.next = &K->list.list;
    K->list.list_op_pending = NULL;
    K->list.futex_offset = (long)MP_PRIVATE_BYTES;
    if (mp_robust_list_set(&K->list) < 0) {
        mp_store_seqcst(&K->tid, UINT32_MAX);
        mp_futex_wake(&K->tid, INT_MAX);
        return NULL;
    }
    mp_store_seqcst(&K->tid, (uint32_t)gettid());
    mp_futex_wake(&K->tid, INT_MAX);

    for (;;) {
        uint32_t asked = mp_load_acquire(&K->asked);

        if (asked != mp_load_relaxed(&K->served)) {
            serve(asked);
            continue;
        }
        r.words.n = 0;
        r.again = r.words.overflow = false;
        r.deadline_ns = MP_FOREVER;
        mp_words_add(&r.words, &K->asked, asked);
        for (struct mp_watch *w = K->watches; w; w = w->next)
            watch_arena(&r, w);
        watch_pollers(&r);
        if (mp_load_relaxed(&K->check_alone)) {
            if (is_alone())
                return NULL;
            r.deadline_ns = mp_min(r.deadline_ns, mp_now_ns() + MP_MSEC(20));
        } else if (!mp_load_relaxed(&K->main_tells)) {
            if (is_alone())
                return NULL;
            r.deadline_ns = mp_min(r.deadline_ns, mp_now_ns() + MP_SEC(1));
        }
        if (r.again)
            continue;
        if (mp_futex_can_waitv()) {
            if (r.words.overflow)
                r.deadline_ns = mp_min(r.deadline_ns, mp_now_ns() + MP_MSEC(50));
            mp_futex_waitv(r.words.at, r.words.n, r.deadline_ns);
        } else {
            uint64_t look = mp_now_ns() + (K->pollers ? MP_MSEC(5) : MP_MSEC(50));

            mp_futex_wait(&K->asked, asked,
                          r.words.n > 1 ? mp_min(r.deadline_ns, look) : r.deadline_ns);
        }
    }
}

/* ---- the other threads ---- */

/* The C library takes a thread's own variables from its stack: those of all modules, at most. */
static int add_thread_variables(struct dl_phdr_info *info, size_t size, void *bytes)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS)
            *(size_t *)bytes += info->dlpi_phdr[i].p_memsz + info->dlpi_phdr[i].p_align;
    return 0;
}

static int start_thread(void)
{
    size_t stack = STACK_BYTES;
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t t;
    uint32_t tid;
    int r;

    K->registered = mp_membarrier_register();
    K->namespace = mp_task_pid_namespace();
    sigfillset(&all);
    pthread_attr_init(&attr);
    dl_iterate_phdr(add_thread_variables, &stack);
    pthread_attr_setstacksize(&attr, stack);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = -pthread_create(&t, &attr, keep, NULL);
    /* -EAGAIN says that somebody would have had to wait. */
    r = r == -EAGAIN ? -ENOMEM : r;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (r < 0)
        return r;
    while ((tid = mp_load_acquire(&K->tid)) == 0)
        mp_futex_wait(&K->tid, 0, MP_FOREVER);
    if (tid == UINT32_MAX) {
        mp_store_seqcst(&K->tid, 0);
        return -EOPNOTSUPP;
    }
    return 0;
}

/* With the lock held. */
static int request(int operation, void *subject)
{
    uint32_t asked, served;
    int r;

    if (mp_load_relaxed(&K->tid) == 0) {
        r = start_thread();
        if (r < 0)
            return r;
    }
    K->operation = operation;
    K->subject = subject;
    asked = atomic_fetch_add(&K->asked, 1) + 1;
    mp_futex_wake(&K->asked, 1);
    while ((served = mp_load_acquire(&K->served)) != asked)
        mp_futex_wait(&K->served, served, MP_FOREVER);
    return K->answer;
}

int mp_keeper_join(struct mp_arena *a)
{
    int r = mp_keeper_lock();

    if (r < 0)
        return r;
    /* Another thread may have done it meanwhile. */
    r = mp_load_acquire(&a->self->token) ? 0 : request(OP_JOIN, a);
    mp_keeper_unlock();
    if (r == 0)
        mp_thread_hook();
    return r;
}

int mp_keeper_leave(struct mp_arena *a)
{
    /* Called with the lock held, when the last reference went. */
    return mp_load_acquire(&a->self->token) ? request(OP_LEAVE, a) : 0;
}

int mp_keeper_poll(struct mp_poller *p)
{
    int r = mp_keeper_lock();

    if (r < 0)
        return r;
    r = request(OP_POLL, p);
    mp_keeper_unlock();
    return r;
}

int mp_keeper_unpoll(struct mp_poller *p)
{
    int r = mp_keeper_lock();

    if (r < 0)
        return r;
    r = mp_load_relaxed(&K->tid) ? request(OP_UNPOLL, p) : 0;
    mp_keeper_unlock();
    return r;
}

void mp_keeper_rearm(struct mp_poller *p)
{
    eventfd_t n;

    if (mp_load_acquire(&p->armed))
        return;
    /* Emptied before it is armed: what the keeper writes from now on stays. Nothing in it:
     * another thread was here. */
    if (eventfd_read(p->event_fd, &n) < 0)
        return;
    mp_store_seqcst(&p->armed, 1);
    mp_store_seqcst(&p->what.arena->self->looking, 1);
    if (mp_keeper_lock() < 0)
        return;
    request(0, NULL); /* makes it look round */
    mp_keeper_unlock();
}

void mp_keeper_look(struct mp_arena *a)
{
    mp_a32 *poke = &a->slots[a->self->slot].poke;

    if (atomic_exchange(&a->self->looking, 1) != 0)
        return;
    atomic_fetch_add(poke, 1);
    mp_futex_wake(poke, INT_MAX);
}

void mp_keeper_thread_tells(void)
{
    if (gettid() == getpid())
        mp_store_relaxed(&K->main_tells, 1);
}

void mp_keeper_thread_ends(void)
{
    if (!K || mp_load_relaxed(&K->tid) == 0)
        return;
    if (gettid() != getpid() && mp_task_state(getpid()) != 'Z')
        return;
    mp_store_seqcst(&K->check_alone, 1);
    if (mp_keeper_lock() < 0)
        return;
    request(0, NULL);
    mp_keeper_unlock();
}
