"""Describe the hardware and the software of a machine."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._version import __version__
from ..comfyui.client import REPLY_TIMEOUT
from ..comfyui.find import pid_at
from ..errors import ComfyUIUnavailableError
from ..util.secrets import masked_arguments
from ..util.tasks import wait_for
from . import hardware

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine


def kind(machine: Machine) -> str:
    """Return ``managed`` for a machine whose ComfyUI this server starts, else ``comfyui``."""
    return "managed" if machine.managed else "comfyui"


async def hardware_and_software(machine: Machine) -> dict[str, Any]:
    """Return ``hardware`` and ``software`` of a machine, for ``GET machine``."""
    stats = await _ask(machine)
    here = _on_this_box(machine)
    system: dict[str, Any] = stats.get("system") or machine.system
    devices = [device for device in stats.get("devices") or () if isinstance(device, dict)]
    if here:
        found = await asyncio.to_thread(hardware.hardware, await _model_folders(machine), devices)
    else:
        found = _hardware_elsewhere(system, devices)
    return {"hardware": found, "software": await _software(machine, system, here=here)}


async def _software(machine: Machine, system: dict[str, Any], *, here: bool) -> dict[str, Any]:
    status = machine.status()
    known: dict[str, Any] = {"version": None, "commit": None, "source": None}
    if machine.connected or machine.path is not None:  # else this would find or start it
        with contextlib.suppress(ComfyUIUnavailableError, asyncio.TimeoutError):
            known = await wait_for(machine.version(), REPLY_TIMEOUT)
    pid = status.get("pid")
    facts = {}
    if here and machine.url is not None and pid is None and machine.connected:
        pid = await asyncio.to_thread(pid_at, machine.url)
    if here and pid is not None:
        facts = await asyncio.to_thread(hardware.process_facts, pid)
    comfyui = {
        **known,
        **{key: value for key, value in status.items() if key not in ("version", "path")},
        "path": str(machine.path) if machine.path is not None else None,
        "pid": pid,
        "process": facts or None,
        "interpreter": str(machine.python) if machine.python is not None else None,
        "python": system.get("python_version"),
        "torch": system.get("pytorch_version"),
        "launch_args": masked_arguments(machine.launch_args),
    }
    try:
        jupyter_server: str | None = version("jupyter_server")
    except PackageNotFoundError:
        jupyter_server = None
    return {
        "os": platform.platform() if here else system.get("os"),
        "python": platform.python_version(),
        "jupyter_server": jupyter_server,
        "comfydeploy_jupyter": __version__,
        "comfyui": comfyui,
    }


async def _ask(machine: Machine) -> dict[str, Any]:
    """Return the response to ``/system_stats``; empty if ComfyUI does not answer."""
    client = machine.reachable_client()
    if client is None:
        return {}
    try:
        return await wait_for(client.system_stats(), REPLY_TIMEOUT)
    except (ComfyUIUnavailableError, asyncio.TimeoutError):
        return {}


def _on_this_box(machine: Machine) -> bool:
    if machine.managed or machine.path is not None:
        return True
    host = urlsplit(machine.url or machine.settings.comfyui_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


async def _model_folders(machine: Machine) -> list[Path]:
    """Return the directories of models; none if the ComfyUI is not known."""
    if machine.path is None:
        return []
    folders = await machine.folders()
    found = [folders.models_directory] if folders.models_directory is not None else []
    for folder in (await asyncio.to_thread(folders.model_folders)).values():
        found.extend(folder.paths)
    return list(dict.fromkeys(found))


def _hardware_elsewhere(system: dict[str, Any], devices: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the hardware of another machine, as its ComfyUI reports it."""
    return {
        "cpu": None,
        "memory": hardware.usage(system.get("ram_total"), system.get("ram_free"), "available"),
        "gpus": [gpu for gpu in map(hardware.of_comfyui, devices) if gpu is not None],
        "disks": [],
    }
