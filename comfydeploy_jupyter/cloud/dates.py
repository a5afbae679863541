"""Convert the dates of the ComfyDeploy service, which have several formats."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from ..util.timestamps import timestamp_of

_DATE = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d+))?)?"
    r"\s{0,9}(?:(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>\d\d))?)?\s{0,9}[Zz]?"
)


def iso_utc(value: object) -> str | None:
    """Return a date of the service as ISO 8601 in UTC, with milliseconds."""
    found = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    time = found["time"] or "00:00"
    try:
        date = datetime.fromisoformat(f"{found['day']}T{time}")
        milliseconds = int(((found["fraction"] or "") + "000")[:3])
        offset = timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0))
        date += timedelta(milliseconds=milliseconds)
        date += offset if found["sign"] == "-" else -offset
    except (ValueError, OverflowError):
        return None
    return timestamp_of(date.replace(tzinfo=timezone.utc))
