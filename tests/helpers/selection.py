"""Sets markers for the requirements of tests, and defines which tests may be skipped."""

from __future__ import annotations

import faulthandler
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_timeout import Settings

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
    # they start processes or servers, or wait for timeouts
    "tests/comfyui/test_process.py": "slow",
    "tests/files/test_hashing.py": "slow",
    "tests/files/test_uploads.py": "slow",
    "tests/handlers/test_upgrades.py": "slow",
    "tests/machines/test_stuck.py": "slow",
    "tests/security/test_other_users.py": "slow",
    "tests/test_completion.py": "slow",
    "tests/test_reaper.py": "slow",
    "tests/test_selection.py": "slow",
    "tests/test_time_limits.py": "slow",
    "tests/test_worker.py": "slow",
    "tests/transfers/": "slow",
    "tests/tunnel/": "slow",
    # they try thousands of inputs
    "tests/fuzz/": "slow",
    "tests/test_patterns.py": "slow",
}
"""A test whose path begins so gets the marker."""

NEEDS_ROOT = "only root can make files and processes of other users; `.ci/run` runs it as root"
NAMESPACE = ("unshare", "--map-root-user", "--mount")
NO_NAMESPACE = "only root can mount a disk: this system forbids user namespaces"
SAMPLES = "needs workflows of others, which are not part of this repository"
ALLOWED_SKIPS = {
    "tests/clusters/test_slurm.py": "needs Slurm: on Debian, `.ci/run` installs it",
    "tests/comfyui/test_folders.py::test_unreadable_files_are_refused": "root may read everything",
    "tests/comfyui/test_running.py::test_https_has_another_default_port": (
        "needs permission to use port 443"
    ),
    "tests/files/test_hashing.py::test_pruning_waits_for_a_disk_in_no_thread_of_the_store": (
        "needs FUSE"
    ),
    "tests/graphs/test_integrity.py::test_check_integrity_accepts_saved_workflows": SAMPLES,
    "tests/graphs/test_ui_to_api.py::test_converts_the_shared_samples": SAMPLES,
    "tests/graphs/test_validation.py::test_results_equal_shared_samples": SAMPLES,
    "tests/handlers/test_assets.py::TestEnableAssets": "needs a ComfyUI of 0.33 or later",
    "tests/handlers/test_folders.py::TestModelsDirectory": "needs a ComfyUI of 0.33 or later",
    "tests/handlers/test_runs.py::test_pictures_that_are_added_to_a_group_are_loaded": (
        "needs a ComfyUI of 0.33 or later"
    ),
    "tests/machines/test_hardware.py::test_nvml_is_preferred_to_nvidia_smi": "needs a C compiler",
    "tests/util/test_sockets.py::test_a_socket_that_is_bound_to_a_network_device": (
        "Linux before 5.7 allows it only to root"
    ),
    "tests/runs/test_clock.py": "needs libfaketime: on Debian, `make test` asks for it",
    "tests/runs/test_network.py::TestNothingConfigured": "needs a machine without a ComfyUI",
    "tests/runs/test_own_ids.py::test_runs_that_were_queued_under_their_own_id_are_found_again": (
        "needs a ComfyUI before 0.33"
    ),
}
"""Tests, or classes of tests, that may be skipped even if every test must run, with the reasons."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option with which only tests in `ALLOWED_SKIPS` may be skipped."""
    parser.addoption(
        "--only-allowed-skips",
        action="store_true",
        help="fail tests that are skipped, except those that tests/helpers/selection.py allows",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their requirements, and run the slowest ones first."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Make a skipped test fail if it may not be skipped."""
    report = yield
    allowed = any(item.nodeid.startswith(start) for start in ALLOWED_SKIPS) or any(
        reason in str(report.longrepr) for reason in (NEEDS_ROOT, NO_NAMESPACE)
    )
    if not allowed and not hasattr(report, "wasxfail"):
        _fail_if_skipped(report, item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Make a skipped module fail."""
    report = yield
    _fail_if_skipped(report, collector)
    return report


def _fail_if_skipped(report: Any, node: pytest.Item | pytest.Collector) -> None:
    if report.skipped and node.config.getoption("only_allowed_skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nALLOWED_SKIPS in tests/helpers/selection.py does not have it."


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
