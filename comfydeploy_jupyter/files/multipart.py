"""The headers of multipart bodies."""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..errors import InvalidRequestError
from ..util.media_types import media_type

MAX_BOUNDARY = 70  # characters, RFC 2046

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')


def boundary_of(content_type: str) -> bytes:
    """Return the boundary in the Content-Type of a form."""
    boundary = parameters_of(content_type).get("boundary", "")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise InvalidRequestError.of_field("body", "must be multipart/form-data with a boundary")
    if not boundary.isascii() or len(boundary) > MAX_BOUNDARY:
        raise InvalidRequestError.of_field("body", "its boundary does not conform to RFC 2046")
    return boundary.encode()


def parameters_of(header: str) -> dict[str, str]:
    """Return the parameters of a header; ``filename*`` (RFC 5987) overrides ``filename``."""
    found: dict[str, str] = {}
    for key, value in _PARAMETER.findall(header):
        if len(value) > 1 and value[0] == value[-1] == '"':
            # Browsers write a quotation mark in a name as %22 (WHATWG), other clients as \".
            value = value[1:-1].replace('\\"', '"').replace("%22", '"')
        found.setdefault(key.lower(), value.strip())
    extended = found.pop("filename*", None)
    if extended is not None:
        charset, _, rest = extended.partition("'")
        try:
            if charset.lower() not in {"utf-8", "iso-8859-1"}:
                raise LookupError(charset)
            found["filename"] = unquote(rest.partition("'")[2], charset, "strict")
        except (LookupError, UnicodeDecodeError):
            raise InvalidRequestError.of_field("file", "its name cannot be decoded") from None
    return found


def content_type_of(header: str, name: str) -> str:
    """Return the media type of a part: that of its header, else that of the file's name."""
    kind = header.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind) and kind != "application/octet-stream":
        return kind
    return media_type(name) or "application/octet-stream"
