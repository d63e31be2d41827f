# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For the tests of this folder, to be sourced with MPCTL and STAGE as arguments.
#
#   raise_scene SCENE NAME   a stage with this arena; what it tells is in ${fact[KEY]}
#   end_scene                takes it down
#   run STATUS WORD...       runs mpctl; what it prints is in $scratch/out and $scratch/err
#   printed LINE...          these were the lines on standard output
#   said REGEX...            these were the lines on standard error

# shellcheck source=tests/examples/tap.sh
. "$(dirname "$0")/../examples/tap.sh"
mpctl=$1 stage=$2
unset NO_COLOR COLUMNS

declare -A fact=()

raise_scene() {
    local key value
    fact=()
    coproc STAGE { exec "${within[@]}" "$stage" "$1" "$2" 2>&1; }
    while read -r key value; do
        [ "$key" = ready ] && return
        # shellcheck disable=SC2034
        fact[$key]=$value
    done <&"${STAGE[0]}"
    echo "Bail out! the stage \"$1\" fell down: $key $value"
    exit 1
}

end_scene() {
    local input=${STAGE[1]}
    exec {input}>&-
    wait "$STAGE_PID"
}

run() {
    local wanted=$1 status
    shift
    timeout 30 "$mpctl" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    cat "$scratch/out" "$scratch/err"
    [ $status = "$wanted" ] || {
        echo "ended with $status, not $wanted"
        return 1
    }
}

printed() {
    printf '%s\n' "$@" | diff - "$scratch/out"
}

said() {
    local n=0 regex
    for regex; do
        n=$((n + 1))
        sed -n "${n}p" "$scratch/err" | grep -Eqx "$regex" || return 1
    done
    [ "$(wc -l <"$scratch/err")" = $# ]
}

# json EXPRESSION: what was printed is JSON, called d, of which this is true.
json() {
    python3 - "$scratch/out" "$1" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as f:
    d = json.load(f)
def one(rows, name):
    return next(row for row in rows if row["name"] == name)
sys.exit(not eval("(" + sys.argv[2] + ")"))
PYTHON
}

# Rows without headings, their columns separated by one blank.
rows() {
    run 0 -q --no-legend "$@" >"$scratch/rows" || {
        cat "$scratch/rows"
        return 1
    }
    sed -i 's/  */ /g; s/^ //; s/ $//' "$scratch/out"
}
