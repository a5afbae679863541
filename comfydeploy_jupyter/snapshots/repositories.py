"""Read the ``.git`` of a folder without executing any program that its configuration names."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..comfyui.find import git_commit, read_text
from ..util.child import plain_environment
from ..util.secrets import clean_url
from .snapshot import is_address

_TIMEOUT = 20.0  # seconds for git to compare a work tree
_HOSTS = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "huggingface.co")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256_LENGTH = 64
_FILTER = re.compile(r"\[\s*filter\b", re.IGNORECASE)
_HARMLESS = re.compile(
    r"^[ \t]*(filemode|symlinks|ignorecase|precomposeunicode|autocrlf|eol)[ \t]*=[ \t]*"
    r"(true|false|input|lf|crlf|native)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Checkout:
    """A folder that was checked out by git."""

    repository: str | None
    commit: str | None
    modified: bool


def read_checkout(folder: Path) -> Checkout | None:
    """Return the checkout in a folder, or None if the folder itself is not a repository."""
    if not (folder / ".git").exists():
        return None
    directory = _directory(folder / ".git")
    config = read_text(directory / "config")
    return Checkout(
        _public(_remote(config)),
        git_commit(folder / ".git"),
        _is_modified(folder, directory, config),
    )


def _own_directory(git: Path) -> Path:
    """Return the folder with ``HEAD`` and index; it is elsewhere for work trees and submodules."""
    named = re.match(r"gitdir:\s*(.+)", read_text(git)) if git.is_file() else None
    return git.parent / named[1].strip() if named else git


def _directory(git: Path) -> Path:
    """Return the folder with configuration and objects, which all work trees share."""
    directory = _own_directory(git)
    shared = read_text(directory / "commondir").strip()
    return directory / shared if shared else directory


def _remote(config: str) -> str | None:
    """Return the address of the remote ``origin``, else of the first remote."""
    found: dict[str, str] = {}
    section = None
    for line in config.splitlines():
        header = re.match(r'\s*\[\s*remote\s+"(.*)"\s*\]', line)
        if header or line.lstrip().startswith("["):
            section = header[1] if header else None
        entry = re.match(r"\s*url\s*=\s*(.+?)\s*$", line)
        if section is not None and entry:
            found.setdefault(section, entry[1].strip('"'))
    return found.get("origin") or next(iter(found.values()), None)


def _public(url: str | None) -> str | None:
    """Return an address for other machines: without credentials, and with HTTPS if that works."""
    if not url:
        return None
    scp = re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+):(?!//)(.+)", url)
    if scp and scp[1] in _HOSTS:
        return f"https://{scp[1]}/{scp[2].lstrip('/')}"
    url = clean_url(url)
    parts = urlsplit(url)
    if parts.scheme == "ssh" and parts.hostname in _HOSTS:
        url = f"https://{parts.hostname}{parts.path}"
    return url if is_address(url) else None


def _is_modified(folder: Path, directory: Path, config: str) -> bool:
    """Return whether tracked files were changed, by running git.

    git gets a temporary ``.git`` with the objects and the index of the real one, but without its
    configuration (filters, monitors, hooks, other files), which could start any program.
    """
    commit = git_commit(folder / ".git")
    if commit is None or _COMMIT.fullmatch(commit) is None or _FILTER.search(config):
        return False  # the result of a filter is not known
    own = _own_directory(folder / ".git")
    with tempfile.TemporaryDirectory(prefix="comfydeploy-") as name:
        (Path(name) / "refs").mkdir()
        (Path(name) / "HEAD").write_text(f"{commit}\n")
        (Path(name) / "config").write_text(_plain_config(config, commit))
        env = {
            **plain_environment(),
            "GIT_DIR": name,
            "GIT_WORK_TREE": str(folder),
            "GIT_OBJECT_DIRECTORY": str(directory / "objects"),
            "GIT_INDEX_FILE": str(own / "index"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
        }
        command = ("git", "status", "--porcelain", "--untracked-files=no")
        try:
            done = subprocess.run(
                [*command, "--ignore-submodules=all"],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _plain_config(config: str, commit: str) -> str:
    """Return the settings of a repository that only affect how its files are written."""
    kept = [f"{match[1]} = {match[2]}" for match in _HARMLESS.finditer(config)]
    sha256 = len(commit) == _SHA256_LENGTH
    format_of = "[extensions]\nobjectFormat = sha256\n" if sha256 else ""
    core = "\n".join(["[core]", f"repositoryformatversion = {int(sha256)}", *kept])
    return f"{core}\n{format_of}"
