#!/bin/sh
# Install what the tests need of the system and is missing: Chromium (CHROMIUM names one that is not on
# the path), libfaketime to set the clock of a process, a C compiler and, for all tests as root, Slurm.
set -eu
missing=
command -v "${CHROMIUM:-chromium}" >/dev/null 2>&1 || missing=chromium
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
if [ "$(id -u)" = 0 ] && [ "${THOROUGH:-}" ]; then
    for program in munged slurmctld slurmd; do
        command -v $program >/dev/null 2>&1 || { missing="$missing slurm-wlm munge" && break; }
    done
fi
[ "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need packages of the system: sudo apt-get install $missing" >&2
    case $missing in *chromium*) exit 1 ;; esac # tests of the others are skipped
    exit 0
fi
echo "Installing packages of the system for the tests: $missing"
apt-get update -qq
# A policy of 101 keeps the packages from starting daemons, for which there is no configuration.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086 - several words
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
