"""Graphs: convert them, validate them, and download the models that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidRequestError
from ..util.system import lazy_module
from .base import Handler, schemas
from .workflows import WorkflowBase

if TYPE_CHECKING:
    from ..schemas.workflows import FileRequest
    from ..workflows import convert, missing_models, validate
else:
    convert, validate = lazy_module("workflows.convert"), lazy_module("workflows.validate")
    missing_models = lazy_module("workflows.missing_models")


Request = TypeVar("Request", bound="FileRequest")


class GraphHandler(Handler):
    """Base of the routes that take a graph, or a file that contains one."""

    async def read_graph(self, model: type[Request], *fields: str) -> Request:
        """Return the request, with the graph of its file; ``fields`` are those of forms."""
        if self.request.files:
            return schemas.parse(model, await self._read_form("machine", *fields))
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

    async def stored_graphs(
        self, request: schemas.FetchModelsRequest | schemas.SchemaRequest
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


class ConvertHandler(GraphHandler):
    """``POST workflow/convert``: a workflow in another format."""

    async def post(self) -> None:
        """Convert a graph, or the one in a file."""
        request = await self.read_graph(schemas.ConvertRequest, "to")
        machine = self.services.machines.get(request.machine)
        converted = await convert.convert(request, machine)
        await self.reply_large({"success": True, **converted})


class SchemaHandler(GraphHandler, WorkflowBase):
    """``workflow/schema``: the inputs and outputs of a workflow as JSON Schema."""

    async def get(self) -> None:
        """Reply with the schema of a version of a stored workflow."""
        query = self.query(schemas.SchemaQuery)
        number = None if query.version == "latest" else query.version
        stored = await self.repository(query).version(query.workflow_id, number)
        await self._reply_schema(query.machine, stored["workflow_api"], stored["workflow"])

    async def post(self) -> None:
        """Reply with the schema of a graph, of the graph in a file, or of a stored workflow."""
        request = await self.read_graph(schemas.SchemaRequest)
        await self._reply_schema(request.machine, *await self.stored_graphs(request))

    async def _reply_schema(self, machine: str | None, api: Any, ui: Any) -> None:
        found = await convert.read_contract(
            self.services.machines.get(machine), workflow_api=api, workflow=ui
        )
        await self.reply_large({"success": True, **found})


class ValidateHandler(Handler):
    """``POST workflow/validate``: what ComfyUI would reply, without queueing."""

    async def post(self) -> None:
        """Reply with the errors that ComfyUI would find in the graph."""
        request = await self.body(schemas.ValidateRequest, graphs=True)
        if request.workflow_api is None and request.workflow is None:
            raise InvalidRequestError.of_field(
                "workflow_api", "is needed: send the graph as workflow_api or as workflow"
            )
        machine = self.services.machines.get(request.machine)
        await self.reply_large(
            await validate.validate_workflow(
                machine, workflow_api=request.workflow_api, workflow=request.workflow
            )
        )


class FetchModelsHandler(GraphHandler):
    """``POST workflow/fetch-models``: the models that a workflow needs and ComfyUI lacks."""

    async def post(self) -> None:
        """Reply with the models; start to download the missing ones unless ``dry_run`` is set."""
        request = await self.body(schemas.FetchModelsRequest)
        machine = self.services.machines.get(request.machine)
        workflow_api, workflow = await self.stored_graphs(request)
        listing = await self.services.models(machine.id)
        transfers = self.services.transfers
        plan = await missing_models.plan(
            machine,
            transfers,
            await listing.names(),
            workflow_api=workflow_api,
            workflow=workflow,
        )
        if request.models is not None:
            missing_models.only(plan, request.models)
        if request.sizes and self.services.settings.fetching.offline:
            plan.warnings.append(
                "The sizes were not requested: the setting `offline` forbids that."
            )
        elif request.sizes:
            await missing_models.ask_sizes(plan, transfers)
        if not request.dry_run:
            await missing_models.fetch(plan, transfers, machine)
        moving = [model.transfer for model in plan.models if model.transfer is not None]
        await self.reply_large(
            {
                "success": True,
                "dry_run": request.dry_run,
                "offline": self.services.settings.fetching.offline,
                "models": [model.describe() for model in plan.models],
                "transfers": [record.describe() for record in moving],
                "missing_nodes": plan.missing_nodes,
                "warnings": plan.warnings,
            }
        )
