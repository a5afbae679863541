#!/bin/sh
# Install libfaketime if it is missing: with it, tests set the clock of a process.
set -eu
if ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing libfaketime for tests of the clock"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends libfaketime >/dev/null
    exit 0
fi
echo "Tests of the clock are skipped: they need libfaketime (apt-get install libfaketime)" >&2
