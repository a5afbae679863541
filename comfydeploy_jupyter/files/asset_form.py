"""The form with which clients of the Comfy API upload a file."""

from __future__ import annotations

import re

from ..errors import ConflictError, InvalidRequestError
from .forms import UploadForm
from .names import safe_filename, safe_subfolder

BLAKE3 = re.compile(r"blake3:([0-9a-f]{64})")


def split_path(file_path: str) -> tuple[str, str, str]:
    """Return the folder, the subfolder and the name for a path of the Comfy API.

    A bare name, or one after ``input/``, is an input; after ``models/<folder>/`` or ``<folder>/``
    it is a model.
    """
    *folders, name = file_path.replace("\\", "/").split("/")
    if folders and folders[0] == "models":
        folders = folders[1:]
        if not folders:
            raise InvalidRequestError.of_field("file_path", "must name a folder below models/")
    if folders and folders[0] in ("output", "temp", "custom_nodes", ""):
        raise InvalidRequestError.of_field(
            "file_path", "must be a name, or begin with input/ or models/<folder>/"
        )
    if any(folder in (".", "..") for folder in folders):
        raise InvalidRequestError.of_field("file_path", "must not contain . or .. as a folder")
    kind = "input" if not folders or folders[0] == "input" else f"models/{folders[0]}"
    subfolder = safe_subfolder("/".join(folders[1:]), field="file_path")
    return kind, subfolder, safe_filename(name, field="file_path")


class AssetForm(UploadForm):
    """An upload of the Comfy API: its file is stored at the path in ``file_path``."""

    fields = ("content_type", "file_path", "expected_hash")

    most_files = 1

    def place(self) -> tuple[str, str]:
        """Return the folder and the subfolder."""
        path = self.field("file_path")
        return split_path(path)[:2] if path else ("input", "")

    def name(self, given: str) -> str:
        """Return the name of the file."""
        path = self.field("file_path")
        return split_path(path)[2] if path else given

    def check(self, sha256: str, blake3: str) -> None:
        """Raise `ConflictError` if the file has another hash than ``expected_hash``."""
        expected = self.field("expected_hash")
        if not expected:
            return
        if BLAKE3.fullmatch(expected) is None:
            raise InvalidRequestError.of_field(
                "hash", "expected_hash must be blake3: and 64 hexadecimal digits"
            )
        if expected != f"blake3:{blake3}":
            raise ConflictError(
                f"expected_hash: the file has the hash blake3:{blake3}",
                details={"field": "expected_hash", "hash": f"blake3:{blake3}"},
            )
