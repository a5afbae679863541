"""A check for hidden errors, a ComfyUI of the extension, and a replacement for ``nvidia-smi``."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.comfyui import TEST_NODES
from tests.runs.conftest import no_hidden_errors  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GPUS = [
    {
        "index": 0,
        "uuid": "GPU-11111111-aaaa-bbbb-cccc-000000000000",
        "name": "NVIDIA GeForce RTX 4090",
        "memory.total": 24564,
        "memory.used": 1024,
        "memory.free": 23540,
        "utilization.gpu": 37,
        "temperature.gpu": 61,
        "driver_version": "550.54.14",
    },
    {
        "index": 1,
        "uuid": "GPU-22222222-aaaa-bbbb-cccc-000000000000",
        "name": "NVIDIA A100, 80GB",
        "memory.total": 81920,
        "memory.used": 0,
        "memory.free": 81920,
        "driver_version": "550.54.14",
    },
]


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A function that puts an ``nvidia-smi`` with the given GPUs first on the path."""

    def install(gpus) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        script = shlex.join([sys.executable, str(Path(__file__).with_name("nvidia_smi.py"))])
        program.write_text(f'#!/bin/sh\nexec {script} "$0" "$@"\n')
        program.chmod(0o755)
        program.with_suffix(".json").write_text(json.dumps(gpus))
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.fixture
def managed(installed_comfyui, tmp_path) -> dict[str, Any]:
    """Settings with which ComfyUI is started from its folder."""
    path, python = installed_comfyui
    nodes = tmp_path / "base" / "custom_nodes"
    nodes.mkdir(parents=True)
    for pack in TEST_NODES.iterdir():
        if pack.is_dir():
            (nodes / pack.name).symlink_to(pack)
    return {
        "comfyui_path": str(path),
        "comfyui_python": str(python),
        "launch_args": [
            *("--base-directory", str(tmp_path / "base"), "--disable-api-nodes", "--cpu"),
            *("--database-url", "sqlite:///:memory:"),
        ],
        "data_dir": str(tmp_path / "data"),
    }


@asynccontextmanager
async def busy_store(extension) -> AsyncIterator[None]:
    """The store handles no other request during this block."""
    gate = threading.Event()
    busy = asyncio.ensure_future(extension.services.database.write(lambda _: gate.wait(20)))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        gate.set()
        await busy
