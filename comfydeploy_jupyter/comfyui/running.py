"""Which process answers as ComfyUI on this machine: its interpreter and its folder (Linux)."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from .discovery import is_comfyui_tree


@dataclass(frozen=True)
class Running:
    """A ComfyUI process.

    Attributes
    ----------
    pid : int
        Its process id.
    python : pathlib.Path or None
        The interpreter it was started with, as its command line names it.
    path : pathlib.Path or None
        The folder of its ``main.py``.
    """

    pid: int
    python: Path | None
    path: Path | None


def running_at(url: str) -> Running | None:
    """Return the process that listens at an address of this machine, if it can be known.

    It cannot where the address is another machine's, the process another user's, or this system
    has no ``/proc``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None
    if not _is_here(parts.hostname or ""):
        return None
    pid = listener_pid(port)
    return describe(pid) if pid is not None else None


def listener_pid(port: int) -> int | None:
    """Return the process that listens on a port of this machine, where we may know that."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            here = connection.laddr and connection.laddr.port == port
            if here and connection.status == psutil.CONN_LISTEN:
                return connection.pid
    return None


def describe(pid: int) -> Running:
    """Return what the command line of a ComfyUI process tells."""
    process = Path("/proc", str(pid))
    try:
        words = [os.fsdecode(w) for w in (process / "cmdline").read_bytes().split(b"\0")][:-1]
        folder = (process / "cwd").readlink()
    except OSError:
        return Running(pid, None, None)
    python = _program(process, words[0], folder) if words else None
    script = next((word for word in words[1:] if word.endswith("main.py")), None)
    home = (folder / script).parent if script else None
    return Running(pid, python, home if home is not None and is_comfyui_tree(home) else None)


def _program(process: Path, name: str, folder: Path) -> Path | None:
    if "/" in name:
        found = folder / name
    else:
        try:
            entries = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return None
        search = next((os.fsdecode(e[5:]) for e in entries if e.startswith(b"PATH=")), "")
        where = shutil.which(name, path=search)
        if where is None:
            return None
        found = Path(where)
    is_python = re.match(r"python|pypy", found.name) is not None
    return found if is_python and os.access(found, os.X_OK) else None


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
