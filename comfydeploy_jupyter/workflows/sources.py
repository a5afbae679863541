"""Where workflows are: files of users, of ComfyUI and its editor, templates, and examples."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
)
from ..graphs.examples import examples
from ..graphs.metadata import WORKFLOW_SUFFIXES, embedded_workflow, is_workflow_file
from ..util import worker
from ..util.jsons import PROCESS_ABOVE
from ..util.system import closing_fd, rename_without_replacing
from ..util.worker import packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.folders import Folders
    from ..machines.machine import Machine
    from ..request_models import FileRequest

LEADING = 64  # bytes at the beginning of a file that show whether it is JSON
SPOOL = 16 * 1024 * 1024  # bytes of a file from ComfyUI that are kept in memory
MAX_FILES = 200
MAX_LOOKED_AT = 2000
MAX_SEARCH = 5.0  # seconds
MAX_DEPTH = 4
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})
EXAMPLES = "Examples"
WRITTEN = (".json", ".ipynb", ".py")


async def read_upload(content: bytes, field: str = "file") -> dict[str, Any]:
    """Call `read_file` without blocking the event loop; a large graph becomes `RawJSON`."""
    is_json = content[:LEADING].lstrip().startswith(b"{")
    if is_json and len(content) > PROCESS_ABOVE:
        return await worker.call(_packed_file, content, field)
    return await asyncio.to_thread(read_file, content, field)


def _packed_file(content: bytes, field: str) -> dict[str, Any]:
    return {name: packed(graph) for name, graph in read_file(content, field).items()}


def read_file(source: bytes | BinaryIO, field: str = "file") -> dict[str, Any]:
    """Return the graphs in an image, video, audio or JSON file, as fields of a request."""
    found = embedded_workflow(source, field=field)
    graphs = {"workflow": found["workflow"], "workflow_api": found["prompt"]}
    return {name: graph for name, graph in graphs.items() if graph is not None}


async def read_stored(request: FileRequest, machine: Machine) -> dict[str, Any]:
    """Return the graphs in a file whose name is in the request; see `read_file`.

    Without ``subfolder`` and ``type``, ``filename`` may also be any path relative to ComfyUI or to
    Jupyter's root directory.
    """
    name = request.filename
    assert name is not None
    if request.type == "example":
        found = examples((await machine.definitions()).nodes)
        graph = next((each.graph for each in found if each.title == name), None)
        if graph is None:
            raise NotFoundError.of_field("filename", f"there is no example {name!r}")
        return {"workflow_api": graph}
    if request.type == "editor":
        return await read_upload(await (await machine.ready()).read_workflow(name), "filename")
    if request.type == "template":
        return await read_upload(await (await machine.ready()).read_template(name), "filename")
    if request.type == "file":
        return await asyncio.to_thread(_read_within, await machine.folders(), name)
    parts = (request.type or "output", request.subfolder, name)
    names = ["/".join(filter(None, parts))]
    if not request.type and not request.subfolder:
        names.append(name)
    missing: ComfyDeployError | None = None
    try:
        if machine.path is None:
            await machine.ready()  # after this the address of its ComfyUI is known
        if machine.path is None:
            return await _read_remote(await machine.ready(), names[-1])
    except (NotFoundError, ComfyUIUnavailableError) as error:
        missing = error
    folders = await machine.folders()
    for each in names:
        try:
            return await asyncio.to_thread(_read_within, folders, each)
        except NotFoundError as error:
            missing = missing or error
    assert missing is not None
    raise missing


async def _read_remote(client: ComfyUIClient, name: str) -> dict[str, Any]:
    """Read a file from ComfyUI's API; the name may begin with its folder."""
    *folder, filename = name.split("/")
    kind = folder.pop(0) if folder and folder[0] in ("output", "input", "temp") else "output"
    query = {"filename": filename, "subfolder": "/".join(folder), "type": kind}
    with tempfile.SpooledTemporaryFile(SPOOL) as file:
        stream = cast("BinaryIO", file)
        await client.fetch(query, stream)
        return await asyncio.to_thread(read_file, stream, "filename")


def _read_within(folders: Folders, name: str) -> dict[str, Any]:
    with folders.open_for_read(folders.resolve(name)) as file:
        return read_file(file, "filename")


async def templates(machine: Machine) -> list[dict[str, Any]]:
    """Return the examples that a ComfyUI can run, and its templates."""
    theirs = await (await machine.ready()).list_templates()
    found = [
        {"type": "example", "filename": each.title, "title": each.title, "group": EXAMPLES}
        for each in examples((await machine.definitions()).nodes)
    ]
    return [
        {"description": "", **each}
        for each in [*found, *({"type": "template", **t} for t in theirs)]
    ]


async def files(machine: Machine, folder: str) -> list[dict[str, Any]]:
    """Return the workflow files in a folder that the routes may access, and in its subfolders."""
    found = await machine.folders()
    if not folder.startswith("/"):
        folder = f"{found.jupyter_root or ''}/{folder}"
    path = await asyncio.to_thread(found.resolve, folder, kind="directory", field="folder")
    return await worker.call(_files_in, path)


def write_file(folders: Folders, name: str, text: str, *, replace: bool) -> Path:
    """Write a file below Jupyter's root; return its path. It is there completely or not at all."""
    root = folders.jupyter_root
    if root is None:
        raise ForbiddenPathError("This server has no folder for files.")
    path = folders.resolve(str(root / name), must_exist=False, field="path")
    if not path.is_relative_to(os.path.realpath(root)):
        raise ForbiddenPathError.of_field("path", "must be below Jupyter's root")
    if path.suffix.lower() not in WRITTEN:
        raise InvalidRequestError.of_field("path", f"must end with {', '.join(WRITTEN)}")
    part = f".{uuid.uuid4().hex}.part"
    with closing_fd(folders.open_directory(path.parent)) as folder:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(part, flags, 0o666, dir_fd=folder), "wb") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                rename_without_replacing(part, folder, path.name, folder, target=path)
        except FileExistsError:
            text = f"{path.name} exists already; choose another name, or replace it"
            raise ConflictError.of_field("path", text) from None
        finally:
            with suppress(OSError):
                os.unlink(part, dir_fd=folder)
    return path


def _files_in(directory: Path) -> list[dict[str, Any]]:
    return [
        {"filename": str(path), "title": path.relative_to(directory).as_posix()}
        for path in workflow_files(directory)
    ]


def workflow_files(directory: Path) -> Iterator[Path]:
    """Yield the paths of workflow files in a folder and its subfolders."""
    count = looked_at = 0
    until = time.monotonic() + MAX_SEARCH
    for folder, folders, names in os.walk(directory):
        depth = len(Path(folder).relative_to(directory).parts)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in SKIPPED_FOLDERS and depth < MAX_DEPTH
        )
        for name in sorted(names):
            if name.startswith(".") or not name.lower().endswith(WORKFLOW_SUFFIXES):
                continue
            path = Path(folder, name)
            looked_at += 1
            if is_workflow_file(path):
                yield path
                count += 1
            if count >= MAX_FILES or looked_at >= MAX_LOOKED_AT or time.monotonic() > until:
                return
