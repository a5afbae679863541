"""Fetch the files that a graph's external inputs name into folders that ComfyUI's loaders read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import re
import secrets
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiohttp

from ..errors import ConflictError, InvalidRequestError, NotFoundError
from ..util.fetch_policy import ALLOWED, FetchPolicy
from ..util.responses import reason_of
from ..util.secrets import clean_url
from ..util.sessions import new_session
from ..util.tasks import open_in_thread
from .archives import extract, open_archive, pictures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.folders import Folders
    from ..graphs.inline_external import FileNeed

SUBFOLDER = "comfydeploy"  # a subfolder of ComfyUI's input/
MAX_BYTES = 4 * 1024**3  # of a single file
CHUNK = 1024 * 1024
PLAIN_MODE = 0o666  # mode of files that are new on this machine, before the umask
SILENCE = 60.0  # seconds that may pass between two chunks of a download
PATH_KINDS = ("video_path", "file")


async def fetch_input_files(
    needs: Iterable[FileNeed],
    client: ComfyUIClient,
    folders: Folders,
    fetching: FetchPolicy = ALLOWED,
) -> dict[str, str | list[str]]:
    """Put each file into ComfyUI's ``input/`` and return the values for the loaders.

    Parameters
    ----------
    needs : iterable of FileNeed
        URLs, ``data:`` URLs, paths that the routes may read, or names in ``input/``.
    client : ComfyUIClient
        The ComfyUI that the run will be sent to.
    folders : Folders
        The folders of that ComfyUI, if they are on this machine.
    fetching : FetchPolicy
        Whether URLs may be fetched.

    Returns
    -------
    dict
        Node id -> name in ``input/``, a list of names for an image batch, or an absolute path for
        a node whose value is a path.

    Raises
    ------
    InvalidRequestError, NotFoundError, ForbiddenPathError
        If a file cannot be read or fetched; the error names the input.
    OfflineError
        If a file would have to be fetched, but fetching is disabled; then nothing was fetched.
    """
    needs = list(needs)
    for need in needs:
        if any(is_url(source) for source in need.sources):
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
    if is_url(source):
        with _temporary_file() as file:
            await _download(source, file, field)
            name = PurePosixPath(unquote(urlsplit(source).path)).name or "download"
            if need.kind == "image_batch" and await asyncio.to_thread(zipfile.is_zipfile, file):
                return await _place_unzipped(file, field, folders, client)
            return [await place(file, name, folders, client)]
    if source.startswith("data:"):
        data, suffix = await asyncio.to_thread(_decode, source, field)
        return [await _place_bytes(data, f"image{suffix}", folders, client)]
    return [await _place_named(source, field, folders, client)]


def is_url(source: str) -> bool:
    """Return whether the source of an input has to be fetched."""
    return source.startswith(("http://", "https://"))


async def _place_named(name: str, field: str, folders: Folders, client: ComfyUIClient) -> str:
    """Return the loader's name for a file that the user named; copy the file if necessary."""
    plain = re.sub(r" \[(input|output|temp)\]$", "", name)
    try:
        path = await asyncio.to_thread(folders.resolve, plain, field=field)
    except NotFoundError:
        if folders.base is None and not os.path.isabs(name):  # noqa: PTH117 - only text is looked at
            return name  # ComfyUI is elsewhere and may have the file; else it reports an error
        problem = f"{name} is not in the input folder of this ComfyUI"
        raise NotFoundError(f"{field}: {problem}", details={"field": field}) from None
    if folders.base is not None:
        for kind in ("input", "output", "temp"):
            root = folders.directory(kind).resolve()
            if path.is_relative_to(root):
                inside = path.relative_to(root).as_posix()
                return inside if kind == "input" else f"{inside} [{kind}]"
    with await open_in_thread(folders.open_for_read, path) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & PLAIN_MODE
        return await place(file, path.name, folders, client, mode=mode)


async def _place_bytes(data: bytes, name: str, folders: Folders, client: ComfyUIClient) -> str:
    with _temporary_file() as file:
        await asyncio.to_thread(file.write, data)
        return await place(file, name, folders, client)


async def place(
    file: IO[bytes], name: str, folders: Folders, client: ComfyUIClient, *, mode: int = PLAIN_MODE
) -> str:
    """Put a file under ``input/`` by a name derived from its content, so that it is stored once.

    Parameters
    ----------
    file : binary file
        The file, passed open, because its path might lead to another file by now.
    name : str
        Its name.
    folders : Folders
        The folders of the ComfyUI, if they are on this machine.
    client : ComfyUIClient
        The ComfyUI, which gets the file otherwise.
    mode : int
        The permissions of the copy.

    Returns
    -------
    str
        The name for a loader.
    """
    digest = await asyncio.to_thread(digest_of, file)
    safe = re.sub(r"[^\w.-]+", "_", name)[-80:].lstrip(".") or "file"
    target = f"{digest[:16]}-{safe}"
    if folders.base is None:
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
            new_session(silence=SILENCE) as session,
            session.get(url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status >= 400:
                raise InvalidRequestError.of_field(field, f"{address} answered {answer.status}")
            async for chunk in answer.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise InvalidRequestError.of_field(field, f"{address} is larger than 4 GiB")
                await asyncio.to_thread(file.write, chunk)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as fault:
        reason = reason_of(fault)
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
            with _temporary_file() as picture:
                await asyncio.to_thread(extract, archive, item, picture, field)
                name = PurePosixPath(item.filename).name
                names.append(await place(picture, name, folders, client))
    return names


def digest_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of a file. This blocks: call it in a thread."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
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
                if _write(source, written) != digest:
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


def _write(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy all bytes of a file; return its SHA-256."""
    digest = hashlib.sha256()
    source.seek(0)
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _input_folder(folders: Folders, need: FileNeed) -> Path:
    if folders.base is None:
        raise InvalidRequestError.of_field(
            f"inputs.{need.input_id}",
            "the value of this node is a path, and the folders of that ComfyUI are not known;"
            " set comfyui_path",
        )
    return folders.directory("input")


def _temporary_file() -> IO[bytes]:
    """Return a file without a name, which nothing else can open; closing it deletes it."""
    return tempfile.TemporaryFile()
