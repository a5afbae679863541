"""Stored workflows and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from jupyter_server.utils import url_path_join

from ..errors import InvalidRequestError, NotFoundError
from ..util.system import lazy_module
from .base import Handler, schemas
from .comfyui_page import OPENED, PAGE

if TYPE_CHECKING:
    from ..workflows import convert, store
else:
    convert, store = lazy_module("workflows.convert"), lazy_module("workflows.store")


class WorkflowBase(Handler):
    """Base of the workflow routes."""

    def repository(self, asked: schemas.CloudTarget) -> store.LocalWorkflows | store.CloudWorkflows:
        """Return the store of workflows: the local one, or that of the `account` in the request."""
        return self.services.workflows(self.cloud_account(asked))

    async def read_draft(self, request: schemas.WorkflowRequest) -> store.Draft:
        """Return the workflow or version in a request to save it.

        Raises
        ------
        InvalidRequestError
            If it contains no graph, or a new workflow has no name.
        """
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


class WorkflowHandler(WorkflowBase):
    """``workflow``: a workflow with its latest version."""

    async def get(self) -> None:
        """Reply with a workflow."""
        query = self.query(schemas.WorkflowQuery)
        await self.reply_large(await self.repository(query).workflow(query.workflow_id))

    async def post(self) -> None:
        """Create a workflow, or update the one in the request."""
        request = await self.body(schemas.WorkflowRequest, unique=True, graphs=True)
        given = await self.read_draft(request)
        self.reply({"success": True, **await self.repository(request).save(given)})


class WorkflowsHandler(WorkflowBase):
    """``GET workflows``: all workflows, the last changed one first."""

    async def get(self) -> None:
        """Reply with an array."""
        query = self.query(schemas.WorkflowsQuery)
        self.reply(
            await self.repository(query).workflows(
                search=query.search, limit=query.limit, offset=query.offset
            )
        )


class VersionHandler(WorkflowBase):
    """``workflow/version``: one version with its graphs."""

    async def get(self) -> None:
        """Reply with a version."""
        query = self.query(schemas.VersionQuery)
        number = None if query.version == "latest" else query.version
        await self.reply_large(await self.repository(query).version(query.workflow_id, number))

    async def post(self) -> None:
        """Add a version to a workflow."""
        request = await self.body(schemas.VersionRequest, unique=True, graphs=True)
        given = await self.read_draft(request)
        version = await self.repository(request).add_version(given)
        await self.reply_large({"success": True, **version})


class VersionsHandler(WorkflowBase):
    """``GET workflow/versions``: the versions of a workflow, newest first."""

    async def get(self) -> None:
        """Reply with an array, without graphs."""
        query = self.query(schemas.VersionsQuery)
        self.reply(
            await self.repository(query).versions(
                query.workflow_id, search=query.search, limit=query.limit, offset=query.offset
            )
        )


class WorkflowUpdateHandler(Handler):
    """``POST workflow/update``: rename a workflow, or replace its tags."""

    async def post(self) -> None:
        """Change a workflow and answer with it."""
        request = await self.body(schemas.WorkflowUpdateRequest)
        if request.name is None and request.tags is None:
            raise InvalidRequestError.of_field("name", "is needed, unless tags is given")
        changed = await self.services.local_workflows.change(
            request.workflow_id, request.name, request.tags
        )
        self.reply({"success": True, **changed})


class WorkflowDeleteHandler(Handler):
    """``POST workflow/delete``: delete a workflow."""

    async def post(self) -> None:
        """Delete a workflow and answer with it."""
        request = await self.body(schemas.WorkflowIdRequest)
        deleted = await self.services.local_workflows.delete(request.workflow_id)
        self.reply({"success": True, **deleted})


class WorkflowRestoreHandler(Handler):
    """``POST workflow/restore``: restore a deleted workflow."""

    async def post(self) -> None:
        """Restore a workflow and answer with it."""
        request = await self.body(schemas.WorkflowIdRequest)
        restored = await self.services.local_workflows.restore(request.workflow_id)
        self.reply({"success": True, **restored})


class WorkflowEditHandler(Handler):
    """``POST workflow/edit``: put a workflow into the folder of ComfyUI's editor."""

    async def post(self) -> None:
        """Write the newest version and answer with the address of the page that opens it."""
        request = await self.body(schemas.WorkflowIdRequest)
        if not self.extension.comfyui_page:
            raise NotFoundError("ComfyUI's page is turned off here (ComfyDeploy.comfyui_page)")
        path = await self.services.editing.begin(request.workflow_id)
        address = f"{url_path_join(self.base_url, PAGE)}/?{urlencode({OPENED: path})}"
        self.reply({"success": True, "path": path, "url": address})


class EditorWorkflowsHandler(Handler):
    """``GET editor/workflows``: the workflows in the folder of ComfyUI's editor."""

    async def get(self) -> None:
        """Answer with an array, the one changed last first."""
        query = self.query(schemas.MachineQuery)
        client = await self.services.machines.get(query.machine).ready()
        self.reply(await client.list_workflows())


class EditorWorkflowHandler(Handler):
    """``GET editor/workflow``: one of them with its graph."""

    async def get(self) -> None:
        """Answer with a graph, in the format that the file has."""
        query = self.query(schemas.EditorWorkflowQuery)
        client = await self.services.machines.get(query.machine).ready()
        text = await client.read_workflow(query.file)
        workflow, workflow_api = await convert.read_graphs(
            text.decode("utf-8", "replace"), None, None
        )
        body = {"path": query.file, "workflow": workflow, "workflow_api": workflow_api}
        await self.reply_large(body)


class PresetsHandler(Handler):
    """``GET workflow/presets``: the presets of a workflow, by name."""

    async def get(self) -> None:
        """Reply with an array."""
        query = self.query(schemas.PresetsQuery)
        presets = await self.services.local_workflows.presets(query.workflow_id)
        self.reply([vars(preset) for preset in presets])


class PresetHandler(Handler):
    """``POST workflow/preset``: store values under a name."""

    async def post(self) -> None:
        """Store a preset and reply with it."""
        request = await self.body(schemas.PresetRequest)
        preset = await self.services.local_workflows.save_preset(
            request.workflow_id, request.name, request.inputs, request.locked, request.revision
        )
        self.reply({"success": True, **vars(preset)})


class PresetDeleteHandler(Handler):
    """``POST workflow/preset/delete``: delete a preset."""

    async def post(self) -> None:
        """Delete a preset and reply with it."""
        request = await self.body(schemas.PresetDeleteRequest)
        preset = await self.services.local_workflows.delete_preset(
            request.workflow_id, request.name, request.revision
        )
        self.reply({"success": True, **vars(preset)})
