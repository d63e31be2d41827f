/* SPDX-License-Identifier: MIT */
/*
 * JSON, written compactly and spread out afterwards.
 *
 * libsmartcols of Debian 12 writes JSON as well, but in one layout only, and can not put a list of
 * objects (the waiters of a lock) into a cell; so this is done here. What is written has no
 * spaces outside of strings, so spreading it out needs no parser.
 */

#include "json.h"

void json_string(FILE *stream, const char *s)
{
    putc('"', stream);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            putc('\\', stream);
        putc(*s, stream);
    }
    putc('"', stream);
}

static void new_line(FILE *stream, unsigned depth)
{
    putc('\n', stream);
    while (depth-- > 0)
        fputs("    ", stream);
}

/* A string, from its first quote. Returns the last. */
static const char *copy_string(FILE *stream, const char *p)
{
    do {
        putc(*p, stream);
        if (*p == '\\')
            putc(*++p, stream);
        p++;
    } while (*p != '"');
    putc('"', stream);
    return p;
}

static void print_pretty(FILE *stream, const char *p)
{
    unsigned depth = 0;

    for (; *p; p++) {
        switch (*p) {
        case '"':
            p = copy_string(stream, p);
            break;
        case '{':
        case '[':
            putc(*p, stream);
            if (p[1] == '}' || p[1] == ']')
                putc(*++p, stream);
            else
                new_line(stream, ++depth);
            break;
        case '}':
        case ']':
            new_line(stream, --depth);
            putc(*p, stream);
            break;
        case ',':
            putc(*p, stream);
            new_line(stream, depth);
            break;
        case ':':
            fputs(": ", stream);
            break;
        default:
            putc(*p, stream);
        }
    }
}

void json_print(FILE *stream, const char *compact, bool pretty)
{
    if (pretty)
        print_pretty(stream, compact);
    else
        fputs(compact, stream);
    putc('\n', stream);
}
