"""Sets markers for the requirements of tests, chooses what runs, and ends tests that hang."""

from __future__ import annotations

import faulthandler
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pytest_timeout import Settings

THOROUGH = bool(os.environ.get("THOROUGH"))
"""Whether all tests run with all cases, as `make test-all` wants, or those of `make test`."""

T = TypeVar("T")

MARKER_OF_FIXTURE = {
    "installed_comfyui": "comfyui",
    "start_jupyter": "slow",
    "start_shared_jupyter": "slow",
    "start_jupyterhub": "slow",
    "serve": "slow",
    "start_cluster": "cluster",
    "jp_serverapp": "server",
    "slurm": "root",
    "small_disk": "mounts",
}
"""A test that uses such a fixture, directly or indirectly, gets the marker."""

MARKER_OF_PATH = {
    "tests/browser/": "browser",
    "tests/clusters/": "cluster",
    # they start processes or servers, wait for timeouts, or try thousands of inputs
    "tests/transfers/": "slow",
    "tests/tunnel/": "slow",
    "tests/fuzz/": "slow",
}
"""A test whose path begins so gets the marker."""

NEEDS_ROOT = "only root can make files and processes of other users; `.ci/run` runs it as root"
NAMESPACE = ("unshare", "--map-root-user", "--mount")
NO_NAMESPACE = "only root can mount a disk: this system forbids user namespaces"
GRACE = 60.0
"""Seconds for what a test does after its last timeout, such as ending processes."""


def few(cases: Sequence[T], count: int = 1) -> Sequence[T]:
    """Return all cases for `make test-all`, and the first ones otherwise."""
    return cases if THOROUGH else cases[:count]


def examples(count: int) -> int:
    """Return how many examples Hypothesis tries: all for `make test-all`, otherwise an eighth."""
    return count if THOROUGH else count // 8


# On a busy machine, any example may take longer than the limit that Hypothesis has by default.
settings.register_profile("untimed", deadline=None, max_examples=examples(100))
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their requirements, leave out the thorough ones, and run the slowest first."""
    if not THOROUGH:
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    for item in items:
        marks = {MARKER_OF_FIXTURE.get(name) for name in getattr(item, "fixturenames", ())}
        marks |= {mark for start, mark in MARKER_OF_PATH.items() if item.nodeid.startswith(start)}
        for mark in sorted(filter(None, marks)):
            item.add_marker(mark)
        if item.get_closest_marker("mounts") and os.geteuid() != 0:
            item.setup = lambda: None
            item.runtest = partial(run_in_namespace, item)
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(
        key=lambda item: (not item.get_closest_marker("browser"), item.path not in slow_files)
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that only root can run."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)


def run_in_namespace(item: pytest.Item) -> None:
    """Run a test as the root of a user namespace, who can mount file systems there."""
    if shutil.which(NAMESPACE[0]) is None or subprocess.run([*NAMESPACE, "true"]).returncode:
        pytest.skip(NO_NAMESPACE)
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tests"]
        done = subprocess.run(
            [*NAMESPACE, sys.executable, "-m", "pytest", *options, item.nodeid],
            cwd=item.config.rootpath,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(
    item: pytest.Item, settings: Settings
) -> Generator[None, object, object]:
    """Set the time after which the process prints where its threads are, and exits.

    pytest-timeout raises an exception in the test. That does not end every test: a background task
    may receive the exception instead, Playwright does not work after it, and pytest-timeout sets no
    second timer if pytest-rerunfailures runs the test again. xdist starts a new process for one
    that ends, and reports the test as failed.
    """
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
