"""The upload queue, and models on volumes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import CloudError, InvalidRequestError
from ..util.system import lazy_module
from .base import Handler, schemas
from .cloud import VolumeBase

if TYPE_CHECKING:
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..files import models
    from ..machines.machine import Machine
    from ..transfers.queue import TransferRecord
else:
    models = lazy_module("files.models")


class UploadQueueStatusHandler(Handler):
    """``GET upload-queue-status``: the uploads and downloads."""

    is_activity = False

    async def get(self) -> None:
        """Reply with the counts and with each transfer."""
        query = self.query(schemas.UploadQueueQuery)
        self.reply(await self.services.transfers.queue.status(query.prompt_id))


class CancelUploadsHandler(Handler):
    """``POST cancel-uploads``: stop waiting and running uploads."""

    async def post(self) -> None:
        """Cancel the uploads of a run or one transfer by its id; by default all uploads."""
        request = await self.body(schemas.CancelUploadsRequest)
        cancelled = await self.services.transfers.queue.cancel(
            prompt_id=request.prompt_id,
            transfer_id=request.id,
            direction=None if request.id else "up",
        )
        self.reply({"success": True, "cancelled": cancelled})


class RetryUploadsHandler(Handler):
    """``POST retry-uploads``: start failed uploads again."""

    async def post(self) -> None:
        """Retry one transfer by its id or the uploads of a run; by default all uploads."""
        request = await self.body(schemas.RetryUploadsRequest)
        again = await self.services.transfers.retry(
            transfer_id=request.id,
            prompt_id=request.prompt_id,
            token=self.given_key(request.given_key),
        )
        uploads = [record.describe() for record in again]
        self.reply({"success": True, "retried": len(uploads), "uploads": uploads})


class UploadPartHandler(VolumeBase):
    """``POST volume/file/upload-part-from-path``: send a part of a local file."""

    async def post(self) -> None:
        """Reply with the part's ``eTag``."""
        request = await self.body(schemas.UploadPartRequest)
        if request.end <= request.start:
            raise InvalidRequestError.of_field("end", "must be larger than start")
        machine = self.services.machines.get(request.machine)
        etag = await self.services.transfers.upload_part(
            request.file_path, request.upload_url, request.start, request.end, machine.id
        )
        self.reply({"eTag": etag, "bytesSent": request.end - request.start})


class VolumeModelHandler(VolumeBase):
    """``POST volume/model``: the models in ComfyUI's folders."""

    async def post(self) -> None:
        """Perform the ``action`` of the request."""
        request = await self.body(schemas.VolumeModelRequest)
        if self.is_for_cloud(request):
            self.reply(await self._in_cloud(request))
            return
        # Use the id from here on: the machine for `auto` or a name may change.
        machine = self.services.machines.get(request.machine)
        request.machine = machine.id
        if request.action == "list":
            listing = await self.services.models(request.machine)
            folder = request.folder or request.folder_path
            name = folder and folder.strip("/").removeprefix("models/")
            found = await listing.models(folder=name)
            await self.reply_large({"success": True, "models": found})
            return
        work = {"add": self._add, "delete": self._delete, "move": self._move}[request.action]
        self.reply({"success": True, **await work(request, machine)})

    async def _in_cloud(self, request: schemas.VolumeModelRequest) -> dict[str, Any]:
        """Add a model to a ComfyDeploy volume: the service downloads it, or a file is uploaded."""
        if request.action != "add":
            raise InvalidRequestError.of_field(
                "action", "must be add for ComfyDeploy; its API has no other operation"
            )
        account = self.account(request)
        if request.source != "local":
            body = request.for_service(await self.json_body())
            answer = await account.post("volume", "model", body=body)
            if not isinstance(answer, dict):
                raise CloudError("ComfyDeploy's response to a new model has an unexpected form")
            return answer
        path, name = _local_file(request)
        target = models.volume_path(_folder(request), name)
        record = await self.services.transfers.upload_to_volume(
            path,
            target,
            api=str(account.url),
            token=self.given_key(request.given_key),
            machine=self.services.machines.get(request.machine).id,
        )
        return {"success": True, "target": target, **_transfer_reply(record)}

    async def _delete(
        self, request: schemas.VolumeModelRequest, machine: Machine
    ) -> dict[str, Any]:
        model = await self.services.model_files.delete(
            machine, _folder(request), _filename(request), in_use=request.in_use
        )
        return {"message": f"{model.path.name} is deleted"}

    async def _move(self, request: schemas.VolumeModelRequest, machine: Machine) -> dict[str, Any]:
        if request.to_folder is None and request.to_filename is None:
            raise InvalidRequestError.of_field(
                "to_filename", "is needed to move a model, unless to_folder is given"
            )
        name = _filename(request)
        target = await self.services.model_files.move(
            machine,
            _folder(request),
            name,
            request.to_folder,
            request.to_filename,
            in_use=request.in_use,
        )
        return {"message": f"{name} is now {target.name}", "path": str(target)}

    async def _add(self, request: schemas.VolumeModelRequest, machine: Machine) -> dict[str, Any]:
        folders = await machine.folders()
        transfers = self.services.transfers
        sha256 = request.sha256.lower() if request.sha256 else None
        if request.source == "local":
            path, name = _local_file(request)
            target = await _place(folders, request, name)
            record = await transfers.copy(path, target, sha256, request.machine)
        else:
            if not request.address:
                raise InvalidRequestError.of_field("url", "is needed to add a model")
            file = await transfers.find(request.source, request.address, request.filename)
            target = await _place(folders, request, request.filename or file.filename)
            record = await transfers.download(file, target, sha256, request.machine)
        return {"path": str(target), **_transfer_reply(record)}


def _transfer_reply(record: TransferRecord) -> dict[str, Any]:
    message = f"{record.filename} is being downloaded; upload-queue-status shows its progress"
    return {"message": message, **record.describe()}


def _local_file(request: schemas.VolumeModelRequest) -> tuple[str, str]:
    """Return path and name of the file of this machine in a request."""
    path = request.path or request.url
    if not path:
        raise InvalidRequestError.of_field("path", "is needed for a local file")
    return path, request.filename or path.rsplit("/", 1)[-1]


def _folder(request: schemas.VolumeModelRequest) -> str:
    folder = request.folder or request.folder_path
    if not folder:
        raise InvalidRequestError.of_field("folder", "is needed")
    return folder


def _filename(request: schemas.VolumeModelRequest) -> str:
    if not request.filename:
        raise InvalidRequestError.of_field("filename", "is needed")
    return request.filename


async def _place(folders: Folders, request: schemas.VolumeModelRequest, filename: str) -> Path:
    """Return the path for a model with a name, in the folder of the request."""
    if not filename:
        raise InvalidRequestError.of_field("filename", "is needed")
    return await asyncio.to_thread(models.place, folders, _folder(request), filename)
