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
    code: str,
    *arguments: str,
    jupyter: JupyterProcess,
    folder: Path,
    whole: bool = False,
    **environ: str,
) -> tuple[str, str]:
    """Run a script whose errors go to a terminal; return its output, and the terminal's text.

    With `whole`, its output goes to the terminal too.
    """
    parent_end, child_end = pty.openpty()
    known = ("COLORTERM", "KITTY_WINDOW_ID", "NO_COLOR", "TERM_PROGRAM", "TMUX", "VTE_VERSION")
    env = {key: value for key, value in jupyter.env.items() if key not in known}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={
            **env,
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "100",
            "TERM": "xterm-256color",
            **environ,
        },
        stdin=subprocess.DEVNULL,
        stdout=child_end if whole else subprocess.PIPE,
        stderr=child_end,
        text=True,
    ) as process:
        os.close(child_end)
        drawn = _read(parent_end)
        out, _ = process.communicate(timeout=60)
    os.close(parent_end)
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
