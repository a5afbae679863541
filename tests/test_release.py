"""Releases: one version everywhere, a complete wheel, and nothing remains when uninstalled.

`make release-check` does the same on every Python that is there, and runs all other tests with the
lowest versions of dependencies.
"""

import sys

import pytest
import yaml

import comfydeploy_jupyter
from scripts import release
from tests.helpers.processes import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist of this tree."""
    return release.build(tmp_path_factory.mktemp("dist"), isolated=False)


def test_one_version():
    assert release.version() == release.changelog_version() == comfydeploy_jupyter.__version__
    assert "version" not in release.project()
    assert release.project()["dynamic"] == ["version"]


@pytest.mark.thorough
def test_what_is_built_is_complete(built, tmp_path):
    release.check_metadata(*built)
    release.check_contents(*built)
    release.check_rebuilt(built[0], tmp_path, isolated=False)


@pytest.mark.thorough
def test_the_wheel_can_be_installed_used_and_removed(built, comfyui, capfd):
    release.try_wheel(built[0], sys.executable, "--comfyui-url", comfyui.url)
    output = capfd.readouterr().out
    for job in ("imported", "enabled and OK", "a workflow ran", "a panel was made", "removed"):
        assert job in output


def test_lowest_versions_are_of_all_that_users_install():
    lowest = release.lowest_versions()
    assert len(lowest) > len(release.project()["dependencies"])
    assert all("==" in requirement for requirement in lowest)


@pytest.mark.thorough
def test_pythons_claimed_begin_with_the_required_one_which_has_all_that_is_used():
    claimed = release.pythons_claimed()
    release.check_syntax(claimed[0])
    assert release.project()["requires-python"] == f">={claimed[0]}"
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in claimed


def test_workflow_tests_each_python():
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == release.pythons_claimed()
