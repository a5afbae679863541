"""Stored workflows and their versions, the folder of ComfyUI's editor, and presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from jupyter_server.utils import url_path_join
from pydantic import AfterValidator, Field

from ..errors import ComfyUIUnavailableError, ConflictError, InvalidRequestError, NotFoundError
from ..request_models import (
    GRAPH,
    UI_GRAPH,
    WORKFLOW_ID,
    CloudBody,
    CloudTarget,
    Identifier,
    JSONObject,
    LimitField,
    MachineQuery,
    MachineRef,
    Model,
    Name,
    OffsetField,
    SearchField,
    WorkflowIdField,
    optional,
    required,
)
from ..workflows import convert, store
from .base import Handler
from .comfyui_page import OPENED, PAGE
from .route import (
    CLOUD,
    KEY,
    TIME,
    Link,
    OpenReplyModel,
    ReplyModel,
    Success,
    errors,
    replies,
    route,
    takes,
)

Tag = Annotated[Name, Field(max_length=64)]


def _below(path: str) -> str:
    """Return a path if it leads to a JSON file below the folder that it is relative to."""
    if not path.lower().endswith(".json"):
        raise ValueError("must be the path of a JSON file")
    if any(part in {"", ".", ".."} for part in path.replace("\\", "/").split("/")):
        raise ValueError("must be a path below the folder")
    return path


class WorkflowRequest(CloudBody):
    """Body of ``POST workflow``; ``workflow`` and ``workflow_json`` have the same meaning."""

    name: Name | None = optional(
        "The name of the workflow. It is required for a new workflow; with `workflow_id` the"
        " workflow gets this new name.",
        "Portrait",
    )
    workflow: JSONObject | str | None = optional(
        "A graph as ComfyUI's editor saves it, as JSON or as text with JSON.", UI_GRAPH
    )
    workflow_json: JSONObject | str | None = optional("Another name for `workflow`.", UI_GRAPH)
    workflow_api: JSONObject | str | None = optional("A graph in ComfyUI's API format.", GRAPH)
    workflow_id: WorkflowIdField = None
    comment: Annotated[str, Field(max_length=10_000)] | None = optional(
        "A description of the changes; `search` finds it.", "first light"
    )
    machine_id: MachineRef | None = optional(
        "The machine that the workflow is meant for, by id or name.", "local"
    )
    force: bool | None = optional(
        "Whether to make a version even if the graph has not changed.", False
    )


class VersionRequest(WorkflowRequest):
    workflow_id: Identifier = required("The id of a stored workflow.", WORKFLOW_ID)


class WorkflowsQuery(CloudTarget):
    search: SearchField = ""
    limit: LimitField = 100
    offset: OffsetField = 0


class WorkflowQuery(CloudTarget):
    workflow_id: Identifier = required("The id of a stored workflow.", WORKFLOW_ID)


class VersionsQuery(WorkflowsQuery, WorkflowQuery):
    """Query of ``GET workflow/versions``."""


class VersionQuery(WorkflowQuery):
    version: Annotated[int, Field(ge=1, le=10**9)] | Literal["latest"] = optional(
        "The number of a version, or `latest`.", "latest", default="latest"
    )


class WorkflowIdRequest(Model):
    workflow_id: Identifier = required("The id of a stored workflow.", WORKFLOW_ID)


class WorkflowUpdateRequest(WorkflowIdRequest):
    name: Name | None = optional("The new name.", "Portrait")
    tags: Annotated[list[Tag], Field(max_length=50)] | None = optional(
        "All tags from now on; of those that differ only in case, the first is kept.",
        ["people", "SDXL"],
    )


class EditorWorkflowQuery(MachineQuery):
    file: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_below)] = required(
        "The `path` of the file, as `editor/workflows` lists it.", "portrait.json"
    )


class PresetsQuery(WorkflowIdRequest):
    """Query of ``GET workflow/presets``."""


class PresetDeleteRequest(PresetsQuery):
    name: Name = required("The name of the preset; case does not matter.", "Softer light")
    revision: Annotated[str, Field(max_length=64)] | None = optional(
        "The `revision` of the preset that the client has seen, or an empty text if it has seen"
        " none of this name. If the preset has another one, nothing is changed. Without it, the"
        " preset is changed in any case.",
        "",
    )


class PresetRequest(PresetDeleteRequest):
    inputs: JSONObject = required(
        "The values, by the keys that `inputs` of a run may have.", {"3.steps": 30}
    )
    locked: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=1000)] = (
        optional(
            "The keys of the seeds that are not drawn anew for each run.", ["3.seed"], default=[]
        )
    )


class WorkflowSummary(OpenReplyModel):
    """A workflow. One of ComfyDeploy has more keys; in lists it has no number of versions."""

    id: str = Field(examples=[WORKFLOW_ID])
    workflow_id: str = required("The same as `id`.", WORKFLOW_ID)
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


class EditorFile(ReplyModel):
    """A workflow file of ComfyUI's editor."""

    path: str = Field(examples=["portrait.json"])
    size: int = required("Bytes.", 20480)
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
    revision: str = required(
        "Changes with the content: equal presets have equal revisions.", "2c26b46b68ffc68f"
    )
    updated_at: str = Field(examples=[TIME])


class ChangedPreset(PresetDetails, Success):
    """A preset that was saved or deleted."""


_WORKFLOW_ID = {"workflow_id": "$response.body#/workflow_id"}
_VERSION = {**_WORKFLOW_ID, "version": "$response.body#/version"}
_DEPLOYMENT = {"deployment_id": "$response.body#/workflow_id"}
_GRAPH = {"workflow_api": "$response.body#/workflow_api"}
_GRAPHS = ("workflow", "workflow_json", "workflow_api")


class WorkflowsHandler(Handler):
    """Workflows, their versions and their presets, here or at ComfyDeploy."""

    tag = "Workflows"

    @route("POST", "workflow", "saveWorkflow")
    @takes(
        query=CloudTarget,
        example=("name", "workflow", "comment"),
        unique=True,
        graphs=True,
        needs=_GRAPHS,
        headers=(KEY,),
    )
    @replies(
        SavedWorkflow,
        "The workflow is saved.",
        Link("getWorkflow", _WORKFLOW_ID),
        Link("listVersions", _WORKFLOW_ID),
        Link("getWorkflowSchema", _WORKFLOW_ID),
        Link("queueDeployment", body=_DEPLOYMENT),
        Link("getVersion", _VERSION),
        Link(
            "saveVersion", body={**_WORKFLOW_ID, "workflow_api": GRAPH, "comment": "second light"}
        ),
        Link("deleteWorkflow", body=_WORKFLOW_ID),
    )
    @errors(NotFoundError, *CLOUD)
    async def save_workflow(self, body: WorkflowRequest) -> Any:
        """Save a workflow: a new one, or with `workflow_id` a new version.

        `workflow`, `workflow_json` or `workflow_api` is needed.
        """
        given = await self._draft(body)
        return {"success": True, **await self._repository(body).save(given)}

    @route("GET", "workflow", "getWorkflow")
    @takes(headers=(KEY,))
    @replies(WorkflowDetails, "The workflow.")
    @errors(NotFoundError, *CLOUD)
    async def get_workflow(self, query: WorkflowQuery) -> None:
        """A workflow with its latest version."""
        await self.reply_large(await self._repository(query).workflow(query.workflow_id))

    @route("GET", "workflows", "listWorkflows")
    @takes(headers=(KEY,))
    @replies(list[ListedWorkflow], "The workflows.")
    @errors(*CLOUD)
    async def list_workflows(self, query: WorkflowsQuery) -> Any:
        """All workflows, newest change first."""
        return await self._repository(query).workflows(
            search=query.search, limit=query.limit, offset=query.offset
        )

    @route("POST", "workflow/version", "saveVersion")
    @takes(
        query=CloudTarget,
        example=("workflow_id", "workflow_api", "comment"),
        unique=True,
        graphs=True,
        needs=_GRAPHS,
        headers=(KEY,),
    )
    @replies(
        SavedVersion,
        "The version that has the content.",
        Link("getVersion", _VERSION),
        Link("validateWorkflow", body=_GRAPH),
    )
    @errors(NotFoundError, *CLOUD)
    async def save_version(self, body: VersionRequest) -> None:
        """Add a version to a workflow."""
        given = await self._draft(body)
        version = await self._repository(body).add_version(given)
        await self.reply_large({"success": True, **version})

    @route("GET", "workflow/version", "getVersion")
    @takes(headers=(KEY,))
    @replies(
        VersionDetails,
        "The version.",
        Link("convertWorkflow", body=_GRAPH),
        Link("validateWorkflow", body=_GRAPH),
        Link("run", body=_VERSION),
    )
    @errors(NotFoundError, *CLOUD)
    async def get_version(self, query: VersionQuery) -> None:
        """One version with its graphs."""
        number = None if query.version == "latest" else query.version
        await self.reply_large(await self._repository(query).version(query.workflow_id, number))

    @route("GET", "workflow/versions", "listVersions")
    @takes(headers=(KEY,))
    @replies(list[VersionSummary], "The versions.")
    @errors(NotFoundError, *CLOUD)
    async def list_versions(self, query: VersionsQuery) -> Any:
        """The versions of a workflow, newest first."""
        return await self._repository(query).versions(
            query.workflow_id, search=query.search, limit=query.limit, offset=query.offset
        )

    @route("POST", "workflow/update", "updateWorkflow")
    @takes(example=("workflow_id", "name", "tags"), needs=("name", "tags"))
    @replies(ChangedWorkflow, "The workflow is changed.")
    @errors(NotFoundError)
    async def update_workflow(self, body: WorkflowUpdateRequest) -> Any:
        """Rename a workflow in the local store, or give it other tags."""
        if body.name is None and body.tags is None:
            raise InvalidRequestError.of_field("name", "is needed, unless tags is given")
        changed = await self.services.local_workflows.change(body.workflow_id, body.name, body.tags)
        return {"success": True, **changed}

    @route("POST", "workflow/delete", "deleteWorkflow")
    @takes(example=("workflow_id",))
    @replies(
        ChangedWorkflow,
        "The workflow is deleted; this is what it was.",
        Link("restoreWorkflow", body=_WORKFLOW_ID),
    )
    @errors(NotFoundError)
    async def delete_workflow(self, body: WorkflowIdRequest) -> Any:
        """Delete a workflow in the local store, with its versions and presets.

        It can be restored for 30 days. Its runs stay.
        """
        deleted = await self.services.local_workflows.delete(body.workflow_id)
        return {"success": True, **deleted}

    @route("POST", "workflow/restore", "restoreWorkflow")
    @takes(example=("workflow_id",))
    @replies(ChangedWorkflow, "The workflow is as it was.")
    @errors(NotFoundError)
    async def restore_workflow(self, body: WorkflowIdRequest) -> Any:
        """Restore a workflow that was deleted."""
        restored = await self.services.local_workflows.restore(body.workflow_id)
        return {"success": True, **restored}

    @route("POST", "workflow/edit", "editWorkflow")
    @takes(example=("workflow_id",))
    @replies(EditedWorkflow, "Its newest version is there.")
    @errors(NotFoundError, ComfyUIUnavailableError)
    async def edit_workflow(self, body: WorkflowIdRequest) -> Any:
        """Put a workflow of the local store into the folder of ComfyUI's editor.

        What is saved through ComfyUI's page below Jupyter's address becomes a version.
        """
        if not self.extension.comfyui_page:
            raise NotFoundError("ComfyUI's page is turned off here (ComfyDeploy.comfyui_page)")
        path = await self.services.editing.begin(body.workflow_id)
        address = f"{url_path_join(self.base_url, PAGE)}/?{urlencode({OPENED: path})}"
        return {"success": True, "path": path, "url": address}

    @route("GET", "editor/workflows", "listEditorWorkflows")
    @replies(list[EditorFile], "The files, newest change first.")
    @errors(NotFoundError, ComfyUIUnavailableError)
    async def list_editor_workflows(self, query: MachineQuery) -> Any:
        """The workflows that ComfyUI's editor keeps in its own folder."""
        client = await self.services.machines.get(query.machine).ready()
        return await client.list_workflows()

    @route("GET", "editor/workflow", "getEditorWorkflow")
    @replies(EditorGraph, "The graph.")
    @errors(NotFoundError, ComfyUIUnavailableError)
    async def get_editor_workflow(self, query: EditorWorkflowQuery) -> None:
        """A workflow that ComfyUI's editor keeps."""
        client = await self.services.machines.get(query.machine).ready()
        text = await client.read_workflow(query.file)
        workflow, workflow_api = await convert.read_graphs(
            text.decode("utf-8", "replace"), None, None
        )
        body = {"path": query.file, "workflow": workflow, "workflow_api": workflow_api}
        await self.reply_large(body)

    @route("GET", "workflow/presets", "listPresets")
    @replies(list[PresetDetails], "The presets.")
    @errors(NotFoundError)
    async def list_presets(self, query: PresetsQuery) -> Any:
        """The presets of a workflow in the local store, by name."""
        presets = await self.services.local_workflows.presets(query.workflow_id)
        return [vars(preset) for preset in presets]

    @route("POST", "workflow/preset", "savePreset")
    @takes(example=("workflow_id", "name", "inputs"))
    @replies(ChangedPreset, "The preset is saved.")
    @errors(NotFoundError, ConflictError)
    async def save_preset(self, body: PresetRequest) -> Any:
        """Store values for the inputs of a stored workflow under a name.

        It replaces a preset of this name, except one that has another `revision`.
        """
        preset = await self.services.local_workflows.save_preset(
            body.workflow_id, body.name, body.inputs, body.locked, body.revision
        )
        return {"success": True, **vars(preset)}

    @route("POST", "workflow/preset/delete", "deletePreset")
    @takes(example=("workflow_id", "name"))
    @replies(ChangedPreset, "The preset is deleted; this is what it was.")
    @errors(NotFoundError, ConflictError)
    async def delete_preset(self, body: PresetDeleteRequest) -> Any:
        """Delete a preset."""
        preset = await self.services.local_workflows.delete_preset(
            body.workflow_id, body.name, body.revision
        )
        return {"success": True, **vars(preset)}

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
