"""Batches: one workflow at many points, in one request."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from tornado.iostream import StreamClosedError

from .. import request_models as fields
from ..batches.records import BatchFilter, PointFilter
from ..errors import (
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    UnknownInputError,
)
from ..request_models import BatchRequest, Model, optional, required
from . import route
from .base import COMMENT, HEARTBEAT, Handler
from .route import BINARY, EVENTS, JSON, MACHINE, Content, Header, Large, Link, ReplyModel, Success
from .runs import (
    STRUCTURE,
    BatchItem,
    RunReply,
    RunsDeleteReply,
    ShownFile,
    State,
    StreamEvent,
    Structure,
)

if TYPE_CHECKING:
    from ..batches.sheet import Kind

_EVENT_ID = re.compile(r"^(\d{1,18})-(\d{1,18})$", re.ASCII)

PointStatus = Literal["waiting", fields.Status]


class BatchesQuery(Model):
    limit: fields.LimitField = 100
    offset: fields.OffsetField = 0
    state: State | None = optional("Only batches in this state.", "running")
    key: str | None = optional("Only batches with this key.", "sunsets", max_length=200)
    labels: fields.Labels | None = optional(
        "Only batches with all of these labels: `labels[client]=acme`.", {"client": "acme"}
    )
    structure: Structure | None = optional(
        "Only batches of this workflow, with any input values. The value is the `structure` that"
        " `workflow/form` returns.",
        STRUCTURE,
    )


class BatchQuery(Model):
    axes: bool = optional(
        "Whether the reply has the values of the axes; if not, `axes` is empty.",
        False,
        default=True,
    )


class PointsQuery(Model):
    limit: fields.LimitField = 100
    offset: fields.OffsetField = 0
    status: Literal["active", PointStatus] | None = optional(
        "Only points with this status; `active`: those with a run that has not ended.", "failed"
    )
    after: Annotated[str, Field(pattern=_EVENT_ID.pattern)] | None = optional(
        "The `mark` of an earlier reply, or the id of an event; `0-0` at first. The reply has the"
        " points that have ended since then, in the order of their ends, and no other filter"
        " counts.",
        "0-0",
    )
    values: dict[str, str] | None = optional(
        "Only points with these values: `values[1.width]=64`.", {"1.width": "64"}
    )


class RetryRequest(Model):
    points: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = optional(
        "The numbers of failed points; by default all that have failed.", [3]
    )


class LabelsRequest(Model):
    labels: fields.Labels = required("The labels, which replace those it has.", {"client": "acme"})


class DeleteQuery(Model):
    runs: bool = optional("Whether its runs are deleted, too.", True, default=False)
    files: bool = optional(
        "Whether its runs and their output files are deleted, too.", True, default=False
    )


class SheetQuery(Model):
    format: Literal["png", "webp", "html"] = optional("The format.", "png", default="png")
    starred: bool = optional("Only the points whose runs have a star.", True, default=False)


class TableQuery(Model):
    format: Literal["csv", "json"] = optional("The format.", "csv", default="json")
    starred: bool = optional("Only the points whose runs have a star.", True, default=False)
    limit: Annotated[int, Field(ge=1)] | None = optional("Only so many of the first points.", 2000)


class SheetHeads(ReplyModel):
    """The headings of a contact sheet; empty where each picture has its values below it."""

    row_title: str = Field(examples=[""])
    rows: list[str] = Field(examples=[[]])
    column_title: str = Field(examples=["Width"])
    columns: list[str] = Field(examples=[["64 px", "128 px"]])


class TableRow(ReplyModel):
    """A point in words."""

    point: int = Field(examples=[0])
    label: str = required("Its values on one line.", "Width 64 px")
    values: list[str] = Field(examples=[["64 px"]])
    starred: bool = Field(examples=[False])
    status: PointStatus = Field(examples=["success"])
    seconds: float | None = Field(examples=[0.21])
    files: list[str] = Field(examples=[["example_00001_.png"]])
    texts: list[str] = Field(examples=[[]])
    error: str = Field(examples=[""])
    prompt_id: str = Field(examples=[fields.RUN_ID])
    picture: ShownFile | None = required("The picture that stands for it.")


class BatchTable(ReplyModel):
    """The table of a batch in the words of the form of its workflow."""

    keys: list[str] = required("The inputs that vary.", ["1.width"])
    labels: list[str] = required("Their labels.", ["Width"])
    heads: SheetHeads
    points: list[TableRow]


class BatchCreated(Success):
    """A new batch."""

    batch_id: str = Field(examples=[fields.BATCH_ID])
    total: int = required(
        "The number of its points; 0 while that is not known, see `waiting_for`.", 2
    )
    taken_over: int = required("How many of them were taken over from an earlier batch.", 0)
    notes: list[str] = required("What to know before it runs, such as loops.", [])


class BatchAxis(ReplyModel):
    """Inputs that change together, and their values."""

    names: list[str] = Field(examples=[["1.width"]])
    values: list[list[Any]] = Field(examples=[[[64], [128]]])


class BatchMachine(ReplyModel):
    """A machine that has executed points."""

    machine: str = Field(examples=["local"])
    points: int = required("How many of the last 200 runs of the batch it executed.", 12)
    seconds: float = required("How long one of them took on average.", 0.21)


class BatchReply(BatchItem):
    """A batch, with its axes and the time that is left."""

    axes: list[BatchAxis] = required("Of a grid; empty if the points were given one by one.")
    names: list[str] = required("The inputs that vary.", ["1.width"])
    notes: list[str] = Field(examples=[[]])
    machines: list[BatchMachine]
    time_left: float | None = required(
        "How long the other points will probably take, seconds; null until one has ended.", 12.5
    )


class BatchList(ReplyModel):
    """Batches."""

    batches: list[BatchItem] = required("The newest first.")
    total: int = required("The number of all of these.", 1)


class BatchPoint(ReplyModel):
    """A point of a batch."""

    point: int = required("Its position in the order of the request, from 0.", 0)
    values: dict[str, Any] = required("Its values by the names of inputs.", {"1.width": 64})
    status: PointStatus = Field(examples=["success"])
    attempts: int = required("How many runs it has had.", 1)
    prompt_id: str | None = required("The id of its last run.", fields.RUN_ID)
    error: str = required("Why it failed.", "")
    run: RunReply | None = required("Its last run; null if that was deleted.")


class BatchPoints(ReplyModel):
    """Points of a batch."""

    points: list[BatchPoint] = required("In the order of the request.")
    total: int = required("The number of all of these; with `after` of all points.", 2)
    mark: str | None = required("With `after`: from where the next request goes on.", "3-0")


def _mark(text: str) -> tuple[int, int]:
    """Return the number of the change and of the point of an event's id."""
    change, _, point = text.partition("-")
    return int(change), int(point)


_ID = {"batch_id": "$response.body#/batch_id"}
_reply = route.replies(BatchReply, "The batch.")


class BatchesHandler(Handler):
    """Many runs in one request; the server keeps them and goes on after a restart."""

    tag = "Batches"

    @route.post("batch", "createBatch")
    @route.takes(example=("workflow_api", "inputs"), graphs=True)
    @route.replies(
        BatchCreated,
        "The batch is stored; its points run one after the other.",
        Link("getBatch", _ID),
        Link("listPoints", _ID),
        Link("followBatch", _ID),
        Link("cancelBatch", _ID),
    )
    @route.errors(InvalidInputError, UnknownInputError, *MACHINE, ConflictError)
    async def create_batch(self, body: BatchRequest) -> Any:
        """Run a workflow at many points.

        All names and values are checked first: `details.points` of the error names each wrong
        point by its number. Exactly one of `inputs` with `$vary`, `points` and `prompts` is needed.
        """
        return await self.services.batches.create(body)

    @route.get("batches", "listBatches")
    @route.replies(BatchList, "The batches.")
    async def list_batches(self, query: BatchesQuery) -> Large:
        """The batches, the newest first."""
        which = BatchFilter(query.state, query.key, query.labels, query.structure)
        batches = self.services.batches
        return await batches.page(limit=query.limit, offset=query.offset, which=which)

    @route.get("batch/{batch_id}", "getBatch")
    @_reply
    @route.errors(NotFoundError)
    async def get_batch(self, batch_id: str, query: BatchQuery) -> Large:
        """A batch: its counts, its axes and the time that is left."""
        return await self.services.batches.get(batch_id, axes=query.axes)

    @route.get("batch/{batch_id}/points", "listPoints")
    @route.replies(BatchPoints, "The points.")
    @route.errors(NotFoundError)
    async def list_points(self, batch_id: str, query: PointsQuery) -> Large:
        """The points of a batch, each with its run."""
        if query.after is not None:
            return await self.services.batches.ends(batch_id, _mark(query.after), query.limit)
        which = PointFilter(query.status, query.values)
        return await self.services.batches.points(
            batch_id, limit=query.limit, offset=query.offset, which=which
        )

    @route.get("batch/{batch_id}/events", "followBatch")
    @route.takes(
        headers=(
            Header(
                "Last-Event-ID",
                "The id of the last event that was read; the reply begins after it.",
                "3-0",
            ),
        )
    )
    @route.replies(
        Content(
            EVENTS,
            StreamEvent,
            'id: 1-0\nevent: event_update\ndata: {"event": "point", "data": {"point": 0,'
            ' "status": "success"}}\n\n'
            'id: 1-0\nevent: event_update\ndata: {"event": "end", "data": {"state": "done"}}\n\n',
        ),
        "The events. `point`: a point has ended, with the fields of `points`; also those that had"
        " ended before. `progress`: `state`, `counts`, `fraction` and `time_left`, at most twice a"
        " second. `end`: the same, the last one.",
    )
    @route.errors(NotFoundError)
    async def follow_batch(self, batch_id: str) -> None:
        """Follow a batch."""
        seen = self.request.headers.get("Last-Event-ID", "").strip()
        if seen and _EVENT_ID.fullmatch(seen) is None:
            raise InvalidRequestError.of_field("Last-Event-ID", "must be the id of an event")
        after = _mark(seen or "0-0")
        async for event in self.services.batches.events(batch_id, after, pause=HEARTBEAT):
            self.begin_stream()
            try:
                if event is None:
                    self.write(COMMENT)
                else:
                    event_id, name, data = event
                    text = json.dumps({"event": name, "data": data})
                    self.write(f"id: {event_id}\nevent: event_update\ndata: {text}\n\n")
                await self.flush()
            except StreamClosedError:
                return
        self.finish_stream()

    @route.post("batch/{batch_id}/cancel", "cancelBatch")
    @_reply
    @route.errors(NotFoundError, ConflictError)
    async def cancel_batch(self, batch_id: str) -> Large:
        """Cancel the points of a batch that have not ended."""
        return await self.services.batches.cancel(batch_id)

    @route.post("batch/{batch_id}/pause", "pauseBatch")
    @_reply
    @route.errors(NotFoundError, ConflictError)
    async def pause_batch(self, batch_id: str) -> Large:
        """Let no further point of a batch run; those that are queued go on."""
        return await self.services.batches.pause(batch_id)

    @route.post("batch/{batch_id}/resume", "resumeBatch")
    @_reply
    @route.errors(NotFoundError, ConflictError)
    async def resume_batch(self, batch_id: str) -> Large:
        """Go on with a batch that is paused, or with points that were cancelled."""
        return await self.services.batches.resume(batch_id)

    @route.post("batch/{batch_id}/retry", "retryBatch")
    @_reply
    @route.errors(NotFoundError, ConflictError)
    async def retry_batch(self, batch_id: str, body: RetryRequest) -> Large:
        """Run points of a batch again that have failed."""
        return await self.services.batches.retry(batch_id, body.points)

    @route.mount("PATCH", "batch/{batch_id}", "labelBatch")
    @_reply
    @route.errors(NotFoundError)
    async def label_batch(self, batch_id: str, body: LabelsRequest) -> Large:
        """Replace the labels of a batch and of its runs."""
        return await self.services.batches.relabel(batch_id, body.labels)

    @route.mount("DELETE", "batch/{batch_id}", "deleteBatch")
    @route.replies(RunsDeleteReply, "The batch is deleted, and what of its runs.")
    @route.errors(NotFoundError, ConflictError)
    async def delete_batch(self, batch_id: str, query: DeleteQuery) -> Any:
        """Delete a batch that does not run; its runs stay, unless asked otherwise."""
        deleted = await self.services.batches.delete(batch_id, runs=query.runs, files=query.files)
        return deleted.reply()

    @route.get("batch/{batch_id}/sheet", "getSheet")
    @route.replies(
        (
            Content("image/png", BINARY, None),
            Content("image/webp", BINARY, None),
            Content("text/html", {"type": "string"}, "<div>…</div>"),
        ),
        "The sheet.",
    )
    @route.errors(NotFoundError)
    async def get_sheet(self, batch_id: str, query: SheetQuery) -> None:
        """The contact sheet of a batch: the picture of each point, with labels.

        HTML needs no other files, and has the table, too.
        """
        kind = {"png": "image/png", "webp": "image/webp", "html": "text/html; charset=utf-8"}
        await self._send(batch_id, query, kind[query.format])

    @route.get("batch/{batch_id}/table", "getTable")
    @route.replies(
        (
            Content(JSON, BatchTable),
            Content("text/csv", {"type": "string"}, "Point,Width\r\n0,64\r\n"),
        ),
        "The table.",
    )
    @route.errors(NotFoundError)
    async def get_table(self, batch_id: str, query: TableQuery) -> None:
        """The table of a batch: its values in the words of the form, and the outcomes of its runs.

        In CSV, texts that a spreadsheet would take for formulas begin with an apostrophe.
        """
        kind = {"csv": "text/csv; charset=utf-8", "json": JSON}
        await self._send(batch_id, query, kind[query.format], limit=query.limit)

    async def _send(
        self, batch_id: str, query: SheetQuery | TableQuery, media_type: str, **more: Any
    ) -> None:
        kind: Kind = query.format
        content = await self.for_client(
            self.services.batches.render(batch_id, kind, starred=query.starred, **more)
        )
        name = "sheet" if kind in ("png", "webp", "html") else "table"
        self.set_header("Content-Disposition", f'inline; filename="{name}.{kind}"')
        await self.reply_bytes(content, media_type)
