"""Find the process that answers as ComfyUI on this machine: its interpreter and its folder."""

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

import psutil
from yarl import URL

from ..util.peers import is_trusted, processes_of
from ..util.sockets import listeners
from ..util.tasks import wait_for
from .discovery import is_comfyui_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_WITHIN = 1.0  # seconds that this machine has to accept or refuse a connection to itself


@dataclass(frozen=True)
class Running:
    """A ComfyUI process."""

    pid: int
    python: Path | None  # the interpreter in its command line
    path: Path | None  # the folder of its `main.py`
    arguments: tuple[str, ...] | None = None  # after `main.py`; None without a `main.py`
    folder: Path | None = None


def running_at(url: str) -> Running | None:
    """Return the process that listens at an address of this machine; None if unknown.

    It is unknown if the address is on another machine, or the process belongs to other users than
    this one and root.
    """
    pid = pid_at(url)
    return describe(pid) if pid is not None else None


def pid_at(url: str) -> int | None:
    """Return the id of the process that `running_at` describes.

    If several processes share the socket, it is one with ``main.py`` in its command line.
    """
    try:
        host, port = _host_and_port(url)
    except ValueError:
        return None
    address = _address_here(host)
    if address is None:
        return None
    try:
        owners = [each for each in listeners((address, port)) if each.uid in (os.getuid(), 0)]
        pids = list(processes_of(owners)) if owners else []
    except OSError:  # no /proc, as on macOS
        pids = [pid for pid in _listening(port) if is_trusted(pid)]
    scripts = (pid for pid in pids if describe(pid).arguments is not None)
    return next(scripts, pids[0] if pids else None)


async def nothing_listens_at(url: str) -> bool:
    """Return whether this machine refuses connections to one of its addresses.

    If it does, the process that listened there has exited. False for an address of another machine,
    and if a connection is neither accepted nor refused.
    """
    loop = asyncio.get_running_loop()
    try:
        host, port = _host_and_port(url)
        if _address_here(host) is None:
            return False
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ValueError, OSError):
        return False
    refused = False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.setblocking(False)
                await wait_for(loop.sock_connect(sock, address), CONNECT_WITHIN)
        except ConnectionRefusedError:
            refused = True
        except asyncio.TimeoutError:
            return False
        except OSError:  # this machine has no such address, such as ::1 without IPv6
            continue
        else:
            return False
    return refused


def _listening(port: int) -> Iterator[int]:
    """Yield the processes that listen on a port of this machine, as far as they are visible."""
    with contextlib.suppress(psutil.Error, OSError):
        for pid, connection in _connections():
            here = connection.laddr and connection.laddr.port == port
            if pid is not None and here and connection.status == psutil.CONN_LISTEN:
                yield pid


def _connections() -> Iterator[tuple[int | None, Any]]:
    """Yield the TCP connections of this machine with their process, as far as they are visible."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            yield connection.pid, connection
    except psutil.AccessDenied:  # on macOS only root can list all of them; users, their own
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # Before psutil 6 the method had another name.
                listed = getattr(process, "net_connections", None) or process.connections
                for own in listed(kind="tcp"):
                    yield process.pid, own


def describe(pid: int) -> Running:
    """Return the folder and arguments in the command line of a ComfyUI process."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        folder = Path(process.cwd())
    except psutil.Error:
        return Running(pid, None, None)
    if not is_trusted(pid):
        return Running(pid, None, None)  # its command line may name any program and folder
    python = _program(process, words[0], folder) if words else None
    scripts = (at for at, word in enumerate(words) if at and Path(word).name == "main.py")
    at = next(scripts, None)
    if at is None:
        return Running(pid, python, None, None, folder)
    home = (folder / words[at]).parent
    tree = home if is_comfyui_tree(home) else None
    return Running(pid, python, tree, tuple(words[at + 1 :]), folder)


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


def _host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of an address; ValueError if it lacks one of them."""
    parts = URL(url)
    if parts.host is None or parts.port is None:
        raise ValueError("the address has no host, or an unknown scheme")
    return parts.host, parts.port


def _address_here(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None
    if address.is_unspecified:
        return ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return address if address.is_loopback else None
