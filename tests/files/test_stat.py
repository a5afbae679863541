"""Facts of a path and of its file system."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import ForbiddenPathError, InvalidRequestError, NotFoundError
from comfydeploy_jupyter.files.models import fs_stat

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def comfy(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "comfy"
    (home / "models/vae").mkdir(parents=True)
    (home / "models/vae/v.bin").write_bytes(b"12345")
    os.utime(home / "models/vae/v.bin", (1.5, 1.5))
    return home


def test_files_and_directories(comfy):
    found = fs_stat(Folders(comfy), "vae/v.bin")
    usage = shutil.disk_usage(comfy)
    assert found["path"] == str(comfy / "models/vae/v.bin")
    assert (found["type"], found["size"], found["modified"]) == ("file", 5, 1.5)
    assert found["filesystem"]["total"] == usage.total
    for name, expected in (("free", usage.free), ("used", usage.used)):
        assert found["filesystem"][name] == pytest.approx(expected, rel=0.1)
    found = fs_stat(Folders(comfy), "models/vae")
    assert (found["path"], found["type"]) == (str(comfy / "models/vae"), "directory")


def test_without_a_path(comfy, tmp_path):
    assert fs_stat(Folders(comfy))["path"] == str(comfy / "models")
    shutil.rmtree(comfy / "models")
    assert fs_stat(Folders(comfy))["path"] == str(comfy)
    assert fs_stat(Folders(None, jupyter_root=tmp_path))["path"] == str(tmp_path.resolve())
    with pytest.raises(NotFoundError):
        fs_stat(Folders(None))


def test_invalid_paths_are_refused(comfy):
    folders = Folders(comfy)
    with pytest.raises(NotFoundError):
        fs_stat(folders, "models/none")
    with pytest.raises(ForbiddenPathError):
        fs_stat(folders, "/etc/passwd")
    with pytest.raises(InvalidRequestError, match="path"):
        fs_stat(folders, "")
