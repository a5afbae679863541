"""Sweeps: one workflow, run at every point of a grid of values."""

from __future__ import annotations

from .sweep import Batches, Point, Sweep, SweepProgress, Sweeps, current_cell

__all__ = ["Batches", "Point", "Sweep", "SweepProgress", "Sweeps", "current_cell"]
