"""Which files of a pack are copied into a build context, also if the pack changes meanwhile."""

import os
import threading
from itertools import count

import pytest

from comfydeploy_jupyter.snapshots.docker import Copier


@pytest.fixture
def pack(tmp_path):
    pack = tmp_path / "pack"
    (pack / "inside").mkdir(parents=True)
    (pack / "inside/a.py").write_text("public")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.py").write_text("private")
    return pack


def test_files_links_and_permissions(pack, tmp_path):
    (pack / "inside/run.sh").write_text("#!/bin/sh")
    (pack / "inside/run.sh").chmod(0o750)
    (pack / "link.py").symlink_to("inside/a.py")
    (pack / "way").symlink_to("inside")
    (pack / "out.py").symlink_to(tmp_path / "outside/a.py")
    (pack / "circle").symlink_to("circle")
    os.mkfifo(pack / "pipe")
    (pack / "key.pem.py").write_text(f"hf_{'a' * 34}")
    copier = Copier()
    copier.copy(pack, tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")}
    assert copied == {"inside", "inside/a.py", "inside/run.sh", "link.py", "way"}
    assert (tmp_path / "copy/inside/run.sh").stat().st_mode & 0o777 == 0o750
    assert not (tmp_path / "copy/link.py").is_symlink()
    assert (tmp_path / "copy/way").readlink().name == "inside"
    left_out = sorted(warning.partition(" ")[0] for warning in copier.warnings)
    assert left_out == ["pack/circle", "pack/key.pem.py", "pack/out.py", "pack/pipe"]


def test_a_folder_replaced_by_a_link_during_the_copy_is_not_copied(pack, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "outside")
    inside, moved = pack / "inside", tmp_path / "aside"
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            inside.rename(moved)
            link.rename(inside)
            inside.rename(link)
            moved.rename(inside)

    swapping = threading.Thread(target=swap)
    swapping.start()
    copied, links = set(), []
    try:
        for number in count():
            # on a busy machine the folder may be aside or a link at each of many copies
            if number >= 1000 and (copied or number >= 100_000):
                break
            target = tmp_path / f"copy-{number}"
            Copier().copy(pack, target)
            copied |= {file.read_text() for file in target.rglob("a.py")}
            links += [path for path in target.iterdir() if path.is_symlink()]
    finally:
        stop.set()
        swapping.join()
    assert links == [], "no folder is a link to itself"
    assert copied == {"public"}
