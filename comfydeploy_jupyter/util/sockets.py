"""Finds the owners of TCP sockets of this machine (Linux).

The kernel is asked for one socket by netlink (``sock_diag``), which takes some microseconds. If it
does not provide that, or knows no such socket, the table of all sockets in ``/proc/net`` is read.
This takes milliseconds, because the kernel goes through its whole hash table.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    """The owner of a socket.

    Attributes
    ----------
    uid : int
        The user whose process created the socket.
    inode : int
        The inode number of the socket, by which the processes that have it open can be found.
    """

    uid: int
    inode: int


@dataclass(frozen=True)
class Socket:
    """A TCP socket.

    Attributes
    ----------
    state : int
        Its state, such as `LISTEN`.
    ends : tuple
        Address and port of its own end and of the other.
    owner : Owner
        Without an inode: no process has it open.
    """

    state: int
    ends: tuple[End, End]
    owner: Owner


def owners_of(local: End, remote: End) -> list[Owner]:
    """Return the owners of the other end of a connection; none if it is on another machine.

    A connection that no process has accepted yet belongs to the process that listens.

    Raises
    ------
    OSError
        If the system does not provide this.
    """
    for found in _sockets(remote, local):
        if found.owner.inode:
            return [found.owner]
        # without an inode: not accepted yet, or already closed
        return listeners(remote) if found.state in (ESTABLISHED, SYN_RECEIVED) else []
    return []


def listeners(at: End) -> list[Owner]:
    """Return the owners of the sockets that listen at an address of this machine.

    Raises
    ------
    OSError
        If the system does not provide this.
    """
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


def as_end(name: tuple[Any, ...]) -> End:
    """Return the address and the port in the name of a socket."""
    return _address(str(name[0]).partition("%")[0]), int(name[1])


def by_netlink(end: End, other: End | None = None) -> list[Socket]:
    """Ask the kernel for a socket, or for those that listen.

    Parameters
    ----------
    end : tuple
        Address and port of the socket.
    other : tuple, optional
        Address and port of its peer. Without it, the sockets are found that listen at the port of
        `end`, whatever their address.

    Raises
    ------
    OSError
        If the kernel does not answer, or there is no such socket.
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
    """Find the same as `by_netlink` in the table of all sockets.

    Raises
    ------
    OSError
        If there is no table.
    """
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
