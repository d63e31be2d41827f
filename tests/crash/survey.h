/* SPDX-License-Identifier: MIT */
#pragma once

/* What an operation does, instruction by instruction, as seen by stepping through it once. */

#include <stdbool.h>
#include <stdint.h>

#include "crash/stepper.h"

struct point;

struct survey_step {
    uint64_t address; /* after so many instructions */
    uint32_t nth;     /* how often it had been there before */
    bool changed;     /* by the last of them: something that outlives the process */
};

struct survey {
    struct survey_step *steps; /* n + 2 of them */
    uint64_t n;
    uint64_t states;
    uint64_t room;
    struct survey_image *image;
};

/* Note where the victim stands: first before its first instruction, then after each. `p`: look
 * what changed, too; may be NULL. */
void survey_note(struct survey *s, const struct victim *v, const struct point *p);
void survey_end(struct survey *s);
void survey_free(struct survey *s);

/* The quickest way to instruction k: run *ret_times times to the address given, and one is at
 * instruction *ret_at. 0: there is none better than to step from the beginning. */
uint64_t survey_anchor(const struct survey *s, uint64_t k, uint64_t *ret_at, uint32_t *ret_times);
