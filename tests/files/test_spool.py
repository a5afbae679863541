"""Files that are sent to a ComfyUI on another machine, and those that killed servers leave."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from comfydeploy_jupyter.files.uploads import ABANDONED, clean_spool

if TYPE_CHECKING:
    from pathlib import Path


def test_only_abandoned_folders_are_removed(tmp_path: Path) -> None:
    clean_spool(tmp_path / "not-there")
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "input").mkdir(parents=True)
        (folder / "input" / "a.png").write_bytes(b"1")
    long_ago = time.time() - ABANDONED - 1
    os.utime(old, (long_ago, long_ago))
    clean_spool(tmp_path)
    assert list(tmp_path.iterdir()) == [new]
