"""The Comfy API v2: jobs and assets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..compat.comfy_api import CODES, APIError
from ..schemas.comfy_api import HASH
from ..schemas.examples import GRAPH, RUN_ID
from .operation import (
    BINARY,
    EVENTS,
    FORM,
    JSON,
    TIME,
    Content,
    Header,
    Link,
    Operation,
    Reply,
    ReplyModel,
    json_body,
    json_reply,
)

ASSET_ID = "9f8a1c0d-2b3e-4f56-8a7b-1c2d3e4f5a6b"
API = "/comfyui-deploy/api/v2"
TAG = "Comfy API"
NEVER = "9999-12-31T23:59:59Z"
JOB_URL = f"http://127.0.0.1:8888{API}/jobs/{RUN_ID}"
ASSET_URL = f"http://127.0.0.1:8888{API}/assets/{ASSET_ID}"
JobStatus = Literal["queued", "running", "succeeded", "canceling", "canceled", "failed", "expired"]


class APIErrorDetail(ReplyModel):
    """The cause of the error."""

    code: str = Field(description="One of the codes of the Comfy API.")
    message: str = Field(description="One sentence.")
    details: dict[str, Any] | None = Field(description="Facts about the error.")


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

    value: float = Field(ge=0, le=1, description="The part that is done.", examples=[0.42])
    nodes_done: int = Field(description="Nodes that are done.", examples=[11])
    nodes_total: int = Field(description="Nodes that are executed.", examples=[31])
    current_node: str | None = None
    current_node_class: str | None = None
    step: int | None = Field(None, description="The step of the current node.")
    steps: int | None = Field(None, description="Its number of steps.")
    message: str | None = None


class JobOutput(ReplyModel):
    """A file or a text that a job has made. It is an asset."""

    node_id: str = Field(examples=["2"])
    name: str = Field(examples=["ComfyUI_00001_.png"])
    type: Literal["image", "video", "audio", "text", "file", "latent"] = Field(examples=["image"])
    content_type: str = Field(examples=["image/png"])
    size_bytes: int = Field(examples=[1848320])
    id: str = Field(description="The id of the asset.", examples=[ASSET_ID])
    hash: str | None = Field(description="Its BLAKE3, if known.")
    url: str = Field(description="The address of its content.", examples=[f"{ASSET_URL}/content"])
    url_expires_at: str = Field(description="Never.", examples=[NEVER])
    job_id: str | None = Field(examples=[RUN_ID])


class JobFailure(ReplyModel):
    """Why a job has failed."""

    code: str = Field(
        description="`node_execution_error` if a node has failed, `invalid_workflow` if ComfyUI has"
        " refused the workflow."
    )
    message: str
    node_id: str | None
    class_type: str | None
    traceback: str | None


class JobMetrics(ReplyModel):
    """Durations of a job."""

    queue_ms: int | None = Field(description="Milliseconds in the queue.")
    execution_ms: int | None = Field(description="Milliseconds of its execution.")


class Job(ReplyModel):
    """A run as a job."""

    id: str = Field(description="The id of the run.", examples=[RUN_ID])
    status: JobStatus = Field(examples=["succeeded"])
    created_at: str = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    completed_at: str | None = Field(examples=[TIME])
    expires_at: str = Field(description="Never.", examples=[NEVER])
    queue_position: int | None = Field(
        description="Its place among the waiting jobs of its machine, from 1."
    )
    progress: JobProgress | None = Field(description="Null before it is executed.")
    outputs: list[JobOutput]
    error: JobFailure | None
    metrics: JobMetrics
    metadata: dict[str, str] = Field(description="Its labels.", examples=[{"client": "acme"}])
    warnings: list[str] = Field(
        description="What was lost: texts that are too large, nodes that are not executed."
    )
    urls: JobURLs


class JobItem(Job):
    """A job in the list of jobs."""

    create_time: str = Field(examples=[TIME])
    update_time: str = Field(description="Its last change.", examples=[TIME])
    deployment_id: str | None


class JobPage(ReplyModel):
    """A page of the jobs, newest first."""

    jobs: list[JobItem]
    next_cursor: str | None = Field(None, description="For the next page; missing on the last one.")
    truncated: bool = Field(description="Whether there is another page.", examples=[False])


class JobWorkflow(ReplyModel):
    """The workflow of a job."""

    workflow: dict[str, Any] = Field(examples=[GRAPH])
    format: Literal["api", "save"] = Field(
        description="`api`: as ComfyUI executes it; `save`: as the editor saves it, if the run was"
        " one of a stored workflow."
    )


class AssetReply(ReplyModel):
    """A file in one of ComfyUI's folders, or a text that a job has made."""

    id: str = Field(examples=[ASSET_ID])
    hash: str | None = Field(description="The BLAKE3 of its content, if known.", examples=[HASH])
    size_bytes: int = Field(examples=[4816293])
    content_type: str = Field(examples=["image/png"])
    file_path: str | None = Field(examples=["photo.png"])
    created_new: bool | None = Field(
        description="After an upload: whether no other file had this content.", examples=[True]
    )
    created_at: str = Field(examples=[TIME])
    url: str = Field(description="The address of its content.", examples=[f"{ASSET_URL}/content"])
    url_expires_at: str = Field(description="Never.", examples=[NEVER])
    expires_at: str | None = Field(description="Null: it does not expire.")
    job_id: str | None = Field(description="The job that has made it, if it is an output.")


class Health(ReplyModel):
    """The server answers."""

    status: Literal["ok"]


_EVERYWHERE = (
    "unauthorized",
    "forbidden",
    "invalid_request",
    "internal_error",
    "store_unavailable",
    "no_space",
    "unsupported_platform",
)
_WITH_BODY = ("invalid_json", "too_large")
KEY = Header(
    "Idempotency-Key",
    "1 to 255 characters. A key starts one job: a second request with it is refused, also with the"
    " same body, and `details.job_id` is the job. A request that ComfyUI refused frees its key.",
    "0b9b6f4c-2f0e-4f0f-9d53-9a2f4f9d1f0e",
)
MACHINE = Header(
    "X-ComfyDeploy-Machine",
    "The machine, by its id or name; by default `metadata.machine`, else the default machine.",
    "local",
)
RANGE = Header("Range", "A range of bytes.", "bytes=0-99")


def _errors(*codes: str, body: bool = False) -> tuple[Reply, ...]:
    """Return the replies for errors, one for each status."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *(_WITH_BODY if body else ()), *_EVERYWHERE)):
        by_status.setdefault(CODES[code][0], []).append(code)
    return tuple(_error(status, found) for status, found in sorted(by_status.items()))


def _error(status: int, codes: list[str]) -> Reply:
    schema = {
        "allOf": [{"$ref": "#/components/schemas/APIErrorReply"}],
        "properties": {"error": {"properties": {"code": {"enum": codes}}}},
    }
    example = APIError(codes[0], CODES[codes[0]][1]).to_reply()
    return Reply(
        " ".join(f"`{code}`: {CODES[code][1]}" for code in codes),
        (Content(JSON, schema, example),),
        status,
    )


_JOB = {"job_id": "$response.body#/id"}
_ASSET = {"asset_id": "$response.body#/id"}
_EVENTS = Reply(
    "First the present `status`, the `progress` and the `output`s so far, then each change; the"
    " final `status` is the last one. `preview` has `node_id`, `content_type` and `data_base64`,"
    " `log` has `level` and `message`. A comment is sent every 15 seconds.",
    (
        Content(
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
        ),
    ),
)
_FORM = (
    Content(
        FORM,
        {
            "type": "object",
            "properties": {
                "content_type": {"type": "string", "description": "The media type of the file."},
                "file_path": {
                    "type": "string",
                    "description": "Where the file is to be: a name or `input/…` is an input,"
                    " `models/<folder>/…` or `<folder>/…` is a model.",
                },
                "expected_hash": {
                    "type": "string",
                    "description": "The BLAKE3 of the file; another file is refused.",
                },
                "tags": {"type": "string", "description": "Ignored."},
                "file": BINARY,
            },
            "required": ["file"],
        },
        {"file_path": "photo.png", "file": "(the bytes of the file)"},
    ),
)
_CONTENT = (Content("*/*", BINARY, "(the bytes of the file)"),)
_NO_JOB = ("not_found",)

OPERATIONS = (
    Operation(
        method="get",
        path=f"{API}/health",
        id="getHealth",
        tag=TAG,
        summary="Whether the server answers",
        replies=(json_reply(Health, "The server answers."), *_errors()),
        own_errors=True,
    ),
    Operation(
        method="get",
        path=f"{API}/jobs/{{job_id}}/workflow",
        id="getJobWorkflow",
        tag=TAG,
        summary="The workflow of a job",
        replies=(json_reply(JobWorkflow, "The workflow."), *_errors(*_NO_JOB)),
        own_errors=True,
    ),
    Operation(
        method="post",
        path=f"{API}/jobs/{{job_id}}/cancel",
        id="cancelJob",
        tag=TAG,
        summary="Cancel a job; one that has ended stays as it is",
        replies=(
            json_reply(Job, "The job."),
            *_errors(*_NO_JOB, "conflict", "upstream_unreachable"),
        ),
        own_errors=True,
    ),
    Operation(
        method="get",
        path=f"{API}/jobs/{{job_id}}/events",
        id="followJob",
        tag=TAG,
        summary="The events of a job until its end",
        replies=(_EVENTS, *_errors(*_NO_JOB)),
        own_errors=True,
    ),
    Operation(
        method="get",
        path=f"{API}/jobs/{{job_id}}",
        id="getJob",
        tag=TAG,
        summary="A job",
        replies=(json_reply(Job, "The job."), *_errors(*_NO_JOB)),
        own_errors=True,
    ),
    Operation(
        method="post",
        path=f"{API}/jobs",
        id="createJob",
        tag=TAG,
        summary="Run a workflow as a job",
        headers=(KEY, MACHINE),
        bodies=json_body(schemas.JobRequest, "workflow", "metadata"),
        replies=(
            json_reply(
                Job,
                "The job. It is queued, or ComfyUI has not answered yet whether it accepts it.",
                Link("getJob", _JOB),
                Link("getJobWorkflow", _JOB),
                Link("followJob", _JOB),
                Link("cancelJob", _JOB),
                status=201,
            ),
            *_errors(
                "conflict",
                "invalid_workflow",
                "workflow_format_ui",
                "missing_asset",
                "idempotency_key_reuse",
                "metadata_invalid",
                "upstream_unreachable",
                body=True,
            ),
        ),
        own_errors=True,
    ),
    Operation(
        method="get",
        path=f"{API}/jobs",
        id="listJobs",
        tag=TAG,
        summary="The jobs, newest first",
        query=schemas.JobsQuery,
        replies=(
            json_reply(JobPage, "A page of the jobs."),
            *_errors("invalid_cursor", "invalid_metadata_filter"),
        ),
        own_errors=True,
    ),
    Operation(
        method="post",
        path=f"{API}/assets/from-hash",
        id="createAssetFromHash",
        tag=TAG,
        summary="Make an asset of a file that the server has, without an upload",
        bodies=json_body(schemas.AssetFromHash, "hash", "file_path"),
        replies=(
            json_reply(AssetReply, "The asset."),
            *_errors("blob_not_found", "not_found", "conflict", "output_unavailable", body=True),
        ),
        own_errors=True,
    ),
    Operation(
        method="head",
        path=f"{API}/assets/by-hash/{{hash}}",
        id="hasAsset",
        tag=TAG,
        summary="Whether the server has a file with this BLAKE3",
        replies=(
            Reply("The server has the file."),
            Reply("The server has no such file.", status=404),
            Reply("This is not a BLAKE3 hash.", status=422),
        ),
        own_errors=True,
    ),
    Operation(
        method="get",
        path=f"{API}/assets/{{asset_id}}/content",
        id="getAssetContent",
        tag=TAG,
        summary="The content of an asset, or a range of it",
        headers=(RANGE,),
        replies=(
            Reply("The content.", _CONTENT),
            Reply("The requested range of the content.", _CONTENT, 206),
            Reply("The client has it already.", status=304),
            *_errors(
                "not_found", "output_unavailable", "range_not_satisfiable", "upstream_unreachable"
            ),
        ),
        own_errors=True,
    ),
    Operation(
        method="head",
        path=f"{API}/assets/{{asset_id}}/content",
        id="headAssetContent",
        tag=TAG,
        summary="The size and the type of an asset",
        headers=(RANGE,),
        replies=(
            Reply("The asset exists."),
            Reply("The range is within it.", status=206),
            Reply("The client has it already.", status=304),
            Reply("There is no such asset, or its file does not exist any more.", status=404),
            Reply("The range is outside the file.", status=416),
            Reply("ComfyUI does not answer.", status=503),
        ),
        own_errors=True,
    ),
    Operation(
        method="get",
        path=f"{API}/assets/{{asset_id}}",
        id="getAsset",
        tag=TAG,
        summary="An asset",
        replies=(
            json_reply(AssetReply, "The asset.", Link("getAssetContent", _ASSET)),
            *_errors("not_found"),
        ),
        own_errors=True,
    ),
    Operation(
        method="delete",
        path=f"{API}/assets/{{asset_id}}",
        id="deleteAsset",
        tag=TAG,
        summary="Delete an asset and, if it was made for it alone, its file",
        replies=(Reply("It is deleted.", status=204), *_errors("not_found")),
        own_errors=True,
    ),
    Operation(
        method="post",
        path=f"{API}/assets",
        id="uploadAsset",
        tag=TAG,
        summary="Upload a file",
        headers=(MACHINE,),
        bodies=_FORM,
        replies=(
            json_reply(
                AssetReply,
                "The asset; its content is new.",
                Link("getAsset", _ASSET),
                Link("getAssetContent", _ASSET),
                Link("deleteAsset", _ASSET),
                status=201,
            ),
            json_reply(AssetReply, "The asset; the server had a file with this content."),
            *_errors("not_found", "hash_mismatch", "conflict", "upstream_unreachable", body=True),
        ),
        own_errors=True,
    ),
)
