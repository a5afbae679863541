"""The Comfy API v2: jobs and assets."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any, Literal

from pydantic import Field
from tornado.iostream import StreamClosedError

from .. import request_models as fields
from ..compat import comfy_jobs
from ..compat.comfy_api import NEVER, APIError, api_error
from ..errors import ComfyDeployError, NotFoundError
from ..files import uploads
from ..request_models import JobRequest, JobsQuery, M, Model, optional, required
from . import route
from .base import COMMENT, HEARTBEAT, Handler, NotFound
from .files import UploadFileHandler, ViewHandler, ViewQuery
from .route import BINARY, EVENTS, JSON, PREFIX, TIME, Content, Header, Large, Link, ReplyModel
from .runs import LOOK_INTERVAL

_PLACE = (
    "Where the file is to be: a name or `input/…` is an input, `models/<folder>/…` or `<folder>/…`"
    " is a model."
)


class AssetFromHash(Model):
    hash: str = required("The BLAKE3 of the content.", fields.JOB_HASH, pattern=fields.HASH_PATTERN)
    file_path: str | None = optional(_PLACE, "photo.png", min_length=1, max_length=4096)
    tags: list[Any] | None = optional("Ignored.")


ASSET_ID = "9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b"
API = f"{PREFIX}/api/v2"
JOB_URL = f"http://127.0.0.1:8888/{API}/jobs/{fields.RUN_ID}"
ASSET_URL = f"http://127.0.0.1:8888/{API}/assets/{ASSET_ID}"


class APIErrorDetail(ReplyModel):
    """The cause of the error."""

    code: str = required("One of the codes of the Comfy API.")
    message: str = required("One sentence.")
    details: dict[str, Any] | None = required("Facts about the error.")


class APIErrorReply(ReplyModel):
    """Every error of the Comfy API."""

    error: APIErrorDetail


class JobURLs(ReplyModel):
    """The addresses of a job."""

    self: str = Field(examples=[JOB_URL])
    events: str = Field(examples=[f"{JOB_URL}/events"])
    cancel: str = Field(examples=[f"{JOB_URL}/cancel"])


class JobProgress(ReplyModel):
    """The whole progress of a job."""

    value: float = required("The part that is done.", 0.42, ge=0, le=1)
    nodes_done: int = required("Nodes that are done.", 11)
    nodes_total: int = required("Nodes that are executed.", 31)
    current_node: str | None = None
    current_node_class: str | None = None
    step: int | None = optional("The step of the current node.")
    steps: int | None = optional("Its number of steps.")
    message: str | None = None


class Asset(ReplyModel):
    """A file or a text that has an id."""

    id: str = required("The id of the asset.", ASSET_ID)
    hash: str | None = required("The BLAKE3 of its content, if known.", fields.JOB_HASH)
    size_bytes: int = Field(examples=[4816293])
    content_type: str = Field(examples=["image/png"])
    url: str = required("The address of its content.", f"{ASSET_URL}/content")
    url_expires_at: str = required("Never.", NEVER)
    job_id: str | None = required("The job that has made it, if it is an output.", fields.RUN_ID)


class JobOutput(Asset):
    """A file or a text that a job has made. It is an asset."""

    node_id: str = Field(examples=["2"])
    name: str = Field(examples=["ComfyUI_00001_.png"])
    type: Literal["image", "video", "audio", "text", "file", "latent"] = Field(examples=["image"])


class JobFailure(ReplyModel):
    """Why a job has failed."""

    code: str = required(
        "`node_execution_error` if a node has failed, `invalid_workflow` if ComfyUI has refused the"
        " workflow."
    )
    message: str
    node_id: str | None
    class_type: str | None
    traceback: str | None


class JobMetrics(ReplyModel):
    """Durations of a job."""

    queue_ms: int | None = required("Milliseconds in the queue.")
    execution_ms: int | None = required("Milliseconds of its execution.")


class Job(ReplyModel):
    """A run as a job."""

    id: str = required("The id of the run.", fields.RUN_ID)
    status: fields.JobStatus = Field(examples=["succeeded"])
    created_at: str = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    completed_at: str | None = Field(examples=[TIME])
    expires_at: str = required("Never.", NEVER)
    queue_position: int | None = required(
        "Its place among the waiting jobs of its machine, from 1."
    )
    progress: JobProgress | None = required("Null before it is executed.")
    outputs: list[JobOutput]
    error: JobFailure | None
    metrics: JobMetrics
    metadata: dict[str, str] = required("Its labels.", {"client": "acme"})
    warnings: list[str] = required(
        "What was lost: texts that are too large, nodes that are not executed."
    )
    urls: JobURLs


class JobItem(Job):
    """A job in the list of jobs."""

    create_time: str = Field(examples=[TIME])
    update_time: str = required("Its last change.", TIME)
    deployment_id: str | None


class JobPage(ReplyModel):
    """A page of the jobs, newest first."""

    jobs: list[JobItem]
    next_cursor: str | None = optional("For the next page; missing on the last one.")
    truncated: bool = required("Whether there is another page.", False)


class JobWorkflow(ReplyModel):
    """The workflow of a job."""

    workflow: dict[str, Any] = Field(examples=[fields.GRAPH])
    format: Literal["api", "save"] = required(
        "`api`: as ComfyUI executes it; `save`: as the editor saves it, if the run was one of a"
        " stored workflow."
    )


class AssetReply(Asset):
    """A file in one of ComfyUI's folders, or a text that a job has made."""

    file_path: str | None = Field(examples=["photo.png"])
    created_new: bool | None = required(
        "After an upload: whether no other file had this content.", True
    )
    created_at: str = Field(examples=[TIME])
    expires_at: str | None = required("Null: it does not expire.")


class Health(ReplyModel):
    """The server answers."""

    status: Literal["ok"]


IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "1 to 255 characters. A key starts one job: a second request with it is refused, also with the"
    " same body, and `details.job_id` is the job. A request that ComfyUI refused frees its key.",
    "0b9b6f4c-2f0e-4f0f-9d53-9a2f4f9d1f0e",
)
MACHINE_HEADER = Header(
    "X-ComfyDeploy-Machine",
    "The machine, by its id or name; by default `metadata.machine`, else the default machine.",
    "local",
)
RANGE = Header("Range", "A range of bytes.", "bytes=0-99")


_JOB = {"job_id": "$response.body#/id"}
_ASSET = {"asset_id": "$response.body#/id"}
_EVENTS = Content(
    EVENTS,
    {
        "type": "object",
        "properties": {
            "event": {"enum": ["status", "progress", "preview", "output", "log"]},
            "data": {"type": "string", "contentMediaType": JSON},
        },
        "required": ["event", "data"],
    },
    'event: status\ndata: {"status": "running", "queue_position": null}\n\n'
    'event: status\ndata: {"status": "succeeded", "queue_position": null}\n\n',
)
_FORM = Content(
    route.FORM,
    {
        "type": "object",
        "properties": {
            "content_type": route.form_field("The media type of the file."),
            "file_path": route.form_field(_PLACE),
            "expected_hash": route.form_field("The BLAKE3 of the file; another file is refused."),
            "tags": route.form_field("Ignored."),
            "file": BINARY,
        },
        "required": ["file"],
    },
    {"file_path": "photo.png", "file": "(the bytes of the file)"},
)
_CONTENT = Content("*/*", BINARY, "(the bytes of the file)")
_HASH = re.compile(r"blake3:([0-9a-f]{64})")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


class ComfyAPIHandler(Handler):
    """The Comfy API, which has its own form of errors."""

    tag = "Comfy API"
    own_errors = True

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        found = api_error(super().error_of(exception, status))
        if found.name == "forbidden":
            user = None
            with suppress(RuntimeError):  # Jupyter has not authenticated the user yet
                user = self.current_user
            if not user:
                return APIError("unauthorized", found.message)
        return found

    def query(self, model: type[M]) -> M:
        try:
            return super().query(model)
        except Exception as exc:
            raise comfy_jobs.refusal(self.error_of(exc, 400)) from None

    @property
    def jobs(self) -> comfy_jobs.Jobs:
        return self.services.jobs

    @property
    def root(self) -> str:
        """The address of this API, with the host of the request."""
        return f"{self.public_origin}{self.base_url}{API}"

    def asked_machine(self) -> str | None:
        return self.request.headers.get(MACHINE_HEADER.name, "").strip() or None

    @route.get("api/v2/health", "getHealth", is_activity=False)
    @route.replies(Health, "The server answers.")
    async def get_health(self) -> Any:
        """Whether the server answers."""
        return {"status": "ok"}

    @route.get("api/v2/jobs/{job_id}/workflow", "getJobWorkflow")
    @route.replies(JobWorkflow, "The workflow.")
    @route.errors("not_found")
    async def get_job_workflow(self, job_id: str) -> Large:
        """The workflow of a job."""
        return await self.jobs.workflow(job_id)

    @route.post("api/v2/jobs/{job_id}/cancel", "cancelJob")
    @route.replies(Job, "The job.")
    @route.errors("not_found", "conflict", "upstream_unreachable")
    async def cancel_job(self, job_id: str) -> Large:
        """Cancel a job; one that has ended stays as it is."""
        return await self.jobs.cancel(job_id, self.root)

    @route.get("api/v2/jobs/{job_id}/events", "followJob")
    @route.replies(
        _EVENTS,
        "First the present `status`, the `progress` and the `output`s so far, then each change; the"
        " final `status` is the last one. `preview` has `node_id`, `content_type` and"
        " `data_base64`, `log` has `level` and `message`. A comment is sent every 15 seconds.",
    )
    @route.errors("not_found")
    async def follow_job(self, job_id: str) -> None:
        """The events of a job until its end."""
        run = self.services.runs.find(job_id)
        record = await self.jobs.record(job_id) if run is None else run.record
        self.begin_stream()
        try:
            if run is not None:
                following = self.jobs.follow(run, self.root, pause=HEARTBEAT)
                async for text, at_end in following:
                    await self.send_events(text or COMMENT, at_end=at_end)
            else:
                self.write(comfy_jobs.state(record))
                while not record.finished:
                    self.write(COMMENT)
                    await self.flush()
                    await asyncio.sleep(LOOK_INTERVAL)
                    record = await self.jobs.record(job_id)
                self.write(await self.jobs.final(record, self.root))
        except StreamClosedError:
            self.log.debug("A client left the events of job %s", job_id)
            return
        self.finish_stream()

    @route.get("api/v2/jobs/{job_id}", "getJob")
    @route.replies(Job, "The job.")
    @route.errors("not_found")
    async def get_job(self, job_id: str) -> Large:
        """A job."""
        return await self.jobs.get(job_id, self.root)

    @route.post("api/v2/jobs", "createJob")
    @route.takes(
        example=("workflow", "metadata"), graphs=True, headers=(IDEMPOTENCY_KEY, MACHINE_HEADER)
    )
    @route.replies(
        Job,
        "The job. It is queued, or ComfyUI has not answered yet whether it accepts it.",
        Link("getJob", _JOB),
        Link("getJobWorkflow", _JOB),
        Link("followJob", _JOB),
        Link("cancelJob", _JOB),
        status=201,
    )
    @route.errors(
        "conflict",
        "invalid_workflow",
        "workflow_format_ui",
        "missing_asset",
        "idempotency_key_reuse",
        "metadata_invalid",
        "upstream_unreachable",
    )
    async def create_job(self, body: JobRequest) -> None:
        """Run a workflow as a job."""
        job = await self.jobs.create(
            body,
            key=self.request.headers.get(IDEMPOTENCY_KEY.name),
            machine=self.asked_machine(),
            root=self.root,
        )
        self.reply(job, status=201)

    @route.get("api/v2/jobs", "listJobs")
    @route.replies(JobPage, "A page of the jobs.")
    @route.errors("invalid_cursor", "invalid_metadata_filter")
    async def list_jobs(self, query: JobsQuery) -> Large:
        """The jobs, newest first."""
        return await self.jobs.page(query, self.root)

    @route.post("api/v2/assets/from-hash", "createAssetFromHash")
    @route.takes(example=("hash", "file_path"))
    @route.replies(AssetReply, "The asset.")
    @route.errors("blob_not_found", "not_found", "conflict", "output_unavailable")
    async def create_asset_from_hash(self, body: AssetFromHash) -> Any:
        """Make an asset of a file that the server has, without an upload."""
        blake3 = body.hash.removeprefix("blake3:")
        asset = await self.jobs.assets.from_hash(blake3, body.file_path)
        return asset.to_reply(self.root, created_new=False)

    @route.mount("HEAD", "api/v2/assets/by-hash/{hash}", "hasAsset")
    @route.replies(None, "The server has the file.")
    @route.replies(None, "The server has no such file.", status=404)
    @route.replies(None, "This is not a BLAKE3 hash.", status=422)
    async def has_asset(self, digest: str) -> None:
        """Whether the server has a file with this BLAKE3."""
        found = _HASH.fullmatch(digest)
        if found is None:
            raise APIError("invalid_request", "hash: must be blake3: and 64 hexadecimal digits")
        if await self.jobs.assets.find(found[1]) is None:
            raise APIError("blob_not_found", f"There is no file with the hash {digest}")
        await self.finish()

    @route.get("api/v2/assets/{asset_id}", "getAsset")
    @route.replies(AssetReply, "The asset.", Link("getAssetContent", _ASSET))
    @route.errors("not_found")
    async def get_asset(self, asset_id: str) -> Any:
        """An asset."""
        asset = await self.jobs.assets.get(asset_id)
        return asset.to_reply(self.root)

    @route.mount("DELETE", "api/v2/assets/{asset_id}", "deleteAsset")
    @route.replies(None, "It is deleted.", status=204)
    @route.errors("not_found")
    async def delete_asset(self, asset_id: str) -> None:
        """Delete an asset and, if it was made for it alone, its file."""
        await self.jobs.assets.delete(asset_id)
        self.set_status(204)
        await self.finish()


class ComfyAPINotFound(ComfyAPIHandler, NotFound):
    """All paths of the Comfy API that are not routes."""

    @route.get("api/v2")
    @route.post("api/v2")
    @route.get("api/v2/{tail}")
    @route.post("api/v2/{tail}")
    async def refuse(self) -> None:
        await super().refuse()


class AssetsHandler(ComfyAPIHandler, UploadFileHandler):
    """``POST assets``: upload a file."""

    async def destination(self, asked: str | None) -> tuple[uploads.UploadTarget, set[str]]:
        """Return the target of the file; for a pool: its member with the least work."""
        try:
            self._machine = machine = self.services.machines.get(asked)
        except NotFoundError as exc:
            raise APIError("invalid_request", exc.message, details=exc.details) from None
        return await self.services.upload_target(machine), {machine.id, machine.name}

    def form(self) -> type[uploads.UploadForm]:
        return uploads.AssetForm

    @route.post("api/v2/assets", "uploadAsset")
    @route.takes(_FORM, headers=(MACHINE_HEADER,))
    @route.replies(
        AssetReply,
        "The asset; its content is new.",
        Link("getAsset", _ASSET),
        Link("getAssetContent", _ASSET),
        Link("deleteAsset", _ASSET),
        status=201,
    )
    @route.replies(AssetReply, "The asset; the server had a file with this content.")
    @route.errors("not_found", "hash_mismatch", "conflict", "upstream_unreachable")
    async def upload_asset(self) -> None:
        """Upload a file."""
        upload = self.received()
        if upload is None:
            raise APIError("invalid_request", "body: must be multipart/form-data")
        (file,) = await self.placed(upload)
        given = upload.field("content_type")
        asset, created = await self.jobs.assets.add(
            file,
            self._machine,
            file_path=upload.field("file_path"),
            content_type=given if _MEDIA_TYPE.fullmatch(given) else "",
        )
        body = asset.to_reply(self.root, created_new=created)
        self.reply(body, status=201 if created else 200)


class AssetContentHandler(ComfyAPIHandler, ViewHandler):
    """``assets/{asset_id}/content``: the file, or a range of it."""

    @route.mount("HEAD", "api/v2/assets/{asset_id}/content", "headAssetContent")
    @route.takes(headers=(RANGE,))
    @route.replies(None, "The asset exists.")
    @route.replies(None, "The range is within it.", status=206)
    @route.replies(None, "The client has it already.", status=304)
    @route.replies(None, "There is no such asset, or its file does not exist any more.", status=404)
    @route.replies(None, "The range is outside the file.", status=416)
    @route.replies(None, "ComfyUI does not answer.", status=503)
    async def head_asset_content(self, asset_id: str) -> None:
        """The size and the type of an asset."""
        await self.get_asset_content(asset_id)

    @route.get("api/v2/assets/{asset_id}/content", "getAssetContent")
    @route.takes(headers=(RANGE, route.IF_CHANGED))
    @route.replies(_CONTENT, "The content.")
    @route.replies(_CONTENT, "The requested range of the content.", status=206)
    @route.replies(None, "The client has it already.", status=304)
    @route.errors(
        "not_found", "output_unavailable", "range_not_satisfiable", "upstream_unreachable"
    )
    async def get_asset_content(self, asset_id: str) -> None:
        """The content of an asset, or a range of it."""
        asset = await self.jobs.assets.get(asset_id)
        self.set_file_headers(asset.filename, asset.content_type)
        if asset.text is not None:
            text = asset.text.encode(errors="replace")
            self.set_header("Accept-Ranges", "bytes")
            start, end = self.begin_range(len(text))
            await self.finish(text[start:end], set_content_type="text/plain")
            return
        file = await self.jobs.assets.open(asset)
        fields: dict[str, Any] = asset.view_query()
        query = ViewQuery.model_construct(None, thumbnail=None, machine=asset.machine, **fields)
        await self.send_content(file, query)
