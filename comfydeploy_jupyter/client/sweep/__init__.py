"""Sweeps: one workflow, run at every point of a grid of values."""

from __future__ import annotations

from .runner import Point, SweepProgress
from .sweep import Sweep, Sweeps, current_cell

__all__ = ["Point", "Sweep", "SweepProgress", "Sweeps", "current_cell"]
