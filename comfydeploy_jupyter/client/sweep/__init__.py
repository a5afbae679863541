"""Sweeps: one workflow, run at every point of a grid of values."""

from __future__ import annotations

from .sweep import Point, Sweep, SweepProgress, current_cell
from .sweeps import Batches, Sweeps

__all__ = ["Batches", "Point", "Sweep", "SweepProgress", "Sweeps", "current_cell"]
