/* SPDX-License-Identifier: MIT */
/*
 * The semaphore, of two kinds: permits, whose units have holders, and signals, whose units have
 * none.
 *
 * Both have one word of state with the free units V and a flag WAIT, and wait in the same way: the
 * value of the entry. Signals: {a number of this life:32, WAIT:1, V:31}. Permits: all of it, which
 * carries the ledger along (arena/permits.h). The low half is the futex.
 *
 *   change                         who, by which atomic           a crash just after leaves
 *   V > 0: V-1                     who acquires: CAS; one that    signals: the unit is used up;
 *                                  has slept puts WAIT up         permits: the sweep gives it back
 *   V = 0: WAIT up, sleep          a waiter: CAS                  the flag: one idle wake
 *   V+n, WAIT away; it was up:     who releases: CAS              the units are there; those who
 *   wake n                                                        sleep are woken by the sweep
 *   DESTROYED                      who destroys: exchange         nothing to repair: -ESTALE
 *
 * WAIT says that somebody may be asleep. The release that takes it down wakes as many as it brought
 * units; a release that comes before those have run finds it down and wakes nobody. So one that has
 * slept puts it up again with the unit that it takes, as others may sleep on, and wakes one more if
 * units are left.
 *
 * A waiter spins before it sleeps, unless the one who would wake it shares its CPU. Who wakes a
 * sleeper leaves its CPU in the entry; who finds nobody asleep writes nothing, and need not: then
 * spinning has helped.
 *
 * A handle compares the entry's state with the one that it was opened on after it has read the
 * value, and before it changes it: the entry may be another object's by then. It may become so
 * until the CAS, but then the CAS fails, as each life of the entry begins with another number.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernel/cpu.h"
#include "kernel/futex.h"
#include "sync/semaphore.h"

#define SIGNALS_MASK 0x7fffffffu
#define TURNS_MOST (1u << 20) /* CASes that fail in a row: only somebody hostile makes it so many */

static_assert(MP_SEMAPHORE_SIGNALS == MP_PERMITS_FLAG_SIGNALS, "the sweep knows it by that");
static_assert(MP_SEMAPHORE_PERMITS_MAX == MP_PERMITS_MAX, "documented");
static_assert(MP_SEMAPHORE_SIGNALS_MAX == UINT32_MAX >> MP_PERMITS_FLAGS_SHIFT, "documented");

/* ---- the word, of either kind ---- */

static inline uint64_t look(const struct mp_semaphore *s)
{
    return mp_load_seqcst(s->object.value);
}

static inline bool swap(struct mp_semaphore *s, uint64_t *w, uint64_t next)
{
    return mp_cas_seqcst(s->object.value, w, next);
}

static inline uint32_t free_units(const struct mp_semaphore *s, uint64_t w)
{
    return (uint32_t)(w & s->units);
}

static bool is_nonsense(const struct mp_semaphore *s, uint64_t w)
{
    return s->signals ? (uint32_t)w == (uint32_t)MP_VALUE_DESTROYED : w == MP_VALUE_DESTROYED;
}

/* Where it is not destroyed, somebody has written over it. */
static int nonsense(const struct mp_semaphore *s)
{
    return mp_object_is_live(&s->object) ? -ENOTRECOVERABLE : -ESTALE;
}

/* ---- permits ---- */

static mp_a64 *cell_of(const struct mp_semaphore *s, uint32_t p)
{
    return p - 1 < s->object.arena->geometry.participants ? mp_object_share(&s->object, p - 1)
                                                          : NULL;
}

/* V + units, and `held` more (or less) in the ledger of p. */
static bool operate(struct mp_semaphore *s, uint32_t p, uint64_t *w, int units, int held,
                    uint64_t wait)
{
    uint64_t next = (*w & ~MP_PERMITS_WAIT) + (uint64_t)(int64_t)units;
    int d = mp_permits_d(*w) + held;

    if (held == 0)
        return swap(s, w, next | wait);
    if (mp_permits_p(*w) == p && !(*w & MP_PERMITS_FROZEN) && d <= MP_PERMITS_D_MOST &&
        d >= -MP_PERMITS_D_MOST)
        return swap(s, w, (next + ((uint64_t)(int64_t)held << MP_PERMITS_D_SHIFT)) | wait);
    if (!mp_permits_settle(s->object.value, w, cell_of(s, mp_permits_p(*w))))
        return false;
    return swap(s, w,
                mp_permits_word((uint32_t)((int)mp_permits_free(*w) + units), wait, p, held,
                                mp_permits_next_q(*w, mp_load_seqcst(cell_of(s, p)))));
}

/* ---- acquire ---- */

/* There is one, and nothing but a CAS is to do? Then it is ours: true, and *ret says what came of
 * it. */
static MP_INLINE bool acquire_fast(struct mp_semaphore *s, int *ret)
{
    struct mp_directory_entry *e = s->object.entry;
    uint32_t token = mp_load_relaxed(s->object.token);
    uint64_t w = mp_load_acquire(&e->value); /* before the state: it is of this life, if that is */

    if (mp_unlikely(mp_load_relaxed(&e->state) != s->object.live))
        return false;
    /* Both pair with the release of who gave the unit. */
    if (s->signals) {
        /* Who takes no part yet would be missed by nobody if it were killed. */
        if (mp_unlikely((uint32_t)w - 1 >= MP_SEMAPHORE_SIGNALS_MAX || token == 0) ||
            !mp_cas_acquire(&e->value, &w, w - 1))
            return false;
    } else if (mp_unlikely(mp_permits_mine(w, token) - 1 >= MP_PERMITS_MAX ||
                           !mp_permits_has_room(w)) ||
               !mp_cas_acquire(&e->value, &w, w + MP_PERMITS_UNIT)) {
        return false;
    }
    *ret = mp_likely(mp_load_relaxed(&e->state) == s->object.live) ? 0 : -ESTALE;
    return true;
}

static bool take(struct mp_semaphore *s, uint32_t p, uint64_t *w, uint64_t slept)
{
    uint64_t wait = (*w & s->waiting) | slept;

    return s->signals ? swap(s, w, (*w - 1) | wait) : operate(s, p, w, -1, 1, wait);
}

/* One that has slept, with a unit from `w`. */
static void pass_on(struct mp_semaphore *s, uint64_t w)
{
    if (free_units(s, w) > 1)
        mp_futex_wake(s->futex, 1);
}

/* True: the word has changed to the better. A look takes the line away from those who work with the
 * semaphore. Who waits for a signal looks all the time, as somebody waits for its answer; who waits
 * for a permit, to work beside the others, looks more and more seldom. */
static bool spin(struct mp_semaphore *s)
{
    struct mp_spinner spinner;
    bool there = false;
    mp_a32 here = 0;
    uint32_t until_look = 1, turns = 1;

    mp_spin_begin(&spinner, &s->spin, &here, &s->object.entry->waker_cpu);
    while (!there && mp_spin_turn(&spinner)) {
        if (!s->signals && --until_look > 0)
            continue;
        there = free_units(s, look(s)) > 0;
        until_look = turns = turns * 2;
    }
    mp_spin_end(&spinner, there);
    return there;
}

static MP_NOINLINE int acquire_slow(struct mp_semaphore *s, uint64_t timeout_ns)
{
    uint64_t deadline_ns = mp_deadline(timeout_ns);
    struct mp_object *o = &s->object;
    uint32_t turns = 0; /* since it last slept */
    uint64_t slept = 0;
    bool last = false;
    int r = 0;
    uint32_t token = mp_arena_enter(o->arena, &r);

    if (!token)
        return r;
    mp_sleep_begins_anew();
    for (;; turns++) {
        uint64_t w = look(s), before = w;

        if (!mp_object_is_live(o))
            return -ESTALE;
        if (is_nonsense(s, w) || turns == TURNS_MOST)
            return nonsense(s);
        /* Somebody may write the word without end: the deadline is looked at then, too. */
        if ((turns & 63) == 63 && deadline_ns != MP_FOREVER && deadline_ns != 0 &&
            mp_now_ns() >= deadline_ns)
            last = true;
        if (free_units(s, w) > 0) {
            if (take(s, token & MP_TOKEN_SLOT_MASK, &w, slept)) {
                if (slept)
                    pass_on(s, before);
                return mp_object_is_live(o) ? 0 : -ESTALE;
            }
            if (!last)
                continue;
            w = look(s);
        }
        if (deadline_ns == 0)
            return -EAGAIN;
        if (last) {
            /* Who released took the flag of all sleepers down, and leaves it up. */
            if (slept && !(w & s->waiting) && !swap(s, &w, w | s->waiting) && turns < TURNS_MOST)
                continue;
            return -ETIMEDOUT;
        }
        if (spin(s))
            continue;
        if (!(w & s->waiting) && !swap(s, &w, w | s->waiting))
            continue;
        r = mp_sleep_on(o->arena, s->futex, (uint32_t)(w | s->waiting), deadline_ns,
                        MP_WAIT_SEMAPHORE, o->index);
        if (r == -ETIMEDOUT)
            last = true; /* one more look: there may be one by now */
        else if (r < 0)
            return r;
        slept = s->waiting;
        turns = 0;
    }
}

int mp_semaphore_acquire(mp_semaphore *semaphore, uint64_t timeout_ns)
{
    int r;

    if (mp_unlikely(!semaphore))
        return -EINVAL;
    if (mp_likely(acquire_fast(semaphore, &r)))
        return r;
    return acquire_slow(semaphore, timeout_ns);
}

int mp_semaphore_try(mp_semaphore *semaphore)
{
    return mp_semaphore_acquire(semaphore, 0);
}

/* ---- release ---- */

/* Nobody waits, and nothing but a CAS is to do? */
static MP_INLINE bool release_fast(struct mp_semaphore *s)
{
    struct mp_directory_entry *e = s->object.entry;
    uint32_t token = mp_load_relaxed(s->object.token);
    uint64_t w = mp_load_acquire(&e->value);

    if (mp_unlikely(mp_load_relaxed(&e->state) != s->object.live))
        return false;
    /* Both pair with the acquire of who gets the unit. */
    if (s->signals)
        return mp_likely((uint32_t)w < s->limit && token != 0) &&
               mp_cas_release(&e->value, &w, w + 1);
    return mp_likely(mp_permits_mine(w, token) < s->limit && mp_permits_has_one(w)) &&
           mp_cas_release(&e->value, &w, w - MP_PERMITS_UNIT);
}

static void wake(struct mp_semaphore *s, uint32_t n)
{
    uint32_t cpu = mp_cpu_current() + 1;

    if (mp_load_relaxed(&s->object.entry->waker_cpu) != cpu)
        mp_store_relaxed(&s->object.entry->waker_cpu, cpu);
    mp_futex_wake(s->futex, (int)mp_min(n, (uint32_t)INT_MAX));
}

/* Up to n units from a word w. How many went; 0: the word has changed. */
static uint32_t give(struct mp_semaphore *s, uint32_t p, uint64_t w, uint32_t n)
{
    uint32_t held;

    if (s->signals)
        return swap(s, &w, (w & ~s->waiting) + n) ? n : 0;
    held = mp_min(mp_permits_held(w, mp_load_seqcst(cell_of(s, p)), p - 1), n);
    if (held > MP_PERMITS_D_MOST)
        n = held = MP_PERMITS_D_MOST;
    return operate(s, p, &w, (int)n, -(int)held, 0) ? n : 0;
}

static MP_NOINLINE int release_slow(struct mp_semaphore *s, uint32_t n)
{
    struct mp_object *o = &s->object;
    int r = 0;
    uint32_t token = mp_arena_enter(o->arena, &r);

    if (!token)
        return r;
    for (uint32_t turns = 0; n > 0; turns++) {
        uint64_t w = look(s);
        uint32_t gone;

        if (!mp_object_is_live(o))
            return -ESTALE;
        if (is_nonsense(s, w) || turns == TURNS_MOST)
            return nonsense(s);
        if (n > s->limit || free_units(s, w) > s->limit - n)
            return -EOVERFLOW;
        gone = give(s, token & MP_TOKEN_SLOT_MASK, w, n);
        if (gone && (w & s->waiting))
            wake(s, gone);
        n -= gone;
    }
    return 0;
}

int mp_semaphore_release(mp_semaphore *semaphore, uint32_t n)
{
    if (mp_unlikely(!semaphore || n == 0))
        return -EINVAL;
    if (mp_likely(n == 1 && release_fast(semaphore)))
        return 0;
    return release_slow(semaphore, n);
}

/* ---- waiting for it together with others ---- */

static uint32_t arm(const struct mp_waitable *waitable)
{
    struct mp_semaphore *s = waitable->object;
    uint64_t w = look(s);

    for (uint32_t turns = 0; turns < TURNS_MOST; turns++)
        if (free_units(s, w) > 0 || is_nonsense(s, w) || (w & s->waiting) ||
            swap(s, &w, w | s->waiting))
            break;
    return free_units(s, w) > 0 || is_nonsense(s, w) ? (uint32_t)w : (uint32_t)(w | s->waiting);
}

static int ready(const struct mp_waitable *waitable)
{
    const struct mp_semaphore *s = waitable->object;
    uint64_t w = look(s);

    if (!mp_object_is_live(&s->object) || is_nonsense(s, w))
        return nonsense(s);
    return free_units(s, w) > 0;
}

static const struct mp_waitable_type waitable = {.arm = arm, .ready = ready};

struct mp_waitable mp_semaphore_waitable(mp_semaphore *semaphore)
{
    if (!semaphore)
        return (struct mp_waitable){.fd = -1};
    return mp_object_waitable(&semaphore->object, semaphore->futex, &waitable, semaphore);
}

/* ---- for people ---- */

int mp_semaphore_value(const mp_semaphore *semaphore)
{
    uint64_t w;

    if (!semaphore)
        return -EINVAL;
    w = look(semaphore);
    if (!mp_object_is_live(&semaphore->object))
        return -ESTALE;
    return (int)mp_min(free_units(semaphore, w), (uint32_t)INT_MAX);
}

int mp_semaphore_holders(const mp_semaphore *semaphore, struct mp_semaphore_holder *ret_holders,
                         uint32_t n)
{
    const struct mp_semaphore *s = semaphore;
    uint32_t token, found = 0;
    struct mp_arena *a;

    if (!s || (n > 0 && !ret_holders))
        return -EINVAL;
    if (!mp_object_is_live(&s->object))
        return -ESTALE;
    a = s->object.arena;
    token = mp_load_relaxed(s->object.token);
    for (uint32_t slot = 0; slot < mp_arena_slots_high(a) && !s->signals; slot++) {
        uint64_t w = look(s);
        uint32_t units =
            mp_permits_held(w, mp_load_seqcst(mp_object_share(&s->object, slot)), slot);

        if (units == 0)
            continue;
        if (found < n)
            ret_holders[found] = (struct mp_semaphore_holder){
                .pid = (pid_t)(uint32_t)mp_load_relaxed(&a->slots[slot].id),
                .slot = slot,
                .units = units,
                .self = (token & MP_TOKEN_SLOT_MASK) == slot + 1,
            };
        found++;
    }
    return (int)found;
}

const char *mp_semaphore_name(const mp_semaphore *semaphore)
{
    return semaphore ? semaphore->object.name : NULL;
}

/* ---- life ---- */

/* `flags` as in the entry: from here on they are the handle's. */
static void fill(struct mp_semaphore *s, uint32_t flags)
{
    uint32_t begun = flags >> MP_PERMITS_FLAGS_SHIFT;

    s->signals = flags & MP_SEMAPHORE_SIGNALS;
    s->limit = s->signals ? MP_SEMAPHORE_SIGNALS_MAX : MP_SEMAPHORE_PERMITS_MAX;
    if (flags & MP_SEMAPHORE_BOUNDED)
        s->limit = mp_min(s->limit, begun);
    s->units = s->signals ? SIGNALS_MASK : MP_PERMITS_MAX;
    s->waiting = s->signals ? MP_TOKEN_WAITERS : MP_PERMITS_WAIT;
    s->futex = mp_directory_futex(s->object.entry);
    s->spin = (struct mp_spin){0};
}

static int check_options(const struct mp_semaphore_options *options,
                         struct mp_semaphore_options *ret)
{
    struct mp_semaphore_options o = {.value = 1};

    if (options && options->struct_size < sizeof o)
        return -EINVAL;
    if (options)
        o = *options;
    if (o.flags & ~(uint32_t)(MP_SEMAPHORE_SIGNALS | MP_SEMAPHORE_BOUNDED))
        return -EINVAL;
    if (o.value == 0)
        o.flags |= MP_SEMAPHORE_SIGNALS;
    if (o.value > (o.flags & MP_SEMAPHORE_SIGNALS ? (uint32_t)MP_SEMAPHORE_SIGNALS_MAX
                                                  : (uint32_t)MP_SEMAPHORE_PERMITS_MAX))
        return -EINVAL;
    *ret = o;
    return 0;
}

int mp_semaphore_create(mp_arena *arena, const char *name,
                        const struct mp_semaphore_options *options, mp_semaphore **ret_semaphore)
{
    _cleanup_free_ struct mp_semaphore *s = NULL;
    struct mp_semaphore_options o;
    uint32_t flags;
    bool signals;
    int r;

    if (!arena || !ret_semaphore)
        return -EINVAL;
    r = check_options(options, &o);
    if (r < 0)
        return r;
    s = malloc(sizeof *s);
    if (!s)
        return -ENOMEM;
    signals = o.flags & MP_SEMAPHORE_SIGNALS;
    flags = o.value << MP_PERMITS_FLAGS_SHIFT | o.flags;
    r = mp_object_create(arena, name, MP_KIND_SEMAPHORE, flags,
                         signals ? o.value : MP_PERMITS_FIRST(o.value),
                         signals ? 0 : MP_PERMITS_STRIDE, &s->object);
    if (r < 0)
        return r;
    fill(s, flags);
    *ret_semaphore = mp_take_ptr(s);
    return 0;
}

int mp_semaphore_open(mp_arena *arena, const char *name, mp_semaphore **ret_semaphore)
{
    _cleanup_free_ struct mp_semaphore *s = NULL;
    int r;

    if (!arena || !name || !ret_semaphore)
        return -EINVAL;
    s = malloc(sizeof *s);
    if (!s)
        return -ENOMEM;
    r = mp_object_open(arena, name, MP_KIND_SEMAPHORE, 0, &s->object);
    if (r < 0)
        return r;
    fill(s, mp_load_relaxed(&s->object.entry->flags));
    if (!s->signals) {
        s->object.stride = MP_PERMITS_STRIDE;
        s->object.shares = (char *)mp_directory_share(arena, s->object.entry, 0);
        if (mp_load_relaxed(&s->object.entry->size) != MP_PERMITS_STRIDE)
            s->object.shares = NULL;
    }
    atomic_thread_fence(memory_order_acquire);
    /* Destroyed meanwhile: what was read is of another. */
    if (!mp_object_is_live(&s->object))
        return -ENOENT;
    if (!s->signals && !s->object.shares)
        return -EPROTO;
    *ret_semaphore = mp_take_ptr(s);
    return 0;
}

mp_semaphore *mp_semaphore_close(mp_semaphore *semaphore)
{
    free(semaphore);
    return NULL;
}

int mp_semaphore_destroy(mp_semaphore *semaphore)
{
    return semaphore ? mp_object_destroy(&semaphore->object) : -EINVAL;
}
