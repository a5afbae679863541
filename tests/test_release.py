"""Releases: one version everywhere, a complete wheel, and nothing remains when uninstalled.

`make release-check` does the same on every Python that is there, and runs all other tests with the
lowest versions of dependencies.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import comfydeploy_jupyter
from scripts import release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.comfyui import ComfyUIServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist of this tree."""
    return release.build(tmp_path_factory.mktemp("dist"), isolated=False)


def test_one_version() -> None:
    assert release.version() == release.changelog_version() == comfydeploy_jupyter.__version__
    assert "version" not in release.project()
    assert release.project()["dynamic"] == ["version"]


@pytest.mark.thorough
def test_metadata(built: tuple[Path, Path]) -> None:
    release.check_metadata(*built)


@pytest.mark.thorough
def test_contents(built: tuple[Path, Path]) -> None:
    release.check_contents(*built)


@pytest.mark.thorough
def test_the_sdist_gives_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    release.check_rebuilt(built[0], tmp_path, isolated=False)


@pytest.mark.thorough
def test_the_wheel_can_be_installed_used_and_removed(
    built: tuple[Path, Path], comfyui: ComfyUIServer, capfd: pytest.CaptureFixture[str]
) -> None:
    release.try_wheel(built[0], sys.executable, "--comfyui-url", comfyui.url)
    output = capfd.readouterr().out
    for job in ("imported", "enabled and OK", "a workflow ran", "a panel was made", "removed"):
        assert job in output


def test_the_oldest_python_has_all_that_is_used() -> None:
    release.check_syntax(release.pythons_claimed()[0])


def test_lowest_versions_are_of_all_that_users_install() -> None:
    lowest = release.lowest_versions()
    assert len(lowest) > len(release.project()["dependencies"])
    assert all("==" in requirement for requirement in lowest)


def test_pythons_claimed_begin_with_the_required_one() -> None:
    claimed = release.pythons_claimed()
    assert release.project()["requires-python"] == f">={claimed[0]}"
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in claimed
