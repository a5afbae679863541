"""Fixtures for all tests: a Jupyter server with the extension's needs, and a real ComfyUI."""

from __future__ import annotations

pytest_plugins = [
    "pytest_jupyter.jupyter_server",
    "tests.comfyui_server",
    "tests.cloudflared",
    "tests.fake_comfydeploy",
    "tests.faulty_comfyui",
    "tests.jupyter_process",
    "tests.mortal_jupyter",
    "tests.transfer_service",
]
