"""Stored workflows and their versions."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .. import schemas
from ..errors import ComfyUIUnavailableError, ConflictError, NotFoundError
from ..schemas.examples import GRAPH, UI_GRAPH, WORKFLOW_ID
from .operation import (
    CLOUD,
    KEY,
    TIME,
    Link,
    OpenReplyModel,
    Operation,
    ReplyModel,
    Success,
    json_body,
    json_reply,
)


class WorkflowSummary(OpenReplyModel):
    """A workflow. One of ComfyDeploy has more keys; in lists it has no number of versions."""

    id: str = Field(examples=[WORKFLOW_ID])
    workflow_id: str = Field(description="The same as `id`.", examples=[WORKFLOW_ID])
    name: str | None = Field(examples=["Portrait"])
    machine_id: str | None
    created_at: str | None = Field(examples=[TIME])
    updated_at: str | None = Field(examples=[TIME])
    latest_version: int | None = Field(examples=[1])
    versions: Any = None
    tags: list[str] = Field([], description="Local workflows only.", examples=[["people"]])


class VersionSummary(OpenReplyModel):
    """A version without its graphs."""

    id: str = Field(examples=["a8098c1a-f86e-51da-bd1a-00112444be1e"])
    workflow_id: str = Field(examples=[WORKFLOW_ID])
    version: int = Field(examples=[1])
    comment: str = Field(examples=["first light"])
    created_at: str | None = Field(examples=[TIME])


class VersionDetails(VersionSummary):
    """A version with its graphs."""

    workflow: dict[str, Any] | None = Field(examples=[UI_GRAPH])
    workflow_api: dict[str, Any] | None = Field(examples=[GRAPH])


class ListedWorkflow(WorkflowSummary):
    """A workflow with the number of its versions."""

    versions: int | None = Field(examples=[1])


class WorkflowDetails(WorkflowSummary):
    """A workflow with the graphs of its latest version."""

    version: int | None = Field(examples=[1])
    comment: str | None = Field(examples=["first light"])
    workflow: dict[str, Any] | None = Field(examples=[UI_GRAPH])
    workflow_api: dict[str, Any] | None = Field(examples=[GRAPH])
    versions: list[VersionDetails]


class SavedWorkflow(ListedWorkflow, Success):
    """A workflow that was saved."""

    version: int | None = Field(examples=[1])
    created: bool = Field(description="Whether the workflow is new.", examples=[True])
    new_version: bool = Field(
        description="Whether a version was made; none is made of an unchanged graph.",
        examples=[True],
    )


class SavedVersion(VersionDetails, Success):
    """The version that has the content; ``created``: whether it is new."""

    created: bool = Field(examples=[True])


class ChangedWorkflow(ListedWorkflow, Success):
    """A workflow that was changed, deleted or restored."""


class EditedWorkflow(Success):
    """A workflow that is in the folder of ComfyUI's editor."""

    path: str = Field(description="Its path in that folder.", examples=["Portrait.json"])
    url: str = Field(
        description="The path of ComfyUI's page that opens it.",
        examples=["/comfyui/?comfydeploy_workflow=Portrait.json"],
    )


class EditorFile(ReplyModel):
    """A workflow file of ComfyUI's editor."""

    path: str = Field(examples=["portrait.json"])
    size: int = Field(description="Bytes.", examples=[20480])
    updated_at: str = Field(examples=[TIME])


class EditorGraph(ReplyModel):
    """The graph in a workflow file of ComfyUI's editor; one of the formats is null."""

    path: str = Field(examples=["portrait.json"])
    workflow: dict[str, Any] | None = Field(examples=[UI_GRAPH])
    workflow_api: dict[str, Any] | None = Field(examples=[None])


class PresetDetails(ReplyModel):
    """A preset: named values for the inputs of a stored workflow."""

    name: str = Field(examples=["Softer light"])
    inputs: dict[str, Any] = Field(examples=[{"3.steps": 30}])
    locked: list[str] = Field(examples=[["3.seed"]])
    revision: str = Field(
        description="Changes with the content: equal presets have equal revisions.",
        examples=["2c26b46b68ffc68f"],
    )
    updated_at: str = Field(examples=[TIME])


class ChangedPreset(PresetDetails, Success):
    """A preset that was saved or deleted."""


_WORKFLOW_ID = {"workflow_id": "$response.body#/workflow_id"}
_VERSION = {**_WORKFLOW_ID, "version": "$response.body#/version"}
_DEPLOYMENT = {"deployment_id": "$response.body#/workflow_id"}
_GRAPH = {"workflow_api": "$response.body#/workflow_api"}
_GRAPHS = ("workflow", "workflow_json", "workflow_api")

OPERATIONS = (
    Operation(
        method="post",
        path="/comfyui-deploy/workflow",
        id="saveWorkflow",
        tag="Workflows",
        summary="Save a workflow: a new one, or with `workflow_id` a new version",
        text="`workflow`, `workflow_json` or `workflow_api` is needed.",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(schemas.WorkflowRequest, "name", "workflow", "comment"),
        needs=_GRAPHS,
        replies=(
            json_reply(
                SavedWorkflow,
                "The workflow is saved.",
                Link("getWorkflow", _WORKFLOW_ID),
                Link("listVersions", _WORKFLOW_ID),
                Link("getWorkflowSchema", _WORKFLOW_ID),
                Link("queueDeployment", body=_DEPLOYMENT),
                Link("getVersion", _VERSION),
                Link(
                    "saveVersion",
                    body={**_WORKFLOW_ID, "workflow_api": GRAPH, "comment": "second light"},
                ),
                Link("deleteWorkflow", body=_WORKFLOW_ID),
            ),
        ),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/workflow",
        id="getWorkflow",
        tag="Workflows",
        summary="A workflow with its latest version",
        query=schemas.WorkflowQuery,
        headers=(KEY,),
        replies=(json_reply(WorkflowDetails, "The workflow."),),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/workflows",
        id="listWorkflows",
        tag="Workflows",
        summary="All workflows, newest change first",
        query=schemas.WorkflowsQuery,
        headers=(KEY,),
        replies=(json_reply(list[ListedWorkflow], "The workflows."),),
        errors=CLOUD,
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/version",
        id="saveVersion",
        tag="Workflows",
        summary="Add a version to a workflow",
        query=schemas.CloudTarget,
        headers=(KEY,),
        bodies=json_body(schemas.VersionRequest, "workflow_id", "workflow_api", "comment"),
        needs=_GRAPHS,
        replies=(
            json_reply(
                SavedVersion,
                "The version that has the content.",
                Link("getVersion", _VERSION),
                Link("validateWorkflow", body=_GRAPH),
            ),
        ),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/workflow/version",
        id="getVersion",
        tag="Workflows",
        summary="One version with its graphs",
        query=schemas.VersionQuery,
        headers=(KEY,),
        replies=(
            json_reply(
                VersionDetails,
                "The version.",
                Link("convertWorkflow", body=_GRAPH),
                Link("validateWorkflow", body=_GRAPH),
                Link("run", body=_VERSION),
            ),
        ),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/workflow/versions",
        id="listVersions",
        tag="Workflows",
        summary="The versions of a workflow, newest first",
        query=schemas.VersionsQuery,
        headers=(KEY,),
        replies=(json_reply(list[VersionSummary], "The versions."),),
        errors=(NotFoundError, *CLOUD),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/update",
        id="updateWorkflow",
        tag="Workflows",
        summary="Rename a workflow in the local store, or give it other tags",
        bodies=json_body(schemas.WorkflowUpdateRequest, "workflow_id", "name", "tags"),
        needs=("name", "tags"),
        replies=(json_reply(ChangedWorkflow, "The workflow is changed."),),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/delete",
        id="deleteWorkflow",
        tag="Workflows",
        summary="Delete a workflow in the local store, with its versions and presets",
        text="It can be restored for 30 days. Its runs stay.",
        bodies=json_body(schemas.WorkflowIdRequest, "workflow_id"),
        replies=(
            json_reply(
                ChangedWorkflow,
                "The workflow is deleted; this is what it was.",
                Link("restoreWorkflow", body=_WORKFLOW_ID),
            ),
        ),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/restore",
        id="restoreWorkflow",
        tag="Workflows",
        summary="Restore a workflow that was deleted",
        bodies=json_body(schemas.WorkflowIdRequest, "workflow_id"),
        replies=(json_reply(ChangedWorkflow, "The workflow is as it was."),),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/edit",
        id="editWorkflow",
        tag="Workflows",
        summary="Put a workflow of the local store into the folder of ComfyUI's editor",
        text="What is saved through ComfyUI's page below Jupyter's address becomes a version.",
        bodies=json_body(schemas.WorkflowIdRequest, "workflow_id"),
        replies=(json_reply(EditedWorkflow, "Its newest version is there."),),
        errors=(NotFoundError, ComfyUIUnavailableError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/editor/workflows",
        id="listEditorWorkflows",
        tag="Workflows",
        summary="The workflows that ComfyUI's editor keeps in its own folder",
        query=schemas.MachineQuery,
        replies=(json_reply(list[EditorFile], "The files, newest change first."),),
        errors=(NotFoundError, ComfyUIUnavailableError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/editor/workflow",
        id="getEditorWorkflow",
        tag="Workflows",
        summary="A workflow that ComfyUI's editor keeps",
        query=schemas.EditorWorkflowQuery,
        replies=(json_reply(EditorGraph, "The graph."),),
        errors=(NotFoundError, ComfyUIUnavailableError),
    ),
    Operation(
        method="get",
        path="/comfyui-deploy/workflow/presets",
        id="listPresets",
        tag="Workflows",
        summary="The presets of a workflow in the local store, by name",
        query=schemas.PresetsQuery,
        replies=(json_reply(list[PresetDetails], "The presets."),),
        errors=(NotFoundError,),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/preset",
        id="savePreset",
        tag="Workflows",
        summary="Store values for the inputs of a stored workflow under a name",
        text="It replaces a preset of this name, except one that has another `revision`.",
        bodies=json_body(schemas.PresetRequest, "workflow_id", "name", "inputs"),
        replies=(json_reply(ChangedPreset, "The preset is saved."),),
        errors=(NotFoundError, ConflictError),
    ),
    Operation(
        method="post",
        path="/comfyui-deploy/workflow/preset/delete",
        id="deletePreset",
        tag="Workflows",
        summary="Delete a preset",
        bodies=json_body(schemas.PresetDeleteRequest, "workflow_id", "name"),
        replies=(json_reply(ChangedPreset, "The preset is deleted; this is what it was."),),
        errors=(NotFoundError, ConflictError),
    ),
)
