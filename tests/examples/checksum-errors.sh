#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# checksum-errors.sh ALONE PROGRAM: what mp-checksum does with what it cannot read or write, with a
# wrong command line, when it is killed, and on a terminal.

. "$(dirname "$0")/tap.sh"
alone=$(realpath "$1") program=$(realpath "$2")
tree=$scratch/tree

mkdir -p "$tree"/{small,closed} && cd "$tree" || exit
seq 1 3000 | split -l 1 -a 4 - small/
echo secret >closed/file
echo secret >unreadable
echo last >zzz

# run STATUS COMMAND...: out and err are in files of $scratch, the status is as given.
run() {
    local wanted=$1 status
    shift
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    cat "$scratch/err"
    [ $status = "$wanted" ] || {
        echo "ended with $status, not $wanted"
        return 1
    }
}

# said REGEX...: these are the lines on standard error.
said() {
    local n=0 regex
    for regex; do
        n=$((n + 1))
        sed -n "${n}p" "$scratch/err" | grep -Eqx "$regex" || return 1
    done
    [ "$(wc -l <"$scratch/err")" = $# ]
}

printed() {
    cmp "$scratch/expected" "$scratch/out"
}

sums() {
    find "$@" -type f -print0 | sort -z | xargs -0r sha256sum >"$scratch/expected"
}

missing() {
    sums small zzz
    run 1 "$alone" "$program" small nowhere '' zzz && printed &&
        said 'mp-checksum: nowhere: No such file or directory' \
            'mp-checksum: : No such file or directory'
}

all_missing() {
    : >"$scratch/expected"
    run 1 "$alone" "$program" nowhere && printed && said 'mp-checksum: nowhere: .*'
}

# It can be opened, and not read.
read_error() {
    sums small zzz
    run 1 "$alone" "$program" small /proc/self/mem zzz && printed &&
        said 'mp-checksum: /proc/self/mem: Input/output error'
}

escaped_error() {
    : >"$scratch/expected"
    run 1 "$alone" "$program" $'no\nwhere\\' && printed && said 'mp-checksum: no\\nwhere\\\\: .*'
}

# As a user who may read neither the file nor the directory; root may read anything.
someone=()
[ "$(id -u)" != 0 ] || someone=(setpriv --reuid=65534 --regid=65534 --clear-groups)

unreadable() {
    chmod 0 closed unreadable
    "${someone[@]}" find . -type f -print0 2>"$scratch/find" | sort -z |
        "${someone[@]}" xargs -0 sha256sum 2>/dev/null >"$scratch/expected"
    run 1 "$alone" "${someone[@]}" "$program" . && printed &&
        said 'mp-checksum: \./closed: Permission denied' \
            'mp-checksum: \./unreadable: Permission denied'
}

# The first line comes before the last file is read: it may vanish in between. What is on its way is
# bounded by the pipe and the pool, and nothing is read from the pipe meanwhile.
vanishing() {
    local status
    cp zzz "$scratch/zzz" && mkfifo "$scratch/pipe" || return 1
    "$alone" "$program" -j 2 . >"$scratch/pipe" 2>"$scratch/err" &
    {
        IFS= read -r line
        rm zzz
        sums .
        printf '%s\n' "$line"
        cat
    } <"$scratch/pipe" >"$scratch/out"
    wait $!
    status=$?
    mv "$scratch/zzz" zzz
    rm "$scratch/pipe"
    cat "$scratch/err"
    [ $status = 1 ] && printed && said 'mp-checksum: \./zzz: No such file or directory'
}

# The reader goes away: ended by SIGPIPE, and the workers with it.
broken_pipe() {
    { "$alone" "$program" -j 2 .; echo $? >"$scratch/status"; } 2>"$scratch/err" | head -n 1
    cat "$scratch/err"
    [ "$(cat "$scratch/status")" = 141 ]
}

# Killed in the middle, when the first line is out and many are not: no worker lives on.
killed() {
    local start=$1
    # The inner shell expands these.
    # shellcheck disable=SC2016
    run 137 "$alone" bash -c '
        mkfifo "$3" && exec 3<>"$3"
        "$1" -j 2 --start=$2 . >"$3" &
        read -r line <&3
        kill -KILL $!
        wait $!' - "$program" "$start" "$scratch/fifo-$start"
}

full() {
    "$alone" "$program" small 2>"$scratch/err" >/dev/full
    [ $? = 1 ] && said 'mp-checksum: cannot write to standard output'
}

wrong() {
    run 2 "$program" "$@" && [ ! -s "$scratch/out" ] && [ "$(wc -l <"$scratch/err")" = 1 ]
}

help_text() {
    run 0 "$program" "$1" && [ ! -s "$scratch/err" ] && grep -q '^Usage: ' "$scratch/out" &&
        ! grep -n '.\{81\}' "$scratch/out"
}

version() {
    run 0 "$program" "$1" && [ ! -s "$scratch/err" ] &&
        grep -Eqx 'mp-checksum \(libmp\) [0-9.]+' "$scratch/out"
}

# On a terminal of so many columns a line is drawn, shorter than that, and cleared in the end.
progress() {
    local columns=$1 said
    said=$scratch/terminal
    script -qec "stty cols $columns; '$program' small >'$scratch/out'" /dev/null \
        >"$said" </dev/null || return 1
    sums small
    printed || return 1
    # A return and an erasure of the line come before each drawn one, and clear the last.
    tr -d '\n' <"$said" | tr '\r' '\n' | sed 's/\x1b\[K//' >"$said.lines"
    cat -v "$said.lines"
    grep -Eq '^ *[0-9]+%' "$said.lines" || return 1
    ! grep -q ".\{$columns\}" "$said.lines" && [ "$(tail -c 4 "$said")" = $'\r\e[K' ]
}

check 'paths that do not exist' missing
check 'only such' all_missing
check 'a file that cannot be read' read_error
check 'odd names in errors' escaped_error
chmod 755 "$scratch"
if "${someone[@]}" test -x "$program"; then
    check 'a file and a directory that may not be read' unreadable
    chmod 700 closed
    chmod 600 unreadable
else
    skip 'a file and a directory that may not be read' 'others may not run the program'
fi
check 'a file that vanishes' vanishing
check 'the reader of the output goes away' broken_pipe
check 'killed, its workers forked' killed fork
check 'killed, its workers spawned' killed spawn
check 'the output is full' full
for words in '' '-j' '-j 0 .' '-j x .' '-j 513 .' '-j -1 .' '-j 99999999999999999999 .' \
    '--chaos=0 .' '--chaos 5x .' '--start=thread .' '--start= .' '--wrong .' '-x .'; do
    # These are words, to be split.
    # shellcheck disable=SC2086
    check "wrong usage: $words" wrong $words
done
check '--help' help_text --help
check '-h' help_text -h
check '--version' version --version
check '-V' version -V
for columns in 80 40 12 5 200; do
    check "progress on $columns columns" progress $columns
done
cd /
finish
