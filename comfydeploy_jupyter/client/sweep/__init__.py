"""Sweeps: one workflow, run at every point of a grid of values."""

from __future__ import annotations

from .points import Point
from .progress import SweepProgress
from .sweep import Sweep, current_cell
from .sweeps import Sweeps

__all__ = ["Point", "Sweep", "SweepProgress", "Sweeps", "current_cell"]
