"""Timestamps of records and replies: ISO 8601 in UTC, with milliseconds."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone


def utc_now() -> str:
    """Return the present time, such as ``2026-03-01T10:00:00.123Z``."""
    return timestamp_of(time.time())


def days_ago(days: int) -> str:
    """Return the time before so many days."""
    return timestamp_of(datetime.now(timezone.utc) - timedelta(days=days))


def timestamp_of(seconds: float | datetime) -> str:
    """Format a time: a `datetime` with a time zone, or seconds since the epoch."""
    if isinstance(seconds, datetime):
        moment = seconds.astimezone(timezone.utc)
    else:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(text: str) -> datetime:
    """Parse a timestamp to a `datetime` with a time zone; raise ValueError for other text."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
