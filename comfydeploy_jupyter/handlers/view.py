"""``GET view``: an output or input file of ComfyUI, streamed; or a small copy of a picture."""

from __future__ import annotations

import asyncio
import io
import os
import re
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field
from tornado.iostream import StreamClosedError

from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..request_models import MachineQuery, optional, required
from ..util.media_types import media_type
from .base import Handler, passed_header
from .route import BINARY, FILES, Content, Header, Reply, errors, replies, route, takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from ..comfyui.client import ComfyUIClient


CHUNK = 256 * 1024  # bytes read at once
LARGEST_PICTURE = 100_000_000  # bytes of a remote picture for a thumbnail
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
_FILE = (Content("*/*", BINARY),)
_UNCHANGED = Reply("The file is the same as that of the client.", status=304)


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


# -- conditions and ranges, as RFC 9110 defines them ---------------------------------------------

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.IGNORECASE | re.ASCII)
_MAX_NUMBER = 10**18  # bytes; larger numbers in ranges are replaced by it, as no file is so large
_TAGS = re.compile(r'(?:W/)?"([^"]*)"')
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


def is_unchanged(headers: Mapping[str, str], etag: str, last_modified: str) -> bool:
    """Return whether the client has this version already, so that the response is 304.

    ``If-None-Match`` decides if it is present, else ``If-Modified-Since``.
    """
    tags = headers.get("If-None-Match", "").strip()
    if tags:
        return tags == "*" or etag.strip('"') in _TAGS.findall(tags)
    since, modified = _seconds(headers.get("If-Modified-Since", "")), _seconds(last_modified)
    return since is not None and modified is not None and modified <= since


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# -- the route ------------------------------------------------------------------------------------


class ViewHandler(Handler):
    """``GET view``: a file from the disk if ComfyUI's folders are known, else from its API."""

    tag = "Files"

    @route("GET", "view", "viewFile")
    @takes(headers=_RANGES)
    @replies(Reply("The file.", _FILE))
    @replies(Reply("The requested range of the file.", _FILE, 206))
    @replies(_UNCHANGED)
    @errors(*FILES, by_status=((416, InvalidRequestError),))
    async def view_file(self, query: ViewQuery) -> None:
        """An output or input file.

        Pictures, sounds, videos and plain text are sent with their type; all other files as
        application/octet-stream.
        """
        if "/" in query.filename or "\\" in query.filename or "\0" in query.filename:
            raise InvalidRequestError.of_field("filename", "must be a name without folders")
        file = None
        if query.machine is not None:
            file = await self.services.kept_outputs.open(
                query.machine, query.type, query.subfolder, query.filename
            )
        if file is None:
            machine = self.services.machines.get(query.machine)
            file = await machine.open_file(query.type, query.subfolder, query.filename)
        self.set_file_headers(query.filename)
        await self.send_content(file, query)

    @route("HEAD", "view", "headFile")
    @takes(headers=_RANGES)
    @replies(Reply("The file."))
    @replies(Reply("The requested range of the file.", status=206))
    @replies(_UNCHANGED)
    @errors(*FILES, by_status=((416, InvalidRequestError),))
    async def head_file(self, query: ViewQuery) -> None:
        """The size and the version of an output or input file."""
        await self.view_file(query)

    async def send_content(self, file: io.FileIO | None, query: ViewQuery) -> None:
        """Send an open file of this machine, or the file of another machine that a query names."""
        try:
            if query.thumbnail is not None:
                await self._send_thumbnail(file, query, query.thumbnail)
            elif file is not None:
                await self._send_file(file)
            else:
                machine = self.services.machines.get(query.machine)
                await self._send_on(await machine.ready(), query)
        except StreamClosedError:
            self.log.debug(
                "A client closed its connection before it had received all of %r", query.filename
            )
        except ComfyUIUnavailableError as fault:
            if not self.has_begun:
                raise
            self.log.warning("%s", fault.message)
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

    async def _send_thumbnail(self, file: io.FileIO | None, query: ViewQuery, side: int) -> None:
        self._type = "image/webp"
        self.set_header("Content-Type", self._type)
        self.set_header("Content-Disposition", "inline")
        source: BinaryIO
        if file is None:
            machine = self.services.machines.get(query.machine)
            source = io.BytesIO(await self._fetch(await machine.ready(), query))
        else:
            etag = _etag(file, f"-{side}")
            self.set_header("ETag", etag)
            if is_unchanged(self.request.headers, etag, ""):
                await asyncio.to_thread(file.close)
                await self._finish_unchanged()
                return
            source = io.BufferedReader(file)
        try:
            content = await self.services.thumbnails.make(source, side)
        finally:
            await asyncio.to_thread(source.close)
        await self.finish(content, set_content_type=self._type)

    async def _fetch(self, client: ComfyUIClient, query: ViewQuery) -> bytes:
        async with client.view(_address(query), {}) as answer:
            _check(client, answer.status, query)
            parts, size = [], 0
            async for part in answer.content.iter_chunked(CHUNK):
                parts.append(part)
                size += len(part)
                if size > LARGEST_PICTURE:
                    raise InvalidRequestError.of_field(
                        "thumbnail", f"the picture {query.filename!r} is too large for a thumbnail"
                    )
        return b"".join(parts)

    async def _send_file(self, file: io.FileIO) -> None:
        try:
            facts = os.fstat(file.fileno())
            etag = _etag(file)
            self.set_header("Content-Type", self._type)
            self.set_header("ETag", etag)
            modified = formatdate(facts.st_mtime, usegmt=True)
            self.set_header("Last-Modified", modified)
            self.set_header("Accept-Ranges", "bytes")
            if is_unchanged(self.request.headers, etag, modified):
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
        raise NotFoundError(
            f"{name} is not in the {query.type} folder of this ComfyUI",
            details={"field": "filename"},
        )
    if status >= 300 and status != 304:
        raise client.unavailable(f"it answered {status} to the request for {query.filename!r}")


def _etag(file: io.FileIO, more: str = "") -> str:
    facts = os.fstat(file.fileno())
    return f'"{facts.st_mtime_ns:x}-{facts.st_size:x}{more}"'
