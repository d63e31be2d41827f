/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tokens: how a participant is named in the words of sync objects: {waiters:1, generation:20,
 * slot+1:11}.
 *
 * The generation makes a word void at once when its owner is declared dead, without a scan. Twenty
 * bits of it: a word that is left alone while one slot is used 2^20 times would look alive again;
 * slots are handed out in turn, so that takes 2^20 times the number of slots.
 */

#include "arena/layout.h"

#define MP_TOKEN_WAITERS 0x80000000u
#define MP_TOKEN_SLOT_BITS 11
#define MP_TOKEN_SLOT_MASK ((1u << MP_TOKEN_SLOT_BITS) - 1)
#define MP_TOKEN_GENERATION_MASK ((1u << 20) - 1)
#define MP_TOKEN_DIED \
    0x7ffu /* nobody holds it, and the next is to be told that the last one died */
#define MP_TOKEN_DESTROYED 0x7feu /* the object is gone */
#define MP_TOKEN_READ 0x7fdu      /* nobody holds it, and a rwlock may have readers */

static inline bool mp_token_is_nobody(uint32_t token)
{
    return token == 0 || token - MP_TOKEN_READ <= MP_TOKEN_DIED - MP_TOKEN_READ;
}

/* What of a generation stands in a token: one more, so that (but for one in 2^20) it is not 0. */
static inline uint32_t mp_token_tag(uint32_t generation)
{
    return (generation + 1) & MP_TOKEN_GENERATION_MASK;
}

static inline uint32_t mp_token(uint32_t slot, uint32_t generation)
{
    return mp_token_tag(generation) << MP_TOKEN_SLOT_BITS | (slot + 1);
}

/* The slot named, which may be out of range; tokens that name nobody give one that is. */
static inline uint32_t mp_token_slot(uint32_t token)
{
    return (token & MP_TOKEN_SLOT_MASK) - 1;
}

static inline uint32_t mp_token_generation_tag(uint32_t token)
{
    return token >> MP_TOKEN_SLOT_BITS & MP_TOKEN_GENERATION_MASK;
}
