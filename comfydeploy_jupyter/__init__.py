"""Run ComfyUI workflows from Jupyter.

The package has two sides: a Jupyter server extension with the routes of ComfyUI Deploy, and a
Python client with ipywidgets panels for the kernel. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
