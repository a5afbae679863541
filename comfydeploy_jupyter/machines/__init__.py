"""Machines: the ComfyUI instances that runs can be sent to."""
