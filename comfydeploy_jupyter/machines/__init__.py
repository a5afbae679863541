"""Machines: the ComfyUI instances that a run can go to."""
