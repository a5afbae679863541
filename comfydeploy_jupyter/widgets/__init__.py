"""Panels for the notebook: components in the page, and what Python has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batch_panel import BatchPanel
from .comfydeploy_panel import ComfyDeployPanel
from .panel import Panel
from .run_panel import RunPanel
from .tunnel_panel import TunnelPanel
from .upload_panel import UploadPanel
from .workflow_panel import WorkflowPanel

if TYPE_CHECKING:
    from ..client import Comfy

__all__ = [
    "BatchPanel",
    "ComfyDeployPanel",
    "Panel",
    "RunPanel",
    "TunnelPanel",
    "UploadPanel",
    "WorkflowPanel",
    "default_panel",
]


def default_panel(comfy: Comfy, workflow: str | None = None) -> Panel:
    """Return the panel that ``%comfy panel`` opens.

    Parameters
    ----------
    comfy : Comfy
        The client.
    workflow : str, optional
        Path of the workflow to begin with.
    """
    return ComfyDeployPanel(workflow, comfy=comfy)
