/* SPDX-License-Identifier: MIT */
#pragma once

/* What /proc tells about processes, beyond lib/kernel/pidfd.h. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_COMMAND_MAX 64 /* 15 bytes, each perhaps as \xNN, and the NUL */

/* The name of the command, escaped; empty: not to be known. */
void proc_command(pid_t pid, char ret[PROC_COMMAND_MAX]);

/* Milliseconds since a process that started at this tick (mp_task_start()) did so. */
uint64_t proc_age_ms(uint64_t start);

bool proc_is_kernel_thread(pid_t pid);

/* Inode of the process's pid namespace (0: not to be known), and its pid there. */
uint32_t proc_namespace(pid_t pid);
pid_t proc_inner_pid(pid_t pid);

/* "running", "stopped" ... for a state letter of /proc/PID/stat; "gone" for 0. */
const char *proc_state(char letter);
