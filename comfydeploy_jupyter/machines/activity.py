"""Measures whether a ComfyUI process works on the CPU or on a GPU."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psutil

from . import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping

IDLE_CPU = 0.03  # CPU seconds in a second; a ComfyUI that only answers requests uses less
IDLE_GPU = 5.0  # percent; a desktop environment uses less


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
        return abs(change) > IDLE_CPU * elapsed or self._gpu_works()

    def _gpu_works(self) -> bool:
        return any(
            (gpu["percent"] or 0.0) > IDLE_GPU
            for gpu in hardware.gpus_of_driver()
            if self._gpus is None or {str(gpu["index"]), gpu["uuid"]} & self._gpus
        )


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of those that it has started, in seconds."""
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                seconds += times.user + times.system
                seconds += times.children_user + times.children_system
    return seconds
