"""Convert and validate graphs, and download the models that they name."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import NotFoundError, OfflineError
from ..schemas.examples import TRANSFER_ID, UI_GRAPH
from .operation import (
    CLOUD,
    FILES,
    FORM,
    KEY,
    MACHINE,
    Content,
    OpenReplyModel,
    Operation,
    ReplyModel,
    Success,
    json_body,
    json_reply,
)
from .transfers import Transfer


class Converted(Success):
    """A workflow in another format; the name of this format is the key."""

    from_: Literal["api", "ui"] = Field(alias="from")
    to: Literal["api", "ui", "notebook", "python"] = Field(examples=["ui"])
    workflow_api: dict[str, Any] | None = None
    workflow: dict[str, Any] | None = Field(None, examples=[UI_GRAPH])
    notebook: dict[str, Any] | None = None
    python: str | None = None
    warnings: list[str]


class MissingNode(OpenReplyModel):
    """A class of nodes that is missing in ComfyUI."""

    class_type: str | None
    node_ids: list[Any]
    pack: str | None = None
    needs: str | None = None


class MissingModel(OpenReplyModel):
    """A model file that is missing in ComfyUI."""

    name: str
    folder: str | None
    node_id: Any
    input: str


class ModelUse(OpenReplyModel):
    """A node input in which a workflow names a model file."""

    node_id: Any = Field(examples=["3"])
    input: str = Field(examples=["vae_name"])


class WorkflowModel(ReplyModel):
    """A model file that a workflow names; `size` in bytes, null if not requested."""

    name: str = Field(examples=["ae.safetensors"])
    folder: str | None = Field(examples=["vae"])
    path: str | None = Field(examples=["models/vae/ae.safetensors"])
    url: str | None = Field(
        examples=["https://huggingface.co/owner/repo/resolve/main/ae.safetensors"]
    )
    size: int | None
    sha256: str | None
    pickle: bool = Field(
        description="Whether the format of the file can contain code.", examples=[False]
    )
    state: Literal["present", "missing", "fetching", "no_link", "unused", "refused"] = Field(
        examples=["fetching"]
    )
    problem: str | None
    nodes: list[ModelUse]
    transfer: str | None = Field(
        description="The id of the download in upload-queue-status.",
        examples=[TRANSFER_ID],
    )


class FetchedModels(Success):
    """The models of a workflow, and the downloads of those that were missing."""

    dry_run: bool = Field(examples=[False])
    offline: bool = Field(
        description="Whether the setting `offline` forbids downloads.", examples=[False]
    )
    models: list[WorkflowModel]
    transfers: list[Transfer]
    missing_nodes: list[MissingNode] = Field(examples=[[]])
    warnings: list[str]


class DefinitionsOrigin(ReplyModel):
    """The source of the node definitions that were used."""

    source: Literal["live", "cached", "bundled"]
    comfyui_version: str | None = Field(examples=["0.33.0"])


class Validation(ReplyModel):
    """ComfyUI's reply to a graph, with ``error`` and ``node_errors`` in its words."""

    valid: bool = Field(examples=[True])
    error: dict[str, Any] | None
    node_errors: dict[str, Any]
    further_errors: dict[str, Any] = Field(
        description="The errors of nodes that ComfyUI does not check because of `error`, such as"
        " an unknown node class.",
        examples=[{}],
    )
    outputs: list[Any] = Field(examples=[["2"]])
    missing_nodes: list[MissingNode] = Field(examples=[[]])
    missing_models: list[MissingModel] = Field(examples=[[]])
    warnings: list[str]
    definitions: DefinitionsOrigin


class JSONSchema(OpenReplyModel):
    """A JSON Schema (2020-12) of an object; keys with ``x-`` are annotations of this server."""

    dialect: str = Field(alias="$schema", examples=["https://json-schema.org/draft/2020-12/schema"])
    type: Literal["object"]
    properties: dict[str, dict[str, Any]]


class InputsSchema(JSONSchema):
    """The schema of the inputs of a workflow."""

    properties: dict[str, dict[str, Any]] = Field(
        description="By the key of `inputs` of a run: `type`, `title`, `description`, `default`"
        " (the value in the workflow), `minimum`, `maximum` and `enum`; `examples` has known files."
        " `x-kind` is the kind of its field in forms, `x-step` the step of a number, and"
        " `x-advanced` whether it is rarely changed.",
        examples=[{"1.width": {"type": "integer", "minimum": 1, "default": 512}}],
    )
    required: list[str] = Field(
        description="The inputs for which the workflow has no value.", examples=[[]]
    )


class OutputsSchema(JSONSchema):
    """The schema of the outputs of a workflow."""

    properties: dict[str, dict[str, Any]] = Field(
        description="By the id of an output node: lists of files and texts. `x-media` says what it"
        " makes, if that is known; `x-shown` whether the author shows it.",
        examples=[{"2": {"title": "Save Image", "x-media": "image"}}],
    )


class WorkflowSchema(Success):
    """The contract of a workflow."""

    inputs: InputsSchema
    outputs: OutputsSchema
    warnings: list[str]
    definitions: DefinitionsOrigin


_FILE_FIELDS: dict[str, Any] = {
    "machine": {
        "type": "string",
        "description": "The machine whose node definitions are used.",
        "maxLength": 255,
    },
    "file": {
        "type": "string",
        "format": "binary",
        "description": "A picture, video, sound or JSON file that contains a workflow.",
    },
}

SCHEMA_FORM: dict[str, Any] = {
    "type": "object",
    "title": "SchemaForm",
    "required": ["file"],
    "properties": _FILE_FIELDS,
}

CONVERT_FORM: dict[str, Any] = {
    "type": "object",
    "title": "ConvertForm",
    "required": ["file"],
    "properties": {
        "to": {
            "type": "string",
            "enum": ["api", "ui", "notebook", "python"],
            "description": "The format to convert to.",
        },
        **_FILE_FIELDS,
    },
}

OPERATIONS = (
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/convert",
        id="convertWorkflow",
        tag="Workflows",
        summary="Convert a workflow, also from a picture, video or sound, to another format",
        bodies=(
            *json_body(schemas.ConvertRequest, "workflow_api", "to"),
            Content(FORM, CONVERT_FORM, {"file": "{}", "to": "api"}),
        ),
        needs=("workflow_api", "workflow", "filename"),
        replies=(json_reply(Converted, "The workflow in the other format."),),
        errors=FILES,
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/validate",
        id="validateWorkflow",
        tag="Workflows",
        summary="Validate a graph as ComfyUI does, without queueing it",
        bodies=json_body(schemas.ValidateRequest, "workflow_api"),
        needs=("workflow_api", "workflow"),
        replies=(json_reply(Validation, "The reply that ComfyUI would send."),),
        errors=MACHINE,
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/workflow/schema",
        id="getWorkflowSchema",
        tag="Workflows",
        summary="The inputs and outputs of a stored workflow as JSON Schema",
        text="A run refuses a value that breaks it with `invalid_input`.",
        query=schemas.SchemaQuery,
        headers=(KEY,),
        replies=(json_reply(WorkflowSchema, "The schemas."),),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/schema",
        id="describeWorkflow",
        tag="Workflows",
        summary="The inputs and outputs of any workflow as JSON Schema",
        text="One of `workflow`, `workflow_api`, `workflow_id` and `filename` is needed, or a"
        " `file` in a form.",
        bodies=(
            *json_body(schemas.SchemaRequest, "workflow_api"),
            Content(FORM, SCHEMA_FORM, {"file": "{}"}),
        ),
        needs=("workflow_api", "workflow", "workflow_id", "filename"),
        replies=(json_reply(WorkflowSchema, "The schemas."),),
        errors=(*FILES, NotFoundError),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/fetch-models",
        id="fetchModels",
        tag="Workflows",
        summary="The models that a workflow names, and downloads of those that are missing",
        text="One of `workflow`, `workflow_api` and `workflow_id` is needed. Links in a workflow"
        " must have public addresses, or those of the configured sites and mirrors.",
        bodies=json_body(schemas.FetchModelsRequest, "workflow", "dry_run"),
        needs=("workflow", "workflow_api", "workflow_id"),
        replies=(
            json_reply(
                FetchedModels,
                "The models. Downloads of the missing ones have begun, unless `dry_run` is set.",
            ),
        ),
        errors=(*FILES, OfflineError),
    ),
)
