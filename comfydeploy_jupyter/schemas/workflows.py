"""Requests that convert, validate and store workflows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .base import (
    CloudBody,
    CloudTarget,
    GraphField,
    Identifier,
    JSONObject,
    LimitField,
    MachineField,
    MachineQuery,
    MachineRef,
    Model,
    Name,
    OffsetField,
    SearchField,
    UIGraphField,
    VersionField,
    WorkflowIdField,
)
from .examples import GRAPH, UI_GRAPH, WORKFLOW_ID

__all__ = [
    "ConvertRequest",
    "EditorWorkflowQuery",
    "FetchModelsRequest",
    "GraphRequest",
    "PresetDeleteRequest",
    "PresetRequest",
    "PresetsQuery",
    "SchemaQuery",
    "SchemaRequest",
    "ValidateRequest",
    "VersionQuery",
    "VersionRequest",
    "VersionsQuery",
    "WorkflowIdRequest",
    "WorkflowQuery",
    "WorkflowRequest",
    "WorkflowUpdateRequest",
    "WorkflowsQuery",
]


Tag = Annotated[Name, Field(max_length=64)]


def _below(path: str) -> str:
    """Return a path if it leads to a JSON file below the folder that it is relative to."""
    if not path.lower().endswith(".json"):
        raise ValueError("must be the path of a JSON file")
    if any(part in {"", ".", ".."} for part in path.replace("\\", "/").split("/")):
        raise ValueError("must be a path below the folder")
    return path


class GraphRequest(Model):
    """A graph in one of its formats."""

    workflow_api: GraphField = None
    workflow: UIGraphField = None
    machine: MachineField = None


class ValidateRequest(GraphRequest):
    """Body of ``POST workflow/validate``."""


class FetchModelsRequest(GraphRequest):
    """Body of ``POST workflow/fetch-models``."""

    workflow_id: WorkflowIdField = None
    version: VersionField = None
    models: Annotated[list[str], Field(max_length=1000)] | None = Field(
        None,
        description="The names of the models to download; by default all missing ones.",
        examples=[["ae.safetensors"]],
    )
    dry_run: bool = Field(
        False, description="Whether to return the downloads without starting them.", examples=[True]
    )
    sizes: bool = Field(
        False,
        description="Whether to request from the sites (by `HEAD`) the size and the SHA-256 of the"
        " missing models, and whether a download needs a token.",
        examples=[True],
    )


class FileRequest(GraphRequest):
    """A graph, or the name of a file that contains one."""

    filename: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None,
        description="A picture, video or sound that contains the workflow: an output, or a name"
        " relative to ComfyUI or to Jupyter's root.",
    )
    subfolder: Annotated[str, Field(max_length=4096)] = Field(
        "", description="The folder of the file below that of its type.", examples=[""]
    )
    type: Literal["output", "input", "temp"] | None = Field(
        None, description="Which of ComfyUI's folders the file is in."
    )


class SchemaRequest(FileRequest):
    """Body of ``POST workflow/schema``."""

    workflow_id: WorkflowIdField = None
    version: VersionField = None


class ConvertRequest(FileRequest):
    """Body of ``POST workflow/convert``."""

    to: Literal["api", "ui", "notebook", "python"] | None = Field(
        None,
        description="The format to convert to; by default the other one of the two graphs.",
        examples=["ui"],
    )
    object_info: JSONObject | None = Field(
        None, description="Node definitions to use instead of ComfyUI's."
    )


class WorkflowRequest(CloudBody):
    """Body of ``POST workflow``; ``workflow`` and ``workflow_json`` have the same meaning."""

    name: Name | None = Field(
        None,
        description="The name of the workflow. It is required for a new workflow; with"
        " `workflow_id` the workflow gets this new name.",
        examples=["Portrait"],
    )
    workflow: JSONObject | str | None = Field(
        None,
        description="A graph as ComfyUI's editor saves it, as JSON or as text with JSON.",
        examples=[UI_GRAPH],
    )
    workflow_json: JSONObject | str | None = Field(
        None, description="Another name for `workflow`.", examples=[UI_GRAPH]
    )
    workflow_api: JSONObject | str | None = Field(
        None, description="A graph in ComfyUI's API format.", examples=[GRAPH]
    )
    workflow_id: WorkflowIdField = None
    comment: Annotated[str, Field(max_length=10_000)] | None = Field(
        None,
        description="A description of the changes; `search` finds it.",
        examples=["first light"],
    )
    machine_id: MachineRef | None = Field(
        None,
        description="The machine that the workflow is meant for, by id or name.",
        examples=["local"],
    )
    force: bool | None = Field(
        None,
        description="Whether to make a version even if the graph has not changed.",
        examples=[False],
    )


class VersionRequest(WorkflowRequest):
    """Body of ``POST workflow/version``."""

    workflow_id: Identifier = Field(
        description="The id of a stored workflow.", examples=[WORKFLOW_ID]
    )


class WorkflowsQuery(CloudTarget):
    """Query of ``GET workflows``."""

    search: SearchField = ""
    limit: LimitField = 100
    offset: OffsetField = 0


class WorkflowQuery(CloudTarget):
    """Query of ``GET workflow``."""

    workflow_id: Identifier = Field(
        description="The id of a stored workflow.", examples=[WORKFLOW_ID]
    )


class VersionsQuery(WorkflowsQuery, WorkflowQuery):
    """Query of ``GET workflow/versions``."""


class VersionQuery(WorkflowQuery):
    """Query of ``GET workflow/version``."""

    version: Annotated[int, Field(ge=1, le=10**9)] | Literal["latest"] = Field(
        "latest", description="The number of a version, or `latest`.", examples=["latest"]
    )


class SchemaQuery(VersionQuery):
    """Query of ``GET workflow/schema``."""

    machine: MachineField = None


class WorkflowIdRequest(Model):
    """Body of ``POST workflow/delete`` and ``workflow/restore``."""

    workflow_id: Identifier = Field(
        description="The id of a stored workflow.", examples=[WORKFLOW_ID]
    )


class WorkflowUpdateRequest(WorkflowIdRequest):
    """Body of ``POST workflow/update``."""

    name: Name | None = Field(None, description="The new name.", examples=["Portrait"])
    tags: Annotated[list[Tag], Field(max_length=50)] | None = Field(
        None,
        description="All tags from now on; of those that differ only in case, the first is kept.",
        examples=[["people", "SDXL"]],
    )


class EditorWorkflowQuery(MachineQuery):
    """Query of ``GET editor/workflow``."""

    file: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_below)] = Field(
        description="The `path` of the file, as `editor/workflows` lists it.",
        examples=["portrait.json"],
    )


class PresetsQuery(WorkflowIdRequest):
    """Query of ``GET workflow/presets``."""


class PresetDeleteRequest(PresetsQuery):
    """Body of ``POST workflow/preset/delete``."""

    name: Name = Field(
        description="The name of the preset; case does not matter.", examples=["Softer light"]
    )
    revision: Annotated[str, Field(max_length=64)] | None = Field(
        None,
        description="The `revision` of the preset that the client has seen, or an empty text if it"
        " has seen none of this name. If the preset has another one, nothing is changed. Without"
        " it, the preset is changed in any case.",
        examples=[""],
    )


class PresetRequest(PresetDeleteRequest):
    """Body of ``POST workflow/preset``."""

    inputs: JSONObject = Field(
        description="The values, by the keys that `inputs` of a run may have.",
        examples=[{"3.steps": 30}],
    )
    locked: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=1000)] = Field(
        [],
        description="The keys of the seeds that are not drawn anew for each run.",
        examples=[["3.seed"]],
    )
