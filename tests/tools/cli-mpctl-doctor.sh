#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# cli-mpctl-doctor.sh MPCTL STAGE REFUSE: what mpctl doctor says about this machine, and about a
# poorer one: under filters, with low limits, without /proc. What it says must be so, and nothing
# may stay of its trying.

# shellcheck source=tests/tools/stage.sh
. "$(dirname "$0")/stage.sh"
refuse=$3

facilities='kernel arena memfd MFD_NOEXEC_SEAL futex robust+futexes futex_waitv membarrier io_uring
    io_uring+futexes rseq process pidfd_open PIDFD_GET_INFO PIDFD_INFO_EXIT clone3 CLONE_INTO_CGROUP
    close_range lifelines ptrace user+namespaces seccomp+filters Landlock /proc /dev/shm cgroup+v2
    cgroup+delegation CPUs RLIMIT_NOFILE RLIMIT_NPROC RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_FSIZE
    kernel.pid_max vm.max_map_count vm.overcommit_memory memory+cgroup'

# examine STATUS [WRAPPER...]: its answer as JSON into $scratch/out.
examine() {
    local wanted=$1 status
    shift
    timeout 60 "$@" "$mpctl" --json=short doctor >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    cat "$scratch/err"
    [ $status = "$wanted" ] || {
        echo "ended with $status, not $wanted"
        cat "$scratch/out"
        return 1
    }
}

# claims EXPRESSION: of these answers it is true. state("x") and row("x") are at hand, and with
# $scratch/plain (an answer without any wrapper) before("x").
claims() {
    python3 - "$scratch/out" "$scratch/plain" "$facilities" "$1" <<'PYTHON'
import json, sys
now, plain, names, expression = sys.argv[1:]
names = [n.replace("+", " ") for n in names.split()]
d = json.load(open(now))
p = json.load(open(plain))
def row(name): return next(r for r in d if r["facility"] == name)
def state(name): return row(name)["state"]
def before(name): return next(r for r in p if r["facility"] == name)["state"]
def others_as_before(*changed):
    differ = [(n, before(n), state(n)) for n in names if n not in changed and before(n) != state(n)]
    print(*differ)
    return not differ
if not eval("(" + expression + ")"):
    print(json.dumps(d, indent=1))
    sys.exit(1)
PYTHON
}

# ---- here ----

plain() {
    examine 0 && [ ! -s "$scratch/err" ] && cp "$scratch/out" "$scratch/plain" && claims '
        [r["facility"] for r in d] == names and
        {r["state"] for r in d} <= {"ok", "limited", "refused", "missing"} and
        all(r["detail"] and (r["instead"] is None) == (r["state"] == "ok") for r in d) and
        all(r["state"] != "missing" and r["state"] != "refused" for r in d if r["required"]) and
        sorted(r["facility"] for r in d if r["required"]) == sorted(["arena", "memfd", "futex",
            "robust futexes", "process", "pidfd_open", "close_range", "/proc"]) and
        all(r["error"] is None or r["error"].startswith("E") for r in d)'
}

figures() {
    claims "row('kernel')['detail'].split()[1] == '$(uname -r)' and
        row('kernel.pid_max')['value'] == $(cat /proc/sys/kernel/pid_max) and
        row('vm.max_map_count')['value'] == $(cat /proc/sys/vm/max_map_count) and
        str(row('RLIMIT_NOFILE')['value'] or 'unlimited') == '$(ulimit -S -n)' and
        row('CPUs')['value'] >= 1 and 'online' in row('CPUs')['detail']"
}

table() {
    run 0 doctor && head -1 "$scratch/out" | grep -Eq '^FACILITY +STATE +FOUND +INSTEAD' &&
        tail -1 "$scratch/out" | grep -Eqx '[0-9]+ facilities\.' &&
        rows -o facility,state doctor && grep -qx 'arena ok' "$scratch/out" &&
        run 0 --json=pretty doctor && [ "$(wc -l <"$scratch/out")" -gt 200 ]
}

on_terminal() {
    script -qec "stty cols 80; $mpctl doctor" /dev/null </dev/null | tr -d '\r' |
        sed 's/\x1b\[[0-9;]*m//g' >"$scratch/out"
    cat "$scratch/out"
    grep -q 'facilities\.' "$scratch/out" && ! grep -E '.{81}' "$scratch/out"
}

check 'here, as JSON' plain
check 'figures' figures
check 'as a table, and spread out' table
if command -v script >/dev/null; then
    export TERM=xterm
    check 'on a terminal of 80 columns' on_terminal
else
    skip 'on a terminal of 80 columns' 'no script(1)'
fi

# ---- nothing stays ----

# Of this test: an earlier one may have been killed.
left_over() {
    find /sys/fs/cgroup /dev/shm -maxdepth 6 -name 'mpctl-doctor*' -newer "$scratch/plain" \
        2>/dev/null
}

traceless() {
    local sid
    # shellcheck disable=SC2016
    sid=$(setsid --wait sh -c 'echo $$; exec "$1" doctor >/dev/null' sh "$mpctl") || return 1
    # All that it started is of its session.
    pgrep -r R,S,D,T,t -s "$sid" && return 1
    [ -z "$(left_over)" ]
}

if command -v setsid >/dev/null && command -v pgrep >/dev/null; then
    check 'nothing is left behind' traceless
else
    skip 'nothing is left behind' 'no setsid(1), or no pgrep(1)'
fi

# ---- under filters ----

may() {
    "$@" true >/dev/null 2>&1
}

refused() {
    local gone='"futex_waitv", "membarrier", "io_uring", "io_uring futexes", "PIDFD_GET_INFO",
        "PIDFD_INFO_EXIT", "clone3", "CLONE_INTO_CGROUP"'
    examine 0 "$refuse" -- && claims "
        all(state(n) == ('refused' if before(n) == 'ok' else before(n)) for n in [$gone]) and
        all(row(n)['instead'] for n in [$gone]) and others_as_before($gone) and
        row('membarrier')['error'] == 'EPERM' and row('futex_waitv')['error'] == 'ENOSYS' and
        'filter' in row('io_uring')['detail']"
}

killed() {
    local gone='"arena", "futex_waitv", "membarrier", "io_uring", "io_uring futexes"'
    examine 1 "$refuse" --kill -- && claims "
        all(state(n) == 'refused' and 'kills' in row(n)['detail'] for n in [$gone]) and
        all('is killed' in row(n)['instead'] for n in [$gone]) and others_as_before($gone)" &&
        [ "$(grep -c '^mpctl: libmp does not work here: ' "$scratch/err")" = 5 ]
}

if may "$refuse" --; then
    check 'calls that a filter refuses' refused
else
    skip 'calls that a filter refuses' 'no filter can be set'
fi
# Where an outer filter refuses these calls already it may be asked first, or not.
if grep -q '^Seccomp:.*0' /proc/self/status && may "$refuse" --kill --; then
    check 'calls that a filter kills for' killed
else
    skip 'calls that a filter kills for' 'no filter can be set, or there is one'
fi

# ---- with limits ----

limits() {
    # shellcheck disable=SC2016
    examine 0 bash -c 'ulimit -S -n 100; exec "$@"' bash && claims '
        state("RLIMIT_NOFILE") == "limited" and row("RLIMIT_NOFILE")["value"] == 100 and
        row("RLIMIT_NOFILE")["instead"] and others_as_before("RLIMIT_NOFILE")'
}

# An arena is a file, if without a name.
small_files() {
    # shellcheck disable=SC2016
    examine 1 bash -c 'ulimit -S -f 100; exec "$@"' bash && claims '
        state("RLIMIT_FSIZE") == "limited" and state("arena") == "refused" and
        row("arena")["error"] == "EFBIG" and row("RLIMIT_FSIZE")["value"] == 102400'
}

one_cpu() {
    local cpu
    cpu=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')
    examine 0 taskset -c "$cpu" && claims 'row("CPUs")["value"] == 1'
}

no_process() {
    examine 1 setpriv --reuid 65534 --regid 65534 --clear-groups prlimit --nproc=0 && claims '
        state("process") == "refused" and row("process")["error"] == "EAGAIN" and
        state("vm.max_map_count") == before("vm.max_map_count") and
        state("RLIMIT_NPROC") == "limited" and row("RLIMIT_NPROC")["value"] == 0'
}

# As some daemons start what they start: children are then reaped by nobody.
children_ignored() {
    examine 0 python3 -c 'import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp(sys.argv[1], sys.argv[1:])' && claims 'others_as_before()'
}

no_rseq() {
    examine 0 env GLIBC_TUNABLES=glibc.pthread.rseq=0 && claims '
        state("rseq") == "missing" and others_as_before("rseq")'
}

check 'few descriptors' limits
check 'files may not be large' small_files
if command -v taskset >/dev/null; then
    check 'one CPU' one_cpu
else
    skip 'one CPU' 'no taskset(1)'
fi
check 'no rseq' no_rseq
check 'SIGCHLD is ignored' children_ignored
if command -v prlimit >/dev/null &&
    setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$mpctl" 2>/dev/null; then
    check 'no process to be had' no_process
else
    skip 'no process to be had' 'not allowed here'
fi

# ---- other file systems ----

# shellcheck disable=SC2016
without_proc=(unshare --mount sh -c 'mount -t tmpfs none /proc && exec "$@"' sh)
# shellcheck disable=SC2016
small_shm=(unshare --mount sh -c 'mount -t tmpfs -o size=8k none /dev/shm && exec "$@"' sh)
# shellcheck disable=SC2016
hidden=(unshare --mount sh -c 'mount -t proc -o hidepid=2 none /proc &&
    exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' sh)
# shellcheck disable=SC2016
no_more=(unshare --user --map-root-user
    sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"' sh)

no_proc() {
    examine 1 "${without_proc[@]}" && claims '
        state("/proc") == "missing" and row("/proc")["required"] and
        state("lifelines") == "missing" and state("arena") == "ok" and
        state("PIDFD_INFO_EXIT") == before("PIDFD_INFO_EXIT") and state("CPUs") == "ok"' &&
        grep -q '^mpctl: libmp does not work here: /proc: missing: ' "$scratch/err"
}

shm() {
    examine 0 "${small_shm[@]}" && claims '
        state("/dev/shm") == "limited" and row("/dev/shm")["value"] == 8192 and
        others_as_before("/dev/shm")'
}

hidden_proc() {
    examine 0 "${hidden[@]}" && claims '
        state("/proc") == "limited" and "hidepid" in row("/proc")["detail"] and
        state("arena") == state("lifelines") == "ok" and
        (state("cgroup delegation") != "ok" or before("cgroup delegation") == "ok")'
}

namespaces() {
    examine 0 "${no_more[@]}" && claims '
        state("user namespaces") == "refused" and row("user namespaces")["error"] == "ENOSPC"'
}

place() {
    local what=$1 test=$2
    shift 2
    if may "$@"; then
        check "$what" "$test"
    else
        skip "$what" 'not allowed here'
    fi
}

place 'no /proc' no_proc "${without_proc[@]}"
place 'a small /dev/shm' shm "${small_shm[@]}"
place 'no more user namespaces' namespaces "${no_more[@]}"
if may "${hidden[@]}" && setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$mpctl"; then
    check '/proc that hides, to another user' hidden_proc
else
    skip '/proc that hides, to another user' 'not allowed here'
fi
finish
