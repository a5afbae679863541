"""Models and files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tornado import web

from ..errors import InvalidRequestError, MethodNotAllowedError
from ..util import worker
from ..util.system import lazy_module
from .base import ANY_SIZE, Handler, schemas
from .streamed import Streamed

if TYPE_CHECKING:
    from .. import metrics
    from ..files import models, uploads
    from ..files.uploads import StoredFile, Upload, UploadTarget
else:
    metrics = lazy_module("metrics")
    models, uploads = lazy_module("files.models"), lazy_module("files.uploads")


class ModelsHandler(Handler):
    """``GET models``: the model files."""

    async def get(self) -> None:
        """Reply with an array of models, or by folder in the form of the ComfyUI node."""
        query = self.query(schemas.ModelsQuery)
        listing = await self.services.models(query.machine)
        if query.format == "folders":
            self.reply(await listing.folders())
            return
        found = await listing.models(folder=query.folder, search=query.search)
        await self.reply_large(found)


class ModelUsesHandler(Handler):
    """``GET models/uses``: what uses a model."""

    async def get(self) -> None:
        """Reply with the workflows, runs and transfers that use a model."""
        query = self.query(schemas.ModelUsesQuery)
        machine = self.services.machines.get(query.machine)
        uses = await self.services.model_files.uses(machine, query.folder, query.filename)
        self.reply(uses.reply())


class FilenameListHandler(Handler):
    """``GET filename_list_cache``: the names of all model files."""

    async def get(self) -> None:
        """Reply with an array of names, or with names by folder in the form of the ComfyUI node."""
        query = self.query(schemas.ListQuery)
        names = await (await self.services.models(query.machine)).names()
        body: Any = {"filename_list": names} if query.format == "folders" else models.flat(names)
        await self.reply_large(body)


class FileHashHandler(Handler):
    """``GET get-file-hash``: the SHA-256 of a file."""

    async def get(self) -> None:
        """Reply with the hash, which is computed unless it is cached."""
        query = self.query(schemas.FileQuery)
        if (query.filename is None) == (query.file_path is None):
            raise InvalidRequestError.of_field(
                "filename", "must be given exactly once, as filename or as file_path"
            )
        field = "filename" if query.filename is not None else "file_path"
        name = query.filename or query.file_path or ""
        services = self.services
        folders = await services.machines.get(query.machine).folders()
        found = await services.hasher.hash(folders, name, field=field)
        self.reply(
            {
                "filename": name,
                "file_hash": found.sha256,
                "algorithm": "sha256",
                "size": found.size,
                "cached": found.cached,
            }
        )


class StatHandler(Handler):
    """``GET fs/stat``: size, modification time and file system of a path."""

    async def get(self) -> None:
        """Reply for ``path``, by default for the folder of the models."""
        query = self.query(schemas.StatQuery)
        folders = await self.services.machines.get(query.machine).folders()
        self.reply(await asyncio.to_thread(models.fs_stat, folders, query.path))


class UploadFileHandler(Streamed, Handler):
    """``POST upload-file``: files into ComfyUI's folders, written while they arrive."""

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
        return self.query(schemas.MachineQuery).machine

    async def destination(self, asked: str | None) -> tuple[UploadTarget, set[str]]:
        """Return the target of the files, and the id and the name of the machine or pool."""
        pool = self.services.machines.pool(asked)
        if pool is not None:
            return await self.services.upload_target_of_pools(), {pool.id, pool.name}
        machine = self.services.machines.get(asked)
        return await self.services.upload_target(machine), {machine.id, machine.name}

    def form(self) -> type[uploads.UploadForm]:
        """Return the kind of form."""
        return uploads.UploadForm

    async def take(self, chunk: bytes) -> None:
        """Write the next chunk; the body of ``OPTIONS`` is ignored."""
        if self.request.method == "OPTIONS":
            return
        self._arrived += len(chunk)
        self.check_size(self._arrived, self._limit)
        if self._upload is not None:
            await self._upload.write(chunk)
        else:
            self._text += chunk

    async def post(self) -> None:
        """Rename the files to their final names, and reply with these."""
        upload = self.received()
        if upload is None:
            await self.send_local_file(await worker.parse_body(bytes(self._text)))
            return
        files = [self._file_reply(file) for file in await self.placed(upload)]
        body = {"success": True, **files[0]}
        if len(files) > 1:
            body["files"] = files
        self.reply(body)

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

    async def send_local_file(self, body: dict[str, Any]) -> None:
        """Send a file of this machine to a presigned address, as in the ComfyUI node."""
        request = schemas.parse(schemas.SendFileRequest, body)
        url = self.services.cloud.access.check_url(request.url, field="url")
        asked = request.machine or self.query(schemas.MachineQuery).machine
        record = await self.services.transfers.upload_presigned(
            request.file_path,
            url,
            self.given_key(request.given_key),
            self.services.machines.get(asked).id,
        )
        self.reply(
            {
                "success": True,
                "message": "File uploaded successfully",
                "download_url": record.facts.get("download_url"),
            }
        )

    def on_connection_close(self) -> None:
        """Remove the files of a body that will not be complete."""
        super().on_connection_close()
        self._drop_upload()

    def on_finish(self) -> None:
        """Remove the files of a rejected upload."""
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
