/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Rules that tests/crash breaks, one at a time, to see that it would notice. In the library
 * mp_mutation() is false, and nothing of this is compiled.
 */

/* clang-format off */
#define MP_MUTATIONS(x) \
    x(TAKE_CELL_FIRST, "a taker empties the cell before it writes the word") \
    x(TAKE_NAMELESS, "a cell that is taken does not name its taker") \
    x(TAKE_STORES, "a taker empties its cell though somebody has done it for it") \
    x(HELP_BY_HALF, "who helps a taker empties the cell and leaves the word") \
    x(REFILL_CRATE_FIRST, "a crate is emptied before the words of its blocks are written") \
    x(FLUSH_MARKS_FREE, "blocks are marked free before they are handed over") \
    x(BACKED_FIRST, "an extent is backed before the words of its blocks are written") \
    x(STRIP_ENTRY_FIRST, "a block leaves its entry before its word is written") \
    x(LEASE_UNTAGGED, "a single consumer's lease does not tell its position") \
    x(PUBLISH_AFTER_GIVING, "a single consumer gives blocks back before it publishes its head") \
    x(TENURE_FORGOTTEN, "who takes a semaphore's word over leaves the ledger as it is") \
    x(TENURE_UNFROZEN, "a ledger is written while its holder goes on") \
    x(PERMITS_RETURN_UNTOLD, "units come back before the ledger tells so") \
    x(SWALLOW_DEATH, "who gets a dead owner's lock is not told") \
    x(LOCKS_TELL_NOBODY, "who releases one of many locks moves no sleep word") \
    x(LOCKS_ARMED_LATE, "a waiter for one of many locks looks before it arms") \
    x(READER_UNANNOUNCED, "a reader comes in without a word to writers") \
    x(READERS_UNANNOUNCED, "readers sleep without a word to the writer") \
    x(READERS_SLEEP_ON, "a writer that leaves wakes no readers") \
    x(READER_LOOKS_ONCE, "a reader takes who has left and then died for one who died inside") \
    x(LIVES_ALIKE, "each object in an entry begins with the same value") \
    x(READER_OF_ANOTHER, "a reader takes what it added from the share of the next lock") \
    x(SWEEP_KEEPS_READERS, "what a dead reader had of a rwlock does not come back") \
    x(READER_TAKES_NOTICE, "a reader takes the news of a dead writer from the next one") \
    x(WRITER_TAKES_NOTICE, "a writer that times out keeps the news of a dead one to itself") \
    x(SWEEP_KEEPS_BARRIER, "the death of a party does not break a barrier") \
    x(MEMBER_EMPTIED_FIRST, "a party is forgotten before the barrier is broken") \
    x(ACTION_AFTERWARDS, "a barrier lets all go before its action has run") \
    x(RESET_PASSES, "who waited when a barrier was reset takes it for passed") \
    x(RETIRE_SAME_LIFE, "a slot is retired and its generation stays") \
    x(JOIN_NOT_PENDING, "a slot is claimed before the kernel can find it") \
    x(LEAVE_UNSWEPT, "a slot that is left is free at once") \
    x(SWEEP_EMPTIES_DRAIN, "a crate that the dead were emptying is taken for empty") \
    x(SWEEP_LEAVES_EXTENTS, "an extent that the dead had charged stays charged") \
    x(SWEEP_KEEPS_LEASES, "a message that the dead held is not delivered again") \
    x(SWEEP_HINTS_ONCE, "what an earlier sweeper returned is not told again") \
    x(SWEEP_BLIND_TO_CELLS, "blocks in cells are taken for lost") \
    x(SWEEP_BLIND_TO_CRATES, "blocks in crates are taken for lost") \
    x(SWEEP_WAKES_NOBODY, "those whom the dead should have woken sleep on") \
    x(SLOT_FREED_FIRST, "a slot is free before the words that name it are swept") \
    x(EVENT_NOT_COUNTED, "an event that is set and cleared lets nobody go") \
    x(RLOCK_KEEPS_COUNT, "who gets a dead owner's rlock has it as often as the dead one") \
    x(WAITER_UNANNOUNCED, "a waiter of a condition does not say that there may be one") \
    x(CONDITION_SWALLOWS, "a waiter that sleeps again keeps a death to itself") \
    x(VERSION_IN_PLACE, "a version is written where the valid one lies") \
    x(MAP_IN_PLACE, "a value in a map is written over where it lies") \
    x(MAP_LINKED_FIRST, "an entry of a map is in its chain before it is written") \
    x(MAP_NOT_GATHERED, "what a dead writer had taken from a map does not come back") \
    x(VALUE_TOLD_ONCE, "who reads what a death left half written takes the news with him") \
    x(SWEEP_PASSES_NOTHING_ON, "what a dead waiter was notified of goes with it") \
    x(WAITER_EMPTIED_FIRST, "a waiter is forgotten before its notification is passed on") \
    x(SWEEP_MOVES_NO_CONDITION, "a waiter that is about to sleep misses the sweep") \
    x(GET_IS_DONE, "a task that was copied out of a joinable queue counts as done") \
    x(LAST_TASK_UNTOLD, "who ends the last task wakes nobody who joins") \
    x(JOIN_LOOKS_ONCE, "who joins looks at the cells of the queue only once") \
    x(WAIT_PASSES_NOTHING_ON, "who waits for several things keeps a wake that he has no use for") \
    x(SWEEPER_FOR_EVER, "a sweeper that died is never replaced")
/* clang-format on */

#ifdef MP_MUTATION

enum mp_mutation {
    MP_MUTATION_NONE,
#define x(name, what) MP_MUTATION_##name,
    MP_MUTATIONS(x)
#undef x
};

extern enum mp_mutation mp_mutation_chosen;

#define mp_mutation(name) (mp_mutation_chosen == MP_MUTATION_##name)

#else

#define mp_mutation(name) false

#endif
