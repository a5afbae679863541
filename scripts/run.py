"""The last step of `make run`, when everything is installed.

Starts JupyterLab with the extension and a ComfyUI, prints the address to open, runs the quickstart
workflow through the routes, prints the result and the path of its picture, and leaves JupyterLab
running until it is interrupted.
While it waits, it prints the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jupyter_core.paths import jupyter_runtime_dir

import comfydeploy_jupyter
from comfydeploy_jupyter.client.text import Terminal, cut, one_line
from comfydeploy_jupyter.display import Live, activity, progress_display
from comfydeploy_jupyter.errors import ComfyDeployError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from comfydeploy_jupyter.client import Comfy, RunProgress

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
LOG = REPOSITORY / ".cache" / "jupyterlab.log"
WAIT = 120.0  # time limit for JupyterLab's start in seconds
REPORT_EVERY = 5.0  # seconds between two lines about the reason for waiting


def main() -> int:
    """Run the workflow; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", required=True, help="folder of the ComfyUI to use")
    parser.add_argument("--smoke", action="store_true", help="end after the workflow")
    options = parser.parse_args()
    token = secrets.token_hex(24)
    environment = {
        **os.environ,
        "COMFYDEPLOY_AUTOSTART": "1",
        "COMFYDEPLOY_COMFYUI_PATH": str(Path(options.comfyui).resolve()),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--notebook-dir={NOTEBOOKS}"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    say("Starting JupyterLab")
    LOG.parent.mkdir(exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup does the same
            signal.signal(number, leave)
    with LOG.open("wb") as log:
        jupyter = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = wait_for(jupyter)
        if not options.smoke:
            say_address(f"{url}lab/tree/quickstart.ipynb?token={token}")
        comfy = comfydeploy_jupyter.connect(url, token=token)
        wait_for_comfyui(comfy, jupyter)
        run_quickstart(comfy)
        return 0 if options.smoke else jupyter.wait()
    except KeyboardInterrupt:
        return 0
    except ComfyDeployError as error:
        print(f"{error}\n{error.extra.get('hint', '')}", file=sys.stderr)
        return 1
    finally:
        stop(jupyter)


def say_address(address: str) -> None:
    """Print where JupyterLab is, what to do there, and how to end it."""
    # Shells start background jobs in such a way that they ignore Ctrl-C.
    in_background = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    how_to_end = f"kill {os.getpid()}" if in_background else "Ctrl-C"
    say(
        f"JupyterLab is running. Click, or copy into a browser:\n\n    {address}\n\n"
        "That opens the notebook quickstart.ipynb; click Run > Run All Cells there.\n"
        "The tile ComfyUI of the launcher (click + beside the tab) opens ComfyUI's own page.\n"
        f"The log of JupyterLab is {LOG}. {how_to_end} ends JupyterLab and ComfyUI.\n"
    )


def leave(number: int, _: object) -> None:
    """End normally, so that JupyterLab ends first."""
    sys.exit(128 + number)


def wait_for(jupyter: subprocess.Popen[bytes]) -> str:
    """Return the server's URL when it replies; the URL is written before the server listens."""
    record = Path(jupyter_runtime_dir()) / f"jpserver-{jupyter.pid}.json"
    waiting = Waiting("JupyterLab")
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and jupyter.poll() is None:
        if record.exists():
            try:
                url = str(json.loads(record.read_text())["url"])
                address = urlsplit(url)
                with socket.create_connection((address.hostname, address.port), timeout=5):
                    return url
            except (ValueError, OSError):
                pass  # the file is incomplete, or the server does not listen yet
        if LOG.exists():
            waiting.report(last_line(LOG.read_text(errors="replace").splitlines()))
        time.sleep(0.1)
    log = LOG.read_text(errors="replace")[-4000:] if LOG.exists() else ""
    sys.exit(f"JupyterLab did not start; its log:\n{log}")


def wait_for_comfyui(comfy: Comfy, jupyter: subprocess.Popen[bytes]) -> None:
    """Return when ComfyUI replies, or has failed; the run then reports the error."""
    waiting: Waiting | None = None
    while jupyter.poll() is None:
        status = comfy.status()["comfyui"]
        if status["reachable"] or status.get("error") or status.get("state") == "failed":
            return
        if waiting is None:
            say("Starting ComfyUI, which loads torch first")
            waiting = Waiting("ComfyUI")
        managed = status["managed"]
        log = comfy.server.get("comfyui/log", lines=5)["lines"] if managed else []
        waiting.report(last_line(log))
        time.sleep(0.5)


def run_quickstart(comfy: Comfy) -> None:
    """Run the quickstart workflow; print its status and time, and the path of its picture."""
    say("Running the quickstart workflow")
    started = time.monotonic()
    result = comfy.run(NOTEBOOKS / "sunset.json", progress=run_display)
    took = time.monotonic() - started
    say(f"status: {result.status}")
    say(f"time: {result.execution_time:.2f} s in ComfyUI, {took:.2f} s in all")
    for path in result.save(NOTEBOOKS / "results"):
        say(f"output: {path}")


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


class Waiting:
    """Prints the reason for waiting, first after some time and then every few seconds.

    Parameters
    ----------
    what : str
        The name of the awaited step.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._reported = time.monotonic()

    def report(self, now: str) -> None:
        """Print the waiting time and the present step, if a line is due."""
        moment = time.monotonic()
        if moment - self._reported >= REPORT_EVERY:
            self._reported = moment
            doing = f": {now}" if now else ""
            say(f"  waiting for {self._what}, {moment - self._started:.0f} s{doing}")


def last_line(lines: list[str]) -> str:
    """Return the last line of a log that is not empty, shortened."""
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return cut(one_line(line), 100)


def run_display(progress: RunProgress) -> AbstractContextManager[object]:
    """Show a run as usual in a terminal, otherwise as lines."""
    if Terminal.of(sys.stderr) is not None:
        return progress_display(progress)
    return Live(progress, RunLines())


class RunLines:
    """Shows a run as a line every few seconds."""

    def __init__(self) -> None:
        self._waiting = Waiting("the run")

    def show(self, progress: RunProgress) -> None:
        """Print the present activity, if a line is due."""
        self._waiting.report(f"{progress.fraction:.0%}, {one_line(activity(progress))}")

    def end(self, progress: RunProgress) -> None:
        """Print nothing: the result is printed elsewhere."""


def stop(jupyter: subprocess.Popen[bytes]) -> None:
    """End JupyterLab and, with it, ComfyUI."""
    if jupyter.poll() is None:
        jupyter.send_signal(signal.SIGTERM)
        try:
            jupyter.wait(20)
        except subprocess.TimeoutExpired:
            jupyter.kill()


if __name__ == "__main__":
    sys.exit(main())
