"""Measures the time that the extension adds to Jupyter's start, and the package to an import.

The start is the time from the start of the process to its first reply. ComfyUI already runs,
because the extension looks for it during the start. The reference is the same Jupyter without the
extension. The other extensions of the environment are disabled in both: they take seconds, and
share no import with ours.
The import is measured in new interpreters; its reference is the import of ``json``. The test
``tests/test_imports.py`` checks which modules a kernel must not import.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from jupyter_server.extension.config import ExtensionConfigManager

from tests.helpers.processes import REPOSITORY

from .common import Figure, Jupyter, in_turns, report, run, running_comfyui

PAIRS = 10
TIMED_IMPORT = """
import time
begin = time.perf_counter()
import {module}
print(time.perf_counter() - begin)
"""


def start(comfyui_url: str, *, extension: bool) -> float:
    """Start a new Jupyter once and return the seconds of its start."""
    others = dict.fromkeys(ExtensionConfigManager().get_jpserver_extensions(), False)
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as folder:
        jupyter = Jupyter(
            Path(folder),
            extensions={**others, "comfydeploy_jupyter": extension},
            settings={"comfyui_url": comfyui_url},
        )
        try:
            return jupyter.start()
        finally:
            jupyter.stop()


def import_time(module: str) -> float:
    """Return the seconds in which a new interpreter imports a module."""
    output = subprocess.run(
        [sys.executable, "-c", TIMED_IMPORT.format(module=module)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(output)


def main() -> int:
    """Measure, print, and return the exit code."""
    with running_comfyui() as comfyui:

        def without() -> float:
            return start(comfyui.url, extension=False)

        def with_it() -> float:
            return start(comfyui.url, extension=True)

        in_turns(without, with_it, 1)
        bare, extended = in_turns(without, with_it, PAIRS)
    json_import, our_import = in_turns(
        lambda: import_time("json"), lambda: import_time("comfydeploy_jupyter"), PAIRS
    )
    return report(
        Figure(
            "start of Jupyter, median",
            statistics.median(extended) * 1000,
            statistics.median(bare) * 1000,
            "added",
            100.0,
        ),
        Figure(
            "import in a kernel, median",
            statistics.median(our_import) * 1000,
            statistics.median(json_import) * 1000,
            "added",
            10.0,
        ),
    )


if __name__ == "__main__":
    run(main)
