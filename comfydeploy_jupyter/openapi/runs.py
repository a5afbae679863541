"""Run, follow, cancel and list workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OfflineError,
    PromptInvalidError,
    RunTimeoutError,
    UnknownInputError,
)
from ..schemas.examples import GRAPH, RUN_ID
from .operation import (
    CLOUD,
    EVENTS,
    FILES,
    KEY,
    MACHINE,
    TIME,
    Content,
    Header,
    Link,
    OpenReplyModel,
    Operation,
    Reply,
    ReplyModel,
    Success,
    json_body,
    json_reply,
)

if TYPE_CHECKING:
    from .operation import Errors


class RunError(OpenReplyModel):
    """Why a run failed."""

    type: str | None
    message: str | None
    node_id: str | None
    node_type: str | None
    node_title: str | None = Field(
        None, description="The title of the node, if it has one that no other node has."
    )
    traceback: str | None = Field(
        None, description="The last lines of the traceback, if ComfyUI has sent one."
    )


class StoryEntry(ReplyModel):
    """A transition of a run: its cause, and the state after it."""

    at: str = Field(description="Time, ISO 8601 in UTC.", examples=["2026-01-02T03:04:05.678Z"])
    cause: str = Field(examples=["accepted by ComfyUI"])
    state: str = Field(examples=["queued"])
    detail: str | None = Field(description="More about the cause.", examples=["as number 3"])


class RunReply(ReplyModel):
    """A run: its state and, once it has ended, its outputs by node."""

    success: bool = Field(examples=[True])
    prompt_id: str = Field(examples=[RUN_ID])
    number: float | None = Field(
        description="The place in ComfyUI's queue; smaller numbers run first.", examples=[3]
    )
    status: schemas.Status = Field(examples=["success"])
    node_errors: dict[str, Any]
    outputs: dict[str, dict[str, Any]] = Field(
        examples=[
            {
                "2": {
                    "images": [
                        {
                            "filename": "example_00001_.png",
                            "subfolder": "",
                            "type": "output",
                            "url": "/comfyui-deploy/view?filename=example_00001_.png&type=output",
                        }
                    ]
                }
            }
        ]
    )
    error: RunError | None
    seeds: dict[str, int] = Field(description="The seeds that were drawn, by `<node id>.<input>`.")
    execution_time: float | None = Field(
        description="Seconds that ComfyUI executed it.", examples=[0.21]
    )
    cached_nodes: list[str] = Field(description="Ids of nodes whose cached outputs were used.")
    node_times: dict[str, float] = Field(
        description="Seconds by node id.", examples=[{"1": 0.02, "2": 0.18}]
    )
    machine: str = Field(
        description="The machine that executes it; the pool while it waits for one.",
        examples=["local"],
    )
    pool: str = Field("", description="The pool that it was sent to, or `auto`.")
    queue_position: int | None = Field(
        None,
        description="For a queued run: its place among the prompts that have not started, those of"
        " other clients included. Not in lists.",
        examples=[1],
    )
    created_at: str = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    finished_at: str | None = Field(examples=[TIME])
    next_seeds: dict[str, int] = Field(default_factory=dict)
    workflow_id: str = ""
    version: int = 1
    warnings: list[str] = Field(default_factory=list)
    inputs: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(
        default_factory=dict, description="The labels of the run.", examples=[{"client": "acme"}]
    )
    pinned: bool = Field(False, description="Whether the run may not be deleted.")
    from_editor: bool = Field(
        False,
        description="Whether ComfyUI's editor has queued it, at ComfyUI itself.",
    )
    live_status: str = Field(
        "",
        description="What it does, in one line; of a run that waits because its machine, or each of"
        " its pool, gets no runs now: why.",
    )
    progress: float = 0.0
    current_node: str | None = None
    time_left: float | None = None


class StreamEvent(ReplyModel):
    """One message of a ``text/event-stream``; ``data`` is one JSON object."""

    id: str
    event: Literal["event_update"]
    data: Annotated[
        str,
        Field(
            json_schema_extra={
                "contentMediaType": "application/json",
                "contentSchema": {
                    "type": "object",
                    "properties": {"event": {"type": "string"}, "data": {"type": "object"}},
                },
            }
        ),
    ]


class InterruptReply(Success):
    """The run that is being cancelled."""

    message: str = Field(examples=["Interrupting the run"])
    prompt_id: str = Field(examples=[RUN_ID])
    was: Literal["queued", "running"] = Field(examples=["running"])


class GraphReply(ReplyModel):
    """The graph that a run executed."""

    workflow_api: dict[str, Any] = Field(
        description="In API format, with the values of the run.", examples=[GRAPH]
    )
    workflow: dict[str, Any] | None = Field(description="In the editor's format, if it was given.")


class RunsUpdateReply(Success):
    """The runs were changed."""

    updated: int = Field(description="The number of runs.", examples=[1])


class KeptReply(ReplyModel):
    """A run or a file that was not deleted."""

    prompt_id: str = Field(examples=[RUN_ID])
    file: str | None = Field(
        description="The name of an output file of the run; null if the run itself was kept.",
        examples=["example_00001_.png"],
    )
    reason: str = Field(examples=["the workflow 'Portrait' uses it"])


class RunsDeleteReply(Success):
    """The result of a deletion: what was deleted, and what was kept."""

    runs: int = Field(description="The number of deleted runs.", examples=[3])
    files: int = Field(description="The number of deleted files.", examples=[4])
    bytes: int = Field(description="The size of the deleted files.", examples=[1234567])
    kept: list[KeptReply] = Field(
        description="The first 1000 runs and files that were not deleted, and why."
    )
    kept_count: int = Field(description="The number of all of these.", examples=[1])


_BODY = json_body(schemas.RunRequest, "workflow_api", "inputs")
_NEEDS = ("workflow_api", "workflow", "workflow_id", "workflow_api_raw", "is_native_run")
RUN_ERRORS: Errors = (
    InvalidInputError,
    UnknownInputError,
    PromptInvalidError,
    *CLOUD,
    *FILES,
    ConflictError,
    OfflineError,
    RunTimeoutError,
)
_EVENTS = Reply(
    "The events, each at its time, the `status` last. The schema describes one event: its `data` is"
    " JSON with `event` and `data`; the first one has `prompt_id`, `number` and `node_errors`. The"
    " status is final, unless the `timeout` has expired and an `error` event came before it.",
    (
        Content(
            EVENTS,
            StreamEvent,
            "id: 1\nevent: event_update\n"
            f'data: {{"prompt_id": "{RUN_ID}", "number": 3, "node_errors": {{}}}}\n\n'
            'id: 2\nevent: event_update\ndata: {"event": "status", "data":'
            f' {{"prompt_id": "{RUN_ID}", "status": "success"}}}}\n\n',
        ),
    ),
)
_PROMPT_ID = {"prompt_id": "$response.body#/prompt_id"}

OPERATIONS = (
    Operation(
        method="post",
        path="/comfyui-deploy/run",
        id="run",
        tag="Runs",
        summary="Run a workflow and return its result",
        text="One of `workflow_api`, `workflow`, `workflow_id` and `workflow_api_raw` is needed.",
        headers=(KEY,),
        bodies=_BODY,
        needs=_NEEDS,
        replies=(
            json_reply(
                RunReply,
                "The run has ended; with `wait: false` it is queued. If a node failed, `success`"
                " is false.",
                Link("getStatus", _PROMPT_ID),
                Link("followRun", _PROMPT_ID),
                Link("interruptRun", body=_PROMPT_ID),
                Link("getUploadQueue", _PROMPT_ID),
                Link("cancelUploads", body=_PROMPT_ID),
            ),
        ),
        errors=RUN_ERRORS,
        by_service=True,
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/run/streaming",
        id="runStreaming",
        tag="Runs",
        summary="Run a workflow and return its events",
        headers=(KEY,),
        bodies=_BODY,
        needs=_NEEDS,
        replies=(_EVENTS,),
        errors=RUN_ERRORS,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/run/streaming",
        id="followRun",
        tag="Runs",
        summary="Follow a run that exists",
        query=schemas.JoinQuery,
        headers=(
            Header(
                "Last-Event-ID",
                "The id of the last event that was read; the reply begins after it.",
                "3",
            ),
        ),
        replies=(_EVENTS,),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/interrupt",
        id="interruptRun",
        tag="Runs",
        summary="Cancel a queued or running run",
        bodies=json_body(schemas.InterruptRequest, "prompt_id"),
        replies=(json_reply(InterruptReply, "The run is being cancelled."),),
        errors=(*MACHINE, ConflictError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/runs",
        id="listRuns",
        tag="Runs",
        summary="The stored runs, newest first",
        query=schemas.RunsQuery,
        replies=(
            json_reply(
                list[RunReply] | list[StoryEntry] | GraphReply,
                "The runs; with `story`, the transitions of that run, in order; with `graph`, the"
                " graph of that run.",
            ),
        ),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/runs/update",
        id="updateRuns",
        tag="Runs",
        summary="Pin runs, or unpin them: pinned runs are not deleted",
        bodies=json_body(schemas.RunsUpdateRequest, "prompt_ids", "pinned"),
        replies=(json_reply(RunsUpdateReply, "The runs are changed."),),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/runs/delete",
        id="deleteRuns",
        tag="Runs",
        summary="Delete runs that have ended, and their output files",
        text="At least one field besides `files` is needed.",
        bodies=json_body(schemas.RunsDeleteRequest, "prompt_ids", "files"),
        needs=(
            *("prompt_ids", "status", "machine", "structure", "workflow_id"),
            *("before", "after", "metadata", "search"),
        ),
        replies=(json_reply(RunsDeleteReply, "What was deleted, and what was kept and why."),),
        errors=(NotFoundError,),
    ),
)
