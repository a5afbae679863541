"""What a folder's ``.git`` says, read without running anything that is configured in it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..comfyui.discovery import git_commit
from ..secrets import clean_url
from .snapshot import is_address

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT = 20.0  # seconds for git to compare a work tree
_HOSTS = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "huggingface.co")
# Sections of a repository's configuration that make `git status` run programs, or read others.
_ACTIVE = re.compile(r"^\s*\[\s*(filter|include|includeIf)\b", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Checkout:
    """A folder that git checked out.

    Attributes
    ----------
    repository : str or None
        Where others can get it, without credentials; None where only this machine has it.
    commit : str or None
        What is checked out.
    modified : bool
        Whether tracked files were changed, as far as that can be told safely.
    """

    repository: str | None
    commit: str | None
    modified: bool


def read_checkout(folder: Path) -> Checkout | None:
    """Return what is checked out in a folder, or None where it is no checkout of its own."""
    if not (folder / ".git").exists():
        return None
    directory = _directory(folder / ".git")
    config = _read(directory / "config")
    return Checkout(
        _public(_remote(config)), git_commit(folder / ".git"), _is_modified(folder, config)
    )


def _directory(git: Path) -> Path:
    """Return the folder with the configuration; work trees and submodules have it elsewhere."""
    named = re.match(r"gitdir:\s*(.+)", _read(git)) if git.is_file() else None
    directory = git.parent / named[1].strip() if named else git
    shared = _read(directory / "commondir").strip()
    return directory / shared if shared else directory


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _remote(config: str) -> str | None:
    """Return the address of ``origin``, else of the first remote."""
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
    """Return the address as others use it: without credentials, and by HTTPS where that works."""
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


def _is_modified(folder: Path, config: str) -> bool:
    if _ACTIVE.search(config) or re.search(r"worktreeconfig\s*=\s*true", config, re.IGNORECASE):
        return False
    command = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    arguments = ("-c", "safe.directory=*", "status", "--porcelain", "--untracked-files=no")
    hidden = {key for key in os.environ if key.startswith("GIT_")}
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    env |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        done = subprocess.run(
            [*command, *arguments, "--ignore-submodules=all"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())
