"""What a machine consists of, is doing and holds: CPU, memory, GPUs, disks, software."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import platform
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from .._version import __version__
from ..comfyui.client import REPLY_TIMEOUT
from ..comfyui.find import output_of, pid_at
from ..errors import ComfyUIUnavailableError
from ..util.secrets import masked_arguments
from ..util.tasks import wait_for
from ..util.times import timestamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..comfyui.client import ComfyUIClient
    from .machine import Machine

MIB = 1024 * 1024
SMI_TIMEOUT = 15.0  # seconds; a driver that is not loaded yet is slow
SAMPLE = 0.1  # seconds over which the load of the CPU is measured
_SMI_FIELDS = (
    *("index", "uuid", "name", "memory.total", "memory.used", "memory.free"),
    *("utilization.gpu", "temperature.gpu", "driver_version"),
)
_CGROUP = Path("/sys/fs/cgroup")
IDLE_CPU = 0.03  # CPU seconds in a second; a ComfyUI that only answers requests uses less
IDLE_GPU = 5.0  # percent; a desktop environment uses less
LOOK_INTERVAL = 0.25  # seconds
MIN_WAIT, MAX_WAIT = 0.75, 5.0  # seconds that ComfyUI has to free memory
STEADY = 1024 * 1024  # bytes by which the free memory may change once nothing more is being freed


def hardware(folders: Iterable[Path], devices: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {"cpu": cpu(), "memory": memory(), "gpus": gpus(devices), "disks": disks(folders)}


def cpu() -> dict[str, Any]:
    """Return the processor: ``name``, ``cores`` (that this process may use), load in percent.

    ``limit`` is the CPU time that a container may use, in cores; None if there is no
    limit.
    """
    return {
        "name": _cpu_name(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "limit": _cpu_limit(_CGROUP),
        "percent": psutil.cpu_percent(SAMPLE),
        "load": [round(value, 2) for value in psutil.getloadavg()],
    }


def memory() -> dict[str, Any]:
    """Return the main memory in bytes: ``total``, ``available``, ``used``, within a container."""
    found = psutil.virtual_memory()
    total, available = int(found.total), int(found.available)
    limit = memory_limit(_CGROUP)
    if limit is not None and limit[0] < total:
        total = limit[0]
        available = min(available, max(0, total - limit[1]))
    return {"total": total, "available": available, "used": total - available}


def memory_limit(cgroup: Path) -> tuple[int, int] | None:
    """Return the memory limit and the used memory of a container in bytes; None if unlimited."""
    for limit, used, statistics, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            maximum = int((cgroup / limit).read_text())  # "max" is not a number
            current = int((cgroup / used).read_text())
            lines = dict(
                line.split(" ", 1) for line in (cgroup / statistics).read_text().splitlines()
            )
        except (OSError, ValueError):
            continue
        # The kernel releases the file cache before memory runs out.
        return maximum, max(0, current - int(lines.get(cache, "0")))
    return None


def _cpu_limit(cgroup: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else round(int(quota) / int(period), 2)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        share = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
        return None if share <= 0 else round(share / period_us, 2)
    return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()


def gpus(devices: Iterable[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return the GPUs: from NVML, else from ``nvidia-smi``, else from ComfyUI."""
    return gpus_of_driver() or [gpu for gpu in map(of_comfyui, devices) if gpu is not None]


def gpus_of_driver() -> list[dict[str, Any]]:
    """Return NVIDIA's GPUs as reported by their driver; empty if there are none."""
    found = _of_nvml()
    return found if found is not None else _of_nvidia_smi()


def _of_nvml() -> list[dict[str, Any]] | None:
    """Return the GPUs that NVML reports; None without NVML or its Python package."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return [_nvml_gpu(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, index: int, driver: str) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    found = nvml.nvmlDeviceGetMemoryInfo(handle)
    percent = temperature = None
    with contextlib.suppress(nvml.NVMLError):  # some GPUs do not provide these values
        percent = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    with contextlib.suppress(nvml.NVMLError):
        temperature = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return {
        "index": index,
        "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
        "name": _text(nvml.nvmlDeviceGetName(handle)),
        "memory": {"total": found.total, "used": found.used, "free": found.free},
        "percent": percent,
        "temperature": temperature,
        "driver": driver,
        "source": "nvml",
    }


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _of_nvidia_smi() -> list[dict[str, Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    printed = output_of([program, *query], SMI_TIMEOUT) or ""
    rows = [line.split(", ") for line in printed.splitlines()]
    return [_smi_gpu(row) for row in rows if len(row) >= len(_SMI_FIELDS) and row[0].isdecimal()]


def _smi_gpu(row: list[str]) -> dict[str, Any]:
    # Values are not quoted: the name is the text between the other fields.
    first, last = _SMI_FIELDS.index("name"), len(row) - 6
    total, used, free = (
        None if (mebibytes := _number(value)) is None else int(mebibytes * MIB)
        for value in row[last : last + 3]
    )
    return {
        "index": int(row[0]),
        "uuid": row[1],
        "name": ", ".join(row[first:last]),
        "memory": {"total": total, "used": used, "free": free},
        "percent": _number(row[last + 3]),
        "temperature": _number(row[last + 4]),
        "driver": row[last + 5].strip(),
        "source": "nvidia-smi",
    }


def _number(text: str) -> float | None:
    """Return a number from ``nvidia-smi``; None for ``[N/A]`` and similar texts."""
    try:
        return float(text)
    except ValueError:
        return None


def of_comfyui(device: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a GPU from ComfyUI's ``/system_stats`` (``server.py``); None for a CPU."""
    if device.get("type") in (None, "cpu"):
        return None
    # The name consists of the device, the product, and after a colon the allocator.
    name = str(device.get("name") or device["type"]).partition(" : ")[0]
    prefix, _, rest = name.partition(" ")
    return {
        "index": device.get("index"),
        "uuid": None,
        "name": rest if rest and ":" in prefix else name,
        "memory": usage(device.get("vram_total"), device.get("vram_free"), "free"),
        "percent": None,
        "temperature": None,
        "driver": None,
        "source": "comfyui",
    }


def usage(total: Any, free: Any, name: str) -> dict[str, int | None]:
    """Return ``total``, ``used`` and the free bytes under ``name``; values may be missing."""
    if not (isinstance(total, int) and isinstance(free, int)):
        return {"total": None, "used": None, name: None}
    return {"total": total, "used": total - free, name: free}


def disks(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the file systems of some folders, each once."""
    found: dict[int, dict[str, Any]] = {}
    for folder in folders:
        there = next((path for path in (folder, *folder.parents) if path.exists()), None)
        if there is None:
            continue
        with contextlib.suppress(OSError):
            device = there.stat().st_dev
            if device not in found:
                usage = shutil.disk_usage(there)
                found[device] = {
                    "path": str(folder),
                    "folders": [],
                    "total": usage.total,
                    "used": usage.used,
                    "free": usage.free,
                }
            found[device]["folders"].append(str(folder))
    return list(found.values())


def process_facts(pid: int) -> dict[str, Any]:
    """Return ``memory`` (resident, bytes) and ``started_at`` (ISO 8601, UTC) of a process."""
    try:
        process = psutil.Process(pid)
        started = timestamp_of(process.create_time())
        return {"memory": process.memory_info().rss, "started_at": started}
    except psutil.Error:
        return {"memory": None, "started_at": None}


def kind(machine: Machine) -> str:
    """Return ``managed`` for a machine whose ComfyUI this server starts, else ``comfyui``."""
    return "managed" if machine.managed else "comfyui"


async def hardware_and_software(machine: Machine) -> dict[str, Any]:
    stats = await system_stats(machine)
    here = _on_this_box(machine)
    system: dict[str, Any] = stats.get("system") or machine.system
    devices = stats.get("devices", [])
    if here:
        found = await asyncio.to_thread(hardware, await _model_folders(machine), devices)
    else:
        memory_there = usage(system.get("ram_total"), system.get("ram_free"), "available")
        gpus_there = [gpu for gpu in map(of_comfyui, devices) if gpu is not None]
        found = {"cpu": None, "memory": memory_there, "gpus": gpus_there, "disks": []}
    return {"hardware": found, "software": await _software(machine, system, here=here)}


async def memory_at(machine: Machine) -> list[dict[str, Any]]:
    """Return name and `usage` of the memory in which a ComfyUI keeps models, as it says itself.

    That of each of its GPUs; without any, the main memory.
    """
    stats = await system_stats(machine)
    found = [gpu for gpu in map(of_comfyui, stats.get("devices", ())) if gpu is not None]
    system = stats.get("system") or {}
    if not found and system:
        memory_there = usage(system.get("ram_total"), system.get("ram_free"), "free")
        found = [{"name": "Memory", "memory": memory_there}]
    return [{name: each[name] for name in ("name", "memory")} for each in found]


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
        facts = await asyncio.to_thread(process_facts, pid)
    comfyui = {
        **known,
        **{key: value for key, value in status.items() if key not in ("version", "path")},
        "kept": await machine.kept(),
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


async def system_stats(machine: Machine) -> dict[str, Any]:
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
    if machine.path is None:
        return []
    folders = await machine.folders()
    found = [folders.models_directory] if folders.models_directory is not None else []
    for folder in (await asyncio.to_thread(folders.model_folders)).values():
        found.extend(folder.paths)
    return list(dict.fromkeys(found))


class Activity:
    """The work of a process and of all processes that it has started."""

    def __init__(self, pid: int, environment: Mapping[str, str]) -> None:
        self._pid = pid
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._gpus = None if visible is None else {name.strip() for name in visible.split(",")}
        self._cpu_seconds = 0.0
        self._measured_at = time.monotonic()

    def seen(self) -> bool:
        """Return whether there was work since the last call. This blocks: call it in a thread."""
        now, used = time.monotonic(), _cpu_seconds(self._pid)
        elapsed, self._measured_at = now - self._measured_at, now
        change, self._cpu_seconds = used - self._cpu_seconds, used
        # The end of a process reduces the sum; it counts as work.
        return abs(change) > IDLE_CPU * elapsed or any(
            (gpu["percent"] or 0.0) > IDLE_GPU
            for gpu in gpus_of_driver()
            if self._gpus is None or {str(gpu["index"]), gpu["uuid"]} & self._gpus
        )


def _cpu_seconds(pid: int) -> float:
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                seconds += times.user + times.system
                seconds += times.children_user + times.children_system
    return seconds


async def free_memory_of(
    machine: Machine, *, unload_models: bool = True, free_memory: bool = True
) -> dict[str, Any]:
    """Free memory of a ComfyUI; return free bytes ``before`` and ``after``, and ``freed``.

    They are of all GPUs and of the main memory, from ``system_stats``; other programs change them,
    too. ``pending``: ComfyUI is executing a prompt, and frees memory afterwards.
    """
    client = await machine.ready()
    before = await _free_bytes(client)
    await client.free(unload_models=unload_models, free_memory=free_memory)
    after, pending = await _settled(client, before)
    return {
        "pending": pending,
        **{
            kind: {
                "before": before[kind],
                "after": after[kind],
                "freed": max(after[kind] - before[kind], 0),
            }
            for kind in before
        },
    }


async def free_memory_of_all(
    machines: Sequence[Machine], *, unload_models: bool = True, free_memory: bool = True
) -> dict[str, Any]:
    """Free memory of the ComfyUIs of some machines; return the sums of `free_memory_of`."""
    work = (
        free_memory_of(machine, unload_models=unload_models, free_memory=free_memory)
        for machine in machines
    )
    found = await asyncio.gather(*work, return_exceptions=True)
    freed = [each for each in found if isinstance(each, dict)]
    for exc in found:
        if isinstance(exc, BaseException) and not isinstance(exc, ComfyUIUnavailableError):
            raise exc
    if not freed:
        raise ComfyUIUnavailableError("No machine of the pool answers now")
    return {
        "pending": any(each["pending"] for each in freed),
        **{
            kind: {key: sum(each[kind][key] for each in freed) for key in freed[0][kind]}
            for kind in ("gpu", "ram")
        },
    }


async def _settled(client: ComfyUIClient, before: dict[str, int]) -> tuple[dict[str, int], bool]:
    """Wait until free memory stops growing; return it, and whether ComfyUI executes a prompt."""
    begun = time.monotonic()
    last = before
    while True:
        await asyncio.sleep(LOOK_INTERVAL)
        if await client.queue_remaining():
            return await _free_bytes(client), True
        now = await _free_bytes(client)
        steady = all(abs(now[kind] - last[kind]) < STEADY for kind in now)
        waited = time.monotonic() - begun
        if waited > MAX_WAIT or (steady and waited > MIN_WAIT):
            return now, False
        last = now


async def _free_bytes(client: ComfyUIClient) -> dict[str, int]:
    stats = await client.system_stats()
    gpus = (device for device in stats["devices"] if device.get("type") != "cpu")
    return {
        "gpu": sum(_count(gpu.get("vram_free")) for gpu in gpus),
        "ram": _count(stats["system"].get("ram_free")),
    }


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
