"""Checks of an environment in which only the wheel and its dependencies are installed.

    python -I scripts/smoke.py --version 1.2.3 --folder DIR [--comfyui-url URL | --comfyui-path DIR]

`scripts/release.py` runs this with the Python of a clean environment. All files of Jupyter and the
package are below ``--folder``; the store is in ``DIR/comfydeploy``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WAIT = 120.0  # time limit for Jupyter's start in seconds
PROGRAMS = (".__main__", ".inspect_python")  # modules that run a program when they are imported
WORKFLOW = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 48, "height": 32, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def main() -> None:
    """Run all checks; end with a traceback or a message at the first failure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--version", required=True, help="the version that was installed")
    parser.add_argument("--folder", required=True, type=Path, help="an empty folder")
    parser.add_argument("--comfyui-url", default="", help="a ComfyUI that runs")
    parser.add_argument("--comfyui-path", default="", help="a ComfyUI to start")
    options = parser.parse_args()
    folder = options.folder.resolve()
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("COMFYDEPLOY_", "PYTHON"))},
        **{f"JUPYTER_{n}_DIR": str(folder / n.lower()) for n in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTER_TOKEN": "smoke",
        "COMFYDEPLOY_DATA_DIR": str(folder / "comfydeploy"),
        "COMFYDEPLOY_COMFYUI_URL": options.comfyui_url,
        "COMFYDEPLOY_COMFYUI_PATH": options.comfyui_path,
        "COMFYDEPLOY_AUTOSTART": str(bool(options.comfyui_url or options.comfyui_path)),
    }
    imports(options.version)
    listed(env)
    served(env, folder, run=bool(options.comfyui_url or options.comfyui_path))


def imports(version: str) -> None:
    """Import every module and every panel, to find missing dependencies."""
    package = importlib.import_module("comfydeploy_jupyter")
    if package.__version__ != version:
        sys.exit(f"comfydeploy_jupyter is {package.__version__}, not {version}")
    names = [m.name for m in pkgutil.walk_packages(package.__path__, "comfydeploy_jupyter.")]
    for name in names:
        if not name.endswith(PROGRAMS):
            importlib.import_module(name)
    for name in sorted(package.PANELS):
        getattr(package, name)
    print(f"  imported {len(names)} modules, {len(package.PANELS)} panels")


def listed(env: dict[str, str]) -> None:
    """Check Jupyter's list of extensions: the installation alone enables ours."""
    done = subprocess.run(
        [jupyter(), "server", "extension", "list"], env=env, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    lines = [line for line in said.splitlines() if "comfydeploy_jupyter" in line]
    if done.returncode or not any("enabled" in line for line in lines) or "OK" not in lines[-1]:
        sys.exit(f"jupyter server extension list does not show it enabled and OK:\n{said}")
    print("  enabled and OK")


def served(env: dict[str, str], folder: Path, *, run: bool) -> None:
    """Start Jupyter, request the status and, with a ComfyUI, run a workflow."""
    log = folder / "jupyter.log"
    command = [jupyter(), "server", "--no-browser", "--ip=127.0.0.1"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
    try:
        use(address(server, folder / "runtime"), run=run)
    except BaseException:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        server.terminate()
        server.wait(60)


def use(url: str, *, run: bool) -> None:
    """Use a server in the same way as a notebook."""
    package = importlib.import_module("comfydeploy_jupyter")
    comfy = package.connect(url, "smoke")
    status: dict[str, Any] = comfy.status()
    if status["version"] != package.__version__:
        sys.exit(f"check-status answered {status}")
    print(f"  check-status: {status['status']}")
    if run:
        result = comfy.run(WORKFLOW, progress=False)
        size = result.images[0].size
        if result.status != "success" or size != (48, 32):
            sys.exit(f"the workflow ended with {result.status} and an image of {size}")
        print("  a workflow ran")
    package.ComfyDeployPanel(comfy=comfy).close()
    print("  a panel was made")


def address(server: subprocess.Popen[bytes], runtime: Path) -> str:
    """Return the server's URL when it is known."""
    record = runtime / f"jpserver-{server.pid}.json"
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return str(json.loads(record.read_text())["url"])
        except (OSError, ValueError):
            time.sleep(0.1)  # missing or incomplete
    sys.exit("Jupyter did not start")


def jupyter() -> str:
    """Return the path of a program of this environment."""
    return str(Path(sys.executable).with_name("jupyter"))


if __name__ == "__main__":
    main()
