"""Bring the files that a graph's external inputs name to where ComfyUI's loaders find them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import io
import os
import re
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiohttp

from ..answers import reason_of
from ..errors import InvalidRequestError, NotFoundError
from ..secrets import clean_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.folders import Folders
    from ..graphs.external import FileNeed
    from ..machines.machine import Machine

SUBFOLDER = "comfydeploy"  # of ComfyUI's input/
MAX_BYTES = 4 * 1024**3  # of one file
MAX_ZIP_IMAGES = 1000
MAX_ZIP_DIRECTORY = 16 * 1024**2  # bytes of the list of what is in an archive
CHUNK = 1024 * 1024
DOWNLOAD_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PATH_KINDS = ("video_path", "file")


async def bring_files(needs: Iterable[FileNeed], machine: Machine) -> dict[str, str | list[str]]:
    """Bring each needed file into ComfyUI's ``input/`` and return what the loaders are given.

    Parameters
    ----------
    needs : iterable of FileNeed
        URLs, ``data:`` URLs, paths that the routes may read, or names in ``input/``.
    machine : Machine
        Where the run will go.

    Returns
    -------
    dict
        Node id -> name in ``input/``, a list of names for an image batch, an absolute path where
        the node stands for a path.

    Raises
    ------
    InvalidRequestError, NotFoundError, ForbiddenPathError
        If a file cannot be had; names the input.
    """
    client = await machine.ready()
    folders = await machine.folders()
    placed: dict[str, str | list[str]] = {}
    for need in needs:
        names: list[str] = []
        for source in need.sources:
            names += await _bring(source, need, folders, client)
        if need.kind in PATH_KINDS:
            names = [str(_input_folder(folders, need) / name) for name in names]
        placed[need.node_id] = names if need.kind == "image_batch" else names[0]
    return placed


async def _bring(source: str, need: FileNeed, folders: Folders, client: ComfyUIClient) -> list[str]:
    field = f"inputs.{need.input_id}"
    if source.startswith(("http://", "https://")):
        with _temporary_file() as path:
            await _download(source, path, field)
            name = PurePosixPath(unquote(urlsplit(source).path)).name or "download"
            if need.kind == "image_batch" and zipfile.is_zipfile(path):
                return await _place_unzipped(path, field, folders, client)
            return [await _place(path, name, folders, client)]
    if source.startswith("data:"):
        data, suffix = await asyncio.to_thread(_decode, source, field)
        return [await _place_bytes(data, f"image{suffix}", folders, client)]
    return [await _place_named(source, field, folders, client)]


async def _place_named(name: str, field: str, folders: Folders, client: ComfyUIClient) -> str:
    """Return the loader's name for a file that the user named; bring it in if it is elsewhere."""
    plain = re.sub(r" \[(input|output|temp)\]$", "", name)
    try:
        path = await asyncio.to_thread(folders.resolve, plain, field=field)
    except NotFoundError:
        if folders.base is None and not os.path.isabs(name):  # noqa: PTH117 - only text is looked at
            return name  # ComfyUI is elsewhere and may well have it; it says so if not
        raise
    if folders.base is not None:
        for kind in ("input", "output", "temp"):
            root = folders.directory(kind).resolve()
            if path.is_relative_to(root):
                inside = path.relative_to(root).as_posix()
                return inside if kind == "input" else f"{inside} [{kind}]"
    return await _place(path, path.name, folders, client)


async def _place_bytes(data: bytes, name: str, folders: Folders, client: ComfyUIClient) -> str:
    with _temporary_file() as path:
        await asyncio.to_thread(path.write_bytes, data)
        return await _place(path, name, folders, client)


async def _place(path: Path, name: str, folders: Folders, client: ComfyUIClient) -> str:
    """Put a file under ``input/`` by a name made of its content, so that it is there only once."""
    digest = await asyncio.to_thread(_digest, path)
    safe = re.sub(r"[^\w.-]+", "_", name)[-80:].lstrip(".") or "file"
    target = f"{digest[:16]}-{safe}"
    if folders.base is None:
        stored, subfolder = await client.upload(path, target, subfolder=SUBFOLDER)
        return f"{subfolder}/{stored}" if subfolder else stored
    folder = folders.directory("input") / SUBFOLDER
    await asyncio.to_thread(_copy, path, folder / target)
    return f"{SUBFOLDER}/{target}"


async def _download(url: str, path: Path, field: str) -> None:
    size = 0
    told = clean_url(url)
    try:
        async with (
            aiohttp.ClientSession(timeout=DOWNLOAD_TIMEOUT) as session,
            session.get(url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status >= 400:
                raise InvalidRequestError.of_field(field, f"{told} answered {answer.status}")
            with path.open("wb") as file:
                async for chunk in answer.content.iter_chunked(CHUNK):
                    size += len(chunk)
                    if size > MAX_BYTES:
                        raise InvalidRequestError.of_field(field, f"{told} is larger than 4 GiB")
                    await asyncio.to_thread(file.write, chunk)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as fault:
        reason = reason_of(fault)
        raise InvalidRequestError.of_field(field, f"{told} cannot be fetched: {reason}") from None


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
    path: Path, field: str, folders: Folders, client: ComfyUIClient
) -> list[str]:
    """Place the pictures of an archive, one after the other; return the loader's names."""
    names = []
    try:
        archive = await asyncio.to_thread(_open_archive, path, field)
        with archive:
            for item in _pictures(archive, field):
                with _temporary_file() as picture:
                    await asyncio.to_thread(_extract, archive, item, picture)
                    name = PurePosixPath(item.filename).name
                    names.append(await _place(picture, name, folders, client))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as fault:
        raise InvalidRequestError.of_field(field, f"the archive is broken: {fault}") from fault
    return names


def _open_archive(path: Path, field: str) -> zipfile.ZipFile:
    """Open an archive whose list is short: all of that is read at once.

    Where it ends, an archive tells how long its list is (PKWARE's APPNOTE, 4.3.16); larger ones
    than are taken here tell it in the records of ZIP64 before that.
    """
    with path.open("rb") as file:
        file.seek(-min(file.seek(0, os.SEEK_END), 22 + 0xFFFF + 20), os.SEEK_END)
        before, _, end = file.read().rpartition(b"PK\x05\x06")
    size = int.from_bytes(end[8:12], "little")
    if size > MAX_ZIP_DIRECTORY or before[-20:].startswith(b"PK\x06\x07"):
        raise InvalidRequestError.of_field(field, "the archive holds too much")
    return zipfile.ZipFile(path)


def _pictures(archive: zipfile.ZipFile, field: str) -> list[zipfile.ZipInfo]:
    found = [item for item in archive.infolist() if item.filename.lower().endswith(IMAGE_SUFFIXES)]
    if len(found) > MAX_ZIP_IMAGES or sum(item.file_size for item in found) > MAX_BYTES:
        raise InvalidRequestError.of_field(field, "the archive holds too much")
    return found


def _extract(archive: zipfile.ZipFile, item: zipfile.ZipInfo, target: Path) -> None:
    """Write a picture, no more of it than the archive says: what it says has been counted."""
    left = item.file_size
    with archive.open(item) as read, target.open("wb") as write:
        while left and (chunk := read.read(min(CHUNK, left))):
            write.write(chunk)
            left -= len(chunk)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while count := file.readinto(view):
            digest.update(view[:count])
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that under its name there is all of it or nothing."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with source.open("rb") as read, io.FileIO(descriptor, "wb") as write:
            while chunk := read.read(CHUNK):
                write.write(chunk)
        Path(beside).chmod(0o644)
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _input_folder(folders: Folders, need: FileNeed) -> Path:
    if folders.base is None:
        raise InvalidRequestError.of_field(
            f"inputs.{need.input_id}",
            "this node gives a path, and the folders of that ComfyUI are not known;"
            " set comfyui_path",
        )
    return folders.directory("input")


@contextlib.contextmanager
def _temporary_file() -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(prefix="comfydeploy-")
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
