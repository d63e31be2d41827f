/* SPDX-License-Identifier: MIT */
/*
 * The lock of many readers or one writer.
 *
 * The writer's word is that of a lock (sync/word.c). Each participant has a share: how many of its
 * threads read. A reader adds to its share and then looks at the word; a writer takes the word and
 * then looks at the shares. Both sequentially consistent, so of the two at least one sees the
 * other: the reader leaves again, or the writer waits for it ("drains"). Readers of different
 * processes touch no common line that anybody writes.
 *
 *   state                     who, by which atomic                    a crash just after leaves
 *   share n, word READ        reader: share + 1, looks at the word:   a dead one's share: the sweep
 *                             in                                      empties it, moves and wakes
 *                                                                     both sleep words
 *   share n, word 0           reader: share + 1, CAS 0 -> READ: in    the share, as above; READ
 *                                                                     stays: the next writer looks
 *                                                                     at the shares in vain
 *   share n, word taken       reader: share + 1, looks, share - 1,    as above; the flag stays: one
 *                             wakes who drains, raises the flag of    idle wake
 *                             the word, sleeps on `readers`
 *   share n                   reader leaves: share - 1, wakes         as above
 *                             who drains
 *   word 0                    writer: CAS 0 -> me: in                 the word names the dead: the
 *                                                                     next writer is told, and so
 *                                                                     is each reader until then
 *   word READ                 writer: CAS READ -> me                  the same
 *   word mine, shares         writer drains: sleeps on `drain`        the same
 *   word mine, no shares      writer is in                            the same
 *   word mine                 writer leaves: CAS -> 0; the flag was   not woken: the sweep moves
 *                             up: wakes one writer and all readers    and wakes all
 *   word mine, drains         writer times out: exchange READ; or     the same
 *                             DIED if it was told, so that the next
 *                             one is, too
 *   word of the dead, DIED    reader: in and told; the word stays as  as above
 *                             it is, since the next writer must be
 *                             told as well
 *   word of the dead, DIED    writer: CAS -> me, told, drains         told again
 *
 * 0 says that there is no reader: the only way in goes through a word that is not 0, and only a
 * writer that has seen all shares empty since it took that word away writes 0. So without readers
 * a write costs the same whether there are two participants or a thousand, and what says so cannot
 * disagree with who has the lock: it is the same word.
 *
 * A handle to a destroyed lock may come late and write READ where another lock has 0: that says
 * less than 0, and costs its next owner a look.
 *
 * A share carries the generation of the entry. A reader that comes late, and finds the lock gone,
 * takes back only what it added, not from the share of the next lock in the same memory.
 *
 * Both sleep words are halves of the entry's value (arena/sleep.h). The low one is that of the one
 * writer that drains; readers have the high one, where a writer that leaves wakes all of them.
 * Writers that wait for their turn sleep on the word itself, and are woken one by one.
 */

#include <errno.h>
#include <stdlib.h>

#include "arena/liveness.h"
#include "arena/sleep.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "sync/rwlock.h"

#define STRIDE 64u
#define SPIN_TURNS 40u
#define TRIES_MOST 1000u            /* only somebody hostile changes the word that often */
#define SHARE_TRIES_MOST (1u << 20) /* the threads of one process change their share */

static void fill(struct mp_rwlock *l)
{
    l->drain = mp_directory_futex(l->object.entry);
    l->readers = l->drain + 1;
}

int mp_rwlock_create(mp_arena *arena, const char *name, mp_rwlock **ret_lock)
{
    _cleanup_free_ struct mp_rwlock *l = NULL;
    int r;

    if (!arena || !ret_lock)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    r = mp_object_create(arena, name, MP_KIND_RWLOCK, 0, 0, STRIDE, &l->object);
    if (r < 0)
        return r;
    fill(l);
    *ret_lock = mp_take_ptr(l);
    return 0;
}

int mp_rwlock_open(mp_arena *arena, const char *name, mp_rwlock **ret_lock)
{
    _cleanup_free_ struct mp_rwlock *l = NULL;
    int r;

    if (!arena || !name || !ret_lock)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    r = mp_object_open(arena, name, MP_KIND_RWLOCK, STRIDE, &l->object);
    if (r < 0)
        return r;
    fill(l);
    *ret_lock = mp_take_ptr(l);
    return 0;
}

mp_rwlock *mp_rwlock_close(mp_rwlock *lock)
{
    free(lock);
    return NULL;
}

int mp_rwlock_destroy(mp_rwlock *lock)
{
    return lock ? mp_object_destroy(&lock->object) : -EINVAL;
}

/* ---- shares ---- */

/* Of this process, by its token. */
static MP_INLINE mp_a64 *own_share(const struct mp_rwlock *l, uint32_t token)
{
    return (mp_a64 *)(void *)(l->object.shares + (size_t)mp_token_slot(token) * STRIDE);
}

static bool any_readers(const struct mp_rwlock *l)
{
    struct mp_arena *a = l->object.arena;

    for (uint32_t slot = 0; slot < mp_arena_slots_high(a); slot++)
        if (mp_share_readers(mp_load_seqcst(mp_object_share(&l->object, slot))) != 0)
            return true;
    return false;
}

/* After a share went down. The CAS before it was sequentially consistent, as that of the one who
 * drains was before its last look. */
static MP_INLINE void wake_writer(const struct mp_arena *a, mp_a32 *word)
{
    mp_sleep_fence(a, true);
    if (mp_unlikely(mp_load_relaxed(word) & 1))
        mp_sleep_wake_slow(word);
}

/* After the word was given up. */
static MP_INLINE void wake_readers(struct mp_rwlock *l)
{
    mp_sleep_fence(l->object.arena, true);
    if (mp_unlikely(mp_load_relaxed(l->readers) & 1))
        mp_sleep_wake_all(l->readers);
}

/* ---- reading ---- */

/* May one read while the word says this? As mp_token_dead(): 1 yes, and the last writer died. 2: a
 * writer lives. */
static int verdict(const struct mp_rwlock *l, uint32_t v)
{
    int dead;

    if (v == MP_TOKEN_READ)
        return 0;
    dead = mp_token_dead(l->object.arena, v & ~MP_TOKEN_WAITERS);
    if (dead < 0)
        return (v & ~MP_TOKEN_WAITERS) == MP_TOKEN_DESTROYED ? -ESTALE : -ENOTRECOVERABLE;
    return dead ? MP_OWNER_DIED : 2;
}

/* With our share up: are we in? As verdict(). */
static int look_in(struct mp_rwlock *l)
{
    mp_a32 *word = l->object.word;
    uint32_t v = mp_load_seqcst(word), seen;
    uint32_t tries = 0;
    int r;

    do {
        if (v == 0 && mp_mutation(READER_UNANNOUNCED))
            return 0;
        if (v == 0 && mp_cas_seqcst(word, &v, MP_TOKEN_READ))
            v = MP_TOKEN_READ;
        r = verdict(l, v);
        if (r != MP_OWNER_DIED || mp_mutation(READER_LOOKS_ONCE))
            break;
        /* It may have left before it died. If it still has the word now, its next owner will see
         * our share. */
        seen = v;
        v = mp_load_seqcst(word);
    } while (((v ^ seen) & ~MP_TOKEN_WAITERS) != 0 && ++tries < TRIES_MOST);
    if (tries == TRIES_MOST)
        return 2;
    if (r == MP_OWNER_DIED && mp_mutation(READER_TAKES_NOTICE))
        mp_store_seqcst(word, 0);
    return mp_object_is_live(&l->object) ? r : -ESTALE;
}

/* One reader less in a share that is of the generation given. 0; -EPERM: there is none; -ESTALE: it
 * is another lock's. */
static MP_INLINE int share_down(mp_a64 *share, uint32_t generation)
{
    uint64_t v = mp_load_relaxed(share);

    for (uint32_t tries = 0; tries < SHARE_TRIES_MOST; tries++) {
        if (mp_unlikely(v >> 32 != generation) && !mp_mutation(READER_OF_ANOTHER))
            return -ESTALE;
        if (mp_unlikely(mp_share_readers(v) == 0))
            return -EPERM;
        if (mp_likely(mp_cas_seqcst(share, &v, v - 1)))
            return 0;
    }
    return -EPERM;
}

/* `before`: what the share was before we came. */
static void withdraw(struct mp_rwlock *l, mp_a64 *share, uint64_t before)
{
    share_down(share, (uint32_t)(before >> 32));
    wake_writer(l->object.arena, l->drain);
}

/* Spin until the word is another. False: it stays, or there is no other CPU for its owner. */
static bool spin_on_word(const struct mp_rwlock *l, uint32_t v, uint32_t turns)
{
    if (mp_cpu_allowed() == 1)
        return false;
    for (; turns > 0; turns--) {
        if (mp_load_relaxed(l->object.word) != v)
            return true;
        mp_pause();
    }
    return false;
}

/* The slow ways take timeouts as they are given: who comes by the fast ones needs no stack. */
static MP_NOINLINE int read_slow(struct mp_rwlock *l, uint64_t timeout_ns)
{
    uint64_t deadline_ns = mp_deadline(timeout_ns);
    struct mp_object *o = &l->object;
    uint32_t turns = SPIN_TURNS;
    bool last = false;
    int r = 0;
    uint32_t token = mp_arena_enter(o->arena, &r);
    mp_a64 *share;

    if (!token)
        return r;
    share = own_share(l, token);
    mp_sleep_begins_anew();
    for (uint32_t rounds = 0;; rounds++) {
        uint32_t v = mp_load_seqcst(o->word);
        uint32_t armed;

        if (!mp_object_is_live(o))
            return -ESTALE;
        r = v == 0 ? 0 : verdict(l, v);
        if (r == 0 || r == MP_OWNER_DIED) {
            uint64_t before = atomic_fetch_add(share, 1);

            r = look_in(l);
            if (r == 0 || r == MP_OWNER_DIED)
                return r;
            withdraw(l, share, before);
            v = mp_load_seqcst(o->word);
        }
        if (r < 0)
            return r;
        if (deadline_ns == 0)
            return -EAGAIN;
        if (last)
            return -ETIMEDOUT;
        if ((rounds & 63) == 63 && deadline_ns != MP_FOREVER && mp_now_ns() >= deadline_ns)
            last = true;
        if (turns && spin_on_word(l, v, turns))
            continue;
        turns = 0;
        armed = mp_sleep_arm_fenced(l->readers);
        v = mp_load_seqcst(o->word);
        if (v == 0 || verdict(l, v) != 2 || !mp_object_is_live(o))
            continue;
        if (!(v & MP_TOKEN_WAITERS) && !mp_mutation(READERS_UNANNOUNCED) &&
            !mp_cas_seqcst(o->word, &v, v | MP_TOKEN_WAITERS))
            continue;
        r = mp_sleep_on(o->arena, l->readers, armed, deadline_ns, MP_WAIT_READ, o->index);
        if (r == -ETIMEDOUT)
            last = true; /* one more look */
        else if (r < 0)
            return r;
        turns = SPIN_TURNS / 2;
    }
}

/* Our share is up, and something was not as it is when all is quiet. */
static MP_NOINLINE int read_undecided(struct mp_rwlock *l, mp_a64 *share, uint64_t before,
                                      uint64_t timeout_ns)
{
    int r = look_in(l);

    if (r == 0 || r == MP_OWNER_DIED)
        return r;
    withdraw(l, share, before);
    return r < 0 ? r : read_slow(l, timeout_ns);
}

int mp_rwlock_read(mp_rwlock *lock, uint64_t timeout_ns)
{
    uint32_t token;
    uint64_t before;
    mp_a64 *share;
    mp_a32 *word;

    if (mp_unlikely(!lock))
        return -EINVAL;
    token = mp_load_relaxed(lock->object.token);
    if (mp_unlikely(!token || !mp_object_is_live(&lock->object)))
        return read_slow(lock, timeout_ns);
    share = own_share(lock, token);
    /* Looked up before the addition, which is a barrier that the rest waits behind. */
    word = lock->object.word;
    /* Pairs with the CAS of a writer, and its look at the shares. */
    before = atomic_fetch_add(share, 1);
    if (mp_likely(mp_load_seqcst(word) == MP_TOKEN_READ && mp_object_is_live(&lock->object)))
        return 0;
    return read_undecided(lock, share, before, timeout_ns);
}

int mp_rwlock_try_read(mp_rwlock *lock)
{
    return mp_rwlock_read(lock, 0);
}

int mp_rwlock_release_read(mp_rwlock *lock)
{
    uint32_t token;
    mp_a64 *share;
    mp_a32 *word;
    int r;

    if (mp_unlikely(!lock))
        return -EINVAL;
    if (mp_unlikely(!mp_object_is_live(&lock->object)))
        return -ESTALE;
    token = mp_load_relaxed(lock->object.token);
    if (mp_unlikely(!token))
        return -EPERM;
    share = own_share(lock, token);
    word = lock->drain;
    r = share_down(share, (uint32_t)(lock->object.live >> 32));
    if (mp_unlikely(r < 0))
        return r;
    wake_writer(lock->object.arena, word);
    return 0;
}

/* ---- writing ---- */

/* The word is ours, and we do not come in. */
static int give_back(struct mp_rwlock *l, uint32_t before, int r)
{
    mp_word_give_back(&l->object, mp_mutation(WRITER_TAKES_NOTICE) ? MP_TOKEN_READ : before);
    wake_readers(l);
    return r;
}

/* Spin until no reader is left. False: sleep. */
static bool spin_on_readers(const struct mp_rwlock *l, uint32_t turns)
{
    if (mp_cpu_allowed() == 1)
        return false;
    for (; turns > 0; turns--) {
        if (!any_readers(l))
            return true;
        mp_pause();
    }
    return false;
}

/* The word is ours, and was not 0 before: wait until all readers have left. */
static int drain(struct mp_rwlock *l, uint32_t before, uint64_t deadline_ns)
{
    struct mp_object *o = &l->object;
    uint32_t turns = SPIN_TURNS;
    bool last = false;

    mp_sleep_begins_anew();
    for (uint32_t rounds = 0;; rounds++) {
        uint32_t armed;
        int r;

        if (!mp_object_is_live(o))
            return mp_word_acquired_another(o, before);
        if (!any_readers(l))
            return before == MP_TOKEN_DIED ? MP_OWNER_DIED : 0;
        if (deadline_ns == 0)
            return give_back(l, before, -EAGAIN);
        if (last)
            return give_back(l, before, -ETIMEDOUT);
        if ((rounds & 63) == 63 && deadline_ns != MP_FOREVER && mp_now_ns() >= deadline_ns)
            last = true;
        if (turns && spin_on_readers(l, turns))
            continue;
        turns = 0;
        armed = mp_sleep_arm_fenced(l->drain);
        if (!any_readers(l) || !mp_object_is_live(o))
            continue;
        r = mp_sleep_on(o->arena, l->drain, armed, deadline_ns, MP_WAIT_WRITE, o->index);
        if (r == -ETIMEDOUT)
            last = true;
        else if (r < 0)
            return give_back(l, before, r);
        turns = SPIN_TURNS / 2;
    }
}

static MP_NOINLINE int write_slow(struct mp_rwlock *l, uint64_t timeout_ns)
{
    uint64_t deadline_ns = mp_deadline(timeout_ns);
    uint32_t before = 0;
    int r = mp_word_acquire_from(&l->object, deadline_ns, MP_WAIT_WRITE, &before);

    return r < 0 || before == 0 ? r : drain(l, before, deadline_ns);
}

static MP_NOINLINE bool is_read(const struct mp_rwlock *l)
{
    return mp_object_is_live(&l->object) && mp_load_relaxed(l->object.word) == MP_TOKEN_READ &&
           any_readers(l);
}

int mp_rwlock_write(mp_rwlock *lock, uint64_t timeout_ns)
{
    int r;

    if (mp_unlikely(!lock))
        return -EINVAL;
    /* Who only tries does not keep readers out meanwhile. */
    if (mp_unlikely(timeout_ns == 0) && is_read(lock))
        return -EAGAIN;
    if (mp_likely(mp_word_acquire_fast(&lock->object, &r)))
        return r;
    return write_slow(lock, timeout_ns);
}

int mp_rwlock_try_write(mp_rwlock *lock)
{
    return mp_rwlock_write(lock, 0);
}

int mp_rwlock_release_write(mp_rwlock *lock)
{
    uint32_t v, token;

    if (mp_unlikely(!lock))
        return -EINVAL;
    v = mp_load_acquire(lock->object.word);
    if (mp_unlikely(!mp_object_is_live(&lock->object)))
        return -ESTALE;
    token = mp_load_relaxed(lock->object.token);
    if (mp_unlikely(!token || (v & ~MP_TOKEN_WAITERS) != token))
        return -EPERM;
    /* Readers that sleep have raised the flag, too: without it there is nothing more to look at,
     * in a line that the next writer has taken away already. */
    if (mp_unlikely(mp_word_give(lock->object.word, v)) && !mp_mutation(READERS_SLEEP_ON))
        wake_readers(lock);
    return 0;
}

/* ---- queries ---- */

int mp_rwlock_writer(const mp_rwlock *lock, struct mp_lock_owner *ret_owner)
{
    return lock && ret_owner ? mp_word_owner(&lock->object, ret_owner) : -EINVAL;
}

int mp_rwlock_readers(const mp_rwlock *lock, uint64_t *ret_readers)
{
    uint64_t n = 0;

    if (!lock || !ret_readers)
        return -EINVAL;
    if (!mp_object_is_live(&lock->object))
        return -ESTALE;
    for (uint32_t slot = 0; slot < mp_arena_slots_high(lock->object.arena); slot++)
        n += mp_share_readers(mp_load_relaxed(mp_object_share(&lock->object, slot)));
    *ret_readers = n;
    return 0;
}

const char *mp_rwlock_name(const mp_rwlock *lock)
{
    return lock ? lock->object.name : NULL;
}
