/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Progress in one line on standard error: files and bytes done, how fast, how long it will take.
 *
 * Only where standard error is a terminal; elsewhere all of this does nothing. The line is drawn
 * ten times a second at most, in as many words as fit the terminal, and cleared before anything
 * else is written there.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct progress {
    int is_shown;
    int is_drawn;
    int is_shared; /* standard output is a terminal as well: most likely the same one */
    uint64_t files, all_files, bytes, all_bytes;
    uint64_t start_ns, drawn_ns;
};

static inline uint64_t progress_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline void progress_init(struct progress *p, uint64_t all_files, uint64_t all_bytes)
{
    *p = (struct progress){
        .is_shown = isatty(STDERR_FILENO),
        .is_shared = isatty(STDOUT_FILENO),
        .all_files = all_files,
        .all_bytes = all_bytes,
        .start_ns = progress_now(),
    };
}

static inline void progress_clear(struct progress *p)
{
    if (p->is_drawn)
        fputs("\r\033[K", stderr);
    p->is_drawn = 0;
}

/* Adds a field to a line, if it still fits. */
__attribute__((format(printf, 3, 4))) static inline void progress_field(char *line, size_t width,
                                                                        const char *format, ...)
{
    char field[64];
    va_list args;

    va_start(args, format);
    vsnprintf(field, sizeof field, format, args);
    va_end(args);
    if (strlen(line) + strlen(field) <= width)
        strcat(line, field);
}

static inline void progress_draw(struct progress *p)
{
    /* Opening a file takes about as long as reading 16 KiB, so empty files count as well. */
    double part = ((double)p->bytes + 16384 * (double)p->files) /
                  ((double)p->all_bytes + 16384 * (double)p->all_files);
    uint64_t now = progress_now();
    double seconds = (double)(now - p->start_ns) / 1e9;
    uint64_t left = part > 0 && part < 1 ? (uint64_t)(seconds / part - seconds) : 0;
    struct winsize window = {};
    char line[201] = "";
    size_t width;
    int bar, digits = p->all_bytes < 10000000 ? 1 : 0;

    if (!p->is_shown || now - p->drawn_ns < 100000000)
        return;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) < 0 || window.ws_col == 0)
        window.ws_col = 80;
    width = window.ws_col < 200 ? window.ws_col - 1u : 200; /* the last column might wrap */

    progress_field(line, width, "%3.0f%%", 100 * part);
    progress_field(line, width, "  %" PRIu64 "/%" PRIu64 " files", p->files, p->all_files);
    progress_field(line, width, "  %.*f/%.*f MB", digits, (double)p->bytes / 1e6, digits,
                   (double)p->all_bytes / 1e6);
    progress_field(line, width, "  %.*f MB/s", digits, (double)p->bytes / 1e6 / seconds);
    progress_field(line, width, "  %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " left", left / 3600,
                   left / 60 % 60, left % 60);
    bar = (int)(width - strlen(line)) - 4;
    bar = bar > 40 ? 40 : bar;
    if (bar >= 8)
        progress_field(line, width, "  [%-*.*s]", bar, (int)(bar * part),
                       "########################################");
    fprintf(stderr, "\r\033[K%s", line);
    p->is_drawn = 1;
    p->drawn_ns = now;
}
