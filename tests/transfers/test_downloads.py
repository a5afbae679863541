"""Downloads of models from servers that interrupt, send wrong data or reject."""

import asyncio
import hashlib
import random
import subprocess
import sys

import pytest

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import (
    CloudError,
    ConflictError,
)
from comfydeploy_jupyter.files.models import DirectoryCache, end_reservations, place
from comfydeploy_jupyter.transfers.downloads import ModelSites, PartFile, RemoteFile
from tests.helpers.disks import files_limited_to
from tests.helpers.selection import few
from tests.helpers.transfer_service import running

MIB = 1024 * 1024
NAME = "m.safetensors"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


async def start(harness, service, *, digest=None, name=NAME):
    file = await harness.transfers.find("link", f"{service.url}/files/{name}", None)
    target = place(harness.folders, "checkpoints", file.filename)
    return await harness.transfers.download(file, target, digest)


async def download(harness, service, **kwargs):
    return await harness.ended(await start(harness, service, **kwargs))


def names(harness):
    return sorted(path.name for path in harness.checkpoints.iterdir())


def python(code, *arguments):
    """Run code in a new process."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_an_interrupted_download_continues_at_its_position(harness, bare_service):
    content = bare_service.files[NAME] = random.randbytes(4 * MIB)
    bare_service.break_after = MIB
    record = await download(harness, bare_service)
    assert (record.state, record.error) == ("done", None)
    assert (harness.checkpoints / NAME).read_bytes() == content
    served = bare_service.sent[NAME]
    assert [status for status, _, _ in served] == [200] + [206] * (len(served) - 1)
    starts = [int(h["Range"].removeprefix("bytes=").removesuffix("-")) for _, _, h in served[1:]]
    assert starts[0] > 0
    assert starts == sorted(set(starts))
    assert all("If-Range" in headers for _, _, headers in served[1:])


@pytest.mark.parametrize("position", [0, MIB - 2, MIB + 2])
async def test_bytes_from_another_position_are_not_appended(harness, bare_service, position):
    content = bare_service.files[NAME] = random.randbytes(2 * MIB)
    bare_service.break_after = MIB
    wrong = {"Content-Range": f"bytes {position}-{position + 1}/{len(content)}"}
    bare_service.replacements["files"].extend([None, (206, wrong)])
    record = await download(harness, bare_service)
    assert (record.state, record.error) == ("done", None)
    assert (harness.checkpoints / NAME).read_bytes() == content


async def test_a_download_without_progress_ends(harness, bare_service):
    bare_service.files[NAME] = b"x" * MIB
    bare_service.break_after = 0
    record = await download(harness, bare_service)
    assert (record.state, record.attempts) == ("failed", 4)
    assert names(harness) == []


@pytest.mark.parametrize("by", ["request", "retry"])
async def test_a_failed_download_is_continued(harness, bare_service, by):
    content = bare_service.files[NAME] = random.randbytes(2 * MIB)
    bare_service.break_after = MIB
    bare_service.replacements["files"].extend([None, 500, 500, 500, 500])
    failed = await download(harness, bare_service)
    assert failed.state == "failed"
    assert "500" in failed.error
    assert names(harness) == [f"{NAME}.part"]
    bare_service.break_after = None
    if by == "retry":
        (again,) = await harness.transfers.retry(transfer_id=failed.id, token=None)
        again = await harness.ended(again)
    else:
        again = await download(harness, bare_service)
    assert (again.id, again.state, again.error) == (failed.id, "done", None)
    assert (harness.checkpoints / NAME).read_bytes() == content
    assert [status for status, _, _ in bare_service.sent[NAME]] == [200, 206]


async def test_a_retry_does_not_replace_another_file_of_that_name(harness, bare_service):
    bare_service.files["b"] = b"b"
    bare_service.replacements["files"].extend([404, "never"])
    failed = await download(harness, bare_service)
    file = await harness.transfers.find("link", f"{bare_service.url}/files/b", None)
    other = await harness.transfers.download(file, harness.checkpoints / NAME, None)
    with pytest.raises(ConflictError, match="another file is being downloaded"):
        await harness.transfers.retry(transfer_id=failed.id, token=None)
    with pytest.raises(ConflictError):
        await harness.transfers.download(
            RemoteFile("http://127.0.0.1:1/other", NAME), harness.checkpoints / NAME, None
        )
    await harness.transfers.queue.cancel(transfer_id=other.id)


async def test_a_file_that_changed_at_the_source_is_downloaded_again(harness, bare_service):
    bare_service.files[NAME] = random.randbytes(2 * MIB)
    bare_service.break_after = MIB
    bare_service.replacements["files"].extend([None, "never"])
    await start(harness, bare_service)
    await harness.until(lambda: not bare_service.replacements["files"])
    content = bare_service.files[NAME] = random.randbytes(2 * MIB)
    await harness.reopen()
    bare_service.break_after = None
    record = await harness.ended_at(harness.checkpoints / NAME)
    assert record.state == "done"
    assert (harness.checkpoints / NAME).read_bytes() == content


async def test_a_restart_continues_a_download(harness, bare_service):
    content = bare_service.files[NAME] = random.randbytes(8 * MIB)
    bare_service.store_delay = 0.01
    record = await start(harness, bare_service)
    await harness.until(lambda: record.sent > 2 * MIB)
    await harness.reopen()
    bare_service.store_delay = 0
    record = await harness.ended_at(harness.checkpoints / NAME)
    assert (record.state, record.error) == ("done", None)
    assert (harness.checkpoints / NAME).read_bytes() == content
    assert bare_service.sent[NAME][-1][0] == 206


KILLED_WHILE_IT_PUBLISHES = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.transfers.conftest import Harness
from comfydeploy_jupyter.transfers.downloads import RemoteFile

def check(event, arguments):
    if event == "os.remove" and str(arguments[0]).endswith(".part"):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    folder, kind, source, digest = sys.argv[1:]
    harness = Harness(Path(folder))
    transfers = await harness.open()
    sys.addaudithook(check)
    source = RemoteFile(source, "m.safetensors") if kind == "download" else source
    bring = transfers.download if kind == "download" else transfers.copy
    record = await bring(source, harness.checkpoints / "m.safetensors", digest or None)
    await transfers.queue.wait(record)

asyncio.run(main())
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "digest", "missing"),
    few(
        [
            ("download", False, ()),
            ("copy", False, ()),
            ("download", False, ("ETag",)),
            ("download", False, ("ETag", "Content-Length")),
            ("download", True, ("ETag", "Content-Length")),
        ],
        2,
    ),
)
async def test_a_kill_while_a_file_is_published_does_not_empty_it(
    make_harness, bare_service, tmp_path, kind, digest, missing
):
    content = bare_service.files[NAME] = random.randbytes(2 * MIB)
    bare_service.file_headers[NAME] = dict.fromkeys(missing)
    folder = tmp_path / "harness"
    source = f"{bare_service.url}/files/{NAME}"
    if kind == "copy":
        source = "input/source"
        (folder / "comfyui" / "input").mkdir(parents=True)
        (folder / "comfyui" / source).write_bytes(content)
    arguments = (folder, kind, source, sha256(content) if digest else "")
    killed = await asyncio.to_thread(python, KILLED_WHILE_IT_PUBLISHES, *arguments)
    assert killed.returncode == -9, killed.stderr
    checkpoints = folder / "comfyui" / "models" / "checkpoints"
    assert (checkpoints / NAME).samefile(checkpoints / f"{NAME}.part")
    harness = await make_harness()
    record = await harness.ended_at(harness.checkpoints / NAME)
    assert (record.state, record.error, record.size) == ("done", None, len(content))
    assert (harness.checkpoints / NAME).read_bytes() == content
    assert names(harness) == [NAME]


DISK_IS_FULL = """
import errno, os, sys
from pathlib import Path
from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.transfers.downloads import PartFile

target = Path(sys.argv[1]) / "models" / "checkpoints" / "m.safetensors"
target.write_bytes(b"content")
part = target.with_name("m.safetensors.part")
os.link(target, part)

def check(event, arguments):
    if event == "open" and arguments[0] == part.name and not part.exists():
        raise OSError(errno.ENOSPC, "No space left on device")

folders = Folders(Path(sys.argv[1]))
before = len(os.listdir("/dev/fd"))
sys.addaudithook(check)
try:
    PartFile(folders, target)
except OSError as error:
    print(error.errno == errno.ENOSPC, len(os.listdir("/dev/fd")) - before, target.read_bytes())
"""


def test_a_full_disk_after_a_kill_while_a_file_was_published(tmp_path):
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    assert python(DISK_IS_FULL, tmp_path).stdout == "True 0 b'content'\n"


WITHOUT_HARD_LINKS = """
import errno, os, sys
from pathlib import Path
from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.transfers.downloads import PartFile

target = Path(sys.argv[1]) / "models" / "checkpoints" / "m.safetensors"
other, inside = sys.argv[2] == "other", False

def check(event, arguments):
    global inside
    if event == "os.link":
        raise OSError(errno.EPERM, "no hard links here")
    renamed = event == "os.rename"
    reserved = event == "open" and arguments[0] == target.name and arguments[2] & os.O_EXCL
    if other and (renamed or reserved) and not inside:
        inside = True
        try:
            target.open("xb").write(b"of another program")
        except FileExistsError:
            pass

part = PartFile(Folders(Path(sys.argv[1])), target)
part.write(b"ours")
sys.addaudithook(check)
print(part.publish(), target.read_bytes(), sorted(os.listdir(target.parent)))
"""


def test_publishing_without_hard_links_replaces_no_file(tmp_path):
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    alone = python(WITHOUT_HARD_LINKS, tmp_path, "")
    assert alone.stdout == f"True b'ours' ['{NAME}']\n", alone.stderr
    (tmp_path / "models" / "checkpoints" / NAME).unlink()
    beside = python(WITHOUT_HARD_LINKS, tmp_path, "other")
    assert beside.stdout.startswith("False b'of another program'"), beside.stderr


KILLED_WITHOUT_HARD_LINKS = """
import errno, os, signal, sys
from pathlib import Path
from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.transfers.downloads import PartFile

def check(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, "no hard links here")
    if event == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)

part = PartFile(Folders(Path(sys.argv[1])), Path(sys.argv[2]))
part.write(b"ours")
sys.addaudithook(check)
part.publish()
"""


@pytest.mark.parametrize("how", ["next attempt", "next start", "replaced"])
def test_a_kill_without_hard_links_leaves_no_empty_file(tmp_path, how):
    target = tmp_path / "models" / "checkpoints" / "sub" / NAME
    target.parent.mkdir(parents=True)
    assert python(KILLED_WITHOUT_HARD_LINKS, tmp_path, target).returncode == -9
    assert target.read_bytes() == b""
    folders = Folders(tmp_path)
    if how == "replaced":
        target.write_bytes(b"of another program")
    if how == "next attempt":
        part = PartFile(folders, target)
        part.keep(lambda: None)
        assert part.publish()
        part.close()
    else:
        end_reservations(folders, DirectoryCache())
    found = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    assert (
        found
        == {
            "next attempt": {NAME: b"ours"},
            "next start": {f"{NAME}.part": b"ours"},
            "replaced": {NAME: b"of another program", f"{NAME}.part": b"ours"},
        }[how]
    )


async def test_a_complete_part_is_not_downloaded_again(harness, bare_service):
    content = bare_service.files[NAME] = random.randbytes(MIB)
    (harness.checkpoints / f"{NAME}.part").write_bytes(content)
    record = await download(harness, bare_service, digest=sha256(content))
    assert record.state == "done"
    assert names(harness) == [NAME]
    assert bare_service.sent[NAME] == []


@pytest.mark.parametrize(
    ("digest", "headers", "response", "error"),
    [
        (sha256(b"other"), {}, None, f"the SHA-256 of the file is {sha256(b'x')}, not"),
        (
            None,
            {"Content-Length": str(1 << 60)},
            None,
            f"there is no space left for {NAME}: it has {1 << 60} bytes",
        ),
        (None, {}, "garbage", "the answer is a web page, not a file"),
        (None, {}, 404, "answered 404 Not Found"),
        (None, {}, 403, "answered 403: the address requires a login"),
    ],
)
async def test_what_ends_a_download_at_once_leaves_nothing(
    harness, bare_service, digest, headers, response, error
):
    bare_service.files[NAME] = b"x"
    bare_service.file_headers[NAME].update(headers)
    bare_service.replacements["files"].extend([response] * (response is not None))
    record = await download(harness, bare_service, digest=digest)
    assert (record.state, record.attempts) == ("failed", 1)
    assert error in record.error
    assert names(harness) == []


async def test_disk_that_fills_up(harness, bare_service):
    content = bare_service.files[NAME] = random.randbytes(4 * MIB)
    with files_limited_to(3 * MIB):
        record = await download(harness, bare_service)
    assert (record.state, record.attempts) == ("failed", 1)
    assert record.error == f"there is no space left for {NAME}"
    assert names(harness) == []
    assert (await download(harness, bare_service)).state == "done"
    assert (harness.checkpoints / NAME).read_bytes() == content


@pytest.mark.parametrize("digest", [True, False])
async def test_an_existing_file_is_not_downloaded_or_replaced(harness, bare_service, digest):
    content = bare_service.files[NAME] = random.randbytes(32 * MIB)
    expected = sha256(content) if digest else None
    (harness.checkpoints / NAME).write_bytes(content)
    record = await download(harness, bare_service, digest=expected)
    assert (record.state, record.sent) == ("done", len(content))
    assert sum(count for _, count, _ in bare_service.sent[NAME]) < 16 * MIB
    (harness.checkpoints / NAME).write_bytes(b"mine")
    record = await download(harness, bare_service, digest=expected)
    assert record.state == "failed"
    assert record.error == f"{NAME} exists already, with other content"
    assert (harness.checkpoints / NAME).read_bytes() == b"mine"
    assert names(harness) == [NAME]


async def test_cancelled_download_leaves_nothing(harness, bare_service):
    bare_service.files[NAME] = b"x" * 8 * MIB
    bare_service.store_delay = 0.01
    record = await start(harness, bare_service)
    await harness.until(lambda: record.sent > MIB)
    assert await harness.transfers.queue.cancel(direction="up") == 0
    assert await harness.transfers.queue.cancel(transfer_id=record.id) == 1
    assert (await harness.ended(record)).state == "cancelled"
    assert names(harness) == []


async def test_hugging_face(make_harness, bare_service):
    content = b"x" * MIB
    site = bare_service.url
    with running() as storage:
        storage.files["blob"] = content
        harness = await make_harness(
            sites=ModelSites(huggingface_url=site, huggingface_token="hf_secret")
        )
        location = {"Location": f"{storage.url}/files/blob", "X-Linked-Size": str(len(content))}
        for name, digest in (("sub/m.safetensors", f'"{sha256(content)}"'), ("bad", sha256(b"y"))):
            page = (302, {**location, "X-Linked-ETag": digest})
            bare_service.pages[f"owner/repo/resolve/main/{name}"] = page
        for url in (
            f"{site}/owner/repo/resolve/main/sub/m.safetensors",
            f"{site}/owner/repo/blob/main/sub/m.safetensors?download=true",
            "https://huggingface.co/owner/repo/resolve/main/sub/m.safetensors",
        ):
            file = await harness.transfers.find("huggingface", url, None)
            assert file == RemoteFile(f"{site}/owner/repo/resolve/main/sub/m.safetensors", NAME)
        record = await harness.transfers.download(file, harness.checkpoints / NAME, None)
        record = await harness.ended(record)
        assert (record.state, record.error) == ("done", None)
        assert record.facts["sha256"] == sha256(content)
        ((_, headers, _, _),) = bare_service.requests
        assert headers["Authorization"] == "Bearer hf_secret"
        ((_, _, headers),) = storage.sent["blob"]
        assert "Authorization" not in headers
        # The checksum comes from the site, not from the storage.
        file = await harness.transfers.find("huggingface", "owner/repo", "bad")
        record = await harness.transfers.download(file, harness.checkpoints / "bad", None)
        record = await harness.ended(record)
        assert record.state == "failed"
        assert "SHA-256" in record.error
        assert names(harness) == [NAME]


async def test_civitai(make_harness, bare_service):
    content = bare_service.files["4711"] = b"x" * MIB
    harness = await make_harness(sites=ModelSites(civitai_url=bare_service.url))
    version = {
        "id": 4711,
        "files": [
            {"name": "config.yaml", "downloadUrl": "https://civitai.com/no"},
            {
                "name": NAME,
                "primary": True,
                "downloadUrl": "https://civitai.com/files/4711",
                "hashes": {"SHA256": sha256(content).upper()},
            },
        ],
    }
    bare_service.pages["api/v1/model-versions/4711"] = version
    bare_service.pages["api/v1/models/12"] = {"modelVersions": [version]}
    for url in (
        "https://civitai.com/models/12/a-model?modelVersionId=4711",
        "https://civitai.com/models/12",
        "https://civitai.com/api/download/models/4711?type=Model",
    ):
        file = await harness.transfers.find("civitai", url, None)
        assert file == RemoteFile(f"{bare_service.url}/files/4711", NAME, sha256(content))
    record = await harness.transfers.download(file, harness.checkpoints / NAME, None)
    assert (await harness.ended(record)).state == "done"
    bare_service.pages["api/v1/models/13"] = 401
    with pytest.raises(CloudError, match="CIVITAI_API_KEY"):
        await harness.transfers.find("civitai", "https://civitai.com/models/13", None)
    with pytest.raises(CloudError, match="404"):
        await harness.transfers.find("civitai", "https://civitai.com/models/14", None)


async def test_local_file_is_copied(harness):
    (harness.comfyui / "input" / "mine.ckpt").write_bytes(b"x" * MIB)
    target = place(harness.folders, "checkpoints", "sub/copy.ckpt")
    record = await harness.transfers.copy("input/mine.ckpt", target, sha256(b"x" * MIB))
    assert (await harness.ended(record)).state == "done"
    assert (harness.checkpoints / "sub" / "copy.ckpt").read_bytes() == b"x" * MIB
    target = place(harness.folders, "checkpoints", "other.ckpt")
    record = await harness.transfers.copy("input/mine.ckpt", target, sha256(b"y"))
    assert (await harness.ended(record)).state == "failed"
    assert names(harness) == ["sub"]


async def test_target_that_becomes_a_link_is_not_followed(harness, bare_service, tmp_path):
    bare_service.files[NAME] = b"x" * MIB
    (harness.checkpoints / f"{NAME}.part").symlink_to(tmp_path / "outside")
    record = await download(harness, bare_service)
    assert record.state == "failed"
    assert not (tmp_path / "outside").exists()
