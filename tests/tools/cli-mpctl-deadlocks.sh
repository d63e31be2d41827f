#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# cli-mpctl-deadlocks.sh MPCTL STAGE: processes that wait for each other are found and named, and
# those that only seem to are not.

within=()
# shellcheck source=tests/tools/stage.sh
. "$(dirname "$0")/stage.sh"
name=dead-$$

raise_scene deadlocks "$name"

# soon COMMAND...: it passes before long. Who waits is woken now and then to look for itself, and
# does not wait for that moment.
soon() {
    local i
    for ((i = 0; i < 300; i++)); do
        "$@" >"$scratch/soon" 2>&1 && return
        sleep 0.1
    done
    cat "$scratch/soon"
    return 1
}

# deadlock ARENA ROW...: it has one, of these rows: VERDICT PID WAITS-FOR OBJECT HELD-BY.
deadlock() {
    local arena=$1
    shift
    status=1 columns -o deadlock,verdict,pid,waits_for,object,holders deadlocks "$name-$arena" &&
        printed "${@/#/1 }"
}

# rows(), of a run that ends with $status.
columns() {
    run "$status" -q --no-legend "$@" >"$scratch/rows" || {
        cat "$scratch/rows"
        return 1
    }
    sed -i 's/  */ /g; s/^ //; s/ $//' "$scratch/out"
}

none() {
    run 0 -q deadlocks "$name-$1" && printed '0 waits in deadlocks.'
}

cross=("certain ${fact[cross1]} lock b ${fact[cross2]}"
    "certain ${fact[cross2]} lock a ${fact[cross1]}")
ring=("certain ${fact[ring1]} lock b ${fact[ring2]}"
    "certain ${fact[ring2]} lock c ${fact[ring3]}"
    "certain ${fact[ring3]} lock a ${fact[ring1]}")

check 'two locks, crosswise' soon deadlock cross "${cross[@]}"
check 'three in a ring over two arenas, without the one behind it' soon deadlock ring "${ring[@]}"
check 'the same, by the other arena' soon deadlock far "${ring[@]}"
check 'a recursive lock' soon deadlock rlock "certain ${fact[rlock1]} lock a ${fact[rlock2]}" \
    "certain ${fact[rlock2]} rlock deep ${fact[rlock1]}/${fact[rlock1]} x2"
# One of them has the word, and waits for both to stop reading.
upgrade() {
    local x=${fact[upgrade1]} y=${fact[upgrade2]}
    deadlock upgrade "certain $x write book $x, $y" "certain $y write book $x writer" ||
        deadlock upgrade "certain $x write book $y writer" "certain $y write book $x, $y"
}

check 'two readers that want to write' soon upgrade
check 'a writer and a reader' soon deadlock reader \
    "certain ${fact[reader1]} lock a ${fact[reader2]}" \
    "certain ${fact[reader2]} read book ${fact[reader1]} writer"
permits="${fact[permits1]}, ${fact[permits2]}"
check 'all who have permits want more' soon deadlock permits \
    "certain ${fact[permits1]} semaphore permits $permits" \
    "certain ${fact[permits2]} semaphore permits $permits"
check 'a value and an array' soon deadlock values \
    "certain ${fact[values1]} array row ${fact[values2]}/${fact[values2]}" \
    "certain ${fact[values2]} value number ${fact[values1]}/${fact[values1]}"
check 'two locks of many' soon deadlock many \
    "certain ${fact[many1]} lock seats[300] ${fact[many2]}" \
    "certain ${fact[many2]} lock seats[3] ${fact[many1]}"
check 'itself' soon deadlock self "certain ${fact[self1]} lock a ${fact[self1]}"
check 'a thread that may end it' soon deadlock doubt \
    "possible ${fact[doubt1]} lock b ${fact[doubt2]}" \
    "possible ${fact[doubt2]} lock a ${fact[doubt1]}"
check 'not all who have permits' none some
check 'who waits for one that goes on' none contended

threads() {
    status=1 columns -o verdict,pid,waits_for,object deadlocks "$name-threads" &&
        sort -o "$scratch/out" "$scratch/out" &&
        printed "certain ${fact[threads1]} rlock deep" "certain ${fact[threads1]} rlock other" &&
        run 1 -q -j deadlocks "$name-threads" && json '
            len({w["tid"] for w in d} | {'"${fact[threads1]}"'}) == 3 and
            [w["tid"] for w in d] == [w["holders"][0]["tid"] for w in reversed(d)]'
}

as_json() {
    run 1 -q -j deadlocks "$name-far" && json '
        [w["arena"] for w in d] == ["'"$name"'-far"] + 2 * ["'"$name"'-ring"] and
        {w["deadlock"] for w in d} == {1} and {w["verdict"] for w in d} == {"certain"} and
        {w["object_kind"] for w in d} == {"lock"} and all(w["waited_ms"] >= 0 for w in d) and
        [w["holders"][0]["pid"] for w in d] == [w["pid"] for w in d[1:] + d[:1]]'
}

all() {
    run 1 -q -j deadlocks && json '
        sorted(len(set(w["pid"] for w in d if w["deadlock"] == n)) for n in
            {w["deadlock"] for w in d if w["arena"].startswith("'"$name-"'")}) ==
        [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3]'
}

check 'two threads of one process, beside a third' soon threads
check 'as JSON' soon as_json
check 'all of them at once' soon all

# until PID STATES: the process is in one of these states.
until_state() {
    local i state
    for ((i = 0; i < 3000; i++)); do
        state=$(ps -o stat= -p "$1") && [[ $state == [$2]* ]] && return
        sleep 0.01
    done
    echo "$1 is not in $2"
    return 1
}

stopped() {
    kill -STOP "${fact[cross1]}" "${fact[upgrade2]}" && until_state "${fact[cross1]}" T &&
        until_state "${fact[upgrade2]}" T && deadlock cross "${cross[@]}" &&
        status=1 columns -o pid,process deadlocks "$name-upgrade" &&
        printed "${fact[upgrade1]} sleeping" "${fact[upgrade2]} stopped" &&
        kill -CONT "${fact[cross1]}" "${fact[upgrade2]}"
}

# Its death ends the wait of the other.
killed() {
    kill -KILL "${fact[cross1]}" && soon none cross
}

check 'stopped ones' soon stopped
check 'one is killed' killed
check 'the others stay as they are' soon deadlock ring "${ring[@]}"
check 'the stage goes' end_scene

# ---- another pid namespace ----

within=(unshare --pid --fork --mount-proc)
if [ "$(id -u)" = 0 ] && "${within[@]}" true 2>/dev/null; then
    name=inner-$$
    raise_scene deadlocks "$name"

    # By the pids and tids that are theirs here.
    inner() {
        run 1 -q -j deadlocks "$name-rlock" && json '
            [w["verdict"] for w in d] == ["certain"] * 2 and
            all(w["pid"] == w["tid"] != '"${fact[rlock1]}"' for w in d) and
            [w["holders"][0]["pid"] for w in d] == [w["pid"] for w in reversed(d)] and
            {w["holders"][0]["tid"] for w in d if w["waits_for"] == "rlock"} ==
                {w["tid"] for w in d if w["waits_for"] == "lock"}'
    }

    check 'in another pid namespace' soon inner
    check 'that stage goes' end_scene
else
    skip 'in another pid namespace' 'unshare is not allowed'
fi
within=()

# ---- at random ----

raise_scene maze "maze-$$"
: >"$scratch/counts"

# What mpctl finds in a maze is what is there, by another way.
mazes() {
    local i word
    for ((i = 0; i < 30; i++)); do
        echo >&"${STAGE[1]}" && read -r word <&"${STAGE[0]}" && [ "$word" = ready ] || return 1
        for word in locks show deadlocks; do
            timeout 30 "$mpctl" -q --json=short "$word" "maze-$$" >"$scratch/$word"
            [ $? -le 1 ] || return 1
        done
        python3 "$(dirname "$0")/maze.py" "$scratch/locks" "$scratch/show" "$scratch/deadlocks" \
            >>"$scratch/counts" || {
            cat "$scratch/locks" "$scratch/show" "$scratch/deadlocks"
            return 1
        }
    done
    cat "$scratch/counts"
    grep -qv '^0' "$scratch/counts" && grep -qv '0$' "$scratch/counts"
}

check 'mazes' mazes
check 'the maze goes' end_scene
finish
