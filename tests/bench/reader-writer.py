#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/examples/mp-reader-writer.c as one writes it in Python: multiprocessing.Queue between a
daemon that reads and its parent that writes. Both measure from the start of the reader to its end,
and print the same lines."""
import time
from multiprocessing import Process, Queue


def reader(queue):
    while queue.get() != "DONE":
        pass


def write_numbers(queue, n):
    for i in range(n):
        queue.put(i)
    queue.put("DONE")


if __name__ == "__main__":
    for n in 10000, 100000, 1000000:
        queue = Queue()
        start = time.monotonic()
        child = Process(target=reader, args=(queue,), daemon=True)
        child.start()
        write_numbers(queue, n)
        child.join()
        print(f"Sending {n} numbers to the queue took {time.monotonic() - start:g} seconds",
              flush=True)
