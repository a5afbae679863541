"""Markers that tests get automatically, and skips that are allowed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .comfyui_server import REPOSITORY
from .selection import ALLOWED_SKIPS

FILE = """
import pytest

@pytest.fixture
def deep(installed_comfyui): ...

def test_far(deep): ...

@pytest.mark.skipif(True, reason="it rains")
def test_rain(): ...

@pytest.mark.xfail(reason="known")
def test_known(): assert False

@pytest.mark.root
def test_of_root(): ...
"""

RAIN = "not comfyui and not root"


def run(tmp_path, *options: str) -> str:
    (tmp_path / "test_it.py").write_text(FILE)
    command = ["-m", "pytest", "-p", "tests.selection", "-p", "tests.comfyui_server", *options]
    done = subprocess.run(
        [sys.executable, *command, "-q", "-p", "no:cacheprovider", "-c", "/dev/null", tmp_path],
        cwd=REPOSITORY,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # none is needed
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_every_test_that_needs_a_comfyui_is_marked(tmp_path):
    output = run(tmp_path, "-m", "comfyui", "--collect-only")
    assert "test_it.py::test_far" in output
    assert "test_rain" not in output


def test_a_skip_that_is_not_allowed_fails_where_that_is_asked_for(tmp_path):
    assert "1 skipped, 2 deselected, 1 xfailed" in run(tmp_path, "-m", RAIN)
    output = run(tmp_path, "-m", RAIN, "--only-allowed-skips")
    assert "2 deselected, 1 xfailed" in output
    assert "1 error in" in output
    assert "ERROR at setup of test_rain" in output
    assert "it rains\nALLOWED_SKIPS in tests/selection.py does not have it." in output


def test_a_test_that_needs_root_is_skipped_for_others(tmp_path):
    output = run(tmp_path, "-m", "root", "--only-allowed-skips")
    assert ("1 passed, 3 deselected" if os.geteuid() == 0 else "1 skipped, 3 deselected") in output


@pytest.mark.parametrize("start", ALLOWED_SKIPS)
def test_each_allowed_skip_names_an_existing_test(start):
    path, *names = start.split("::")
    text = (REPOSITORY / path).read_text()
    assert all(f"def {name}(" in text or f"class {name}:" in text for name in names)
