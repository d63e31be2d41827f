/* SPDX-License-Identifier: MIT */

/*
 * mp-checksum: SHA-256 of every file below some paths, by a pool of processes.
 *
 * It prints, to the byte, what this prints:
 *
 *     find PATH... -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
 *
 * The paths are walked and sorted first, as bytes. Then they flow through mp_pool_imap(): each
 * worker is given a path and gives back a digest, and the results come in the order of the paths,
 * so that they are printed as they come. A worker that dies takes nothing with it: the pool gives
 * its file to another one. --chaos shows it.
 *
 * A path that cannot be read is an error line on standard error; the others go on. Where there is
 * no file at all nothing is printed (xargs would run sha256sum once, on an empty input).
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include <mp/mp.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* A file to be read. */
struct file {
    char *path;
    uint64_t size;
};

/* All of them; the pool takes them from `next` on. */
struct files {
    struct file *files;
    size_t n, allocated;
    size_t next;
    size_t longest; /* path, with its NUL */
    uint64_t bytes;
};

/* What a worker gives back. */
struct digest {
    unsigned char bytes[32];
};

struct progress {
    int shown; /* 1: standard error is a terminal */
    int drawn; /* 1: there is a bar to be cleared */
    uint64_t start_ns, drawn_ns;
    uint64_t files, bytes;
    const struct files *all;
};

struct arguments {
    uint32_t workers;
    uint64_t chaos;
    enum mp_start_method method;
};

/* ---- In the workers ---- */

static void fd_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

MP_TASK(checksum)
{
    static unsigned char buffer[128 * 1024];
    static EVP_MD_CTX *context; /* made once in each worker */
    static EVP_MD *sha256;
    struct digest *digest = task->result;
    _cleanup_(fd_closep) int fd = -1;
    ssize_t n;

    if (!context)
        context = EVP_MD_CTX_new();
    if (!sha256)
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!context || !sha256 || !EVP_DigestInit_ex2(context, sha256, NULL))
        return -ENOMEM;

    fd = open(task->data, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    while ((n = read(fd, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (!EVP_DigestUpdate(context, buffer, (size_t)n))
            return -ENOMEM;
    }
    return EVP_DigestFinal_ex(context, digest->bytes, NULL) ? 0 : -ENOMEM;
}
