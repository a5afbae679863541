"""Requests that run, follow, list and cancel workflows."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from .base import (
    ClientIdField,
    Endpoint,
    GraphField,
    Identifier,
    JSONObject,
    Keyed,
    Labels,
    LimitField,
    MachineField,
    MachineRef,
    Model,
    NodeId,
    OffsetField,
    UIGraphField,
    VersionField,
    WorkflowIdField,
    is_key,
)
from .examples import ACCOUNT_KEY, GRAPH, RUN_ID

__all__ = [
    "ExtraData",
    "InterruptRequest",
    "JoinQuery",
    "RunRequest",
    "RunsDeleteRequest",
    "RunsQuery",
    "RunsUpdateRequest",
    "Status",
]

MOST_IDS = 10_000  # ids in one request

Status = Literal["not-started", "queued", "running", "uploading", "success", "failed", "cancelled"]


class ExtraData(Model):
    """Data for ComfyUI besides the graph; other fields are not forwarded.

    The names are those of ComfyUI's ``POST /prompt``.
    """

    api_key_comfy_org: str | None = Field(
        None, repr=False, description="An API key of a Comfy account.", examples=[ACCOUNT_KEY]
    )
    auth_token_comfy_org: str | None = Field(
        None, repr=False, description="The token of a browser that is signed in to a Comfy account."
    )

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, fields: Any) -> Any:
        """Raise if a key is wrong; the message names the field, but not its value."""
        for name in cls.model_fields if isinstance(fields, dict) else ():
            key = fields.get(name)
            if key and not is_key(key):
                raise ValueError(f"{name} must be one line of ASCII text without spaces")
        return fields

    @property
    def keys(self) -> dict[str, str]:
        """The keys that were given, by their names."""
        return {name: key for name, key in self.model_dump().items() if key}


class RunRequest(Keyed):
    """Body of ``POST run`` and ``POST run/streaming``.

    Exactly one source of the graph is needed. ``workflow`` may be given besides another source:
    ComfyUI then writes it into its outputs. A field that is null counts as not given.
    """

    workflow_api: GraphField = None
    workflow_api_raw: JSONObject | None = Field(
        None,
        description="The graph in a request in the form of the ComfyUI node, with the defaults of"
        " that node: the reply does not wait for the end, unknown inputs are ignored, and"
        " seeds are new unless the editor's control-after-generate is `fixed`.",
        examples=[GRAPH],
    )
    workflow: UIGraphField = None
    workflow_id: WorkflowIdField = None
    version: VersionField = None

    inputs: JSONObject | None = Field(
        None,
        description="Values by name. A name is an external input's `input_id`, `<node id>.<input>`,"
        " `<node title>.<input>`, an input name that only one node has, or the title of a node"
        " that has one value. A new option of a"
        " dynamic combo replaces the inputs of the old option; inputs without a value get their"
        ' defaults (`{"5.format": "opus", "5.format.quality": "96k"}`). null removes an input of'
        " a group with a variable number of inputs. If the value of an input of type `IMAGE`,"
        " `VIDEO` or `AUDIO` is the name of a file in `input/`, a node that loads it is added.",
        examples=[{"1.width": 128}],
    )
    prompt_id: Identifier | None = Field(
        None,
        description="An id for the run; each can be used only once. Without it the server makes an"
        " id.",
    )
    client_id: ClientIdField = None
    machine: MachineField = None
    wait: bool | None = Field(
        None,
        description="Whether to reply when the run has ended (the default), or as soon as ComfyUI"
        " has queued it.",
        examples=[True],
    )
    timeout: Annotated[float, Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False)] | None = Field(
        None,
        description="The largest number of seconds to wait after the request; by default there is"
        " no limit. When they are over, the reply is 504, or `error` and `status` on the stream,"
        " and the run continues. If that error has no `prompt_id`, the run was not queued: ComfyUI"
        " was not ready in time, or input files were not complete.",
        examples=[60],
    )
    front: bool | None = Field(
        None,
        description="Whether the run becomes the first one in the queue; the default is false.",
        examples=[False],
    )
    seed_mode: Literal["saved", "auto", "random"] | None = Field(
        None,
        description="`saved`: unchanged seeds; `auto` (the default): according to the editor's"
        " control-after-generate; `random`: new seeds, within the bounds of the node if the"
        " node definitions of ComfyUI are available.",
        examples=["random"],
    )
    strict_inputs: bool | None = Field(
        None,
        description="Whether unknown inputs are an error (the default) or ignored.",
        examples=[True],
    )
    previews: bool | None = Field(
        None,
        description="Whether the sampler's previews are sent on the stream; the default is false.",
        examples=[False],
    )
    preview_method: Literal["default", "none", "auto", "latent2rgb", "taesd"] | None = Field(
        None,
        description="The method by which ComfyUI 0.33 makes previews in this run; older versions"
        " ignore it. The default is that of ComfyUI's configuration.",
        examples=["auto"],
    )
    outputs: Annotated[list[NodeId], Field(min_length=1)] | None = Field(
        None,
        description="The ids of the output nodes to execute, by default all. Nodes that only other"
        " output nodes need are not executed.",
        examples=[["2"]],
    )
    extra_data: ExtraData | None = Field(
        None,
        repr=False,
        description="Keys of a Comfy account for partner nodes: `api_key_comfy_org` or"
        " `auth_token_comfy_org`. They are not stored.",
        examples=[{"api_key_comfy_org": ACCOUNT_KEY}],
    )

    metadata: Labels | None = Field(
        None,
        description="Labels of the run: texts by name, which `runs` shows and can search for.",
        examples=[{"client": "acme"}],
    )

    retry: Annotated[int, Field(ge=0, le=10)] | None = Field(
        None,
        description="How often the run is executed again if the machine that executes it ends. Only"
        " for pools and `auto`, ignored for a single machine; the default is 0, so that nothing is"
        " executed twice.",
        examples=[1],
    )
    status_endpoint: Endpoint | None = Field(
        None, description="An address that receives the run's states, events and outputs."
    )
    file_upload_endpoint: Endpoint | None = Field(
        None, description="An address that returns the upload addresses of the outputs."
    )
    gpu_event_id: str | None = Field(None, description="Forwarded to `status_endpoint`.")

    is_native_run: bool | None = Field(
        None, description="Whether the body of the run comes from `native_run_api_endpoint`."
    )
    native_run_api_endpoint: str | None = Field(
        None, description="The address that returns the body of a native run."
    )

    @property
    def node_form(self) -> bool:
        """Whether the request has the form of the ComfyUI node, with its own defaults."""
        return self.workflow_api_raw is not None


class InterruptRequest(Model):
    """Body of ``POST interrupt``."""

    prompt_id: Identifier | None = Field(
        None,
        description="The run to cancel; by default the one that the machine executes.",
        examples=[RUN_ID],
    )
    machine: MachineField = None


class JoinQuery(Model):
    """Query of ``GET run/streaming``."""

    prompt_id: Identifier = Field(description="The id of a run.", examples=[RUN_ID])
    previews: bool = Field(
        False, description="Whether the sampler's previews are sent too.", examples=[False]
    )


def _to_utc(moment: datetime) -> datetime:
    """Return a time in UTC; one without a time zone is in UTC."""
    try:
        given = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return given.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("must be a time between the years 1 and 9999") from None


Time = Annotated[datetime, Field(strict=False), AfterValidator(_to_utc)]
PromptIds = Annotated[list[Identifier], Field(min_length=1, max_length=MOST_IDS)]


class RunsFilter(Model):
    """The fields that select runs; only runs that fulfil all of them are selected."""

    structure: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        None,
        description="Only runs of this workflow, with any input values. The value is a hash that"
        " the Python client computes.",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    workflow_id: WorkflowIdField = None
    machine: MachineRef | None = Field(
        None,
        description="Only runs of the machine or pool with this id or name.",
        examples=["local"],
    )
    before: Time | None = Field(
        None,
        description="Only runs that were created before this date or time (ISO 8601; UTC unless it"
        " has a time zone).",
        examples=["2026-01-31"],
    )
    after: Time | None = Field(
        None,
        description="Only runs that were created at this date or time, or after it.",
        examples=["2026-01-01T12:00:00Z"],
    )
    metadata: Labels | None = Field(
        None,
        description="Only runs with all of these labels; in a query `metadata[client]=acme`.",
        examples=[{"client": "acme"}],
    )
    search: str | None = Field(
        None,
        max_length=1000,
        description="Only runs with this text in their id, inputs, seeds, error,"
        " outputs or labels.",
        examples=["portrait"],
    )


class RunsQuery(RunsFilter):
    """Query of ``GET runs``."""

    limit: LimitField = 100
    offset: OffsetField = 0
    status: Status | None = Field(
        None, description="Only runs with this status.", examples=["success"]
    )
    pinned: bool | None = Field(
        None, description="Only pinned runs, or only those that are not.", examples=[True]
    )
    story: Identifier | None = Field(
        None,
        description="The id of a run. The reply has its transitions instead of the runs.",
        examples=[RUN_ID],
    )
    graph: Identifier | None = Field(
        None,
        description="The id of a run. The reply has its graph instead of the runs.",
        examples=[RUN_ID],
    )


class RunsUpdateRequest(Model):
    """Body of ``POST runs/update``."""

    prompt_ids: PromptIds = Field(description="The ids of runs.", examples=[[RUN_ID]])
    pinned: bool = Field(
        description="Whether the runs are pinned: a pinned run is not deleted.", examples=[True]
    )


class RunsDeleteRequest(RunsFilter):
    """Body of ``POST runs/delete``; at least one field besides ``files`` is needed."""

    prompt_ids: PromptIds | None = Field(
        None, description="Only runs with one of these ids.", examples=[[RUN_ID]]
    )
    status: Literal["success", "failed", "cancelled"] | None = Field(
        None, description="Only runs with this status.", examples=["failed"]
    )
    files: bool | None = Field(
        None,
        description="Whether the output files of the runs are deleted, too; the default is false.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _check_filter(self) -> RunsDeleteRequest:
        """Raise unless a field selects runs: nobody deletes all runs by mistake."""
        if not any(self.model_dump(exclude={"files"}).values()):
            raise ValueError("needs prompt_ids, or another field that selects runs")
        return self
