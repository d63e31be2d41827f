/* SPDX-License-Identifier: MIT */
#ifndef MP_QUEUE_H
#define MP_QUEUE_H

/*
 * A bounded queue of messages between processes and threads: multiprocessing.Queue, without its
 * copies and its feeder.
 *
 * Zero copy, both ways:
 *
 *     struct mp_message m;
 *     mp_queue_loan(queue, 4096, MP_FOREVER, &m);       write up to 4096 bytes to m.data
 *     mp_queue_commit(queue, &m, MP_FOREVER);
 *
 *     mp_queue_receive(queue, MP_FOREVER, &m);          read m.size bytes at m.data
 *     mp_queue_release(queue, &m);
 *
 * or with a copy at each end:
 *
 *     mp_queue_put(queue, &number, sizeof number, MP_FOREVER);
 *     mp_queue_get(queue, &number, sizeof number, MP_FOREVER, NULL);
 *
 * First in, first out. A committed message is delivered, whoever dies. A message that a consumer
 * held when it died is delivered again, ahead of the others and marked (mp_message.deliveries > 1),
 * or dropped, as the options say. A process may exit right after a put: nothing has to be flushed
 * or joined.
 *
 * What is loaned or received belongs to this process until it is committed, released or abandoned;
 * any of its threads may do that. In a forked child the parent's messages give -ECHILD.
 *
 * Who knows Python's queues finds here
 *
 *     Queue(n), SimpleQueue()    mp_queue_create(), which always has a bound: .maxsize = n, at most
 *                                2^20; memory is taken for the messages that are in it
 *     JoinableQueue(n)           the same with .flags = MP_QUEUE_JOINABLE
 *     put, get                   mp_queue_put(), mp_queue_get(); a timeout always covers all of it
 *     put_nowait, get_nowait     mp_queue_put_nowait(), mp_queue_get_nowait(): or a timeout of 0
 *     qsize, empty, full         mp_queue_size(), mp_queue_is_empty(), mp_queue_is_full(): exact
 *     queue.Full, queue.Empty    -EAGAIN, or -ETIMEDOUT where a timeout was given
 *     task_done, join            mp_queue_task_done(), mp_queue_join()
 *     shutdown, ShutDown         mp_queue_shutdown(), -EPIPE
 *     close                      mp_queue_close(); nothing needs join_thread or cancel_join_thread
 *
 * A joinable queue counts as a task whatever was put. Its consumer says when it is done with it:
 * after a get by mp_queue_task_done(), after a receive by mp_queue_release(). Until then the
 * consumer holds the message, though get has copied it: when it dies the task goes to another one,
 * or ends where the queue drops what was held, and mp_queue_join() neither waits for the dead nor
 * returns before all tasks are done. That goes for messages that only tell a consumer to end, too:
 * one that ends without task_done leaves them to the others.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <mp/arena.h>
#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_queue mp_queue;

/** A message in the caller's hands. Opened by loan and receive; data and size are the caller's to
 * use. */
struct mp_message {
    void *data;  /* aligned to 64 bytes */
    size_t size; /* loan: as asked for, may be lowered before commit. receive: its length. */
    uint32_t deliveries; /* receive: 1, or more when consumers died holding it (counts to 255 and
                            stays) */
    uint32_t block;      /* private from here on */
    uint64_t owner;
};

/* A role goes on to another thread while the former one is in no call on the queue. */
enum {
    MP_QUEUE_SINGLE_PRODUCER =
        1u << 0, /* one thread of one process at a time produces; the role is taken at first use */
    MP_QUEUE_SINGLE_CONSUMER =
        1u << 1,                  /* the same for consuming; both together give the fastest queue */
    MP_QUEUE_DROP_HELD = 1u << 2, /* what a dead consumer held is dropped, not delivered again */
    MP_QUEUE_JOINABLE =
        1u << 3, /* has task_done and join; not with both a single producer and a single consumer */
};

struct mp_queue_options {
    size_t struct_size;   /* filled by MP_QUEUE_OPTIONS */
    uint32_t maxsize;     /* messages, 1 to 2^20; 0: 1024 */
    uint32_t flags;       /* MP_QUEUE_* */
    uint64_t message_max; /* longest message in bytes; 0: what the arena allows */
};

#define MP_QUEUE_OPTIONS(...) \
    (&(struct mp_queue_options){.struct_size = sizeof(struct mp_queue_options), __VA_ARGS__})

/**
 * mp_queue_create() - make a queue in an arena.
 * @name: unique in the arena; NULL makes one up (mp_queue_name() tells it)
 * @options: NULL for the defaults
 * @ret_queue: a handle, to be closed with mp_queue_close() before the arena
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS (memory or objects), -EMSGSIZE
 * (message_max), -ENOMEM, -EUSERS.
 */
int mp_queue_create(mp_arena *arena, const char *name, const struct mp_queue_options *options,
                    mp_queue **ret_queue);

/** mp_queue_open() - find a queue by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -EPROTO,
 * -ENOMEM, -EUSERS. */
int mp_queue_open(mp_arena *arena, const char *name, mp_queue **ret_queue);

/** mp_queue_close() - drop the handle; the queue and its messages stay. Tasks that were got by it
 * and are not done go back to be delivered again. NULL is fine. Return: NULL. */
mp_queue *mp_queue_close(mp_queue *queue);

/**
 * mp_queue_destroy() - remove the queue and the messages in it, for all; those who wait get
 * -ESTALE.
 *
 * The handle stays to be closed. Return: 0; -EINVAL, -ESTALE; -EBUSY: declared for one producer and
 * one consumer, and another process or thread has one of the roles.
 */
int mp_queue_destroy(mp_queue *queue);

/**
 * mp_queue_shutdown() - end the queue: Queue.shutdown() of Python 3.13.
 * @now: 0: producers get -EPIPE from now on, consumers once the queue is empty. 1: the messages are
 * dropped at once, too.
 *
 * What was dropped is no task any more: mp_queue_join() then waits only for the tasks that
 * consumers have in their hands, which may still be ended. One whose consumer dies is dropped, too.
 *
 * A queue declared for one producer and one consumer should be shut down by its producer: a put
 * that is under way while somebody else does it may come too late for the consumer. Its messages
 * are dropped by the consumer, or when it is destroyed.
 *
 * Return: 0; -EINVAL, -ESTALE.
 */
int mp_queue_shutdown(mp_queue *queue, int now);

/**
 * mp_queue_loan() - get memory to write a message to.
 * @size: 0 bytes to what the queue and the arena allow
 * @timeout_ns: how long to wait for memory; 0 does not wait
 *
 * Return: 0; -EINVAL, -EMSGSIZE, -ENOBUFS (timeout 0), -ETIMEDOUT, -EPIPE, -ESTALE, -EBUSY (role
 * taken), -EUSERS, -ENOMEM.
 */
int mp_queue_loan(mp_queue *queue, size_t size, uint64_t timeout_ns,
                  struct mp_message *ret_message);

/**
 * mp_queue_commit() - put a loaned message into the queue.
 * @message: from mp_queue_loan() of a queue in the same arena; size may have been lowered. Cleared
 * on success; on failure it stays loaned, to be committed again or abandoned.
 * @timeout_ns: how long to wait while the queue is full; 0 does not wait
 *
 * Return: 0; -EINVAL, -EMSGSIZE (size was raised), -EAGAIN, -ETIMEDOUT, -EPIPE, -ESTALE, -EBUSY,
 * -ECHILD (the parent's).
 */
int mp_queue_commit(mp_queue *queue, struct mp_message *message, uint64_t timeout_ns);

/**
 * mp_queue_receive() - take the next message.
 * @timeout_ns: how long to wait while the queue is empty; 0 does not wait
 *
 * Return: 0; -EINVAL, -EAGAIN, -ETIMEDOUT, -EPIPE (shut down and empty), -ESTALE, -EBUSY, -EUSERS.
 */
int mp_queue_receive(mp_queue *queue, uint64_t timeout_ns, struct mp_message *ret_message);

/** mp_queue_release() - done with a received message: its memory is used again. Return: 0; -EINVAL
 * (or received from another queue), -ECHILD; -ENOMEM: it is still held, to be released again. */
int mp_queue_release(mp_queue *queue, struct mp_message *message);

/**
 * mp_queue_abandon() - give a message back without having used it.
 *
 * A loan is freed. A received message goes back to be received again, ahead of the others, as if
 * this process had died.
 *
 * Return: 0; -EINVAL (or received from another queue), -ECHILD; -ENOMEM: it is still held.
 */
int mp_queue_abandon(mp_queue *queue, struct mp_message *message);

/**
 * mp_queue_put() - copy a message in.
 * @data: @size bytes; may be NULL when @size is 0
 * @timeout_ns: for memory and for room together
 *
 * Return: 0; as loan and commit; -EAGAIN when full and -ENOBUFS when there is no memory, at timeout
 * 0.
 */
int mp_queue_put(mp_queue *queue, const void *data, size_t size, uint64_t timeout_ns);

/**
 * mp_queue_get() - copy the next message out.
 * @buffer: @capacity bytes; a longer message stays in the queue and gives -EMSGSIZE
 * @ret_size: its length; may be NULL
 *
 * Return: 0; as receive; -EMSGSIZE; -ENOMEM (joinable: the message goes back).
 */
int mp_queue_get(mp_queue *queue, void *buffer, size_t capacity, uint64_t timeout_ns,
                 size_t *ret_size);

/** mp_queue_put_nowait() - mp_queue_put() with a timeout of 0. */
int mp_queue_put_nowait(mp_queue *queue, const void *data, size_t size);

/** mp_queue_get_nowait() - mp_queue_get() with a timeout of 0. */
int mp_queue_get_nowait(mp_queue *queue, void *buffer, size_t capacity, size_t *ret_size);

/* Batches. Each does at least one and at most n, waits (up to timeout_ns) only for the first, and
 * returns how many. */

/** mp_queue_put_batch() - copy in n messages of size bytes each, packed at data. Return: 1 to n; as
 * mp_queue_put(). */
int mp_queue_put_batch(mp_queue *queue, const void *data, size_t size, uint32_t n,
                       uint64_t timeout_ns);

/**
 * mp_queue_get_batch() - copy up to n messages out, the i-th to buffer + i * stride, its length to
 * ret_sizes[i].
 * @stride: bytes for each; a longer message stays in the queue and ends the batch (-EMSGSIZE when
 * it is the first)
 * @ret_sizes: may be NULL
 *
 * Return: 1 to n; as mp_queue_get().
 */
int mp_queue_get_batch(mp_queue *queue, void *buffer, size_t stride, size_t *ret_sizes, uint32_t n,
                       uint64_t timeout_ns);

/** mp_queue_loan_batch() - loan up to n messages of size bytes. Return: 1 to n; as mp_queue_loan().
 */
int mp_queue_loan_batch(mp_queue *queue, size_t size, uint32_t n, uint64_t timeout_ns,
                        struct mp_message *ret_messages);

/** mp_queue_commit_batch() - commit the first so many of n messages. Return: 1 to n; as
 * mp_queue_commit(). */
int mp_queue_commit_batch(mp_queue *queue, struct mp_message *messages, uint32_t n,
                          uint64_t timeout_ns);

/** mp_queue_receive_batch() - receive up to n messages. Return: 1 to n; as mp_queue_receive(). */
int mp_queue_receive_batch(mp_queue *queue, uint32_t n, uint64_t timeout_ns,
                           struct mp_message *ret_messages);

/** mp_queue_release_batch() - release all n messages. Return: 0; -EINVAL, -ECHILD, -ENOMEM (the
 * others are released). */
int mp_queue_release_batch(mp_queue *queue, struct mp_message *messages, uint32_t n);

/**
 * mp_queue_task_done() - end a task of a joinable queue that this process got by this handle.
 *
 * The oldest that the calling thread got and has not ended; where there is none, the oldest that
 * any thread got. (Python's may be called for what another process got; a task of ours that its
 * consumer can not end goes back to the queue when that one dies, or closes its handle.) What was
 * received, not got, is ended by mp_queue_release().
 *
 * Return: 0; -EINVAL (or not joinable); -EOVERFLOW: called more often than tasks were got; -ENOMEM,
 * -EUSERS.
 */
int mp_queue_task_done(mp_queue *queue);

/**
 * mp_queue_join() - wait until every message that was put into a joinable queue is done with.
 * @timeout_ns: 0 only looks
 *
 * It ends when there is an instant without a task; a task that puts others before it ends leaves
 * none. While new messages come without a pause such an instant may be missed.
 *
 * Return: 0; -EINVAL (or not joinable), -EAGAIN, -ETIMEDOUT, -ESTALE, -EUSERS.
 */
int mp_queue_join(mp_queue *queue, uint64_t timeout_ns);

/**
 * mp_queue_fd() - an eventfd that polls readable when a message can be received, or the queue has
 * ended.
 *
 * It is this process's own, made at the first call, and belongs to the handle. Do not read it:
 * receive until -EAGAIN, which arms it again. Nobody pays for it while nobody asked for it. Not
 * inherited by a forked child's use of the handle: ask again there. With several consumers a ready
 * fd may still find the queue empty.
 *
 * Return: the fd; -EINVAL, -ESTALE, -EMFILE, -ENFILE, -ENOMEM, -EUSERS.
 */
int mp_queue_fd(mp_queue *queue);

struct mp_queue_stats {
    uint64_t depth; /* messages in it now, those to be delivered again included */
    uint64_t maxsize;
    uint64_t message_max;
    uint32_t flags;
    uint32_t shut_down;  /* 1: ends when empty, 2: ended */
    uint64_t unfinished; /* joinable: messages that nobody is done with yet */
};

/** mp_queue_stats() - a snapshot. Return: 0; -EINVAL, -ESTALE. */
int mp_queue_stats(const mp_queue *queue, struct mp_queue_stats *ret_stats);

/** mp_queue_readable() - for mp_wait(): ready when a message can be received, or the queue has
 * ended. */
struct mp_waitable mp_queue_readable(mp_queue *queue);

/** mp_queue_writable() - for mp_wait(): ready when a message can be committed, or the queue has
 * ended. Memory for the message is another matter. */
struct mp_waitable mp_queue_writable(mp_queue *queue);

/** mp_queue_size() - how many messages can be received now: qsize(). Return: that; -EINVAL,
 * -ESTALE. */
int mp_queue_size(const mp_queue *queue);

/** mp_queue_is_empty() - is there no message? Return: 1, 0; -EINVAL, -ESTALE. */
int mp_queue_is_empty(const mp_queue *queue);

/** mp_queue_is_full() - would a put have to wait for room? Return: 1, 0; -EINVAL, -ESTALE. */
int mp_queue_is_full(const mp_queue *queue);

/** mp_queue_name() - its name in the arena. Return: a string that lives as long as the handle; NULL
 * for NULL. */
const char *mp_queue_name(const mp_queue *queue);

static inline void mp_queue_closep(mp_queue **queue)
{
    if (*queue)
        mp_queue_close(*queue);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
