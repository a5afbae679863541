"""Uploads: to an address that an endpoint returns, and in parts to a ComfyDeploy volume."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
from yarl import URL

from ..util.http import read_whole
from ..util.media_types import media_type
from ..util.tasks import end, open_in_thread
from .http import MAX_JSON, TransferError, get_json, request

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Callable

    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from .queue import Transfer

    KeyFor = Callable[[str], "str | None"]

CHUNK = 512 * 1024  # bytes of one read
MULTIPART_FROM = 16 * 1024 * 1024  # bytes; a larger file is uploaded to a volume in parts
PARALLEL_PARTS = 4


# -- what is uploaded -------------------------------------------------------------------------


class FileSource:
    """A local file; ``advance`` gets the size of each chunk of it that was sent."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        self._descriptor = file.fileno()
        self._name = name
        self._facts = os.fstat(self._descriptor)
        self.size = self._facts.st_size
        self.error: TransferError | None = None  # why a read ended early; HTTP clients hide it

    @property
    def stamp(self) -> list[int]:
        """Size, times of changes in nanoseconds, and inode, which change with the content."""
        facts = self._facts
        return [self.size, facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns]

    async def chunks(
        self, start: int, end: int, advance: Callable[[int], None]
    ) -> AsyncIterator[bytes]:
        while start < end:
            try:
                chunk = await asyncio.to_thread(self._read, start, end)
            except TransferError as error:
                self.error = error
                raise
            start += len(chunk)
            yield chunk
            advance(len(chunk))

    def _read(self, start: int, end: int) -> bytes:
        """Read a chunk; after the last one check that the file has not been changed."""
        try:
            chunk = os.pread(self._descriptor, min(CHUNK, end - start), start)
            if chunk and start + len(chunk) < end:
                return chunk
            now = os.fstat(self._descriptor)
        except OSError as error:
            raise TransferError(
                f"{self._name} cannot be read: {error.strerror}", again=True
            ) from error
        if not chunk:
            raise self._changed("became shorter")
        if (now.st_size, now.st_mtime_ns) != (self.size, self._facts.st_mtime_ns):
            raise self._changed("changed")
        return chunk

    def _changed(self, how: str) -> TransferError:
        return TransferError(f"{self._name} {how} while it was read", again=True)


class ViewSource:
    """A file of a remote ComfyUI; it can be read only once, from start to end."""

    def __init__(self, response: aiohttp.ClientResponse, name: str) -> None:
        if response.content_length is None:
            raise TransferError(f"ComfyUI does not report the size of {name}", again=False)
        self._response = response
        self._name = name
        self.size = response.content_length
        self.error: TransferError | None = None

    async def chunks(
        self, _start: int, _end: int, advance: Callable[[int], None]
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_chunked(CHUNK):
                yield chunk
                advance(len(chunk))
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
            self.error = TransferError(f"ComfyUI did not send all of {self._name}", again=True)
            raise self.error from error


Source: TypeAlias = FileSource | ViewSource


@asynccontextmanager
async def open_path(machine: Machine, path: str, name: str) -> AsyncIterator[FileSource]:
    """Open a file from a request, whose path was checked then, and is checked again."""
    folders = await machine.folders()
    # Nothing was written, so that closing it does not block.
    with await open_in_thread(folders.open_for_read, path) as file:
        yield FileSource(file, name)


@asynccontextmanager
async def open_output(machine: Machine, item: dict[str, Any]) -> AsyncIterator[Source]:
    """Open a file that ComfyUI made, from the disk or, if it is not here, from ComfyUI."""
    name, subfolder, kind = item["filename"], item["subfolder"], item["type"]
    if machine.settings.comfyui_url and not machine.connected:
        # Only this ComfyUI has its outputs; in other folders, another file may have the name.
        await machine.ready()
    file = await machine.open_file(kind, subfolder, name)
    if file is not None:
        with file:
            yield FileSource(file, name)
        return
    client = await machine.ready()
    query = {"filename": name, "subfolder": subfolder, "type": kind}
    async with client.view(query, {}) as response:
        if response.status != 200:
            raise TransferError(
                f"ComfyUI answered {response.status} to the request for {name}",
                again=response.status >= 500,
            )
        yield ViewSource(response, name)


# -- where it goes ----------------------------------------------------------------------------


def content_type(filename: str, declared: object = None) -> str:
    known = media_type(filename)
    if known is None and isinstance(declared, str) and re.fullmatch(r"[\w.+-]+/[\w.+-]+", declared):
        return declared
    return known or "application/octet-stream"


async def put(
    http: aiohttp.ClientSession,
    url: str,
    source: Source,
    *,
    start: int = 0,
    end: int | None = None,
    headers: dict[str, str] | None = None,
    advance: Callable[[int], None],
) -> str:
    """Upload a file, or a part of it, to a presigned address: streamed, with its length.

    The address contains its own credentials, so no token is sent. Return the ``ETag`` without
    quotes, empty if there is none; `TransferError` unless all bytes were stored.
    """
    stop = source.size if end is None else end
    body: Any = source.chunks(start, stop, advance)
    if stop - start <= CHUNK:
        body = b"".join([chunk async for chunk in body])  # is sent together with the headers
    sent = {"Content-Type": "application/octet-stream", **(headers or {})}
    sent["Content-Length"] = str(stop - start)
    try:
        async with request(
            http, "PUT", url, what="The storage", headers=sent, data=body
        ) as response:
            await read_whole(response, MAX_JSON)  # an incomplete response confirms nothing
            etag = response.headers.get("ETag", "")
    except TransferError:
        if source.error is not None:
            raise source.error from None
        raise
    return etag.removeprefix("W/").strip('"')


async def presign(
    http: aiohttp.ClientSession, endpoint: str, query: dict[str, str], token: str | None
) -> dict[str, Any]:
    what = "The upload endpoint"
    url = str(URL(endpoint).update_query(query))
    async with request(http, "GET", url, what=what, token=token) as response:
        answer = await get_json(response, what)
    address = answer.get("url") or answer.get("upload_url")
    if not isinstance(address, str):
        raise TransferError(
            "The upload endpoint did not return an address for the file", again=True
        )
    return {**answer, "url": address}


class _UploadJob:
    def __init__(
        self, http: aiohttp.ClientSession, machines: MachineRegistry, key_for: KeyFor
    ) -> None:
        self._http = http
        self._machines = machines
        self._key_for = key_for


class PresignedUpload(_UploadJob):
    """Uploads a file to the address that an endpoint returns, in the forms of ComfyUI node 2.3.10.

    It is an output of a run, whose endpoint is ``file_upload_endpoint``, or a local file.
    """

    async def run(self, transfer: Transfer) -> None:
        record, facts = transfer.record, transfer.record.facts
        machine = self._machines.get(facts.get("machine"))
        if record.path is not None:
            async with open_path(machine, record.path, record.filename) as file:
                query = {"file_size": str(file.size), "type": facts["content_type"]}
                await self._send(transfer, file, query)
            return
        query = {"file_name": record.filename, "run_id": record.prompt_id or ""}
        query |= {"type": facts["content_type"], "version": "v2"}
        async with open_output(machine, facts["item"]) as source:
            await self._send(transfer, source, query)

    async def _send(self, transfer: Transfer, source: Source, query: dict[str, str]) -> None:
        record = transfer.record
        record.size, record.sent = source.size, 0
        endpoint = record.private["endpoint"]
        token = record.private.get("token") or self._key_for(endpoint)
        place = await presign(self._http, endpoint, query, token)
        headers = {"Content-Type": record.facts["content_type"]}
        if place.get("include_acl") is True:
            headers["x-amz-acl"] = "public-read"
        await put(self._http, place["url"], source, headers=headers, advance=transfer.advance)
        record.facts["download_url"] = place.get("download_url")
        if place.get("is_public") is not None:
            record.facts["is_public"] = place["is_public"]

    async def clean_up(self, transfer: Transfer) -> None:
        """Do nothing: an incomplete upload leaves no data."""


class VolumeUpload(_UploadJob):
    """Uploads a local file to a ComfyDeploy volume; a large one in several concurrent parts.

    The confirmed parts are stored, so that none of them is uploaded twice.
    """

    async def run(self, transfer: Transfer) -> None:
        record = transfer.record
        assert record.path is not None
        machine = self._machines.get(record.facts.get("machine"))
        async with open_path(machine, record.path, record.filename) as source:
            if record.facts.get("stamp") not in (None, source.stamp):
                await self._abandon(transfer)  # the file has changed since the first part
            record.size = source.size
            if source.size < MULTIPART_FROM:
                record.sent = 0
                answer = await self._ask(transfer, "generate-upload-url", _facts_of(transfer))
                address = _text(answer, "uploadUrl")
                await put(self._http, address, source, advance=transfer.advance)
            else:
                await self._send_parts(transfer, source)

    async def clean_up(self, transfer: Transfer) -> None:
        await self._abandon(transfer)

    async def _send_parts(self, transfer: Transfer, source: FileSource) -> None:
        facts = transfer.record.facts
        resumed = "upload" in facts
        if not resumed:
            begun = await self._ask(transfer, "initiate-multipart-upload", _facts_of(transfer))
            facts["upload"] = {"uploadId": _text(begun, "uploadId"), "key": _text(begun, "key")}
            facts["part_size"] = _part_size(begun)
            facts["stamp"] = source.stamp
            facts["parts"] = {}
            await transfer.save()
        size, parts = facts["part_size"], facts["parts"]
        count = -(-source.size // size)
        missing = [n for n in range(1, count + 1) if str(n) not in parts]
        transfer.record.sent = source.size - sum(
            min(n * size, source.size) - (n - 1) * size for n in missing
        )
        try:
            await self._in_parallel(transfer, source, missing)
            body = {
                **facts["upload"],
                "parts": [{"partNumber": n, "eTag": parts[str(n)]} for n in range(1, count + 1)],
            }
            await self._ask(transfer, "complete-multipart-upload", body)
        except TransferError as error:
            if not error.again or source.error is not None:
                await self._abandon(transfer)
            if resumed and not error.again:
                # The service has deleted an upload that was started long ago.
                raise TransferError(error.message, again=True) from error
            raise

    async def _in_parallel(
        self, transfer: Transfer, source: FileSource, missing: list[int]
    ) -> None:
        """Upload the parts, a few at the same time; the first failure stops all of them."""
        left = iter(missing)

        async def work() -> None:
            for number in left:
                await self._send_part(transfer, source, number)

        tasks = [asyncio.ensure_future(work()) for _ in range(min(PARALLEL_PARTS, len(missing)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end(tasks)

    async def _send_part(self, transfer: Transfer, source: FileSource, number: int) -> None:
        facts = transfer.record.facts
        start = (number - 1) * facts["part_size"]
        end = min(start + facts["part_size"], source.size)
        answer = await self._ask(
            transfer, "generate-part-upload-url", {**facts["upload"], "partNumber": number}
        )
        sent = 0

        def advance(count: int) -> None:
            nonlocal sent
            sent += count
            transfer.advance(count)

        try:
            etag = await put(
                self._http,
                _text(answer, "uploadUrl"),
                source,
                start=start,
                end=end,
                advance=advance,
            )
            if not etag:
                raise TransferError("The storage did not confirm a part with an ETag", again=True)
        except BaseException:
            transfer.record.sent -= sent
            raise
        facts["parts"][str(number)] = etag
        transfer.gained = True
        await transfer.save()

    async def _abandon(self, transfer: Transfer) -> None:
        """Abort an upload in parts, in the record and in the service."""
        facts = transfer.record.facts
        upload = facts.pop("upload", None)
        for name in ("parts", "part_size", "stamp"):
            facts.pop(name, None)
        if upload is not None:
            try:
                await self._ask(transfer, "abort-multipart-upload", upload)
            except TransferError as error:
                if error.again:
                    raise

    async def _ask(self, transfer: Transfer, route: str, body: dict[str, Any]) -> dict[str, Any]:
        api = transfer.record.private["api"]
        token = transfer.record.private.get("token") or self._key_for(api)
        url = f"{api}/volume/file/{route}"
        async with request(
            self._http, "POST", url, what="ComfyDeploy", token=token, json=body
        ) as response:
            return await get_json(response, "ComfyDeploy")


def _facts_of(transfer: Transfer) -> dict[str, Any]:
    record = transfer.record
    return {
        "filename": record.facts["target"],
        "contentType": record.facts["content_type"],
        "size": record.size,
    }


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise TransferError(f"ComfyDeploy's response does not contain {name}", again=True)
    return value


def _part_size(answer: dict[str, Any]) -> int:
    value = answer.get("partSize")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TransferError("ComfyDeploy's response does not contain partSize", again=True)
    return value
