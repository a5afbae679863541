"""Names of uploaded files: as the user wrote them, without dangerous parts."""

from __future__ import annotations

import os
import posixpath
import re

from ..errors import ForbiddenPathError, InvalidRequestError

MAX_NAME = 255  # bytes in one component of a path
_LONGEST_EXTENSION = 32  # bytes; a longer extension is not kept when a name is shortened
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_filename(name: str, *, field: str = "file") -> str:
    r"""Return a safe name for a file.

    Folders before the name are removed (``../x`` and ``C:\x`` become ``x``), as are dots and spaces
    at both ends. Names that Windows reserves get the prefix ``_``, and a name that is too long for
    a file system is shortened before its extension. Letters of all scripts are kept.
    """
    if _CONTROL.search(name):
        raise InvalidRequestError.of_field(field, "its name contains control characters")
    last = re.split(r"[/\\]", name)[-1].strip().strip(". ")
    if not last:
        raise InvalidRequestError.of_field(field, f"{name!r} is not a valid file name")
    return numbered(f"_{last}" if _RESERVED.match(last) else last, 0)


def numbered(name: str, number: int) -> str:
    """Return ``a (1).png`` for ``a.png`` and 1, the name itself for 0; at most 255 bytes."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    if len(extension.encode()) > _LONGEST_EXTENSION:
        stem, extension = name, ""
    ending = f" ({number}){extension}" if number else extension
    left = MAX_NAME - len(ending.encode())
    return stem.encode()[:left].decode(errors="ignore") + ending


def safe_subfolder(subfolder: str, *, field: str = "subfolder") -> str:
    r"""Return a relative folder with ``/`` as separator, empty for no folder."""
    if _CONTROL.search(subfolder):
        raise InvalidRequestError.of_field(field, "must not contain control characters")
    path = posixpath.normpath(subfolder.strip().replace("\\", "/"))
    if path == ".":
        return ""
    if path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:", path):
        raise ForbiddenPathError(
            f"{field}: must be a folder below that of its type", details={"field": field}
        )
    if any(part.startswith(".") for part in path.split("/")):
        raise InvalidRequestError.of_field(
            field, "must not contain folders whose names begin with a dot"
        )
    return path
