/* SPDX-License-Identifier: MIT */
#pragma once

/* A process's own forkserver. */

#include "process/process.h"

/* What it runs (server.c). */
mp_entry_fn *mp_forkserver_entry(void);

/* Under the gate. As the other starts; and the connection over which its end is reported. */
int mp_start_forkserver(struct mp_household *household, const struct mp_start *start,
                        pid_t *ret_pid, int *ret_pidfd, int *ret_report_fd);

/* What the server reported of an ended child. 1: `info`; 0: nothing yet; -EPIPE: nothing will
 * come. */
int mp_forkserver_report(int report_fd, int *ret_status, struct rusage *ret_usage);

/* End it, if there is one. */
void mp_forkserver_end(struct mp_household *household);
