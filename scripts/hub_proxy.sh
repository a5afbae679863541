#!/bin/sh
# Install JupyterHub's proxy for the tests if it is missing: hub_proxy.sh VENV FOLDER
set -eu
venv=$1
folder=$2
if [ -x "$folder/node_modules/.bin/configurable-http-proxy" ]; then
    exit 0
fi
echo "Installing JupyterHub's proxy into $folder"
"$(dirname "$0")/node.sh" "$venv" \
    npm install --silent --no-save --prefix "$folder" configurable-http-proxy@5.0.1 >/dev/null
