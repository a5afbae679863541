"""What `make run` does once everything is installed.

Starts JupyterLab with the extension and a ComfyUI, runs the quickstart workflow through the routes,
prints how it went, and leaves JupyterLab running until it is interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

import comfydeploy_jupyter
from comfydeploy_jupyter.errors import ComfyDeployError

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
LOG = REPOSITORY / ".cache" / "jupyterlab.log"
WAIT = 120.0  # seconds that JupyterLab has to start


def main() -> int:
    """Run the workflow; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", required=True, help="folder of the ComfyUI to use")
    parser.add_argument("--smoke", action="store_true", help="end after the workflow")
    options = parser.parse_args()
    token = secrets.token_hex(24)
    environment = {
        **os.environ,
        "COMFYDEPLOY_COMFYUI_PATH": str(Path(options.comfyui).resolve()),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--notebook-dir={NOTEBOOKS}"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    print("Starting JupyterLab", flush=True)
    LOG.parent.mkdir(exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    with LOG.open("wb") as log:
        jupyter = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = wait_for(jupyter)
        run_quickstart(url, token)
        if options.smoke:
            return 0
        print(
            f"\nJupyterLab is running; open\n\n    {url}lab/tree/quickstart.ipynb?token={token}\n\n"
            f"Its log is {LOG}. Ctrl-C ends it.",
            flush=True,
        )
        return jupyter.wait()
    except KeyboardInterrupt:
        return 0
    except ComfyDeployError as error:
        print(f"{error}\n{error.extra.get('hint', '')}", file=sys.stderr)
        return 1
    finally:
        stop(jupyter)


def leave(number: int, _: object) -> None:
    """End in the ordinary way, so that JupyterLab ends first."""
    sys.exit(128 + number)


def wait_for(jupyter: subprocess.Popen[bytes]) -> str:
    """Return the server's URL once it is known."""
    record = Path(jupyter_runtime_dir()) / f"jpserver-{jupyter.pid}.json"
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and jupyter.poll() is None:
        if record.exists():
            try:
                return str(json.loads(record.read_text())["url"])
            except ValueError:
                pass  # it is being written
        time.sleep(0.1)
    sys.exit(f"JupyterLab did not start; its log:\n{LOG.read_text()[-4000:]}")


def run_quickstart(url: str, token: str) -> None:
    """Run the quickstart workflow and print its status, time and output file."""
    comfy = comfydeploy_jupyter.connect(url, token=token)
    print("Running the quickstart workflow", flush=True)
    started = time.monotonic()
    result = comfy.run(NOTEBOOKS / "sunset.json")
    took = time.monotonic() - started
    print(f"status: {result.status}")
    print(f"time: {result.execution_time:.2f} s in ComfyUI, {took:.2f} s in all")
    for file in result.files:
        print(f"output: {'/'.join(filter(None, (file.type, file.subfolder, file.filename)))}")


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
