"""``connect()``: which server it finds, and which one it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.client.discovery import candidates
from tests.helpers.processes import PYTHONPATH
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from tests.helpers.jupyter import JupyterProcess

IMPORT = "from comfydeploy_jupyter import connect\n"


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds no server."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")}
    for name in ("COMFYDEPLOY_JUPYTER_URL", "COMFYDEPLOY_JUPYTER_TOKEN", "JPY_PARENT_PID"):
        env.pop(name, None)
    return {
        **env,
        "PYTHONPATH": PYTHONPATH,
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter-data"),
        "COMFYDEPLOY_COMFYUI_URL": "http://127.0.0.1:9",
        "COMFYDEPLOY_DATA_DIR": str(tmp_path / "data"),
    }


def python(code: str, env: dict[str, str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORT + textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        **kwargs,
    )


def announce(env: dict[str, str], pid: int, **info: Any) -> None:
    """Write the file with which a Jupyter server announces itself."""
    folder = Path(env["JUPYTER_RUNTIME_DIR"])
    folder.mkdir(exist_ok=True)
    known = {"url": "http://127.0.0.1:9/", "token": "", "pid": pid, "sock": ""}
    (folder / f"jpserver-{pid}.json").write_text(json.dumps({**known, **info}))


def test_a_kernel_finds_the_server_that_started_it(
    jupyter: JupyterProcess, alone: dict[str, str]
) -> None:
    announce(alone, jupyter.pid, url=jupyter.url, token=jupyter.token)
    with subprocess.Popen(["sleep", "60"]) as other_process:
        announce(alone, other_process.pid, url="http://127.0.0.1:9/")
        ran = python(
            "print(connect(start=False).url)", {**alone, "JPY_PARENT_PID": str(jupyter.pid)}
        )
        other_process.kill()
    assert (ran.stdout.strip(), ran.stderr) == (jupyter.url, "")


def wait_for_ready(client: Any) -> None:
    """Wait for a kernel; on a busy machine, a late heartbeat may count as its end for a moment."""
    deadline = time.monotonic() + 60
    while True:
        try:
            client.wait_for_ready(60)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def test_a_real_kernel_of_jupyter_finds_it(jupyter: JupyterProcess) -> None:
    import requests

    headers = {"Authorization": f"token {jupyter.token}"}
    address = f"{jupyter.url}api/kernels"
    kernel = requests.post(address, headers=headers, json={"name": "python3"}, timeout=60).json()
    try:
        from jupyter_client.blocking.client import BlockingKernelClient

        client = BlockingKernelClient()
        client.load_connection_file(str(jupyter.runtime_dir / f"kernel-{kernel['id']}.json"))
        client.start_channels()
        wait_for_ready(client)
        outputs: list[str] = []
        client.execute_interactive(
            f"{IMPORT}print(connect(start=False).url)",
            timeout=60,
            output_hook=lambda message: outputs.append(str(message["content"])),
        )
        client.stop_channels()
    finally:
        requests.delete(f"{address}/{kernel['id']}", headers=headers, timeout=60)
    assert any(jupyter.url in output for output in outputs), outputs


def test_a_script_finds_a_running_server(jupyter: JupyterProcess) -> None:
    ran = python("print(connect(start=False).url)", jupyter.env)
    assert ran.stdout.strip() == jupyter.url


def test_the_environment_names_a_server(jupyter: JupyterProcess, alone: dict[str, str]) -> None:
    env = {
        **alone,
        "COMFYDEPLOY_JUPYTER_URL": jupyter.url,
        "COMFYDEPLOY_JUPYTER_TOKEN": jupyter.token,
    }
    ran = python("print(connect().url)", env)
    assert ran.stdout.strip() == jupyter.url


def test_arguments_win_and_are_checked(jupyter: JupyterProcess, alone: dict[str, str]) -> None:
    env = {**alone, "COMFYDEPLOY_JUPYTER_URL": "http://127.0.0.1:9"}
    ran = python(f"print(connect({jupyter.url!r}, {jupyter.token!r}).url)", env)
    assert ran.stdout.strip() == jupyter.url
    assert "does not answer" in python("connect()", env).stderr
    assert "does not accept the token" in python(f"connect({jupyter.url!r}, 'wrong')", env).stderr


def test_the_server_of_jupyterhub_comes_first(
    jupyter: JupyterProcess, alone: dict[str, str]
) -> None:
    port = jupyter.url.split(":")[2].split("/")[0]
    env = {
        **alone,
        "JUPYTERHUB_API_TOKEN": jupyter.token,
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{port}/elsewhere/",
        "JUPYTERHUB_SERVICE_PREFIX": "/a%40b/",
    }
    announce(env, os.getpid(), url="http://127.0.0.1:9/")
    ran = python("print(connect(start=False).url)", env)
    assert ran.stdout.strip() == jupyter.url


def test_stale_and_broken_files_are_skipped(
    alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    announce(alone, gone.pid)
    runtime = Path(alone["JUPYTER_RUNTIME_DIR"])
    (runtime / "jpserver-1234.json").write_text('{"url": ')
    (runtime / "jpserver-1235.json").write_text("[]")
    announce(alone, os.getppid(), url="http://0.0.0.0:8888/x/", token="t")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    (found,) = candidates({})
    assert (found.url, found.token, found.mine) == ("http://127.0.0.1:8888/x/", "t", True)


def test_a_unix_socket_is_refused_clearly(alone: dict[str, str]) -> None:
    announce(alone, os.getpid(), url="http+unix://%2Ftmp%2Fs/", sock="/tmp/s")
    assert "listens on the Unix socket /tmp/s" in python("connect()", alone).stderr


def test_without_a_server_and_with_start_false(alone: dict[str, str]) -> None:
    assert "no Jupyter server with comfydeploy_jupyter was found" in (
        python("connect(start=False)", alone).stderr
    )


def test_a_password_only_server_is_refused_clearly(start_jupyter, alone: dict[str, str]) -> None:
    from jupyter_server.auth import passwd

    server = start_jupyter(
        IdentityProvider={"token": ""},
        PasswordIdentityProvider={"hashed_password": passwd("secret", "sha1")},
        ComfyDeploy={"comfyui_url": "http://127.0.0.1:9", "autostart": False},
    )
    env = {**server.env, "JPY_PARENT_PID": str(server.pid)}
    assert "a program cannot enter a password" in python("connect()", env).stderr
    server.stop()


@pytest.mark.slow
def test_without_a_server_one_is_started_and_ends_with_its_client(alone: dict[str, str]) -> None:
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
        env=alone,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url, again, token, status = json.loads(process.stdout.readline())
        assert url == again
        assert url.startswith("http://127.0.0.1:")
        assert (len(token), status) == (48, "degraded")
        commands = _commands()
        assert any("-m comfydeploy_jupyter" in command for command in commands.values())
        assert not any(token in command for command in commands.values())
        server = next(p for p, c in commands.items() if c.endswith("-m comfydeploy_jupyter"))
        process.kill()
        process.wait()
    until(lambda: server not in _commands(), what="the server outlived its owner")


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(alone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_server_config.py").write_text("raise SystemExit('bad day')")
    ran = python("connect()", alone)
    assert "that connect() started ended while starting" in ran.stderr
    assert "bad day" in ran.stderr


def test_a_server_without_the_extension_is_named_and_replaced(
    start_jupyter, alone: dict[str, str]
) -> None:
    server = start_jupyter(ServerApp={"jpserver_extensions": {"comfydeploy_jupyter": False}})
    env = {**alone, "JUPYTER_RUNTIME_DIR": str(server.runtime_dir)}
    env["JPY_PARENT_PID"] = str(server.pid)
    ran = python("print(connect().url)", env)
    assert "jupyter server extension enable comfydeploy_jupyter" in ran.stderr
    assert ran.stdout.startswith("http://127.0.0.1:")
    assert ran.stdout.strip() != server.url
    process = python(f"connect({server.url!r}, {server.token!r})", env)
    assert "jupyter server extension enable comfydeploy_jupyter" in process.stderr
    server.stop()


def _commands() -> dict[int, str]:
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found[int(path.name)] = b" ".join(words).decode(errors="replace").strip()
    return found
