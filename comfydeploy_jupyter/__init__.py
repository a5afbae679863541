"""Run ComfyUI workflows from Jupyter.

The package has two sides: a Jupyter server extension with the routes of ComfyUI Deploy, and a
Python client with ipywidgets panels for the kernel. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import Any

from ._version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .extension import ComfyDeploy

    return [{"module": "comfydeploy_jupyter.extension", "app": ComfyDeploy}]
