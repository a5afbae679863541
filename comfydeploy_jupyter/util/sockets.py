"""The owners of TCP sockets of this machine (Linux), and which of them may answer requests.

The kernel is asked for one socket by netlink (``sock_diag``), which takes some microseconds. If it
does not provide that, or knows no such socket, the table of all sockets in ``/proc/net`` is read.
This takes milliseconds, because the kernel goes through its whole hash table.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil

from ..errors import ComfyUIUnavailableError, InvalidRequestError
from .system import user_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ESTABLISHED, SYN_RECEIVED, LISTEN = 0x01, 0x03, 0x0A  # include/net/tcp_states.h of Linux

# include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h of Linux
_SOCK_DIAG, _BY_FAMILY, _ERROR, _DONE = 4, 20, 2, 3
_REQUEST, _ALL, _MULTIPART = 0x001, 0x300, 0x002
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, number, process
_QUESTION = struct.Struct("=BBxxI")  # inet_diag_req_v2: family, protocol, states; then the ends,
_ENDS = struct.Struct("!HH16s16s")  # inet_diag_sockid: both ports, both addresses; then
_ANY = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # its device and cookie
_ENDS_AT, _OWNER_AT = 4, 64  # in an inet_diag_msg, which starts with family and state
_LARGEST = 65536  # bytes; the kernel sends at most half of it at once

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
End: TypeAlias = "tuple[Address, int]"


@dataclass(frozen=True)
class Owner:
    uid: int
    # The inode number of the socket, by which the processes that have it open can be found
    inode: int


@dataclass(frozen=True)
class Socket:
    state: int  # such as `LISTEN`
    ends: tuple[End, End]  # its own, and the other
    owner: Owner  # without an inode: no process has it open


def owners_of(local: End, remote: End) -> list[Owner]:
    """Return the owners of the other end of a connection; none if it is on another machine.

    A connection that no process has accepted yet belongs to the process that listens.
    """
    for found in _sockets(remote, local):
        if found.owner.inode:
            return [found.owner]
        # without an inode: not accepted yet, or already closed
        return listeners(remote) if found.state in (ESTABLISHED, SYN_RECEIVED) else []
    return []


def listeners(at: End) -> list[Owner]:
    """Return the owners of the sockets that listen at an address of this machine."""
    address = at[0]
    exact: list[Owner] = []
    both: list[Owner] = []  # IPv6 sockets that may accept IPv4 connections, too
    for found in _sockets(at):
        bound = found.ends[0][0]
        if bound == address or (bound.is_unspecified and bound.version == address.version):
            exact.append(found.owner)
        elif bound.is_unspecified and bound.version == 6:
            both.append(found.owner)
    # If there is an IPv4 listener, an IPv6 one gets no IPv4 connections.
    return exact or both


def is_loopback(host: str) -> bool:
    """Return whether the name or address of a host is that of this machine for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def as_end(name: tuple[Any, ...]) -> End:
    """Return the address and the port in the name of a socket."""
    return _address(str(name[0]).partition("%")[0]), int(name[1])


def by_netlink(end: End, other: End | None = None) -> list[Socket]:
    """Ask the kernel for a socket; without a peer, for those that listen at its port anywhere.

    OSError if the kernel does not answer, or there is no such socket.
    """
    address, port = end
    if other is None:
        question = _ENDS.pack(port, 0, b"", b"")
        families = socket.AF_INET, socket.AF_INET6
        found = [
            each for family in families for each in _asked(family, _ALL, 1 << LISTEN, question)
        ]
    else:
        question = _ENDS.pack(port, other[1], address.packed, other[0].packed)
        # An IPv4 connection of an IPv6 socket is found by IPv4, too.
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        found = _asked(family, 0, 0xFFFFFFFF, question)
    # If there is no such connection, the kernel returns the socket that would accept it.
    return [each for each in found if _fits(each, end, other)]


def by_table(end: End, other: End | None = None) -> Iterator[Socket]:
    """Find the same as `by_netlink` in the table of all sockets."""
    tables = 0
    mark = f":{end[1]:04X} "
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            lines = Path("/proc/net", name).read_text().splitlines()[1:]
            tables += 1
            for line in lines:
                if mark not in line:
                    continue  # a busy machine has tens of thousands of sockets
                fields = line.split()
                ends = _parsed(fields[1]), _parsed(fields[2])
                found = Socket(int(fields[3], 16), ends, Owner(int(fields[7]), int(fields[9])))
                if _fits(found, end, other):
                    yield found
    if not tables:
        raise FileNotFoundError("/proc/net/tcp is missing")


def _sockets(end: End, other: End | None = None) -> Iterable[Socket]:
    # The kernel's answers lack sockets that are bound to one network device; the table has them.
    # A system that is not Linux has no AF_NETLINK, and one that imitates Linux may answer anything.
    with contextlib.suppress(OSError, AttributeError, struct.error):
        found = by_netlink(end, other)
        if found:
            return found
    return by_table(end, other)


def _fits(found: Socket, end: End, other: End | None) -> bool:
    if other is None:
        return found.state == LISTEN and found.ends[0][1] == end[1]
    return found.ends == (end, other)


def _asked(family: int, flags: int, states: int, ends: bytes) -> list[Socket]:
    """Return the kernel's answer to a request of `sock_diag`."""
    request = _QUESTION.pack(family, socket.IPPROTO_TCP, states) + ends + _ANY
    header = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST | flags, 0, 0)
    found: list[Socket] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.connect((0, 0))  # the kernel: messages of other processes are not received
        kernel.setblocking(False)  # an answer is complete before the next call returns
        kernel.send(header + request)
        while True:
            data = kernel.recv(_LARGEST)
            while data:
                length, kind, flags, _, _ = _HEADER.unpack_from(data)
                if length < _HEADER.size:
                    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
                message, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if kind in (_ERROR, _DONE):
                    (code,) = struct.unpack_from("=i", message)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found
                found.append(_answered(message))
                if not flags & _MULTIPART:
                    return found


def _answered(message: bytes) -> Socket:
    family, state = message[:2]
    port, other_port, address, other = _ENDS.unpack_from(message, _ENDS_AT)
    size = 4 if family == socket.AF_INET else 16
    ends = (_address(address[:size]), port), (_address(other[:size]), other_port)
    return Socket(state, ends, Owner(*struct.unpack_from("=II", message, _OWNER_AT)))


def _parsed(text: str) -> End:
    """Parse an address in ``/proc/net/tcp``: words in the byte order of this machine."""
    address, _, port = text.partition(":")
    packed = b"".join(
        struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8)
    )
    return _address(packed), int(port, 16)


def _address(value: str | bytes) -> Address:
    """Return an address; one of IPv4 in the form of IPv6 becomes one of IPv4."""
    address = ipaddress.ip_address(value)
    return getattr(address, "ipv4_mapped", None) or address


ANYONE = "*"
SETTING = "comfyui_trusted_users"
ATTEMPTS = 3  # attempts: the table is not read at one moment, so a socket may be missed
PAUSE = 0.01  # seconds between them


class Peers:
    """The processes on this machine that may answer as a ComfyUI.

    Processes of this user, of root and of `users` (names or ids; ``*``: nothing is checked) may. If
    this server has started the ComfyUI (`child` returns its process id), it must be that process or
    a descendant of it. Processes on other machines are not checked.
    """

    def __init__(
        self, users: Iterable[str] = (), child: Callable[[], int | None] | None = None
    ) -> None:
        names = list(users)
        self._anyone = ANYONE in names
        self._uids = {os.getuid(), 0, *(_uid(name) for name in names if name != ANYONE)}
        self._child = child

    async def check(self, transport: asyncio.BaseTransport, url: str) -> None:
        """Raise ComfyUIUnavailableError unless the process at the other end may answer."""
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
        """Return why the process at the other end may not answer; None if it may. Blocks."""
        child = None if self._child is None else self._child()
        if child is None and self._child is not None:
            return "the ComfyUI that this server started is not running"
        if sys.platform != "linux":
            return self._objection_by_processes(local, remote, child)
        return self._objection_by_table(local, remote, child)

    def _objection_by_table(self, local: End, remote: End, child: int | None) -> str | None:
        owners: list[Owner] | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE)
            try:
                owners = owners_of(local, remote)
            except OSError as error:
                return f"the owner of the process at this port cannot be determined ({error})"
            if owners or (not remote[0].is_loopback and child is None):
                break  # or there is no owner, as on another machine
        if not owners:
            if remote[0].is_loopback or child is not None:
                return "the owner of the process at this port cannot be determined"
            return None
        if child is not None:
            with contextlib.suppress(PermissionError):
                if _tree_has({owner.inode for owner in owners}, child):
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

    def _objection_by_processes(self, local: End, remote: End, child: int | None) -> str | None:
        if child is not None:
            candidates = _tree(child)
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


def connections_of(process: psutil.Process) -> list[Any]:
    """Return the TCP connections of a process."""
    # Before psutil 6 the method had another name.
    listed = getattr(process, "net_connections", None) or process.connections
    return list(listed(kind="tcp"))


def _has_end(process: psutil.Process, local: End, remote: End) -> bool:
    """Return whether a process has the other end of a connection, or listens there."""
    try:
        connections = connections_of(process)
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
    """Replace user names by user ids; ``*`` is kept. This blocks: call it in a thread."""
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
