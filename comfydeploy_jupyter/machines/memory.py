"""Free memory that a ComfyUI holds."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from ..errors import ComfyUIUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..comfyui.client import ComfyUIClient
    from .machine import Machine

LOOK_EVERY = 0.25  # seconds
AT_LEAST, AT_MOST = 0.75, 5.0  # seconds that ComfyUI has to free memory
STEADY = 1024 * 1024  # bytes by which the free memory may change once nothing more is being freed


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
    for fault in found:
        if isinstance(fault, BaseException) and not isinstance(fault, ComfyUIUnavailableError):
            raise fault
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
        await asyncio.sleep(LOOK_EVERY)
        if await client.queue_remaining():
            return await _free_bytes(client), True
        now = await _free_bytes(client)
        steady = all(abs(now[kind] - last[kind]) < STEADY for kind in now)
        waited = time.monotonic() - begun
        if waited > AT_MOST or (steady and waited > AT_LEAST):
            return now, False
        last = now


async def _free_bytes(client: ComfyUIClient) -> dict[str, int]:
    stats = await client.system_stats()
    gpus = [device for device in stats["devices"] if isinstance(device, dict)]
    return {
        "gpu": sum(_bytes(gpu.get("vram_free")) for gpu in gpus if gpu.get("type") != "cpu"),
        "ram": _bytes(stats["system"].get("ram_free")),
    }


def _bytes(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
