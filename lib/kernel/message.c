/* SPDX-License-Identifier: MIT */
/* Messages with descriptors. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/message.h"

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(MP_MESSAGE_FDS_MAX * sizeof(int))];
};

int mp_message_pair(int ret[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

static int send_message(int socket, const void *data, size_t size, const int *fds, unsigned n_fds,
                        int flags)
{
    struct iovec part = {.iov_base = (void *)(size_t)data, .iov_len = size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    union control control;

    if (n_fds > MP_MESSAGE_FDS_MAX)
        return -EINVAL;
    if (n_fds > 0) {
        control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                          .cmsg_type = SCM_RIGHTS,
                                          .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
        memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    }
    for (;;) {
        if (sendmsg(socket, &m, flags | MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return errno == ETOOMANYREFS ? -EMFILE : -errno;
    }
}

int mp_message_send(int socket, const void *data, size_t size, const int *fds, unsigned n_fds)
{
    return send_message(socket, data, size, fds, n_fds, 0);
}

int mp_message_offer(int socket, const void *data, size_t size, const int *fds, unsigned n_fds)
{
    return send_message(socket, data, size, fds, n_fds, MSG_DONTWAIT);
}

/* The descriptors that came with it; those that there is no room for are closed. */
static unsigned take_fds(struct msghdr *m, int *fds, unsigned room, unsigned *ret_closed)
{
    unsigned n = 0;

    *ret_closed = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (n < room) {
                fds[n++] = fd;
            } else {
                mp_closep(&fd);
                ++*ret_closed;
            }
        }
    }
    return n;
}

ssize_t mp_message_receive(int socket, void *data, size_t size, int *fds, unsigned *n_fds)
{
    struct iovec part = {.iov_base = data, .iov_len = size};
    union control control;
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    unsigned n, closed;
    ssize_t r;

    do
        r = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    n = take_fds(&m, fds, *n_fds, &closed);
    if (closed || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        while (n > 0)
            close(fds[--n]);
        return -EMSGSIZE;
    }
    *n_fds = n;
    return r;
}
