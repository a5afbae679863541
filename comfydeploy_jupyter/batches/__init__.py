"""Batches: one workflow, run at many points, which are rows of the store until they run."""
