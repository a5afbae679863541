"""What works on Windows and macOS, and the errors of what does not."""

import json
import os
import signal
import subprocess
import sys
from hashlib import sha256

import psutil
import pytest
import requests

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.errors import UnsupportedPlatformError
from comfydeploy_jupyter.util.reaper import reaped_command
from tests.helpers.comfyui import free_port
from tests.helpers.jupyter import TOKEN
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few
from tests.helpers.waiting import until

pytestmark = pytest.mark.slow  # each test starts Pythons that import everything

IMPORT_ALL = """
import importlib, pkgutil, comfydeploy_jupyter
for module in pkgutil.walk_packages(comfydeploy_jupyter.__path__, "comfydeploy_jupyter."):
    if not module.name.endswith((".__main__", ".inspect_python")):
        importlib.import_module(module.name)
for panel in comfydeploy_jupyter.PANELS:
    getattr(comfydeploy_jupyter, panel)
"""
USE = """
import json, sys
import comfydeploy_jupyter
comfy = comfydeploy_jupyter.connect()
result = comfy.run(json.loads(sys.argv[1]), {"text": "from here"}, progress=False)
[path] = result.save("pictures")
[again] = result.save("pictures")
workflow = comfy.load(path)
workflow.save("again.json")
uploaded = comfy.upload(path)
panel = comfydeploy_jupyter.ComfyDeployPanel("again.json", comfy)
panel.close()
assert path == again and path.read_bytes() and uploaded
print(result.status, *result.texts, len(workflow))
"""
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    "3": {"class_type": "TestText", "inputs": {"text": "", "anything": ["1", 0]}},
}
RECOGNITION = """
import os, subprocess, sys
from comfydeploy_jupyter.util.child import _started_at
from comfydeploy_jupyter.client.discovery import _ancestors
child = subprocess.Popen(["sleep", "100"])
first, again = _started_at(child.pid), _started_at(child.pid)
child.kill()
while _started_at(child.pid) is not None:
    pass
child.wait()
print(first == again, _started_at(child.pid) is None, os.getppid() in _ancestors())
"""
GUARD = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SERVE = "from jupyter_server.serverapp import main; main()"


def disguised(system, code):
    return f"from tests.helpers.other_systems import as_{system}\nas_{system}()\n{code}"


def run(system, code, *arguments, folder, **env):
    return subprocess.run(
        [sys.executable, "-c", disguised(system, code), *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.mark.thorough
@pytest.mark.parametrize("system", few(["windows", "macos"]))
def test_every_module_can_be_imported(system, tmp_path):
    done = run(system, IMPORT_ALL, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("system", few(["windows", "macos"]))
def test_client_and_panels_work_with_a_server_elsewhere(system, jupyter, tmp_path):
    done = run(
        system,
        USE,
        json.dumps(GRAPH),
        folder=tmp_path,
        COMFYDEPLOY_JUPYTER_URL=jupyter.url,
        COMFYDEPLOY_JUPYTER_TOKEN=jupyter.token,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "success from here 3\n")


ON_WINDOWS = [
    "import comfydeploy_jupyter; comfydeploy_jupyter.connect()",
    "import runpy; runpy.run_module('comfydeploy_jupyter', run_name='__main__')",
    "import sys; from comfydeploy_jupyter.comfyui.install import main; sys.exit(main([]))",
]


@pytest.mark.parametrize("code", few(ON_WINDOWS))
def test_on_windows_the_error_says_what_works_there(code, tmp_path):
    done = run("windows", code, folder=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    for part in ("does not run on Windows", "the client and the panels", "connect(url, token)"):
        assert part in last
    if "connect()" not in code:
        assert len(done.stderr.splitlines()) == 1


def test_on_windows_the_extension_logs_that_it_is_off_and_jupyter_runs(start_jupyter):
    server = start_jupyter(program=("-c", disguised("windows", SERVE)))
    until(lambda: "could not be started" in server.log())
    assert server.log().count("does not run on Windows") == 1
    assert "Traceback" not in server.log()
    headers = {"Authorization": f"token {TOKEN}"}
    assert requests.get(f"{server.url}api/contents", headers=headers, timeout=30).ok
    reply = requests.get(f"{server.url}comfyui-deploy/check-status", headers=headers, timeout=30)
    assert (reply.status_code, reply.json()["code"]) == (501, "unsupported_platform")
    with pytest.raises(UnsupportedPlatformError, match="does not run on Windows"):
        Comfy(server.url, server.token).run(GRAPH, progress=False)
    assert "Traceback" not in server.log()


@pytest.mark.thorough
def test_on_macos_a_server_starts_comfyui_and_runs_a_workflow(start_jupyter, comfyui, tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    server = start_jupyter(
        program=("-c", disguised("macos", SERVE)),
        ComfyDeploy={
            "comfyui_path": str(comfyui.path),
            "comfyui_python": str(comfyui.python),
            "launch_args": [
                *("--cpu", "--port", str(free_port()), "--base-directory", str(tmp_path)),
                *("--database-url", "sqlite:///:memory:", "--disable-api-nodes"),
            ],
            "data_dir": str(tmp_path / "data"),
        },
    )
    comfy = Comfy(server.url, server.token)
    result = comfy.run({"1": GRAPH["1"], "2": GRAPH["2"]}, progress=False)
    assert result.images[0].size == (16, 16)
    (picture,) = result.save(tmp_path)
    assert str(comfy.upload(picture)) == picture.name
    assert comfy.hash(f"input/{picture.name}") == sha256(picture.read_bytes()).hexdigest()
    machine = comfy.machines.get("local")
    pid = machine.software["comfyui"]["pid"]
    assert machine.software["comfyui"]["process"]["memory"] > 0
    assert machine.hardware["cpu"]["cores"] > 0
    assert "Traceback" not in server.log()
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))


@pytest.mark.thorough
def test_on_macos_a_comfyui_left_by_a_killed_server_is_recognised(tmp_path):
    """A process is identified by its start time, also without ``/proc``."""
    done = run("macos", RECOGNITION, folder=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True True True\n")


@pytest.mark.thorough
def test_on_macos_the_reaper_ends_the_process_group_when_its_owner_ends(tmp_path):
    command = reaped_command(["sh", "-c", "sleep 100 & sleep 100"], log=tmp_path / "log", grace=1)
    reaper = subprocess.Popen(
        [sys.executable, "-c", disguised("macos", GUARD), *command[3:]],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert reaper.stdin is not None
    child = int(reaper.stdout.readline())
    family = []

    def is_there():
        family[:] = [one for one in psutil.process_iter() if _group(one.pid) == child]
        return len(family) == 3

    until(is_there)
    reaper.stdin.close()
    assert reaper.wait(60) == 128 + signal.SIGTERM
    reaper.stdout.close()
    assert not any(one.is_running() and one.status() != "zombie" for one in family)


def _group(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
