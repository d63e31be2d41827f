#!/bin/sh
# SPDX-License-Identifier: MIT
#
# install.sh BUILD: installs BUILD to an empty directory and builds programs against what is there,
# as one who got the library from a package would: by pkg-config alone, in C and in C++, with the
# shared library, with the static one, and with nothing shared at all. TAP on standard output.

set -u
build=$1
here=$(cd "$(dirname "$0")" && pwd)
headers=$here/../../lib/include
dest=$(mktemp -d) || exit
trap 'rm -rf "$dest"' EXIT

n=0
check() {
    what=$1
    shift
    n=$((n + 1))
    if "$@" >"$dest/log" 2>&1; then
        echo "ok $n - $what"
    else
        echo "not ok $n - $what"
        sed 's/^/# /' "$dest/log"
    fi
}

DESTDIR=$dest meson install --quiet -C "$build" --no-rebuild >"$dest/log" 2>&1 || {
    sed 's/^/# /' "$dest/log"
    echo 'Bail out! meson install'
    exit 1
}

pc=$(find "$dest" -name libmp.pc)
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$dest"
cflags=$(pkg-config --cflags libmp)
libs=$(pkg-config --libs libmp)
static_libs=$(pkg-config --static --libs libmp)
variable() { PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable="$1" libmp; }
libdir=$dest$(variable libdir)
includedir=$dest$(variable includedir)

strict='-Wall -Wextra -Werror'

# The ways to build; the flags are words, to be split.
# shellcheck disable=SC2086
c_program() {
    std=$1 out=$2
    shift 2
    ${CC:-cc} -std=$std $strict $cflags "$here/outside.c" -o "$dest/$out" "$@"
}
# shellcheck disable=SC2086
cpp_program() {
    std=$1 out=$2
    shift 2
    ${CXX:-c++} -std=$std $strict $cflags "$here/outside.cpp" -o "$dest/$out" "$@"
}
# shellcheck disable=SC2086
build() {
    case $1 in
        c-shared) c_program c17 "$1" $libs ;;
        c-archive) c_program gnu17 "$1" "$libdir/libmp.a" -luring -pthread ;;
        c-static) c_program gnu17 "$1" -static $static_libs ;;
        cpp-shared) cpp_program c++11 "$1" $libs ;;
        cpp-static) cpp_program c++20 "$1" -static $static_libs ;;
    esac
}

says_ok() { [ "$(LD_LIBRARY_PATH=$libdir timeout 60 "$1")" = ok ]; }
links() { readelf -d "$1" | grep -q 'NEEDED.*libmp\.so\.0'; }
not_links() { [ -x "$1" ] && ! links "$1"; }
same_headers() { diff -r "$headers/mp" "$includedir/mp"; }

check 'every public header is installed, and no other' same_headers
for way in c-shared c-archive c-static cpp-shared cpp-static; do
    if [ "${way#cpp}" != "$way" ] && ! command -v "${CXX:-c++}" >/dev/null; then
        n=$((n + 1))
        echo "ok $n - $way # SKIP no C++ compiler"
        continue
    fi
    check "$way: builds" build "$way"
    check "$way: runs" says_ok "$dest/$way"
done
check 'linked with the shared library' links "$dest/c-shared"
check 'linked without it' not_links "$dest/c-archive"
echo "1..$n"
