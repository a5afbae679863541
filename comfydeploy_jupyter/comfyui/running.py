"""Which process answers as ComfyUI on this machine: its interpreter and its folder."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from .discovery import is_comfyui_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_WITHIN = 1.0  # seconds that this machine has to take or refuse a connection to itself


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

    It cannot where the address is another machine's, or the process another user's.
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


async def nothing_listens_at(url: str) -> bool:
    """Return whether this machine refuses connections to an address of its own.

    Whatever listened there is dead then. False for an address of another machine, and where a
    connection is neither taken nor refused.
    """
    loop = asyncio.get_running_loop()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        if not _is_here(host):
            return False
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ValueError, OSError):
        return False
    refused = False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.setblocking(False)
                await asyncio.wait_for(loop.sock_connect(sock, address), CONNECT_WITHIN)
        except ConnectionRefusedError:
            refused = True
        except asyncio.TimeoutError:
            return False
        except OSError:  # this machine has no such address, as ::1 where IPv6 is off
            continue
        else:
            return False
    return refused


def listener_pid(port: int) -> int | None:
    """Return the process that listens on a port of this machine, where we may know that."""
    with contextlib.suppress(psutil.Error, OSError):
        for pid, connection in _connections():
            here = connection.laddr and connection.laddr.port == port
            if here and connection.status == psutil.CONN_LISTEN:
                return pid
    return None


def _connections() -> Iterator[tuple[int | None, Any]]:
    """Give the TCP connections of this machine, as far as we may know them, with their process."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            yield connection.pid, connection
    except psutil.AccessDenied:  # macOS shows all of them to root only, but each user their own
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # before psutil 6 it had another name
                listed = getattr(process, "net_connections", None) or process.connections
                for own in listed(kind="tcp"):
                    yield process.pid, own


def describe(pid: int) -> Running:
    """Return what the command line of a ComfyUI process tells."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        folder = Path(process.cwd())
    except psutil.Error:
        return Running(pid, None, None)
    python = _program(process, words[0], folder) if words else None
    script = next((word for word in words[1:] if word.endswith("main.py")), None)
    home = (folder / script).parent if script else None
    return Running(pid, python, home if home is not None and is_comfyui_tree(home) else None)


def _program(process: psutil.Process, name: str, folder: Path) -> Path | None:
    if "/" in name:
        found = folder / name
    else:
        try:
            search = process.environ().get("PATH", "")
        except psutil.Error:
            return None
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
