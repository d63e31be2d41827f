/* SPDX-License-Identifier: MIT */
#pragma once

/* JSON, written compactly and spread out afterwards. */

#include <stdbool.h>
#include <stdio.h>

/* A string with its quotes. It is printable ASCII, as text_escape() leaves it. */
void json_string(FILE *stream, const char *s);

/* Prints compact JSON and a newline; pretty: with one line a value. */
void json_print(FILE *stream, const char *compact, bool pretty);
