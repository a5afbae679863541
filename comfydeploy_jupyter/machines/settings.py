"""Settings: where the ComfyUI of a machine is, and how it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..comfyui.credentials import NONE, Credentials
from ..comfyui.transport import PLAIN, Access

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class MachineSettings:
    """Settings: where the ComfyUI of a machine is, and how it is started.

    Attributes
    ----------
    comfyui_url : str
        Address of a ComfyUI that this server does not start; empty if none is configured.
    comfyui_path : str
        A ComfyUI folder; without a URL, ComfyUI is started from there.
    comfyui_python : str
        The interpreter that runs ComfyUI; if empty, it is searched for.
    launch_args : tuple of str
        Further arguments for its ``main.py``.
    env : mapping
        Environment variables for ComfyUI, in addition to those of this server.
    gpu : str
        The GPUs that are visible to it, e.g. ``"0"``, ``"0,1"`` or a UUID; empty: all.
    by_chance : bool
        Whether a ComfyUI at the default port or in a usual folder is used.
    request_timeout : float
        Seconds that ComfyUI has to answer one request.
    start_timeout : float
        Seconds within which a ComfyUI that this server starts must answer.
    stuck_after : float
        Seconds without any activity after which a ComfyUI with prompts is restarted; 0: never.
    jupyter_root : pathlib.Path or None
        Jupyter's root directory.
    extra_roots : tuple of pathlib.Path
        Further folders that may be read.
    trusted_users : tuple of str
        Users of this machine, in addition to this one and root, whose ComfyUI may be used.
    credentials : Credentials
        The credentials that the ComfyUI at ``comfyui_url`` asks for.
    access : Access
        The same for a member of a pool, whose provider makes certificates and headers.
    """

    comfyui_url: str = ""
    comfyui_path: str = ""
    comfyui_python: str = ""
    launch_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    gpu: str = ""
    by_chance: bool = True
    request_timeout: float = 30.0
    start_timeout: float = 300.0
    stuck_after: float = 0.0
    jupyter_root: Path | None = None
    extra_roots: tuple[Path, ...] = ()
    trusted_users: tuple[str, ...] = ()
    credentials: Credentials = NONE
    access: Access = PLAIN

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
