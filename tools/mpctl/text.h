/* SPDX-License-Identifier: MIT */
#pragma once

/* Words for people: names that others chose, sizes, spans of time. */

#include <stddef.h>
#include <stdint.h>

/* Room for the longest name of a memfd (249 bytes) with every byte escaped. */
#define TEXT_NAME_MAX 1024

/*
 * Names come from processes that are not trusted: what is not printable ASCII is written as \xNN,
 * and a backslash as two, so that no name can move the cursor, look like another, or spoil JSON.
 * Ends at a NUL, after n bytes, or where the next character would not fit.
 */
void text_escape(char *ret, size_t size, const char *bytes, size_t n);

/* "0B", "640K", "1.5M" */
void text_size(char ret[16], uint64_t bytes);

/* "12ms", "3.4s", "5min 3s", "2h 5min", "3d 4h" */
void text_span(char ret[32], uint64_t ms);

/* A whole word of decimal digits. 0; -EINVAL. */
int text_number(const char *word, uint64_t *ret_number);
