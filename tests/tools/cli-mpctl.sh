#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# cli-mpctl.sh MPCTL STAGE: what mpctl prints about arenas in known states, as tables and as JSON,
# and what it says to a wrong command line.

within=()
# shellcheck source=tests/tools/stage.sh
. "$(dirname "$0")/stage.sh"
name=objects-$$

# ---- the command line ----

usage() {
    local regex=$1
    shift
    run 2 "$@" && said "mpctl: $regex, see --help"
}

help() {
    run 0 --help && said || return 1
    ! grep -E '.{81}' "$scratch/out" || return 1
    local word
    for word in list show pools queues locks deadlocks doctor --json --no-legend --no-pager \
        --quiet --full --output --help --version -j; do
        grep -q -e "$word" "$scratch/out" || {
            echo "no $word"
            return 1
        }
    done
}

version() {
    run 0 --version && grep -Eqx 'mpctl \(libmp\) [0-9.]+' "$scratch/out"
}

check '--help, in 80 columns' help
check '--version' version
check 'a wrong verb' usage 'no verb "frob"' frob
check 'a wrong verb that would spoil the terminal' usage 'no verb "\\x1b\[2J"' $'\e[2J'
check 'a wrong option' usage 'no option "--frob"' list --frob
check 'a wrong option with an argument' usage 'no option "--frob=3"' --frob=3
check 'a wrong letter' usage 'no option "x"' -qx
check 'a wrong letter before others' usage 'no option "x"' --quiet -xq
check 'an argument too many' usage 'no option "--quiet=3"' --quiet=3
check 'no argument' usage 'no argument after "--json"' --json
check 'a wrong mode' usage 'no JSON mode "long"' --json=long
check 'the modes' eval 'run 0 --json=help && printed short pretty off'
check 'no arena named' usage 'no ARENA after "show"' show
check 'a word too many' usage 'one word too many: "b"' list a b
check 'a word for a verb that takes none' usage 'one word too many: "a"' doctor a
check 'a wrong column' usage 'no column "frob" here' -o name,frob list
check 'columns for show' usage 'show prints .* "--output" does not fit' -o name show x
check 'no such arena' eval 'run 3 -q show "no such" && said "mpctl: no arena \"no such\""'
check 'no such arena for a list' eval 'run 3 -q queues nowhere &&
    [ ! -s "$scratch/out" ]'

# ---- objects in all states ----

raise_scene objects "$name"
parent=${fact[parent]} locker=${fact[lock_waiter]} consumer=${fact[consumer]}
producer=${fact[producer]}
watcher=${fact[watcher]} listener=${fact[listener]}
memfd=/proc/$parent/fd/${fact[fd]}
inode=$(stat -L -c %i "$memfd")

list_default() {
    rows && grep -qE "^$name $inode 1M [0-9.]+K 6 24 .* $parent stage $parent,$locker" \
        "$scratch/out" && cp "$scratch/out" "$scratch/default" && rows list && rows --no-pager list
}

list_columns() {
    rows -o inode,NAME,participants,participants_max,objects,deaths list "$name" &&
        printed "$inode $name 6 16 24 1"
}

legend() {
    run 0 list "$name" && head -1 "$scratch/out" | grep -Eq '^NAME +INODE +SIZE' &&
        tail -1 "$scratch/out" | grep -qx '1 arenas.'
}

list_json() {
    run 0 -q --json=short list && [ "$(wc -l <"$scratch/out")" = 1 ] && json '
        [a["inode"] for a in d if a["name"] == "'"$name"'"] == ['"$inode"']' &&
        run 0 --json=pretty list "$name" && [ "$(wc -l <"$scratch/out")" -gt 20 ] && json '
        len(d) == 1 and d[0]["size"] == 1 << 20 and d[0]["participants"] == 6 and
        0 < d[0]["used"] <= d[0]["size"] and d[0]["creator_pid"] == '"$parent"' and
        d[0]["creator_command"] == "stage" and d[0]["age_ms"] > 0 and
        [p["pid"] for p in d[0]["processes"]] ==
            sorted(['"$parent, $locker, $consumer, $producer, $watcher, $listener"'])' &&
        run 0 -j list "$name" && [ "$(wc -l <"$scratch/out")" = 1 ] &&
        run 0 -j --json=off list "$name" && grep -q '^NAME' "$scratch/out"
}

check 'list is the default' list_default
check 'columns that are asked for' list_columns
check 'headings and a count' legend
check 'list as JSON' list_json
check 'by inode' eval 'rows -o name list "$inode" && printed "$name"'
check 'by name and inode' eval 'rows -o name list "$name@$inode" && printed "$name"'
check 'not by another inode' run 3 list "$name@1"

queues() {
    rows -o name,depth,returned,maxsize,message_max,state,flags,producer_pid,consumer_pid \
        queues "$name" &&
        printed "jobs 3 0 8 1000B open - - -" "again 3 1 8 1000B open - - -" \
            "empty 0 0 8 1000B open single-consumer,drop-held - $consumer" \
            "full 1 0 1 1000B open - - -" \
            "wire 3 0 16 1000B open single-producer,single-consumer $parent $parent" \
            "over 1 0 8 1000B shut-down - - -" "ended 0 0 8 1000B ended - - -"
}

queue_waiters() {
    rows -o name,waiting_consumers,waiting_producers queues "$name" &&
        grep -Eqx "empty $consumer/$consumer [0-9.]+(ms|s) -" "$scratch/out" &&
        grep -Eqx "full - $producer/$producer [0-9.]+(ms|s)" "$scratch/out" &&
        [ "$(grep -c ' - -$' "$scratch/out")" = 5 ]
}

queues_json() {
    run 0 -j queues "$name" && json '
        len(d) == 7 and one(d, "jobs")["depth"] == 3 and one(d, "jobs")["flags"] == [] and
        one(d, "empty")["flags"] == ["single-consumer", "drop-held"] and
        [w["pid"] for w in one(d, "empty")["waiting_consumers"]] == ['"$consumer"'] and
        [w["pid"] for w in one(d, "full")["waiting_producers"]] == ['"$producer"'] and
        one(d, "full")["waiting_producers"][0]["waited_ms"] >= 0 and
        {q["arena"] for q in d} == {"'"$name"'"}'
}

locks() {
    rows -o name,kind,state,owner_pid,owner_name,owner_process,contended locks "$name" &&
        sed -n 1,5p "$scratch/out" >"$scratch/locks" && mv "$scratch/locks" "$scratch/out" &&
        printed 'free lock free - - - no' "held lock held $parent stage sleeping yes" \
            'orphan lock owner-died - - - no' "deep rlock held $parent stage sleeping no" \
            'book rwlock free - - - no' &&
        rows -o name,waiters locks "$name" &&
        grep -Eqx "held $locker/$locker [0-9.]+(ms|s)" "$scratch/out" &&
        run 0 -j locks "$name" && json '
        one(d, "held")["owner_pid"] == '"$parent"' and one(d, "held")["contended"] is True and
        [w["tid"] for w in one(d, "held")["waiters"]] == ['"$locker"'] and
        one(d, "free")["owner_pid"] is None and one(d, "free")["waiters"] == []'
}

others() {
    rows -o name,kind,state,detail,owner_pid,holders locks "$name" &&
        sed -n '4,$p' "$scratch/out" >"$scratch/locks" && mv "$scratch/locks" "$scratch/out" &&
        printed "deep rlock held 2 deep $parent $parent/$parent x2" 'book rwlock free - - -' \
            'dawn event clear - - -' 'noon event set - - -' \
            "read rwlock read 2 reading - $parent x2" \
            "written rwlock held - $parent $parent writer" \
            "permits semaphore available 1 of 3 bounded permits free - $parent x2" \
            'signals semaphore available 2 signals posted - -' \
            "gate barrier open 0 of 3 arrived - $parent" \
            "ruin barrier broken 0 of 3 arrived - $parent" \
            "rows locks held 2 of 1000 held - $parent x2" 'guard lock free - - -' \
            'news condition open 1 waiting - -'
}

others_json() {
    run 0 -j locks "$name" && json '
        one(d, "deep")["depth"] == 2 and one(d, "deep")["owner_tid"] == '"$parent"' and
        one(d, "free")["depth"] is None and one(d, "read")["readers"] == 2 and
        [(h["pid"], h["role"], h["units"]) for h in one(d, "read")["holders"]] ==
            [('"$parent"', "reader", 2)] and one(d, "written")["holders"][0]["role"] == "writer" and
        [one(d, "permits")[key] for key in ("units_free", "units", "units_are", "bounded")] ==
            [1, 3, "permits", True] and one(d, "signals")["units_are"] == "signals" and
        one(d, "signals")["units_free"] == 2 and one(d, "signals")["holders"] == [] and
        [h["name"] for h in one(d, "permits")["holders"]] == ["stage"] and
        [one(d, "gate")[key] for key in ("parties", "arrived", "broken")] == [3, 0, False] and
        one(d, "ruin")["broken"] is True and one(d, "noon")["set"] is True and
        [(w["pid"], w["waits_for"]) for w in one(d, "dawn")["waiters"]] ==
            [('"$watcher"', "event")] and
        [(w["pid"], w["waits_for"]) for w in one(d, "news")["waiters"]] ==
            [('"$listener"', "condition")]'
}

check 'queues: depth and state' queues
check 'queues: who waits' queue_waiters
check 'queues as JSON' queues_json
check 'locks: owners and waiters' locks
check 'semaphores and all else' others
check 'and as JSON' others_json
check 'no deadlocks here' eval 'run 0 deadlocks "$name" && printed "0 waits in deadlocks."'

show() {
    run 0 show "$name" || return 1
    local title
    for title in Participants 'Processes that have it open or mapped' Queues Locks Blocks Waits \
        Memory; do
        grep -qx "$title:" "$scratch/out" || {
            echo "no $title"
            return 1
        }
    done
    ! grep -q '^Workers' "$scratch/out" && grep -Eqx ' +Name: '"$name" "$scratch/out"
}

# The waiters are stopped, all the time.
show_json() {
    run 0 -j show "$name" && json '
        d["arena"]["name"] == "'"$name"'" and len(d["participants"]) == 6 and
        {p["pid"]: p["process"] for p in d["participants"]} == {'"$parent"': "sleeping",
            '"$locker"': "stopped", '"$consumer"': "stopped", '"$producer"': "stopped",
            '"$watcher"': "stopped", '"$listener"': "stopped"} and
        {p["state"] for p in d["participants"]} == {"live"} and
        {p["pid"] for p in d["processes"]} == {p["pid"] for p in d["participants"]} and
        all(p["mappings"] == 1 and p["fds"] >= 1 for p in d["processes"]) and
        len(d["queues"]) == 7 and len(d["locks"]) == 16 and
        [(b["name"], b["size"]) for b in d["blocks"]] == [("note", 100)] and
        {(w["pid"], w["kind"], w["object"], w["object_kind"]) for w in d["waits"]} ==
            {('"$locker"', "lock", "held", "lock"), ('"$consumer"', "message", "empty", "queue"),
             ('"$producer"', "room", "full", "queue"), ('"$watcher"', "event", "dawn", "event"),
             ('"$listener"', "condition", "news", "condition")} and
        sum(c["backed"] for c in d["memory"]) == d["arena"]["used"] and
        all(c["free"] <= c["blocks"] for c in d["memory"]) and
        d["pools"] == [] and d["workers"] == []'
}

check 'show' show
check 'show as JSON, of stopped processes' show_json

# Nothing in it changes, and no hole of it is filled, by our looking.
fingerprint() {
    stat -L -c '%b %s %i' "$memfd" && sha256sum <"$memfd"
}

traceless() {
    local verb
    fingerprint >"$scratch/before"
    for verb in list show pools queues locks deadlocks; do
        run 0 -q -j $verb "$name" || return 1
    done
    fingerprint | diff "$scratch/before" -
}

check 'looking leaves no trace' traceless

# As the kernel has it, on a terminal: headings in bold, unless that is not wanted.
on_terminal() {
    script -qec "$1" /dev/null </dev/null | tr -d '\r' >"$scratch/out"
    cat -v "$scratch/out"
}

colors() {
    on_terminal "$mpctl locks $name" && grep -q $'\e\\[' "$scratch/out" &&
        on_terminal "NO_COLOR=1 $mpctl locks $name" && ! grep -q $'\e\\[' "$scratch/out" &&
        on_terminal "TERM=dumb $mpctl locks $name" && ! grep -q $'\e\\[' "$scratch/out" &&
        on_terminal "$mpctl -j locks $name" && [ "$(wc -l <"$scratch/out")" -gt 20 ] &&
        run 0 locks "$name" && ! grep -q $'\e\\[' "$scratch/out"
}

if command -v script >/dev/null; then
    export TERM=xterm
    check 'colours on a terminal alone' colors
else
    skip 'colours on a terminal alone' 'no script(1)'
fi

closed_output() {
    ! "$mpctl" -q list "$name" >/dev/full 2>"$scratch/err" && said 'mpctl: cannot print: .*'
}

check 'standard output is full' closed_output
check 'the stage goes' end_scene
check 'and is gone' run 3 -q show "$name"

# ---- a pool ----

raise_scene pool "pool-$$"
pool=pool-$$ parent=${fact[parent]} worker=${fact[worker]}

pools() {
    rows -o name,parent_pid,parent_command,state,alive,workers,idle,jobs,deaths pools "$pool" &&
        printed "$pool $parent stage open 3 3 0 5 1" &&
        run 0 -q -j pools && json 'one(d, "'"$pool"'")["queued"] == 5'
}

workers() {
    run 0 -j show "$pool" && json '
        len(d["workers"]) == 3 and {w["state"] for w in d["workers"]} == {"running"} and
        '"$worker"' in [w["pid"] for w in d["workers"]] and
        {w["count"] for w in d["workers"]} == {1} and len({w["job"] for w in d["workers"]}) == 3 and
        all(w["running_ms"] >= 0 for w in d["workers"]) and
        one(d["queues"], "tasks")["depth"] == 2 and len(d["pools"]) == 1'
}

check 'pools' pools
check 'workers' workers
check 'the pool goes' end_scene

# ---- several of one name ----

raise_scene many "many-$$"

ambiguous() {
    local which
    run 1 -q show "many-$$" &&
        said "mpctl: 2 arenas are named \"many-$$\": say .*@INODE, of [0-9, ]+" &&
        rows -o inode,name list &&
        which=$(awk -v name="many-$$" '$2 == name { print $1; exit }' "$scratch/out") &&
        run 0 show "many-$$@$which" && run 0 show "$which"
}

order() {
    rows -o name,inode list && sort -C -k1,1 -k2,2n "$scratch/out" &&
        [ "$(grep -c "^many-$$" "$scratch/out")" = 12 ]
}

check 'a name that two have' ambiguous
check 'in the order of their names' order
no_main() {
    run 0 -j show "many-$$-11" && json '
        [p["process"] for p in d["participants"] if p["pid"] == '"${fact[no_main]}"'] == ["zombie"]
        and '"${fact[no_main]}"' in [p["pid"] for p in d["processes"]]'
}

check 'a process whose main() has ended by pthread_exit()' no_main
check 'the twelve go' end_scene

# ---- another pid namespace ----

within=(unshare --pid --fork --mount-proc)
if [ "$(id -u)" = 0 ] && "${within[@]}" true 2>/dev/null; then
    raise_scene objects "inner-$$"

    inner() {
        run 0 -j show "inner-$$" && json '
            '"${fact[parent]}"' in [p["inner_pid"] for p in d["participants"]] and
            {p["pid"] for p in d["participants"]} == {p["pid"] for p in d["processes"]} and
            {p["process"] for p in d["participants"]} == {"sleeping", "stopped"} and
            one(d["locks"], "held")["owner_pid"] == d["arena"]["creator_pid"] and
            d["arena"]["creator_pid"] != '"${fact[parent]}"
    }

    check 'processes of another pid namespace' inner
    end_scene
else
    skip 'processes of another pid namespace' 'unshare is not allowed'
fi
finish
