"""The process that this server has started, or a descendant of it, is at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from cProfile import Profile

import pytest

from comfydeploy_jupyter.util.sockets import Peers, as_end

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PARENT = """
import os, socket, time
listener = socket.create_server(("127.0.0.1", 0))
if os.fork():
    listener.close()
else:
    print(listener.getsockname()[1], flush=True)
time.sleep(100)
"""


def objection(child: int, port: int) -> str | None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        ends = as_end(connection.getsockname()), as_end(connection.getpeername())
        return Peers(child=lambda: child).objection(*ends)


def test_a_descendant_may_answer_and_another_process_may_not():
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            port = int(parent.stdout.readline())
            assert objection(parent.pid, port) is None
            with subprocess.Popen(["sleep", "100"]) as other:
                assert "another process" in str(objection(other.pid, port))
                other.kill()
        finally:
            os.killpg(parent.pid, 9)


def test_descendants_are_searched_only_if_the_process_itself_has_no_such_socket():
    with socket.create_server(("127.0.0.1", 0)) as listener, Profile() as profile:
        assert objection(os.getpid(), listener.getsockname()[1]) is None
    called = {getattr(entry.code, "co_name", "") for entry in profile.getstats()}
    assert "objection" in called
    assert "children" not in called
