"""The files for contributors and for the forge name existing things, and request few rights."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scripts import release
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_nothing_follows_the_summary_of_the_tests() -> None:
    """A make that calls itself says at its end which folder it leaves, unless told not to."""
    shown = subprocess.run(
        ["make", "--dry-run", "test"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert "pytest" in shown.splitlines()[-1]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_read_only_and_pin_their_actions(path: Path) -> None:
    text = path.read_text()
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (.*)", text)
    assert len(used) == sum("uses" in step for step in steps(path)) > 0
    for action in used:
        assert PINNED.fullmatch(action), action


def test_workflow_tests_each_python() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == release.pythons_claimed()
