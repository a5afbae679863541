#!/bin/sh
# Install Slurm if it is missing: tests start one on this machine, with one node. Only root can do both.
set -eu
if command -v slurmctld >/dev/null 2>&1 && command -v slurmd >/dev/null 2>&1 &&
    command -v munged >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Slurm for the tests of clusters"
    apt-get update -qq
    # A policy of 101 keeps the packages from starting daemons, for which there is no configuration.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        slurm-wlm munge >/dev/null
    exit 0
fi
echo "Tests with Slurm are skipped: they need root and Slurm (apt-get install slurm-wlm)" >&2
