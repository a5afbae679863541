"""Models that are moved and deleted, also while their files are changed."""

import errno
import os
import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import ConflictError
from comfydeploy_jupyter.files.models import move_model, place

MIB = 1024**2


@pytest.fixture
def harness(tmp_path):
    comfyui = tmp_path.resolve() / "comfyui"
    for name in ("checkpoints", "loras"):
        (comfyui / "models" / name).mkdir(parents=True)
    checkpoints = comfyui / "models" / "checkpoints"
    return SimpleNamespace(folders=Folders(comfyui), comfyui=comfyui, checkpoints=checkpoints)


@pytest.fixture
def elsewhere(harness):
    """A model folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if Path(folder).stat().st_dev == harness.checkpoints.stat().st_dev:
            pytest.skip("there is only one file system")
        (harness.comfyui / "models" / "upscale_models").symlink_to(folder)
        yield Path(folder)


async def test_models_are_moved_to_another_disk_over_a_partial_copy(harness, elsewhere):
    path = harness.checkpoints / "a.ckpt"
    content = random.randbytes(3 * MIB + 1)
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    (elsewhere / "b.ckpt.part").write_bytes(b"half of it")
    target = place(harness.folders, "upscale_models", "b.ckpt")
    move_model(harness.folders, path, target)
    assert (elsewhere / "b.ckpt").read_bytes() == content
    assert (elsewhere / "b.ckpt").stat().st_mtime == 1e9
    assert [child.name for child in elsewhere.iterdir()] == ["b.ckpt"]
    assert not path.exists()
    path.write_bytes(b"other")
    with pytest.raises(ConflictError, match="exists already"):
        move_model(harness.folders, path, target)
    assert (path.read_bytes(), target.read_bytes()) == (b"other", content)
    assert [child.name for child in elsewhere.iterdir()] == ["b.ckpt"]


def large_model(harness, elsewhere):
    """Return a model whose copying takes a while, and its size."""
    path = harness.checkpoints / "a.ckpt"
    size = min(200 * MIB, shutil.disk_usage(elsewhere).free // 2)
    with path.open("wb") as file:
        file.truncate(size)
    return path, size


def when_exists(path, change):
    """Call a function as soon as a file has content."""
    deadline = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    change()


async def test_a_file_that_replaces_a_model_while_it_is_copied_is_kept(harness, elsewhere):
    path, size = large_model(harness, elsewhere)
    new = harness.checkpoints / "new"
    new.write_bytes(b"a new model")
    part, target = elsewhere / "b.ckpt.part", elsewhere / "b.ckpt"
    with ThreadPoolExecutor() as pool:
        replacing = pool.submit(when_exists, part, lambda: new.replace(path))
        with pytest.raises(ConflictError, match=r"a\.ckpt was replaced while it was moved"):
            move_model(harness.folders, path, target)
        replacing.result()
    assert path.read_bytes() == b"a new model"
    assert target.stat().st_size == size
    assert [child.name for child in elsewhere.iterdir()] == ["b.ckpt"]


async def test_a_model_that_is_written_to_while_it_is_copied_stays(harness, elsewhere):
    path, size = large_model(harness, elsewhere)

    def write():
        with path.open("r+b") as file:
            file.write(b"changed")

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(when_exists, elsewhere / "b.ckpt.part", write)
        with pytest.raises(ConflictError, match="was written to while it was copied"):
            move_model(harness.folders, path, elsewhere / "b.ckpt")
        writing.result()
    assert path.stat().st_size == size
    assert list(elsewhere.iterdir()) == []


async def test_a_model_with_too_many_hard_links_is_copied(harness, monkeypatch):
    path = harness.checkpoints / "a.ckpt"
    path.write_bytes(b"abc")
    target = place(harness.folders, "loras", "b.ckpt")
    link = os.link

    def too_many(source, *args, **kwargs):
        if source == path.name:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, *args, **kwargs)

    monkeypatch.setattr(os, "link", too_many)
    move_model(harness.folders, path, target)
    assert target.read_bytes() == b"abc"
    assert [child.name for child in target.parent.iterdir()] == ["b.ckpt"]
    assert not path.exists()
