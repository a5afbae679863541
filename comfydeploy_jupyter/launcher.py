"""The tile in JupyterLab's launcher that opens ComfyUI's page; needs jupyter-server-proxy.

Only the tile is jupyter-server-proxy's: the page below ``comfyui/`` is served by our own handlers,
which know the ComfyUI that the routes use, start it, and keep Jupyter's credentials from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ICON = Path(__file__).parent / "static" / "comfyui.svg"


def comfyui_tile() -> dict[str, Any]:
    """Return the entry for jupyter-server-proxy: its entry point calls this.

    jupyter-server-proxy wants to pass something on for each tile. What it gets is a socket that is
    none, so that it has nothing to expose.
    """
    return {
        "unix_socket": os.devnull,
        "launcher_entry": {"title": "ComfyUI", "icon_path": str(ICON), "path_info": "comfyui/"},
        "new_browser_tab": False,
    }
