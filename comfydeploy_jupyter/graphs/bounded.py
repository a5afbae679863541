"""Reads files of unknown origin, within limits."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

MAX_METADATA = 64 << 20
"""The most metadata that is read of a file, bytes."""

MAX_PARTS = 1_000_000
"""The most parts (chunks, boxes, frames) of a file that are read."""


class BrokenFileError(Exception):
    """The file ends too early, is invalid, or has more metadata than is read."""


class BoundedReader:
    """Reads parts of a seekable stream, within the limits."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._budget = MAX_METADATA
        self._parts = MAX_PARTS
        self.size = stream.seek(0, 2)

    def peek(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, at most 64 KiB; fewer at the end of the file."""
        self._stream.seek(offset)
        return self._stream.read(min(size, 1 << 16))

    def take(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes of metadata."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise BrokenFileError("the file ends too early")
        self.spend(size)
        self._stream.seek(offset)
        return self._stream.read(size)

    def unpack(self, format: str, offset: int) -> tuple[Any, ...]:  # noqa: A002 - as struct has it
        """Return the fields of the header of a part, as `struct.unpack` does; count the part."""
        self._parts -= 1
        head = self.peek(offset, struct.calcsize(format))
        if self._parts < 0 or len(head) < struct.calcsize(format):
            raise BrokenFileError("the file ends too early, or a part of it has no end")
        return struct.unpack(format, head)

    def spend(self, size: int) -> None:
        """Count bytes of metadata that are going to be processed."""
        self._budget -= size
        if self._budget < 0:
            raise BrokenFileError(f"more than {MAX_METADATA >> 20} MiB of metadata")
