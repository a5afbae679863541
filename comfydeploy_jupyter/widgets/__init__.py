"""Panels for the notebook, made of ipywidgets."""

from __future__ import annotations

from .base import Panel
from .run_panel import RunPanel
from .tunnel_panel import TunnelPanel

__all__ = ["Panel", "RunPanel", "TunnelPanel"]
