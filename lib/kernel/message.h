/* SPDX-License-Identifier: MIT */
#pragma once

/* Messages with descriptors, over a SOCK_SEQPACKET socket. None of these raises SIGPIPE. */

#include <stddef.h>
#include <sys/types.h>

#define MP_MESSAGE_FDS_MAX 253 /* the kernel's */

/* A connected pair of such sockets, CLOEXEC. 0; a negative errno. */
int mp_message_pair(int ret[2]);

/* 0; -EPIPE, -ECONNRESET: nobody is there; -EMFILE: the receiver is slow to take descriptors; other
 * negative errno. Waits while the socket is full. */
int mp_message_send(int socket, const void *data, size_t size, const int *fds, unsigned n_fds);

/* The same without waiting: -EAGAIN. */
int mp_message_offer(int socket, const void *data, size_t size, const int *fds, unsigned n_fds);

/*
 * The next message, without waiting. `*n_fds` is how many descriptors there is room for, and then
 * how many came; they are CLOEXEC, and the caller's. Its size; 0: the other end is closed; -EAGAIN;
 * -EMSGSIZE: it was longer, or had more descriptors, or there was no room for them in this process:
 * all of it is gone; other negative errno.
 */
ssize_t mp_message_receive(int socket, void *data, size_t size, int *fds, unsigned *n_fds);
