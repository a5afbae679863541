"""Output files of members that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.machines.kept_outputs import KeptOutputs
from comfydeploy_jupyter.machines.registry import MachineRegistry, Pool

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def registry(tmp_path: Path) -> MachineRegistry:
    found = MachineRegistry()
    found.set_pool(Pool("hpc", "hpc", "dask", ("abc",), shared_dirs=(str(tmp_path / "shared"),)))
    found.set_pool(Pool("gpus", "gpus", members=("studio",)))
    return found


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def read(kept: KeptOutputs, *place: str) -> str | None:
    file = await kept.open(*place)
    if file is None:
        return None
    with file:
        return file.read().decode()


async def test_files_are_found_in_both_folders(tmp_path: Path, registry: MachineRegistry) -> None:
    kept = KeptOutputs(tmp_path / "copies", registry)
    write(tmp_path / "copies" / "abc" / "output" / "a.png", "copied")
    write(tmp_path / "shared" / "abc" / "output" / "sub" / "b.png", "shared")
    assert await read(kept, "abc", "output", "", "a.png") == "copied"
    assert await read(kept, "abc", "output", "sub", "b.png") == "shared"
    assert await read(kept, "abc", "output", "", "b.png") is None
    assert await read(kept, "other", "output", "", "a.png") is None
    assert await read(kept, "abc", "temp", "", "a.png") is None


async def test_nothing_outside_of_a_members_folder_is_opened(
    tmp_path: Path, registry: MachineRegistry
) -> None:
    kept = KeptOutputs(tmp_path / "copies", registry)
    write(tmp_path / "copies" / "secret.png", "secret")
    folder = tmp_path / "copies" / "abc" / "output"
    write(folder / "a.png", "copied")
    (folder / "link.png").symlink_to(tmp_path / "copies" / "secret.png")
    (folder / "folder.png").mkdir()
    for place in (
        ("abc", "output", "../..", "secret.png"),
        ("abc", "output", "", "../../secret.png"),
        ("abc", "output", str(tmp_path / "copies"), "secret.png"),
        ("abc", "output", "", "link.png"),
        ("abc", "output", "", "folder.png"),
        ("abc", "output", "", "a.png\0"),
        ("abc", "..", "", "secret.png"),
        ("..", "output", "abc/output", "a.png"),
    ):
        assert await read(kept, *place) is None, place


async def test_only_members_of_providers_are_copied_from(
    tmp_path: Path, registry: MachineRegistry
) -> None:
    kept = KeptOutputs(tmp_path / "copies", registry)
    assert kept.keeps("abc")
    assert not kept.keeps("studio")
    assert not kept.keeps("local")
    outputs = {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}
    with pytest.raises(ComfyUIUnavailableError, match="abc"):
        await kept.keep("abc", outputs)
    write(tmp_path / "shared" / "abc" / "output" / "a.png", "shared")
    await kept.keep("abc", outputs)
    assert not (tmp_path / "copies").exists()
