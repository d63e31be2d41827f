#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# exact.sh ALONE PROGRAM RUNS: the program prints what stands in PROGRAM.expected here, nothing on
# standard error, ends with 0 and leaves nothing behind: to a file, to a pipe, and again and again.
# All of it is there when the program has ended: it does not end before those that it waits for.

. "$(dirname "$0")/tap.sh"
alone=$(realpath "$1") program=$(realpath "$2") runs=$3
expected=$(dirname "$0")/$(basename "$program").expected

to_file() {
    "$alone" "$program" >"$scratch/out" 2>"$scratch/err"
    local status=$?
    cat "$scratch/err"
    [ $status = 0 ] || echo "ended with $status"
    diff "$expected" "$scratch/out" && [ $status = 0 ] && [ ! -s "$scratch/err" ]
}

to_pipe() {
    "$alone" "$program" 2>&1 | diff "$expected" -
    [ "${PIPESTATUS[*]}" = '0 0' ]
}

by_its_end() {
    "$program" >"$scratch/out" 2>&1 && diff "$expected" "$scratch/out"
}

many_times() {
    local i
    for ((i = 0; i < runs; i++)); do
        to_file || {
            echo "in run $i"
            return 1
        }
    done
}

check 'to a file' to_file
check 'to a pipe' to_pipe
check 'all is there when it has ended' by_its_end
check "$runs times" many_times
finish
