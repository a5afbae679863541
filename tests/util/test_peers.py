"""The process that this server has started, or a descendant of it, is at the other end."""

import os
import socket
import subprocess
import sys

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


def objection(child, port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        ends = as_end(connection.getsockname()), as_end(connection.getpeername())
        return Peers(child=lambda: child).objection(*ends)


def test_a_descendant_may_answer_and_another_process_may_not():
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            port = int(parent.stdout.readline())
            assert objection(parent.pid, port) is None
            with subprocess.Popen(["sleep", "100"]) as other:
                assert "another process" in str(objection(other.pid, port))
                other.kill()
        finally:
            os.killpg(parent.pid, 9)
