"""Detect that a ComfyUI ran out of memory, and give advice."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

KILLED = 137  # exit code of a process that was killed by SIGKILL

ADVICE = (
    "Make the picture or the batch smaller, start ComfyUI with --lowvram (launch_args), or free its"
    " memory before the run: comfy.free()"
)

HANGS = (  # probable cause and advice for a ComfyUI that does not respond
    f"it may be running but not answer, for example because memory ran out. In that case: {ADVICE}"
)
# Messages of PyTorch for CUDA, HIP, MPS and the CPU, of Python, and of ComfyUI.
_SIGNS = re.compile(
    r"out of memory|outofmemory|memoryerror|would exceed allowed memory|can't allocate memory"
    r"|cannot allocate memory|not enough memory|failed to allocate|cuda_error_out_of_memory",
    re.IGNORECASE,
)


def is_out_of_memory(kind: str, message: str) -> bool:
    return any(_SIGNS.search(text[:10_000]) for text in (kind, message))


def with_advice(message: str) -> str:
    return f"{message}\n\nComfyUI ran out of memory. {ADVICE}."


def why_killed(exit_code: int | None, oom_kills: int) -> str | None:
    """Return why a lack of memory may have ended a ComfyUI, with advice; None for other causes."""
    if oom_kills > 0:
        return f"the system ended it because memory ran out. {ADVICE}"
    if exit_code == KILLED:
        guess = "it was killed, perhaps by the system because memory ran out"
        return f"{guess}. In that case: {ADVICE}"
    return None


def count_oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes of this control group the kernel has killed for lack of memory.

    Call it in a thread. If the kernel does not provide the number, it is 0.
    """
    cgroups = root / "sys/fs/cgroup"
    groups = [""]
    with contextlib.suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        parts = [line.split(":", 2) for line in lines]
        groups += [part[2] for part in parts if len(part) == 3 and part[1] in ("", "memory")]
    found = 0
    for group in groups:
        for place, name in (("", "memory.events"), ("memory", "memory.oom_control")):
            with contextlib.suppress(OSError):
                text = (cgroups / place / group.lstrip("/") / name).read_text()
                count = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
                found = max(found, int(count[1]) if count else 0)
    return found
