"""A test that goes on after its timeout ends its process, and fails."""

from __future__ import annotations

import subprocess
import sys

from .comfyui_server import REPOSITORY

FILE = """
import time
import pytest

@pytest.mark.browser
@pytest.mark.timeout(2)
def test_catches_every_exception():
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass

def test_next(): ...
"""


def test_a_test_that_catches_its_timeout_is_ended(tmp_path):
    (tmp_path / "test_it.py").write_text(FILE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = browser")
    options = ("-n", "1", "--reruns", "1", "-p", "tests.time_limits", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, "--rootdir", tmp_path, tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "crashed while running 'test_it.py::test_catches_every_exception'" in done.stdout
    assert "1 failed, 1 passed, 1 rerun" in done.stdout
    assert "in test_catches_every_exception" in done.stderr
