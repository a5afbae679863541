"""Reads the headers of conditional requests and of ranges, as RFC 9110 defines them."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.IGNORECASE | re.ASCII)
_LARGEST = 10**18  # bytes; larger numbers in ranges are replaced by it, as no file is so large
_TAGS = re.compile(r'(?:W/)?"([^"]*)"')
OUTSIDE = 416


class Range(NamedTuple):
    """A requested range of bytes.

    Attributes
    ----------
    first, last : int or None
        ``bytes=first-last``. If ``first`` is None, the range is the last ``last`` bytes of the
        file; if ``last`` is None, all bytes from ``first`` on.
    """

    first: int | None
    last: int | None

    def __str__(self) -> str:
        """Return the value of a ``Range`` header for it."""
        first, last = ("" if number is None else str(number) for number in self)
        return f"bytes={first}-{last}"

    def of(self, size: int) -> tuple[int, int]:
        """Return start and end of the range in a file of ``size`` bytes.

        Raises
        ------
        InvalidRequestError
            With status 416, if it is outside the file.
        """
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start, end = self.first, size if self.last is None else min(self.last + 1, size)
        if start >= end:
            raise outside(size)
        return start, end


def outside(size: int | None) -> InvalidRequestError:
    """Return the error for a range outside a file."""
    of_what = "file" if size is None else f"file's {size} bytes"
    error = InvalidRequestError.of_field("Range", f"is outside the {of_what}")
    error.status = OUTSIDE
    error.details["size"] = size
    return error


def asked_range(headers: Mapping[str, str]) -> Range | None:
    """Return the range that a request asks for, or None.

    Ranges in other units, several ranges, and malformed ones are ignored.
    """
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = (_number(text) if text else None for text in found.groups())
    if last is not None and last < (first if first is not None else 1):
        return None
    return Range(first, last)


def _number(digits: str) -> int:
    """Return a number of any length, at most `_LARGEST`; Python's ``int`` reads 4300 digits."""
    digits = digits.lstrip("0")
    return _LARGEST if len(digits) > 18 else int(digits or "0")


def range_fits(headers: Mapping[str, str], etag: str | None, last_modified: str | None) -> bool:
    """Return whether ``If-Range`` allows sending a range of this version of a file."""
    condition = headers.get("If-Range", "").strip()
    if not condition:
        return True
    if condition.endswith('"'):
        return condition == etag and not condition.startswith("W/")
    asked = _seconds(condition)
    return asked is not None and asked == _seconds(last_modified or "")


def is_unchanged(headers: Mapping[str, str], etag: str, last_modified: str) -> bool:
    """Return whether the client has this version already, so that the response is 304.

    ``If-None-Match`` decides if it is present, else ``If-Modified-Since``.
    """
    tags = headers.get("If-None-Match", "").strip()
    if tags:
        return tags == "*" or etag.strip('"') in _TAGS.findall(tags)
    since, modified = _seconds(headers.get("If-Modified-Since", "")), _seconds(last_modified)
    return since is not None and modified is not None and modified <= since


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
