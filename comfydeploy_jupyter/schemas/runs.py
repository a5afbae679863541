"""What the routes take that run, follow, list and cancel workflows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import (
    ClientIdField,
    Endpoint,
    GraphField,
    Identifier,
    JSONObject,
    Keyed,
    LimitField,
    MachineField,
    Model,
    NodeId,
    OffsetField,
    UIGraphField,
    VersionField,
    WorkflowIdField,
)
from .cloud import is_account_key
from .examples import ACCOUNT_KEY, GRAPH, RUN_ID

__all__ = ["ExtraData", "InterruptRequest", "JoinQuery", "RunRequest", "RunsQuery", "Status"]

Status = Literal["not-started", "queued", "running", "uploading", "success", "failed", "cancelled"]


class ExtraData(Model):
    """What goes to ComfyUI beside a graph; further fields are not passed on.

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
        """Name the field that is wrong, without its value."""
        for name in cls.model_fields if isinstance(fields, dict) else ():
            key = fields.get(name)
            if key is not None and not is_account_key(key):
                raise ValueError(f"{name} must be one line of text without spaces")
        return fields

    @property
    def keys(self) -> dict[str, str]:
        """The keys that were given, by their names."""
        return {name: key for name, key in self.model_dump().items() if key}


class RunRequest(Keyed):
    """Body of ``POST run`` and ``POST run/streaming``.

    Exactly one source of the graph is needed; ``workflow`` may stand beside the others as the
    picture that ComfyUI writes into its outputs. A field that is null counts as not given.
    """

    workflow_api: GraphField = None
    workflow_api_raw: JSONObject | None = Field(
        None,
        description="The graph in a request of the form that the ComfyUI node takes, with that"
        " node's defaults: the answer does not wait for the end, unknown inputs are ignored,"
        " and seeds are new unless the editor says fixed.",
        examples=[GRAPH],
    )
    workflow: UIGraphField = None
    workflow_id: WorkflowIdField = None
    version: VersionField = None

    inputs: JSONObject | None = Field(
        None,
        description="Values by name: an external input's `input_id`, `<node id>.<input>`,"
        " `<node title>.<input>`, or an input name that only one node has. A new option of a"
        " dynamic combo replaces the inputs of the old one, with defaults where none are given"
        ' (`{"5.format": "opus", "5.format.quality": "96k"}`); null removes an input of a'
        " group that grows. The name of a file in `input/`, given to an input of type `IMAGE`,"
        " `VIDEO` or `AUDIO`, puts a node that loads it before that input.",
        examples=[{"1.width": 128}],
    )
    prompt_id: Identifier | None = Field(
        None,
        description="An id of your own for the run; each can be used once. Without it the server"
        " makes one.",
    )
    client_id: ClientIdField = None
    machine: MachineField = None
    wait: bool | None = Field(
        None,
        description="Whether to answer when the run has ended (the default), or as soon as ComfyUI"
        " has queued it.",
        examples=[True],
    )
    timeout: Annotated[float, Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False)] | None = Field(
        None,
        description="Seconds to wait, counted from the request; by default without limit. After"
        " them the answer is 504, or `error` and `status` on the stream, and the run goes on."
        " Without a `prompt_id` in that error the run was not queued: ComfyUI was not ready"
        " in time, or files were still on their way.",
        examples=[60],
    )
    front: bool | None = Field(
        None,
        description="Whether the run goes to the head of the queue; by default not.",
        examples=[False],
    )
    seed_mode: Literal["saved", "auto", "random"] | None = Field(
        None,
        description="`saved`: seeds as they are; `auto` (the default): as the editor's"
        " control-after-generate says; `random`: new ones, within the bounds of the node as"
        " far as ComfyUI has told them.",
        examples=["random"],
    )
    strict_inputs: bool | None = Field(
        None,
        description="Whether inputs that match nothing are refused (the default) or ignored.",
        examples=[True],
    )
    previews: bool | None = Field(
        None,
        description="Whether the sampler's previews are sent on the stream; by default not.",
        examples=[False],
    )
    preview_method: Literal["default", "none", "auto", "latent2rgb", "taesd"] | None = Field(
        None,
        description="How ComfyUI 0.33 makes previews in this run; older ones ignore it. By default"
        " as ComfyUI is configured.",
        examples=["auto"],
    )
    outputs: Annotated[list[NodeId], Field(min_length=1)] | None = Field(
        None,
        description="The ids of the output nodes to execute, by default all; what only other nodes"
        " need is not executed.",
        examples=[["2"]],
    )
    extra_data: ExtraData | None = Field(
        None,
        repr=False,
        description="Keys of a Comfy account for partner nodes: `api_key_comfy_org` or"
        " `auth_token_comfy_org`. They are not stored.",
        examples=[{"api_key_comfy_org": ACCOUNT_KEY}],
    )

    status_endpoint: Endpoint | None = Field(
        None, description="An address that gets the run's states, events and outputs."
    )
    file_upload_endpoint: Endpoint | None = Field(
        None, description="An address that says where the outputs are to be uploaded."
    )
    gpu_event_id: str | None = Field(None, description="Passed on to `status_endpoint`.")

    is_native_run: bool | None = Field(
        None, description="Whether `native_run_api_endpoint` is asked for the body of the run."
    )
    native_run_api_endpoint: str | None = Field(
        None, description="The address that answers with the body of a native run."
    )

    @property
    def node_form(self) -> bool:
        """Whether the request has the form of the ComfyUI node, with its own defaults."""
        return self.workflow_api_raw is not None


class InterruptRequest(Model):
    """Body of ``POST interrupt``."""

    prompt_id: Identifier | None = Field(
        None,
        description="The run to cancel; without it the one that the machine executes.",
        examples=[RUN_ID],
    )
    machine: MachineField = None


class JoinQuery(Model):
    """Query of ``GET run/streaming``."""

    prompt_id: Identifier = Field(description="The id of a run.", examples=[RUN_ID])
    previews: bool = Field(
        False, description="Whether the sampler's previews are sent, too.", examples=[False]
    )


class RunsQuery(Model):
    """Query of ``GET runs``."""

    limit: LimitField = 100
    offset: OffsetField = 0
    status: Status | None = Field(
        None, description="Only runs in this state.", examples=["success"]
    )
    structure: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        None,
        description="Only runs of this workflow, whatever values it had: the hash that the Python"
        " client computes.",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    story: Identifier | None = Field(
        None,
        description="The id of a run: the answer is what has happened to it, in place of the runs.",
        examples=[RUN_ID],
    )
