"""Start a Jupyter server that has this extension and no other."""

from __future__ import annotations

from .extension import ComfyDeploy

if __name__ == "__main__":
    ComfyDeploy.load_other_extensions = False
    ComfyDeploy.launch_instance()  # type: ignore[no-untyped-call]  # jupyter_server's is untyped
