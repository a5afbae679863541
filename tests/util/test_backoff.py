"""Pauses between attempts."""

import math
import time
from email.utils import formatdate

import pytest

from comfydeploy_jupyter.util.times import MAX_RETRY_AFTER, Backoff, retry_after

CLOCK = "Sat, 01 Jan 2000 00:00:00 GMT"


@pytest.mark.parametrize(("failures", "limit"), [(1, 1), (2, 2), (5, 16), (9, 60), (10_000, 60)])
def test_pauses_grow_with_jitter_to_a_limit(failures, limit):
    pauses = [Backoff(first=1, longest=60).pause(failures) for _ in range(100)]
    assert limit / 2 <= min(pauses) < max(pauses) <= limit


def test_pauses_have_a_jitter_and_are_not_shorter_than_the_server_asks_for():
    pauses = [Backoff(first=5, jitter=0.2).pause(2) for _ in range(100)]
    assert 8 <= min(pauses) < max(pauses) <= 10
    assert Backoff(first=5, jitter=0).pause(2) == 10
    backoff = Backoff(first=1, longest=60)
    assert min(backoff.pause(1, 5) for _ in range(100)) >= 5
    assert min(backoff.pause(9, 5) for _ in range(100)) >= 30
    assert backoff.attempts == math.inf


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("1e9", MAX_RETRY_AFTER),
        ("inf", MAX_RETRY_AFTER),
        ("Sat, 01 Jan 2000 00:00:09 GMT", 9),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value, CLOCK) == seconds


def test_retry_after_dates_use_the_local_clock_if_the_server_sends_no_date():
    found = retry_after(formatdate(time.time() + 1800, usegmt=True))
    assert found is not None
    assert 900 < found <= 1800
    assert retry_after(CLOCK, "no date") is None
