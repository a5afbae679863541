"""Tests that send signals work however they were started, in the background too."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.helpers.processes import REPOSITORY


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_program_that_a_test_starts_can_be_interrupted(number: signal.Signals) -> None:
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(20) == -number


@pytest.mark.slow
def test_it_can_be_interrupted_if_the_parent_process_ignores_signals() -> None:
    """A shell ignores signals for a job in the background, and nohup does, too."""
    tests = (
        "tests/test_signals.py::test_a_program_that_a_test_starts_can_be_interrupted",
        "tests/client/test_login.py::test_interrupting_ends_the_wait",
    )
    for workers in ("0", "1"):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", workers, *tests]
        done = subprocess.run(
            ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh", *command],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
