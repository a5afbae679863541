"""Workflows: convert, validate and store them, and download their models."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

from jupyter_server.utils import url_path_join
from pydantic import AfterValidator, Field

from .. import request_models as fields
from ..errors import (
    ComfyUIUnavailableError,
    ConflictError,
    ForbiddenPathError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    OfflineError,
    UnknownInputError,
)
from ..request_models import (
    CloudBody,
    CloudTarget,
    ConvertRequest,
    FileRequest,
    GraphRequest,
    MachineQuery,
    Model,
    optional,
    parse,
    required,
)
from ..snapshots.snapshot import Token
from ..util import jsons
from ..util.jsons import RawJSON
from ..workflows import convert, missing_models, sources, store, validate
from . import route
from .base import Handler
from .comfyui_page import OPENED, PAGE
from .route import CLOUD, FILES, MACHINE, TIME, Large, Link, OpenReplyModel, ReplyModel, Success
from .transfers import Transfer

Versions = dict[str, Token]  # of node packs
Tag = Annotated[fields.Name, Field(max_length=64)]


class WorkflowRequest(CloudBody):
    """Body of ``POST workflow``; ``workflow`` and ``workflow_json`` have the same meaning."""

    needs = frozenset({"workflow", "workflow_json", "workflow_api"})

    name: fields.Name | None = optional(
        "The name of the workflow. It is required for a new workflow; with `workflow_id` the"
        " workflow gets this new name.",
        "Portrait",
    )
    workflow: fields.JSONObject | str | None = optional(
        "A graph as ComfyUI's editor saves it, as JSON or as text with JSON.", fields.UI_GRAPH
    )
    workflow_json: fields.JSONObject | str | None = optional(
        "Another name for `workflow`.", fields.UI_GRAPH
    )
    workflow_api: fields.JSONObject | str | None = optional(
        "A graph in ComfyUI's API format.", fields.GRAPH
    )
    workflow_id: fields.WorkflowIdField = None
    comment: Annotated[str, Field(max_length=10_000)] | None = optional(
        "A description of the changes; `search` finds it.", "first light"
    )
    machine_id: fields.MachineRef | None = optional(
        "The machine that the workflow is meant for, by id or name.", "local"
    )
    force: bool | None = optional(
        "Whether to make a version even if the graph has not changed.", False
    )


class VersionRequest(WorkflowRequest):
    workflow_id: fields.Identifier = required("The id of a stored workflow.", fields.WORKFLOW_ID)


class WorkflowsQuery(CloudTarget):
    search: fields.SearchField = ""
    limit: fields.LimitField = 100
    offset: fields.OffsetField = 0


class WorkflowQuery(CloudTarget):
    workflow_id: fields.Identifier = required("The id of a stored workflow.", fields.WORKFLOW_ID)


class VersionsQuery(WorkflowsQuery, WorkflowQuery):
    """Query of ``GET workflow/versions``."""


class VersionQuery(WorkflowQuery):
    version: Annotated[int, Field(ge=1, le=10**9)] | Literal["latest"] = optional(
        "The number of a version, or `latest`.", "latest", default="latest"
    )


class WorkflowIdRequest(Model):
    workflow_id: fields.Identifier = required("The id of a stored workflow.", fields.WORKFLOW_ID)


class WorkflowUpdateRequest(WorkflowIdRequest):
    needs = frozenset({"name", "tags"})

    name: fields.Name | None = optional("The new name.", "Portrait")
    tags: Annotated[list[Tag], Field(max_length=50)] | None = optional(
        "All tags from now on; of those that differ only in case, the first is kept.",
        ["people", "SDXL"],
    )


class EditorWorkflowQuery(MachineQuery):
    file: Annotated[
        str, Field(min_length=1, max_length=1024), AfterValidator(fields.json_below)
    ] = required("The `path` of the file, as `editor/workflows` lists it.", "portrait.json")


class PresetDeleteRequest(WorkflowIdRequest):
    name: fields.Name = required("The name of the preset; case does not matter.", "Softer light")
    revision: Annotated[str, Field(max_length=64)] | None = optional(
        "The `revision` of the preset that the client has seen, or an empty text if it has seen"
        " none of this name. If the preset has another one, nothing is changed. Without it, the"
        " preset is changed in any case.",
        "",
    )


class PresetRequest(PresetDeleteRequest):
    inputs: fields.JSONObject = required(
        "The values, by the keys that `inputs` of a run may have.", {"3.steps": 30}
    )
    locked: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=1000)] = (
        optional(
            "The keys of the seeds that are not drawn anew for each run.", ["3.seed"], default=[]
        )
    )


class WorkflowSummary(OpenReplyModel):
    """A workflow. One of ComfyDeploy has more keys; in lists it has no number of versions."""

    id: str = Field(examples=[fields.WORKFLOW_ID])
    workflow_id: str = required("The same as `id`.", fields.WORKFLOW_ID)
    name: str | None = Field(examples=["Portrait"])
    machine_id: str | None
    created_at: str | None = Field(examples=[TIME])
    updated_at: str | None = Field(examples=[TIME])
    latest_version: int | None = Field(examples=[1])
    versions: Any = None
    tags: list[str] = optional("Local workflows only.", ["people"], default=[])


class VersionSummary(OpenReplyModel):
    """A version without its graphs."""

    id: str = Field(examples=["a8098c1a-f86e-51da-bd1a-00112444be1e"])
    workflow_id: str = Field(examples=[fields.WORKFLOW_ID])
    version: int = Field(examples=[1])
    comment: str = Field(examples=["first light"])
    created_at: str | None = Field(examples=[TIME])


class VersionDetails(VersionSummary):
    """A version with its graphs."""

    workflow: dict[str, Any] | None = Field(examples=[fields.UI_GRAPH])
    workflow_api: dict[str, Any] | None = Field(examples=[fields.GRAPH])


class ListedWorkflow(WorkflowSummary):
    """A workflow with the number of its versions."""

    versions: int | None = Field(examples=[1])


class WorkflowDetails(WorkflowSummary):
    """A workflow with the graphs of its latest version."""

    version: int | None = Field(examples=[1])
    comment: str | None = Field(examples=["first light"])
    workflow: dict[str, Any] | None = Field(examples=[fields.UI_GRAPH])
    workflow_api: dict[str, Any] | None = Field(examples=[fields.GRAPH])
    versions: list[VersionDetails]


class SavedWorkflow(ListedWorkflow, Success):
    """A workflow that was saved."""

    version: int | None = Field(examples=[1])
    created: bool = required("Whether the workflow is new.", True)
    new_version: bool = required(
        "Whether a version was made; none is made of an unchanged graph.", True
    )


class SavedVersion(VersionDetails, Success):
    """The version that has the content; ``created``: whether it is new."""

    created: bool = Field(examples=[True])


class ChangedWorkflow(ListedWorkflow, Success):
    """A workflow that was changed, deleted or restored."""


class EditedWorkflow(Success):
    """A workflow that is in the folder of ComfyUI's editor."""

    path: str = required("Its path in that folder.", "Portrait.json")
    url: str = required(
        "The path of ComfyUI's page that opens it.", "/comfyui/?comfydeploy_workflow=Portrait.json"
    )
    origin: str = required(
        "Scheme and host with which this server was reached.", "http://localhost:8888"
    )


class EditorFile(ReplyModel):
    """A workflow file of ComfyUI's editor."""

    path: str = Field(examples=["portrait.json"])
    size: int = required("Bytes.", 20480)
    updated_at: str = Field(examples=[TIME])


class EditorGraph(ReplyModel):
    """The graph in a workflow file of ComfyUI's editor; one of the formats is null."""

    path: str = Field(examples=["portrait.json"])
    workflow: dict[str, Any] | None = Field(examples=[fields.UI_GRAPH])
    workflow_api: dict[str, Any] | None = Field(examples=[None])


class PresetDetails(ReplyModel):
    """A preset: named values for the inputs of a stored workflow."""

    name: str = Field(examples=["Softer light"])
    inputs: dict[str, Any] = Field(examples=[{"3.steps": 30}])
    locked: list[str] = Field(examples=[["3.seed"]])
    revision: str = required(
        "Changes with the content: equal presets have equal revisions.", "2c26b46b68ffc68f"
    )
    updated_at: str = Field(examples=[TIME])


class ChangedPreset(PresetDetails, Success):
    """A preset that was saved or deleted."""


class FetchModelsRequest(GraphRequest):
    models: Annotated[list[str], Field(max_length=1000)] | None = optional(
        "The names of the models to download; by default all missing ones.", ["ae.safetensors"]
    )
    dry_run: bool = optional(
        "Whether to return the downloads without starting them.", True, default=False
    )
    sizes: bool = optional(
        "Whether to request from the sites (by `HEAD`) the size and the SHA-256 of the missing"
        " models, and whether a download needs a token; and to look where models without a link are"
        " by their SHA-256: at Civitai, and in the list of ComfyUI-Manager.",
        True,
        default=False,
    )


class InstallPacksRequest(GraphRequest):
    packs: Annotated[list[str], Field(max_length=1000)] | None = optional(
        "The `pack` of each that is installed; by default all that are missing.",
        ["comfyui-kjnodes"],
    )
    versions: Versions = optional(
        "The version in the registry, or the commit, of packs by their `pack`; by default the"
        " newest one. If it cannot be had, the newest one is installed, and `problem` says so.",
        {"comfyui-kjnodes": "1.1.9"},
        default={},
    )
    dry_run: bool = optional(
        "Whether to return what is missing without an installation.", True, default=False
    )


class CancelPackRequest(Model):
    machine: fields.MachineField = None
    pack: Annotated[str, Field(min_length=1, max_length=2000)] = required(
        "The `pack` of an installation that waits.", "comfyui-kjnodes"
    )


class FormRequest(FileRequest):
    inputs: fields.JSONObject | None = optional(
        "The present values, by any names that `inputs` of a run may have. Numbers may be texts, as"
        " in `values`. Options of dynamic combos in it, inputs and rows that it adds to groups or"
        " removes (null, or a list of rows) decide which fields the form has.",
        {"1.width": "128"},
    )
    prompt_id: fields.Identifier | None = optional(
        "A run whose values the form has, and its seeds: those of the graph that it executed,"
        " whichever workflow it came with.",
        fields.RUN_ID,
    )
    fresh: bool = optional(
        "Whether to request the node definitions from ComfyUI again, so that the form offers files"
        " that were just added. Otherwise they may be 30 seconds old.",
        False,
        default=False,
    )
    brief: bool = optional(
        "Whether `rows` leave out `names`, what has its default, and what follows from the rest,"
        " which is most of a large form: a missing `key` is `<node>.<input>`, missing `keys` are"
        " only the key, a missing `original` is the value, a missing `label` is its `parts`"
        " together, and missing `parts` are only the label. `alike` of a row is the number of its"
        " further facts in `alike` of the form, and `section` that of its title in `sections`.",
        False,
        default=False,
    )


class ExportRequest(ConvertRequest):
    """Body of ``POST workflow/export``."""

    path: Annotated[str, Field(min_length=1, max_length=4096)] = required(
        "The file, which ends with `.json`, `.ipynb` or `.py`: absolute, or relative to Jupyter's"
        " root.",
        "portrait.api.json",
    )
    replace: bool = optional("Whether a file of this name is replaced.", True, default=False)


class FilesQuery(MachineQuery):
    """Query of ``GET workflow/files``."""

    folder: Annotated[str, Field(max_length=4096)] = optional(
        "The folder: absolute, or relative to Jupyter's root.", "notebooks", default=""
    )


class DiffQuery(WorkflowQuery):
    old: fields.Version = required("The number of a version, or `latest`.", 1)
    new: fields.Version = required("The number of a version, or `latest`.", 2)


class SchemaQuery(VersionQuery):
    machine: fields.MachineField = None


class Exported(Success):
    """A file that was written."""

    path: str = required("Its absolute path.", "/home/me/portrait.api.json")
    warnings: list[str] = required("What the conversion has lost.", [])


Structure = Annotated[
    str,
    Field(
        description="The hash by which `runs` and `runs/cards` select the runs of this workflow,"
        " whatever their values.",
        examples=["0123456789abcdef0123456789abcdef"],
    ),
]


class OutlinedNode(ReplyModel):
    """A node in words."""

    id: str = Field(examples=["1"])
    title: str = required("Its title, or its class.", "Empty Image")
    class_type: str = Field(examples=["EmptyImage"])
    inputs: str = required("Its inputs on one line; long values are cut.", "width=64, height=64")


class Outline(Success):
    """What people see of a workflow."""

    title: str = required("The name of the stored workflow or file; empty for a graph.", "Portrait")
    structure: Structure
    nodes: list[OutlinedNode] = required("The nodes in API format, in the order of execution.")
    picture: dict[str, Any] = required(
        "Boxes of the nodes, links and groups of `graph`, and of each subgraph by its id.", {}
    )
    warnings: list[str] = required("What the conversion to API format has lost.", [])


class WorkflowFile(ReplyModel):
    """A file with a workflow."""

    filename: str = required("Its absolute path.", "/home/me/portrait.json")
    title: str = required("Its path in the folder.", "portrait.json")


class Template(ReplyModel):
    """A workflow to begin with."""

    type: Literal["template", "example"]
    filename: str = required(
        "Its name for `filename`, with this `type`, of other routes.", "templates/flux.json"
    )
    title: str = Field(examples=["Flux"])
    group: str = required("Its category, or its node pack.", "Image")
    description: str = Field(examples=[""])


class Difference(ReplyModel):
    """A difference between two graphs."""

    kind: Literal["removed", "added", "replaced", "switched", "renamed", "rewired", "changed"] = (
        Field(examples=["changed"])
    )
    node_id: str = Field(examples=["1"])
    text: str = required("The difference in words.", "Empty Image: width 64 → 128")


class Differences(ReplyModel):
    """The differences between two versions."""

    changes: list[Difference] = Field(examples=[[]])
    text: str = required("All of them; or that there are none, or only of the layout.", "")


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
    transfer: str | None = required(
        "The id of the download in upload-queue-status.", fields.TRANSFER_ID
    )


class FetchedModels(Success):
    """The models of a workflow, and the downloads of those that were missing."""

    dry_run: bool = Field(examples=[False])
    offline: bool = required("Whether the setting `offline` forbids downloads.", False)
    models: list[WorkflowModel]
    transfers: list[Transfer]
    missing_nodes: list[MissingNode] = Field(examples=[[]])
    warnings: list[str]


class MissingPack(ReplyModel):
    """A node pack that has missing node classes."""

    pack: str = required(
        "Its id in ComfyUI's registry, or the address of its repository.", "comfyui-kjnodes"
    )
    title: str = Field(examples=["KJNodes for ComfyUI"])
    url: str = required("A page about it.", "https://registry.comfy.org/nodes/comfyui-kjnodes")
    classes: list[str] = required("The missing classes.", ["GetImageSize+"])
    state: Literal["missing", "waiting", "installing", "installed", "failed", "no_manager"] = (
        required(
            "`installed`: ComfyUI loads it when it is restarted; `failed`: it was not installed, or"
            " ComfyUI could not load it; `no_manager`: ComfyUI has no ComfyUI-Manager.",
            "missing",
        )
    )
    problem: str | None = required(
        "Why it has failed: what ComfyUI-Manager says; or which version is installed instead of"
        " the one that was asked for.",
        None,
    )


class MissingPacks(Success):
    """The node packs that a workflow lacks; installations have begun, unless `dry_run` is set."""

    dry_run: bool = Field(examples=[True])
    offline: bool = required("Whether the setting `offline` forbids installations.", False)
    machine: str = required("The machine.", "local")
    managed: bool = required("Whether this server can restart its ComfyUI.", True)
    manager: str | None = required(
        "The version of ComfyUI-Manager; null without one, or if nothing is missing.", "3.39"
    )
    packs: list[MissingPack]
    others: list[MissingNode] = required("The missing classes whose pack is not known.", [])


class PackInstallation(ReplyModel):
    """An installation of a node pack that was asked for since the start of this server."""

    pack: str = Field(examples=["comfyui-kjnodes"])
    title: str = Field(examples=["KJNodes for ComfyUI"])
    state: Literal["waiting", "installing", "installed", "failed", "cancelled"] = Field(
        examples=["installing"]
    )
    problem: str | None
    progress: str | None = required(
        "The last line of ComfyUI's log while it is being installed.", "Collecting kornia"
    )
    asked_at: str = Field(examples=[TIME])


class CancelledPack(PackInstallation, Success):
    """An installation that was cancelled."""


class DefinitionsOrigin(ReplyModel):
    """The source of the node definitions that were used."""

    source: Literal["live", "cached", "bundled"]
    comfyui_version: str | None = Field(examples=["0.33.0"])


class PriceRange(ReplyModel):
    """What something costs in USD; ``max`` is null if it may cost more."""

    min: float = Field(examples=[0.06])
    max: float | None = Field(examples=[0.12])


class PartnerNode(ReplyModel):
    """A node that a service executes for money."""

    node_id: str = Field(examples=["4"])
    class_type: str = Field(examples=["FluxProUltraImageNode"])
    title: str = Field(examples=["Flux 1.1 [pro] Ultra Image"])
    text: str = required("Its price in words.", "$0.06")
    usd: PriceRange | None = required(
        "Null if the price is not for a run, or depends on what is known only then."
    )


class PartnerNodes(ReplyModel):
    """What the partner nodes of a workflow cost, by the definitions of their classes."""

    text: str = required("All prices in words.", "Partner nodes: $0.06")
    usd: PriceRange | None = required("All prices that are for a run, together.")
    nodes: list[PartnerNode]


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
    partner_nodes: PartnerNodes | None = required(
        "What the partner nodes cost; null if a run executes none. Nodes in ComfyUI's cache cost"
        " nothing."
    )
    by_node: dict[str, list[str]] = required("All that is wrong with nodes, in sentences.", {})
    general: list[str] = required("All that concerns no single node, in sentences.", [])
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


class FormSection(ReplyModel):
    """The heading that neighbouring rows have in common."""

    id: int = Field(examples=[0])
    title: str = Field(examples=["Empty Image"])


class PlaceInRows(ReplyModel):
    """The row of a group that a field belongs to."""

    group: str = required("The key of the group.", "5.loras")
    place: int = required("Which of `rows` of the group it is.", 0)
    index: int = required("Its number in the key.", 0)
    title: str = required("The name of the row.", "LoRA #1")


class FormLine(ReplyModel):
    """What fields and groups have in common."""

    key: str = required("The key of `inputs` of a run.", "1.width")
    node: str = required("The id of the node in API format.", "1")
    input: str = required("The name of the input of the node.", "width")
    label: str = required("The label; no two are the same.", "Empty Image: width")
    parts: tuple[str, str, str] = optional(
        "The parts of the label: before, in, and after the part that is shown below the heading of"
        " the section.",
        ["Empty Image: ", "width", ""],
        default=("", "", ""),
    )
    section: FormSection | None = optional("Null if the row stands alone.", default=None)
    more: bool = optional('Whether it is below "More inputs".', False, default=False)
    hint: str = optional(
        "In words: whether a value is needed, the range, the default, the number of rows.",
        "1 to 16384 pixels · default 512",
        default="",
    )


class VideoEdit(ReplyModel):
    """What can be set of a video."""

    features: list[Literal["trim", "crop"]]
    video: str = required("The key of the field that names the video; or empty.", "1.file")


class FormField(FormLine):
    """A field of a form."""

    kind: Literal[
        "text",
        "multiline",
        "int",
        "float",
        "bool",
        "combo",
        "color",
        "seed",
        "image",
        "video",
        "audio",
        "video_edit",
    ] = required(
        "`color` is shown as `#rrggbb`; `image`, `video` and `audio` are files of ComfyUI's input"
        " folder; a `combo` without `choices` takes any text. The value of a `video_edit` is an"
        ' object, shown as JSON: `{"trim": {"start_time": 0, "duration": 0}, "crop": {"x": 0, "y":'
        ' 0, "width": 0, "height": 0}}`, in seconds and pixels.',
        "int",
    )
    keys: list[str] = optional("The keys that it sets to the same value.", ["1.width"], default=[])
    names: list[str] = optional(
        "All names by which a run sets this input.", ["1.width", "width", "Red.width"], default=[]
    )
    original: Any = required("The value of the workflow, as in `values`.", "512")
    default: Any = optional(
        "The value of the node class, as in `values`; or null.", "512", default=None
    )
    may_be_empty: bool = optional("Whether an empty text is a value.", True, default=True)
    choices: int | None = optional("The number of its list in `choices` of the form.", default=None)
    remote: str = optional(
        "The query of `node-options` for the choices that a route gives, without the machine; any"
        " other value is allowed, too. Empty if there is no route.",
        "",
        default="",
    )
    models: str = optional(
        "The folder under `models` whose files it offers; empty if that is not known.",
        "",
        default="",
    )
    dynamic: bool = optional(
        "Whether its value decides which other fields there are.", False, default=False
    )
    choosable: bool = optional(
        "Whether the author can choose it for the front of the form, by `front` of"
        " `workflow/convert`.",
        True,
        default=True,
    )
    min: float | None = Field(None, examples=[1])
    max: float | None = Field(None, examples=[16384])
    least: str | None = optional("`min` as an exact text.", "1", default=None)
    most: str | None = optional("`max` as an exact text.", "16384", default=None)
    step: float | None = Field(None, examples=[8])
    unit: str = optional("Empty if it is not known.", "pixels", default="")
    slider: bool = optional("Whether a slider is useful.", False, default=False)
    range: str = optional(
        "The range of a number and its unit in words.", "1 to 16384 pixels", default=""
    )
    width: str | None = optional(
        "Of a height: the key of the width that belongs to it; an aspect ratio sets both.",
        default=None,
    )
    edit: VideoEdit | None = optional("Of a `video_edit`.", default=None)
    tooltip: str = optional("The description of the input.", "", default="")
    row: PlaceInRows | None = None
    required: bool = optional("Whether the workflow has no value.", False, default=False)


class FormGroup(FormLine):
    """A group to which inputs or rows can be added; its fields stand before it."""

    kind: Literal["group"]
    rows: list[dict[str, Any]] | None = optional(
        "Of a group of rows, otherwise null: what its rows have, by the names of their fields, also"
        " links. A list like this one as the value of `key` in `inputs` replaces all rows, so it"
        " adds, removes and moves them.",
        [{"lora_name": "a.safetensors", "strength": 1.0}],
        default=None,
    )
    least: int = required("How few inputs or rows it may have.", 1)
    most: int = required("How many inputs or rows it may have.", 20)
    can_grow: bool = Field(False, examples=[True])
    can_shrink: bool = Field(False, examples=[False])
    next: dict[str, Any] = required(
        "The `inputs` that add one, with its initial values.",
        {"5.loras.1.lora_name": "a.safetensors", "5.loras.1.strength": 1.0},
    )
    last: list[str] = required("The keys that remove the last one if they are null.", [])


class FormNote(ReplyModel):
    """Sentences about the workflow, with a heading."""

    about: Literal["types", "author", "names", "conversion"] = Field(examples=["types"])
    title: str = Field(examples=["Some values do not fit their inputs"])
    texts: list[str]


class BriefRow(OpenReplyModel):
    """A row of a brief form, without what is elsewhere or follows from the rest."""

    node: str = required("The id of the node in API format.", "1")
    alike: int | None = optional("The number of its further facts in `alike`.", 0, default=None)
    section: int | None = optional("The number of its title in `sections`.", 0, default=None)


class WorkflowForm(Success):
    """The form of a workflow: what a page shows and checks."""

    title: str = required("The name of the stored workflow or file; empty for a graph.", "Portrait")
    rows: list[FormField | FormGroup | BriefRow] = required("In the order in which they are shown.")
    alike: list[dict[str, Any]] = optional(
        "Of a brief form: facts that several fields have in common.",
        [{"input": "width", "kind": "int", "min": 1}],
        default=[],
    )
    sections: list[str] = optional("Of a brief form: their titles.", ["Empty Image"], default=[])
    values: dict[str, Any] = required(
        "The present value of each field by its key: choices and booleans as they are, all else as"
        " text, because large integers are not exact in a browser.",
        {"1.width": "512"},
    )
    choices: list[list[Any]] = required("The lists of choices.", [["euler", "ddim"]])
    unlocked: list[str] = required(
        "The keys of the seeds that ComfyUI's editor draws anew for each run.", ["3.seed"]
    )
    outputs: list[str] = required(
        "The ids of the nodes whose outputs the author shows; empty for all.", []
    )
    structure: Structure
    problems: dict[str, str] = required(
        "By the key of a field, what is wrong with its value.", {"1.width": "must be at least 1"}
    )
    others: dict[str, str] = required(
        "The `inputs` without a field, such as links, by their names; long values are cut.", {}
    )
    unknown: dict[str, list[str]] = required(
        "The names in `inputs` that fit no input or several, with similar or with all those names."
        " Those of an option that is not chosen any more are among them.",
        {},
    )
    partner_nodes: PartnerNodes | None = required(
        "What the partner nodes cost with these values; null if a run executes none."
    )
    given: dict[str, Any] = required(
        "The `inputs`, or those of the run, by the keys of their fields and as in `values`, without"
        " those that are as in the workflow, and without unknown ones.",
        {"1.width": "128"},
    )
    price: str = required("What its partner nodes cost with these values; empty if none.", "")
    untold: list[str] = required(
        "The labels of fields, or names of inputs, whose values the run does not tell.", []
    )
    notes: list[FormNote] = Field(examples=[[]])
    defined: bool = required(
        "Whether the node definitions are those of the running ComfyUI. Otherwise they may be old"
        " or lack classes, whose fields are guessed from the values.",
        True,
    )
    definitions: DefinitionsOrigin


class Converted(Success):
    """A workflow in another format; the name of this format is the key."""

    from_: Literal["api", "ui"] = Field(alias="from")
    to: Literal["api", "ui", "notebook", "python"] = Field(examples=["ui"])
    title: str = required("The name of the stored workflow or file; empty for a graph.", "Portrait")
    workflow_api: dict[str, Any] | str | None = None
    workflow: dict[str, Any] | str | None = Field(None, examples=[fields.UI_GRAPH])
    notebook: dict[str, Any] | str | None = None
    python: str | None = None
    form: WorkflowForm | None = optional("Its form, if it was asked for.")
    warnings: list[str]


_FILE_FIELDS = {
    "machine": route.form_field("The machine whose node definitions are used.", maxLength=255),
    "file": {
        **route.BINARY,
        "description": "A picture, video, sound or JSON file that contains a workflow.",
    },
}
GRAPH_FORM = route.form("GraphForm", {"file": "{}"}, **_FILE_FIELDS)
CONVERT_FORM = route.form(
    "ConvertForm",
    {"file": "{}", "to": "api"},
    to={
        "type": "string",
        "enum": ["api", "ui", "notebook", "python"],
        "description": "The format to convert to.",
    },
    text=route.form_field("Whether the workflow in the reply is text.", enum=["true", "false"]),
    **_FILE_FIELDS,
)
Request = TypeVar("Request", bound=FileRequest)
_WORKFLOW_ID = {"workflow_id": "$response.body#/workflow_id"}
_VERSION = {**_WORKFLOW_ID, "version": "$response.body#/version"}
_DEPLOYMENT = {"deployment_id": "$response.body#/workflow_id"}
_GRAPH = {"workflow_api": "$response.body#/workflow_api"}


class GraphsHandler(Handler):
    """Routes that take a graph, or a file that contains one."""

    tag = "Workflows"

    @route.post("workflow/convert", "convertWorkflow")
    @route.takes(
        CONVERT_FORM,
        query=CloudTarget,
        body=ConvertRequest,
        example=("workflow_api", "to"),
    )
    @route.replies(Converted, "The workflow in the other format.")
    @route.errors(*FILES, UnknownInputError, *CLOUD)
    async def convert_workflow(self) -> Large:
        """Convert a workflow, also from a picture, video or sound, to another format."""
        request = await self._read_graph(ConvertRequest, "to", "text")
        return await self._converted(request)

    async def _converted(self, request: ConvertRequest) -> dict[str, Any]:
        machine = self.services.machines.get(request.machine)
        graphs = await self._stored_graphs(request)
        return await convert.convert(request, machine, graphs, await self._title(request))

    @route.post("workflow/export", "exportWorkflow")
    @route.takes(
        query=CloudTarget,
        example=("workflow_api", "to", "path"),
        graphs=True,
    )
    @route.replies(Exported, "The file is written.")
    @route.errors(*FILES, UnknownInputError, ConflictError, *CLOUD)
    async def export_workflow(self, body: ExportRequest) -> Any:
        """Write a workflow in any format into a file below Jupyter's root."""
        request = body.model_copy(update={"text": True, "to": body.to or "api"})
        if request.filename is not None:
            machine = self.services.machines.get(request.machine)
            request = request.model_copy(update=await sources.read_stored(request, machine))
        made = await self._converted(request)
        text = made[convert.NAMES[made["to"]]]
        if isinstance(text, RawJSON):
            text = await asyncio.to_thread(jsons.loads, text.text)
        folders = await self.services.machines.get(request.machine).folders()
        path = await asyncio.to_thread(
            sources.write_file, folders, body.path, text, replace=body.replace
        )
        return {"path": str(path), "warnings": made["warnings"]}

    @route.post("workflow/validate", "validateWorkflow")
    @route.takes(example=("workflow_api",), graphs=True)
    @route.replies(Validation, "The reply that ComfyUI would send.")
    @route.errors(*MACHINE)
    async def validate_workflow(self, body: GraphRequest) -> Large:
        """Validate a graph as ComfyUI does, without queueing it."""
        machine = self.services.machines.get(body.machine)
        graphs = await self._stored_graphs(body)
        return await validate.validate_workflow(machine, graphs)

    @route.post("workflow/outline", "outlineWorkflow")
    @route.takes(GRAPH_FORM, body=FileRequest, example=("workflow_api",))
    @route.replies(Outline, "The outline.")
    @route.errors(*FILES)
    async def outline_workflow(self) -> Large:
        """The nodes of any workflow in words, and the data of a picture of it."""
        request = await self._read_graph(FileRequest)
        machine = self.services.machines.get(request.machine)
        graphs = await self._stored_graphs(request)
        found = await convert.with_definitions(machine, convert.outline, *graphs)
        title = await self._title(request)
        return {"title": title, **found}

    @route.get("workflow/files", "listWorkflowFiles")
    @route.replies(list[WorkflowFile], "The files.")
    @route.errors(ForbiddenPathError, NotFoundError)
    async def list_workflow_files(self, query: FilesQuery) -> Any:
        """The workflow files in a folder and its subfolders, also pictures that contain one."""
        return await sources.files(self.services.machines.get(query.machine), query.folder)

    @route.get("workflow/templates", "listTemplates")
    @route.replies(list[Template], "The templates.")
    @route.errors(*MACHINE)
    async def list_templates(self, query: MachineQuery) -> Large:
        """Workflows to begin with: examples that this ComfyUI can run, and its own templates."""
        machine = self.services.machines.get(query.machine)
        return await sources.templates(machine)

    @route.get("workflow/schema", "getWorkflowSchema")
    @route.replies(WorkflowSchema, "The schemas.")
    @route.errors(NotFoundError, *CLOUD)
    async def get_workflow_schema(self, query: SchemaQuery) -> Large:
        """The inputs and outputs of a stored workflow as JSON Schema.

        A run refuses a value that breaks it with `invalid_input`.
        """
        number = None if query.version == "latest" else query.version
        stored = await self.services.workflows(self.cloud_account(query)).version(
            query.workflow_id, number
        )
        return await self._schema(query.machine, stored["workflow_api"], stored["workflow"])

    @route.post("workflow/schema", "describeWorkflow")
    @route.takes(GRAPH_FORM, body=FileRequest, example=("workflow_api",))
    @route.replies(WorkflowSchema, "The schemas.")
    @route.errors(*FILES, NotFoundError)
    async def describe_workflow(self) -> Large:
        """The inputs and outputs of any workflow as JSON Schema.

        One of `workflow`, `workflow_api`, `workflow_id` and `filename` is needed, or a `file` in a
        form.
        """
        request = await self._read_graph(FileRequest)
        return await self._schema(request.machine, *await self._stored_graphs(request))

    async def _schema(self, machine: str | None, api: Any, ui: Any) -> dict[str, Any]:
        known = self.services.machines.get(machine)
        return await convert.with_definitions(known, convert.contract, api, ui)

    @route.post("workflow/form", "getWorkflowForm")
    @route.takes(GRAPH_FORM, body=FormRequest, example=("workflow_api", "inputs"))
    @route.replies(WorkflowForm, "The form.")
    @route.errors(*FILES, NotFoundError, InvalidInputError)
    async def get_workflow_form(self) -> None:
        """The form of any workflow: fields, groups, values, and what is wrong with these.

        One of `workflow`, `workflow_api`, `workflow_id` and `filename` is needed, or a `file` in a
        form. With `inputs` it is the form that the workflow has with these values; nothing is kept
        between requests.
        """
        request = await self._read_graph(FormRequest)
        graphs = await self._stored_graphs(request)
        run = None
        if request.prompt_id is not None:
            record = await self.services.runs.record(request.prompt_id)
            graph, _ = await self.services.runs.graph(request.prompt_id)
            run = graph, dict(record.inputs or {}), dict(record.seeds or {})
        title = await self._title(request)
        machine = self.services.machines.get(request.machine)
        form = await convert.read_form(
            machine, graphs, request.inputs, run, fresh=request.fresh, brief=request.brief
        )
        await self.reply_large({"success": True, "title": title, **form})
        await convert.prepare(machine)

    async def _title(self, request: FileRequest) -> str:
        """Return the name of a stored workflow or a file; empty for a graph."""
        if request.workflow_id is not None:
            if self.query(CloudTarget).in_cloud:
                return ""
            return await self.services.local_workflows.name(request.workflow_id)
        files = self.request.files.get("file", [])
        name = files[0]["filename"] if files else request.filename or ""
        return name if request.type == "example" else PurePath(name).stem

    @route.post("workflow/fetch-models", "fetchModels")
    @route.takes(example=("workflow", "dry_run"), graphs=True)
    @route.replies(
        FetchedModels,
        "The models. Downloads of the missing ones have begun, unless `dry_run` is set.",
    )
    @route.errors(*FILES, OfflineError)
    async def fetch_models(self, body: FetchModelsRequest) -> Large:
        """The models that a workflow names, and downloads of those that are missing.

        One of `workflow`, `workflow_api` and `workflow_id` is needed. Links in a workflow must have
        public addresses, or those of the configured sites and mirrors.
        """
        machine = self.services.machines.get(body.machine)
        graphs = await self._stored_graphs(body)
        listing = await self.services.models(machine.id)
        transfers = self.services.transfers
        plan = await missing_models.plan(machine, transfers, graphs, await listing.names())
        if body.models is not None:
            missing_models.only(plan, body.models)
        if body.sizes or not body.dry_run:
            await missing_models.find_links(plan, transfers, machine)
        if body.sizes and self.extension.offline:
            plan.warnings.append(
                "The sizes were not requested: the setting `offline` forbids that."
            )
        elif body.sizes:
            await missing_models.ask_sizes(plan, transfers)
        if not body.dry_run:
            await missing_models.fetch(plan, transfers, machine)
        moving = [model.transfer for model in plan.models if model.transfer is not None]
        return {
            "dry_run": body.dry_run,
            "offline": self.extension.offline,
            "models": [model.describe() for model in plan.models],
            "transfers": [record.describe() for record in moving],
            "missing_nodes": plan.missing_nodes,
            "warnings": plan.warnings,
        }

    @route.post("workflow/install-packs", "installNodePacks")
    @route.takes(example=("workflow", "dry_run"), graphs=True)
    @route.replies(
        MissingPacks, "The packs. Installations have been asked for, unless `dry_run` is set."
    )
    @route.errors(*MACHINE, OfflineError, ConflictError)
    async def install_packs(self, body: InstallPacksRequest) -> Any:
        """The node packs that a workflow lacks, and their installation by ComfyUI-Manager.

        ComfyUI-Manager (3 or 4) in ComfyUI installs them, if its security level allows that. Then
        ComfyUI has to be restarted: `machine/update` with `restart`. Code in a pack runs with the
        rights of ComfyUI.
        """
        machine = self.services.machines.get(body.machine)
        packs = self.services.node_packs
        plan = await packs.plan(machine, await self._stored_graphs(body))
        if not body.dry_run:
            self.services.fetching.require("A node pack")
            packs.install(machine, plan, body.packs, body.versions)
        return {
            "dry_run": body.dry_run,
            "offline": self.extension.offline,
            "machine": machine.id,
            "managed": machine.managed,
            "manager": plan.manager,
            "packs": [wanted.describe() for wanted in plan.packs],
            "others": plan.others,
        }

    @route.get("node-packs", "listPackInstallations", is_activity=False)
    @route.replies(list[PackInstallation], "The installations, the first one first.")
    @route.errors(NotFoundError)
    async def list_pack_installations(self, query: MachineQuery) -> Any:
        """The installations of node packs on a machine since the start of this server."""
        machine = self.services.machines.get(query.machine)
        return [one.describe() for one in self.services.node_packs.on(machine)]

    @route.post("cancel-node-packs", "cancelPackInstallation")
    @route.replies(CancelledPack, "It is cancelled.")
    @route.errors(NotFoundError, ConflictError)
    async def cancel_pack_installation(self, body: CancelPackRequest) -> Any:
        """Cancel an installation that waits; one that has begun cannot be ended."""
        machine = self.services.machines.get(body.machine)
        return self.services.node_packs.cancel(machine, body.pack).describe()

    async def _read_graph(self, model: type[Request], *fields: str) -> Request:
        """Return the request, with the graph of its file; ``fields`` are those of forms."""
        if self.request.files:
            return parse(model, await self._read_form("machine", *fields), lax=True)
        request = parse(model, await self.json_body(graphs=True, only_read=True))
        if request.filename is None:
            return request
        if request.workflow is not None or request.workflow_api is not None:
            raise InvalidRequestError.of_field(
                "filename", "must not be given together with a graph: send one of them"
            )
        machine = self.services.machines.get(request.machine)
        return request.model_copy(update=await sources.read_stored(request, machine))

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
        if "text" in fields:  # parts of a form are texts
            fields["text"] = {"true": True, "false": False}.get(fields["text"], fields["text"])
        return {**fields, **await sources.read_upload(files[0]["body"])}

    async def _stored_graphs(
        self, request: GraphRequest
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the graph of a request in API format and in UI format; None for a missing one."""
        if request.workflow_id is not None:
            if request.workflow is not None or request.workflow_api is not None:
                raise InvalidRequestError.of_field(
                    "workflow_id", "must not be given together with a graph: send one of them"
                )
            number = None if request.version in (None, "latest") else int(request.version or 0)
            account = self.cloud_account(self.query(CloudTarget))
            stored = await self.services.workflows(account).version(request.workflow_id, number)
            return stored["workflow_api"], stored["workflow"]
        if request.workflow_api is None and request.workflow is None:
            raise InvalidRequestError.of_field(
                "workflow", "is needed: send the graph as workflow or workflow_api, or workflow_id"
            )
        return request.workflow_api, request.workflow


class WorkflowsHandler(Handler):
    """Workflows, their versions and their presets, here or at ComfyDeploy."""

    tag = "Workflows"

    @route.post("workflow", "saveWorkflow")
    @route.takes(example=("name", "workflow", "comment"), unique=True, graphs=True)
    @route.replies(
        SavedWorkflow,
        "The workflow is saved.",
        Link("getWorkflow", _WORKFLOW_ID),
        Link("listVersions", _WORKFLOW_ID),
        Link("getWorkflowSchema", _WORKFLOW_ID),
        Link("queueDeployment", body=_DEPLOYMENT),
        Link("getVersion", _VERSION),
        Link(
            "saveVersion",
            body={**_WORKFLOW_ID, "workflow_api": fields.GRAPH, "comment": "second light"},
        ),
        Link("deleteWorkflow", body=_WORKFLOW_ID),
    )
    @route.errors(NotFoundError, *CLOUD)
    async def save_workflow(self, body: WorkflowRequest) -> Any:
        """Save a workflow: a new one, or with `workflow_id` a new version.

        `workflow`, `workflow_json` or `workflow_api` is needed.
        """
        return await self._repository(body).save(await self._draft(body))

    @route.get("workflow", "getWorkflow")
    @route.replies(WorkflowDetails, "The workflow.")
    @route.errors(NotFoundError, *CLOUD)
    async def get_workflow(self, query: WorkflowQuery) -> Large:
        """A workflow with its latest version."""
        return await self._repository(query).workflow(query.workflow_id)

    @route.get("workflows", "listWorkflows")
    @route.replies(list[ListedWorkflow], "The workflows.")
    @route.errors(*CLOUD)
    async def list_workflows(self, query: WorkflowsQuery) -> Any:
        """All workflows, newest change first."""
        return await self._repository(query).workflows(
            search=query.search, limit=query.limit, offset=query.offset
        )

    @route.post("workflow/version", "saveVersion")
    @route.takes(example=("workflow_id", "workflow_api", "comment"), unique=True, graphs=True)
    @route.replies(
        SavedVersion,
        "The version that has the content.",
        Link("getVersion", _VERSION),
        Link("validateWorkflow", body=_GRAPH),
    )
    @route.errors(NotFoundError, *CLOUD)
    async def save_version(self, body: VersionRequest) -> Large:
        """Add a version to a workflow."""
        return await self._repository(body).add_version(await self._draft(body))

    @route.get("workflow/version", "getVersion")
    @route.replies(
        VersionDetails,
        "The version.",
        Link("convertWorkflow", body=_GRAPH),
        Link("validateWorkflow", body=_GRAPH),
        Link("run", body=_VERSION),
    )
    @route.errors(NotFoundError, *CLOUD)
    async def get_version(self, query: VersionQuery) -> Large:
        """One version with its graphs."""
        number = None if query.version == "latest" else query.version
        return await self._repository(query).version(query.workflow_id, number)

    @route.get("workflow/diff", "compareVersions")
    @route.replies(Differences, "The differences.")
    @route.errors(NotFoundError, *CLOUD)
    async def compare_versions(self, query: DiffQuery) -> Large:
        """The differences between two versions in words.

        Those between the graphs in API format, if both have one and they differ; otherwise those
        in the editor's format.
        """
        repository = self._repository(query)
        old, new = [
            await repository.version(query.workflow_id, None if number == "latest" else number)
            for number in (query.old, query.new)
        ]
        return await convert.read_diff(old, new)

    @route.get("workflow/versions", "listVersions")
    @route.replies(list[VersionSummary], "The versions.")
    @route.errors(NotFoundError, *CLOUD)
    async def list_versions(self, query: VersionsQuery) -> Any:
        """The versions of a workflow, newest first."""
        return await self._repository(query).versions(
            query.workflow_id, search=query.search, limit=query.limit, offset=query.offset
        )

    @route.post("workflow/update", "updateWorkflow")
    @route.takes(example=("workflow_id", "name", "tags"))
    @route.replies(ChangedWorkflow, "The workflow is changed.")
    @route.errors(NotFoundError)
    async def update_workflow(self, body: WorkflowUpdateRequest) -> Any:
        """Rename a workflow in the local store, or give it other tags."""
        if body.name is None and body.tags is None:
            raise InvalidRequestError.of_field("name", "is needed, unless tags is given")
        return await self.services.local_workflows.change(body.workflow_id, body.name, body.tags)

    @route.post("workflow/delete", "deleteWorkflow")
    @route.replies(
        ChangedWorkflow,
        "The workflow is deleted; this is what it was.",
        Link("restoreWorkflow", body=_WORKFLOW_ID),
    )
    @route.errors(NotFoundError)
    async def delete_workflow(self, body: WorkflowIdRequest) -> Any:
        """Delete a workflow in the local store, with its versions and presets.

        It can be restored for 30 days. Its runs stay.
        """
        return await self.services.local_workflows.delete(body.workflow_id)

    @route.post("workflow/restore", "restoreWorkflow")
    @route.replies(ChangedWorkflow, "The workflow is as it was.")
    @route.errors(NotFoundError)
    async def restore_workflow(self, body: WorkflowIdRequest) -> Any:
        """Restore a workflow that was deleted."""
        return await self.services.local_workflows.restore(body.workflow_id)

    @route.post("workflow/edit", "editWorkflow")
    @route.replies(EditedWorkflow, "Its newest version is there.")
    @route.errors(NotFoundError, ComfyUIUnavailableError)
    async def edit_workflow(self, body: WorkflowIdRequest) -> Any:
        """Put a workflow of the local store into the folder of ComfyUI's editor.

        What is saved through ComfyUI's page below Jupyter's address becomes a version.
        """
        if not self.extension.comfyui_page:
            raise NotFoundError("ComfyUI's page is turned off here (ComfyDeploy.comfyui_page)")
        path = await self.services.editing.begin(body.workflow_id)
        address = f"{url_path_join(self.base_url, PAGE)}/?{urlencode({OPENED: path})}"
        return {"path": path, "url": address, "origin": self.public_origin}

    @route.get("editor/workflows", "listEditorWorkflows")
    @route.replies(list[EditorFile], "The files, newest change first.")
    @route.errors(NotFoundError, ComfyUIUnavailableError)
    async def list_editor_workflows(self, query: MachineQuery) -> Any:
        """The workflows that ComfyUI's editor keeps in its own folder."""
        client = await self.services.machines.get(query.machine).ready()
        return await client.list_workflows()

    @route.get("editor/workflow", "getEditorWorkflow")
    @route.replies(EditorGraph, "The graph.")
    @route.errors(NotFoundError, ComfyUIUnavailableError)
    async def get_editor_workflow(self, query: EditorWorkflowQuery) -> Large:
        """A workflow that ComfyUI's editor keeps."""
        client = await self.services.machines.get(query.machine).ready()
        text = await client.read_workflow(query.file)
        workflow, workflow_api = await convert.read_graphs(
            text.decode("utf-8", "replace"), None, None
        )
        return {"path": query.file, "workflow": workflow, "workflow_api": workflow_api}

    @route.get("workflow/presets", "listPresets")
    @route.replies(list[PresetDetails], "The presets.")
    @route.errors(NotFoundError)
    async def list_presets(self, query: WorkflowIdRequest) -> Any:
        """The presets of a workflow in the local store, by name."""
        presets = await self.services.local_workflows.presets(query.workflow_id)
        return [vars(preset) for preset in presets]

    @route.post("workflow/preset", "savePreset")
    @route.replies(ChangedPreset, "The preset is saved.")
    @route.errors(NotFoundError, ConflictError)
    async def save_preset(self, body: PresetRequest) -> Any:
        """Store values for the inputs of a stored workflow under a name.

        It replaces a preset of this name, except one that has another `revision`.
        """
        preset = await self.services.local_workflows.save_preset(
            body.workflow_id, body.name, body.inputs, body.locked, body.revision
        )
        return vars(preset)

    @route.post("workflow/preset/delete", "deletePreset")
    @route.replies(ChangedPreset, "The preset is deleted; this is what it was.")
    @route.errors(NotFoundError, ConflictError)
    async def delete_preset(self, body: PresetDeleteRequest) -> Any:
        """Delete a preset."""
        preset = await self.services.local_workflows.delete_preset(
            body.workflow_id, body.name, body.revision
        )
        return vars(preset)

    def _repository(self, asked: CloudTarget) -> store.LocalWorkflows | store.CloudWorkflows:
        """Return the store of workflows: the local one, or that of the `account` in the request."""
        return self.services.workflows(self.cloud_account(asked))

    async def _draft(self, request: WorkflowRequest) -> store.Draft:
        if request.workflow_id is None and request.name is None:
            raise InvalidRequestError.of_field("name", "is needed for a new workflow")
        workflow, workflow_api = await convert.read_graphs(
            request.workflow, request.workflow_json, request.workflow_api
        )
        return store.Draft(
            workflow,
            workflow_api,
            name=request.name,
            workflow_id=request.workflow_id,
            comment=request.comment or "",
            machine_id=request.machine_id,
            force=bool(request.force),
        )
