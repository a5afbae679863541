"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io

BLOCK = 1024 * 1024  # bytes read at once


def sha256_of(file: io.FileIO) -> str:
    """Return the hexadecimal SHA-256 of what is left to read of an unbuffered file."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    return digest.hexdigest()
