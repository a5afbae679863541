"""Read archives of pictures that are used as an image batch, with bounds on their size."""

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
MAX_BYTES = 4 * 1024**3  # size of all pictures together
MAX_DIRECTORY = 16 * 1024**2  # bytes of the central directory of an archive
CHUNK = 1024 * 1024
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_END, _ZIP64_LOCATOR = 22, 20  # sizes in bytes of the records at the end of an archive


@contextlib.contextmanager
def _as_error_of(field: str) -> Iterator[None]:
    """Convert the exceptions of `zipfile` for a broken archive to an error that names the field.

    `zipfile` raises many types of exceptions, including those of each compression module. Only an
    OSError of the disk is raised unchanged. It has an ``errno`` other than ``EINVAL``, which means
    that the archive contains an offset outside of the file.
    """
    try:
        yield
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno not in (None, errno.EINVAL):
            raise
        raise InvalidRequestError.of_field(field, f"the archive is damaged: {fault}") from fault


def open_archive(file: IO[bytes], field: str) -> zipfile.ZipFile:
    """Open an archive after checking the size of its central directory, which is read at once.

    The record at the end of an archive contains that size (PKWARE's APPNOTE, 4.3.16). Archives
    with a larger directory have a ZIP64 record before it, and are refused. The record is found
    in the same way as by `zipfile`: a second signature in the last 22 bytes is ignored.
    """
    file.seek(-min(file.seek(0, os.SEEK_END), _END + 0xFFFF + _ZIP64_LOCATOR), os.SEEK_END)
    tail = file.read()
    at = len(tail) - _END
    if not (tail.startswith(b"PK\x05\x06", max(at, 0)) and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(at - _ZIP64_LOCATOR, 0) : at]
    if size > MAX_DIRECTORY or locator.startswith(b"PK\x06\x07"):
        raise InvalidRequestError.of_field(
            field, "the archive has too many files, or more than 4 GiB"
        )
    with _as_error_of(field):
        return zipfile.ZipFile(file)


def pictures(archive: zipfile.ZipFile, field: str) -> list[zipfile.ZipInfo]:
    """Return the pictures in an archive; raise InvalidRequestError if they exceed the bounds."""
    found = [item for item in archive.infolist() if item.filename.lower().endswith(IMAGE_SUFFIXES)]
    if len(found) > MAX_IMAGES or sum(item.file_size for item in found) > MAX_BYTES:
        raise InvalidRequestError.of_field(
            field, f"the archive has more than {MAX_IMAGES} pictures, or more than 4 GiB of them"
        )
    return found


def extract(archive: zipfile.ZipFile, item: zipfile.ZipInfo, target: IO[bytes], field: str) -> None:
    """Write a picture, but no more bytes than the size in the directory, which was checked."""
    left = item.file_size
    with _as_error_of(field), archive.open(item) as read:
        while left and (chunk := read.read(min(CHUNK, left))):
            target.write(chunk)
            left -= len(chunk)
