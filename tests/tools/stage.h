/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Stages: arenas in a known state, for mpctl to look at.
 *
 *     stage SCENE NAME
 *
 * makes the scene in an arena of that name, prints lines "key value" and then "ready", and takes it
 * down when standard input ends. It fails loudly: a call that goes wrong is named and ends it.
 */

#include <stdint.h>
#include <sys/types.h>

#include <mp/mp.h>

/* stage.c */
void need(int r, const char *what);
#define NEED(call) need((call), #call)

void tell(const char *key, long value);
void ready(void);

/* Standard input has ended, within so many milliseconds. */
int is_over(int wait_ms);

/* A forked child that runs `act` and ends, and is killed when we end. */
pid_t start_child(void (*act)(void));
void kill_child(pid_t pid);

/* The scenes. */
void scene_objects(const char *name);
void scene_pool(const char *name);
void scene_many(const char *name);
void scene_churn(const char *name);
void scene_scribble(const char *name);
void scene_foreign(const char *name);
void scene_deadlocks(const char *name);
void scene_maze(const char *name);
