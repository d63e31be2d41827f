#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# reader-writer.sh ALONE PROGRAM: mp-reader-writer prints its three lines, with the right numbers
# and some time, ends with 0 and leaves nothing behind.

. "$(dirname "$0")/tap.sh"
alone=$(realpath "$1") program=$(realpath "$2")

once() {
    local status n i=0
    "$alone" "$program" >"$scratch/out" 2>"$scratch/err"
    status=$?
    cat "$scratch/out" "$scratch/err"
    [ $status = 0 ] || echo "ended with $status"
    for n in 10000 100000 1000000; do
        i=$((i + 1))
        sed -n "${i}p" "$scratch/out" |
            grep -Eqx "Sending $n numbers to the queue took [0-9]+(\.[0-9]+)?(e-[0-9]+)? seconds" ||
            return 1
    done
    [ "$(wc -l <"$scratch/out")" = 3 ] && [ ! -s "$scratch/err" ] && [ $status = 0 ]
}

check 'prints how long each took' once
check 'again' once
finish
