/* SPDX-License-Identifier: MIT */
#ifndef MP_PROCESS_H
#define MP_PROCESS_H

/*
 * Processes: multiprocessing.Process.
 *
 *     MP_ENTRY(hello)
 *     {
 *         printf("hello %s\n", (const char *)call->data);
 *         return 0;
 *     }
 *
 *     int main(int argc, char **argv)
 *     {
 *         mp_process *p;
 *
 *         mp_main(argc, argv);
 *         if (mp_process_start(hello, MP_PROCESS_OPTIONS(MP_DATA("bob")), &p) < 0)
 *             return 1;
 *         mp_process_join(p, MP_FOREVER);
 *         mp_process_free(p);
 *         return 0;
 *     }
 *
 * A forked child runs the entry in a copy of this process. A spawned child is the same program,
 * executed anew, from the very file that this process runs, even if that was replaced on the disk
 * meanwhile: mp_main() runs the entry there, so it must come first in main(). A child of the
 * forkserver is forked by a process that was spawned for that when the first was started, and does
 * nothing else: it starts faster than a spawned one, and is as clean. What an entry returns is the
 * exit code (its low 8 bits).
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <mp/arena.h>
#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_process mp_process;

/** What an entry is given. Everything in it lives as long as the process. */
struct mp_call {
    const void *data; /* the bytes passed, aligned to 16 */
    size_t size;
    mp_arena *const *arenas; /* the arenas passed, attached */
    size_t n_arenas;
    const int *fds; /* the fds passed: other numbers than in the parent after a spawn, CLOEXEC */
    size_t n_fds;
};

typedef int mp_entry_fn(const struct mp_call *call);

/*
 * What MP_ENTRY() and MP_TASK() make: a record that a constructor puts into the library's list, and
 * a destructor takes out, so that functions are found by name in the program and in every module
 * that it loads. Private, as are the two functions: use the macros.
 */
struct mp_function {
    const char *name;
    void (*fn)(void);
    int kind;
    struct mp_function *next;
};

enum { MP_FUNCTION_ENTRY = 1, MP_FUNCTION_TASK = 2 };

void mp_function_register(struct mp_function *function);
void mp_function_unregister(struct mp_function *function);

#define MP_FUNCTION_RECORD(function, of_kind)                                                \
    static struct mp_function mp_function_##function = {#function, (void (*)(void))function, \
                                                        of_kind, 0};                         \
    __attribute__((constructor)) static void mp_register_##function(void)                    \
    {                                                                                        \
        mp_function_register(&mp_function_##function);                                       \
    }                                                                                        \
    __attribute__((destructor)) static void mp_unregister_##function(void)                   \
    {                                                                                        \
        mp_function_unregister(&mp_function_##function);                                     \
    }

/**
 * MP_ENTRY() - define a function that other processes can start with. Its parameter is `const
 * struct mp_call *call`.
 *
 * Its name must be the only one of its kind in the program and the modules that it loads.
 */
#define MP_ENTRY(function)                           \
    static int function(const struct mp_call *call); \
    MP_FUNCTION_RECORD(function, MP_FUNCTION_ENTRY)  \
    static int function(const struct mp_call *call __attribute__((unused)))

enum mp_start_method {
    MP_START_DEFAULT = 0, /* fork */
    MP_START_FORK = 1,
    MP_START_SPAWN = 2,
    MP_START_FORKSERVER = 3,
    MP_START_FORCE_32_BITS_ = 0x7fffffff,
};

struct mp_process_options {
    size_t struct_size; /* filled by MP_PROCESS_OPTIONS */
    const char *
        name; /* up to MP_NAME_MAX bytes; NULL: Process-1, Process-2, in children Process-1:1 ... */
    enum mp_start_method method;
    uint32_t daemon;  /* 1: it is ended when this process ends: SIGTERM, and SIGKILL a second later,
                         at exit(); SIGKILL at any other end. It may not have children. */
    const void *data; /* copied to the child */
    size_t size;      /* up to 1 GiB */
    mp_arena *const *arenas; /* attached in the child in this order; up to 64 */
    size_t n_arenas;
    const int *fds; /* passed on, up to 250; they stay the caller's */
    size_t n_fds;
};

#define MP_PROCESS_OPTIONS(...) \
    (&(struct mp_process_options){.struct_size = sizeof(struct mp_process_options), __VA_ARGS__})

/** MP_DATA() - among options: the bytes of a variable, an array or a string literal as the data. */
#define MP_DATA(value) .data = &(value), .size = sizeof(value)

/** MP_ARENAS() - among options: the arenas to pass, one by one. */
#define MP_ARENAS(...)                          \
    .arenas = (mp_arena *const[]){__VA_ARGS__}, \
    .n_arenas = sizeof((mp_arena *const[]){__VA_ARGS__}) / sizeof(mp_arena *)

/**
 * mp_main() - first in main(): in a spawned child it runs the entry and exits with its result, else
 * it returns.
 *
 * The one function of libmp that can end the process, and only one that mp_process_start() made for
 * nothing else: such a child knows itself by a descriptor that nobody else can have, not by its
 * arguments. Its exit code is 127 when it can not run the entry after all: a module was replaced on
 * the disk since, or an arena passed took no further participant.
 *
 * Return: 0.
 */
int mp_main(int argc, char **argv);

/**
 * mp_process_start() - start a process.
 * @entry: made with MP_ENTRY(); for fork any function will do
 * @options: NULL for the defaults
 * @ret_process: the new handle, to be freed with mp_process_free(); NULL if none is wanted
 *
 * stdout and stderr are flushed first, and again when a child's entry returns. Other streams are
 * not: flush or close them, before a fork as well.
 *
 * The child has default signal handlers, no blocked signals, standard input from /dev/null, and of
 * the descriptors (spawn) only those passed and the standard ones. fork copies memory as it is
 * while other threads may hold locks of other libraries: a program with threads should spawn.
 *
 * A forkserver is made when it is first needed, by the process that needs it, and anew when it was
 * killed; it ends with that process. Its children have the environment, directory and limits that
 * this process had then, and the standard output and error that it has now. They are not children
 * of this process for wait() and its like.
 *
 * When the entry returns, the child ends its daemons, joins its other children and flushes both. A
 * forked child then ends without running exit handlers, which are its parent's; a spawned one calls
 * exit().
 *
 * A daemon that executes another program, or closes descriptors that it did not open, may outlive
 * its parent. So may, while it is stopped, one on a system without /proc. A parent that executes
 * another program counts as ended.
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT (spawn: not an MP_ENTRY of this program, or not the
 * only one of its name, or mp_main() was not called), -EBADF (one of the fds), -E2BIG (bytes,
 * arenas or fds), -EPERM (a daemon may not have children; a set-user-id program does not spawn),
 * -EAGAIN, -ENOMEM, -EMFILE, -ENFILE, -EOPNOTSUPP (no pidfds before Linux 5.4; spawn: no /proc),
 * -ECANCELED (forkserver: a preload hook failed, or ended it), -ETIMEDOUT (forkserver: it is
 * stopped, or stuck, for ten seconds), or what execve() or another step up to it said.
 */
int mp_process_start(mp_entry_fn *entry, const struct mp_process_options *options,
                     mp_process **ret_process);

/** The most hooks of mp_forkserver_preload(). */
#define MP_FORKSERVER_HOOKS_MAX 16

/**
 * mp_forkserver_preload() - what the forkserver does once, before its first child.
 * @hooks: made with MP_ENTRY(); called in this order with an empty call, and to return 0. What they
 * load or set up all children have. They must leave no thread behind.
 * @n: up to MP_FORKSERVER_HOOKS_MAX; 0: none
 *
 * For a server that is made from now on: one that runs has had its hooks.
 *
 * Return: 0; -EINVAL, -E2BIG, -ENOENT (not an MP_ENTRY, or not the only one of its name): what was
 * said before holds. Source: multiprocessing.set_forkserver_preload().
 */
int mp_forkserver_preload(mp_entry_fn *const *hooks, size_t n);

/**
 * mp_process_join() - wait until it has ended.
 * @timeout_ns: 0 looks once, MP_FOREVER waits
 *
 * Return: 0: it has ended; -EAGAIN (timeout 0), -ETIMEDOUT: it runs on; -EINVAL, -ECHILD (not this
 * process's child).
 */
int mp_process_join(mp_process *process, uint64_t timeout_ns);

struct mp_exit_info {
    int code;             /* as Python's exitcode: 0 to 255, or minus the signal that ended it */
    int signal;           /* 0, or the signal */
    uint32_t core_dumped; /* 1: yes */
    uint32_t
        known; /* 0: it ended, but somebody else reaped it, so code is not known (and is 255) */
    uint64_t wall_ns;    /* from start to end as seen by this process */
    struct rusage usage; /* zero where unknown */
};

/** mp_process_exit_info() - how it ended; stays after reaping. Return: 0; -EAGAIN (it runs),
 * -EINVAL, -ECHILD. */
int mp_process_exit_info(mp_process *process, struct mp_exit_info *ret_info);

/** mp_process_is_alive() - Return: 1 it runs, 0 it has ended; -EINVAL, -ECHILD. */
int mp_process_is_alive(mp_process *process);

/** mp_process_signal() - send a signal by pidfd: never to another process. Return: 0 (also if it
 * has ended); -EINVAL, -EPERM, -ECHILD. */
int mp_process_signal(mp_process *process, int signal);

/** mp_process_terminate() - SIGTERM. Return: as mp_process_signal(). */
int mp_process_terminate(mp_process *process);

/** mp_process_kill() - SIGKILL. Return: as mp_process_signal(). */
int mp_process_kill(mp_process *process);

/** mp_process_sentinel() - a pidfd that polls readable once it has ended. It stays the handle's.
 * Return: the fd; -EINVAL, -ECHILD. */
int mp_process_sentinel(const mp_process *process);

/** mp_process_waitable() - for mp_wait(): ready once it has ended. */
struct mp_waitable mp_process_waitable(const mp_process *process);

/** mp_process_pid() - Return: its pid; -EINVAL. */
pid_t mp_process_pid(const mp_process *process);

/** mp_process_name() - Return: a string that lives as long as the handle; NULL for NULL. */
const char *mp_process_name(const mp_process *process);

/** mp_process_is_daemon() - Return: 1 or 0; -EINVAL. */
int mp_process_is_daemon(const mp_process *process);

/**
 * mp_process_free() - drop a handle, running or not.
 *
 * A running child is not touched: it stays among the active children, and is joined (or, a daemon,
 * killed) when this process exits. NULL is fine. Return: NULL.
 */
mp_process *mp_process_free(mp_process *process);

/** mp_process_current() - this process. Owned by the library, valid in this process for ever. */
mp_process *mp_process_current(void);

/** mp_process_parent() - the process that started this one. NULL in one that libmp did not start.
 * is_alive, join and sentinel work on it; its exit information is not known. */
mp_process *mp_process_parent(void);

/**
 * mp_process_active_children() - the children that run, after reaping those that have ended.
 * @ret_processes: an array of new handles, each to be freed with mp_process_free(), the array with
 * free()
 *
 * Return: how many; -ENOMEM, -EINVAL.
 */
int mp_process_active_children(mp_process ***ret_processes);

static inline void mp_process_freep(mp_process **process)
{
    if (*process)
        mp_process_free(*process);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
