"""Scripts in a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.jupyter_process import REPOSITORY, JupyterProcess

if TYPE_CHECKING:
    from pathlib import Path


def run_in_terminal(
    code: str, *arguments: str, jupyter: JupyterProcess, folder: Path
) -> tuple[str, str]:
    """Run a script whose errors go to a terminal; return its output, and what was drawn there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**jupyter.env, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        drawn = _read(ours)
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    return out, drawn


def _read(terminal: int) -> str:
    content = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        content += chunk
    return content.decode(errors="replace")
