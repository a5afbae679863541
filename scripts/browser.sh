#!/bin/sh
# Install Chromium for the browser tests if it is missing; CHROMIUM names one that is not on the path.
set -eu
if command -v "${CHROMIUM:-chromium}" >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing chromium for the browser tests"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        chromium fonts-dejavu-core >/dev/null
    exit 0
fi
echo "The browser tests need chromium: sudo apt-get install chromium" >&2
exit 1
