/* SPDX-License-Identifier: MIT */
#pragma once

/* The table of a map, in its block: buckets, chains of records, and the spare ones (table.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

struct mp_table_header {
    _Alignas(64) mp_a64 turn; /* moves before a spare record is written */
    mp_a32 count;             /* the rest is the writer's: */
    mp_a32 spare;             /* number of the first spare record; 0: none */
    mp_a32 used;              /* records that were ever in use */
};

struct mp_record {
    mp_a32 next; /* number of the next record in the chain; 0: the last */
    mp_a32 key_size;
    mp_a64 hash;
    mp_a32 value_size;
    mp_a32 spare; /* the writer's: number of the next spare one */
    mp_a32 mark;  /* and whether it is in a chain, while they are counted */
    uint32_t pad;
    mp_a64 words[]; /* the key, filled up with zeroes, and the value */
};

/* Records are known by numbers from 1 on, so that 0 is none. All of this is the handle's. */
struct mp_table {
    struct mp_table_header *header;
    mp_a32 *buckets;
    char *records;
    uint64_t seed;
    uint64_t stride;
    uint32_t n_records; /* one more than entries: what replaces a record is never in its place */
    uint32_t bits;      /* of the number of buckets */
    uint32_t key_max;
    uint32_t value_max;
};

/* Where a key is, or would be. */
struct mp_table_place {
    mp_a32 *link;  /* what points there */
    uint32_t next; /* the number in it */
};

struct mp_bytes {
    const void *data;
    size_t size;
};

/* Compute the geometry. The bytes that it needs. */
uint64_t mp_table_shape(struct mp_table *t, uint32_t capacity, uint32_t key_max,
                        uint32_t value_max);
void mp_table_lie_at(struct mp_table *t, void *memory);

/* Empty, in memory that is ours alone. */
void mp_table_make(struct mp_table *t);

/* 1: there; 0: not; -ENOTRECOVERABLE: nonsense, or changed meanwhile. */
int mp_table_find(const struct mp_table *t, struct mp_bytes key, struct mp_table_place *ret);

/* The record after a key in order; with no bytes, the first. 1; 0: none; -ENOTRECOVERABLE. */
int mp_table_after(const struct mp_table *t, struct mp_bytes key, uint32_t *ret_number);

/* Copy out of a record. 0; -EMSGSIZE: no room; -ENOTRECOVERABLE. */
int mp_table_key(const struct mp_table *t, uint32_t number, void *ret, size_t *ret_size);
int mp_table_value(const struct mp_table *t, uint32_t number, void *ret, size_t room,
                   size_t *ret_size);

/* Is this its value? */
bool mp_table_value_is(const struct mp_table *t, uint32_t number, struct mp_bytes value);

/* By the writer, at a place just found. 0; -ENOBUFS, -ENOTRECOVERABLE. */
int mp_table_put(struct mp_table *t, const struct mp_table_place *place, bool found,
                 struct mp_bytes key, struct mp_bytes value);
void mp_table_delete(struct mp_table *t, const struct mp_table_place *place);

/* By a writer, after one that died: count, and gather what is spare. 0; -ENOTRECOVERABLE. */
int mp_table_gather(struct mp_table *t);
