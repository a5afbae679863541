"""Memory that a ComfyUI gave up."""

from __future__ import annotations

from typing import NamedTuple


class FreedMemory(NamedTuple):
    """How much memory a ComfyUI gave up.

    Attributes
    ----------
    gpu, ram : int
        Bytes that became free on its GPUs, and in the memory of its machine.
    pending : bool
        Whether ComfyUI executes a run and gives up memory after that.
    """

    gpu: int
    ram: int
    pending: bool

    def __str__(self) -> str:
        gained = f"{_readable(self.gpu)} of GPU memory, {_readable(self.ram)} of RAM freed"
        return f"{gained}; ComfyUI frees more after its present run" if self.pending else gained


def _readable(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"
