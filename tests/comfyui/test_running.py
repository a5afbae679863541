"""Which process answers at an address: its interpreter and its folder."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from comfydeploy_jupyter.comfyui.find import Running, nothing_listens_at, running_at
from tests.helpers.comfyui import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

LISTENS = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    input()
"""


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "ComfyUI"
    (path / "comfy").mkdir(parents=True)
    (path / "main.py").write_text(LISTENS)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    return path


@pytest.fixture
def start(tree):
    """A function that starts a program; returns its address and its process id."""
    started = []

    def run(*command, cwd):
        env = {**os.environ, "PATH": f"{tree.parent / 'bin'}:{os.environ['PATH']}"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=cwd, env=env, text=True, **pipes))
        return f"http://127.0.0.1:{int(started[-1].stdout.readline())}", started[-1].pid

    yield run
    for process in started:
        process.communicate("\n", timeout=30)


def test_a_comfyui_started_by_path_or_by_name_is_found(tree, start):
    python = tree.parent / "bin/python3"
    url, pid = start(str(python), str(tree / "main.py"), "--cpu", cwd=tree.parent)
    found = running_at(url)
    assert found.started == pytest.approx(time.time(), abs=60)
    assert replace(found, started=None) == Running(pid, python, tree, ("--cpu",), tree.parent)
    # env looks the name up, as a shell does
    url, pid = start("env", "python3", "-u", "main.py", cwd=tree)
    found = running_at(url)
    assert (found.pid, found.python, found.path) == (pid, python, tree)
    assert (found.arguments, found.folder) == ((), tree)


def test_another_program_listens(tree, start):
    (tree.parent / "other.py").write_text(LISTENS)
    url, pid = start(sys.executable, "other.py", cwd=tree.parent)
    found = running_at(url)
    expected = Running(pid, Path(sys.executable), None, None, tree.parent, found.started)
    assert found == expected


@pytest.mark.parametrize("url", ["http://192.0.2.1:8188", "http://example.org", "http://x:y", ""])
def test_addresses_of_other_machines(url):
    assert running_at(url) is None


def test_nothing_listens():
    assert running_at(f"http://127.0.0.1:{free_port()}") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "0.0.0.0"])
async def test_a_local_address_that_refuses_connections(host):
    url = f"http://{host}:{free_port()}"
    assert await nothing_listens_at(url)


async def test_https_has_another_default_port():
    host = "127.4.4.3"
    try:
        listener = socket.create_server((host, 443))
    except PermissionError:
        pytest.skip("needs permission to use port 443")
    with listener:
        assert not await nothing_listens_at(f"https://{host}")
        found = running_at(f"https://{host}/comfyui")
        assert found.pid == os.getpid()


async def test_addresses_at_which_a_server_may_listen():
    assert not await nothing_listens_at(f"http://192.0.2.1:{free_port()}"), "another machine"
    assert not await nothing_listens_at(f"http://comfy.example:{free_port()}"), "it may be anywhere"
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            assert not await nothing_listens_at(f"http://{host}:{port}")
        waiting = [socket.socket() for _ in range(8)]
        for sock in waiting:  # more than it has room for: later ones are neither taken nor refused
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        assert not await nothing_listens_at(f"http://127.0.0.1:{port}")
        for sock in waiting:
            sock.close()
