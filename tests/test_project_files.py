"""The files for contributors and for the forge name existing things, and request few rights."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from comfydeploy_jupyter.store.migrations import MIGRATIONS
from scripts import release
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
TEXTS = [
    *WORKFLOWS,
    REPOSITORY / ".devcontainer" / "devcontainer.json",
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "docs/releasing.md")),
]
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def targets() -> set[str]:
    """Return the targets that ``make help`` lists."""
    text = (REPOSITORY / "Makefile").read_text()
    return set(re.findall(r"^([a-z-]+):[^=\n]* ## ", text, re.MULTILINE))


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_targets_of_make_exist(path: Path) -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)\b(?! it\b)", path.read_text()))
    assert named
    assert named <= targets()


def test_nothing_follows_the_summary_of_the_tests() -> None:
    """A make that calls itself says at its end which folder it leaves, unless told not to."""
    shown = subprocess.run(
        ["make", "--dry-run", "test"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert "pytest" in shown.splitlines()[-1]


def test_contributing_names_tests_and_files_that_exist() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    sources = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("*.py"))
    tests = set(re.findall(r"\btest_\w+(?![\w.])", text))
    assert len(tests) > 5
    assert tests <= set(re.findall(r"\bdef (test_\w+)\(", sources))
    paths = set(re.findall(r"`([\w./-]+(?:/[\w.-]*|\.(?:py|md|toml|yml)))`", text))
    paths |= set(re.findall(r"(?<![\w/.-])tests/[\w/.-]*\w", text))
    assert len(paths) > 30
    roots = (REPOSITORY, REPOSITORY / "comfydeploy_jupyter", REPOSITORY / "tests")
    missing = {path for path in paths if not any((root / path).exists() for root in roots)}
    assert missing == set()
    assert f"`{len(MIGRATIONS) + 1}_example.sql`" in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_read_only_and_pin_their_actions(path: Path) -> None:
    text = path.read_text()
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (.*)", text)
    assert len(used) == sum("uses" in step for step in steps(path)) > 0
    for action in used:
        assert PINNED.fullmatch(action), action


def test_the_dev_container_is_json() -> None:
    container = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"].endswith("make setup")


def test_workflow_tests_each_python() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == release.pythons_claimed()
