"""The sources of uploads: local files, and files of a remote ComfyUI."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from ..util.tasks import open_in_thread
from .http import TransferError

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Callable

    from ..machines.machine import Machine

CHUNK = 512 * 1024  # bytes of one read


class Source(Protocol):
    """A file to upload."""

    size: int
    error: TransferError | None

    def chunks(self, start: int, end: int, advance: Callable[[int], None]) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to ``end``; ``advance`` gets the size of each chunk."""


class FileSource:
    """A local file."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        self._descriptor = file.fileno()
        self._name = name
        self._facts = os.fstat(self._descriptor)
        self.size = self._facts.st_size
        self.error: TransferError | None = None

    @property
    def stamp(self) -> list[int]:
        """Size, times of changes in nanoseconds, and inode, which change with the content."""
        facts = self._facts
        return [self.size, facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns]

    async def chunks(
        self, start: int, end: int, advance: Callable[[int], None]
    ) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to ``end``, read in threads."""
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
        """Yield all bytes as ComfyUI sends them."""
        try:
            async for chunk in self._response.content.iter_chunked(CHUNK):
                yield chunk
                advance(len(chunk))
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
            self.error = TransferError(f"ComfyUI did not send all of {self._name}", again=True)
            raise self.error from error


@asynccontextmanager
async def open_path(machine: Machine, path: str, name: str) -> AsyncIterator[FileSource]:
    """Open a file from a request, whose path was checked then, and is checked again."""
    folders = await machine.folders()
    file = await open_in_thread(folders.open_for_read, path)
    async with _closing(file, name) as source:
        yield source


@asynccontextmanager
async def open_output(machine: Machine, item: dict[str, Any]) -> AsyncIterator[Source]:
    """Open a file that ComfyUI made, from the disk or, if it is not here, from ComfyUI."""
    name, subfolder, kind = item["filename"], item["subfolder"], item["type"]
    if machine.settings.comfyui_url and not machine.connected:
        # Only this ComfyUI has its outputs; in other folders, another file may have the name.
        await machine.ready()
    file = await machine.open_file(kind, subfolder, name)
    if file is not None:
        async with _closing(file, name) as source:
            yield source
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


@asynccontextmanager
async def _closing(file: io.FileIO, name: str) -> AsyncIterator[FileSource]:
    try:
        yield FileSource(file, name)
    finally:
        file.close()  # nothing was written, so this does not block
