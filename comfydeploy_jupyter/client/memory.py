"""The memory that a ComfyUI has freed."""

from __future__ import annotations

from typing import NamedTuple


class FreedMemory(NamedTuple):
    """How much memory a ComfyUI has freed.

    Attributes
    ----------
    gpu, ram : int
        Memory that was freed on its GPUs and on its machine, bytes.
    pending : bool
        Whether ComfyUI executes a run and frees memory after it.
    """

    gpu: int
    ram: int
    pending: bool

    def __str__(self) -> str:
        freed = f"{_with_unit(self.gpu)} of GPU memory, {_with_unit(self.ram)} of RAM freed"
        return (
            f"{freed}; ComfyUI frees more when the current run has ended" if self.pending else freed
        )


def _with_unit(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"
