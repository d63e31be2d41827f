/* SPDX-License-Identifier: MIT */
/*
 * Items of a type, in a block of the arena.
 *
 * The entry's word and value are those of a recursive lock (sync/rlock.c), under which all but the
 * atomic operations are done; so what a death leaves half written is told to the next one by
 * MP_OWNER_DIED. Who only reads, or writes a part, cannot put it in order: he gives the news on.
 *
 * One that is versioned is a turn and two copies: copy (turn & 1) is valid.
 *
 *   turn           who, by which atomic                      a crash just after leaves
 *   t -> t         the owner of the lock writes the other    half of that written: nobody reads
 *                  copy, word by word                        it, the next owner writes it over
 *   t -> t + 1     the owner, by a store: published          it published
 *
 * There is no state in between that a reader would have to wait for, or that somebody would have to
 * repair. A reader reads the turn, the valid copy, and the turn again. The copy is written over
 * only by the owner after next, that is after the turn has moved: if it has not, the copy is whole.
 *
 * What is said of it in the entry is read once, checked against its block, and kept in the handle.
 * Whoever destroys it has its lock, so nobody writes to memory that has become another's.
 */

#include <errno.h>
#include <sched.h>

#include "base/clock.h"
#include "base/mutation.h"
#include "shared/copy.h"
#include "shared/typed.h"

#define PATIENCE_NS MP_SEC(1)
#define TRIES_AT_ONCE 64u
#define TURN_BYTES 64u

/* As make() gets it. */
struct making {
    struct mp_object_spec spec; /* first */
    const struct mp_typed_spec *typed;
};

static uint64_t size_of_type(uint32_t type)
{
    switch (type) {
    case MP_TYPE_BOOL:
    case MP_TYPE_CHAR:
    case MP_TYPE_INT8:
    case MP_TYPE_UINT8:
        return 1;
    case MP_TYPE_INT16:
    case MP_TYPE_UINT16:
        return 2;
    case MP_TYPE_WCHAR:
    case MP_TYPE_INT32:
    case MP_TYPE_UINT32:
    case MP_TYPE_FLOAT:
        return 4;
    case MP_TYPE_INT64:
    case MP_TYPE_UINT64:
    case MP_TYPE_DOUBLE:
        return 8;
    default:
        return 0;
    }
}

static bool is_signed(uint32_t type)
{
    return type == MP_TYPE_INT8 || type == MP_TYPE_INT16 || type == MP_TYPE_INT32 ||
           type == MP_TYPE_INT64;
}

static bool is_integer(uint32_t type)
{
    return is_signed(type) || type == MP_TYPE_UINT8 || type == MP_TYPE_UINT16 ||
           type == MP_TYPE_UINT32 || type == MP_TYPE_UINT64;
}

/* Is this something that can be? */
static bool is_sound(const struct mp_typed_spec *s)
{
    const uint32_t both = MP_VALUE_UNLOCKED | MP_VALUE_VERSIONED;

    if ((s->flags & ~both) || (s->flags & both) == both)
        return false;
    if (s->kind == MP_KIND_VALUE ? s->length != 1 : s->flags & MP_VALUE_VERSIONED)
        return false;
    return s->item > 0 && (s->type == MP_TYPE_STRUCT || s->item == size_of_type(s->type));
}

/* Bytes from one copy to the other. */
static uint64_t copy_stride(uint64_t item)
{
    return MP_ALIGN_UP(item, (uint64_t)64);
}

/* Bytes of the block that it needs; UINT64_MAX: no block is as large. */
static uint64_t memory_of(const struct mp_arena *a, const struct mp_typed_spec *s)
{
    uint64_t most = mp_arena_max_block(a), bytes;

    if (s->item > most || (s->length > 0 && s->item > most / s->length))
        return UINT64_MAX;
    bytes = s->item * s->length;
    if (s->flags & MP_VALUE_VERSIONED)
        bytes = TURN_BYTES + 2 * copy_stride(s->item);
    return bytes > most ? UINT64_MAX : mp_max(bytes, (uint64_t)1);
}

static struct mp_typed_spec normal(const struct mp_typed_spec *spec)
{
    struct mp_typed_spec s = *spec;

    if (s.type == 'l')
        s.type = MP_TYPE_INT64;
    if (s.type == 'L')
        s.type = MP_TYPE_UINT64;
    if (s.item == 0)
        s.item = size_of_type(s.type);
    return s;
}

static void keep(struct mp_typed *t, const struct mp_typed_spec *s, char *memory)
{
    t->memory = memory;
    t->length = s->length;
    t->item = s->item;
    t->type = s->type;
    t->flags = s->flags;
    t->lock.wait = s->kind == MP_KIND_VALUE ? MP_WAIT_VALUE : MP_WAIT_ARRAY;
}

static int make(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                const struct mp_object_spec *spec, bool revived)
{
    const struct mp_typed_spec *s = ((const struct making *)(const void *)spec)->typed;
    char *items = memory;

    (void)a;
    (void)e;
    (void)revived;
    memset(memory, 0, spec->memory);
    if (s->flags & MP_VALUE_VERSIONED)
        items += TURN_BYTES;
    if (s->initial)
        memcpy(items, s->initial, s->item * s->length);
    *spec->ret_memory = memory;
    return 0;
}

int mp_typed_create(struct mp_arena *a, const char *name, const struct mp_typed_spec *spec,
                    struct mp_typed *ret)
{
    struct mp_typed_spec s = normal(spec);
    void *memory = NULL;
    struct making m = {
        .spec =
            {
                .name = name,
                .kind = s.kind,
                .flags = s.type | s.flags << 8,
                .size = s.item,
                .cells = s.length,
                .initialize = make,
                .ret_memory = &memory,
            },
        .typed = &s,
    };
    int r;

    if (!is_sound(&s))
        return -EINVAL;
    m.spec.memory = memory_of(a, &s);
    if (m.spec.memory == UINT64_MAX)
        return -EMSGSIZE;
    r = mp_object_make(a, &m.spec, &ret->lock.object);
    if (r < 0)
        return r;
    keep(ret, &s, memory);
    return 0;
}

int mp_typed_open(struct mp_arena *a, const char *name, enum mp_kind kind, struct mp_typed *ret)
{
    struct mp_typed_spec s = {.kind = kind};
    const struct mp_directory_entry *e;
    void *memory = NULL;
    uint32_t flags;
    int r;

    r = mp_object_open(a, name, kind, 0, &ret->lock.object);
    if (r < 0)
        return r;
    e = ret->lock.object.entry;
    flags = mp_load_relaxed(&e->flags);
    s.type = flags & 0xff;
    s.flags = flags >> 8;
    s.item = mp_load_relaxed(&e->size);
    s.length = mp_load_relaxed(&e->cells);
    if (is_sound(&s))
        memory = mp_directory_memory(a, e, memory_of(a, &s));
    atomic_thread_fence(memory_order_acquire);
    if (!mp_object_is_live(&ret->lock.object))
        return -ENOENT; /* destroyed since, and what was read may be of another */
    if (!memory)
        return -EPROTO;
    keep(ret, &s, memory);
    return 0;
}

int mp_typed_destroy(struct mp_typed *t)
{
    struct mp_object *o = &t->lock.object;
    int r;

    if (t->flags & MP_VALUE_UNLOCKED)
        return mp_object_destroy(o);
    r = mp_rlock_acquire(&t->lock, PATIENCE_NS);
    if (r == -ETIMEDOUT)
        return -EBUSY;
    /* One whose words were written over is to go all the same. */
    if (r < 0 && r != -ENOTRECOVERABLE)
        return r;
    if (r >= 0 && mp_rlock_count(&t->lock) > 1) {
        mp_rlock_release(&t->lock);
        return -EBUSY;
    }
    return mp_object_destroy(o);
}

/* ---- the lock ---- */

int mp_typed_lock(struct mp_typed *t, uint64_t timeout_ns)
{
    return t->flags & MP_VALUE_UNLOCKED ? -EINVAL : mp_rlock_acquire(&t->lock, timeout_ns);
}

int mp_typed_unlock(struct mp_typed *t)
{
    return t->flags & MP_VALUE_UNLOCKED ? -EINVAL : mp_rlock_release(&t->lock);
}

static int enter(struct mp_typed *t)
{
    if (!(t->flags & MP_VALUE_UNLOCKED))
        return mp_rlock_acquire(&t->lock, MP_FOREVER);
    return mp_object_is_live(&t->lock.object) ? 0 : -ESTALE;
}

/* `mended`: what a death left is gone now. */
static int leave(struct mp_typed *t, int r, bool mended)
{
    struct mp_object *o = &t->lock.object;
    int q = 0;

    if (t->flags & MP_VALUE_UNLOCKED) {
        atomic_thread_fence(memory_order_acquire);
        return mp_object_is_live(o) ? r : -ESTALE;
    }
    if (r == MP_OWNER_DIED && !mended && !mp_mutation(VALUE_TOLD_ONCE)) {
        mp_store_relaxed(o->value, 0);
        mp_word_give_back(o, MP_TOKEN_DIED);
    } else {
        q = mp_rlock_release(&t->lock);
    }
    return q < 0 ? q : r;
}

/* ---- two copies ---- */

static mp_a64 *turn_of(const struct mp_typed *t)
{
    return (mp_a64 *)(void *)t->memory;
}

static char *copy_of(const struct mp_typed *t, uint64_t turn)
{
    return t->memory + TURN_BYTES + (turn & 1) * copy_stride(t->item);
}

/* By the owner of the lock. */
static void publish(struct mp_typed *t, const void *data)
{
    uint64_t turn = mp_load_relaxed(turn_of(t));

    /* Who sees a word of this sees that the turn has moved since the copy was valid. */
    atomic_thread_fence(memory_order_release);
    mp_copy_in(copy_of(t, turn + (mp_mutation(VERSION_IN_PLACE) ? 0 : 1)), data, t->item);
    mp_store_release(turn_of(t), turn + 1);
}

static int get_version(struct mp_typed *t, void *ret)
{
    uint64_t deadline = 0;

    for (uint32_t tries = 1;; tries++) {
        uint64_t turn = mp_load_acquire(turn_of(t));

        mp_copy_out(ret, copy_of(t, turn), t->item);
        atomic_thread_fence(memory_order_acquire);
        if (!mp_object_is_live(&t->lock.object))
            return -ESTALE;
        if (mp_load_relaxed(turn_of(t)) == turn)
            return 0;
        if (tries % TRIES_AT_ONCE)
            continue;
        if (deadline == 0)
            deadline = mp_now_ns() + PATIENCE_NS;
        else if (mp_now_ns() > deadline)
            return -ETIMEDOUT;
        sched_yield();
    }
}

/* ---- reading and writing ---- */

static int check(const struct mp_typed *t, uint64_t index, uint64_t n, size_t size)
{
    if (index > t->length || n > t->length - index)
        return -ERANGE;
    return size == n * t->item ? 0 : -EINVAL;
}

int mp_typed_get(struct mp_typed *t, uint64_t index, uint64_t n, void *ret, size_t size)
{
    int r = check(t, index, n, size);

    if (r < 0)
        return r;
    if (mp_typed_is_versioned(t))
        return get_version(t, ret);
    r = enter(t);
    if (r < 0)
        return r;
    mp_copy_out(ret, t->memory + index * t->item, size);
    return leave(t, r, false);
}

int mp_typed_set(struct mp_typed *t, uint64_t index, uint64_t n, const void *data, size_t size)
{
    int r = check(t, index, n, size);

    if (r < 0)
        return r;
    r = enter(t);
    if (r < 0)
        return r;
    if (mp_typed_is_versioned(t))
        publish(t, data);
    else
        mp_copy_in(t->memory + index * t->item, data, size);
    return leave(t, r, n == t->length);
}

/* ---- adding ---- */

/* The item as it is, under the lock. */
static void *item_at(const struct mp_typed *t, uint64_t index)
{
    return mp_typed_is_versioned(t) ? copy_of(t, mp_load_relaxed(turn_of(t)))
                                    : t->memory + index * t->item;
}

static void write_item(struct mp_typed *t, uint64_t index, const void *data)
{
    if (mp_typed_is_versioned(t))
        publish(t, data);
    else
        mp_copy_in(t->memory + index * t->item, data, t->item);
}

/* The bits of an integer, as a number. */
static int64_t extend(uint32_t type, uint64_t item, uint64_t bits)
{
    uint32_t unused = 64 - (uint32_t)item * 8;

    return is_signed(type) ? (int64_t)(bits << unused) >> unused
                           : (int64_t)(bits << unused >> unused);
}

int mp_typed_add(struct mp_typed *t, uint64_t index, int64_t n, int64_t *ret)
{
    uint64_t bits = 0;
    int r;

    if (!is_integer(t->type))
        return -EINVAL;
    if (index >= t->length)
        return -ERANGE;
    r = enter(t);
    if (r < 0)
        return r;
    mp_copy_out(&bits, item_at(t, index), t->item);
    bits += (uint64_t)n;
    write_item(t, index, &bits);
    r = leave(t, r, false);
    if (ret && r >= 0)
        *ret = extend(t->type, t->item, bits);
    return r;
}

int mp_typed_add_double(struct mp_typed *t, uint64_t index, double n, double *ret)
{
    union {
        double wide;
        float narrow;
    } item = {0};
    int r;

    if (t->type != MP_TYPE_FLOAT && t->type != MP_TYPE_DOUBLE)
        return -EINVAL;
    if (index >= t->length)
        return -ERANGE;
    r = enter(t);
    if (r < 0)
        return r;
    mp_copy_out(&item, item_at(t, index), t->item);
    if (t->type == MP_TYPE_FLOAT)
        item.narrow = (float)((double)item.narrow + n);
    else
        item.wide += n;
    write_item(t, index, &item);
    r = leave(t, r, false);
    if (ret && r >= 0)
        *ret = t->type == MP_TYPE_FLOAT ? (double)item.narrow : item.wide;
    return r;
}

/* ---- in one step ---- */

void *mp_typed_word(const struct mp_typed *t, uint64_t offset, uint64_t width, int *ret)
{
    uint64_t bytes = t->length * t->item;

    *ret = 0;
    if (mp_typed_is_versioned(t) || (width != 1 && width != 2 && width != 4 && width != 8) ||
        offset % width)
        *ret = -EINVAL;
    else if (offset > bytes || width > bytes - offset)
        *ret = -ERANGE;
    else if (!mp_object_is_live(&t->lock.object))
        *ret = -ESTALE;
    return *ret < 0 ? NULL : t->memory + offset;
}

uint64_t mp_typed_word_load(void *word, uint64_t width)
{
    switch (width) {
#define x(bytes, type) \
    case bytes:        \
        return __atomic_load_n((type *)word, __ATOMIC_SEQ_CST);
        MP_COPY_UNITS(x)
#undef x
    }
    return 0;
}

void mp_typed_word_store(void *word, uint64_t width, uint64_t n)
{
    switch (width) {
#define x(bytes, type)                                             \
    case bytes:                                                    \
        __atomic_store_n((type *)word, (type)n, __ATOMIC_SEQ_CST); \
        return;
        MP_COPY_UNITS(x)
#undef x
    }
}

uint64_t mp_typed_word_add(void *word, uint64_t width, uint64_t n)
{
    switch (width) {
#define x(bytes, type) \
    case bytes:        \
        return __atomic_fetch_add((type *)word, (type)n, __ATOMIC_SEQ_CST);
        MP_COPY_UNITS(x)
#undef x
    }
    return 0;
}

int mp_typed_word_exchange_if(void *word, uint64_t width, uint64_t *expected, uint64_t desired)
{
    bool done;

    switch (width) {
#define x(bytes, type)                                                               \
    case bytes: {                                                                    \
        type was = (type)*expected;                                                  \
        done = __atomic_compare_exchange_n((type *)word, &was, (type)desired, false, \
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
        if (!done)                                                                   \
            *expected = was;                                                         \
        return done;                                                                 \
    }
        MP_COPY_UNITS(x)
#undef x
    }
    return 0;
}
