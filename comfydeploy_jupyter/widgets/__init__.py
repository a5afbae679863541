"""Panels for the notebook, made of ipywidgets."""

from __future__ import annotations

from .base import Panel
from .run_panel import RunPanel
from .tunnel_panel import TunnelPanel
from .upload_panel import UploadPanel
from .workflow_panel import WorkflowPanel

__all__ = ["Panel", "RunPanel", "TunnelPanel", "UploadPanel", "WorkflowPanel"]
