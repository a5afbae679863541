"""The packages of an interpreter: the origin of each decides how pip installs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.snapshots.environment import Environment, read_packages
from tests.snapshots.conftest import git

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter without packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv/bin/python"


def add(python: Path, name: str, version: str, direct_url: dict | None = None) -> None:
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))


def read(python: Path) -> Environment:
    found = Environment()
    read_packages(python, found)
    return found


def requirements(found: Environment) -> list[str]:
    return [package.requirement for package in found.snapshot.python.packages]


def test_pins_and_builds_of_torch(python):
    add(python, "pip", "25.0")
    add(python, "numpy", "1.26.4")
    add(python, "torch", "2.5.1+cu124")
    add(python, "flash_attn", "2.7.0+built.here")
    found = read(python)
    assert requirements(found) == ["flash_attn==2.7.0", "numpy==1.26.4", "torch==2.5.1+cu124"]
    assert found.snapshot.python.indexes == ["https://download.pytorch.org/whl/cu124"]
    assert found.snapshot.python.version == ".".join(map(str, sys.version_info[:3]))
    assert any("flash_attn" in warning for warning in found.warnings)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pip's own torch is for CPUs")
def test_torch_without_a_gpu_whose_version_does_not_say_so(python):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "torch").mkdir()
    (site / "torch/__init__.py").write_text("raise ImportError('it is not imported')")
    (site / "torch/version.py").write_text("__version__ = '2.5.1'\ncuda = None\n")
    add(python, "torch", "2.5.1")
    assert read(python).snapshot.python.indexes == ["https://download.pytorch.org/whl/cpu"]
    (site / "torch/version.py").write_text("__version__ = '2.5.1'\ncuda = '12.4'\n")
    assert read(python).snapshot.python.indexes == []


def test_repositories_and_archives(python):
    vcs = {"vcs": "git", "commit_id": "a" * 40}
    url = "https://ada:s3cret@github.com/x/sam2"
    add(python, "sam2", "1.0", {"url": url, "vcs_info": vcs, "subdirectory": "lib"})
    archive = {"url": "https://x.org/w-1-py3-none-any.whl?token=s3cret", "archive_info": {}}
    add(python, "wheeled", "1.0", archive)
    hashed = {"url": "https://x.org/h.whl", "archive_info": {"hashes": {"sha256": "b" * 64}}}
    add(python, "hashed", "1.0", hashed)
    assert requirements(read(python)) == [
        f"hashed @ https://x.org/h.whl#sha256={'b' * 64}",
        f"sam2 @ git+https://github.com/x/sam2@{'a' * 40}#subdirectory=lib",
        "wheeled @ https://x.org/w-1-py3-none-any.whl",
    ]


def test_local_projects(python, tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").write_text("")
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    git(checkout, "remote", "add", "origin", "git@github.com:x/mine.git")
    commit = git(checkout, "rev-parse", "HEAD")
    folder = tmp_path / "folder"
    folder.mkdir()
    wheel = tmp_path / "built-1.0-py3-none-any.whl"
    wheel.write_text("")
    editable = {"dir_info": {"editable": True}}
    add(python, "mine", "1.0", {"url": checkout.as_uri(), **editable})
    add(python, "unshared", "1.0", {"url": folder.as_uri(), **editable})
    add(python, "built", "1.0", {"url": wheel.as_uri(), "archive_info": {}})
    add(python, "gone", "1.0", {"url": "file:///no/such/file.whl", "archive_info": {}})
    found = read(python)
    assert requirements(found) == [
        f"./packages/{wheel.name}",
        "gone==1.0",
        f"mine @ git+https://github.com/x/mine.git@{commit}",
        "./packages/unshared",
    ]
    assert found.package_sources == {
        f"./packages/{wheel.name}": wheel,
        "./packages/unshared": folder,
    }
    assert len(found.warnings) == 1


def test_a_project_file_in_site_packages_is_ignored(python):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "pyproject.toml").write_text("what a careless package left")
    add(python, "good", "1.0")
    assert requirements(read(python)) == ["good==1.0"]


def test_broken_metadata_hides_no_other_package(python):
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "broken-1.dist-info").mkdir()
    (site / "odd-1.dist-info").mkdir()
    (site / "odd-1.dist-info/METADATA").write_text("Name: -r /etc/passwd\nVersion: 1\n")
    add(python, "good", "1.0", None)
    assert requirements(read(python)) == ["good==1.0"]


def test_an_interpreter_that_does_not_run(tmp_path):
    with pytest.raises(ComfyUIUnavailableError, match="does not list"):
        read(tmp_path / "no-python")
