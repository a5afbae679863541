"""The upload queue, models on volumes, and parts of files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from .. import request_models as fields
from ..errors import CloudError, ComfyDeployError, ConflictError, InvalidRequestError, OfflineError
from ..files import models
from ..request_models import CloudBody, Keyed, Model, optional, parse, required
from . import route
from .base import Handler
from .files import ModelEntry
from .route import CLOUD, FILES, Large, Link, OpenReplyModel, ReplyModel, Success, example_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..comfyui.folders import Folders
    from ..machines.machine import Machine
    from ..transfers.queue import TransferRecord


BYTES = "application/octet-stream"


class UploadQueueQuery(Model):
    prompt_id: fields.Identifier | None = optional(
        "List only the transfers of this run; by default all.", fields.RUN_ID
    )


class CancelUploadsRequest(Model):
    """Body of ``POST cancel-uploads``: a run or one transfer; by default all uploads."""

    prompt_id: fields.Identifier | None = optional(
        "Only the uploads of this run; without it and `id` all uploads.", fields.RUN_ID
    )
    id: fields.Identifier | None = optional(
        "The id of an upload or a download in upload-queue-status.", fields.TRANSFER_ID
    )


class RetryUploadsRequest(Keyed, CancelUploadsRequest):
    """Body of ``POST retry-uploads``: a run or one transfer; by default all uploads."""


class UploadPartRequest(Model):
    """Body of ``POST volume/file/upload-part-from-path``; the byte ``end`` is not sent."""

    file_path: Annotated[str, Field(min_length=1)] = required(
        "A file on this machine.", "models/checkpoints/a.safetensors", alias="filePath"
    )
    upload_url: Annotated[fields.Endpoint, Field(min_length=1)] = required(
        "The presigned address of the part.", "https://storage.example.com/part", alias="uploadUrl"
    )
    start: Annotated[int, Field(ge=0)] = optional("The first byte of the part.", 0, default=0)
    end: Annotated[int, Field(ge=0)] = required("The byte after the last one of the part.", 1048576)
    machine: fields.MachineField = None


class HuggingFaceModel(Model):
    """A model of Hugging Face, in the format of ComfyDeploy's web form."""

    repo_id: Annotated[str, Field(min_length=1)] = required(
        "A repository of Hugging Face.", "owner/repo", alias="repoId"
    )


class CivitaiModel(Model):
    """A model of Civitai, in the format of ComfyDeploy's web form."""

    url: str = required("The page of the model.", "https://example.com/a.safetensors", min_length=1)


def _needed(value: str | None, field: str, problem: str = "is needed") -> str:
    if not value:
        raise InvalidRequestError.of_field(field, problem)
    return value


class VolumeModelRequest(CloudBody):
    """Body of ``POST volume/model``.

    The fields of ComfyDeploy's web form (``folderPath``, ``downloadLink``, ``huggingface``,
    ``civitai``) are accepted too.
    """

    action: Literal["add", "list", "delete", "move"] = optional(
        "`add` (the default), `list`, `move` or `delete`.", "list", default="add"
    )
    source: Literal["link", "huggingface", "civitai", "local"] = optional(
        "The source of the model: `link` (the default), `huggingface`, `civitai`, or `local`, a"
        " file on this machine.",
        "link",
        default="link",
    )
    url: str | None = optional(
        "The address of the model; for Hugging Face also `owner/repo`, with the file as `filename`;"
        " for Civitai the page of the model.",
        "https://example.com/a.safetensors",
    )
    path: str | None = optional("A path on this machine, for the source `local`.")
    folder: str | None = optional("The models folder of the model.", "checkpoints")
    filename: str | None = optional(
        "The name of the file; for `add` the default is the name in the address.", "b.safetensors"
    )
    to_folder: str | None = optional("For `move`: the new folder.")
    to_filename: str | None = optional("For `move`: the new name.")
    in_use: bool = optional(
        "For `move` and `delete`: go on although a run or a transfer uses the model now; otherwise"
        " such a request is refused with 409.",
        default=False,
    )
    machine: fields.MachineField = None
    sha256: Annotated[str, Field(pattern=fields.SHA256_PATTERN)] | None = optional(
        "The SHA-256 that the content must have, in hexadecimal. For models of Hugging Face and"
        " Civitai it comes from these sites."
    )

    folder_path: str | None = optional("ComfyDeploy's name for `folder`.", alias="folderPath")
    download_link: str | None = optional("ComfyDeploy's name for `url`.", alias="downloadLink")
    huggingface: HuggingFaceModel | None = optional(
        "ComfyDeploy's form of a model of Hugging Face."
    )
    civitai: CivitaiModel | None = optional("ComfyDeploy's form of a model of Civitai.")

    @property
    def address(self) -> str | None:
        """The address of the model, from the field in which it was given."""
        own = self.url or self.download_link
        if self.source == "huggingface" and self.huggingface is not None:
            return own or self.huggingface.repo_id
        if self.source == "civitai" and self.civitai is not None:
            return own or self.civitai.url
        return own

    @property
    def models_folder(self) -> str:
        return _needed(self.folder or self.folder_path, "folder")

    def for_service(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of this request in the format of ComfyDeploy's web form.

        Fields of ``body`` that are not in the model are forwarded.
        """
        ours = {*CloudBody.model_fields, "action", "machine", "folder", "url", "path", "sha256"}
        passed = {name: value for name, value in body.items() if name not in ours}
        folder = self.folder and self.folder.strip("/").removeprefix("models/")
        passed = {"source": self.source, "folderPath": folder or self.folder_path, **passed}
        _needed(passed["folderPath"], "folder")
        _needed(self.address, "url", "is needed to add a model")
        if self.url and self.source == "civitai":
            passed["civitai"] = {"url": self.url}
        elif self.url and self.source == "huggingface" and "://" not in self.url:
            passed["huggingface"] = {"repoId": self.url}
        elif self.url:
            passed.update(source="link", downloadLink=self.url)
        return passed


class Transfer(ReplyModel):
    """An upload or a download; sizes in bytes."""

    id: str = Field(examples=[fields.TRANSFER_ID])
    direction: Literal["up", "down"]
    prompt_id: str | None = Field(examples=[fields.RUN_ID])
    node_id: str | None = Field(examples=["2"])
    filename: str = Field(examples=["example_00001_.png"])
    size: int | None = Field(examples=[81920])
    sent: int = Field(examples=[40960])
    state: Literal["queued", "active", "retrying", "done", "failed", "cancelled"] = Field(
        examples=["active"]
    )
    attempts: int = Field(examples=[1])
    error: str | None


class TransferCounts(ReplyModel):
    """The numbers of waiting, unfinished and active transfers."""

    queue_size: int = required("Transfers that wait.", 0)
    pending_uploads: int = required("Transfers that are not finished.", 0)
    active: int = required("Transfers that are active.", 0)


class UploadQueue(TransferCounts):
    """All unfinished transfers, and those that ended recently."""

    completed: int = Field(examples=[4])
    failed: int = Field(examples=[0])
    cancelled: int = Field(examples=[0])
    max_concurrent: int = Field(examples=[3])
    uploads: list[Transfer]


class CancelledUploads(Success):
    """The number of stopped transfers."""

    cancelled: int = Field(examples=[2])


class RetriedUploads(Success):
    """The transfers that are started again."""

    retried: int = Field(examples=[1])
    uploads: list[Transfer]


class UploadedPart(ReplyModel):
    """A part that the storage has confirmed."""

    etag: str = Field(alias="eTag", examples=["9b2c"])
    bytes_sent: int = Field(alias="bytesSent", examples=[1048576])


class VolumeModelList(Success):
    """The models in ComfyUI's folders."""

    models: list[ModelEntry]


class VolumeModelAdded(Transfer, Success):
    """A model that is being transferred."""

    message: str
    path: str = ""
    target: str = ""


class VolumeModelChanged(Success):
    """A model that was moved or deleted."""

    message: str
    path: str = ""


class CloudAnswer(OpenReplyModel):
    """The response of ComfyDeploy, unchanged."""


class TransfersHandler(Handler):
    """Uploads and downloads."""

    tag = "Transfers"

    @route.get("upload-queue-status", "getUploadQueue", is_activity=False)
    @route.replies(
        UploadQueue,
        "The unfinished transfers, and those that ended recently.",
        example={**example_of(UploadQueue), "pending_uploads": 1, "active": 1},
    )
    async def get_upload_queue(self, query: UploadQueueQuery) -> Any:
        """Uploads and downloads, each with its bytes."""
        return await self.services.transfers.queue.status(query.prompt_id)

    @route.post("cancel-uploads", "cancelUploads")
    @route.takes(example=("prompt_id",))
    @route.replies(CancelledUploads, "The transfers are stopped.")
    async def cancel_uploads(self, body: CancelUploadsRequest) -> Any:
        """Stop the uploads of a run, one transfer, or all uploads.

        A single one that has failed becomes cancelled: no list shows it as a failure any more.
        """
        cancelled = await self.services.transfers.queue.cancel(
            prompt_id=body.prompt_id, transfer_id=body.id, direction=None if body.id else "up"
        )
        return {"cancelled": cancelled}

    @route.post("retry-uploads", "retryUploads")
    @route.takes(example=("prompt_id",))
    @route.replies(RetriedUploads, "The transfers are started again.")
    @route.errors(*FILES, ConflictError, OfflineError, *CLOUD)
    async def retry_uploads(self, body: RetryUploadsRequest) -> Any:
        """Start failed uploads again: those of a run, one transfer, or all."""
        again = await self.services.transfers.retry(
            transfer_id=body.id, prompt_id=body.prompt_id, token=self.given_key(body.given_key)
        )
        uploads = [record.describe() for record in again]
        return {"retried": len(uploads), "uploads": uploads}


class VolumeHandler(Handler):
    """Models on volumes; as in the ComfyUI node, errors also have a ``detail``."""

    tag = "Transfers"

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        error = super().error_of(exception, status)
        error.extra = {**error.extra, "detail": error.message}
        return error

    @route.post("volume/file/upload-part-from-path", "uploadPart")
    @route.takes(example=("filePath", "uploadUrl", "start", "end"))
    @route.replies(UploadedPart, "The storage has the part.")
    @route.errors(*FILES, CloudError)
    async def upload_part(self, body: UploadPartRequest) -> Any:
        """Send a part of a local file to a presigned address."""
        if body.end <= body.start:
            raise InvalidRequestError.of_field("end", "must be larger than start")
        machine = self.services.machines.get(body.machine)
        etag = await self.services.transfers.upload_part(
            body.file_path, body.upload_url, body.start, body.end, machine.id
        )
        return {"eTag": etag, "bytesSent": body.end - body.start}

    @route.post("volume/model", "changeModels")
    @route.takes(example=("action", "folder"))
    @route.replies(
        VolumeModelAdded | VolumeModelList | VolumeModelChanged | CloudAnswer,
        "The list; or the model was moved or deleted, or is being transferred.",
        Link("cancelUploads", body={"id": "$response.body#/id"}),
        Link("retryUploads", body={"id": "$response.body#/id"}),
        example=example_of(VolumeModelList),
    )
    @route.errors(*FILES, ConflictError, OfflineError, *CLOUD)
    async def change_models(self, body: VolumeModelRequest) -> Large:
        """Models in ComfyUI's folders: add, list, move, delete."""
        if self.is_for_cloud(body):
            return await self._in_cloud(body)
        # Use the id from here on: the machine for `auto` or a name may change.
        machine = self.services.machines.get(body.machine)
        body.machine = machine.id
        if body.action == "list":
            listing = await self.services.models(body.machine)
            folder = body.folder or body.folder_path
            name = folder and folder.strip("/").removeprefix("models/")
            return {"success": True, "models": await listing.models(folder=name)}
        work = {"add": self._add, "delete": self._delete, "move": self._move}[body.action]
        return {"success": True, **await work(body, machine)}

    async def _in_cloud(self, request: VolumeModelRequest) -> dict[str, Any]:
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
        target = models.volume_path(request.models_folder, name)
        record = await self.services.transfers.upload_to_volume(
            path,
            target,
            api=str(account.url),
            token=self.given_key(request.given_key),
            machine=self.services.machines.get(request.machine).id,
        )
        return {"success": True, "target": target, **_transfer_reply(record)}

    async def _delete(self, request: VolumeModelRequest, machine: Machine) -> dict[str, Any]:
        model = await self.services.model_files.delete(
            machine,
            request.models_folder,
            _needed(request.filename, "filename"),
            in_use=request.in_use,
        )
        return {"message": f"{model.path.name} is deleted"}

    async def _move(self, request: VolumeModelRequest, machine: Machine) -> dict[str, Any]:
        if request.to_folder is None and request.to_filename is None:
            raise InvalidRequestError.of_field(
                "to_filename", "is needed to move a model, unless to_folder is given"
            )
        name = _needed(request.filename, "filename")
        target = await self.services.model_files.move(
            machine,
            request.models_folder,
            name,
            request.to_folder,
            request.to_filename,
            in_use=request.in_use,
        )
        return {"message": f"{name} is now {target.name}", "path": str(target)}

    async def _add(self, request: VolumeModelRequest, machine: Machine) -> dict[str, Any]:
        folders = await machine.folders()
        transfers = self.services.transfers
        sha256 = request.sha256.lower() if request.sha256 else None
        if request.source == "local":
            path, name = _local_file(request)
            target = await _place(folders, request, name)
            record = await transfers.copy(path, target, sha256, request.machine)
        else:
            address = _needed(request.address, "url", "is needed to add a model")
            file = await transfers.find(request.source, address, request.filename)
            target = await _place(folders, request, request.filename or file.filename)
            record = await transfers.download(file, target, sha256, request.machine)
        return {"path": str(target), **_transfer_reply(record)}


def _transfer_reply(record: TransferRecord) -> dict[str, Any]:
    message = f"{record.filename} is being downloaded; upload-queue-status shows its progress"
    return {"message": message, **record.describe()}


def _local_file(request: VolumeModelRequest) -> tuple[str, str]:
    path = _needed(request.path or request.url, "path", "is needed for a local file")
    return path, request.filename or path.rsplit("/", 1)[-1]


async def _place(folders: Folders, request: VolumeModelRequest, filename: str) -> Path:
    """Return the path for a model with a name, in the folder of the request."""
    filename = _needed(filename, "filename")
    return await asyncio.to_thread(models.place, folders, request.models_folder, filename)


def _step(step: str, name: str, **example: Any) -> Callable[[VolumeHandler], Any]:
    """Return the method for a step of an upload to a ComfyDeploy volume."""

    @route.post(f"volume/file/{step}", name)
    @route.takes(body=CloudBody, example=example)
    @route.replies(
        CloudAnswer,
        "The response of ComfyDeploy.",
        example={"uploadUrl": "https://storage.example.com/a", "objectKey": "models/a.safetensors"},
    )
    @route.errors(*CLOUD)
    async def forward(self: VolumeHandler) -> Any:
        """A step of an upload to a ComfyDeploy volume, forwarded to ComfyDeploy."""
        body = await self.json_body()
        account = self.account(parse(CloudBody, body))
        passed_on = {k: v for k, v in body.items() if k not in CloudBody.model_fields}
        return await account.post("volume", "file", step, body=passed_on)

    return forward


_NEW: dict[str, Any] = {"filename": "checkpoints/a.safetensors", "contentType": BYTES}
_BEGUN: dict[str, Any] = {"uploadId": "u1", "key": "models/a.safetensors"}


class VolumeFileHandler(VolumeHandler):
    """The steps of an upload to a ComfyDeploy volume."""

    tag = "ComfyDeploy"

    generate_upload = _step("generate-upload-url", "generateUploadUrl", **_NEW, size=1024)
    initiate = _step(
        "initiate-multipart-upload", "initiateMultipartUpload", **_NEW, size=1073741824
    )
    generate_part = _step(
        "generate-part-upload-url", "generatePartUploadUrl", **_BEGUN, partNumber=1
    )
    complete = _step(
        "complete-multipart-upload",
        "completeMultipartUpload",
        **_BEGUN,
        parts=[{"partNumber": 1, "eTag": "9b2c"}],
    )
    abort = _step("abort-multipart-upload", "abortMultipartUpload", **_BEGUN)
