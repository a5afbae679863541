"""Settings: where the ComfyUI of a machine is, and how it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..comfyui.client import NONE, PLAIN, Access, Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class MachineSettings:
    """Settings: where the ComfyUI of a machine is, and how it is started."""

    comfyui_url: str = ""  # of a ComfyUI that this server does not start
    comfyui_path: str = ""  # without a URL, ComfyUI is started from there
    comfyui_python: str = ""  # if empty, it is searched for
    launch_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # in addition to that of this server
    gpu: str = ""  # the GPUs that it sees: "0", "0,1" or a UUID; empty: all
    by_chance: bool = True  # whether a ComfyUI at the default port or in a usual folder is used
    request_timeout: float = 30.0  # seconds that ComfyUI has to answer one request
    start_timeout: float = 300.0  # seconds within which one that this server starts must answer
    stuck_after: float = 0.0  # seconds without activity, with prompts, before a restart; 0: never
    jupyter_root: Path | None = None
    extra_roots: tuple[Path, ...] = ()  # further folders that may be read
    trusted_users: tuple[str, ...] = ()  # beside this one and root, whose ComfyUI may be used
    credentials: Credentials = NONE  # that the ComfyUI at `comfyui_url` asks for
    access: Access = PLAIN  # the same for a member of a pool, from its provider

    @property
    def place(self) -> tuple[str, str]:
        """URL and path, which identify the ComfyUI."""
        return self.comfyui_url, self.comfyui_path

    def reaches(self, other: MachineSettings) -> bool:
        """Return whether other settings reach the same ComfyUI with the same credentials."""
        return (self.place, self.credentials) == (other.place, other.credentials)

    @property
    def launch(self) -> tuple[Any, ...]:
        """The settings that take effect only when a ComfyUI is started."""
        return (*self.place, self.comfyui_python, self.launch_args, self.environment())

    def environment(self) -> dict[str, str]:
        """Return the environment variables for ComfyUI; those that select its GPUs come first."""
        if not self.gpu:
            return dict(self.env)
        # By default CUDA numbers the fastest GPU first, and nvidia-smi by the position on the bus.
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        visible = {"CUDA_VISIBLE_DEVICES": self.gpu, "HIP_VISIBLE_DEVICES": self.gpu}
        return {**order, **visible, **self.env}
