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
#include <inttypes.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include <mp/mp.h>

#include "progress.h"

#define _cleanup_(f) __attribute__((cleanup(f)))

#define WORKERS_MAX 512

/* How often a file may be begun under --chaos. A file that waits to be printed stops the printing,
 * and with it the killing, so it is begun this often only by very bad luck. */
#define TRIES_MAX 255

#ifndef VERSION
#define VERSION "unknown"
#endif

/* What a worker gives back. */
struct digest {
    unsigned char bytes[32];
};

struct file {
    char *path;
    uint64_t size;
};

/* The files, in the order of their paths; the pool is given those from next on. */
struct list {
    struct file *files;
    size_t n, allocated, next;
    size_t longest; /* path in bytes, with its NUL */
    uint64_t bytes;
    int failed; /* 1: something could not be read */
    struct progress progress;
};

struct arguments {
    uint32_t workers;
    uint64_t chaos; /* 0: kill nobody */
    enum mp_start_method method;
};

/* In the workers: read one file. */

static void closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

MP_TASK(checksum)
{
    static unsigned char buffer[128 * 1024];
    static EVP_MD_CTX *context; /* made once in each worker */
    struct digest *digest = task->result;
    _cleanup_(closep) int fd = -1;
    ssize_t n;

    if (!context)
        context = EVP_MD_CTX_new();
    if (!context || !EVP_DigestInit_ex(context, EVP_sha256(), NULL))
        return -ENOMEM;

    fd = open(task->data, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    while ((n = read(fd, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && !EVP_DigestUpdate(context, buffer, (size_t)n))
            return -ENOMEM;
    }
    return EVP_DigestFinal_ex(context, digest->bytes, NULL) ? 0 : -ENOMEM;
}

/* What is printed. */

/* As sha256sum does: the three bytes that would spoil the line are escaped... */
static void print_path(FILE *stream, const char *path)
{
    for (; *path; path++)
        if (*path == '\\')
            fputs("\\\\", stream);
        else if (*path == '\n')
            fputs("\\n", stream);
        else if (*path == '\r')
            fputs("\\r", stream);
        else
            putc(*path, stream);
}

/* ... and a backslash before the digest says so. */
static void print_digest(const char *path, const struct digest *digest)
{
    if (strpbrk(path, "\\\n\r"))
        putchar('\\');
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        putchar("0123456789abcdef"[digest->bytes[i] >> 4]);
        putchar("0123456789abcdef"[digest->bytes[i] & 15]);
    }
    fputs("  ", stdout);
    print_path(stdout, path);
    putchar('\n');
}

static void complain(struct list *list, const char *path, const char *why)
{
    progress_clear(&list->progress);
    fputs("mp-checksum: ", stderr);
    print_path(stderr, path);
    fprintf(stderr, ": %s\n", why);
    list->failed = 1;
}

static void print_result(struct list *list, const struct file *file, const struct mp_item *item)
{
    if (list->progress.is_shared)
        progress_clear(&list->progress);
    if (item->error == -EOWNERDEAD)
        complain(list, file->path, "the processes that read it died");
    else if (item->error)
        complain(list, file->path, strerror(-item->error));
    else
        print_digest(file->path, item->data);
    list->progress.files++;
    list->progress.bytes += file->size;
}

/* The list of files. */

static void list_deinit(struct list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->files[i].path);
    free(list->files);
}

static void list_add(struct list *list, const char *path, uint64_t size)
{
    size_t length = strlen(path) + 1;

    if (list->n == list->allocated) {
        list->allocated = list->allocated ? 2 * list->allocated : 1024;
        list->files = reallocarray(list->files, list->allocated, sizeof *list->files);
        if (!list->files)
            err(1, "cannot hold so many paths");
    }
    list->files[list->n].path = strdup(path);
    if (!list->files[list->n].path)
        err(1, "cannot hold so many paths");
    list->files[list->n++].size = size;
    list->bytes += size;
    list->longest = length > list->longest ? length : list->longest;
}

/* Adds the regular files at and below path; like find, follows no symbolic link. */
static void list_walk(struct list *list, char *path)
{
    FTS *fts = fts_open((char *[]){path, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;

    if (!fts) {
        complain(list, path, strerror(errno));
        return;
    }
    for (errno = 0; (entry = fts_read(fts)); errno = 0) {
        if (entry->fts_info == FTS_F)
            list_add(list, entry->fts_path, (uint64_t)entry->fts_statp->st_size);
        else if (entry->fts_info == FTS_DC)
            complain(list, entry->fts_path, strerror(ELOOP));
        else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
                 entry->fts_info == FTS_NS)
            complain(list, entry->fts_path, strerror(entry->fts_errno));
    }
    if (errno)
        complain(list, path, strerror(errno));
    fts_close(fts);
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

/* The pool asks for the next item: a path. */
static ssize_t next_path(void *user, void *item, size_t item_size)
{
    struct list *list = user;
    const char *path;

    if (list->next == list->n)
        return -ENODATA;
    path = list->files[list->next++].path;
    return stpncpy(item, path, item_size) - (char *)item + 1;
}

/*
 * Chaos: kills a random worker. Between the look at the pids and the opening of one it may end, and
 * its number be another process's. So look again once the pidfd is open: the pool forgets a pid
 * before it is free for others, and from then on the pidfd can mean nobody else.
 */
static int is_worker(mp_pool *pool, pid_t pid)
{
    pid_t pids[WORKERS_MAX];
    int n = mp_pool_worker_pids(pool, pids, WORKERS_MAX);

    for (int i = 0; i < n; i++)
        if (pids[i] == pid)
            return 1;
    return 0;
}

static uint64_t kill_worker(mp_pool *pool)
{
    pid_t pids[WORKERS_MAX], pid;
    int n = mp_pool_worker_pids(pool, pids, WORKERS_MAX);
    _cleanup_(closep) int fd = -1;

    if (n <= 0)
        return 0;
    pid = pids[random() % n];
    fd = pidfd_open(pid, 0);
    return fd >= 0 && is_worker(pool, pid) && pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0;
}

/* The main job: the list through the pool, and what comes back printed. */
static int checksum_all(struct list *list, const struct arguments *arguments)
{
    _cleanup_(mp_pool_freep) mp_pool *pool = NULL;
    _cleanup_(mp_iterator_freep) mp_iterator *iterator = NULL;
    struct mp_item item;
    uint64_t killed = 0;
    int r;

    r = mp_pool_new(MP_POOL_OPTIONS(.name = "mp-checksum", .workers = arguments->workers,
                                    .method = arguments->method,
                                    .tries = arguments->chaos ? TRIES_MAX : 0),
                    &pool);
    if (r < 0)
        return r;
    /* Small files travel together: the way to a worker costs as much as reading one. */
    r = mp_pool_imap(pool, checksum, next_path, list, list->longest, sizeof(struct digest),
                     MP_ASYNC_OPTIONS(.chunksize = list->bytes / list->n < 65536 ? 16 : 1),
                     &iterator);
    if (r < 0)
        return r;

    progress_init(&list->progress, list->n, list->bytes);
    while ((r = mp_iterator_next(iterator, MP_MSEC(100), &item)) == 1 || r == -ETIMEDOUT) {
        if (r == 1) {
            print_result(list, &list->files[item.index], &item);
            if (ferror(stdout))
                break; /* main() will tell */
            if (arguments->chaos && list->progress.files % arguments->chaos == 0)
                killed += kill_worker(pool);
        }
        progress_draw(&list->progress);
    }
    progress_clear(&list->progress);
    if (arguments->chaos)
        fprintf(stderr, "mp-checksum: killed %" PRIu64 " workers\n", killed);
    return r < 0 ? r : 0;
}

/* The command line. */

static const char help[] =
    "Usage: mp-checksum [OPTION]... PATH...\n"
    "Print the SHA-256 of every regular file at and below each PATH, in the order of\n"
    "the paths as bytes, read by a pool of processes. The output is that of\n"
    "  find PATH... -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum\n"
    "\n"
    "  -j, --jobs=N           processes that read; 1 to 512, default: one a CPU\n"
    "      --start=METHOD     how they are started: fork (default), spawn,\n"
    "                         or forkserver\n"
    "      --chaos=N          kill a random one after every N files; the output\n"
    "                         stays the same\n"
    "  -h, --help             print this\n"
    "  -V, --version          print the version\n"
    "\n"
    "Symbolic links are not followed. What cannot be read is told on standard error,\n"
    "where progress is shown if it is a terminal.\n"
    "\n"
    "Exit status: 0 all was read, 1 something was not, 2 wrong usage.\n";

__attribute__((noreturn)) static void usage(const char *what, const char *word)
{
    fprintf(stderr, "mp-checksum: %s%s%s; see --help\n", what, word ? ": " : "", word ? word : "");
    exit(2);
}

static uint64_t parse_number(const char *text, uint64_t max, const char *what)
{
    char *end;
    uint64_t n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || n < 1 || n > max)
        usage(what, text);
    return n;
}

static struct arguments parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"jobs", required_argument, NULL, 'j'},  {"chaos", required_argument, NULL, 'c'},
        {"start", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},     {},
    };
    struct arguments arguments = {};
    int option;

    while ((option = getopt_long(argc, argv, "j:hV", options, NULL)) >= 0) {
        if (option == 'j')
            arguments.workers = (uint32_t)parse_number(optarg, WORKERS_MAX, "wrong number of jobs");
        else if (option == 'c')
            arguments.chaos = parse_number(optarg, UINT64_MAX, "wrong number for --chaos");
        else if (option == 's' && strcmp(optarg, "fork") == 0)
            arguments.method = MP_START_FORK;
        else if (option == 's' && strcmp(optarg, "spawn") == 0)
            arguments.method = MP_START_SPAWN;
        else if (option == 's' && strcmp(optarg, "forkserver") == 0)
            arguments.method = MP_START_FORKSERVER;
        else if (option == 's')
            usage("no such start method", optarg);
        else if (option == 'h' || option == 'V') {
            fputs(option == 'h' ? help : "mp-checksum (libmp) " VERSION "\n", stdout);
            exit(fflush(stdout) == 0 ? 0 : 1);
        } else
            exit(2); /* getopt_long() has said why */
    }
    if (optind == argc)
        usage("no PATH given", NULL);
    return arguments;
}

int main(int argc, char **argv)
{
    _cleanup_(list_deinit) struct list list = {};
    struct arguments arguments;
    int r = 0;

    mp_main(argc, argv);
    arguments = parse_arguments(argc, argv);
    srandom((unsigned)progress_now());

    for (int i = optind; i < argc; i++)
        list_walk(&list, argv[i]);
    if (list.n > 0) {
        qsort(list.files, list.n, sizeof list.files[0], compare);
        r = checksum_all(&list, &arguments);
    }
    if (r < 0)
        errx(1, "the pool failed: %s", strerror(-r));
    if (fflush(stdout) != 0 || ferror(stdout))
        errx(1, "cannot write to standard output");
    return list.failed;
}
