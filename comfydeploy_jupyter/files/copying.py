"""Copies files within the folders of a ComfyUI on this machine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from ..errors import ConflictError
from .forms import COPY_BLOCK, MOST_NAMES
from .names import numbered
from .staging import Staging

if TYPE_CHECKING:
    import io

    from ..comfyui.folders import Folders


def copy_into(folders: Folders, source: io.FileIO, kind: str, subfolder: str, name: str) -> str:
    """Copy an open file into one of ComfyUI's folders; return the name of the copy.

    No process sees an incomplete copy, and no file is overwritten.
    """
    with source:
        directory = folders.resolve(
            str(folders.directory(kind) / subfolder), must_exist=False, kind="directory"
        )
        target = folders.open_directory(directory, create=True)
        try:
            staging = Staging(folders, directory)
            try:
                with os.fdopen(staging.create("0"), "wb") as writer:
                    shutil.copyfileobj(source, writer, COPY_BLOCK)
                for number in range(MOST_NAMES):
                    found = numbered(name, number)
                    if staging.publish("0", found, target, overwrite=False):
                        return found
            finally:
                staging.remove()
        finally:
            os.close(target)
    raise ConflictError(f"There are {MOST_NAMES} files named like {name} already")
