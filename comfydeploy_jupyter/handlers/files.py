"""Models and files: list, hash and upload them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import Field
from tornado import web

from .. import metrics
from ..errors import ConflictError, InvalidRequestError, MethodNotAllowedError
from ..files import models, uploads
from ..request_models import (
    RUN_ID,
    TRANSFER_ID,
    WORKFLOW_ID,
    Endpoint,
    Keyed,
    MachineField,
    MachineQuery,
    SearchField,
    optional,
    parse,
    required,
)
from ..util import worker
from .base import ANY_SIZE, Handler
from .route import (
    CLOUD,
    FILES,
    KEY,
    MACHINE,
    Link,
    ReplyModel,
    Success,
    errors,
    replies,
    route,
    takes,
)
from .streamed import Streamed

if TYPE_CHECKING:
    from ..files.uploads import StoredFile, Upload, UploadTarget


class ListQuery(MachineQuery):
    format: Literal["flat", "folders"] = optional(
        "`folders`: by folder, in the form of the ComfyUI node.", "flat", default="flat"
    )


class ModelsQuery(ListQuery):
    folder: Annotated[str, Field(max_length=255)] | None = optional(
        "A folder of models.", "checkpoints"
    )
    search: SearchField = ""


class ModelUsesQuery(MachineQuery):
    folder: Annotated[str, Field(min_length=1, max_length=4096)] = required(
        "The models folder of the model.", "checkpoints"
    )
    filename: Annotated[str, Field(min_length=1, max_length=4096)] = required(
        "Its name in this folder.", "b.safetensors"
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

    file_path: Annotated[str, Field(min_length=1)] = required(
        "A file on this machine.", "output/example_00001_.png"
    )
    url: Endpoint = required(
        "ComfyDeploy's address that returns the upload address of the file.",
        "https://api.comfydeploy.com/api/file-upload",
    )
    machine: MachineField = None


SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class ModelEntry(ReplyModel):
    """A model file; size and time are null if only ComfyUI's API lists it."""

    name: str = Field(examples=["a.safetensors"])
    folder: str = Field(examples=["checkpoints"])
    path: str = Field(examples=["/home/ada/ComfyUI/models/checkpoints/a.safetensors"])
    size: int | None = required("In bytes.", 2132625894)
    modified: float | None = required("When it was changed, in seconds since 1970.", 1763976600.5)


class WorkflowUse(ReplyModel):
    """A stored workflow that names a model."""

    workflow_id: str = Field(examples=[WORKFLOW_ID])
    name: str = Field(examples=["sunset"])
    versions: list[int] = required("The versions that name it, oldest first.", [1, 2])


class RunUse(ReplyModel):
    """A run that names a model."""

    prompt_id: str = Field(examples=[RUN_ID])
    machine: str = Field(examples=["local"])
    status: str = Field(examples=["success"])
    created_at: str = Field(examples=["2025-11-24T10:30:00+00:00"])


class TransferUse(ReplyModel):
    """A transfer of a model that has not ended."""

    id: str = Field(examples=[TRANSFER_ID])
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


UPLOAD_FORM: dict[str, Any] = {
    "type": "object",
    "title": "UploadForm",
    "required": ["file"],
    "properties": {
        "type": {
            "type": "string",
            "description": "`input` (default), `temp`, `output`, or `models/<folder>`.",
            "default": "input",
            "maxLength": 4096,
        },
        "subfolder": {
            "type": "string",
            "description": "A folder below that of the type.",
            "maxLength": 4096,
        },
        "machine": {
            "type": "string",
            "description": "Optional: the same machine as in the query. Files are written to its"
            " folders while they arrive.",
            "maxLength": 255,
        },
        "overwrite": {
            "type": "string",
            "enum": ["true", "false"],
            "description": "Whether a file of this name with other content is replaced; otherwise"
            " the new file gets a free name.",
            "default": "false",
        },
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The file; there may be several.",
        },
    },
}


class FilesHandler(Handler):
    """Models, and the files of a ComfyUI."""

    tag = "Files"

    @route("GET", "models", "listModels")
    @replies(
        list[ModelEntry] | dict[str, list[list[str]]],
        "The models; by folder as [directories, extensions, names] with `format=folders`.",
    )
    @errors(*MACHINE)
    async def list_models(self, query: ModelsQuery) -> None:
        """The model files."""
        listing = await self.services.models(query.machine)
        if query.format == "folders":
            self.reply(await listing.folders())
            return
        found = await listing.models(folder=query.folder, search=query.search)
        await self.reply_large(found)

    @route("GET", "models/uses", "listModelUses")
    @replies(ModelUses, "What uses the model.")
    @errors(*FILES)
    async def list_model_uses(self, query: ModelUsesQuery) -> Any:
        """The workflows, runs and transfers that use a model."""
        machine = self.services.machines.get(query.machine)
        uses = await self.services.model_files.uses(machine, query.folder, query.filename)
        return uses.reply()

    @route("GET", "filename_list_cache", "listFilenames")
    @replies(
        list[str] | FilenameLists,
        "The names; by folder with `format=folders`.",
        example=["checkpoints/a.safetensors"],
    )
    @errors(*MACHINE)
    async def list_filenames(self, query: ListQuery) -> None:
        """The names of all model files."""
        names = await (await self.services.models(query.machine)).names()
        body: Any = {"filename_list": names} if query.format == "folders" else models.flat(names)
        await self.reply_large(body)

    @route("GET", "get-file-hash", "getFileHash")
    @replies(FileHash, "The hash.")
    @errors(*FILES, ConflictError)
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

    @route("GET", "fs/stat", "statPath")
    @replies(FileStat, "Size, time and file system of the path.")
    @errors(*FILES)
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
        """Return the machine that gets the files, by its id or name."""
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

    @route("POST", "upload-file", "uploadFile")
    @takes(
        query=MachineQuery,
        form=(UPLOAD_FORM, {"file": "hello", "type": "input"}),
        body=SendFileRequest,
        headers=(KEY,),
    )
    @replies(
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
    @errors(*FILES, ConflictError, *CLOUD)
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
