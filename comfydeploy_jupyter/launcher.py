"""The tile in JupyterLab's launcher that opens ComfyUI's page; needs jupyter-server-proxy.

jupyter-server-proxy provides only the tile. The page below ``comfyui/`` is served by the handlers
of this package, which know the ComfyUI that the routes use, start it, and do not forward Jupyter's
credentials to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ICON = Path(__file__).parent / "static" / "comfyui.svg"


def comfyui_tile() -> dict[str, Any]:
    """Return the entry for jupyter-server-proxy, which calls this by its entry point.

    jupyter-server-proxy needs a target to forward to for each tile. The target here is a socket
    that does not exist, so that nothing is exposed.
    """
    return {
        "unix_socket": os.devnull,
        "launcher_entry": {"title": "ComfyUI", "icon_path": str(ICON), "path_info": "comfyui/"},
        "new_browser_tab": False,
    }
