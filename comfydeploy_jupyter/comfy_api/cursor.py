"""The cursors of the list of jobs: the position at which a page ends, signed with the filters."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct

from .errors import APIError

_POSITION = struct.Struct(">Q")
_SIGNATURE = 16  # bytes


def cursor_after(position: int, filters: str, secret: bytes) -> str:
    """Return the cursor for the page after a position in the store."""
    packed = _POSITION.pack(position)
    signed = packed + _signature(packed, filters, secret)
    return base64.urlsafe_b64encode(signed).decode()


def position_of(cursor: str, filters: str, secret: bytes) -> int:
    """Return the position in the store at which a page begins."""
    try:
        signed = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        signed = b""
    packed, signature = signed[: _POSITION.size], signed[_POSITION.size :]
    if not hmac.compare_digest(signature, _signature(packed, filters, secret)):
        raise APIError("invalid_cursor", "cursor: was not returned by this list with these filters")
    return int(_POSITION.unpack(packed)[0])


def _signature(packed: bytes, filters: str, secret: bytes) -> bytes:
    signed = packed + filters.encode(errors="backslashreplace")
    return hmac.digest(secret, signed, hashlib.sha256)[:_SIGNATURE]
