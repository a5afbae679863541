"""The Comfy API v2: jobs and assets."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from ..errors import NotFoundError
from ..util.system import lazy_module
from .base import COMMENT, KEEP_AWAKE, Handler, NotFound, schemas
from .files import UploadFileHandler
from .runs import LOOK_EVERY, SMALL
from .view import ViewHandler

if TYPE_CHECKING:
    from ..compat import comfy_api as errors
    from ..compat import comfy_assets as assets
    from ..compat import comfy_jobs as jobs
    from ..compat.comfy_assets import Asset
    from ..compat.comfy_jobs import ComfyAPI
    from ..errors import ComfyDeployError
    from ..files import uploads
else:
    assets, errors = lazy_module("compat.comfy_assets"), lazy_module("compat.comfy_api")
    jobs = lazy_module("compat.comfy_jobs")
    uploads = lazy_module("files.uploads")

API = "comfyui-deploy/api/v2"
MACHINE = "X-ComfyDeploy-Machine"
_HASH = re.compile(r"blake3:([0-9a-f]{64})")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


class ComfyAPIHandler(Handler):
    """Base of all routes of the Comfy API, which has its own form of errors."""

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        """Return the error that is sent for an exception, in the form of the Comfy API."""
        found = errors.api_error(super().error_of(exception, status))
        if found.name == "forbidden" and not self._is_known():
            return errors.APIError("unauthorized", found.message)
        return found

    def _is_known(self) -> bool:
        try:
            return bool(self.current_user)
        except RuntimeError:  # Jupyter has not authenticated the user yet
            return False

    @property
    def comfy_api(self) -> ComfyAPI:
        """The jobs, their events, and the assets."""
        return self.services.comfy_api

    @property
    def addresses(self) -> jobs.Addresses:
        """The addresses of jobs and assets, with the host of the request."""
        root = f"{self.public_origin}{self.base_url}{API}"
        return jobs.Addresses(f"{root}/jobs", f"{root}/assets")

    def asked_machine(self) -> str | None:
        """Return the machine that a header of the request names."""
        return self.request.headers.get(MACHINE, "").strip() or None


class ComfyAPINotFound(ComfyAPIHandler, NotFound):
    """All paths of the Comfy API that are not routes."""


class HealthHandler(ComfyAPIHandler):
    """``GET health``: whether the server answers."""

    is_activity = False

    async def get(self) -> None:
        """Reply that the server answers."""
        self.reply({"status": "ok"})


class JobsHandler(ComfyAPIHandler):
    """``jobs``: create a job; list them."""

    async def post(self) -> None:
        """Queue a run; with an idempotency key, only once."""
        request = await self.body(schemas.JobRequest, graphs=True)
        job = await self.comfy_api.jobs.create(
            request,
            key=self.request.headers.get("Idempotency-Key"),
            machine=self.asked_machine(),
            small=len(self.request.body) <= SMALL,
            addresses=self.addresses,
        )
        self.reply(job, status=201)

    async def get(self) -> None:
        """Reply with a page of the jobs, newest first."""
        try:
            query = self.query(schemas.JobsQuery)
        except Exception as fault:
            raise jobs.refusal(self.error_of(fault, 400)) from None
        await self.reply_large(await self.comfy_api.jobs.list(query, self.addresses))


class JobHandler(ComfyAPIHandler):
    """``GET jobs/{job_id}``."""

    async def get(self, job_id: str) -> None:
        """Reply with the job."""
        await self.reply_large(await self.comfy_api.jobs.get(job_id, self.addresses))


class JobWorkflowHandler(ComfyAPIHandler):
    """``GET jobs/{job_id}/workflow``."""

    async def get(self, job_id: str) -> None:
        """Reply with the workflow of the job."""
        await self.reply_large(await self.comfy_api.jobs.workflow(job_id))


class JobCancelHandler(ComfyAPIHandler):
    """``POST jobs/{job_id}/cancel``."""

    async def post(self, job_id: str) -> None:
        """Cancel the job and reply with it."""
        await self.reply_large(await self.comfy_api.jobs.cancel(job_id, self.addresses))


class JobEventsHandler(ComfyAPIHandler):
    """``GET jobs/{job_id}/events``: its state now, and its events until its end."""

    async def get(self, job_id: str) -> None:
        """Send the events; if the client disconnects, the job continues."""
        run = await self.services.runs.load(job_id)
        record = await self.comfy_api.jobs.record(job_id) if run is None else run.record
        self.begin_stream()
        try:
            if run is not None:
                following = self.comfy_api.events.follow(
                    run, self.addresses.assets, pause=KEEP_AWAKE
                )
                async for text, at_end in following:
                    await self.send_events(text or COMMENT, at_end=at_end)
            else:
                self.write(self.comfy_api.events.state(record))
                while not jobs.is_final(record):
                    self.write(COMMENT)
                    await self.flush()
                    await asyncio.sleep(LOOK_EVERY)
                    record = await self.comfy_api.jobs.record(job_id)
                self.write(await self.comfy_api.events.final(record, self.addresses.assets))
        except StreamClosedError:
            self.log.debug("A client left the events of job %s", job_id)
            return
        self.finish_stream()


class AssetsHandler(ComfyAPIHandler, UploadFileHandler):
    """``POST assets``: upload a file."""

    async def destination(self, asked: str | None) -> tuple[uploads.UploadTarget, set[str]]:
        """Return the target of the file; for a pool: its member with the least work."""
        try:
            self._machine = machine = self.services.machines.get(asked)
        except NotFoundError as fault:
            raise errors.APIError("invalid_request", fault.message, details=fault.details) from None
        return await self.services.upload_target(machine), {machine.id, machine.name}

    def form(self) -> type[uploads.UploadForm]:
        """Return the kind of form."""
        return uploads.AssetForm

    async def post(self) -> None:
        """Rename the file to its final name, and reply with its asset."""
        upload = self.received()
        if upload is None:
            raise errors.APIError("invalid_request", "body: must be multipart/form-data")
        (file,) = await self.placed(upload)
        given = upload.field("content_type")
        asset, created = await self.comfy_api.assets.add(
            file,
            self._machine,
            file_path=upload.field("file_path"),
            content_type=given if _MEDIA_TYPE.fullmatch(given) else "",
        )
        body = assets.asset_of(asset, self.addresses.assets, created_new=created)
        self.reply(body, status=201 if created else 200)


class AssetFromHashHandler(ComfyAPIHandler):
    """``POST assets/from-hash``: an asset of a file that the server has."""

    async def post(self) -> None:
        """Reply with the asset."""
        request = await self.body(schemas.AssetFromHash)
        blake3 = request.hash.removeprefix("blake3:")
        asset = await self.comfy_api.assets.from_hash(blake3, request.file_path)
        self.reply(assets.asset_of(asset, self.addresses.assets, created_new=False))


class AssetByHashHandler(ComfyAPIHandler):
    """``HEAD assets/by-hash/{hash}``: whether the server has a file with this hash."""

    async def head(self, digest: str) -> None:
        """Reply with a status only."""
        found = _HASH.fullmatch(digest)
        if found is None:
            raise errors.APIError(
                "invalid_request", "hash: must be blake3: and 64 hexadecimal digits"
            )
        if await self.comfy_api.assets.find(found[1]) is None:
            raise errors.APIError("blob_not_found", f"There is no file with the hash {digest}")
        await self.finish()


class AssetHandler(ComfyAPIHandler):
    """``assets/{asset_id}``: show or delete an asset."""

    async def get(self, asset_id: str) -> None:
        """Reply with the asset."""
        asset = await self.comfy_api.assets.get(asset_id)
        self.reply(assets.asset_of(asset, self.addresses.assets))

    async def delete(self, asset_id: str) -> None:
        """Delete the asset."""
        await self.comfy_api.assets.delete(asset_id)
        self.set_status(204)
        await self.finish()


class AssetContentHandler(ComfyAPIHandler, ViewHandler):
    """``assets/{asset_id}/content``: the file, or a range of it."""

    async def head(self, asset_id: str) -> None:  # type: ignore[override]  # one argument more
        """Reply as `get` does, without the file."""
        await self.get(asset_id)

    async def get(self, asset_id: str) -> None:  # type: ignore[override]  # one argument more
        """Send the file, or the requested range of it."""
        asset = await self.comfy_api.assets.get(asset_id)
        await self.send_asset(asset)

    async def send_asset(self, asset: Asset) -> None:
        """Send the content of an asset."""
        self.set_file_headers(asset.filename, asset.content_type)
        if asset.text is not None:
            text = asset.text.encode(errors="replace")
            self.set_header("Accept-Ranges", "bytes")
            start, end = self.begin_range(len(text))
            await self.finish(text[start:end], set_content_type="text/plain")
            return
        file = await self.comfy_api.assets.open(asset)
        fields: dict[str, Any] = assets.view_query(asset)
        query = schemas.ViewQuery.model_construct(
            None, thumbnail=None, machine=asset.machine, **fields
        )
        await self.send_content(file, query)


def pattern(path: str) -> str:
    """Return the pattern of a route; each part in braces matches one part of a path."""
    return f"{API}/{re.sub(r'{[a-z_]+}', '([^/]+)', path)}"


ROUTES: tuple[tuple[str, Any], ...] = (
    (pattern("health"), HealthHandler),
    (pattern("jobs"), JobsHandler),
    (pattern("jobs/{job_id}"), JobHandler),
    (pattern("jobs/{job_id}/workflow"), JobWorkflowHandler),
    (pattern("jobs/{job_id}/cancel"), JobCancelHandler),
    (pattern("jobs/{job_id}/events"), JobEventsHandler),
    (pattern("assets"), AssetsHandler),
    (pattern("assets/from-hash"), AssetFromHashHandler),
    (pattern("assets/by-hash/{hash}"), AssetByHashHandler),
    (pattern("assets/{asset_id}/content"), AssetContentHandler),
    (pattern("assets/{asset_id}"), AssetHandler),
    (rf"{API}(?:/.*)?", ComfyAPINotFound),
)
