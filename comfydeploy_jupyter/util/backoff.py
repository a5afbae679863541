"""The pauses between attempts: exponential backoff, and pauses that a server requests."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 3600.0  # seconds; the limit for pauses that servers request


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with jitter.

    The pause doubles with each failure in a row. A part of it is random, so that clients that
    failed at the same time do not retry at the same time.

    Attributes
    ----------
    first : float
        Longest pause after the first failure, in seconds.
    longest : float
        Longest pause after any number of failures, in seconds.
    attempts : float
        Failures in a row after which the caller should give up; by default never.
    jitter : float
        The random part of a pause, from 0 to 1.
    """

    first: float = 1.0
    longest: float = 60.0
    attempts: float = math.inf
    jitter: float = 0.5

    def pause(self, failures: int, at_least: float | None = None) -> float:
        """Return the seconds to wait before the next attempt.

        Parameters
        ----------
        failures : int
            Failures in a row, 1 or more.
        at_least : float, optional
            Seconds that the server requested. The pause is not shorter.
        """
        limit = min(self.first * 2.0 ** min(failures - 1, 30), self.longest)
        pause = limit * random.uniform(1.0 - self.jitter, 1.0)
        if at_least is None:
            return pause
        return max(at_least + random.uniform(0, self.first), pause)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """Return the seconds in a ``Retry-After`` header.

    The header contains a number of seconds or a date (RFC 9110, 10.2.3).

    Parameters
    ----------
    value : str or None
        The header's value.
    date : str, optional
        The ``Date`` header of the same response: the time of the server, to which a date in
        ``Retry-After`` is compared. Without it, the clock of this machine is used.

    Returns
    -------
    float or None
        From 0 to `LONGEST_RETRY_AFTER`; None if the header is missing or invalid.
    """
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            now = time.time() if date is None else parsedate_to_datetime(date).timestamp()
            seconds = parsedate_to_datetime(value or "").timestamp() - now
        except (ValueError, TypeError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
