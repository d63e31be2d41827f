/* SPDX-License-Identifier: MIT */
#ifndef MP_MP_H
#define MP_MP_H

/* All of libmp: what you need and its headers may be included one by one as well. */

#include <mp/arena.h>
#include <mp/barrier.h>
#include <mp/condition.h>
#include <mp/cpu.h>
#include <mp/error.h>
#include <mp/event.h>
#include <mp/lock.h>
#include <mp/locks.h>
#include <mp/map.h>
#include <mp/pool.h>
#include <mp/process.h>
#include <mp/queue.h>
#include <mp/rlock.h>
#include <mp/rwlock.h>
#include <mp/semaphore.h>
#include <mp/shareable_list.h>
#include <mp/shared_memory.h>
#include <mp/value.h>
#include <mp/wait.h>

#endif
