#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# cli-mpctl-hostile.sh MPCTL STAGE: mpctl beside processes that are killed all the time, in an arena
# that is scribbled over, among things that only look like arenas, and as a user who may see little.

within=()
# shellcheck source=tests/tools/stage.sh
. "$(dirname "$0")/stage.sh"

# ---- killed all the time ----

raise_scene churn "churn-$$"

# times N VERB...: whatever it finds, it ends well each time.
times() {
    local n=$1 i
    shift
    for ((i = 0; i < n; i++)); do
        run 0 -q "$@" >/dev/null || {
            cat "$scratch/out" "$scratch/err"
            return 1
        }
        [ ! -s "$scratch/err" ] || {
            cat "$scratch/err"
            return 1
        }
    done
}

check 'list, 200 times, while processes are killed' times 200 list "churn-$$"
check 'show, 50 times' times 50 show "churn-$$"
check 'locks and their dying owners' times 50 -j locks "churn-$$"
check 'who waits there does not wait for ever' times 100 deadlocks "churn-$$"
check 'the last one goes' end_scene

# ---- scribbled over ----

raise_scene scribble "scribble-$$"
: >"$scratch/all"

# It says what it read, or that this is no arena; it never crashes or hangs.
scribbled() {
    local i verb status
    for ((i = 0; i < 25; i++)); do
        for verb in list show pools queues locks deadlocks; do
            timeout 20 "$mpctl" -q -j $verb "scribble-$$" >"$scratch/out" 2>"$scratch/err"
            status=$?
            [ $status -le 1 ] || {
                echo "$verb: ended with $status"
                cat "$scratch/err"
                return 1
            }
            cat "$scratch/out" >>"$scratch/all"
            timeout 20 "$mpctl" -q $verb "scribble-$$" >"$scratch/out" 2>"$scratch/err"
            [ $? -le 1 ] && ! grep -q '[^ -~]' "$scratch/out" "$scratch/err" || return 1
        done
    done
}

# Each line is JSON; and something was there to see.
valid() {
    python3 - "$scratch/all" <<'PYTHON'
import json, sys
n = {"queues": 0, "locks": 0, "workers": 0, "waits": 0}
with open(sys.argv[1]) as f:
    for line in f:
        d = json.loads(line)
        for key in n if isinstance(d, dict) else ():
            n[key] += len(d[key])
print(n)
sys.exit(not all(n.values()))
PYTHON
}

check 'an arena that is scribbled over' scribbled
check 'what was printed is JSON' valid
check 'the scribbler goes' end_scene

# ---- only named so ----

raise_scene foreign "foreign-$$"

notes() {
    run 0 list || return 1
    local more
    for more in '-unsealed.*: it is not sealed as one' '-short.*: it does not begin as one' \
        '-zeros.*: it does not begin as one' '-torn.*: its sizes do not fit each other' \
        '-version.*: it is of another version of libmp' \
        '-e\\x1b\[2J\\x0a"\\\\x\\xff@[0-9]+ .*: it does not begin as one'; do
        grep -Eq "^mpctl: foreign-$$$more\$" "$scratch/err" || {
            echo "not a word of $more"
            return 1
        }
    done
    ! LC_ALL=C grep -q '[^ -~]' "$scratch/err" && ! grep -q "foreign-$$-[^m]" "$scratch/out"
}

fifo() {
    grep -Eq '^mpctl: fifo@.*: it is no memfd$' "$scratch/err"
}

check 'what is no arena is said, and left out' notes
if [ "${fact[fifo]-}" ]; then
    check 'a FIFO named as one is not opened' fifo
else
    skip 'a FIFO named as one is not opened' 'mount is not allowed'
fi
check 'nor is it said to the quiet' eval 'run 0 -q list && said'
check 'asked for, it is an error' eval 'run 1 -q show "foreign-$$-torn" &&
    said "mpctl: foreign-$$-torn@[0-9]+: not an arena: its sizes do not fit each other"'
check 'a hostile name can be asked for as listed' \
    run 1 show "foreign-$$-e"'\x1b[2J\x0a"\\x\xff'
check 'and as it is' run 1 show "foreign-$$-e"$'\e[2J\n"\\x\xff'
check 'what has the name of an arena does not hide it' \
    eval 'run 0 -j show "foreign-$$" && json "d[\"arena\"][\"size\"] == 1 << 20"'
if [ "$(id -u)" = 0 ]; then
    check 'an arena that is held by a mapping alone' eval 'run 0 -j show "foreign-$$-mapped" &&
        json "[(p[\"fds\"], p[\"mappings\"]) for p in d[\"processes\"]] == [(0, 1)]"'
else
    skip 'an arena that is held by a mapping alone' 'not root'
fi
check 'the foreign go' end_scene

# ---- of other users ----

if [ "$(id -u)" = 0 ] && cp "$mpctl" "$scratch/mpctl" && chmod 755 "$scratch" "$scratch/mpctl" &&
    setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/mpctl" --version \
        >/dev/null 2>&1; then
    raise_scene objects "other-$$"
    cat >"$scratch/nobody" <<SHELL
#!/bin/sh
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/mpctl" "\$@"
SHELL
    chmod 755 "$scratch/nobody"
    mpctl=$scratch/nobody
    check 'nobody is told what was not looked at' eval 'run 0 list &&
        said "mpctl: [0-9]+ process(es)? may not be looked into: .*" &&
        ! grep -q "other-$$" "$scratch/out"'
    check 'unless quiet' eval 'run 0 -q list && said'
    check 'and for nobody there is no such arena' eval 'run 3 show "other-$$" &&
        said "mpctl: [0-9]+ process.*" "mpctl: no arena \"other-$$\""'
    end_scene
else
    skip 'nobody is told what was not looked at' 'not root'
fi
finish
