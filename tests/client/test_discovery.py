"""``connect()``: which server it finds, and which one it starts."""

import json
import os
import subprocess
import sys
import textwrap

import psutil
import pytest

from comfydeploy_jupyter.client import connect, discovery
from comfydeploy_jupyter.client.discovery import candidates
from comfydeploy_jupyter.errors import NotFoundError, ServerUnreachableError, UnauthorizedError
from tests.helpers.processes import PYTHONPATH
from tests.helpers.waiting import until

NAMED = ("COMFYDEPLOY_JUPYTER_URL", "COMFYDEPLOY_JUPYTER_TOKEN", "JPY_PARENT_PID")
IMPORT = "from comfydeploy_jupyter import connect\n"


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """The folder in which servers announce themselves; the environment names none."""
    for name in list(os.environ):
        if name in NAMED or name.startswith("JUPYTERHUB_"):
            monkeypatch.delenv(name)
    for name in ("RUNTIME", "CONFIG", "DATA"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    monkeypatch.setenv("COMFYDEPLOY_COMFYUI_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("COMFYDEPLOY_DATA_DIR", str(tmp_path / "comfydeploy"))
    yield tmp_path / "runtime"
    for server in discovery._running:
        server.stop()
    discovery._running.clear()


def announce(runtime, pid, **info):
    """Write the file with which a Jupyter server announces itself."""
    known = {"url": "http://127.0.0.1:9/", "base_url": "/", "token": "", "pid": pid, "sock": ""}
    (runtime / f"jpserver-{pid}.json").write_text(json.dumps({**known, **info}))


def test_a_kernel_finds_the_server_that_started_it(jupyter, runtime, monkeypatch):
    announce(runtime, jupyter.pid, url=jupyter.url, token=jupyter.token)
    monkeypatch.setenv("JPY_PARENT_PID", str(jupyter.pid))
    with subprocess.Popen(["sleep", "60"]) as other_process:
        announce(runtime, other_process.pid)
        assert connect(start=False).url == jupyter.url
        other_process.kill()


def test_a_script_finds_a_running_or_a_named_server(jupyter, runtime, monkeypatch):
    with pytest.raises(ServerUnreachableError, match="no Jupyter server with comfydeploy_jupyter"):
        connect(start=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(jupyter.runtime_dir))
    assert connect(start=False).url == jupyter.url
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("COMFYDEPLOY_JUPYTER_URL", jupyter.url)
    monkeypatch.setenv("COMFYDEPLOY_JUPYTER_TOKEN", jupyter.token)
    assert connect().url == jupyter.url
    monkeypatch.setenv("COMFYDEPLOY_JUPYTER_URL", "http://127.0.0.1:9")
    assert connect(jupyter.url, jupyter.token).url == jupyter.url
    with pytest.raises(ServerUnreachableError, match="does not answer"):
        connect()
    with pytest.raises(UnauthorizedError, match="does not accept the token"):
        connect(jupyter.url, "wrong")


def test_the_server_of_jupyterhub_comes_first(jupyter, runtime, monkeypatch):
    port = jupyter.url.split(":")[2].split("/")[0]
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", jupyter.token)
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", f"http://0.0.0.0:{port}/elsewhere/")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/a%40b/")
    announce(runtime, os.getpid())
    assert connect(start=False).url == jupyter.url


def test_stale_and_broken_files_are_skipped(runtime):
    gone = subprocess.Popen(["true"])
    gone.wait()
    announce(runtime, gone.pid)
    (runtime / "jpserver-1234.json").write_text('{"url": ')
    (runtime / "jpserver-1235.json").write_text("[]")
    other = {"url": "http://localhost:3001/mcp", "pid": os.getppid()}  # of an MCP server
    (runtime / f"jpserver-mcp-{os.getppid()}.json").write_text(json.dumps(other))
    announce(runtime, os.getppid(), url="http://0.0.0.0:8888/x/", token="t")
    (found,) = candidates()
    assert (found.url, found.token, found.mine) == ("http://127.0.0.1:8888/x/", "t", True)


def test_a_unix_socket_is_refused_clearly(runtime):
    announce(runtime, os.getpid(), url="http+unix://%2Ftmp%2Fs/", sock="/tmp/s")
    with pytest.raises(ServerUnreachableError, match="listens on the Unix socket /tmp/s"):
        connect()


@pytest.mark.thorough
def test_a_server_with_a_password_only_is_refused_clearly(runtime, start_jupyter):
    from jupyter_server.auth import passwd

    server = start_jupyter(
        IdentityProvider={"token": ""},
        PasswordIdentityProvider={"hashed_password": passwd("secret", "sha1")},
        ComfyDeploy={"comfyui_url": "http://127.0.0.1:9", "autostart": False},
    )
    announce(runtime, os.getpid(), url=server.url)
    with pytest.raises(UnauthorizedError, match="a program cannot enter a password"):
        connect()
    server.stop()


@pytest.mark.slow
def test_without_a_server_one_is_started_and_ends_with_its_client(runtime):
    code = """
    import json, sys
    comfy = connect()
    again = connect()
    print(json.dumps([comfy.url, again.url, comfy.server.token, comfy.status()["status"]]))
    sys.stdout.flush()
    sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", IMPORT + textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        url, again, token, status = json.loads(process.stdout.readline())
        assert url == again
        assert url.startswith("http://127.0.0.1:")
        assert (len(token), status) == (48, "degraded")
        started = psutil.Process(process.pid).children(recursive=True)
        commands = [" ".join(each.cmdline()) for each in started]
        assert any(command.endswith("-m comfydeploy_jupyter") for command in commands)
        assert not any(token in command for command in commands)
        process.kill()
        process.wait()
    until(lambda: not any(each.is_running() for each in started), what="it outlived its owner")


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(runtime, tmp_path):
    (tmp_path / "config" / "jupyter_server_config.py").write_text("raise SystemExit('bad day')")
    with pytest.raises(ServerUnreachableError, match=r"ended while starting.*bad day"):
        connect()


@pytest.mark.thorough
def test_a_server_without_the_extension_is_named_and_replaced(runtime, start_jupyter):
    server = start_jupyter(ServerApp={"jpserver_extensions": {"comfydeploy_jupyter": False}})
    announce(runtime, os.getpid(), url=server.url, token=server.token)
    enable = "jupyter server extension enable comfydeploy_jupyter"
    with pytest.warns(UserWarning, match=enable):
        found = connect().url
    assert found.startswith("http://127.0.0.1:")
    assert found != server.url
    with pytest.raises(NotFoundError, match=enable):
        connect(server.url, server.token)
    server.stop()
