"""Run ComfyUI workflows from Jupyter.

The package has two sides: a Jupyter server extension with the routes of ComfyUI Deploy, and a
Python client with ipywidgets panels for the kernel. Large packages are imported only when they are
used.
"""

from __future__ import annotations

import sys

from ._version import __version__

TYPE_CHECKING = False  # type checkers treat this as true; importing typing would take 15 ms
if TYPE_CHECKING:
    from typing import Any

    from .client import Comfy
    from .widgets import (
        BatchPanel,
        ComfyDeployPanel,
        RunPanel,
        TunnelPanel,
        UploadPanel,
        WorkflowPanel,
    )

__all__ = [
    "BatchPanel",
    "ComfyDeployPanel",
    "RunPanel",
    "TunnelPanel",
    "UploadPanel",
    "WorkflowPanel",
    "__version__",
    "connect",
]

PANELS = frozenset(name for name in __all__ if name.endswith("Panel"))


def connect(url: str | None = None, token: str | None = None, *, start: bool = True) -> Comfy:
    """Find the Jupyter server with the routes, and return a client that shows progress.

    These are tried in this order: the arguments; the environment variables
    ``COMFYDEPLOY_JUPYTER_URL`` and ``COMFYDEPLOY_JUPYTER_TOKEN``; the single-user server of
    JupyterHub; the server that started this kernel; any other server of this user. If none has the
    routes, a server is started on loopback; it ends with this process.

    Parameters
    ----------
    url : str, optional
        Address of a Jupyter server, with its base URL.
    token : str, optional
        Its token.
    start : bool
        Whether a server may be started.

    Returns
    -------
    Comfy
        The client; its server has replied.

    Raises
    ------
    comfydeploy_jupyter.errors.ComfyDeployError
        The server does not answer, requires other credentials, or does not have the extension
        enabled; the message says what to do.
    """
    from .client import connect as connect_client
    from .display import progress_display, show_sweeps

    show_sweeps()
    if "IPython" in sys.modules:
        from .magics import offer_completions

        offer_completions(sys.modules["IPython"].get_ipython())
    return connect_client(url, token, start=start, display=progress_display)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .extension import ComfyDeploy

    return [{"module": "comfydeploy_jupyter.extension", "app": ComfyDeploy}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "comfydeploy-jupyter"}]


def load_ipython_extension(ipython: Any) -> None:
    """Add the magic ``%comfy`` and completion: what ``%load_ext comfydeploy_jupyter`` calls.

    Parameters
    ----------
    ipython : IPython.InteractiveShell
        The shell that gets the magic.
    """
    from .magics import ComfyMagics, offer_completions

    ipython.register_magics(ComfyMagics)
    offer_completions(ipython)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in PANELS:
        from . import widgets

        return getattr(widgets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
