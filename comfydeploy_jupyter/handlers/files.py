"""Files of ComfyUI, and its models: show, list, hash and upload them."""

from __future__ import annotations

import asyncio
import io
import os
import re
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NamedTuple
from urllib.parse import quote, urlencode

from pydantic import Field
from tornado import web
from tornado.iostream import StreamClosedError

from .. import metrics
from .. import request_models as fields
from ..errors import (
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
)
from ..files import models, uploads
from ..files.pictures import MAX_PICTURE
from ..request_models import Keyed, MachineQuery, optional, parse, required
from ..util import http, worker
from ..util.media_types import media_type
from . import route
from .base import ANY_SIZE, Handler, passed_header
from .route import BINARY, CLOUD, FILES, MACHINE, Content, Header, Large, Link, ReplyModel, Success
from .streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from ..comfyui.client import ComfyUIClient
    from ..files.uploads import StoredFile, Upload, UploadTarget


CHUNK = 256 * 1024  # bytes read at once
# The types that a browser may show in Jupyter's origin: they cannot run scripts.
INLINE = re.compile(r"(image/(?!svg)|video/|audio/|text/plain$)")
PASSED_ON = ("If-None-Match", "If-Modified-Since")
PASSED_BACK = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified")
_RANGES = (
    Header("Range", "The requested bytes; several ranges are ignored.", "bytes=0-99"),
    Header("If-Range", "Use the range only if the file has this ETag or date.", '"17-2a"'),
    Header("If-None-Match", "304 if the file still has this ETag.", '"17-2a"'),
    Header(
        "If-Modified-Since",
        "304 if the file was not changed after this time.",
        "Mon, 01 Jan 2024 00:00:00 GMT",
    ),
)
_FILE = Content("*/*", BINARY)
_UNCHANGED = "The file is the same as that of the client."


class ViewQuery(MachineQuery):
    """Query of ``GET view``; the names are those of ComfyUI's outputs."""

    filename: Annotated[str, Field(min_length=1, max_length=1024)] = required(
        "The name of a file.", "example_00001_.png"
    )
    subfolder: Annotated[str, Field(max_length=4096)] = optional(
        "The folder of the file below that of its type.", "", default=""
    )
    type: Literal["output", "input", "temp"] = optional(
        "Which of ComfyUI's folders the file is in.", "output", default="output"
    )
    thumbnail: Annotated[int, Field(ge=16, le=1024)] | None = optional(
        "The longer side of a small copy of a picture, in pixels.", 256
    )
    preview: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")] | None = optional(
        "With `thumbnail`: the asset of ComfyUI that shows the file, the `preview_id` of an output."
        " The copy is one of this asset.",
        "b0f3c1d2-6c1e-4f27-9a51-0d1c0f1e2a3b",
    )
    opaque: bool = optional(
        "Whether to send a picture upright and without its transparency, as PNG: the colours that"
        " `LoadImage` reads, also where a mask hides them. Not together with `thumbnail`.",
        False,
        default=False,
    )


# -- conditions and ranges, as RFC 9110 defines them ---------------------------------------------

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.IGNORECASE | re.ASCII)
_MAX_NUMBER = 10**18  # bytes; larger numbers in ranges are replaced by it, as no file is so large
OUTSIDE = 416


class Range(NamedTuple):
    """A requested range of bytes, ``bytes=first-last``."""

    first: int | None  # None: the range is the last `last` bytes of the file
    last: int | None  # None: all bytes from `first` on

    def __str__(self) -> str:
        first, last = ("" if number is None else str(number) for number in self)
        return f"bytes={first}-{last}"

    def of(self, size: int) -> tuple[int, int]:
        """Return start and end of the range in a file of this size; 416 if it is outside."""
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start, end = self.first, size if self.last is None else min(self.last + 1, size)
        if start >= end:
            raise outside(size)
        return start, end


def outside(size: int | None) -> InvalidRequestError:
    of_what = "file" if size is None else f"file's {size} bytes"
    error = InvalidRequestError.of_field("Range", f"is outside the {of_what}")
    error.status = OUTSIDE
    error.details["size"] = size
    return error


def asked_range(headers: Mapping[str, str]) -> Range | None:
    """Return the range that a request asks for, or None.

    Ranges in other units, several ranges, and malformed ones are ignored.
    """
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = (_number(text) if text else None for text in found.groups())
    if last is not None and last < (first if first is not None else 1):
        return None
    return Range(first, last)


def _number(digits: str) -> int:
    """Return a number of any length, at most `_MAX_NUMBER`; Python's ``int`` reads 4300 digits."""
    digits = digits.lstrip("0")
    return _MAX_NUMBER if len(digits) > 18 else int(digits or "0")


def range_fits(headers: Mapping[str, str], etag: str | None, last_modified: str | None) -> bool:
    """Return whether ``If-Range`` allows sending a range of this version of a file."""
    condition = headers.get("If-Range", "").strip()
    if not condition:
        return True
    if condition.endswith('"'):
        return condition == etag and not condition.startswith("W/")
    asked = _seconds(condition)
    return asked is not None and asked == _seconds(last_modified or "")


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# -- the route ------------------------------------------------------------------------------------


class ViewHandler(Handler):
    """``GET view``: a file from the disk if ComfyUI's folders are known, else from its API."""

    tag = "Files"

    @route.get("view", "viewFile")
    @route.takes(headers=_RANGES)
    @route.replies(_FILE, "The file.")
    @route.replies(_FILE, "The requested range of the file.", status=206)
    @route.replies(None, _UNCHANGED, status=304)
    @route.errors(*FILES, (416, InvalidRequestError))
    async def view_file(self, query: ViewQuery) -> None:
        """An output or input file.

        Pictures, sounds, videos and plain text are sent with their type; all other files as
        application/octet-stream.
        """
        if "/" in query.filename or "\\" in query.filename or "\0" in query.filename:
            raise InvalidRequestError.of_field("filename", "must be a name without folders")
        file = await self.services.kept_outputs.open_file(
            query.machine, query.type, query.subfolder, query.filename
        )
        self.set_file_headers(query.filename)
        await self.send_content(file, query)

    @route.mount("HEAD", "view", "headFile")
    @route.takes(headers=_RANGES)
    @route.replies(None, "The file.")
    @route.replies(None, "The requested range of the file.", status=206)
    @route.replies(None, _UNCHANGED, status=304)
    @route.errors(*FILES, (416, InvalidRequestError))
    async def head_file(self, query: ViewQuery) -> None:
        """The size and the version of an output or input file."""
        await self.view_file(query)

    async def send_content(self, file: io.FileIO | None, query: ViewQuery) -> None:
        """Send an open file of this machine, or the file of another machine that a query names."""
        try:
            if query.thumbnail is not None or query.opaque:
                await self._send_copy(file, query)
            elif file is not None:
                await self._send_file(file)
            else:
                machine = self.services.machines.get(query.machine)
                await self._send_on(await machine.ready(), query)
        except StreamClosedError:
            self.log.debug(
                "A client closed its connection before it had received all of %r", query.filename
            )
        except ComfyUIUnavailableError as exc:
            if not self.has_begun:
                raise
            self.log.warning("%s", exc.message)
            self.detach().close()  # shows the client that the file is not complete

    def set_file_headers(self, filename: str, content_type: str | None = None) -> None:
        """Set headers with which the file cannot act as a page of Jupyter.

        Without a media type, that of the file name is used.
        """
        found = (content_type or media_type(filename) or "").lower()
        inline = INLINE.match(found) is not None
        self._type = found if inline else "application/octet-stream"
        kind = "inline" if inline else "attachment"
        self.set_header("Content-Disposition", f"{kind}; filename*=UTF-8''{quote(filename)}")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cache-Control", "private, no-cache")

    async def _send_copy(self, file: io.FileIO | None, query: ViewQuery) -> None:
        side = query.thumbnail
        self._type = "image/png" if side is None else "image/webp"
        self.set_header("Content-Type", self._type)
        self.set_header("Content-Disposition", "inline")
        source: BinaryIO
        is_asset = query.preview is not None and side is not None
        if file is not None and is_asset:
            await asyncio.to_thread(file.close)
        if file is None or is_asset:
            machine = self.services.machines.get(query.machine)
            source = io.BytesIO(await self._fetch(await machine.ready(), query))
        else:
            self.set_header("ETag", _etag(file, f"-{side or 'opaque'}"))
            if self._is_unchanged():
                await asyncio.to_thread(file.close)
                await self._finish_unchanged()
                return
            source = io.BufferedReader(file)
        try:
            thumbnails = self.services.thumbnails
            if side is None:
                content = await thumbnails.make_opaque(source)
            else:
                content = await thumbnails.make(source, side)
        finally:
            await asyncio.to_thread(source.close)
        await self.finish(content, set_content_type=self._type)

    async def _fetch(self, client: ComfyUIClient, query: ViewQuery) -> bytes:
        if query.preview is None or query.thumbnail is None:
            viewing = client.view(_address(query), {})
        else:
            viewing = client.view({}, {}, path=f"/api/assets/{query.preview}/content")
        async with viewing as answer:
            _check(client, answer.status, query)
            content, is_whole = await http.read(answer, MAX_PICTURE)
            if not is_whole:
                text = f"the picture {query.filename!r} is too large for a copy"
                raise InvalidRequestError.of_field("thumbnail", text)
        return content

    async def _send_file(self, file: io.FileIO) -> None:
        try:
            facts = os.fstat(file.fileno())
            etag = _etag(file)
            self.set_header("Content-Type", self._type)
            self.set_header("ETag", etag)
            modified = formatdate(facts.st_mtime, usegmt=True)
            self.set_header("Last-Modified", modified)
            self.set_header("Accept-Ranges", "bytes")
            if self._is_unchanged(modified):
                await self._finish_unchanged()
                return
            start, end = 0, facts.st_size
            if range_fits(self.request.headers, etag, modified):
                start, end = self.begin_range(facts.st_size)
            self.set_header("Content-Length", str(end - start))
            if self.request.method != "HEAD":
                await self._copy(file, start, end)
            await self.finish(set_content_type=self._type)
        finally:
            await asyncio.to_thread(file.close)

    def begin_range(self, size: int) -> tuple[int, int]:
        """Return start and end of the bytes that the client wants; for a range, set its headers."""
        asked = asked_range(self.request.headers)
        if asked is None:
            return 0, size
        start, end = asked.of(size)
        self.set_status(206)
        self.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        return start, end

    def _is_unchanged(self, modified: str = "") -> bool:
        """Return whether the client has the version with the present ``ETag`` already.

        ``If-None-Match`` decides if it is present, else ``If-Modified-Since``.
        """
        if self.request.headers.get("If-None-Match", "").strip():
            return self.check_etag_header()
        since, time = (
            _seconds(self.request.headers.get("If-Modified-Since", "")),
            _seconds(modified),
        )
        return since is not None and time is not None and time <= since

    async def _finish_unchanged(self) -> None:
        self.set_status(304)
        await self.finish(set_content_type=self._type)

    async def _copy(self, file: io.FileIO, start: int, end: int) -> None:
        file.seek(start)
        while start < end:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, end - start))
            if not chunk:
                raise NotFoundError("The file became shorter while it was read")
            start += len(chunk)
            self.write(chunk)
            await self.flush()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Add the size of the file to the error for a range outside of it."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, InvalidRequestError) and error.status == OUTSIDE:
            size = error.details["size"]
            self.set_header("Content-Range", f"bytes */{'*' if size is None else size}")
        super().write_error(status_code, **kwargs)

    async def _send_on(self, client: ComfyUIClient, query: ViewQuery) -> None:
        asked = _address(query)
        given = self.request.headers
        headers = {name: given[name] for name in PASSED_ON if name in given}
        # ComfyUI rejects ranges that must be ignored, and accepts any ETag in If-Range.
        wanted = asked_range(given)
        if wanted is not None:
            async with client.view(asked, {**headers, "Range": str(wanted)}) as answer:
                tags = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
                if answer.status not in (206, OUTSIDE) or range_fits(given, *tags):
                    await self._pass_back(client, answer, query)
                    return
        async with client.view(asked, headers) as answer:
            await self._pass_back(client, answer, query)

    async def _pass_back(
        self, client: ComfyUIClient, answer: aiohttp.ClientResponse, query: ViewQuery
    ) -> None:
        if answer.status == OUTSIDE:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
            raise outside(int(size) if size.isdecimal() else None)
        _check(client, answer.status, query)
        self.set_status(answer.status)
        for name in PASSED_BACK:
            if name in answer.headers:
                self.set_header(name, passed_header(answer.headers[name]))
        self.set_header("Content-Type", self._type)
        if self.request.method != "HEAD":
            async for chunk in answer.content.iter_chunked(CHUNK):
                self.write(chunk)
                await self.flush()
        await self.finish(set_content_type=self._type)


def _address(query: ViewQuery) -> dict[str, str]:
    return {"filename": query.filename, "subfolder": query.subfolder, "type": query.type}


def _check(client: ComfyUIClient, status: int, query: ViewQuery) -> None:
    """Raise the error for the status of ComfyUI's response, if it is an error."""
    if status in (400, 403, 404):
        name = f"{query.subfolder}/{query.filename}" if query.subfolder else query.filename
        if query.preview is not None and query.thumbnail is not None:
            text = f"this ComfyUI has no asset {query.preview} that shows {name}"
            raise NotFoundError.of_field("preview", text)
        raise NotFoundError(
            f"{name} is not in the {query.type} folder of this ComfyUI",
            details={"field": "filename"},
        )
    if status >= 300 and status != 304:
        raise client.unavailable(f"it answered {status} to the request for {query.filename!r}")


def _etag(file: io.FileIO, more: str = "") -> str:
    facts = os.fstat(file.fileno())
    return f'"{facts.st_mtime_ns:x}-{facts.st_size:x}{more}"'


class ListQuery(MachineQuery):
    format: Literal["flat", "folders"] = optional(
        "`folders`: by folder, in the form of the ComfyUI node.", "flat", default="flat"
    )


class ModelsQuery(ListQuery):
    folder: str | None = optional("A folder of models.", "checkpoints", max_length=255)
    search: fields.SearchField = ""


class ModelUsesQuery(MachineQuery):
    folder: Annotated[str, Field(min_length=1, max_length=4096)] = required(
        "The models folder of the model.", "checkpoints"
    )
    filename: Annotated[str, Field(min_length=1, max_length=4096)] = required(
        "Its name in this folder.", "b.safetensors"
    )


class ModelPreviewQuery(ModelUsesQuery):
    thumbnail: Annotated[int, Field(ge=16, le=1024)] = optional(
        "The longer side of the copy, in pixels.", 128, default=256
    )


class FileQuery(MachineQuery):
    """Query of ``GET get-file-hash``; ``file_path`` is the name of the ComfyUI node."""

    filename: str | None = optional(
        "A name relative to ComfyUI or to Jupyter's root.", "input/a.png"
    )
    file_path: str | None = optional("Another name for `filename`.", "input/a.png")


class StatQuery(MachineQuery):
    path: str | None = optional("A path; by default the models folder.", "models")


class SendFileRequest(Keyed):
    """The JSON body of ``POST upload-file``, as clients of the ComfyUI node send it."""

    file_path: str = required("A file on this machine.", "output/example_00001_.png", min_length=1)
    url: fields.Endpoint = required(
        "ComfyDeploy's address that returns the upload address of the file.",
        "https://api.comfydeploy.com/api/file-upload",
    )
    machine: fields.MachineField = None


SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class ModelEntry(ReplyModel):
    """A model file; size and time are null if only ComfyUI's API lists it."""

    name: str = Field(examples=["a.safetensors"])
    folder: str = Field(examples=["checkpoints"])
    path: str = Field(examples=["/home/ada/ComfyUI/models/checkpoints/a.safetensors"])
    size: int | None = required("In bytes.", 2132625894)
    modified: float | None = required("When it was changed, in seconds since 1970.", 1763976600.5)
    preview: bool | None = required(
        "Whether a picture of the same name lies beside it; null if that is not known.", True
    )


class WorkflowUse(ReplyModel):
    """A stored workflow that names a model."""

    workflow_id: str = Field(examples=[fields.WORKFLOW_ID])
    name: str = Field(examples=["sunset"])
    versions: list[int] = required("The versions that name it, oldest first.", [1, 2])


class RunUse(ReplyModel):
    """A run that names a model."""

    prompt_id: str = Field(examples=[fields.RUN_ID])
    machine: str = Field(examples=["local"])
    status: str = Field(examples=["success"])
    created_at: str = Field(examples=["2025-11-24T10:30:00+00:00"])


class TransferUse(ReplyModel):
    """A transfer of a model that has not ended."""

    id: str = Field(examples=[fields.TRANSFER_ID])
    direction: Literal["up", "down"]
    state: str = Field(examples=["active"])


class ModelUses(ReplyModel):
    """What uses a model, on all machines whose model folders contain it."""

    folder: str = Field(examples=["checkpoints"])
    name: str = Field(examples=["b.safetensors"])
    path: str = Field(examples=["/home/ada/ComfyUI/models/checkpoints/b.safetensors"])
    in_use: bool = required(
        "Whether a run that has not ended, a prompt in ComfyUI's queue or a transfer uses it now,"
        " as far as is known: see `queued`.",
        False,
    )
    workflows: list[WorkflowUse] = required("The stored workflows that name it.")
    runs: list[RunUse] = required(
        "The first 20 runs that name it: those that have not ended, then the newest of the last"
        " 1,000 others."
    )
    run_count: int = required("Number of all of these runs.", 1)
    unfinished: int = required("How many of them have not ended.", 0)
    queued: bool | None = required(
        "Whether a prompt in ComfyUI's queue, of any client, names it; null if that is not known,"
        " because a ComfyUI does not answer.",
        False,
    )
    transfers: list[TransferUse] = required("The transfers that have not ended.")


class FilenameLists(ReplyModel):
    """The names of model files by folder."""

    filename_list: dict[str, list[str]]


class FileHash(ReplyModel):
    """The hash of a file."""

    filename: str = Field(examples=["input/a.txt"])
    file_hash: str = Field(examples=[SHA256])
    algorithm: Literal["sha256"]
    size: int = required("In bytes.", 5)
    cached: bool = required(
        "Whether the hash is from the cache, so that the file was not read.", True
    )


class FileSystem(ReplyModel):
    """A file system, in bytes."""

    total: int = Field(examples=[500000000000])
    used: int = Field(examples=[200000000000])
    free: int = Field(examples=[300000000000])


class FileStat(ReplyModel):
    """One path and its file system."""

    path: str = Field(examples=["/home/ada/ComfyUI/models"])
    type: Literal["file", "directory"] = Field(examples=["directory"])
    size: int = required("In bytes.", 4096)
    modified: float = required("When it was changed, in seconds since 1970.", 1763976600.5)
    filesystem: FileSystem


class UploadedFile(ReplyModel):
    """An uploaded file, with the name under which it is stored."""

    filename: str = Field(examples=["a.txt"])
    name: str = required("The same as `filename`.", "a.txt")
    subfolder: str = Field(examples=[""])
    type: str = Field(examples=["input"])
    size: int = required("In bytes.", 5)
    content_type: str = Field(examples=["text/plain"])
    file_hash: str = required("The SHA-256 of the content.", SHA256)
    reused: bool = required("Whether a file with this name and content existed.", False)
    url: str | None = required(
        "Its address below `view`; null for models.",
        "/comfyui-deploy/view?filename=a.txt&subfolder=&type=input",
    )


class UploadReply(UploadedFile, Success):
    """The first uploaded file; if there are several, also a list of all."""

    files: list[UploadedFile] = Field(default_factory=list)


class SentFile(Success):
    """A file of this machine that was sent to ComfyDeploy."""

    message: str
    download_url: str | None


UPLOAD_FORM = route.form(
    "UploadForm",
    {"file": "hello", "type": "input"},
    type=route.form_field(
        "`input` (default), `temp`, `output`, or `models/<folder>`.",
        default="input",
        maxLength=4096,
    ),
    subfolder=route.form_field("A folder below that of the type.", maxLength=4096),
    machine=route.form_field(
        "Optional: the same machine as in the query. Files are written to its folders while they"
        " arrive.",
        maxLength=255,
    ),
    overwrite={
        "type": "string",
        "enum": ["true", "false"],
        "description": "Whether a file of this name with other content is replaced; otherwise the"
        " new file gets a free name.",
        "default": "false",
    },
    file={**route.BINARY, "description": "The file; there may be several."},
)


class FilesHandler(Handler):
    """Models, and the files of a ComfyUI."""

    tag = "Files"

    @route.get("models", "listModels")
    @route.replies(
        list[ModelEntry] | dict[str, list[list[str]]],
        "The models; by folder as [directories, extensions, names] with `format=folders`.",
    )
    @route.errors(*MACHINE)
    async def list_models(self, query: ModelsQuery) -> Large:
        """The model files."""
        listing = await self.services.models(query.machine)
        if query.format == "folders":
            return await listing.folders()
        return await listing.models(folder=query.folder, search=query.search)

    @route.get("models/preview", "getModelPreview")
    @route.replies(Content("image/webp", BINARY), "A small copy of the picture.")
    @route.errors(*FILES)
    async def get_model_preview(self, query: ModelPreviewQuery) -> None:
        """The picture that lies beside a model, such as `a.png` or `a.preview.png`."""
        listing = await self.services.models(query.machine)
        file = await listing.preview(query.folder, query.filename)
        try:
            copy = await self.services.thumbnails.make(file, query.thumbnail)
        finally:
            await asyncio.to_thread(file.close)
        self.set_header("Cache-Control", "private, max-age=600")
        await self.finish(copy, set_content_type="image/webp")

    @route.get("models/uses", "listModelUses")
    @route.replies(ModelUses, "What uses the model.")
    @route.errors(*FILES)
    async def list_model_uses(self, query: ModelUsesQuery) -> Any:
        """The workflows, runs and transfers that use a model."""
        machine = self.services.machines.get(query.machine)
        uses = await self.services.model_files.uses(machine, query.folder, query.filename)
        return uses.reply()

    @route.get("filename_list_cache", "listFilenames")
    @route.replies(
        list[str] | FilenameLists,
        "The names; by folder with `format=folders`.",
        example=["checkpoints/a.safetensors"],
    )
    @route.errors(*MACHINE)
    async def list_filenames(self, query: ListQuery) -> Large:
        """The names of all model files."""
        names = await (await self.services.models(query.machine)).names()
        return {"filename_list": names} if query.format == "folders" else models.flat(names)

    @route.get("get-file-hash", "getFileHash")
    @route.replies(FileHash, "The hash.")
    @route.errors(*FILES, ConflictError)
    async def get_file_hash(self, query: FileQuery) -> Any:
        """The SHA-256 of a file, from the cache if the file has not changed.

        `filename` or `file_path` is needed.
        """
        if (query.filename is None) == (query.file_path is None):
            raise InvalidRequestError.of_field(
                "filename", "must be given exactly once, as filename or as file_path"
            )
        field = "filename" if query.filename is not None else "file_path"
        name = query.filename or query.file_path or ""
        services = self.services
        folders = await services.machines.get(query.machine).folders()
        found = await services.hasher.hash(folders, name, field=field)
        return {
            "filename": name,
            "file_hash": found.sha256,
            "algorithm": "sha256",
            "size": found.size,
            "cached": found.cached,
        }

    @route.get("fs/stat", "statPath")
    @route.replies(FileStat, "Size, time and file system of the path.")
    @route.errors(*FILES)
    async def stat_path(self, query: StatQuery) -> Any:
        """Size, time and file system of a path."""
        folders = await self.services.machines.get(query.machine).folders()
        return await asyncio.to_thread(models.fs_stat, folders, query.path)


class UploadFileHandler(Streamed, Handler):
    """``POST upload-file``: files into ComfyUI's folders, written while they arrive."""

    tag = "Files"
    _upload: Upload | None = None
    _limit = 0  # bytes that the body may have
    _arrived = 0  # bytes

    async def begin(self) -> None:
        """Choose the folders for the files of a form, or collect a JSON body."""
        if self.request.method == "OPTIONS":
            return
        if self.request.method != "POST":
            raise web.HTTPError(MethodNotAllowedError.status)
        multipart = "multipart/form-data" in self.request.headers.get("Content-Type", "")
        limit = self.extension.max_upload_size if multipart else self.extension.max_json_size
        self._limit = limit or ANY_SIZE
        length = self.request.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        if size is not None:
            self.check_size(size, self._limit)
        if not multipart:
            self._text = bytearray()
            return
        connection: Any = self.request.connection
        connection.set_max_body_size(ANY_SIZE)
        asked = self.asked_machine()
        target, names = await self.destination(asked)
        self._upload = self.services.uploads.receive(
            target,
            self.request.headers["Content-Type"],
            size,
            machine={*names, asked},
            form=self.form(),
        )

    def asked_machine(self) -> str | None:
        return self.query(MachineQuery).machine

    async def destination(self, asked: str | None) -> tuple[UploadTarget, set[str]]:
        """Return the target of the files, and the id and the name of the machine or pool."""
        pool = self.services.machines.pool(asked)
        if pool is not None:
            return await self.services.upload_target_of_pools(), {pool.id, pool.name}
        machine = self.services.machines.get(asked)
        return await self.services.upload_target(machine), {machine.id, machine.name}

    def form(self) -> type[uploads.UploadForm]:
        return uploads.UploadForm

    async def take(self, chunk: bytes) -> None:
        if self.request.method == "OPTIONS":
            return
        self._arrived += len(chunk)
        self.check_size(self._arrived, self._limit)
        if self._upload is not None:
            await self._upload.write(chunk)
        else:
            self._text += chunk

    @route.post("upload-file", "uploadFile")
    @route.takes(UPLOAD_FORM, query=MachineQuery, body=SendFileRequest)
    @route.replies(
        UploadReply | SentFile,
        "The files are in their folders. After a JSON body: ComfyDeploy has the file.",
        Link("getFileHash", {"filename": "{$response.body#/type}/{$response.body#/name}"}),
        Link(
            "viewFile",
            {
                "filename": "$response.body#/name",
                "subfolder": "$response.body#/subfolder",
                "type": "$response.body#/type",
            },
        ),
    )
    @route.errors(*FILES, ConflictError, *CLOUD)
    async def upload_file(self) -> Any:
        """Upload files to ComfyUI's folders, or a file of this machine to ComfyDeploy."""
        upload = self.received()
        if upload is None:
            return await self.send_local_file(await worker.parse_body(bytes(self._text)))
        files = [self._file_reply(file) for file in await self.placed(upload)]
        body = {"success": True, **files[0]}
        if len(files) > 1:
            body["files"] = files
        return body

    def received(self) -> Upload | None:
        """Return the received form; None if the body is JSON."""
        self.check_body()
        self.begin_work()
        return self._upload

    async def placed(self, upload: Upload) -> list[StoredFile]:
        """Rename the files of a complete form to their final names."""
        files = await upload.finish()
        for file in files:
            metrics.file_received(file.size)
            self.services.hasher.remember_later(file)
        return files

    async def send_local_file(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send a file of this machine to a presigned address, as in the ComfyUI node."""
        request = parse(SendFileRequest, body)
        url = self.services.cloud.access.check_url(request.url, field="url")
        asked = request.machine or self.query(MachineQuery).machine
        record = await self.services.transfers.upload_presigned(
            request.file_path,
            url,
            self.given_key(request.given_key),
            self.services.machines.get(asked).id,
        )
        return {
            "success": True,
            "message": "File uploaded successfully",
            "download_url": record.facts.get("download_url"),
        }

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._drop_upload()

    def on_finish(self) -> None:
        super().on_finish()
        self._drop_upload()

    def _drop_upload(self) -> None:
        if self._upload is not None:
            self.extension.tasks.start(self._upload.abort(), "Removing the files of an upload")

    def _file_reply(self, file: StoredFile) -> dict[str, Any]:
        query = {"filename": file.name, "subfolder": file.subfolder, "type": file.type}
        viewed = not file.type.startswith("models/")
        return {
            "filename": file.name,
            "name": file.name,
            "subfolder": file.subfolder,
            "type": file.type,
            "size": file.size,
            "content_type": file.content_type,
            "file_hash": file.sha256,
            "reused": file.reused,
            "url": f"{self.base_url}comfyui-deploy/view?{urlencode(query)}" if viewed else None,
        }
