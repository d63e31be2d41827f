/* SPDX-License-Identifier: MIT */
/* Words for people: names that others chose, sizes, spans of time. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

void text_escape(char *ret, size_t size, const char *bytes, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n && bytes[i]; i++) {
        unsigned char c = (unsigned char)bytes[i];
        char word[5];
        int length;

        if (c == '\\')
            length = snprintf(word, sizeof word, "\\\\");
        else if (c >= ' ' && c <= '~')
            length = snprintf(word, sizeof word, "%c", c);
        else
            length = snprintf(word, sizeof word, "\\x%02x", c);
        if (at + (size_t)length >= size)
            break;
        memcpy(ret + at, word, (size_t)length);
        at += (size_t)length;
    }
    ret[at] = '\0';
}

void text_size(char ret[16], uint64_t bytes)
{
    static const char units[] = "BKMGTPE";
    unsigned unit = 0;
    double n = (double)bytes;

    /* 1023.95 would be written as 1024.0. */
    while (n >= 1023.95 && unit + 2 < sizeof units) {
        n /= 1024;
        unit++;
    }
    if (n >= 99.95 || n - (double)(uint64_t)n < 0.05)
        snprintf(ret, 16, "%.0f%c", n, units[unit]);
    else
        snprintf(ret, 16, "%.1f%c", n, units[unit]);
}

void text_span(char ret[32], uint64_t ms)
{
    uint64_t s = ms / 1000;

    if (ms < 1000)
        snprintf(ret, 32, "%" PRIu64 "ms", ms);
    else if (s < 60)
        snprintf(ret, 32, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
    else if (s < 3600)
        snprintf(ret, 32, "%" PRIu64 "min %" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(ret, 32, "%" PRIu64 "h %" PRIu64 "min", s / 3600, s / 60 % 60);
    else
        snprintf(ret, 32, "%" PRIu64 "d %" PRIu64 "h", s / 86400, s / 3600 % 24);
}

int text_number(const char *word, uint64_t *ret_number)
{
    uint64_t n;

    if (!word[0] || word[strspn(word, "0123456789")])
        return -EINVAL;
    errno = 0;
    n = strtoull(word, NULL, 10);
    if (errno)
        return -EINVAL;
    *ret_number = n;
    return 0;
}
