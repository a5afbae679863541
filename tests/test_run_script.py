"""The processes of `make run` end with it, and `make` installs the right packages."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.helpers.processes import PYTHONPATH, REPOSITORY, alive
from tests.helpers.waiting import until

# In ComfyUI's place: what matters is only that it runs.
MAIN = """
import os, pathlib, time
print("Loading torch", flush=True)
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
time.sleep(1000)
"""


def until_it(condition, script, what):
    until(lambda: condition() or script.poll() is not None, timeout=120, what=what)
    assert condition(), what


def start(tmp_path, comfyui, *, by=(), **environ):
    """Start the script, ``by`` a program; return its process, and the file with what it prints."""
    printed = tmp_path / "printed"
    with printed.open("wb") as out:
        script = subprocess.Popen(
            [*by, sys.executable, REPOSITORY / "scripts" / "run.py", "--comfyui", comfyui],
            env={
                **os.environ,
                "PYTHONPATH": PYTHONPATH,
                "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
                "JUPYTER_DATA_DIR": str(tmp_path / "data"),
                "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return script, printed


IGNORING = ("sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh")


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("started", "ignored", "number"),
    [
        ((), (), signal.SIGTERM),
        ((), (), signal.SIGHUP),
        ((), (), signal.SIGINT),
        (IGNORING, (signal.SIGHUP, signal.SIGINT), signal.SIGTERM),
    ],
    ids=["TERM", "HUP", "INT", "in the background"],
)
def test_a_signal_ends_all_its_processes(tmp_path, started, ignored, number):
    comfyui, runtime = tmp_path / "comfyui", tmp_path / "runtime"
    (comfyui / "comfy").mkdir(parents=True)
    (comfyui / "main.py").write_text(MAIN)
    script, printed = start(
        tmp_path, comfyui, by=started, COMFYDEPLOY_COMFYUI_PYTHON=sys.executable
    )
    children = []
    try:
        pid_file = comfyui / "pid"
        until_it(lambda: list(runtime.glob("jpserver-*.json")), script, "JupyterLab does not start")
        until_it(lambda: pid_file.exists() and pid_file.read_text(), script, "nor ComfyUI")
        (record,) = runtime.glob("jpserver-*.json")
        children = [int(record.stem.removeprefix("jpserver-")), int(pid_file.read_text())]
        assert all(alive(pid) for pid in children)
        waits = re.compile(r"waiting for ComfyUI, \d+ s: Loading torch")
        until_it(lambda: waits.search(printed.read_text()), script, "says not what it waits for")
        for other in ignored:
            script.send_signal(other)
            with pytest.raises(subprocess.TimeoutExpired):
                script.wait(1)
        script.send_signal(number)
        script.wait(60)
        until(lambda: not any(alive(pid) for pid in children))
    finally:
        script.kill()
        script.wait()
        for pid in filter(alive, children):
            os.kill(pid, signal.SIGKILL)


def test_its_output_begins_with_the_address_and_ends_with_the_picture(tmp_path, comfyui):
    script, printed = start(tmp_path, comfyui.path, COMFYDEPLOY_COMFYUI_URL=comfyui.url)
    try:
        until_it(lambda: "output: " in printed.read_text(), script, "it does not get to its end")
        text = printed.read_text()
        steps = ("Starting JupyterLab", "Ctrl-C", "Running the quickstart", "status: success")
        assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
        assert "The tile ComfyUI of the launcher" in text
        (url,) = re.findall(r"(?m)^    (http://\S+/lab/tree/quickstart\.ipynb\?\S+)$", text)
        assert "JupyterLab" in requests.get(url, timeout=30).text
        base, token = url.partition("lab/")[0], url.rpartition("=")[2]
        headers = {"Authorization": f"token {token}"}
        tiles = requests.get(f"{base}server-proxy/servers-info", headers=headers, timeout=30).json()
        assert "ComfyUI" in [tile["launcher_entry"]["title"] for tile in tiles["server_processes"]]
        until_it(lambda: printed.read_text().endswith(".png\n"), script, "it ends with no picture")
        picture = Path(printed.read_text().rpartition("output: ")[2].strip())
        assert picture.read_bytes().startswith(b"\x89PNG")
    finally:
        script.terminate()
        script.wait(60)
