"""The hardware of this machine: CPU, memory, GPUs, disks.

All functions in this module read files or call drivers: call them in a thread.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ..util.child import plain_environment
from ..util.timestamps import timestamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MIB = 1024 * 1024
SMI_TIMEOUT = 15.0  # seconds; a driver that is not loaded yet is slow
SAMPLE = 0.1  # seconds over which the load of the CPU is measured
_SMI_FIELDS = (
    "index",
    "uuid",
    "name",
    "memory.total",
    "memory.used",
    "memory.free",
    "utilization.gpu",
    "temperature.gpu",
    "driver_version",
)
_CGROUP = Path("/sys/fs/cgroup")


def hardware(folders: Iterable[Path], devices: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the hardware of this machine, for ``GET machine``."""
    return {"cpu": cpu(), "memory": memory(), "gpus": gpus(devices), "disks": disks(folders)}


def cpu() -> dict[str, Any]:
    """Return the processor: ``name``, ``cores`` (that this process may use), load in percent.

    ``limit`` is the CPU time that a container may use, in cores; None if there is no
    limit.
    """
    return {
        "name": _cpu_name(),
        "architecture": platform.machine(),
        "cores": _usable_cores(),
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


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


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
    query = f"--query-gpu={','.join(_SMI_FIELDS)}"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SMI_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines()]
    return [_smi_gpu(row) for row in rows if len(row) >= len(_SMI_FIELDS) and row[0].isdecimal()]


def _smi_gpu(row: list[str]) -> dict[str, Any]:
    # Values are not quoted: the name is the text between the other fields.
    first, last = _SMI_FIELDS.index("name"), len(row) - 6
    total, used, free = (_bytes(value) for value in row[last : last + 3])
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


def _bytes(text: str) -> int | None:
    mebibytes = _number(text)
    return None if mebibytes is None else int(mebibytes * MIB)


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
