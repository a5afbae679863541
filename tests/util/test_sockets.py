"""The owners of sockets, by both ways in which Linux tells them."""

import contextlib
import ctypes
import os
import platform
import socket
import struct
import sys
import threading
from concurrent.futures import Future

import pytest

from comfydeploy_jupyter.util.sockets import (
    LISTEN,
    Owner,
    as_end,
    by_netlink,
    by_table,
    listeners,
    owners_of,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells all owners")

NOBODY = 65534
HOSTS = [
    ("127.0.0.1", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.1"),
    ("::1", "::1"),
    ("::", "::1"),
    ("::", "127.0.0.1"),
    ("::", "::ffff:127.0.0.1"),
    ("::ffff:127.0.0.1", "127.0.0.1"),
]


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def listening(host="127.0.0.1", port=0, *options):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    for name, value in options:
        listener.setsockopt(socket.SOL_SOCKET, name, value)
    listener.bind((host, port))
    listener.listen(512)
    return listener


def owner(sock):
    status = os.fstat(sock.fileno())
    return Owner(status.st_uid, status.st_ino)


def ends(connection):
    """Its own end, and that of its peer."""
    return as_end(connection.getsockname()), as_end(connection.getpeername())


def both_ways(end, other=None):
    """What netlink finds; the table must have the same, in any order."""
    try:
        found = by_netlink(end, other)
    except FileNotFoundError:
        found = []
    assert sorted(map(repr, found)) == sorted(map(repr, by_table(end, other)))
    return found


@pytest.mark.parametrize(("host", "to"), HOSTS)
def test_a_connection_before_and_after_it_is_accepted_and_when_it_is_closed(stack, host, to):
    listener = stack.enter_context(listening(host))
    port = listener.getsockname()[1]
    client = stack.enter_context(socket.create_connection((to, port)))
    local, remote = ends(client)
    [found] = both_ways(remote)
    assert (found.state, found.owner) == (LISTEN, owner(listener))
    [found] = both_ways(remote, local)
    assert found.owner.inode == 0
    assert owners_of(local, remote) == listeners(remote) == [owner(listener)]
    accepted, _ = listener.accept()
    [found] = both_ways(remote, local)
    assert found.owner == owner(accepted)
    assert owners_of(local, remote) == [owner(accepted)]
    assert owners_of(remote, local) == [owner(client)]
    listener.close()
    assert both_ways(remote) == []
    assert owners_of(local, remote) == [owner(accepted)]
    accepted.close()  # its state goes on changing
    assert [found.owner.inode for found in by_netlink(remote, local)] == [0]
    assert [found.owner.inode for found in by_table(remote, local)] == [0]
    assert owners_of(local, remote) == []
    client.close()
    assert owners_of(local, remote) == []


def test_a_listener_is_not_taken_for_a_connection(stack):
    """The kernel returns it for a connection that does not exist."""
    port = stack.enter_context(listening()).getsockname()[1]
    end, other = as_end(("127.0.0.1", port)), as_end(("127.0.0.1", 1))
    assert both_ways(end, other) == []
    assert owners_of(other, end) == []


@pytest.mark.root
def test_sockets_of_another_user(stack):
    listener = stack.enter_context(listening("::"))
    os.fchown(listener.fileno(), NOBODY, -1)
    client = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
    local, remote = ends(client)
    both_ways(remote, local)
    [found] = owners_of(local, remote)
    assert found == owner(listener)
    assert found.uid == NOBODY
    accepted = stack.enter_context(listener.accept()[0])
    assert [found.owner.uid for found in both_ways(remote, local)] == [os.getuid()]
    os.fchown(accepted.fileno(), NOBODY, -1)
    assert [found.owner.uid for found in both_ways(remote, local)] == [NOBODY]


def test_many_sockets(stack):
    """More listeners than the kernel describes in one message, and hundreds of connections."""
    first = stack.enter_context(listening("127.0.0.1", 0, (socket.SO_REUSEPORT, 1)))
    port = first.getsockname()[1]
    others = [
        stack.enter_context(listening("127.0.0.1", port, (socket.SO_REUSEPORT, 1)))
        for _ in range(400)
    ]
    other_port = stack.enter_context(listening("::"))
    assert len(both_ways(as_end(("127.0.0.1", port)))) == 401
    assert set(listeners(as_end(("127.0.0.1", port)))) == {owner(each) for each in (first, *others)}
    to = other_port.getsockname()[1]
    clients = [stack.enter_context(socket.create_connection(("127.0.0.1", to))) for _ in range(200)]
    served = [stack.enter_context(other_port.accept()[0]) for _ in clients]
    by_client = {as_end(each.getpeername()): owner(each) for each in served}
    for client in clients:
        local, remote = ends(client)
        assert owners_of(local, remote) == [by_client[local]]
    both_ways(*reversed(ends(clients[-1])))


def test_a_socket_that_is_bound_to_a_network_device(stack):
    """By netlink it is found only by the name of its device."""
    device = (socket.SO_BINDTODEVICE, b"lo\0")
    try:
        listener = stack.enter_context(listening("127.0.0.1", 0, device))
    except PermissionError:
        pytest.skip("Linux before 5.7 allows it only to root")
    client = stack.enter_context(socket.create_connection(listener.getsockname()))
    accepted = stack.enter_context(listener.accept()[0])
    local, remote = ends(client)
    with pytest.raises(FileNotFoundError):
        by_netlink(remote, local)
    assert owners_of(local, remote) == [owner(accepted)]
    assert listeners(remote) == [owner(listener)]


def without_netlink(work):
    """Call a function in a thread to which the kernel refuses netlink, as containers may do."""
    future = Future()

    def run():
        try:
            number = {"x86_64": 41, "aarch64": 198}[platform.machine()]  # of the call `socket`
            steps = [
                (0x20, 0, 0, 0),  # the number of the call
                (0x15, 0, 3, number),
                (0x20, 0, 0, 16),  # its first argument
                (0x15, 0, 1, socket.AF_NETLINK),
                (0x06, 0, 0, 0x50001),  # EPERM
                (0x06, 0, 0, 0x7FFF0000),  # allowed
            ]
            code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *s) for s in steps))
            program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
            prctl = ctypes.CDLL(None, use_errno=True).prctl
            assert prctl(38, 1, 0, 0, 0) == 0
            assert prctl(22, 2, program, 0, 0) == 0
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return future.result()


def test_a_system_that_refuses_netlink(stack):
    listener = stack.enter_context(listening("::"))
    port = listener.getsockname()[1]
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    local, remote = ends(client)
    assert without_netlink(lambda: owners_of(local, remote)) == [owner(listener)]
    accepted = stack.enter_context(listener.accept()[0])

    def found():
        with pytest.raises(PermissionError):
            by_netlink(remote, local)
        return owners_of(local, remote)

    assert without_netlink(found) == [owner(accepted)]
