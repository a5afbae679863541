"""Ends the process of a test that goes on after its timeout, so that no run of the tests hangs.

pytest-timeout raises an exception in the test. That does not end every test: a background task may
receive the exception instead, Playwright does not work after it, and pytest-timeout sets no second
timer if pytest-rerunfailures runs the test again. xdist starts a new process for one that ends, and
reports the test as failed.
"""

from __future__ import annotations

import faulthandler
from typing import TYPE_CHECKING

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_timeout import Settings

GRACE = 60.0
"""Seconds for what a test does after its last timeout, such as ending processes."""


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(
    item: pytest.Item, settings: Settings
) -> Generator[None, object, object]:
    """Set the time after which the process prints where its threads are, and exits."""
    seconds = settings.timeout
    if not item.get_closest_marker("browser"):
        seconds = 2 * seconds + GRACE
    standard_error = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(seconds, file=standard_error, exit=True)
    return (yield)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_cancel_timer() -> Generator[None, object, object]:
    """Let the process live: the test has ended."""
    faulthandler.cancel_dump_traceback_later()
    return (yield)
