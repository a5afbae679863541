"""What `make run` starts ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.jupyter_process import REPOSITORY
from tests.test_guard import alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# In ComfyUI's place: what matters is only that it runs.
MAIN = """
import os, pathlib, time
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
time.sleep(1000)
"""


def until(condition: Callable[[], object], script: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert script.poll() is None, what
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    comfyui, runtime = tmp_path / "comfyui", tmp_path / "runtime"
    (comfyui / "comfy").mkdir(parents=True)
    (comfyui / "main.py").write_text(MAIN)
    script = subprocess.Popen(
        [sys.executable, REPOSITORY / "scripts" / "run.py", "--comfyui", comfyui],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "COMFYDEPLOY_COMFYUI_PYTHON": sys.executable,
            "JUPYTER_RUNTIME_DIR": str(runtime),
            "JUPYTER_DATA_DIR": str(tmp_path / "data"),
            "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    children: list[int] = []
    try:
        pid_file = comfyui / "pid"
        until(lambda: list(runtime.glob("jpserver-*.json")), script, "JupyterLab does not start")
        until(lambda: pid_file.exists() and pid_file.read_text(), script, "nor ComfyUI")
        (record,) = runtime.glob("jpserver-*.json")
        children = [int(record.stem.removeprefix("jpserver-")), int(pid_file.read_text())]
        assert all(alive(pid) for pid in children)
        script.send_signal(number)
        script.wait(60)
        deadline = time.monotonic() + 20
        while any(alive(pid) for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        script.kill()
        script.wait()
        for pid in filter(alive, children):
            os.kill(pid, signal.SIGKILL)
