"""The files that a graph names, in the input folder of the machine that gets the run.

Files of external inputs are fetched, archives of pictures are unpacked, and the input files of runs
of pools are sent to the machine that gets the run.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiohttp

from ..comfyui.folders import Folders
from ..errors import ComfyDeployError, ConflictError, InvalidRequestError, NotFoundError
from ..graphs.inputs import marks_in
from ..util import worker
from ..util.http import new_session, reason_of
from ..util.jsons import dumps, loads
from ..util.secrets import clean_url
from ..util.system import ALLOWED, FetchPolicy
from ..util.tasks import open_in_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ..comfyui.client import ComfyUIClient
    from ..graphs.external import FileNeed
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry

MAX_IMAGES = 1000
MAX_BYTES = 4 * 1024**3  # of a single file, and of all pictures of an archive
MAX_DIRECTORY = 16 * 1024**2  # bytes of the central directory of an archive
CHUNK = 1024 * 1024
WEB = ("http://", "https://")  # the beginnings of sources that are fetched
SUBFOLDER = "comfydeploy"  # a subfolder of ComfyUI's input/
PLAIN_MODE = 0o666  # mode of files that are new on this machine, before the umask
SILENCE_TIMEOUT = 60.0  # seconds that may pass between two chunks of a download
PATH_KINDS = ("video_path", "file")  # kinds of nodes whose value is an absolute path
KEPT_DIGESTS = 1000
STEADY_AFTER = 2 * 10**9  # nanoseconds after a change, in which the times of a file may not differ
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_END, _ZIP64_LOCATOR = 22, 20  # sizes in bytes of the records at the end of an archive


@contextlib.contextmanager
def _as_error_of(field: str) -> Iterator[None]:
    """Convert the exceptions of `zipfile` for a broken archive to an error that names the field.

    `zipfile` raises many types of exceptions, including those of each compression module. Only an
    OSError of the disk is raised unchanged. It has an ``errno`` other than ``EINVAL``, which means
    that the archive contains an offset outside of the file.
    """
    try:
        yield
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL):
            raise
        raise InvalidRequestError.of_field(field, f"the archive is damaged: {exc}") from exc


def open_archive(file: IO[bytes], field: str) -> zipfile.ZipFile:
    """Open an archive after checking the size of its central directory, which is read at once.

    The record at the end of an archive contains that size (PKWARE's APPNOTE, 4.3.16). Archives
    with a larger directory have a ZIP64 record before it, and are refused. The record is found
    in the same way as by `zipfile`: a second signature in the last 22 bytes is ignored.
    """
    file.seek(-min(file.seek(0, os.SEEK_END), _END + 0xFFFF + _ZIP64_LOCATOR), os.SEEK_END)
    tail = file.read()
    at = len(tail) - _END
    if not (tail.startswith(b"PK\x05\x06", max(at, 0)) and tail.endswith(b"\0\0")):
        at = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(at - _ZIP64_LOCATOR, 0) : at]
    if size > MAX_DIRECTORY or locator.startswith(b"PK\x06\x07"):
        raise InvalidRequestError.of_field(
            field, "the archive has too many files, or more than 4 GiB"
        )
    with _as_error_of(field):
        return zipfile.ZipFile(file)


def pictures(archive: zipfile.ZipFile, field: str) -> list[zipfile.ZipInfo]:
    """Return the pictures in an archive; raise InvalidRequestError if they exceed the bounds."""
    found = [item for item in archive.infolist() if item.filename.lower().endswith(IMAGE_SUFFIXES)]
    if len(found) > MAX_IMAGES or sum(item.file_size for item in found) > MAX_BYTES:
        raise InvalidRequestError.of_field(
            field, f"the archive has more than {MAX_IMAGES} pictures, or more than 4 GiB of them"
        )
    return found


def extract(archive: zipfile.ZipFile, item: zipfile.ZipInfo, target: IO[bytes], field: str) -> None:
    """Write a picture, but no more bytes than the size in the directory, which was checked."""
    left = item.file_size
    with _as_error_of(field), archive.open(item) as read:
        while left and (chunk := read.read(min(CHUNK, left))):
            target.write(chunk)
            left -= len(chunk)


async def fetch_input_files(
    needs: Iterable[FileNeed],
    client: ComfyUIClient,
    folders: Folders,
    fetching: FetchPolicy = ALLOWED,
) -> dict[str, str | list[str]]:
    """Put each file into ComfyUI's ``input/`` and return the values for the loaders by node id.

    A source is a URL, a ``data:`` URL, a path that the routes may read, or a name in ``input/``. An
    error names the input; OfflineError, before any was fetched, if one may not be fetched.
    """
    needs = list(needs)
    for need in needs:
        if any(source.startswith(WEB) for source in need.sources):
            fetching.require(f"The file of inputs.{need.input_id}")
    placed: dict[str, str | list[str]] = {}
    for need in needs:
        names: list[str] = []
        for source in need.sources:
            names += await _fetch(source, need, folders, client)
        if need.kind in PATH_KINDS:
            names = [str(_input_folder(folders, need) / name) for name in names]
        placed[need.node_id] = names if need.kind == "image_batch" else names[0]
    return placed


async def _fetch(source: str, need: FileNeed, folders: Folders, client: ComfyUIClient) -> list[str]:
    field = f"inputs.{need.input_id}"
    if marks_in(source):
        return [source]
    if source.startswith(WEB):
        with tempfile.TemporaryFile() as file:
            await _download(source, file, field)
            name = PurePosixPath(unquote(urlsplit(source).path)).name or "download"
            if need.kind == "image_batch" and await asyncio.to_thread(zipfile.is_zipfile, file):
                return await _place_unzipped(file, field, folders, client)
            return [await place(file, name, folders, client)]
    if source.startswith("data:"):
        data, suffix = await asyncio.to_thread(_decode, source, field)
        with tempfile.TemporaryFile() as file:
            await asyncio.to_thread(file.write, data)
            return [await place(file, f"image{suffix}", folders, client)]
    return [await _place_named(source, field, folders, client)]


async def _place_named(name: str, field: str, folders: Folders, client: ComfyUIClient) -> str:
    """Return the loader's name for a file that the user named; copy the file if necessary."""
    plain = re.sub(r" \[(input|output|temp)\]$", "", name)
    try:
        path = await asyncio.to_thread(folders.resolve, plain, field=field)
    except NotFoundError:
        if folders.base is None and not os.path.isabs(name):  # noqa: PTH117 - only text is looked at
            return name  # ComfyUI is elsewhere and may have the file; else it reports an error
        problem = f"{name} is not in the input folder of this ComfyUI"
        raise NotFoundError.of_field(field, problem) from None
    if folders.base is not None:
        for kind in ("input", "output", "temp"):
            root = folders.directory(kind).resolve()
            if path.is_relative_to(root):
                inside = path.relative_to(root).as_posix()
                return inside if kind == "input" else f"{inside} [{kind}]"
    with await open_in_thread(folders.open_for_read, path) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & PLAIN_MODE
        return await place(file, path.name, folders, client, mode=mode)


async def place(
    file: IO[bytes],
    name: str,
    folders: Folders,
    client: ComfyUIClient | None,
    *,
    mode: int = PLAIN_MODE,
) -> str:
    """Put a file under ``input/`` by a name derived from its content, so that it is stored once.

    The file is passed open, because its path might lead to another file by now. Returns the name
    for a loader. The client is needed only if the folders are on another computer.
    """
    digest = await asyncio.to_thread(digest_of, file)
    safe = re.sub(r"[^\w.-]+", "_", name)[-80:].lstrip(".") or "file"
    target = f"{digest[:16]}-{safe}"
    if folders.base is None:
        assert client is not None
        await asyncio.to_thread(file.seek, 0)
        stored, subfolder = await client.upload(file, target, subfolder=SUBFOLDER)
        return f"{subfolder}/{stored}" if subfolder else stored
    await asyncio.to_thread(_copy, file, folders, target, digest, mode)
    return f"{SUBFOLDER}/{target}"


async def _download(url: str, file: IO[bytes], field: str) -> None:
    size = 0
    address = clean_url(url)
    try:
        async with (
            new_session(silence=SILENCE_TIMEOUT) as session,
            session.get(url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status >= 400:
                raise InvalidRequestError.of_field(field, f"{address} answered {answer.status}")
            async for chunk in answer.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise InvalidRequestError.of_field(field, f"{address} is larger than 4 GiB")
                await asyncio.to_thread(file.write, chunk)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as exc:
        reason = reason_of(exc)
        raise InvalidRequestError.of_field(
            field, f"{address} cannot be fetched: {reason}"
        ) from None


def _decode(url: str, field: str) -> tuple[bytes, str]:
    """Return the bytes of a ``data:`` URL and the file suffix of their type."""
    head, _, text = url.partition(",")
    subtype = re.match(r"data:\w+/([\w.+-]+)", head)
    suffix = f".{subtype.group(1)}" if subtype else ".png"
    try:
        return base64.b64decode(text, validate=True), suffix.replace(".jpeg", ".jpg")
    except binascii.Error:
        raise InvalidRequestError.of_field(field, "is a data: URL without valid base64") from None


async def _place_unzipped(
    file: IO[bytes], field: str, folders: Folders, client: ComfyUIClient
) -> list[str]:
    """Store the pictures of an archive one after the other; return the names for the loader."""
    names = []
    with await asyncio.to_thread(open_archive, file, field) as archive:
        for item in pictures(archive, field):
            with tempfile.TemporaryFile() as picture:
                await asyncio.to_thread(extract, archive, item, picture, field)
                name = PurePosixPath(item.filename).name
                names.append(await place(picture, name, folders, client))
    return names


def digest_of(file: IO[bytes], target: IO[bytes] | None = None) -> str:
    """Return the SHA-256 of a file, and copy it. This blocks: call it in a thread."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()


def _copy(source: IO[bytes], folders: Folders, target: str, digest: str, mode: int) -> None:
    """Copy a file atomically, with its permissions: the target is complete or does not exist.

    The folders are opened without following links, and a link with the target's name is replaced.
    """
    folder = Path(os.path.realpath(folders.directory("input"))) / SUBFOLDER
    directory = folders.open_directory(folder, create=True)
    try:
        if _is_there(target, os.fstat(source.fileno()).st_size, directory):
            return
        part = f".part-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(part, flags, mode, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as written:
                if digest_of(source, written) != digest:
                    raise ConflictError(f"{target} changed while it was read; try again")
            os.rename(part, target, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(part, dir_fd=directory)
            raise
    finally:
        os.close(directory)


def _is_there(name: str, size: int, directory: int) -> bool:
    try:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size == size


def _input_folder(folders: Folders, need: FileNeed) -> Path:
    if folders.base is None:
        raise InvalidRequestError.of_field(
            f"inputs.{need.input_id}",
            "the value of this node is a path, and the folders of that ComfyUI are not known;"
            " set comfyui_path",
        )
    return folders.directory("input")


class PoolInputs:
    """Finds the input files that a graph names, and sends them to a machine.

    They are in the folder for uploads to pools, or in the input folder of a machine on this
    computer.
    """

    def __init__(self, machines: MachineRegistry, folder: Path) -> None:
        self._machines = machines
        self._folder = folder
        self._known: Folders | None = None
        self._digests: dict[tuple[int, ...], str] = {}  # by device, inode, size and times

    async def folders(self) -> Folders:
        """Return the folders for uploads to a pool; they are created if missing."""
        if self._known is None:
            await asyncio.to_thread((self._folder / "input").mkdir, parents=True, exist_ok=True)
            self._known = await asyncio.to_thread(Folders, self._folder)
        return self._known

    async def named(self, names: Collection[str], machine: Machine | None) -> dict[str, str]:
        """Return the SHA-256 of those names that are files, in the kept folder or a machine's."""
        if not names:
            return {}
        places = [await self.folders()]
        if machine is not None and machine.path is not None:
            places.append(await machine.folders())
        found = {}
        for name in sorted(names):
            for folders in await asyncio.to_thread(_having, name, places):
                found[name] = await asyncio.to_thread(self._digest, folders, name)
                break
        return found

    async def send(
        self, hashes: Mapping[str, str], prompt: bytes, machine: Machine, client: ComfyUIClient
    ) -> bytes:
        """Put the files of `named` into the input folder of a machine, unless they are there.

        Returns the graph with the names of the files on that machine. InputChangedError if a file
        has changed since; OSError if the input folder is here and does not take it;
        ComfyUIUnavailableError if the machine does not.
        """
        target = await machine.folders()
        renamed: dict[str, str] = {}
        for name, digest in hashes.items():
            source = await self._source(name, digest, prompt)
            if await asyncio.to_thread(_same_input, source, target):
                continue
            path = _path(source, name)
            with await open_in_thread(_open, source, path) as file:
                mode = stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) & PLAIN_MODE
                placed = await place(file, path.name, target, client, mode=mode)
            if f"{digest[:16]}" not in placed:
                raise await _changed(name, prompt)
            renamed[name] = placed
        if not renamed:
            return prompt
        return await worker.run(_renamed, prompt, renamed)

    async def _source(self, name: str, digest: str, prompt: bytes) -> Folders:
        """Return the folders on this computer that have an input file with a hash."""
        places = [await self.folders()]
        for machine in self._machines:
            if machine.path is not None:
                try:
                    places.append(await machine.folders())
                except ComfyDeployError:
                    continue
        having = await asyncio.to_thread(_having, name, places)
        for folders in having:
            if not digest or await asyncio.to_thread(self._digest, folders, name) == digest:
                return folders
        if having:
            raise await _changed(name, prompt)
        raise NotFoundError(f"The input file {name!r} of the run is not there any more")

    def _digest(self, folders: Folders, name: str) -> str:
        """Return the SHA-256 of an input file; it is computed once for a file that stays as it is.

        It is "" if the file cannot be read.
        """
        try:
            with _open(folders, _path(folders, name)) as file:
                facts = os.fstat(file.fileno())
                times = facts.st_mtime_ns, facts.st_ctime_ns
                known = facts.st_dev, facts.st_ino, facts.st_size, *times
                if known not in self._digests:
                    found = digest_of(file)
                    if time.time_ns() - facts.st_ctime_ns < STEADY_AFTER:
                        return found  # a change in the same moment would not be noticed
                    if len(self._digests) >= KEPT_DIGESTS:
                        self._digests.clear()
                    self._digests[known] = found
                return self._digests[known]
        except (ComfyDeployError, OSError):
            return ""


class InputChangedError(ConflictError):
    """An input file of a run has another content than when the run was queued."""


async def _changed(name: str, prompt: bytes) -> InputChangedError:
    """Return the error for an input file, with the inputs of the graph that name it."""
    where = await worker.run(_inputs_with, prompt, name)
    return InputChangedError(
        f"{where}: The input file {name!r} was changed while the run waited for a machine, so it"
        " was not executed. Start it again to use the new file",
        details={"file": name},
    )


def _inputs_with(prompt: bytes, value: str) -> str:
    """Return the names of the inputs of a graph with a value, such as ``1.image``."""
    graph: dict[str, Any] = loads(prompt)
    found = [
        f"{node_id}.{key}"
        for node_id, node in graph.items()
        for key, given in node.get("inputs", {}).items()
        if given == value
    ]
    return ", ".join(found)


def _having(name: str, places: list[Folders]) -> list[Folders]:
    return [folders for folders in places if _is_file(name, folders)]


def _path(folders: Folders, name: str) -> Path:
    return folders.directory("input") / name.removesuffix(" [input]")


def _is_file(name: str, folders: Folders) -> bool:
    if folders.base is None:
        return False
    root = folders.directory("input").resolve()
    try:
        path = (root / name.removesuffix(" [input]")).resolve()
        return path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _same_input(one: Folders, other: Folders) -> bool:
    if one.base is None or other.base is None:
        return False
    return one.directory("input").resolve() == other.directory("input").resolve()


def _open(folders: Folders, path: Path) -> IO[bytes]:
    return folders.open_for_read(folders.resolve(str(path)))


def _renamed(prompt: bytes, names: dict[str, str]) -> bytes:
    """Return a graph in which inputs have other file names."""
    graph: dict[str, Any] = loads(prompt)
    for node in graph.values():
        for key, value in node.get("inputs", {}).items():
            if isinstance(value, str) and value in names:
                node["inputs"][key] = names[value]
    return dumps(graph).encode()
