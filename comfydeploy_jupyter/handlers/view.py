"""``GET view``: an output or input file of ComfyUI, streamed; or a small copy of a picture."""

from __future__ import annotations

import asyncio
import io
import os
import re
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from tornado.iostream import StreamClosedError

from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..util.media_types import media_type
from .base import Handler, passed_header, schemas
from .conditions import OUTSIDE, asked_range, is_unchanged, outside, range_fits

if TYPE_CHECKING:
    import aiohttp

    from ..comfyui.client import ComfyUIClient

CHUNK = 256 * 1024  # bytes read at once
LARGEST_PICTURE = 100_000_000  # bytes of a remote picture for a thumbnail
# The types that a browser may show in Jupyter's origin: they cannot run scripts.
INLINE = re.compile(r"(image/(?!svg)|video/|audio/|text/plain$)")
PASSED_ON = ("If-None-Match", "If-Modified-Since")
PASSED_BACK = (
    "Content-Length",
    "Content-Range",
    "Accept-Ranges",
    "ETag",
    "Last-Modified",
)


class ViewHandler(Handler):
    """``GET view``: a file from the disk if ComfyUI's folders are known, else from its API."""

    async def head(self) -> None:
        """Reply as `get` does, without the file."""
        await self.get()

    async def get(self) -> None:
        """Send the file, or the requested range of it."""
        await self.send(self.query(schemas.ViewQuery))

    async def send(self, query: schemas.ViewQuery) -> None:
        """Send the file that a query names, or the requested range of it."""
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

    async def send_content(self, file: io.FileIO | None, query: schemas.ViewQuery) -> None:
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

    async def _send_thumbnail(
        self, file: io.FileIO | None, query: schemas.ViewQuery, side: int
    ) -> None:
        """Send a small copy of a picture."""
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

    async def _fetch(self, client: ComfyUIClient, query: schemas.ViewQuery) -> bytes:
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
        """Return start and end of the bytes that the client wants; for a range, set its headers.

        Parameters
        ----------
        size : int
            The number of all bytes.

        Raises
        ------
        InvalidRequestError
            With status 416, if the requested range is outside.
        """
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

    async def _send_on(self, client: ComfyUIClient, query: schemas.ViewQuery) -> None:
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
        self, client: ComfyUIClient, answer: aiohttp.ClientResponse, query: schemas.ViewQuery
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


def _address(query: schemas.ViewQuery) -> dict[str, str]:
    """Return the query of ComfyUI's own ``GET view``."""
    return {"filename": query.filename, "subfolder": query.subfolder, "type": query.type}


def _check(client: ComfyUIClient, status: int, query: schemas.ViewQuery) -> None:
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
