"""Get the parts of a ComfyUI environment; called by the Dockerfile beside it.

    python get.py git URL REVISION FOLDER     a repository at a commit or tag, with its submodules
    python get.py node ID VERSION FOLDER      a pack of custom nodes from the Comfy registry
    python get.py scripts FOLDER              the install.py of each pack in a folder
    python get.py model URL FILE [SHA256]     a file, checked

Standard library only. COMFY_REGISTRY is the address of the registry's API. Tokens for models are
taken from the files hf_token and civitai_token in /run/secrets, where Docker puts build secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REGISTRY = os.environ.get("COMFY_REGISTRY", "https://api.comfy.org").rstrip("/")
ATTEMPTS = 4
TOKENS = {"huggingface.co": "hf_token", "civitai.com": "civitai_token"}


def say(text: str) -> None:
    print(text, flush=True)


def again(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that needs the network; retry it if it fails."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work(*arguments)
        except (OSError, subprocess.CalledProcessError) as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else 0
            if attempt == ATTEMPTS or (400 <= code < 500 and code not in (408, 429)):
                raise
            say(f"{error}; trying again")
            time.sleep(2**attempt)
    return None


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "advice.detachedHead=false", *arguments], check=True)


def fetch(folder: str, revision: str) -> None:
    try:
        git("-C", folder, "fetch", "-q", "--depth", "1", "origin", revision)
    except subprocess.CalledProcessError:
        # Some servers only provide branches and tags: after fetching all, the commit is there.
        git("-C", folder, "fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
        git("-C", folder, "checkout", "-q", "--detach", revision)
    else:
        git("-C", folder, "checkout", "-q", "--detach", "FETCH_HEAD")


def get_git(url: str, revision: str, folder: str) -> None:
    git("init", "-q", folder)
    git("-C", folder, "remote", "add", "origin", url)
    again(fetch, folder, revision)
    if Path(folder, ".gitmodules").is_file():
        again(git, "-C", folder, "submodule", "update", "-q", "--init", "--recursive")


def download(url: str, target: str, headers: Sequence[tuple[str, str]] = ()) -> str:
    request = urllib.request.Request(url, headers={"User-Agent": "comfyui-snapshot"})
    for name, value in headers:
        request.add_unredirected_header(name, value)
    digest = hashlib.sha256()
    with urllib.request.urlopen(request, timeout=60) as reply, open(target, "wb") as file:
        expected = reply.headers.get("Content-Length")
        while chunk := reply.read(1024 * 1024):
            digest.update(chunk)
            file.write(chunk)
        if expected is not None and file.tell() != int(expected):
            raise OSError(f"{url} ended after {file.tell()} of {expected} bytes")
    return digest.hexdigest()


def get_node(node_id: str, version: str, folder: str) -> None:
    query = urllib.parse.urlencode({"version": version})
    address = f"{REGISTRY}/nodes/{urllib.parse.quote(node_id)}/install?{query}"
    with tempfile.TemporaryDirectory() as scratch:
        again(download, address, f"{scratch}/answer.json")
        answer = json.loads(Path(scratch, "answer.json").read_bytes())
        # If the registry does not have a version, it returns another one.
        if answer.get("version") != version:
            sys.exit(f"The registry has no version {version} of {node_id}")
        again(download, answer["downloadUrl"], f"{scratch}/node.zip")
        Path(folder).mkdir(parents=True)
        with zipfile.ZipFile(f"{scratch}/node.zip") as archive:
            archive.extractall(folder)
            files = [name for name in archive.namelist() if not name.endswith("/")]
    Path(folder, ".tracking").write_text("\n".join(files), encoding="utf-8")


def run_scripts(folder: str) -> None:
    for script in sorted(Path(folder).glob("*/install.py")):
        say(f"Running {script}")
        if subprocess.run([sys.executable, "install.py"], cwd=script.parent).returncode:
            say(f"{script} failed; its pack may be incomplete")


def get_model(url: str, file: str, sha256: str = "") -> None:
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    host = urllib.parse.urlsplit(url).hostname or ""
    secret = Path("/run/secrets", TOKENS.get(host, "-"))
    token = secret.read_text().strip() if secret.is_file() else ""
    headers = [("Authorization", f"Bearer {token}")] if token else []
    found = again(download, url, f"{file}.part", headers)
    if sha256 and found != sha256:
        sys.exit(f"{url} is not the file of the snapshot: its SHA-256 is {found}")
    Path(f"{file}.part").replace(target)


def main(command: str, *arguments: str) -> None:
    commands: dict[str, Callable[..., None]] = {
        "git": get_git,
        "node": get_node,
        "scripts": run_scripts,
        "model": get_model,
    }
    commands[command](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
