"""Output files of members that have ended."""

import asyncio
import random

import pytest

from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from comfydeploy_jupyter.machines.machine import Machine
from comfydeploy_jupyter.machines.outputs import KeptOutputs
from comfydeploy_jupyter.machines.registry import MachineRegistry, Pool
from comfydeploy_jupyter.machines.settings import MachineSettings
from comfydeploy_jupyter.util.tasks import end
from tests.helpers.comfyui import free_port
from tests.helpers.disks import files_limited_to
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.transfers.conftest import IgnoringListener


@pytest.fixture
def registry(tmp_path):
    found = MachineRegistry()
    found.set_pool(Pool("hpc", "hpc", "dask", ("abc",), shared_dirs=(str(tmp_path / "shared"),)))
    found.set_pool(Pool("gpus", "gpus", members=("studio",)))
    return found


@pytest.fixture
def member(tmp_path, registry, jp_asyncio_loop):
    """The ComfyUI of the member ``abc``."""
    comfyui, port = InstantComfyUI(), free_port()
    serving = jp_asyncio_loop.create_task(comfyui.serve(port))
    settings = MachineSettings(comfyui_url=f"http://127.0.0.1:{port}")
    machine = Machine(
        "abc", settings, client_id="x", folder=tmp_path / "data", listener=IgnoringListener()
    )
    registry.add(machine)
    yield comfyui
    jp_asyncio_loop.run_until_complete(machine.close())
    jp_asyncio_loop.run_until_complete(end([serving]))


def images(*files):
    """Return outputs with files: a subfolder and a name each."""
    found = [{"filename": name, "subfolder": folder, "type": "output"} for folder, name in files]
    return {"9": {"images": found}}


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def read(kept, machine, *place):
    file = kept.copies(machine).open(*place)
    if file is None:
        return None
    with file:
        return file.read().decode()


async def test_files_are_found_in_both_folders(tmp_path, registry):
    kept = KeptOutputs(tmp_path / "copies", registry)
    write(tmp_path / "copies" / "abc" / "output" / "a.png", "copied")
    write(tmp_path / "shared" / "abc" / "output" / "sub" / "b.png", "shared")
    assert await read(kept, "abc", "output", "", "a.png") == "copied"
    assert await read(kept, "abc", "output", "sub", "b.png") == "shared"
    assert await read(kept, "abc", "output", "", "b.png") is None
    assert await read(kept, "other", "output", "", "a.png") is None
    assert await read(kept, "abc", "temp", "", "a.png") is None


async def test_nothing_outside_of_a_members_folder_is_opened(tmp_path, registry):
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


async def test_only_members_of_providers_are_copied_from(tmp_path, registry):
    kept = KeptOutputs(tmp_path / "copies", registry)
    assert registry.provided == {"abc"}
    outputs = images(("", "a.png"))
    with pytest.raises(ComfyUIUnavailableError, match="abc"):
        await kept.keep("abc", outputs)
    write(tmp_path / "shared" / "abc" / "output" / "a.png", "shared")
    await kept.keep("abc", outputs)
    assert not (tmp_path / "copies").exists()


async def test_the_same_file_is_copied_for_several_runs_at_the_same_time(
    tmp_path, registry, member
):
    name = f"{'a' * 251}.png"  # as long as names may be
    content = member.files[name] = random.randbytes(4 * 1024**2)
    kept = KeptOutputs(tmp_path / "copies", registry)
    await asyncio.gather(*(kept.keep("abc", images(("sub", name))) for _ in range(5)))
    assert (tmp_path / "copies" / "abc" / "output" / "sub" / name).read_bytes() == content
    assert files_in(tmp_path / "copies") == [f"abc/output/sub/{name}"]


async def test_a_copy_on_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, registry, member):
    member.files["a.png"] = bytes(3 * 1024**2)
    kept = KeptOutputs(tmp_path / "copies", registry)
    with files_limited_to(3 * 1024**2 - 1), pytest.raises(OSError):  # noqa: PT011 - any
        await kept.keep("abc", images(("", "a.png")))
    assert files_in(tmp_path / "copies") == []


async def test_nothing_is_written_outside_of_a_members_folder(tmp_path, registry, member):
    member.files.update(dict.fromkeys(("a.png", "..", "../a.png"), b"x"))
    kept = KeptOutputs(tmp_path / "copies", registry)
    outside = [("..", "a.png"), ("sub/../../..", "a.png"), ("..\\..", "a.png")]
    outside += [(str(tmp_path), "a.png"), ("", ".."), ("", "../a.png"), ("", "\ud83da.png")]
    await kept.keep("abc", images(*outside, ("", "a.png")))
    assert [name for name in files_in(tmp_path) if name.endswith("a.png")] == [
        "copies/abc/output/a.png"
    ]
