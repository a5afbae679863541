"""Input files are fetched unchanged, even if links are replaced in the meantime."""

import asyncio
import stat

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import ComfyDeployError, NotFoundError
from comfydeploy_jupyter.graphs.external import FileNeed
from comfydeploy_jupyter.runs import inputs


@pytest.fixture
def home(tmp_path):
    """A ComfyUI with its folders, Jupyter's root beside it, and files outside both."""
    for folder in ("ComfyUI/input", "ComfyUI/output", "notebooks", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside/a.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def place(home):
    async def place(source):
        folders = Folders(home / "ComfyUI", jupyter_root=home / "notebooks")
        client = None  # the folders are on this machine
        need = FileNeed("1", "file", "image", (source,))
        return str((await inputs.fetch_input_files([need], client, folders))["1"])

    return place


async def test_a_missing_file_is_named_with_its_input(place):
    problem = r"^inputs\.file: b/a\.png is not in the input folder of this ComfyUI$"
    with pytest.raises(NotFoundError, match=problem):
        await place("b/a.png")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
async def test_permissions_stay(place, home, mode):
    file = home / "notebooks/a.png"
    file.write_bytes(b"picture")
    file.chmod(mode)
    fetched = home / "ComfyUI/input" / await place("a.png")
    assert fetched.read_bytes() == b"picture"
    assert stat.S_IMODE(fetched.stat().st_mode) == mode


async def test_the_same_content_is_stored_once(place, home):
    (home / "notebooks/a.png").write_bytes(b"picture")
    first = await place("a.png")
    assert await place("a.png") == first
    assert len(list((home / "ComfyUI/input/comfydeploy").iterdir())) == 1


async def test_a_link_in_place_of_the_copy_is_not_followed(place, home):
    (home / "notebooks/a.png").write_bytes(b"picture")
    fetched = home / "ComfyUI/input" / await place("a.png")
    fetched.unlink()
    fetched.symlink_to(home / "outside/a.txt")
    assert home / "ComfyUI/input" / await place("a.png") == fetched
    assert not fetched.is_symlink()
    assert fetched.read_bytes() == b"picture"
    assert (home / "outside/a.txt").read_text() == "secret"


async def test_a_link_in_place_of_the_folder_is_not_followed(place, home):
    (home / "notebooks/a.png").write_bytes(b"picture")
    (home / "ComfyUI/input/comfydeploy").symlink_to(home / "outside")
    with pytest.raises(ComfyDeployError):
        await place("a.png")
    assert [path.name for path in (home / "outside").iterdir()] == ["a.txt"]


@pytest.mark.slow
async def test_a_folder_replaced_repeatedly_by_a_link_copies_no_file_from_outside(place, home):
    """The same path is by turns a folder of the user and a link to another folder."""
    plain = home / "notebooks/plain"
    plain.mkdir()
    (plain / "a.txt").write_text("public")
    swapped, link = home / "notebooks/way", home / "notebooks/link"
    link.symlink_to(home / "outside")
    plain.rename(swapped)
    stop = asyncio.Event()

    def swap():
        while not stop.is_set():
            swapped.rename(plain)
            link.rename(swapped)
            swapped.rename(link)
            plain.rename(swapped)

    swapping = asyncio.ensure_future(asyncio.to_thread(swap))
    fetched = 0
    for _ in range(300):
        try:
            name = await place("way/a.txt")
        except ComfyDeployError:
            continue
        fetched += 1
        assert (home / "ComfyUI/input" / name).read_text() == "public"
    stop.set()
    await swapping
    found = [path.read_text() for path in (home / "ComfyUI/input/comfydeploy").iterdir()]
    assert set(found) <= {"public"}
    assert fetched, "no request has found the file"
