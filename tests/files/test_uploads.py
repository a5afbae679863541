"""Uploads: files from multipart bodies."""

import asyncio
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.errors import (
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
)
from comfydeploy_jupyter.files.uploads import (
    ABANDONED,
    BATCH,
    FLUSH_AFTER,
    STAGING_PREFIX,
    StoredFile,
    UploadForm,
    Uploads,
    UploadTarget,
    clean_spool,
    remove_orphans,
)
from tests.files.forms import BOUNDARY, CONTENT_TYPE, body, field, file_part, part, send
from tests.helpers.disks import new_disk, remount
from tests.helpers.selection import examples, few

pytestmark = pytest.mark.slow


@pytest.fixture
def comfy(tmp_path):
    home = tmp_path.resolve() / "comfy"
    (home / "input").mkdir(parents=True)
    (home / "main.py").touch()
    return home


@pytest.fixture
def folders(comfy):
    return Folders(comfy)


@pytest.fixture
def uploads(jp_asyncio_loop):
    found = Uploads()
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


Receive = Callable[..., list[StoredFile]]


@pytest.fixture
def receive(folders, comfy):
    """Receive a body; fail if temporary files remain."""

    def run(data, **options):
        async def once():
            uploads = Uploads()
            try:
                return await send(uploads, folders, data, **options)
            finally:
                await uploads.close()

        return asyncio.run(once())

    before = open_descriptors()
    yield run
    assert leftovers(comfy) == []
    assert open_descriptors() == before


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def leftovers(top):
    return [path for path in top.rglob("*") if path.name.startswith(STAGING_PREFIX)]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("first", [True, False], ids=["fields-first", "file-first"])
def test_fields_before_or_after_the_file(receive, comfy, first):
    fields = [field("type", "models/loras"), field("subfolder", "xl\\new"), field("extra", "y")]
    file = file_part("l.safetensors", b"weights")
    [stored] = receive(body(*fields, file) if first else body(file, *fields))
    assert stored.path == comfy / "models/loras/xl/new/l.safetensors"
    assert stored.path.read_bytes() == b"weights"
    assert (stored.type, stored.subfolder) == ("models/loras", "xl/new")
    assert stored.content_type == "application/octet-stream"
    assert names(comfy / "input") == []


def test_permissions_are_as_for_any_new_file(receive, comfy):
    old = os.umask(0o027)
    try:
        [stored] = receive(body(file_part("a", b"1"), field("subfolder", "s")))
    finally:
        os.umask(old)
    assert stored.path.stat().st_mode & 0o777 == 0o640
    assert stored.path.parent.stat().st_mode & 0o777 == 0o750
    assert stored.path.stat().st_nlink == 1


def test_the_same_content_is_reused_and_other_content_gets_a_free_name(receive, comfy):
    def send_one(content):
        [stored] = receive(body(file_part("a.png", content)))
        return stored.name, stored.reused

    assert send_one(b"one") == ("a.png", False)
    inode = (comfy / "input/a.png").stat().st_ino
    assert send_one(b"one") == ("a.png", True)
    assert send_one(b"two") == ("a (1).png", False)
    assert send_one(b"333") == ("a (2).png", False)
    assert send_one(b"two") == ("a (1).png", True)
    assert names(comfy / "input") == ["a (1).png", "a (2).png", "a.png"]
    assert (comfy / "input/a.png").stat().st_ino == inode


@pytest.mark.parametrize("yes", ["true", "1", "True"])
def test_overwrite(receive, comfy, yes):
    receive(body(file_part("a.png", b"one")))
    [stored] = receive(body(file_part("a.png", b"two"), field("overwrite", yes)))
    assert (stored.name, stored.reused) == ("a.png", False)
    assert (comfy / "input/a.png").read_bytes() == b"two"
    [stored] = receive(body(field("overwrite", "false"), file_part("a.png", b"three")))
    assert stored.name == "a (1).png"


def test_a_folder_or_link_of_that_name_is_left_alone(receive, comfy, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"same")
    (comfy / "input/d").mkdir()
    (comfy / "input/l").symlink_to(outside)
    [stored] = receive(body(file_part("d", b"x")))
    assert stored.name == "d (1)"
    [stored] = receive(body(file_part("l", b"same")))
    assert (stored.name, stored.reused) == ("l (1)", False)
    with pytest.raises(ConflictError, match="folder"):
        receive(body(file_part("d", b"x"), field("overwrite", "1")))
    receive(body(file_part("l", b"new"), field("overwrite", "1")))
    assert outside.read_bytes() == b"same"
    assert (comfy / "input/l").read_bytes() == b"new"


@pytest.mark.parametrize("same", [True, False])
async def test_many_at_once_never_overwrite_each_other(folders, comfy, uploads, same):
    contents = [b"x" if same else b"%d" % i for i in range(40)]
    found = await asyncio.gather(
        *(send(uploads, folders, body(file_part("a.png", content))) for content in contents)
    )
    for content, [stored] in zip(contents, found, strict=True):
        assert stored.path.read_bytes() == content
    assert len({stored.name for [stored] in found}) == (1 if same else 40)
    assert len(names(comfy / "input")) == (1 if same else 40)
    assert sum(stored.reused for [stored] in found) == (39 if same else 0)


@settings(max_examples=examples(60))
@given(
    pieces=st.lists(
        st.sampled_from([b"\r", b"\n", b"-", b"--", BOUNDARY.encode(), BOUNDARY.encode()[:5]])
        | st.binary(max_size=9),
        max_size=12,
    ),
    chunk=st.integers(1, 50),
)
def test_any_content(tmp_path_factory, pieces, chunk):
    content = b"".join(pieces)
    if b"\r\n--" + BOUNDARY.encode() in b"\r\n" + content:
        return
    home = tmp_path_factory.mktemp("comfy").resolve()

    async def once():
        uploads = Uploads()
        [stored] = await send(uploads, Folders(home), body(file_part("a", content)), chunk=chunk)
        await uploads.close()
        assert stored.path.read_bytes() == content
        assert stored.sha256 == hashlib.sha256(content).hexdigest()

    asyncio.run(once())


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="猫.png"', "猫.png"),
        ("filename=plain.png", "plain.png"),
        ('filename="a;b=c.png"', "a;b=c.png"),
        ('filename="say %22hi%22.png"', 'say "hi".png'),
        ('filename="say \\"hi\\".png"', 'say "hi".png'),
        ('filename="C:\\dir\\x.png"', "x.png"),
        ("filename*=UTF-8''%E7%8C%AB.png", "猫.png"),
        ("filename=\"cat.png\"; filename*=UTF-8''%E7%8C%AB.png", "猫.png"),
        ("filename*=iso-8859-1'en'%E4.png", "ä.png"),
        ('FileName="a.png"', "a.png"),
        ('filename="a%20b.png"', "a%20b.png"),
    ],
)
def test_spellings_of_the_filename(receive, disposition, name):
    [stored] = receive(body(part(f'name="file"; {disposition}', b"x")))
    assert stored.name == name


FILE = file_part("a.png", b"x")


@pytest.mark.parametrize(
    ("data", "named", "error"),
    [
        (body(), "file", InvalidRequestError),
        (body(field("type", "input")), "file", InvalidRequestError),
        (body(field("file", "text")), "file", InvalidRequestError),
        (body(file_part("", b"")), "file", InvalidRequestError),
        (body(file_part("..", b"x")), "file", InvalidRequestError),
        (body(file_part("a\0b", b"x")), "file", InvalidRequestError),
        (body(FILE).replace(b"a.png", b"\xff\xfe"), "file", InvalidRequestError),
        (body(part("name=file; filename*=utf-8''%ff", b"")), "file", InvalidRequestError),
        (body(part("name=file; filename*=none''a", b"")), "file", InvalidRequestError),
        (body(part('name="image"; filename="a"', b"x")), "file", InvalidRequestError),
        (body(FILE, field("type", "nope")), "type", InvalidRequestError),
        (body(field("type", "models/nope"), FILE), "type", InvalidRequestError),
        (body(field("type", "models/custom_nodes"), FILE), "type", InvalidRequestError),
        (body(field("type", "../input"), FILE), "type", InvalidRequestError),
        (body(field("type", "temp"), FILE, field("type", "temp")), "type", InvalidRequestError),
        (body(field("overwrite", "maybe"), FILE), "overwrite", InvalidRequestError),
        *(
            (body(FILE, field("subfolder", name)), "subfolder", ForbiddenPathError)
            for name in ("..", "../x", "a/../../b", "..\\a", "//etc", "C:\\x")
        ),
        (body(field("subfolder", "/etc"), FILE), "subfolder", ForbiddenPathError),
        (body(field("subfolder", "a\0b"), FILE), "subfolder", InvalidRequestError),
        (body(field("subfolder", "a/.git"), FILE), "subfolder", InvalidRequestError),
        (body(field("subfolder", "x" * 300), FILE), "subfolder", InvalidRequestError),
        (body(field("subfolder", "x/" * 4000), FILE), "subfolder", InvalidRequestError),
        (body(part('name="type"', b"\xff"), FILE), "type", InvalidRequestError),
        (b"", "body", InvalidRequestError),
        (b"no form at all", "body", InvalidRequestError),
        (body(FILE)[:-8], "body", InvalidRequestError),
        (FILE[:-3], "body", InvalidRequestError),
        (FILE[:40], "body", InvalidRequestError),
        (body(b"--" + BOUNDARY.encode() + b"\r\n:\r\n\r\n"), "body", InvalidRequestError),
        (body(part("x", b"", "X: " + "y" * 100_000)), "body", InvalidRequestError),
    ],
)
def test_wrong_uploads_name_the_error_and_leave_no_file(receive, comfy, data, named, error):
    with pytest.raises(error) as caught:
        receive(data)
    assert caught.value.details["field"] == named
    assert [path for path in comfy.rglob("*") if path.is_file()] == [comfy / "main.py"]


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=x",
        f"multipart/form-data; boundary={'x' * 71}",
        "multipart/form-data; boundary=ü",
    ],
)
def test_other_content_types_are_refused(receive, content_type):
    with pytest.raises(InvalidRequestError):
        receive(body(FILE), content_type=content_type)


async def test_a_wrong_field_is_reported_before_the_file_arrives(folders, uploads):
    upload = uploads.receive(UploadTarget(folders), CONTENT_TYPE)
    await upload.write(field("type", "nope") + file_part("a", b"")[:-2])
    sent = 0
    with suppress(InvalidRequestError):
        while sent < 100:
            await upload.write(bytes(2_000_000))
            sent += 1
    with pytest.raises(InvalidRequestError):
        await upload.finish()
    assert sent < 10


def test_links_out_of_the_folder_are_refused(receive, comfy, tmp_path):
    (tmp_path / "secret").mkdir()
    (comfy / "input/link").symlink_to(tmp_path / "secret")
    for subfolder in ("link", "link/deeper"):
        with pytest.raises(ForbiddenPathError):
            receive(body(field("subfolder", subfolder), FILE))
    assert names(tmp_path / "secret") == []


def test_a_file_in_the_way_of_a_folder(receive, comfy):
    (comfy / "input/taken").touch()
    with pytest.raises(InvalidRequestError, match="not a directory"):
        receive(body(field("subfolder", "taken"), FILE))
    with pytest.raises(ConflictError):
        receive(body(field("subfolder", "taken/deeper"), FILE))


async def test_without_a_local_comfyui(tmp_path, uploads):
    with pytest.raises(NotFoundError, match="comfyui_path"):
        await send(uploads, Folders(None, jupyter_root=tmp_path), body(FILE))


def test_a_file_too_large_for_the_disk_is_refused_at_once(receive, comfy):
    with pytest.raises(TooLargeError, match="disk") as caught:
        receive(body(FILE), length=10**18)
    assert caught.value.details["free"] > 0
    assert names(comfy / "input") == []


@pytest.fixture
def small_disk(tmp_path):
    """Another file system, of 4 MiB."""
    with new_disk(tmp_path.resolve() / "disk", "4m") as disk:
        yield disk


@pytest.mark.parametrize("linked", ["models/checkpoints", "models/checkpoints/sub"])
def test_a_field_for_another_disk_after_the_file(comfy, small_disk, linked, receive):
    """The file was received into the file system of the default type, so it is copied."""
    (comfy / linked).parent.mkdir(parents=True, exist_ok=True)
    (comfy / linked).symlink_to(small_disk)
    (comfy / "models/root").symlink_to(small_disk)
    fields = [field("type", "models/checkpoints"), field("subfolder", "sub")]
    content = os.urandom(1_000_000)
    [stored] = receive(body(file_part("a.ckpt", content), *fields))
    assert stored.path.is_relative_to(small_disk)
    assert stored.path.read_bytes() == content
    assert leftovers(small_disk) == []
    [again] = receive(body(file_part("a.ckpt", content), *fields))
    assert again.reused
    with pytest.raises(TooLargeError):
        receive(body(file_part("b.ckpt", bytes(5_000_000)), *fields))
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["a.ckpt"]


ROOT = Path(__file__).parents[2]
IMPORTS = """
import asyncio, errno, os, signal, sys
from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.files.uploads import Uploads, UploadTarget
from tests.files.forms import *
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


KILLED = """

async def main():
    uploads = Uploads()
    upload = uploads.receive(UploadTarget(Folders(sys.argv[1])), CONTENT_TYPE)
    await upload.write(field("type", "models/loras") + file_part("a", bytes(9_000_000))[:-2])
    await upload.write(bytes(9_000_000))
    print("ready", flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


def begun(comfy):
    command = [sys.executable, "-c", IMPORTS + KILLED, str(comfy)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT)


async def test_only_files_left_by_killed_processes_are_removed(folders, comfy, uploads):
    with begun(comfy) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        mine = comfy / "models/loras/mine.safetensors"
        mine.touch()
        assert remove_orphans(folders) == 0
        assert len(leftovers(comfy)) == 1
        process.send_signal(signal.SIGKILL)
    assert len(leftovers(comfy)) == 1
    assert remove_orphans(folders) == 1
    assert leftovers(comfy) == []
    assert mine.exists()


async def test_memory_stays_small_and_the_event_loop_free_whatever_the_size(folders, uploads):
    upload = uploads.receive(UploadTarget(folders), CONTENT_TYPE)
    await upload.write(file_part("a", b"")[:-2])
    chunk = bytes(65536)
    turns = 0
    done = asyncio.Event()

    async def tick():
        nonlocal turns
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1

    ticking = asyncio.create_task(tick())
    tracemalloc.start()
    for _ in range(3000):
        await upload.write(chunk)
    await upload.abort()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    done.set()
    await ticking
    assert peak < 20_000_000
    assert turns > 100  # the loop went on while the disk was written to


WITHOUT_LINKS = """
import ctypes, platform, struct

# the kernel answers EPERM to linkat, as file systems without hard links do
number = {"x86_64": 265, "aarch64": 37}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0

async def main():
    uploads, folders = Uploads(), Folders(sys.argv[1])
    try:
        os.link(sys.argv[1] + "/main.py", sys.argv[1] + "/link", follow_symlinks=False)
    except PermissionError:
        print("no links")
    contents = [b"%d" % i for i in range(10)] * 2
    found = await asyncio.gather(
        *(send(uploads, folders, body(file_part("a.png", content))) for content in contents)
    )
    for content, [stored] in zip(contents, found, strict=True):
        assert stored.path.read_bytes() == content
    [again] = await send(uploads, folders, body(file_part("a.png", contents[0])))
    print(again.reused)
    await uploads.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses seccomp")
def test_a_file_system_without_hard_links(comfy):
    command = [sys.executable, "-c", IMPORTS + WITHOUT_LINKS, str(comfy)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=ENVIRONMENT)
    assert done.stdout == b"no links\nTrue\n", done.stderr.decode()
    assert 10 <= len(names(comfy / "input")) <= 20
    assert leftovers(comfy) == []


@pytest.mark.parametrize(
    ("record", "content", "is_kept"),
    [
        ("models/loras/a.png", b"", False),
        ("models/loras/a.png", b"content", True),
        ("notebooks/empty.py", b"", True),  # may be accessed, but no upload is stored there
        ("input/../notebooks/empty.py", b"", True),
        ("input/a.png\0", b"", True),
    ],
)
def test_a_record_of_another_user_leads_to_uploads_only(comfy, record, content, is_kept):
    target = Path(os.path.normpath(comfy / record.removesuffix("\0")))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    staging = comfy / "input" / f"{STAGING_PREFIX}0"
    staging.mkdir(parents=True)
    (staging / "0.reserved").write_bytes(os.fsencode(f"{comfy}/{record}"))
    assert remove_orphans(Folders(comfy, jupyter_root=comfy / "notebooks")) == 1
    assert target.exists() == is_kept
    assert not staging.exists()


def test_a_large_record_is_not_read_whole(folders, comfy):
    staging = comfy / "input" / f"{STAGING_PREFIX}0"
    staging.mkdir()
    with (staging / "0.reserved").open("wb") as file:
        file.truncate(1 << 33)
    tracemalloc.start()
    try:
        assert remove_orphans(folders) == 1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


KILLED_WHILE_IT_PUBLISHES = """

def check(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, "no hard links here")
    if event == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    sys.addaudithook(check)
    fields = field("type", "models/loras") + field("subfolder", "sub")
    await send(Uploads(), Folders(sys.argv[1]), body(fields, file_part("a.png", b"content")))

asyncio.run(main())
"""


@pytest.mark.thorough
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_kill_without_hard_links_leaves_no_empty_file(folders, comfy, uploads, replaced):
    command = [sys.executable, "-c", IMPORTS + KILLED_WHILE_IT_PUBLISHES, str(comfy)]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=ENVIRONMENT, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    target = comfy / "models/loras/sub/a.png"
    assert target.read_bytes() == b""
    if replaced:
        target.write_bytes(b"of another program")
    assert remove_orphans(folders) == 1
    assert leftovers(comfy) == []
    assert target.exists() == replaced


def test_a_read_only_folder_gives_a_clear_error(receive, comfy, small_disk):
    (comfy / "output").symlink_to(small_disk)
    remount(small_disk, "ro")
    with pytest.raises(ForbiddenPathError):
        receive(body(field("type", "output"), FILE))


class Disk(ThreadPoolExecutor):
    """Records its calls, and fails at the first one if the test asks for it."""

    def __init__(self, fails):
        super().__init__(1)
        self.calls = []
        self._fails = fails

    def submit(self, work, /, *args, **kwargs):
        self.calls.append(work)
        return super().submit(self._fail if self._fails else work, *args, **kwargs)

    def _fail(self, *_):
        raise OSError(errno.ENOSPC, "the disk is full")


@pytest.mark.parametrize("full", few([False, True]))
def test_a_file_is_written_to_the_disk_while_it_arrives(folders, comfy, full):
    content = random.Random(7).randbytes(FLUSH_AFTER // 8) * 25
    text = body(file_part("large.bin", content))
    with ThreadPoolExecutor(1) as hashers, Disk(full) as disk:
        form = UploadForm(folders, CONTENT_TYPE, None, hashers=hashers, flushers=disk)
        with pytest.raises(TooLargeError) if full else nullcontext():
            for start in range(0, len(text), BATCH):
                form.feed([text[start : start + BATCH]])
            (stored,) = form.finish()
            assert stored.sha256 == hashlib.sha256(content).hexdigest()
            assert stored.path.read_bytes() == content
        form.close()
    assert 1 <= len(disk.calls) <= 3
    assert full or set(disk.calls) <= {getattr(os, "fdatasync", os.fsync)}
    assert leftovers(comfy) == []
    assert names(comfy / "input") == ([] if full else ["large.bin"])


def test_only_abandoned_folders_are_removed(tmp_path):
    clean_spool(tmp_path / "not-there")
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "input").mkdir(parents=True)
        (folder / "input" / "a.png").write_bytes(b"1")
    long_ago = time.time() - ABANDONED - 1
    os.utime(old, (long_ago, long_ago))
    clean_spool(tmp_path)
    assert list(tmp_path.iterdir()) == [new]
