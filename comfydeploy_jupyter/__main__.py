"""Start a Jupyter server that has this extension and no other."""

from __future__ import annotations

import sys

from .errors import UnsupportedPlatformError
from .extension import ComfyDeploy
from .util.system import require_posix

if __name__ == "__main__":
    try:
        require_posix("The server of comfydeploy_jupyter")
    except UnsupportedPlatformError as error:
        sys.exit(str(error))
    ComfyDeploy.load_other_extensions = False
    ComfyDeploy.launch_instance()  # type: ignore[no-untyped-call]  # jupyter_server's is untyped
