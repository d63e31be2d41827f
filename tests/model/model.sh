#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# model.sh MODEL.pml: check a model with spin, and then that its mutants fail. What is run stands in
# the model's head, one line each:
#
#   RUN -DNAME=VALUE...          no error is to be found, and every state is to be seen
#   MUTANT NAME -DNAME=VALUE... [# why]  an error is to be found
#
# TAP on stdout. The checkers are built by CC (cc) in a temporary directory, and may use MEMORY MB.

set -u
memory=${MEMORY-1500}
model=$(realpath "$1") || exit

command -v spin >/dev/null || {
    echo '1..0 # SKIP no spin'
    exit 77
}
tmp=$(mktemp -d) || exit
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit

count=0
failed=0

# search OPTION...: the checker's report.
search() {
    rm -f pan*
    # Spin's own code warns.
    spin -a "$@" "$model" && "${CC-cc}" -O1 -w -DSAFETY -DMEMLIM="$memory" -o pan pan.c &&
        ./pan -m20000 -w22
}

# result WORD NAME REPORT
result() {
    local states
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' <<<"$3")
    count=$((count + 1))
    echo "$1 $count - $2 (${states:-no} states)"
    [ "$1" = ok ] || {
        failed=$((failed + 1))
        sed 's/^/# /' <<<"$3"
    }
}

found() {
    grep -Eq '^pan:1: (assertion violated|invalid end state)' <<<"$1"
}

while read -r word name options; do
    case $word in
        RUN)
            # shellcheck disable=SC2086
            report=$(search $name $options 2>&1)
            verdict='not ok'
            grep -q 'errors: 0$' <<<"$report" &&
                ! grep -Eq '^pan:|Search not completed|max search depth' \
                    < <(grep -v '^pan: \(elapsed\|rate\|resizing\)' <<<"$report") && verdict=ok
            result "$verdict" "$name $options" "$report"
            ;;
        MUTANT)
            options=${options%%#*}
            # shellcheck disable=SC2086
            report=$(search "-D$name" $options 2>&1)
            verdict='not ok'
            found "$report" && verdict=ok
            result "$verdict" "fails as it should: $name $options" "$report"
            ;;
    esac
done < <(sed -n 's/^ \* *\(RUN .*\|MUTANT .*\)/\1/p' "$model")
echo "1..$count"
[ "$count" -gt 0 ] && [ "$failed" = 0 ]
