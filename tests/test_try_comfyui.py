"""``make try-comfyui``: the report about a checkout of ComfyUI."""

import os
import subprocess
import sys

import pytest

from tests.helpers.comfyui import comfyui_tree, comfyui_version
from tests.helpers.processes import REPOSITORY


def make(*arguments):
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_make_takes_a_path_and_keeps_the_search_path(tmp_path):
    given = ["try-comfyui", f"PATH={tmp_path}/a b", "PYTHON=/its/python", "ARGS=-x"]
    said = make("-n", *given)
    assert f"scripts/try_comfyui.py '{tmp_path}/a b' --python '/its/python'" in said
    assert "Say which one" in make("-n", "try-comfyui")
    (tmp_path / "more.mk").write_text(f'include {REPOSITORY}/Makefile\nshow:\n\t@echo "$$PATH"\n')
    shown = make("-f", str(tmp_path / "more.mk"), "show", *given, "-o", "try-comfyui")
    if sys.platform == "linux":
        assert shown.splitlines()[0] == os.environ["PATH"]


@pytest.mark.thorough
@pytest.mark.slow
def test_definitions_and_prompts_of_a_comfyui_are_compared(installed_comfyui, tmp_path):
    path, python = comfyui_tree()
    command = [sys.executable, "scripts/try_comfyui.py", str(path), "--python", str(python)]
    command += ["--to", str(tmp_path), "--parts", "definitions,prompts"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "report.md").read_text()
    assert report.startswith(f"# ComfyUI {comfyui_version()} with comfydeploy-jupyter")
    assert "New node classes since" in report
    assert "Changed replies to" in report
    assert "Not tried" not in report
    if comfyui_version() == "0.3.75":
        assert "- `BatchImagesNode`" in report.partition("Removed classes")[2]
        assert "we say" in report or "so do we" in report


def test_no_comfyui_and_no_such_part_are_told(tmp_path):
    command = [sys.executable, "scripts/try_comfyui.py", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no ComfyUI in" in done.stderr
