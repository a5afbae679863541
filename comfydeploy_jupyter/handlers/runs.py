"""Run, follow, cancel and list workflows."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jupyter_server.auth.identity import User
from pydantic import AfterValidator, Field, model_validator
from tornado.iostream import StreamClosedError

from .. import request_models as fields
from ..errors import (
    ComfyDeployError,
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    OfflineError,
    PromptInvalidError,
    RunTimeoutError,
    UnknownInputError,
)
from ..graphs.dependencies import structure_of
from ..machines.registry import AUTO
from ..request_models import Model, RunRequest, optional, parse, required
from ..runs.feed import RunEvent, in_batches
from ..runs.records import Position, RunFilter
from ..util import worker
from ..util.jsons import RawJSON
from ..util.tasks import wait_for
from ..util.times import timestamp_of
from ..workflows import convert
from . import route
from .base import COMMENT, HEARTBEAT, LARGE, Base, Handler
from .route import (
    CLOUD,
    EVENTS,
    FILES,
    MACHINE,
    TIME,
    Content,
    Header,
    Large,
    Link,
    OpenReplyModel,
    ReplyModel,
    Success,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..machines.machine import Machine
    from ..runs.records import RunRecord
    from ..runs.run import Run


MAX_IDS = 10_000  # ids in one request


class InterruptRequest(Model):
    prompt_id: fields.Identifier | None = optional(
        "The run to cancel; by default the one that the machine executes.", fields.RUN_ID
    )
    machine: fields.MachineField = None


class JoinQuery(Model):
    prompt_id: fields.Identifier = required("The id of a run.", fields.RUN_ID)
    previews: bool = optional("Whether the sampler's previews are sent too.", False, default=False)


def _timestamp(moment: datetime) -> str:
    """Return a time as it is stored; one without a time zone is in UTC."""
    try:
        given = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return timestamp_of(given.astimezone(timezone.utc))
    except OverflowError:
        raise ValueError("must be a time between the years 1 and 9999") from None


Time = Annotated[datetime, Field(strict=False), AfterValidator(_timestamp)]
Cursor = Annotated[str, Field(pattern=r"^[0-9T:.Z-]{1,40}/(run|batch)/[0-9]{1,18}$")]
CURSOR = "2026-01-31T12:00:00.000Z/run/7"
Structure = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
STRUCTURE = "0123456789abcdef0123456789abcdef"
PromptIds = Annotated[list[fields.Identifier], Field(min_length=1, max_length=MAX_IDS)]


class RunsFilter(Model):
    """The fields that select runs; only runs that fulfil all of them are selected."""

    structure: Structure | None = optional(
        "Only runs of this workflow, with any input values. The value is the `structure` that"
        " `workflow/form` returns.",
        STRUCTURE,
    )
    workflow_id: fields.WorkflowIdField = None
    machine: fields.MachineRef | None = optional(
        "Only runs of the machine or pool with this id or name.", "local"
    )
    before: Time | None = optional(
        "Only runs that were created before this date or time (ISO 8601; UTC unless it has a time"
        " zone).",
        "2026-01-31",
    )
    after: Time | None = optional(
        "Only runs that were created at this date or time, or after it.", "2026-01-01T12:00:00Z"
    )
    metadata: fields.Labels | None = optional(
        "Only runs with all of these labels; in a query `metadata[client]=acme`.",
        {"client": "acme"},
    )
    search: str | None = optional(
        "Only runs with this text in their id, inputs, seeds, error, outputs, labels or note."
        " Values are found as forms write them, too: `f06fa0` for a colour, `seed 11` for the value"
        " of an input whose name contains `seed`.",
        "portrait",
        max_length=1000,
    )


class ListQuery(RunsFilter):
    """Which of the selected runs are listed."""

    like: fields.Identifier | None = optional(
        "The id of a stored workflow. Only runs with the structure of its newest version.",
        fields.WORKFLOW_ID,
    )
    limit: fields.LimitField = 100
    offset: fields.OffsetField = 0
    status: fields.Status | None = optional("Only runs with this status.", "success")
    pinned: bool | None = optional("Only pinned runs, or only those that are not.", True)
    starred: bool | None = optional("Only runs with a star, or only those without one.", True)
    batch_id: fields.Identifier | None = optional(
        "Only runs of the points of this batch.", fields.BATCH_ID
    )
    single: bool = optional("Only runs that are no points of batches.", True, default=False)


class CardsQuery(ListQuery):
    """Query of ``GET runs/cards``."""

    cursor: Cursor | None = optional(
        "`start` or `next` of an earlier reply. Only what follows it is listed; `offset` skips some"
        " of that.",
        CURSOR,
    )
    batches: bool = optional(
        "List also the batches, each in place of its points. This can be combined with `structure`,"
        " `like`, `metadata`, `before` and `after` only.",
        True,
        default=False,
    )
    count: bool = optional("Whether `total` is counted.", False, default=True)


class RunQuery(Model):
    prompt_id: fields.Identifier = required("The id of a run.", fields.RUN_ID)


class DifferencesQuery(Model):
    first: fields.Identifier = required("The id of a run.", fields.RUN_ID)
    second: fields.Identifier = required("The id of another run.", fields.RUN_ID)


class RunsQuery(ListQuery):
    story: fields.Identifier | None = optional(
        "The id of a run. The reply has its transitions instead of the runs.", fields.RUN_ID
    )
    graph: fields.Identifier | None = optional(
        "The id of a run. The reply has its graph instead of the runs.", fields.RUN_ID
    )
    text: bool = optional(
        "With `graph`: whether the graphs are texts, so that a browser does not round large"
        " integers.",
        True,
        default=False,
    )


class RunsUpdateRequest(Model):
    prompt_ids: PromptIds = required("The ids of runs.", [fields.RUN_ID])
    pinned: bool | None = optional(
        "Whether the runs are pinned: a pinned run is not deleted.", True
    )
    starred: bool | None = optional(
        "Whether the runs have a star, as the best; `keep_runs` does not delete them.", True
    )
    note: str | None = optional(
        "What there is to say about the runs; an empty text removes it.",
        "the best light",
        max_length=10_000,
    )

    @property
    def marks(self) -> dict[str, Any]:
        """The fields that are given."""
        return {n: v for n, v in self if n != "prompt_ids" and v is not None}

    @model_validator(mode="after")
    def _check_marks(self) -> RunsUpdateRequest:
        if not self.marks:
            raise ValueError("needs pinned, starred or note")
        return self


class RunsDeleteRequest(RunsFilter):
    """Body of ``POST runs/delete``; at least one field besides ``files`` is needed."""

    needs = frozenset({"prompt_ids", "status", *RunsFilter.model_fields})

    prompt_ids: PromptIds | None = optional("Only runs with one of these ids.", [fields.RUN_ID])
    status: Literal["success", "failed", "cancelled"] | None = optional(
        "Only runs with this status.", "failed"
    )
    files: bool | None = optional(
        "Whether the output files of the runs are deleted, too; the default is false.", True
    )

    @model_validator(mode="after")
    def _check_filter(self) -> RunsDeleteRequest:
        """Raise unless a field selects runs: nobody deletes all runs by mistake."""
        if not any(getattr(self, name) for name in self.needs):
            raise ValueError("needs prompt_ids, or another field that selects runs")
        return self


class MoveRequest(Model):
    prompt_ids: Annotated[list[fields.Identifier], Field(min_length=1, max_length=100)] = required(
        "The ids of runs that have not begun.", [fields.RUN_ID]
    )
    to: Literal["first", "last"] | None = optional(
        "`first`: they are executed next, in this order; `last`: after those that wait now.",
        "first",
    )
    before: fields.Identifier | None = optional(
        "In place of `to`: a run that waits in the same queue, before which they are executed.",
        fields.RUN_ID,
    )


class RunsMoved(Success):
    """The runs have another place in their queues."""

    moved: int = required("How many of them; the others have begun in the meantime.", 1)


class RunError(OpenReplyModel):
    """Why a run failed."""

    type: str | None
    message: str | None
    node_id: str | None
    node_type: str | None
    node_title: str | None = optional(
        "The title of the node, if it has one that no other node has."
    )
    traceback: str | None = optional("The last lines of the traceback, if ComfyUI has sent one.")


class StoryEntry(ReplyModel):
    """A transition of a run: its cause, and the state after it."""

    at: str = required("Time, ISO 8601 in UTC.", "2026-01-02T03:04:05.678Z")
    cause: str = Field(examples=["accepted by ComfyUI"])
    state: str = Field(examples=["queued"])
    detail: str | None = required("More about the cause.", "as number 3")


_IMAGE = {
    "filename": "example_00001_.png",
    "subfolder": "",
    "type": "output",
    "url": "/comfyui-deploy/view?filename=example_00001_.png&type=output",
}


class RunReply(ReplyModel):
    """A run: its state and, once it has ended, its outputs by node."""

    success: bool = Field(examples=[True])
    prompt_id: str = Field(examples=[fields.RUN_ID])
    number: float | None = required("The place in ComfyUI's queue; smaller numbers run first.", 3)
    status: fields.Status = Field(examples=["success"])
    node_errors: dict[str, Any]
    outputs: dict[str, dict[str, Any]] = Field(examples=[{"2": {"images": [_IMAGE]}}])
    error: RunError | None
    seeds: dict[str, int] = required("The seeds that were drawn, by `<node id>.<input>`.")
    execution_time: float | None = required("Seconds that ComfyUI executed it.", 0.21)
    cached_nodes: list[str] = required("Ids of nodes whose cached outputs were used.")
    node_times: dict[str, float] = required("Seconds by node id.", {"1": 0.02, "2": 0.18})
    machine: str = required(
        "The machine that executes it; the pool while it waits for one.", "local"
    )
    pool: str = optional("The pool that it was sent to, or `auto`.", default="")
    queue_position: int | None = optional(
        "For a queued run: its place among the prompts that have not started, those of other"
        " clients included. Not in lists.",
        1,
    )
    created_at: str = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    finished_at: str | None = Field(examples=[TIME])
    next_seeds: dict[str, int] = Field(default_factory=dict)
    workflow_id: str = ""
    version: int = 1
    batch_id: str = optional("The batch that it is a point of, if it is one.", default="")
    point: int = optional("The number of that point.", default=0)
    warnings: list[str] = Field(default_factory=list)
    inputs: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(
        default_factory=dict, description="The labels of the run.", examples=[{"client": "acme"}]
    )
    pinned: bool = optional("Whether the run may not be deleted.", default=False)
    starred: bool = optional("Whether it has a star.", default=False)
    note: str = optional("What a user says of it.", default="")
    from_editor: bool = optional(
        "Whether ComfyUI's editor has queued it, at ComfyUI itself.", default=False
    )
    waiting_for: list[str] = Field(
        default_factory=list,
        description="Of a run with the status `not-started`: the runs that have not ended and whose"
        " outputs it needs.",
        examples=[[fields.RUN_ID]],
    )
    live_status: str = optional(
        "What it does, in one line; of a run that waits because its machine, or each of its pool,"
        " gets no runs now: why.",
        default="",
    )
    progress: float = 0.0
    current_node: str | None = None
    current_class: str | None = None
    step: int = optional("The step of this node, and the number of its steps.", default=0)
    steps: int = 0
    iterations: list[list[int]] = optional(
        "Of the loops around that node, the outermost first: the iteration that is executed, and"
        " how many there are.",
        default=[],
    )
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
    prompt_id: str = Field(examples=[fields.RUN_ID])
    was: Literal["queued", "running"] = Field(examples=["running"])


class GraphReply(ReplyModel):
    """The graph that a run executed."""

    workflow_api: dict[str, Any] | str = required(
        "In API format, with the values of the run.", fields.GRAPH
    )
    workflow: dict[str, Any] | str | None = required("In the editor's format, if it was given.")


class ShownFile(ReplyModel):
    """An output file as pages show it."""

    name: str = Field(examples=["example_00001_.png"])
    kind: Literal["image", "hdr", "video", "audio", "3d", "file"] = required(
        "Judging by the name; `hdr`: a picture that browsers cannot show.", "image"
    )
    query: str = required(
        "The query of the route `view`.", "filename=example_00001_.png&subfolder=&type=output"
    )
    small: bool = required("Whether `view` can make a `thumbnail`, if it is a picture.", True)
    preview: str = optional(
        "If it is no picture, the asset of ComfyUI that shows it, for `preview` of the route"
        " `view`; else empty.",
        "",
        default="",
    )
    width: int | None = required("Pixels, if they are known.", 512)
    height: int | None = Field(examples=[512])


class ShownRun(ReplyModel):
    """What lists and pages show of a run."""

    prompt_id: str = Field(examples=[fields.RUN_ID])
    status: fields.Status = Field(examples=["success"])
    created_at: str = Field(examples=[TIME])
    machine: str = Field(examples=["local"])
    seconds: float | None = required("How long ComfyUI executed it.", 0.21)
    seeds: dict[str, str] = required(
        "The seeds by `<node id>.<input>`, as texts: a browser rounds large ones.",
        {"3.seed": "18446744073709551615"},
    )
    metadata: dict[str, str] = required("The labels of the run.", {"client": "acme"})
    pinned: bool = Field(examples=[False])
    starred: bool = Field(examples=[False])
    note: str = required("The note about the run; empty if there is none.", "the best light")
    from_editor: bool = required("Whether ComfyUI's editor has queued it.", False)
    workflow_id: str = required("Of its stored workflow; empty if there is none.", "")
    why: str = required("Why it failed or waits; empty if neither.", "")


class RunCard(ShownRun):
    """A run in a list."""

    pictures: list[ShownFile] = required("The first pictures.")
    medium: Literal["", "video", "audio", "3d", "text", "file"] = required(
        "What it has besides pictures.", ""
    )
    inputs: list[str] = required("The first inputs of the request.", ["1.width: 512"])
    workflow: str = required("The name of its stored workflow; empty if there is none.", "")


State = Literal["running", "paused", "cancelled", "done"]


class BatchItem(ReplyModel):
    """A batch."""

    batch_id: str = Field(examples=[fields.BATCH_ID])
    state: State = required(
        "`running`: its points run, or wait; `paused`: those that wait do not run; `done`: all have"
        " ended, also if some failed.",
        "running",
    )
    why: str = required("Why no point is queued now, if it is known.", "")
    waiting_for: list[str] = required(
        "The runs and batches (100 at most) whose outputs its points are: `total` is 0 until these"
        " have ended.",
        [],
    )
    title: str = Field(examples=["Sunsets"])
    machine: str = required("The id of a machine or a pool, or `auto`.", "local")
    key: str | None = Field(examples=["sunsets"])
    labels: dict[str, str] = Field(examples=[{"client": "acme"}])
    created_at: str = Field(examples=[TIME])
    finished_at: str | None = Field(examples=[None])
    total: int = required("The number of its points.", 2)
    counts: dict[str, int] = required(
        "How many points have each status. A point has the status of its run; without one it is"
        " `waiting`.",
        {"waiting": 1, "running": 1},
    )
    fraction: float = required("The part that is done, 0 to 1.", 0.25)
    workflow_id: str | None = required("Of its stored workflow, if it has one.", None)
    version: int | None = Field(examples=[None])
    at_once: int | Literal["auto"] = Field(examples=["auto"])
    retry: int = Field(examples=[0])
    stop_after: int | None = Field(examples=[None])
    order: Literal["cheapest", "given"] = Field(examples=["cheapest"])
    webhook: str | None = Field(examples=[None])


class RunCards(ReplyModel):
    """Runs in a list."""

    runs: list[RunCard] = required("Those that have ended, newest first.")
    batches: list[BatchItem] = required(
        "With `batches`: those between these runs, newest first.", []
    )
    total: int | None = required(
        "The number of all that follow `cursor`; null with `count=false`, unless these are the"
        " last ones.",
        1,
    )
    start: str | None = required(
        "The cursor before the first of these; null if there are none.", CURSOR
    )
    next: str | None = required(
        "The cursor after the last of these; null if there are none.", CURSOR
    )
    waiting: list[RunCard] = required(
        "On the first page: queued runs whose machine, or each of their pool, gets no runs now."
    )


class ShownNode(ReplyModel):
    """A node, by its name for people."""

    node: str = required("Its id.", "2")
    title: str = required("Its title, else its class.", "Save Image")
    class_type: str | None = Field(examples=["SaveImage"])


class ShownOutput(ShownNode):
    """The output of a node; that of a loop has its iterations in order."""

    files: list[ShownFile]
    pairs: list[tuple[int, int]] = required(
        "Pictures that the node compares, before and after, as places in `files`."
    )
    texts: list[str] = Field(examples=[["a text"]])


class NodeTime(ShownNode):
    """How long a node was executed."""

    seconds: float = Field(examples=[0.18])


class RunDetails(ShownRun):
    """A run with its outputs by node."""

    traceback: str = required("Of the node that failed.", "")
    no_memory: bool = required("Whether it failed because memory ran out.", False)
    left_out: list[str] = required("Why ComfyUI did not execute some outputs.", [])
    cached: int = required("The number of nodes whose cached outputs were used.", 0)
    outputs: list[ShownOutput]
    times: list[NodeTime] = required("The longest first.")


class RunValue(ReplyModel):
    """A value of a run, as the form shows it."""

    key: str = Field(examples=["3.seed"])
    label: str = Field(examples=["Seed"])
    title: str = required("The title of the node.", "KSampler")
    kind: str = required("The kind of the field.", "seed")
    value: str = required("As text; long ones are cut.", "18446744073709551615")


class RunValues(ReplyModel):
    """The values of a run."""

    values: list[RunValue]


class Difference(ReplyModel):
    """Something that differs between two runs."""

    text: str = required("The label of the value, or the difference in words.", "Width")
    first: str | None = required("The values, if it is one that differs.", "512")
    second: str | None = Field(examples=["768"])
    kind: str = required("The kind of the field, if there is one.", "int")


class Differences(ReplyModel):
    """What differs between two runs."""

    differences: list[Difference]


class RunsUpdateReply(Success):
    """The runs were changed."""

    updated: int = required("The number of runs.", 1)


class KeptReply(ReplyModel):
    """A run or a file that was not deleted."""

    prompt_id: str = Field(examples=[fields.RUN_ID])
    file: str | None = required(
        "The name of an output file of the run; null if the run itself was kept.",
        "example_00001_.png",
    )
    reason: str = Field(examples=["the workflow 'Portrait' uses it"])


class RunsDeleteReply(Success):
    """The result of a deletion: what was deleted, and what was kept."""

    runs: int = required("The number of deleted runs.", 3)
    files: int = required("The number of deleted files.", 4)
    bytes: int = required("The size of the deleted files.", 1234567)
    kept: list[KeptReply] = required(
        "The first 1000 runs and files that were not deleted, and why."
    )
    kept_count: int = required("The number of all of these.", 1)


_EXAMPLE = ("workflow_api", "inputs")
RUN_ERRORS = (
    InvalidInputError,
    UnknownInputError,
    PromptInvalidError,
    *CLOUD,
    *FILES,
    ConflictError,
    OfflineError,
    RunTimeoutError,
)
_sends_events = route.replies(
    Content(
        EVENTS,
        StreamEvent,
        "id: 1\nevent: event_update\n"
        f'data: {{"prompt_id": "{fields.RUN_ID}", "number": 3, "node_errors": {{}}}}\n\n'
        'id: 2\nevent: event_update\ndata: {"event": "status", "data":'
        f' {{"prompt_id": "{fields.RUN_ID}", "status": "success"}}}}\n\n',
    ),
    "The events, each at its time, the `status` last. The schema describes one event: its `data` is"
    " JSON with `event` and `data`; the first one has `prompt_id`, `number` and `node_errors`. The"
    " status is final, unless the `timeout` has expired and an `error` event came before it.",
)
SERVICE = User(username="comfydeploy-service", name="ComfyDeploy", display_name="ComfyDeploy")
_PROMPT_ID = {"prompt_id": "$response.body#/prompt_id"}
LOOK_INTERVAL = 1.0  # seconds between reads of the record of a run that another server follows


async def run_request(handler: Base, body: dict[str, Any]) -> RunRequest:
    """Return the run that a body requests, with the ComfyDeploy key of the request.

    The body of a native run is sent to ComfyDeploy, whose response is then used as the body. Only
    ``wait``, ``timeout`` and ``previews`` are kept, unless the response contains them.
    """
    request = parse(RunRequest, body)
    given = handler.given_key(request.given_key)
    if request.is_native_run:
        endpoint = request.native_run_api_endpoint
        if not endpoint:
            raise InvalidRequestError.of_field(
                "native_run_api_endpoint", "is needed if is_native_run is true"
            )
        sent = {k: v for k, v in body.items() if k not in ("cd_token", "token")}
        answer = await handler.services.cloud.native_run(endpoint, sent, given)
        asked: dict[str, Any] = {k: body[k] for k in ("wait", "timeout", "previews") if k in body}
        request = parse(RunRequest, {**asked, **answer, "is_native_run": None})
        given = request.given_key or given
    request.cd_token = given
    return request


async def _encoded(batch: list[RunEvent], previews: bool) -> bytes:
    """Return events as ``text/event-stream``, without previews if they are not wanted."""
    wanted = [event for event in batch if previews or event.preview is None]
    for event in wanted:
        if event.size > LARGE:
            await event.encode()
    return b"".join(event.sse for event in wanted)


def not_ended(run: Run) -> RunTimeoutError:
    return RunTimeoutError(
        "The run has not ended in time; it continues", extra={"prompt_id": run.prompt_id}
    )


def _deadline(request: RunRequest, arrived: float) -> float | None:
    """Return when the ``timeout`` of a request is over, by the event loop's clock."""
    return None if request.timeout is None else arrived + request.timeout


class RunHandler(Handler):
    """``POST run``, which ComfyDeploy may call with the machine's token instead of Jupyter's.

    ComfyDeploy sends the token twice: as ``Authorization: Basic base64(token)`` and, for proxies
    that use this header themselves, as ``authorizationheader: token``. One of them is enough; if
    both are sent, both must be correct. The user for the authorizer is ``comfydeploy-service``. No
    XSRF token is required, because browsers do not send these headers by themselves.
    """

    tag = "Runs"
    _caller: User | None = None

    async def prepare(self) -> None:  # type: ignore[override]  # as in Handler
        if self.request.method == "POST" and self._has_machine_token():
            self._caller = SERVICE
        await super().prepare()

    @property
    def current_user(self) -> Any:
        return self._caller or super().current_user

    @current_user.setter
    def current_user(self, user: Any) -> None:
        self._current_user = user

    @property
    def token_authenticated(self) -> bool:
        """Whether Jupyter's token or the machine's token authenticated the request."""
        return self._caller is not None or super().token_authenticated

    def jupyter_token(self) -> str | None:
        """Return the Jupyter token that authenticated the request; never the machine's token."""
        return None if self._caller is not None else super().jupyter_token()

    def skip_check_origin(self) -> bool:
        return self._caller is not None or super().skip_check_origin()

    def _has_machine_token(self) -> bool:
        token = self.extension.machine_token.strip().encode()
        given = list(self._given_tokens()) if token else []
        # All tokens are compared, in a time that does not depend on how many characters match:
        # hashes have the same length.
        expected = hashlib.sha256(token).digest()
        right = [hmac.compare_digest(hashlib.sha256(one).digest(), expected) for one in given]
        if not all(right):
            self.log.warning("A request to run a workflow had a wrong machine token")
        return bool(right) and all(right)

    def _given_tokens(self) -> Iterator[bytes]:
        headers = self.request.headers
        if "authorizationheader" in headers:
            yield headers["authorizationheader"].strip().encode("latin-1")
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                yield base64.b64decode(value.strip(), validate=True)
            except (binascii.Error, ValueError):
                yield b""

    @route.post("run", "run", by_service=True)
    @route.takes(body=RunRequest, example=_EXAMPLE)
    @route.replies(
        RunReply,
        "The run has ended; with `wait: false` it is queued. If a node failed, `success` is false.",
        Link("getStatus", _PROMPT_ID),
        Link("followRun", _PROMPT_ID),
        Link("interruptRun", body=_PROMPT_ID),
        Link("getUploadQueue", _PROMPT_ID),
        Link("cancelUploads", body=_PROMPT_ID),
    )
    @route.errors(*RUN_ERRORS)
    async def run(self) -> None:
        """Run a workflow and return its result.

        One of `workflow_api`, `workflow`, `workflow_id` and `workflow_api_raw` is needed.
        """
        arrived = asyncio.get_running_loop().time()
        request = await run_request(self, await self.json_body(graphs=True))
        wait = not request.node_form if request.wait is None else request.wait
        run = await self.services.runs.submit(request, reply_at_end=wait, arrived=arrived)
        if wait:
            deadline = _deadline(request, arrived)
            left = deadline and deadline - asyncio.get_running_loop().time()
            try:
                await wait_for(run.ended.wait(), left)
            except asyncio.TimeoutError:
                if not run.ended.is_set():
                    raise not_ended(run) from None
        reply = self.services.runs.reply(run.record)
        if run.outputs_size > LARGE:
            await self.reply_large(reply)
        else:
            self.reply(reply)


class StreamHandler(Handler):
    """``run/streaming``: the events of a run as they happen, as ``text/event-stream``."""

    tag = "Runs"

    @route.post("run/streaming", "runStreaming")
    @route.takes(body=RunRequest, example=_EXAMPLE)
    @_sends_events
    @route.errors(*RUN_ERRORS)
    async def run_streaming(self) -> None:
        """Run a workflow and return its events."""
        arrived = asyncio.get_running_loop().time()
        request = await run_request(self, await self.json_body(graphs=True))
        try:
            with self.kept_open():
                run = await self.services.runs.submit(request, streamed=True, arrived=arrived)
        except Exception as exc:
            if not self.has_begun:
                raise
            error = self.error_of(exc, ComfyDeployError.status)
            unsure = self._run_of(error)
            if unsure is None or unsure.log.closed or isinstance(error, RunTimeoutError):
                await self._send_failure(error)
                return
            run = unsure  # it is not known whether ComfyUI has queued it; its events will show that
        deadline = _deadline(request, arrived)
        await self.stream(run, previews=bool(request.previews), deadline=deadline)

    @route.get("run/streaming", "followRun")
    @route.takes(
        headers=(
            Header(
                "Last-Event-ID",
                "The id of the last event that was read; the reply begins after it.",
                "3",
            ),
        )
    )
    @_sends_events
    @route.errors(NotFoundError)
    async def follow_run(self, query: JoinQuery) -> None:
        """Follow a run that exists."""
        seen = self.request.headers.get("Last-Event-ID", "").strip()
        if seen and not re.fullmatch(r"\d{1,18}", seen, re.ASCII):
            raise InvalidRequestError.of_field("Last-Event-ID", "must be the id of an event")
        last_id = int(seen or 0)
        creation = self.services.runs.creation(query.prompt_id)
        if creation is not None:
            with self.kept_open():
                await asyncio.wait({creation})
        run = self.services.runs.find(query.prompt_id)
        if run is not None:
            await self.stream(run, previews=query.previews, last_id=last_id)
            return
        try:
            record = await self.services.runs.record(query.prompt_id)
        except ComfyDeployError as exc:
            if not self.has_begun:
                raise
            await self._send_failure(exc)
            return
        await self.stream_record(record, last_id)

    async def stream(
        self, run: Run, *, previews: bool, last_id: int = 0, deadline: float | None = None
    ) -> None:
        """Send a run's events until it ends or the client disconnects, which does not stop it."""

        async def send(batch: list[RunEvent]) -> None:
            nonlocal last_id
            last_id = batch[-1].id
            events = await _encoded(batch, previews)
            await self.send_events(events, at_end=run.log.has_ended_at(last_id))

        self.begin_stream()
        # A client that asks for events after the last one gets the last one again.
        last_id = min(last_id, run.log.last_id - run.log.closed)
        try:
            if not run.log.after(last_id):  # send the headers now, before there is an event
                await self.flush()
            async for batch in run.log.read(last_id, pause=HEARTBEAT, deadline=deadline):
                if batch:
                    await send(batch)
                else:
                    await self.send_events(COMMENT, at_end=run.log.has_ended_at(last_id))
            while tail := run.log.after(last_id):
                for batch in in_batches(tail):
                    await send(batch)
        except StreamClosedError:
            self._log_left(run.record)
            return
        if run.log.closed:
            self.finish_stream()
        else:
            await self._send_failure(not_ended(run))

    async def stream_record(self, record: RunRecord, last_id: int) -> None:
        """Send result and status of a run whose events are not in this server's memory."""
        self.begin_stream()
        first = self.services.runs.reply(record)
        names = ("prompt_id", "number", "node_errors")
        if not last_id:
            self.write(RunEvent(1, "", {key: first[key] for key in names}).sse)
        try:
            await self.flush()
            while not record.finished:
                await asyncio.sleep(LOOK_INTERVAL)
                self.write(COMMENT)
                await self.flush()
                record = await self.services.runs.record(record.prompt_id)
        except StreamClosedError:
            self._log_left(record)
            return
        except ComfyDeployError as exc:
            await self._send_failure(exc, last_id + 2)
            return
        reply = self.services.runs.reply(record)
        self.write(await asyncio.to_thread(lambda: RunEvent(last_id + 2, "result", reply).sse))
        status = {"prompt_id": record.prompt_id, "status": record.status}
        self.write(RunEvent(last_id + 3, "status", status).sse)
        self.finish_stream()

    def _log_left(self, record: RunRecord) -> None:
        self.log.debug(
            "A client closed the stream of run %s", record.prompt_id, extra=record.log_fields
        )

    def _run_of(self, error: ComfyDeployError) -> Run | None:
        """Return the run that an error names, if it was created."""
        prompt_id = error.extra.get("prompt_id")
        return None if prompt_id is None else self.services.runs.find(prompt_id)

    async def _send_failure(self, error: ComfyDeployError, first: int = 1) -> None:
        """End a stream that has begun with the events `error` and `status`."""
        run = self._run_of(error)
        first = first if run is None else run.log.reserve(2)
        status = error.details.get("status", "failed") if run is None else run.record.status
        prompt_id = None if run is None else run.prompt_id
        final = RunEvent(first + 1, "status", {"prompt_id": prompt_id, "status": status})
        self.write(RunEvent(first, "error", error.to_reply()).sse + final.sse)
        with suppress(StreamClosedError):
            await self.flush()
        self.finish_stream()


# They select runs, but say nothing of a batch.
_NOT_WITH_BATCHES = ("workflow_id", "machine", "search", "status", "pinned", "starred", "batch_id")


def _of_list(query: ListQuery, *, single: bool = False) -> dict[str, Any]:
    return {
        "pinned": query.pinned,
        "starred": query.starred,
        "batch": query.batch_id,
        "single": query.single or single,
    }


class RunsHandler(Handler):
    """The stored runs."""

    tag = "Runs"

    @route.post("interrupt", "interruptRun")
    @route.takes(example=("prompt_id",))
    @route.replies(InterruptReply, "The run is being cancelled.")
    @route.errors(*MACHINE, ConflictError)
    async def interrupt_run(self, body: InterruptRequest) -> Any:
        """Cancel a queued or running run."""
        prompt_id, was = await self.services.runs.interrupt(body.prompt_id, body.machine)
        message = "Interrupting the run" if was == "running" else "Removing the run from the queue"
        return {"message": message, "prompt_id": prompt_id, "was": was}

    @route.post("runs/move", "moveRuns")
    @route.replies(RunsMoved, "The runs have their new places.")
    @route.errors(*MACHINE, ConflictError)
    async def move_runs(self, body: MoveRequest) -> Any:
        """Let runs be executed before all others that wait, after them, or before a certain one."""
        if (body.to is None) == (body.before is None):
            raise InvalidRequestError.of_field("to", "is required, or before, but not both")
        first = body.to == "first"
        moved = await self.services.runs.put(body.prompt_ids, first=first, before=body.before)
        return {"moved": moved}

    @route.get("runs", "listRuns")
    @route.replies(
        list[RunReply] | list[StoryEntry] | GraphReply,
        "The runs; with `story`, the transitions of that run, in order; with `graph`, the graph of"
        " that run.",
    )
    @route.errors(NotFoundError)
    async def list_runs(self, query: RunsQuery) -> Large:
        """The stored runs, newest first."""
        if query.story is not None:
            return await self.services.runs.story(query.story)
        if query.graph is not None:
            graph, workflow = await self.services.runs.graph(query.graph)
            kind = bytes.decode if query.text else RawJSON
            shown = None if workflow is None else kind(workflow)
            return {"workflow_api": kind(graph), "workflow": shown}
        which = self._filter(await self._asked(query), **_of_list(query))
        runs = self.services.runs.newest(limit=query.limit, offset=query.offset, which=which)
        return await self.for_client(runs)

    @route.get("runs/cards", "listCards")
    @route.replies(RunCards, "The runs.")
    @route.errors(NotFoundError)
    async def list_cards(self, query: CardsQuery) -> Large:
        """The stored runs as a page lists them, by the time of their creation, newest first."""
        for name in _NOT_WITH_BATCHES if query.batches else ():
            if getattr(query, name) is not None:
                raise InvalidRequestError.of_field("batches", f"cannot be combined with {name}")
        which = self._filter(await self._asked(query), **_of_list(query, single=query.batches))
        found, batches = await self.for_client(
            self.services.runs.cards(
                **{name: getattr(query, name) for name in ("limit", "offset", "batches", "count")},
                which=which,
                cursor=None if query.cursor is None else Position.parse(query.cursor),
            )
        )
        found["batches"] = await self.services.batches.with_numbers(batches)
        cards = [*found["runs"], *found["waiting"]]
        names = {}
        for workflow_id in {card["workflow_id"] for card in cards}:
            names[workflow_id] = ""
            with suppress(NotFoundError):  # it was deleted, or is one of ComfyDeploy
                if workflow_id:
                    names[workflow_id] = await self.services.local_workflows.name(workflow_id)
        for card in cards:
            card["workflow"] = names[card["workflow_id"]]
        return found

    @route.get("runs/details", "getDetails")
    @route.replies(RunDetails, "The run.")
    @route.errors(NotFoundError)
    async def get_details(self, query: RunQuery) -> Large:
        """A run as a page shows it: its outputs by node, with the titles of nodes."""
        return await self.services.runs.details(query.prompt_id)

    @route.get("runs/values", "listValues")
    @route.replies(RunValues, "The values.")
    @route.errors(NotFoundError)
    async def list_values(self, query: RunQuery) -> Large:
        """All values with which a run was executed, as its form shows them."""
        graph, _ = await self.services.runs.graph(query.prompt_id)
        machine = await self._machine_of(query.prompt_id)
        values = await convert.with_definitions(machine, convert.values, graph)
        return {"values": values}

    @route.get("runs/differences", "compareRuns")
    @route.replies(Differences, "The differences.")
    @route.errors(NotFoundError)
    async def compare_runs(self, query: DifferencesQuery) -> Large:
        """What differs between two runs, with the names and values of the form."""
        first, _ = await self.services.runs.graph(query.first)
        second, _ = await self.services.runs.graph(query.second)
        machine = await self._machine_of(query.second)
        found = await convert.with_definitions(machine, convert.differences, first, second)
        return {"differences": found}

    async def _machine_of(self, prompt_id: str) -> Machine:
        """Return the machine of a run; the default one if that was deleted, or the run waits."""
        machines = self.services.machines
        with suppress(NotFoundError):
            return machines.get((await self.services.runs.record(prompt_id)).machine)
        return machines.get(None)

    @route.post("runs/update", "updateRuns")
    @route.replies(RunsUpdateReply, "The runs are changed.")
    @route.errors(NotFoundError)
    async def update_runs(self, body: RunsUpdateRequest) -> Any:
        """Pin runs, so that they are not deleted, give them stars, or write notes about them."""
        await self.services.runs.deleter.mark(body.prompt_ids, body.marks)
        return {"updated": len(set(body.prompt_ids))}

    @route.post("runs/delete", "deleteRuns")
    @route.takes(example=("prompt_ids", "files"))
    @route.replies(RunsDeleteReply, "What was deleted, and what was kept and why.")
    @route.errors(NotFoundError)
    async def delete_runs(self, body: RunsDeleteRequest) -> Any:
        """Delete runs that have ended, and their output files.

        At least one field besides `files` is needed.
        """
        which = self._filter(body, prompt_ids=body.prompt_ids)
        deleted = await self.services.runs.deleter.delete(which, files=bool(body.files))
        return deleted.reply()

    async def _asked(self, query: ListQuery) -> ListQuery:
        """Return the query with the structure of the workflow in ``like``."""
        if query.like is None:
            return query
        stored = await self.services.local_workflows.version(query.like, None)
        # A version that ComfyUI cannot execute has no runs.
        structure = await worker.run(structure_of, stored["workflow_api"] or {})
        return query.model_copy(update={"structure": structure})

    def _filter(self, request: ListQuery | RunsDeleteRequest, **more: Any) -> RunFilter:
        """Return the filter of a request, with the id of its machine."""
        asked = {name: getattr(request, name) for name in RunsFilter.model_fields}
        if request.machine is not None and request.machine != AUTO:
            with suppress(NotFoundError):  # it may be the id of a machine that was deleted
                asked["machine"] = self.services.machines.resolve(request.machine)
        return RunFilter(
            statuses=() if request.status is None else (request.status,),
            **asked,
            **more,
        )
