#!/bin/sh
# SPDX-License-Identifier: MIT
#
# shared-memory.sh PEER: shared-memory.py with Debian's Python, whatever else the PATH holds.

if [ ! -x /usr/bin/python3 ]; then
    echo '1..0 # SKIP no /usr/bin/python3'
    exit 0
fi
exec /usr/bin/python3 "$(dirname "$0")/shared-memory.py" "$1"
