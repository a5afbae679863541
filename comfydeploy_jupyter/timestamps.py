"""Moments as all records and replies have them: ISO 8601 in UTC, with milliseconds."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def utc_now() -> str:
    """Return the present moment, such as ``2026-03-01T10:00:00.123Z``."""
    return timestamp_of(time.time())


def timestamp_of(seconds: float | datetime) -> str:
    """Return the moment of a `datetime` that knows its time zone, or of seconds since the epoch."""
    if not isinstance(seconds, datetime):
        seconds = datetime.fromtimestamp(seconds, timezone.utc)
    text = seconds.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def parse_timestamp(text: str) -> datetime:
    """Return a moment as a `datetime` with its time zone; raise ValueError for other text."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
