# SPDX-License-Identifier: MIT
"""maze.py LOCKS SHOW DEADLOCKS: JSON of mpctl about one arena at rest

Works out by trying, from who waits and who holds, which threads are in deadlocks, and compares that
with what mpctl says. Prints how many there were.
"""
import json
import os
import sys


def threads_of(pid):
    names = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm") as f:
            names[int(tid)] = f.read().strip()
    return {tid for tid, name in names.items() if name != "mp-keeper"}


def holders_of(wait, lock):
    readers = wait["kind"] == "write" and lock["owner_pid"] == wait["pid"] and lock["readers"]
    return [h for h in lock["holders"] if (h["role"] == "reader") == bool(readers)]


def is_stuck(wait, lock, certain, threads, stuck):
    def holder_is(h):
        if lock["kind"] == "rlock":
            return h["tid"] in stuck
        if certain:
            return threads[h["pid"]] <= stuck
        return bool(threads[h["pid"]] & stuck)

    found = [holder_is(h) for h in holders_of(wait, lock)]
    if lock["kind"] == "semaphore":
        return lock["units_free"] == 0 and bool(found) and all(found)
    return any(found)


def rings(waits, locks, threads, certain):
    stuck = set(waits)
    while True:
        left = {tid for tid in stuck if is_stuck(waits[tid], locks[waits[tid]["object"]], certain,
                                                 threads, stuck)}
        if left == stuck:
            break
        stuck = left
    after = {}
    for tid in stuck:
        lock = locks[waits[tid]["object"]]
        after[tid] = set()
        for h in holders_of(waits[tid], lock):
            if lock["kind"] == "rlock":
                after[tid] |= {h["tid"]} & stuck - {tid}
            elif not certain or threads[h["pid"]] <= stuck:
                after[tid] |= threads[h["pid"]] & stuck
    reach = {}
    for tid in stuck:
        seen, ahead = set(), list(after[tid])
        while ahead:
            here = ahead.pop()
            if here not in seen:
                seen.add(here)
                ahead += after[here]
        reach[tid] = seen
    return {frozenset(b for b in reach[a] if a in reach[b]) for a in stuck if a in reach[a]}


def main():
    locks, show, deadlocks = (json.load(open(name)) for name in sys.argv[1:])
    locks = {lock["name"]: lock for lock in locks}
    waits = {w["tid"]: w for w in show["waits"]}
    threads = {p["pid"]: threads_of(p["pid"]) for p in show["processes"]}
    certain = rings(waits, locks, threads, True)
    told = frozenset().union(*certain)
    possible = {ring for ring in rings(waits, locks, threads, False)
                if not ring & told and len({waits[tid]["pid"] for tid in ring}) > 1}
    said = {}
    for row in deadlocks:
        said.setdefault((row["deadlock"], row["verdict"]), set()).add(row["tid"])
    for verdict, expected in (("certain", certain), ("possible", possible)):
        found = {frozenset(ring) for (_, v), ring in said.items() if v == verdict}
        if found != expected:
            sys.exit(f"{verdict}: {sorted(map(sorted, found))}, "
                     f"not {sorted(map(sorted, expected))}")
    print(len(certain), len(possible))


main()
