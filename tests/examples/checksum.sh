#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# checksum.sh ALONE PROGRAM SANITIZER: mp-checksum prints to the byte what find, sort and sha256sum
# print of a tree with all that a tree can have, by any number of workers, however they are started,
# and while they are killed. It leaves nothing behind. SANITIZER is what it was built with, or none.

. "$(dirname "$0")/tap.sh"
alone=$(realpath "$1") program=$(realpath "$2") sanitizer=$3
tree=$scratch/tree

make_tree() {
    mkdir -p "$tree"/{small,empty,'with space',.hidden,a/b} && cd "$tree" || exit
    # One file a line: as many tasks.
    seq 1 1500 | split -l 1 -a 4 - small/
    head -c 30000000 /dev/urandom >big
    truncate -s 80M sparse
    # About the size of a buffer of the reader.
    for size in 131071 131072 131073; do head -c $size /dev/urandom >size-$size; done
    : >zero
    # Names: sha256sum escapes some, and they are sorted as bytes with their slashes.
    # shellcheck disable=SC1003,SC2016
    for name in $'new\nline' $'\n' 'back\slash' '\' $'carriage\rreturn' $'tab\tname' $'\x01' \
        $'\xff\xfe not UTF-8' $'\xc3\xa4 UTF-8' -dash --help ' ' 'with space/  two  ' .hidden/.x \
        '*' '$HOME' "quote'\"" a/b/c a.b a-b a0 A "$(printf '%255s' x)"; do
        printf '%s' "$name" >"$name" || exit
    done
    ln -s big link-to-file
    ln -s small link-to-directory
    ln -s nowhere link-to-nothing
    ln -s . loop
    ln big hard-link
    mkfifo fifo
}

# expect PATH...: what is to be printed, to $scratch/expected.
expect() {
    find "$@" -type f -print0 | sort -z | xargs -0r sha256sum >"$scratch/expected"
}

# same ARGUMENT...: the program prints that, says nothing, ends with 0, leaves nothing behind.
same() {
    local status
    "$alone" "$program" "$@" >"$scratch/out" 2>"$scratch/err"
    status=$?
    cat "$scratch/err"
    [ $status = 0 ] || echo "ended with $status"
    cmp "$scratch/expected" "$scratch/out" || {
        diff "$scratch/expected" "$scratch/out"
        return 1
    }
    [ ! -s "$scratch/err" ] && [ $status = 0 ]
}

# same_chaos ARGUMENT...: so while workers are killed, and some were.
same_chaos() {
    local status
    "$alone" "$program" "$@" >"$scratch/out" 2>"$scratch/err"
    status=$?
    cat "$scratch/err"
    [ $status = 0 ] || echo "ended with $status"
    cmp "$scratch/expected" "$scratch/out" || {
        diff "$scratch/expected" "$scratch/out"
        return 1
    }
    [ $status = 0 ] && grep -Eqx 'mp-checksum: killed [1-9][0-9]* workers' "$scratch/err" &&
        [ "$(wc -l <"$scratch/err")" = 1 ]
}

make_tree
expect .
check 'the tree is as meant' [ "$(wc -l <"$scratch/expected")" = 1530 ]

check 'as many workers as CPUs' same .
# chaos JOBS START FILES
chaos() {
    local what="-j $1 --start=$2 --chaos $3"
    # Workers are forked anew by one thread while another allocates, and the allocator of this
    # sanitizer takes its locks with it to the child.
    case $2-$sanitizer in
        fork-*address*) skip "$what" 'not with AddressSanitizer' ;;
        *) check "$what" same_chaos -j "$1" --start="$2" --chaos "$3" . ;;
    esac
}

for start in fork spawn forkserver; do
    for jobs in 1 2 4; do
        check "-j $jobs --start=$start" same -j $jobs --start=$start .
        chaos $jobs $start 5
    done
done
# So many deaths that workers are killed while they start, and that some are replaced while others
# are printed: what was buffered by then is nobody's but the parent's.
for _ in 1 2 3; do
    chaos 8 fork 2
done
chaos 3 spawn 3
chaos 3 forkserver 3
check 'more workers than files' same --jobs=32 --start fork .

expect "$tree"
check 'an absolute path' same "$tree"
for paths in 'a/' 'a//' './a/.' 'a a' 'small a ./big big a/b' 'loop' 'loop/' 'link-to-file' \
    'link-to-directory' 'link-to-directory/' 'fifo' 'zero'; do
    # These are words, to be split.
    # shellcheck disable=SC2086
    expect $paths
    # shellcheck disable=SC2086
    check "of: $paths" same $paths
done
expect ./-dash ./--help 'with space' ' '
check 'odd names as arguments' same ./-dash ./--help 'with space' ' '
check 'after --' same -- ./-dash ./--help 'with space' ' '

: >"$scratch/expected"
check 'no file at all prints nothing' same empty
check 'nor does chaos there' same --chaos 1 empty
cd /
finish
