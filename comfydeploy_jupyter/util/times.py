"""Times: timestamps in ISO 8601, UTC, with milliseconds; and the pauses between attempts."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 3600.0  # seconds; the limit for pauses that servers request


def utc_now() -> str:
    return timestamp_of(time.time())


def days_ago(days: int) -> str:
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


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with jitter.

    The pause doubles with each failure in a row. A part of it is random, so that clients that
    failed at the same time do not retry at the same time.
    """

    first: float = 1.0  # longest pause after the first failure, in seconds
    longest: float = 60.0  # longest pause after any number of failures, in seconds
    # Failures in a row after which the caller should give up; by default never
    attempts: float = math.inf
    jitter: float = 0.5  # the random part of a pause, from 0 to 1

    def pause(self, failures: int, at_least: float | None = None) -> float:
        """Return the seconds to wait, not less than those that a server has requested."""
        limit = min(self.first * 2.0 ** min(failures - 1, 30), self.longest)
        pause = limit * random.uniform(1.0 - self.jitter, 1.0)
        if at_least is None:
            return pause
        return max(at_least + random.uniform(0, self.first), pause)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """Return the seconds in a ``Retry-After`` header, at most `MAX_RETRY_AFTER`; or None.

    It contains a number of seconds or a date (RFC 9110, 10.2.3), which is compared to the ``Date``
    of the same response, if there is one.
    """
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            now = time.time() if date is None else parsedate_to_datetime(date).timestamp()
            seconds = parsedate_to_datetime(value or "").timestamp() - now
        except (ValueError, TypeError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER)
