/* SPDX-License-Identifier: MIT */
/*
 * Liveness: the slots of an arena (the table of states is in arena/layout.h).
 *
 * The kernel tells of a death by the robust list of the keeper thread: it sets FUTEX_OWNER_DIED in
 * the slot's word and wakes one waiter, the keeper of the slot before it in the ring. That only
 * wakes: a sibling thread of the dead may still be inside a system call that writes to the arena.
 * So the slot is retired after the whole process is seen gone:
 *
 *   - In our pid namespace: its pidfd is readable, or the pid is free, or belongs to a process that
 *     started at another time.
 *   - In another one, where its pid means nothing to us: each participant holds a lock on byte
 *     `slot` of the memfd, by an open file description of its own; the kernel drops it with the
 *     last thread's files. (A child that it forked and that never took part inherits the
 *     description, and delays this until it ends: the safe side.)
 *   - A process that starts another program goes on, but that closes the description, after all its
 *     other threads and its memory are gone. So the lock tells of this as well.
 *
 * A slot that was claimed but whose id does not carry its generation died inside the claim: it
 * owned nothing.
 *
 * Only the keeper claims and leaves slots. A sibling thread runs on for some instructions after the
 * keeper's robust list was walked; a claim made by it there would look alive for ever.
 *
 * Kill inside mp_slot_join: before the CAS nothing happened; after it the kernel finds the slot
 * through list_op_pending.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena/keeper.h"
#include "arena/liveness.h"
#include "arena/recover.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/futex.h"
#include "kernel/pidfd.h"

#define LIVE_LOCKED 1u /* mp_slot.flags: the byte lock is held */

static int byte_lock(int fd, int command, uint32_t slot, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)slot, .l_len = 1};

    if (fcntl(fd, command, &l) < 0)
        return -errno;
    return command == F_OFD_GETLK ? l.l_type != F_UNLCK : 0;
}

/* Does nobody hold the slot's byte any more, though its participant did? */
static bool byte_is_free(const struct mp_arena *a, uint32_t slot)
{
    return (mp_load_relaxed(&a->slots[slot].flags) & LIVE_LOCKED) && mp_arena_is_fd(a, a->fd) &&
           byte_lock(a->fd, F_OFD_GETLK, slot, F_WRLCK) == 0;
}

/* Has the process with this pid, in our pid namespace, ended, or is it another one by now? */
static bool pid_is_gone(pid_t pid, uint64_t start, uint64_t wait_ns)
{
    _cleanup_close_ int fd = mp_pidfd_open(pid);
    uint64_t now_start;

    if (fd < 0)
        /* The number is free, or a thread's by now (ENOENT; EINVAL before Linux 6.9). */
        return fd == -ESRCH || fd == -ENOENT || fd == -EINVAL;
    now_start = mp_task_start(pid);
    if (now_start != 0 && start != 0 && now_start != start)
        return true;
    return mp_pidfd_wait(fd, wait_ns ? mp_deadline(wait_ns) : 0) == 1;
}

/* Is the process of a slot marked OWNER_DIED gone, with all its threads? Waits up to wait_ns. */
static bool process_is_gone(const struct mp_arena *a, uint32_t slot, uint64_t state,
                            uint64_t wait_ns)
{
    struct mp_slot *s = &a->slots[slot];
    uint64_t id = mp_load_acquire(&s->id);
    uint32_t generation = (uint32_t)(state >> 32);
    uint32_t namespace = mp_load_relaxed(&s->namespace);
    pid_t pid = (pid_t)(uint32_t)id;

    if ((uint32_t)(id >> 32) != generation + 1)
        return true;
    if (pid > 0 && namespace != 0 && namespace == mp_keeper_namespace() &&
        pid_is_gone(pid, mp_load_relaxed(&s->start), wait_ns))
        return true;
    return byte_is_free(a, slot);
}

bool mp_slot_reap(struct mp_arena *a, uint32_t slot, uint64_t wait_ns)
{
    struct mp_slot *s = &a->slots[slot];
    uint64_t state = mp_load_seqcst(&s->state);

    if (((uint32_t)state & FUTEX_OWNER_DIED) == 0 || !process_is_gone(a, slot, state, wait_ns))
        return false;
    /* One CAS declares it dead. Any number may do so; whoever is killed here leaves it to the
     * next. */
    if (mp_cas_seqcst(&s->state, &state,
                      ((state >> 32) + !mp_mutation(RETIRE_SAME_LIFE)) << 32 | MP_LIVE_RETIRED)) {
        atomic_fetch_add(&a->header->deaths, 1);
        mp_futex_wake((mp_a32 *)(void *)&s->state, INT_MAX);
    }
    mp_futex_wake(&a->header->deaths, INT_MAX);
    return true;
}

uint32_t mp_slot_next(const struct mp_arena *a, uint32_t slot)
{
    uint32_t high = mp_arena_slots_high(a);

    for (uint32_t i = 1; i < high; i++) {
        uint32_t t = (slot + i) % high;
        uint32_t live = (uint32_t)mp_load_seqcst(&a->slots[t].state);

        if (live != 0 && live != MP_LIVE_RETIRED)
            return t;
    }
    return slot;
}

/* Whose keeper is to watch this slot from now on. One that has died can not: whoever comes before
 * it will retire it, and go on from there. */
static uint32_t slot_before(const struct mp_arena *a, uint32_t slot)
{
    uint32_t high = mp_arena_slots_high(a);

    for (uint32_t i = 1; i < high; i++) {
        uint32_t t = (slot + high - i) % high;
        uint32_t live = (uint32_t)mp_load_seqcst(&a->slots[t].state);

        if (live != 0 && live != MP_LIVE_RETIRED && !(live & FUTEX_OWNER_DIED))
            return t;
    }
    return slot;
}

static void poke(struct mp_arena *a, uint32_t slot)
{
    atomic_fetch_add(&a->slots[slot].poke, 1);
    mp_futex_wake(&a->slots[slot].poke, INT_MAX);
}

/* A description of our own, so that the lock is not shared with those who have the fd from us.
 * Without /proc, or where the program has closed the memfd, we do without; where there is no room
 * now it is an error: nobody would see that we start another program. */
static int open_byte(struct mp_arena *a)
{
    char path[32];

    mp_arena_close_fd(a, &a->byte_fd); /* inherited by a fork: it would keep the parent's lock */
    if (!mp_arena_is_fd(a, a->fd))
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", a->fd);
    a->byte_fd = open(path, O_RDWR | O_CLOEXEC);
    if (a->byte_fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return -errno;
    return 0;
}

/* Is it kept by a child that the slot's last user forked? */
static bool byte_is_kept(const struct mp_arena *a, uint32_t slot)
{
    return a->byte_fd >= 0 && byte_lock(a->byte_fd, F_OFD_GETLK, slot, F_WRLCK) > 0;
}

static bool lock_byte(const struct mp_arena *a, uint32_t slot)
{
    return a->byte_fd >= 0 && byte_lock(a->byte_fd, F_OFD_SETLK, slot, F_WRLCK) == 0;
}

/* The identity is written under the new generation, name last: only the tag in `id` makes it
 * count. */
static void introduce(struct mp_arena *a, uint32_t slot, uint32_t generation)
{
    struct mp_slot *s = &a->slots[slot];
    pid_t pid = getpid();

    mp_store_relaxed(&s->flags, lock_byte(a, slot) ? LIVE_LOCKED : 0);
    mp_store_relaxed(&s->start, mp_task_start(pid));
    mp_store_relaxed(&s->namespace, mp_keeper_namespace());
    memset(s->name, 0, sizeof s->name);
    strncpy(s->name, program_invocation_short_name, sizeof s->name - 1);
    mp_store_seqcst(&s->id, (uint64_t)(generation + 1) << 32 | (uint32_t)pid);
}

/* Make the token known: from here on this process takes part. */
static void publish(struct mp_arena *a, uint32_t token)
{
    static uint64_t
        lives; /* counts on in forked children, so no two participations of one lineage are equal */

    /* Release: who sees the token sees the slot. */
    mp_store_release(&a->self->life, ++lives);
    mp_store_release(&a->self->token, token);
}

/* Take a slot whose live word is `expected` (free, or RETIRED). */
static bool claim(struct mp_arena *a, uint32_t slot, uint32_t tid, uint32_t expected)
{
    struct mp_slot *s = &a->slots[slot];
    struct robust_list_head *list = mp_keeper_list();
    struct robust_list *node = mp_arena_node(a, slot);
    uint64_t state = mp_load_seqcst(&s->state);
    uint32_t generation = (uint32_t)(state >> 32);
    uint32_t high, before;

    if ((uint32_t)state != expected)
        return false;
    /* Before the claim, so that every scan sees it. */
    high = mp_load_seqcst(&a->header->high);
    while (high < slot + 1 && !mp_cas_seqcst(&a->header->high, &high, slot + 1)) {
    }
    list->list_op_pending = mp_mutation(JOIN_NOT_PENDING) ? NULL : node;
    atomic_signal_fence(memory_order_seq_cst);
    if (!mp_cas_seqcst(&s->state, &state, (uint64_t)generation << 32 | tid | FUTEX_WAITERS)) {
        list->list_op_pending = NULL;
        return false;
    }
    introduce(a, slot, generation);
    node->next = list->list.next;
    atomic_signal_fence(memory_order_seq_cst);
    list->list.next = node;
    atomic_signal_fence(memory_order_seq_cst);
    list->list_op_pending = NULL;

    a->self->slot = slot;
    a->self->generation = generation;
    before = slot_before(a, slot);
    if (before != slot)
        poke(a, before);
    return true;
}

static int join_free(struct mp_arena *a, uint32_t tid)
{
    uint32_t n = a->geometry.participants;
    uint32_t from = atomic_fetch_add(&a->header->next_slot, 1) % n;

    /* Rather one whose byte we can lock. */
    for (uint32_t i = 0; i < 2 * n; i++) {
        uint32_t slot = (from + i) % n;

        if ((uint32_t)mp_load_seqcst(&a->slots[slot].state) != 0 ||
            (i < n && byte_is_kept(a, slot)))
            continue;
        if (claim(a, slot, tid, 0)) {
            publish(a, mp_token(a->self->slot, a->self->generation));
            return 0;
        }
    }
    return -EUSERS;
}

/* No slot is free, but one waits for a sweep: become its owner, and sweep in that name before
 * anything else is done in it. */
static int join_retired(struct mp_arena *a, uint32_t tid)
{
    for (uint32_t i = 0; i < a->geometry.participants; i++) {
        uint32_t token;

        bool free;

        mp_slot_reap(a, i, MP_MSEC(5));
        /* It may have been swept since. */
        free = !claim(a, i, tid, MP_LIVE_RETIRED);
        if (free && !claim(a, i, tid, 0))
            continue;
        token = mp_token(i, a->self->generation);
        if (free || mp_recover_adopted(a, i, token) == 0) {
            publish(a, token);
            return 0;
        }
        mp_slot_leave(a); /* somebody else sweeps, and does not end */
        (void)open_byte(a);
    }
    return -EUSERS;
}

int mp_slot_join(struct mp_arena *a, uint32_t tid)
{
    int r = open_byte(a);

    if (r < 0)
        return r;
    r = join_free(a, tid);
    if (r == -EUSERS)
        r = join_retired(a, tid);
    if (r < 0)
        mp_arena_close_fd(a, &a->byte_fd);
    return r;
}

/* As if it had died, but with no identity, so it is known to be gone. Until its watcher is woken
 * the word is pending: killed before, the kernel wakes it. */
void mp_slot_leave(struct mp_arena *a)
{
    struct robust_list_head *list = mp_keeper_list();
    struct mp_slot *s = &a->slots[a->self->slot];
    struct robust_list *node = mp_arena_node(a, a->self->slot);
    struct robust_list *before = &list->list;
    uint64_t state = mp_load_seqcst(&s->state);

    mp_store_release(&a->self->token, 0);
    mp_store_release(&a->self->life, 0);
    list->list_op_pending = node;
    atomic_signal_fence(memory_order_seq_cst);
    while (before->next != node && before->next != &list->list)
        before = before->next;
    if (before->next == node)
        before->next = node->next;
    atomic_signal_fence(memory_order_seq_cst);
    mp_arena_close_fd(a, &a->byte_fd);
    /* The byte is free before the slot is: the next one wants to lock it. */
    mp_store_seqcst(&s->id, 0);
    mp_store_seqcst(&s->state, mp_mutation(LEAVE_UNSWEPT) ? ((state >> 32) + 1) << 32
                                                          : state | FUTEX_OWNER_DIED);
    mp_futex_wake((mp_a32 *)(void *)&s->state, INT_MAX);
    mp_slot_reap(a, a->self->slot, 0);
    list->list_op_pending = NULL;
}

void mp_liveness_check(struct mp_arena *a)
{
    uint32_t high = mp_arena_slots_high(a);
    bool retired = false;

    for (uint32_t s = 0; s < high; s++) {
        uint32_t live = (uint32_t)mp_load_seqcst(&a->slots[s].state);

        if (live == MP_LIVE_RETIRED)
            retired = true;
        else if (live & FUTEX_OWNER_DIED)
            retired |= mp_slot_reap(a, s, MP_MSEC(5));
    }
    if (retired)
        mp_recover(a);
}
