"""Checks which user's process is at the other end of a connection on this machine.

Any user of a machine can listen at one of its ports, also at the port where the ComfyUI of another
user is expected. So the owner of the socket at the other end of each new connection is determined
before a byte is sent. On Linux, the kernel knows the owners of all sockets; on other systems, only
this user's own processes are known.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ..errors import ComfyUIUnavailableError, InvalidRequestError
from .posix import user_name
from .sockets import as_end, owners_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .sockets import Address, End, Owner

ANYONE = "*"
SETTING = "comfyui_trusted_users"
ATTEMPTS = 3  # attempts: the table is not read at one moment, so a socket may be missed
PAUSE = 0.01  # seconds between them


class Peers:
    """The processes on this machine that may answer as a ComfyUI.

    Processes of this user, of root and of `users` may. If this server has started the ComfyUI, it
    must be that process or a descendant of it. Processes on other machines are not checked.

    Parameters
    ----------
    users : iterable of str
        Names or ids of further trusted users; ``*``: nothing is checked.
    child : callable, optional
        Returns the process id of the ComfyUI that this server has started; None while it is not
        running.

    Raises
    ------
    InvalidRequestError
        If there is no user with one of these names.
    """

    def __init__(
        self, users: Iterable[str] = (), child: Callable[[], int | None] | None = None
    ) -> None:
        names = list(users)
        self._anyone = ANYONE in names
        self._uids = {os.getuid(), 0, *(_uid(name) for name in names if name != ANYONE)}
        self._child = child

    async def check(self, transport: asyncio.BaseTransport, url: str) -> None:
        """Raise unless the process at the other end of a new connection may answer.

        Raises
        ------
        ComfyUIUnavailableError
            If it may not, or cannot be determined; then ``details["foreign"]`` is true.
        """
        ends = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if self._anyone or not all(isinstance(end, tuple) for end in ends):
            return
        reason = await asyncio.to_thread(self.objection, as_end(ends[0]), as_end(ends[1]))
        if reason is not None:
            raise ComfyUIUnavailableError(
                f"ComfyUI at {url} is not used: {reason}.",
                details={"url": url, "reason": reason, "sent": False, "foreign": True},
                extra={
                    "hint": "Any user of this machine can listen at a port. If you trust the"
                    f" user who listens at this one, add the user to {SETTING}; otherwise let"
                    " ComfyUI be started here"
                    " (comfyui_path), or run it as yourself."
                },
            )

    def objection(self, local: End, remote: End) -> str | None:
        """Return why the process at the other end may not answer; None if it may. Blocks.

        Parameters
        ----------
        local, remote : tuple
            Address and port of both ends.
        """
        check = self._objection_by_table
        if sys.platform != "linux":
            check = self._objection_by_processes
        return check(local, remote)

    def _objection_by_table(self, local: End, remote: End) -> str | None:
        owners: list[Owner] | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE)
            try:
                owners = owners_of(local, remote)
            except OSError as error:
                return f"the owner of the process at this port cannot be determined ({error})"
            if owners or (not remote[0].is_loopback and self._child is None):
                break  # or there is no owner, as on another machine
        if not owners:
            if remote[0].is_loopback or self._child is not None:
                return "the owner of the process at this port cannot be determined"
            return None
        if self._child is not None:
            pid = self._child()
            if pid is None:
                return "the ComfyUI that this server started is not running"
            with contextlib.suppress(PermissionError):
                if _tree_has({owner.inode for owner in owners}, pid):
                    return None
                return f"another process ({_names(owners)}) uses its port"
        others = [owner for owner in owners if owner.uid not in self._uids]
        if others:
            return f"the process there belongs to the user {_names(others)}"
        return None

    def _trusts(self, process: psutil.Process) -> bool:
        try:
            return process.uids().effective in self._uids
        except psutil.Error:
            return False

    def _objection_by_processes(self, local: End, remote: End) -> str | None:
        if self._child is not None:
            pid = self._child()
            if pid is None:
                return "the ComfyUI that this server started is not running"
            candidates = _tree(pid)
        elif _is_here(remote[0]):
            candidates = filter(self._trusts, psutil.process_iter())
        else:
            return None
        if any(_has_end(process, local, remote) for process in candidates):
            return None
        return "no process of this user listens there, and those of others are not visible"


def processes_of(owners: Iterable[Owner]) -> Iterator[int]:
    """Yield the processes of this user and of root that have these sockets open (Linux)."""
    wanted = {owner.inode for owner in owners}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            if is_trusted(pid) and not wanted.isdisjoint(_sockets_of(pid)):
                yield pid


def is_trusted(pid: int) -> bool:
    """Return whether a process belongs to this user or root, and was started by them."""
    try:
        uids = psutil.Process(pid).uids()
    except psutil.Error:
        return False
    return {uids.real, uids.effective} <= {os.getuid(), 0}


def _sockets_of(pid: int) -> set[int]:
    """Return the inode numbers of the sockets that a process has open.

    Raises
    ------
    OSError
        If it has ended, or may not be read.
    """
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(entry.path)  # noqa: PTH115 - there are many
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return found


def _tree_has(sockets: set[int], pid: int) -> bool:
    """Return whether a process and its descendants have all of these sockets open."""
    for process in _tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            sockets = sockets - _sockets_of(process.pid)
        if not sockets:
            return True
    return False


def _tree(pid: int) -> Iterator[psutil.Process]:
    """Yield a process, and then all its descendants, for which all processes are read."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)


def _has_end(process: psutil.Process, local: End, remote: End) -> bool:
    """Return whether a process has the other end of a connection, or listens there."""
    try:
        # psutil before version 6 has only `connections`.
        list_all = getattr(process, "net_connections", None) or process.connections
        connections = list_all("tcp")
    except psutil.Error:
        return False
    for found in connections:
        if found.status == psutil.CONN_LISTEN and found.laddr.port == remote[1]:
            bound = as_end(found.laddr)[0]
            if bound == remote[0] or bound.is_unspecified:
                return True
        elif found.raddr and (as_end(found.laddr), as_end(found.raddr)) == (remote, local):
            return True
    return False


def _is_here(address: Address) -> bool:
    if address.is_loopback:
        return True
    families = (socket.AF_INET, socket.AF_INET6)
    known = (each for addresses in psutil.net_if_addrs().values() for each in addresses)
    return any(
        each.family in families and as_end((each.address, 0))[0] == address for each in known
    )


def _names(owners: Iterable[Owner]) -> str:
    return ", ".join(dict.fromkeys(_name(owner.uid) for owner in owners))


def _name(uid: int) -> str:
    name = user_name(uid)
    return str(uid) if name is None else f"{name} ({uid})"


def by_number(users: Iterable[str]) -> tuple[str, ...]:
    """Replace user names by user ids; ``*`` is kept. This blocks: call it in a thread.

    Raises
    ------
    InvalidRequestError
        If there is no user with one of these names.
    """
    return tuple(user if user == ANYONE else str(_uid(user)) for user in users)


def _uid(name: str) -> int:
    if name.isdecimal():
        return int(name)
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise InvalidRequestError.of_field(
            SETTING, f"there is no user {name!r} on this machine"
        ) from None
