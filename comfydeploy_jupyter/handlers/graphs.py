"""Graphs: convert them, validate them, and download the models that they name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from ..errors import InvalidRequestError, NotFoundError, OfflineError
from ..request_models import (
    TRANSFER_ID,
    UI_GRAPH,
    ConvertRequest,
    FileRequest,
    GraphRequest,
    MachineField,
    VersionField,
    WorkflowIdField,
    optional,
    parse,
    required,
)
from ..workflows import convert, missing_models, validate
from .base import Handler
from .route import (
    CLOUD,
    FILES,
    KEY,
    MACHINE,
    OpenReplyModel,
    ReplyModel,
    Success,
    errors,
    replies,
    route,
    takes,
)
from .transfers import Transfer
from .workflows import VersionQuery


class ValidateRequest(GraphRequest):
    """Body of ``POST workflow/validate``."""


class FetchModelsRequest(GraphRequest):
    workflow_id: WorkflowIdField = None
    version: VersionField = None
    models: Annotated[list[str], Field(max_length=1000)] | None = optional(
        "The names of the models to download; by default all missing ones.", ["ae.safetensors"]
    )
    dry_run: bool = optional(
        "Whether to return the downloads without starting them.", True, default=False
    )
    sizes: bool = optional(
        "Whether to request from the sites (by `HEAD`) the size and the SHA-256 of the missing"
        " models, and whether a download needs a token.",
        True,
        default=False,
    )


class SchemaRequest(FileRequest):
    workflow_id: WorkflowIdField = None
    version: VersionField = None


class SchemaQuery(VersionQuery):
    machine: MachineField = None


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
    pickle: bool = required("Whether the format of the file can contain code.", False)
    state: Literal["present", "missing", "fetching", "no_link", "unused", "refused"] = Field(
        examples=["fetching"]
    )
    problem: str | None
    nodes: list[ModelUse]
    transfer: str | None = required("The id of the download in upload-queue-status.", TRANSFER_ID)


class FetchedModels(Success):
    """The models of a workflow, and the downloads of those that were missing."""

    dry_run: bool = Field(examples=[False])
    offline: bool = required("Whether the setting `offline` forbids downloads.", False)
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
    further_errors: dict[str, Any] = required(
        "The errors of nodes that ComfyUI does not check because of `error`, such as an unknown"
        " node class.",
        {},
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

    properties: dict[str, dict[str, Any]] = required(
        "By the key of `inputs` of a run: `type`, `title`, `description`, `default` (the value in"
        " the workflow), `minimum`, `maximum` and `enum`; `examples` has known files. `x-kind` is"
        " the kind of its field in forms, `x-step` the step of a number, and `x-advanced` whether"
        " it is rarely changed.",
        {"1.width": {"type": "integer", "minimum": 1, "default": 512}},
    )
    required: list[str] = required("The inputs for which the workflow has no value.", [])


class OutputsSchema(JSONSchema):
    """The schema of the outputs of a workflow."""

    properties: dict[str, dict[str, Any]] = required(
        "By the id of an output node: lists of files and texts. `x-media` says what it makes, if"
        " that is known; `x-shown` whether the author shows it.",
        {"2": {"title": "Save Image", "x-media": "image"}},
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
Request = TypeVar("Request", bound=FileRequest)


class GraphsHandler(Handler):
    """Routes that take a graph, or a file that contains one."""

    tag = "Workflows"

    @route("POST", "workflow/convert", "convertWorkflow")
    @takes(
        body=ConvertRequest,
        example=("workflow_api", "to"),
        form=(CONVERT_FORM, {"file": "{}", "to": "api"}),
        needs=("workflow_api", "workflow", "filename"),
    )
    @replies(Converted, "The workflow in the other format.")
    @errors(*FILES)
    async def convert_workflow(self) -> None:
        """Convert a workflow, also from a picture, video or sound, to another format."""
        request = await self._read_graph(ConvertRequest, "to")
        machine = self.services.machines.get(request.machine)
        converted = await convert.convert(request, machine)
        await self.reply_large({"success": True, **converted})

    @route("POST", "workflow/validate", "validateWorkflow")
    @takes(example=("workflow_api",), graphs=True, needs=("workflow_api", "workflow"))
    @replies(Validation, "The reply that ComfyUI would send.")
    @errors(*MACHINE)
    async def validate_workflow(self, body: ValidateRequest) -> None:
        """Validate a graph as ComfyUI does, without queueing it."""
        if body.workflow_api is None and body.workflow is None:
            raise InvalidRequestError.of_field(
                "workflow_api", "is needed: send the graph as workflow_api or as workflow"
            )
        machine = self.services.machines.get(body.machine)
        await self.reply_large(
            await validate.validate_workflow(
                machine, workflow_api=body.workflow_api, workflow=body.workflow
            )
        )

    @route("GET", "workflow/schema", "getWorkflowSchema")
    @takes(headers=(KEY,))
    @replies(WorkflowSchema, "The schemas.")
    @errors(NotFoundError, *CLOUD)
    async def get_workflow_schema(self, query: SchemaQuery) -> None:
        """The inputs and outputs of a stored workflow as JSON Schema.

        A run refuses a value that breaks it with `invalid_input`.
        """
        number = None if query.version == "latest" else query.version
        stored = await self.services.workflows(self.cloud_account(query)).version(
            query.workflow_id, number
        )
        await self._reply_schema(query.machine, stored["workflow_api"], stored["workflow"])

    @route("POST", "workflow/schema", "describeWorkflow")
    @takes(
        body=SchemaRequest,
        example=("workflow_api",),
        form=(SCHEMA_FORM, {"file": "{}"}),
        needs=("workflow_api", "workflow", "workflow_id", "filename"),
    )
    @replies(WorkflowSchema, "The schemas.")
    @errors(*FILES, NotFoundError)
    async def describe_workflow(self) -> None:
        """The inputs and outputs of any workflow as JSON Schema.

        One of `workflow`, `workflow_api`, `workflow_id` and `filename` is needed, or a `file` in a
        form.
        """
        request = await self._read_graph(SchemaRequest)
        await self._reply_schema(request.machine, *await self._stored_graphs(request))

    async def _reply_schema(self, machine: str | None, api: Any, ui: Any) -> None:
        found = await convert.read_contract(
            self.services.machines.get(machine), workflow_api=api, workflow=ui
        )
        await self.reply_large({"success": True, **found})

    @route("POST", "workflow/fetch-models", "fetchModels")
    @takes(example=("workflow", "dry_run"), needs=("workflow", "workflow_api", "workflow_id"))
    @replies(
        FetchedModels,
        "The models. Downloads of the missing ones have begun, unless `dry_run` is set.",
    )
    @errors(*FILES, OfflineError)
    async def fetch_models(self, body: FetchModelsRequest) -> None:
        """The models that a workflow names, and downloads of those that are missing.

        One of `workflow`, `workflow_api` and `workflow_id` is needed. Links in a workflow must have
        public addresses, or those of the configured sites and mirrors.
        """
        machine = self.services.machines.get(body.machine)
        workflow_api, workflow = await self._stored_graphs(body)
        listing = await self.services.models(machine.id)
        transfers = self.services.transfers
        plan = await missing_models.plan(
            machine, transfers, await listing.names(), workflow_api=workflow_api, workflow=workflow
        )
        if body.models is not None:
            missing_models.only(plan, body.models)
        if body.sizes and self.extension.offline:
            plan.warnings.append(
                "The sizes were not requested: the setting `offline` forbids that."
            )
        elif body.sizes:
            await missing_models.ask_sizes(plan, transfers)
        if not body.dry_run:
            await missing_models.fetch(plan, transfers, machine)
        moving = [model.transfer for model in plan.models if model.transfer is not None]
        await self.reply_large(
            {
                "success": True,
                "dry_run": body.dry_run,
                "offline": self.extension.offline,
                "models": [model.describe() for model in plan.models],
                "transfers": [record.describe() for record in moving],
                "missing_nodes": plan.missing_nodes,
                "warnings": plan.warnings,
            }
        )

    async def _read_graph(self, model: type[Request], *fields: str) -> Request:
        """Return the request, with the graph of its file; ``fields`` are those of forms."""
        if self.request.files:
            return parse(model, await self._read_form("machine", *fields))
        request = await self.body(model, graphs=True)
        if request.filename is None:
            return request
        if request.workflow is not None or request.workflow_api is not None:
            raise InvalidRequestError.of_field(
                "filename", "must not be given together with a graph: send one of them"
            )
        machine = self.services.machines.get(request.machine)
        return request.model_copy(update=await convert.read_stored(request, machine))

    async def _read_form(self, *names: str) -> dict[str, Any]:
        """Return the fields of a multipart body, its file replaced by the graph in it."""
        files = self.request.files.get("file", [])
        if len(files) != 1:
            raise InvalidRequestError.of_field("file", "must be given exactly once")
        fields: dict[str, Any] = {
            name: self.get_body_argument(name)
            for name in names
            if name in self.request.body_arguments
        }
        return {**fields, **await convert.read_upload(files[0]["body"])}

    async def _stored_graphs(
        self, request: FetchModelsRequest | SchemaRequest
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the graph of a request in API format and in UI format; None for a missing one."""
        if request.workflow_id is not None:
            if request.workflow is not None or request.workflow_api is not None:
                raise InvalidRequestError.of_field(
                    "workflow_id", "must not be given together with a graph: send one of them"
                )
            number = None if request.version in (None, "latest") else int(request.version or 0)
            stored = await self.services.workflows().version(request.workflow_id, number)
            return stored["workflow_api"], stored["workflow"]
        if request.workflow_api is None and request.workflow is None:
            raise InvalidRequestError.of_field(
                "workflow", "is needed: send the graph as workflow or workflow_api, or workflow_id"
            )
        return request.workflow_api, request.workflow
