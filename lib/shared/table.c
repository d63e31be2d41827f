/* SPDX-License-Identifier: MIT */
/*
 * The table of a map.
 *
 * Buckets point to chains of records, sorted by hash and key: all of it together is one sequence,
 * in which a reader can go on after any key, whatever became of it. A record that is in a chain is
 * never written again but for its link to the next one: what replaces it is written to a spare
 * record, and takes its place by one store.
 *
 *   a link         who, by which atomic                    a crash just after leaves
 *   x -> s         the writer, once record s is written,   the entry new, or replaced; the old
 *                  with the next one of x (replace) or x   record in no chain, and s among the
 *                  (insert) as its next: store             spare ones: gathered by the next writer
 *   x -> next(x)   the writer, to delete x: store          the same
 *
 * "The writer" has the lock of the map. Which records are spare, and how many are in use, is only
 * for writers, and follows from the chains: the next one after a death is told of it by the lock,
 * and counts anew (mp_table_gather) before he does anything else. If he dies at that, so does the
 * next. So no death leaves anything between two states that a reader could see.
 *
 * A reader takes no lock. What might happen to him is that a record at which he stands leaves its
 * chain, and is written anew as a spare one. The turn moves before that: he reads it first and
 * last, and what he found holds if it has not moved. A record that is only out of its chain still
 * leads back into it, so that needs no turn.
 *
 * Numbers, sizes and the length of chains are checked against the geometry, which is the handle's;
 * each word is read once.
 */

#include <errno.h>
#include <string.h>

#include "base/macro.h"
#include "base/mutation.h"
#include "shared/copy.h"
#include "shared/table.h"

static struct mp_record *record_at(const struct mp_table *t, uint32_t number)
{
    return (struct mp_record *)(void *)(t->records + (uint64_t)(number - 1) * t->stride);
}

static void *value_of(const struct mp_table *t, struct mp_record *r)
{
    return &r->words[(t->key_max + 7u) / 8];
}

uint64_t mp_table_shape(struct mp_table *t, uint32_t capacity, uint32_t key_max, uint32_t value_max)
{
    uint64_t buckets;

    t->bits = 1;
    while ((UINT64_C(1) << t->bits) < capacity)
        t->bits++;
    buckets = (sizeof(mp_a32) << t->bits) + sizeof *t->header;
    t->n_records = capacity + 1;
    t->key_max = key_max;
    t->value_max = value_max;
    t->stride = sizeof(struct mp_record) + MP_ALIGN_UP((uint64_t)key_max, 8) +
                MP_ALIGN_UP((uint64_t)value_max, 8);
    return MP_ALIGN_UP(buckets, 64) + t->n_records * t->stride;
}

void mp_table_lie_at(struct mp_table *t, void *memory)
{
    t->header = memory;
    t->buckets = (mp_a32 *)(void *)(t->header + 1);
    t->records = (char *)memory + MP_ALIGN_UP((sizeof(mp_a32) << t->bits) + sizeof *t->header, 64);
}

void mp_table_make(struct mp_table *t)
{
    memset(t->header, 0, sizeof *t->header);
    memset(t->buckets, 0, sizeof(mp_a32) << t->bits);
}

/* ---- order ---- */

/* Eight bytes of a key, filled up with zeroes. */
static uint64_t word_of(struct mp_bytes key, size_t at)
{
    uint64_t w = 0;

    memcpy(&w, (const char *)key.data + at, mp_min(key.size - at, (size_t)8));
    return w;
}

static uint64_t hash_of(const struct mp_table *t, struct mp_bytes key)
{
    uint64_t h = t->seed + key.size * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t at = 0; at < key.size; at += 8) {
        h = (h ^ word_of(key, at)) * UINT64_C(0xd6e8feb86659fd93);
        h ^= h >> 32;
    }
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 29;
}

/* Is the record before the key (negative), the key's own (0), or after it? */
static int compare(const struct mp_record *r, uint64_t hash, struct mp_bytes key)
{
    uint64_t h = mp_load_relaxed(&r->hash);
    uint32_t size;

    if (h != hash)
        return h < hash ? -1 : 1;
    size = mp_load_relaxed(&r->key_size);
    if (size != key.size)
        return size < key.size ? -1 : 1;
    for (size_t at = 0; at < key.size; at += 8) {
        uint64_t a = mp_load_relaxed(&r->words[at / 8]), b = word_of(key, at);

        if (a != b)
            return a < b ? -1 : 1;
    }
    return 0;
}

/* Along the chain of a hash to the first record that is the key's, or (`after`) after it. */
static int walk(const struct mp_table *t, uint64_t hash, struct mp_bytes key, bool after,
                struct mp_table_place *ret)
{
    mp_a32 *link = &t->buckets[hash >> (64 - t->bits)];

    for (uint32_t steps = 0; steps <= t->n_records; steps++) {
        uint32_t number = mp_load_acquire(link);
        int order;

        *ret = (struct mp_table_place){.link = link, .next = number};
        if (number == 0)
            return 0;
        if (number > t->n_records)
            break;
        order = compare(record_at(t, number), hash, key);
        if (order > 0)
            return after;
        if (order == 0 && !after)
            return 1;
        link = &record_at(t, number)->next;
    }
    return -ENOTRECOVERABLE;
}

int mp_table_find(const struct mp_table *t, struct mp_bytes key, struct mp_table_place *ret)
{
    return walk(t, hash_of(t, key), key, false, ret);
}

int mp_table_after(const struct mp_table *t, struct mp_bytes key, uint32_t *ret_number)
{
    struct mp_table_place place;
    uint64_t bucket = 0;
    int r;

    if (key.size > 0) {
        uint64_t hash = hash_of(t, key);

        r = walk(t, hash, key, true, &place);
        if (r != 0) {
            *ret_number = place.next;
            return r;
        }
        bucket = (hash >> (64 - t->bits)) + 1;
    }
    for (; bucket < UINT64_C(1) << t->bits; bucket++) {
        *ret_number = mp_load_acquire(&t->buckets[bucket]);
        if (*ret_number)
            return *ret_number <= t->n_records ? 1 : -ENOTRECOVERABLE;
    }
    return 0;
}

/* ---- records ---- */

int mp_table_key(const struct mp_table *t, uint32_t number, void *ret, size_t *ret_size)
{
    const struct mp_record *r = record_at(t, number);
    uint32_t size = mp_load_relaxed(&r->key_size);

    if (size == 0 || size > t->key_max)
        return -ENOTRECOVERABLE;
    mp_copy_out(ret, r->words, size);
    *ret_size = size;
    return 0;
}

int mp_table_value(const struct mp_table *t, uint32_t number, void *ret, size_t room,
                   size_t *ret_size)
{
    struct mp_record *r = record_at(t, number);
    uint32_t size = mp_load_relaxed(&r->value_size);

    if (size > t->value_max)
        return -ENOTRECOVERABLE;
    if (size > room)
        return -EMSGSIZE;
    mp_copy_out(ret, value_of(t, r), size);
    *ret_size = size;
    return 0;
}

bool mp_table_value_is(const struct mp_table *t, uint32_t number, struct mp_bytes value)
{
    struct mp_record *r = record_at(t, number);
    const char *at = value_of(t, r);

    if (mp_load_relaxed(&r->value_size) != value.size)
        return false;
    for (size_t i = 0, unit; i < value.size; i += unit) {
        uint64_t v;

        unit = mp_copy_unit((uintptr_t)at + i, value.size - i);
        v = mp_unit_load(at + i, unit);
        if (memcmp(&v, (const char *)value.data + i, unit) != 0)
            return false;
    }
    return true;
}

static void write_record(const struct mp_table *t, struct mp_record *r, struct mp_bytes key,
                         struct mp_bytes value)
{
    mp_store_relaxed(&r->hash, hash_of(t, key));
    mp_store_relaxed(&r->key_size, (uint32_t)key.size);
    mp_store_relaxed(&r->value_size, (uint32_t)value.size);
    for (size_t at = 0; at < key.size; at += 8)
        mp_store_relaxed(&r->words[at / 8], word_of(key, at));
    mp_copy_in(value_of(t, r), value.data, value.size);
}

/* ---- spare records ---- */

/* The number of one. It stays among the spare ones until used(). 0: none, or nonsense. */
static uint32_t find_spare(const struct mp_table *t)
{
    uint32_t number = mp_load_relaxed(&t->header->spare);
    uint32_t used = mp_load_relaxed(&t->header->used);

    if (number != 0)
        return number <= t->n_records ? number : 0;
    if (used >= t->n_records)
        return 0;
    /* Before it is used: none in a chain may be beyond it. */
    mp_store_relaxed(&t->header->used, used + 1);
    mp_store_relaxed(&record_at(t, used + 1)->spare, 0);
    return used + 1;
}

static void set_used(struct mp_table *t, uint32_t number)
{
    mp_store_relaxed(&t->header->spare, mp_load_relaxed(&record_at(t, number)->spare));
}

static void set_spare(struct mp_table *t, uint32_t number)
{
    mp_store_relaxed(&record_at(t, number)->spare, mp_load_relaxed(&t->header->spare));
    mp_store_relaxed(&t->header->spare, number);
}

static int gather_chains(struct mp_table *t, uint32_t used, uint32_t *ret_count)
{
    uint32_t count = 0;

    for (uint64_t b = 0; b < UINT64_C(1) << t->bits; b++) {
        uint32_t number = mp_load_relaxed(&t->buckets[b]);

        while (number) {
            /* One in two chains, or in a loop, would be counted for ever. */
            if (number > used || mp_load_relaxed(&record_at(t, number)->mark))
                return -ENOTRECOVERABLE;
            mp_store_relaxed(&record_at(t, number)->mark, 1);
            count++;
            number = mp_load_relaxed(&record_at(t, number)->next);
        }
    }
    *ret_count = count;
    return 0;
}

int mp_table_gather(struct mp_table *t)
{
    uint32_t used = mp_min(mp_load_relaxed(&t->header->used), t->n_records);
    uint32_t count;
    int r;

    if (mp_mutation(MAP_NOT_GATHERED))
        return 0;
    for (uint32_t i = 1; i <= used; i++)
        mp_store_relaxed(&record_at(t, i)->mark, 0);
    r = gather_chains(t, used, &count);
    if (r < 0)
        return r;
    mp_store_relaxed(&t->header->count, count);
    mp_store_relaxed(&t->header->spare, 0);
    for (uint32_t i = used; i > 0; i--)
        if (!mp_load_relaxed(&record_at(t, i)->mark))
            set_spare(t, i);
    return 0;
}

/* ---- writing ---- */

int mp_table_put(struct mp_table *t, const struct mp_table_place *place, bool found,
                 struct mp_bytes key, struct mp_bytes value)
{
    uint32_t count = mp_load_relaxed(&t->header->count);
    struct mp_record *r;
    uint32_t number;

    if (!found && count >= t->n_records - 1)
        return -ENOBUFS;
    number = found && mp_mutation(MAP_IN_PLACE) ? place->next : find_spare(t);
    if (number == 0)
        return -ENOTRECOVERABLE;
    r = record_at(t, number);
    /* Who sees that it has moved sees that the record is in no chain; and who reads a word of what
     * is written now sees that it has moved. */
    mp_store_release(&t->header->turn, mp_load_relaxed(&t->header->turn) + 1);
    atomic_thread_fence(memory_order_release);
    mp_store_relaxed(&r->next,
                     found ? mp_load_relaxed(&record_at(t, place->next)->next) : place->next);
    if (mp_mutation(MAP_LINKED_FIRST))
        mp_store_release(place->link, number);
    write_record(t, r, key, value);
    mp_store_release(place->link, number); /* pairs with the acquire in walk() */
    if (number == place->next)
        return 0;
    set_used(t, number);
    if (found)
        set_spare(t, place->next);
    else
        mp_store_relaxed(&t->header->count, count + 1);
    return 0;
}

void mp_table_delete(struct mp_table *t, const struct mp_table_place *place)
{
    mp_store_release(place->link, mp_load_relaxed(&record_at(t, place->next)->next));
    set_spare(t, place->next);
    mp_store_relaxed(&t->header->count, mp_load_relaxed(&t->header->count) - 1);
}
