"""Targets of uploads: the folders of a local ComfyUI, or the API of a remote one."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..comfyui.folders import Folders
from ..util.tasks import open_in_thread
from .forms import UploadForm

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ..comfyui.client import ComfyUIClient
    from .uploads import StoredFile, Upload, Uploads

ABANDONED = 24 * 3600  # seconds after which a folder cannot be in use by an upload any more


def clean_outbox(outbox: Path) -> None:
    """Remove the folders that killed servers left in a folder for incoming files."""
    with suppress(FileNotFoundError):
        for entry in outbox.iterdir():
            if entry.stat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)


class Inbox:
    """Stores one upload in the folders of a ComfyUI on this machine."""

    def __init__(self, uploads: Uploads, folders: Folders) -> None:
        self._uploads = uploads
        self._folders = folders

    def receive(
        self,
        content_type: str,
        size: int | None,
        *,
        machine: Collection[str | None] = (),
        form: type[UploadForm] = UploadForm,
    ) -> Upload:
        """Begin to receive a body; see `Uploads.receive`."""
        return self._uploads.receive(self._folders, content_type, size, machine=machine, form=form)

    async def place(self, upload: Upload) -> list[StoredFile]:
        """Rename the files of a complete body to their final names; see `Upload.finish`."""
        return await upload.finish()

    async def drop(self, upload: Upload) -> None:
        """Remove the files without a final name; see `Upload.abort`."""
        await upload.abort()


class RemoteInbox(Inbox):
    """Forwards one upload to a remote ComfyUI.

    ComfyUI chooses the names (``POST /upload/image``). A tunnel or proxy in front of it may refuse
    a body of unknown length, and an incomplete body must not reach ComfyUI. So the complete file is
    first received into a local folder, and then streamed from there; the memory use does not depend
    on its size.
    """

    def __init__(self, uploads: Uploads, outbox: Path, client: ComfyUIClient) -> None:
        self._folder = outbox / uuid.uuid4().hex
        super().__init__(uploads, Folders(self._folder))
        self._client = client
        self._placing = asyncio.Lock()

    async def place(self, upload: Upload) -> list[StoredFile]:
        """Send the files of a complete body to ComfyUI."""
        async with self._placing:
            try:
                files = await super().place(upload)
                return [await self._pass_on(file, upload.overwrite) for file in files]
            finally:
                await self._clear()

    async def drop(self, upload: Upload) -> None:
        """Remove all received files, except one that is being sent to ComfyUI."""
        await super().drop(upload)
        async with self._placing:
            await self._clear()

    async def _clear(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _pass_on(self, file: StoredFile, overwrite: bool) -> StoredFile:
        path = await asyncio.to_thread(file.path.resolve)
        opened = await open_in_thread(self._folders.open_for_read, path)
        name, subfolder = await self._client.upload(
            opened,
            file.name,
            subfolder=file.subfolder,
            kind=file.type,
            overwrite=overwrite,
        )
        return replace(file, name=name, subfolder=subfolder)
