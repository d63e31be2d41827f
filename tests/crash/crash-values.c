/* SPDX-License-Identifier: MIT */
/*
 * Values, arrays and the map.
 *
 * A value is of nine words that all say the same, so that half of a write shows. It may be so only
 * for somebody who is told, or not at all where it is versioned. The map has four entries of six;
 * the one that the victim writes is old or new, the others are as they were, it is as long as it
 * says, and has room for six.
 */

#include <errno.h>
#include <string.h>

#include <mp/map.h>
#include <mp/value.h>

#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"
#include "kernel/futex.h"

#define WORDS 9u
#define CAPACITY 6u
#define ENTRIES 4u

enum { OLD = 1, NEW = 2, LAST = 3 };

/* Of the point that runs. */
static mp_value *value;
static mp_array *array;
static mp_map *map;

struct wide {
    uint64_t words[WORDS];
};

static struct wide wide_of(uint64_t n)
{
    struct wide w;

    for (unsigned i = 0; i < WORDS; i++)
        w.words[i] = n;
    return w;
}

/* What all of them say; 0: not all the same. */
static uint64_t number_of(const struct wide *w)
{
    for (unsigned i = 1; i < WORDS; i++)
        if (w->words[i] != w->words[0])
            return 0;
    return w->words[0];
}

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static void nothing(struct point *p)
{
    (void)p;
}

/* The victim's call returned. */
static void said(struct point *p, int r)
{
    if (r < 0)
        mp_store_seqcst(&p->note->complaints, 1);
    mp_store_seqcst(&p->note->stage, 1);
}

/* Old or new; new if the victim was told so. */
static bool is_expected(const struct point *p, uint64_t n)
{
    return n == NEW || (n == OLD && !mp_load_seqcst(&p->note->stage));
}

/* ---- values ---- */

static int set_to(uint64_t n)
{
    struct wide w = wide_of(n);

    return mp_value_set(value, &w, sizeof w);
}

static int get_number(uint64_t *ret)
{
    struct wide w = {0};
    int r = mp_value_get(value, &w, sizeof w);

    *ret = number_of(&w);
    return r;
}

static void make_value(struct point *p, uint32_t flags)
{
    struct wide w = wide_of(OLD);

    crash_must(p, mp_value_create(p->arena, "value",
                                  MP_VALUE_OPTIONS(.size = sizeof w, .flags = flags, .initial = &w),
                                  &value));
}

static void make_locked(struct point *p)
{
    make_value(p, 0);
}

static void make_versioned(struct point *p)
{
    make_value(p, MP_VALUE_VERSIONED);
}

static void set_new(struct point *p)
{
    said(p, set_to(NEW));
}

/* In the hands of the lock: half of it, then the other half. */
static void set_by_halves(struct point *p)
{
    uint64_t *words = mp_value_memory(value);

    crash_must(p, mp_value_lock(value, MP_FOREVER));
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = NEW;
    said(p, mp_value_unlock(value));
}

static void end_value(struct point *p)
{
    crash_must(p, mp_value_destroy(value));
    crash_check(p, mp_value_destroy(value) == -ESTALE);
    value = mp_value_close(value);
}

/* Whole, or told; told until somebody has put it in order. */
static void check_locked(struct point *p)
{
    uint64_t n, again;
    int r;

    survivors_join(p);
    r = get_number(&n);
    crash_must(p, r);
    if (r == 0)
        crash_check(p, is_expected(p, n));
    crash_check(p, get_number(&again) == r && again == n);
    crash_check(p, set_to(LAST) == r);
    crash_check(p, get_number(&n) == 0 && n == LAST);
    end_value(p);
}

/* Never anything but whole, for those who wait for nobody. */
static void look_at_version(struct point *p)
{
    uint64_t n;

    crash_must(p, get_number(&n));
    crash_check(p, n == OLD || n == NEW);
}

static void check_versioned(struct point *p)
{
    uint64_t n;

    survivors_join(p);
    crash_must(p, get_number(&n));
    crash_check(p, is_expected(p, n));
    crash_must(p, set_to(LAST));
    crash_check(p, get_number(&n) == 0 && n == LAST);
    end_value(p);
}

static void set_last(struct point *p, struct survivor *s)
{
    s->result = set_to(LAST);
    if (s->result < 0)
        crash_fail(p, "a survivor did not get the lock: %d", s->result);
}

static void hold_value(struct point *p, struct survivor *s)
{
    crash_must(p, mp_value_lock(value, MP_FOREVER));
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    crash_check(p, mp_value_unlock(value) == 0);
}

static void start_holder(struct point *p)
{
    struct survivor *s;

    make_locked(p);
    s = survivor_start(p, hold_value);
    crash_until(p, mp_load_seqcst(&s->result) == 1, "the holder");
}

static void let_go(struct point *p)
{
    mp_store_seqcst(&p->survivors[0].go, 1);
}

/* It had it before a waiter: who comes after all has the last word. */
static void start_waiter_and_let_go(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, set_last));
    let_go(p);
}

static void check_contended(struct point *p)
{
    uint64_t n;

    let_go(p);
    survivors_join(p);
    if (get_number(&n) == 0)
        crash_check(p, n == LAST || is_expected(p, n));
    crash_must(p, set_to(LAST));
    crash_check(p, get_number(&n) == 0 && n == LAST);
    end_value(p);
}

/* One that died half way, and of whose death nobody has heard. */
static void leave_half(struct point *p)
{
    uint64_t *words = mp_value_memory(value);

    crash_must(p, mp_value_lock(value, 0));
    words[0] = NEW;
}

static void make_half(struct point *p)
{
    struct victim v;

    make_locked(p);
    crash_fork(p, &v, leave_half, nothing);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first owner");
}

static void read_half(struct point *p)
{
    uint64_t n;

    if (get_number(&n) != MP_OWNER_DIED)
        mp_store_seqcst(&p->note->complaints, 1);
}

/* Reading it took the news from nobody. */
static void check_half(struct point *p)
{
    uint64_t n;

    crash_check(p, get_number(&n) == MP_OWNER_DIED);
    crash_check(p, set_to(LAST) == MP_OWNER_DIED);
    crash_check(p, get_number(&n) == 0 && n == LAST);
    end_value(p);
}

/* ---- numbers, and arrays ---- */

static void make_number(struct point *p, uint32_t flags)
{
    crash_must(p, mp_value_create(p->arena, "value",
                                  MP_VALUE_OPTIONS(.type = MP_TYPE_INT64, .flags = flags,
                                                   .initial = &(int64_t){OLD}),
                                  &value));
}

static void make_plain_number(struct point *p)
{
    make_number(p, 0);
}

static void make_versioned_number(struct point *p)
{
    make_number(p, MP_VALUE_VERSIONED);
}

static void add_one(struct point *p)
{
    said(p, mp_value_add(value, NEW - OLD, NULL));
}

/* A number is never half added. */
static void check_number(struct point *p)
{
    int64_t n = 0;

    crash_must(p, mp_value_get(value, &n, sizeof n));
    crash_check(p, is_expected(p, (uint64_t)n));
    crash_must(p, mp_value_add(value, 10, &n));
    crash_check(p, is_expected(p, (uint64_t)n - 10));
    end_value(p);
}

static void make_array(struct point *p)
{
    struct wide w = wide_of(OLD);

    crash_must(
        p, mp_array_create(p->arena, "array",
                           MP_ARRAY_OPTIONS(.type = MP_TYPE_UINT64, .length = WORDS, .initial = &w),
                           &array));
}

static void set_array(struct point *p)
{
    struct wide w = wide_of(NEW);

    said(p, mp_array_set_slice(array, 0, WORDS, &w, sizeof w));
}

static void check_array(struct point *p)
{
    struct wide w;
    int r = mp_array_get_slice(array, 0, WORDS, &w, sizeof w);

    crash_must(p, r);
    if (r == 0)
        crash_check(p, is_expected(p, number_of(&w)));
    w = wide_of(LAST);
    crash_check(p, mp_array_set_slice(array, 0, WORDS, &w, sizeof w) == r);
    crash_check(p, mp_array_get_slice(array, 0, WORDS, &w, sizeof w) == 0);
    crash_must(p, mp_array_destroy(array));
    array = mp_array_close(array);
}

/* ---- made and destroyed ---- */

static void create_one(struct point *p)
{
    mp_value *made;
    struct wide w = wide_of(NEW);

    said(p, mp_value_create(
                p->arena, "value",
                MP_VALUE_OPTIONS(.size = sizeof w, .flags = MP_VALUE_VERSIONED, .initial = &w),
                &made));
}

/* It is there, with all that is in it, or not at all. */
static void check_created(struct point *p)
{
    uint64_t n;
    int r = mp_value_open(p->arena, "value", &value);

    if (r == -ENOENT && !mp_load_seqcst(&p->note->stage))
        return;
    crash_must(p, r);
    crash_check(p, get_number(&n) == 0 && n == NEW);
    end_value(p);
}

static void destroy_one(struct point *p)
{
    said(p, mp_value_destroy(value));
}

static void check_destroyed(struct point *p)
{
    uint64_t n;

    survivors_wait_swept(p);
    if (get_number(&n) == -ESTALE) {
        crash_check(p, mp_value_open(p->arena, "value", &value) == -ENOENT);
        value = mp_value_close(value);
        return;
    }
    crash_check(p, !mp_load_seqcst(&p->note->stage) && n == OLD);
    end_value(p);
}

/* ---- the map ---- */

static void key_of(uint64_t k, char key[8])
{
    memcpy(key, "k-0-key", 8);
    key[2] = (char)('0' + k);
}

static int put(uint64_t k, uint64_t n)
{
    struct wide w = wide_of(n);
    char key[8];

    key_of(k, key);
    return mp_map_put(map, key, sizeof key, &w, sizeof w, MP_FOREVER);
}

/* 0: torn; negative: the error. */
static int64_t get(uint64_t k)
{
    struct wide w;
    size_t size = 0;
    char key[8];
    int r;

    key_of(k, key);
    r = mp_map_get(map, key, sizeof key, &w, sizeof w, &size);
    return r < 0 ? r : size == sizeof w ? (int64_t)number_of(&w) : 0;
}

static void make_map(struct point *p)
{
    crash_must(p, mp_map_create(p->arena, "map",
                                MP_MAP_OPTIONS(.capacity = CAPACITY, .key_max = 8,
                                               .value_max = sizeof(struct wide), .seed = 1),
                                &map));
    for (uint64_t k = 0; k < ENTRIES; k++)
        crash_must(p, put(k, OLD));
}

/* Some are spare, as well. */
static void make_used_map(struct point *p)
{
    char key[8];

    make_map(p);
    crash_must(p, put(5, OLD));
    key_of(5, key);
    crash_must(p, mp_map_delete(map, key, sizeof key, 0));
}

static void put_new(struct point *p)
{
    said(p, put(ENTRIES, NEW));
}

static void put_over(struct point *p)
{
    said(p, put(1, NEW));
}

static void put_if(struct point *p)
{
    struct wide old = wide_of(OLD), new = wide_of(NEW);
    char key[8];
    int r;

    key_of(1, key);
    r = mp_map_put_if(map, key, sizeof key, &old, sizeof old, &new, sizeof new, MP_FOREVER);
    said(p, r == 1 ? 0 : -EINVAL);
}

static void delete_one(struct point *p)
{
    char key[8];

    key_of(1, key);
    said(p, mp_map_delete(map, key, sizeof key, MP_FOREVER));
}

static void put_second(struct point *p, struct survivor *s)
{
    s->result = put(2, OLD);
    if (s->result < 0)
        crash_fail(p, "a survivor did not come to write: %d", s->result);
}

/* Those that the victim leaves alone. */
static void look_at_others(struct point *p, uint64_t but)
{
    for (uint64_t k = 0; k < ENTRIES; k++)
        crash_check(p, k == but || get(k) == OLD);
}

/* All that it should have, and no more: going through it, counting, and filling it up. */
static void check_rest(struct point *p, uint64_t n)
{
    struct wide w;
    char key[8];
    struct mp_map_item item = {.key = key, .value = &w};
    uint64_t len = 0, seen = 0;

    crash_must(p, mp_map_len(map, &len));
    while (seen <= CAPACITY && mp_map_next(map, &item) == 1) {
        crash_check(p, item.value_size == sizeof w && number_of(&w) != 0);
        seen++;
    }
    if (len != n || seen != n)
        crash_fail(p, "%llu entries, %llu seen, where there are %llu", (unsigned long long)len,
                   (unsigned long long)seen, (unsigned long long)n);
    for (uint64_t k = 0; k < CAPACITY; k++)
        crash_check(p, put(k, LAST) == 0);
    crash_check(p, put(CAPACITY, LAST) == -ENOBUFS);
    for (uint64_t k = 0; k < CAPACITY; k++)
        crash_check(p, get(k) == LAST);
    crash_must(p, mp_map_destroy(map));
    map = mp_map_close(map);
}

static void look_beside_new(struct point *p)
{
    int64_t n = get(ENTRIES);

    look_at_others(p, ENTRIES);
    crash_check(p, n == NEW || n == -ENOENT);
}

static void check_new(struct point *p)
{
    int64_t n;

    survivors_join(p);
    n = get(ENTRIES);
    look_at_others(p, ENTRIES);
    crash_check(p, n == NEW || (n == -ENOENT && !mp_load_seqcst(&p->note->stage)));
    check_rest(p, n == NEW ? ENTRIES + 1 : ENTRIES);
}

static void look_beside_over(struct point *p)
{
    int64_t n = get(1);

    look_at_others(p, 1);
    crash_check(p, n == NEW || n == OLD);
}

static void check_over(struct point *p)
{
    int64_t n;

    survivors_join(p);
    n = get(1);
    look_at_others(p, 1);
    crash_check(p, n > 0 && is_expected(p, (uint64_t)n));
    check_rest(p, ENTRIES);
}

static void check_deleted(struct point *p)
{
    int64_t n = get(1);

    look_at_others(p, 1);
    crash_check(p, n == -ENOENT || (n == OLD && !mp_load_seqcst(&p->note->stage)));
    check_rest(p, n == OLD ? ENTRIES : ENTRIES - 1);
}

/* The tracer is at it, as far as the map knows. */
static void hold_map(struct point *p)
{
    make_used_map(p);
    mp_store_seqcst(&p->arena->directory[0].word, mp_load_seqcst(&p->arena->self->token));
}

static void let_go_of_map(struct point *p)
{
    mp_a32 *word = &p->arena->directory[0].word;

    if (atomic_exchange(word, 0) & MP_TOKEN_WAITERS)
        mp_futex_wake(word, 1);
}

/* The victim sleeps, and another one behind it. */
static void start_writer_and_let_go(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, put_second));
    let_go_of_map(p);
}

static void check_contended_map(struct point *p)
{
    if (!p->woken)
        let_go_of_map(p);
    check_over(p);
}

static void put_and_be_killed(struct point *p)
{
    (void)p;
    put(ENTRIES + 1, OLD);
}

static bool has_turned(const struct point *p)
{
    (void)p;
    return get(ENTRIES + 1) == OLD;
}

/* One died when its entry was in the map, and neither counted nor taken from the spare ones. */
static void leave_dead_writer(struct point *p)
{
    static struct survey way;
    struct victim v;

    make_map(p);
    crash_fork(p, &v, join, put_and_be_killed);
    crash_step_until(p, &v, has_turned, &way);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first writer");
}

static void check_after_dead(struct point *p)
{
    int64_t n = get(1);

    look_at_others(p, 1);
    crash_check(p, n > 0 && is_expected(p, (uint64_t)n));
    crash_check(p, get(ENTRIES + 1) == OLD);
    check_rest(p, ENTRIES + 1);
}

static void create_map(struct point *p)
{
    mp_map *made;

    said(p, mp_map_create(p->arena, "map",
                          MP_MAP_OPTIONS(.capacity = CAPACITY, .key_max = 8,
                                         .value_max = sizeof(struct wide), .seed = 1),
                          &made));
}

static void check_created_map(struct point *p)
{
    int r = mp_map_open(p->arena, "map", &map);

    if (r == -ENOENT && !mp_load_seqcst(&p->note->stage))
        return;
    crash_must(p, r);
    check_rest(p, 0);
}

static void destroy_map(struct point *p)
{
    said(p, mp_map_destroy(map));
}

static void check_destroyed_map(struct point *p)
{
    uint64_t n;

    survivors_wait_swept(p);
    if (mp_map_len(map, &n) == -ESTALE) {
        map = mp_map_close(map);
        return;
    }
    crash_check(p, !mp_load_seqcst(&p->note->stage));
    check_rest(p, ENTRIES);
}

static const struct scenario values[] = {
    {.name = "value: set",
     .begin = make_locked,
     .prepare = join,
     .operate = set_new,
     .after = check_locked},
    {.name = "value: lock, set by halves",
     .begin = make_locked,
     .prepare = join,
     .operate = set_by_halves,
     .after = check_locked},
    {.name = "value: set, before a waiter",
     .begin = start_holder,
     .prepare = join,
     .operate = set_new,
     .asleep = start_waiter_and_let_go,
     .after = check_contended},
    {.name = "value: get, half written by the dead",
     .begin = make_half,
     .prepare = join,
     .operate = read_half,
     .after = check_half},
    {.name = "value: set, versioned",
     .begin = make_versioned,
     .prepare = join,
     .operate = set_new,
     .meanwhile = look_at_version,
     .after = check_versioned},
    {.name = "value: add",
     .begin = make_plain_number,
     .prepare = join,
     .operate = add_one,
     .after = check_number},
    {.name = "value: add, versioned",
     .begin = make_versioned_number,
     .prepare = join,
     .operate = add_one,
     .after = check_number},
    {.name = "value: create", .prepare = join, .operate = create_one, .after = check_created},
    {.name = "value: destroy",
     .begin = make_locked,
     .prepare = join,
     .operate = destroy_one,
     .after = check_destroyed},
    {.name = "array: set all",
     .begin = make_array,
     .prepare = join,
     .operate = set_array,
     .after = check_array},
};

const struct group crash_values = {"values", values, MP_ARRAY_SIZE(values)};

static const struct scenario maps[] = {
    {.name = "map: put, new",
     .begin = make_map,
     .prepare = join,
     .operate = put_new,
     .meanwhile = look_beside_new,
     .after = check_new},
    {.name = "map: put, new, in a spare record",
     .begin = make_used_map,
     .prepare = join,
     .operate = put_new,
     .meanwhile = look_beside_new,
     .after = check_new},
    {.name = "map: put, over another",
     .begin = make_map,
     .prepare = join,
     .operate = put_over,
     .meanwhile = look_beside_over,
     .after = check_over},
    {.name = "map: put, before a waiter",
     .begin = hold_map,
     .prepare = join,
     .operate = put_over,
     .asleep = start_writer_and_let_go,
     .after = check_contended_map},
    {.name = "map: put if",
     .begin = make_used_map,
     .prepare = join,
     .operate = put_if,
     .meanwhile = look_beside_over,
     .after = check_over},
    {.name = "map: delete",
     .begin = make_map,
     .prepare = join,
     .operate = delete_one,
     .after = check_deleted},
    {.name = "map: put, after a dead writer",
     .begin = leave_dead_writer,
     .prepare = join,
     .operate = put_over,
     .meanwhile = look_beside_over,
     .after = check_after_dead},
    {.name = "map: create", .prepare = join, .operate = create_map, .after = check_created_map},
    {.name = "map: destroy",
     .begin = make_map,
     .prepare = join,
     .operate = destroy_map,
     .after = check_destroyed_map},
};

const struct group crash_maps = {"maps", maps, MP_ARRAY_SIZE(maps)};
