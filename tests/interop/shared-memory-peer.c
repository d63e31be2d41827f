/* SPDX-License-Identifier: MIT */
/*
 * The C side of shared-memory.py: one command a line on standard input, one answer a line on
 * standard output, which is "ok", "ok VALUE..." or "error NAME".
 *
 *   create NAME SIZE          open NAME             size       links      close     unlink
 *   read OFFSET SIZE          write OFFSET HEX
 *   list-create NAME ITEM...  list-open NAME        list-all   list-close list-unlink
 *   list-get INDEX            list-set INDEX ITEM   list-count ITEM       list-index ITEM
 *
 * A NAME of "-" has one made up; create and list-create answer with it. An ITEM is n, b:0, b:1,
 * i:DECIMAL, d:HEXADECIMAL-FLOAT, s:HEX or y:HEX.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mp/mp.h>

#include "base/cleanup.h"
#include "base/macro.h"

#define WORDS 64
#define BUFFER 65536

struct peer {
    mp_shared_memory *memory;
    mp_shareable_list *list;
    char buffer[BUFFER];
};

typedef int (*command_fn)(struct peer *p, int n, char **words);

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* In place. */
static size_t from_hex(char *text)
{
    size_t n = strlen(text) / 2;

    for (size_t i = 0; i < n; i++)
        text[i] = (char)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    return n;
}

static void print_hex(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", ((const unsigned char *)data)[i]);
}

static struct mp_list_item read_item(char *word)
{
    char *value = word + 2;

    switch (word[0]) {
    case 'b':
        return mp_list_item_bool(value[0] == '1');
    case 'i':
        return mp_list_item_integer(strtoll(value, NULL, 10));
    case 'd':
        return mp_list_item_double(strtod(value, NULL));
    case 's':
        return (struct mp_list_item){
            .type = MP_LIST_ITEM_STRING, .data = value, .size = from_hex(value)};
    case 'y':
        return mp_list_item_bytes(value, from_hex(value));
    default:
        return mp_list_item_none();
    }
}

static void print_item(const struct mp_list_item *item)
{
    switch (item->type) {
    case MP_LIST_ITEM_BOOL:
        printf(" b:%" PRId64, item->integer);
        break;
    case MP_LIST_ITEM_INTEGER:
        printf(" i:%" PRId64, item->integer);
        break;
    case MP_LIST_ITEM_DOUBLE:
        printf(" d:%a", item->real);
        break;
    case MP_LIST_ITEM_STRING:
    case MP_LIST_ITEM_BYTES:
        printf(" %c:", item->type == MP_LIST_ITEM_STRING ? 's' : 'y');
        print_hex(item->data, item->size);
        break;
    default:
        printf(" n");
    }
}

/* Each command below prints its values after an "ok" of its own, or returns an error. */

static const char *name_or_null(const char *word)
{
    return strcmp(word, "-") == 0 ? NULL : word;
}

static int do_create(struct peer *p, int n, char **words)
{
    int r =
        mp_shared_memory_create(name_or_null(words[1]), strtoul(words[2], NULL, 10), &p->memory);

    (void)n;
    if (r == 0)
        printf("ok %s", mp_shared_memory_name(p->memory));
    return r;
}

static int do_open(struct peer *p, int n, char **words)
{
    int r = mp_shared_memory_open(words[1], &p->memory);

    (void)n;
    if (r == 0)
        printf("ok");
    return r;
}

static int do_size(struct peer *p, int n, char **words)
{
    (void)n, (void)words;
    printf("ok %zu", mp_shared_memory_size(p->memory));
    return 0;
}

static int do_links(struct peer *p, int n, char **words)
{
    int r = mp_shared_memory_links(p->memory);

    (void)n, (void)words;
    if (r >= 0)
        printf("ok %d", r);
    return r;
}

static int do_close(struct peer *p, int n, char **words)
{
    (void)n, (void)words;
    p->memory = mp_shared_memory_close(p->memory);
    printf("ok");
    return 0;
}

static int do_unlink(struct peer *p, int n, char **words)
{
    int r = mp_shared_memory_unlink(p->memory);

    (void)n, (void)words;
    if (r == 0)
        printf("ok");
    return r;
}

static int do_read(struct peer *p, int n, char **words)
{
    size_t size = strtoul(words[2], NULL, 10);
    int r;

    (void)n;
    assert(size <= BUFFER);
    r = mp_shared_memory_read(p->memory, strtoul(words[1], NULL, 10), p->buffer, size);
    if (r < 0)
        return r;
    printf("ok ");
    print_hex(p->buffer, size);
    return 0;
}

static int do_write(struct peer *p, int n, char **words)
{
    size_t size = from_hex(words[2]);
    int r = mp_shared_memory_write(p->memory, strtoul(words[1], NULL, 10), words[2], size);

    (void)n;
    if (r == 0)
        printf("ok");
    return r;
}

static int do_list_create(struct peer *p, int n, char **words)
{
    struct mp_list_item items[WORDS];
    int r;

    for (int i = 2; i < n; i++)
        items[i - 2] = read_item(words[i]);
    r = mp_shareable_list_create(name_or_null(words[1]), items, (size_t)n - 2, &p->list);
    if (r == 0)
        printf("ok %s", mp_shared_memory_name(mp_shareable_list_memory(p->list)));
    return r;
}

static int do_list_open(struct peer *p, int n, char **words)
{
    int r = mp_shareable_list_open(words[1], &p->list);

    (void)n;
    if (r == 0)
        printf("ok %zu", mp_shareable_list_length(p->list));
    return r;
}

static int do_list_get(struct peer *p, int n, char **words)
{
    struct mp_list_item item;
    int r = mp_shareable_list_get(p->list, strtoul(words[1], NULL, 10), p->buffer, BUFFER, &item);

    (void)n;
    if (r < 0)
        return r;
    printf("ok");
    print_item(&item);
    return 0;
}

/* "?" for an item that can not be read. */
static int do_list_all(struct peer *p, int n, char **words)
{
    (void)n, (void)words;
    printf("ok");
    for (size_t i = 0; i < mp_shareable_list_length(p->list); i++) {
        struct mp_list_item item;

        if (mp_shareable_list_get(p->list, i, p->buffer, BUFFER, &item) < 0)
            printf(" ?");
        else
            print_item(&item);
    }
    return 0;
}

static int do_list_set(struct peer *p, int n, char **words)
{
    struct mp_list_item item = read_item(words[2]);
    int r = mp_shareable_list_set(p->list, strtoul(words[1], NULL, 10), &item);

    (void)n;
    if (r == 0)
        printf("ok");
    return r;
}

static int do_list_count(struct peer *p, int n, char **words)
{
    struct mp_list_item item = read_item(words[1]);
    size_t count;
    int r = mp_shareable_list_count(p->list, &item, &count);

    (void)n;
    if (r == 0)
        printf("ok %zu", count);
    return r;
}

static int do_list_index(struct peer *p, int n, char **words)
{
    struct mp_list_item item = read_item(words[1]);
    size_t index;
    int r = mp_shareable_list_index(p->list, &item, &index);

    (void)n;
    if (r == 0)
        printf("ok %zu", index);
    return r;
}

static int do_list_close(struct peer *p, int n, char **words)
{
    (void)n, (void)words;
    p->list = mp_shareable_list_close(p->list);
    printf("ok");
    return 0;
}

static int do_list_unlink(struct peer *p, int n, char **words)
{
    int r = mp_shared_memory_unlink(mp_shareable_list_memory(p->list));

    (void)n, (void)words;
    if (r == 0)
        printf("ok");
    return r;
}

static const struct {
    const char *name;
    int words;
    command_fn run;
} commands[] = {
    {"create", 3, do_create},
    {"open", 2, do_open},
    {"size", 1, do_size},
    {"links", 1, do_links},
    {"close", 1, do_close},
    {"unlink", 1, do_unlink},
    {"read", 3, do_read},
    {"write", 3, do_write},
    {"list-create", 2, do_list_create},
    {"list-open", 2, do_list_open},
    {"list-get", 2, do_list_get},
    {"list-all", 1, do_list_all},
    {"list-set", 3, do_list_set},
    {"list-count", 2, do_list_count},
    {"list-index", 2, do_list_index},
    {"list-close", 1, do_list_close},
    {"list-unlink", 1, do_list_unlink},
};

static void run(struct peer *p, char *line)
{
    char *words[WORDS], *rest = NULL;
    int n = 0, r = -ENOSYS;

    for (char *w = strtok_r(line, " \n", &rest); w; w = strtok_r(NULL, " \n", &rest)) {
        assert(n < WORDS);
        words[n++] = w;
    }
    for (size_t i = 0; n > 0 && i < MP_ARRAY_SIZE(commands); i++)
        if (strcmp(words[0], commands[i].name) == 0 && n >= commands[i].words)
            r = commands[i].run(p, n, words);
    if (r < 0)
        printf("error %s", strerrorname_np(-r));
    printf("\n");
    fflush(stdout);
}

int main(void)
{
    _cleanup_free_ char *line = NULL;
    static struct peer peer;
    size_t size = 0;

    while (getline(&line, &size, stdin) > 0)
        run(&peer, line);
    mp_shareable_list_close(peer.list);
    mp_shared_memory_close(peer.memory);
    return 0;
}
