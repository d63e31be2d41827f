# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For the tests of this folder, to be sourced: TAP on standard output.
#
#   check WHAT COMMAND...   a test: passes when the command does; what it says is shown if not
#   skip WHAT WHY           a test that can not be made here
#   finish                  the plan; last
#
# $scratch is an empty directory, removed in the end.

set -u
export LC_ALL=C

scratch=$(mktemp -d) || exit
# A test may take permissions away.
trap 'chmod -R u+rwX "$scratch"; rm -rf "$scratch"' EXIT
tests=0

check() {
    local what=$1
    shift
    tests=$((tests + 1))
    if "$@" >"$scratch/said" 2>&1; then
        echo "ok $tests - $what"
    else
        echo "not ok $tests - $what"
        head -n 40 "$scratch/said" | sed 's/^/# /'
    fi
}

skip() {
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

finish() {
    echo "1..$tests"
}
