"""Archives of pictures that a user names as an image batch: read with bounds."""

from __future__ import annotations

import contextlib
import errno
import os
import zipfile
from typing import IO, TYPE_CHECKING

from ..errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_IMAGES = 1000
MAX_BYTES = 4 * 1024**3  # of all pictures
MAX_DIRECTORY = 16 * 1024**2  # bytes of the list of what is in an archive
CHUNK = 1024 * 1024
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_END, _ZIP64_LOCATOR = 22, 20  # bytes of the records at the end of an archive


@contextlib.contextmanager
def _as_error_of(field: str) -> Iterator[None]:
    """Raise what `zipfile` finds wrong with an archive as an error of a field.

    What it raises then is of many kinds, those of each compression included. Only faults of the
    disk are not the archive's: these have a number, but that of a place which is not in the file.
    """
    try:
        yield
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno not in (None, errno.EINVAL):
            raise
        raise InvalidRequestError.of_field(field, f"the archive is broken: {fault}") from fault


def open_archive(file: IO[bytes], field: str) -> zipfile.ZipFile:
    """Open an archive whose list is short: all of that is read at once.

    Where it ends, an archive tells how long its list is (PKWARE's APPNOTE, 4.3.16); larger ones
    than are taken here tell it in the records of ZIP64 before that. The place is sought as
    `zipfile` does it: what looks like another end within the last 22 bytes is none.
    """
    file.seek(-min(file.seek(0, os.SEEK_END), _END + 0xFFFF + _ZIP64_LOCATOR), os.SEEK_END)
    tail = file.read()
    at = len(tail) - _END
    if not (tail.startswith(b"PK\x05\x06", max(at, 0)) and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(at - _ZIP64_LOCATOR, 0) : at]
    if size > MAX_DIRECTORY or locator.startswith(b"PK\x06\x07"):
        raise InvalidRequestError.of_field(field, "the archive holds too much")
    with _as_error_of(field):
        return zipfile.ZipFile(file)


def pictures(archive: zipfile.ZipFile, field: str) -> list[zipfile.ZipInfo]:
    """Return the pictures in an archive; raise InvalidRequestError where these are too many."""
    found = [item for item in archive.infolist() if item.filename.lower().endswith(IMAGE_SUFFIXES)]
    if len(found) > MAX_IMAGES or sum(item.file_size for item in found) > MAX_BYTES:
        raise InvalidRequestError.of_field(field, "the archive holds too much")
    return found


def extract(archive: zipfile.ZipFile, item: zipfile.ZipInfo, target: IO[bytes], field: str) -> None:
    """Write a picture, no more of it than the archive says: what it says has been counted."""
    left = item.file_size
    with _as_error_of(field), archive.open(item) as read:
        while left and (chunk := read.read(min(CHUNK, left))):
            target.write(chunk)
            left -= len(chunk)
