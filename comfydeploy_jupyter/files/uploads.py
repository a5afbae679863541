"""Uploads: multipart bodies that threads write to the disk as they arrive."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..util.tasks import close_each
from .forms import StoredFile, UploadForm
from .staging import remove_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..comfyui.folders import Folders

__all__ = ["StoredFile", "Upload", "Uploads"]

P = ParamSpec("P")
T = TypeVar("T")

BATCH = 4 * 1024 * 1024  # bytes that are collected before a thread writes them


class Uploads:
    """Receives uploads."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="comfydeploy-upload")
        self._hashers = ThreadPoolExecutor(4, thread_name_prefix="comfydeploy-upload-hash")
        self._flushers = ThreadPoolExecutor(2, "comfydeploy-upload-flush") if fsync else None
        self._open: set[Upload] = set()

    async def clean(self, folders: Folders) -> int:
        """Remove the incomplete uploads of killed processes; return their number."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, remove_orphans, folders
        )

    def receive(
        self,
        folders: Folders,
        content_type: str,
        content_length: int | None = None,
        *,
        machine: Collection[str | None] = (),
        form: type[UploadForm] = UploadForm,
    ) -> Upload:
        """Begin to receive one request body."""
        received = form(
            folders,
            content_type,
            content_length,
            machine=machine,
            hashers=self._hashers,
            flushers=self._flushers,
        )
        upload = Upload(received, self._threads, on_end=self._open.discard)
        self._open.add(upload)
        return upload

    async def close(self) -> None:
        """Abort the unfinished uploads and stop the threads."""
        await asyncio.gather(*(close_each(upload.abort) for upload in list(self._open)))
        for threads in (self._threads, self._hashers, self._flushers):
            if threads is not None:
                await asyncio.to_thread(threads.shutdown)


class Upload:
    """One request body that is being written to the disk; created by `Uploads.receive`.

    For a body of any size, at most three batches of about `BATCH` bytes are in memory: one is being
    hashed and one written by threads, while another one is filled. After an error all files of the
    upload are removed, and no more bytes are accepted.
    """

    def __init__(
        self, form: UploadForm, threads: ThreadPoolExecutor, on_end: Callable[[Upload], None]
    ) -> None:
        self._form = form
        self._threads = threads
        self._on_end = on_end
        self._batch: list[bytes] = []
        self._batched = 0
        self._writing: asyncio.Future[None] | None = None
        self._ended = False

    @property
    def overwrite(self) -> bool:
        """Whether the form asks to replace files of the same name; valid once it is complete."""
        return self._form.overwrite

    def field(self, name: str) -> str:
        """Return the value of a field of the form; valid once it is complete."""
        return self._form.field(name)

    async def write(self, chunk: bytes) -> None:
        """Accept the next bytes of the body; return when the buffer has space for more."""
        self._batch.append(chunk)
        self._batched += len(chunk)
        if self._batched >= BATCH:
            await self._flush()

    async def finish(self) -> list[StoredFile]:
        """Rename the files to their final names, once the complete body is written."""
        await self._flush()
        await self._settle()
        try:
            return await self._run(self._form.finish)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Remove all received files without a final name. May be called at any time."""
        if not self._ended:
            self._ended = True
            self._on_end(self)
            await asyncio.shield(self._run(self._form.close))

    async def _flush(self) -> None:
        await self._settle()
        chunks, self._batch, self._batched = self._batch, [], 0
        self._writing = self._run(self._form.feed, chunks)
        self._writing.add_done_callback(_seen)

    async def _settle(self) -> None:
        if self._writing is None:
            return
        try:
            await asyncio.shield(self._writing)
        except BaseException:
            await self.abort()
            raise

    def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(
            self._threads, partial(work, *args, **kwargs)
        )


def _seen(future: asyncio.Future[None]) -> None:
    """Mark the error of a future as retrieved: after an abort asyncio need not report it."""
    if not future.cancelled():
        future.exception()
