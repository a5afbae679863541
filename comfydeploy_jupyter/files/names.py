"""Names that uploaded files get: as the user wrote them, made harmless."""

from __future__ import annotations

import os
import posixpath
import re

from ..errors import ForbiddenPathError, InvalidRequestError

MAX_NAME = 255  # bytes in one part of a path
_LONGEST_EXTENSION = 32  # bytes; what is longer is not kept when a name is shortened
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_filename(name: str, *, field: str = "file") -> str:
    r"""Return the name under which a file may be kept.

    Folders before the name are dropped (``../x`` and ``C:\x`` become ``x``), dots and blanks at
    both ends too, names that Windows reserves get a ``_`` in front, and a name too long for a file
    system is shortened before its extension. Letters of all scripts stay.

    Parameters
    ----------
    name : str
        The name as it came with the file.
    field : str
        The request's field, for messages.

    Raises
    ------
    InvalidRequestError
        Nothing usable is left, or the name holds control characters.
    """
    if _CONTROL.search(name):
        raise InvalidRequestError.of_field(field, "its name holds control characters")
    last = re.split(r"[/\\]", name)[-1].strip().strip(". ")
    if not last:
        raise InvalidRequestError.of_field(field, f"{name!r} is no usable file name")
    return numbered(f"_{last}" if _RESERVED.match(last) else last, 0)


def numbered(name: str, number: int) -> str:
    """Return ``a (1).png`` for ``a.png`` and 1; with 0 the name itself; at most 255 bytes."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    if len(extension.encode()) > _LONGEST_EXTENSION:
        stem, extension = name, ""
    ending = f" ({number}){extension}" if number else extension
    room = MAX_NAME - len(ending.encode())
    return stem.encode()[:room].decode(errors="ignore") + ending


def safe_subfolder(subfolder: str, *, field: str = "subfolder") -> str:
    r"""Return a relative folder with ``/`` between its parts, empty for none.

    Parameters
    ----------
    subfolder : str
        The folder as the user wrote it; ``\`` separates too, ``.`` and ``a/..`` vanish.
    field : str
        The request's field, for messages.

    Raises
    ------
    ForbiddenPathError
        It leads upwards or is absolute.
    InvalidRequestError
        It holds control characters, or a part that begins with a dot.
    """
    if _CONTROL.search(subfolder):
        raise InvalidRequestError.of_field(field, "must not hold control characters")
    path = posixpath.normpath(subfolder.strip().replace("\\", "/"))
    if path == ".":
        return ""
    if path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:", path):
        raise ForbiddenPathError(
            f"{field}: must be a folder below that of its type", details={"field": field}
        )
    if any(part.startswith(".") for part in path.split("/")):
        raise InvalidRequestError.of_field(field, "must not hold folders that begin with a dot")
    return path
