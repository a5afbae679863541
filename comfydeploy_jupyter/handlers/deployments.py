"""The routes of ComfyDeploy's SDKs: runs of deployments, which are stored workflows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, InvalidJSONError, InvalidRequestError, PromptInvalidError
from ..runs.outputs import as_json, service_run
from ..util.jsons import RawJSON
from ..util.system import lazy_module
from .base import Handler, schemas
from .comfy_api import MACHINE
from .runs import SMALL

if TYPE_CHECKING:
    from ..errors import ComfyDeployError
    from ..runs.records import RunRecord
    from ..workflows import store
else:
    store = lazy_module("workflows.store")

UNPROCESSABLE = 422


class DeploymentBase(Handler):
    """Base of these routes: their errors have ``detail``, as those of the service."""

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        """Return the error for an exception; an invalid field is 422 with a list as ``detail``."""
        error = super().error_of(exception, status)
        detail: Any = error.message
        if isinstance(error, (InvalidRequestError, InvalidJSONError, PromptInvalidError)):
            error.status = UNPROCESSABLE
            field = error.details.get("field")
            loc = ["body", *str(field).split(".", 1)] if field else ["body"]
            detail = [{"loc": loc, "msg": error.message, "type": error.code}]
        error.extra = {**error.extra, "detail": detail}
        return error

    @property
    def view_url(self) -> str:
        """The absolute address of the ``view`` route, with the host of the request."""
        return f"{self.public_origin}{self.base_url}comfyui-deploy/view"

    async def answer(self, record: RunRecord) -> None:
        """Reply with a run in the form of the service."""
        version_id = None
        if record.workflow_id is not None and record.version is not None:
            version_id = store.version_id(record.workflow_id, record.version)
        run = self.services.runs.find(record.prompt_id)
        nodes = await self.services.runs.nodes(record.prompt_id) if record.outputs else {}
        body = service_run(
            record,
            run,
            self.view_url,
            nodes=nodes,
            version_id=version_id,
            webhook_status=await self.services.transfers.callbacks.webhook_status(record.prompt_id),
        )
        await self.reply_large(RawJSON(await asyncio.to_thread(as_json, body)))


class DeploymentQueueHandler(DeploymentBase):
    """``POST run/deployment/queue``: run a stored workflow."""

    async def post(self) -> None:
        """Queue the run and reply with its id."""
        asked = await self.body(schemas.DeploymentRunRequest)
        workflow_id, number = await self.services.local_workflows.deployed(asked.deployment_id)
        webhook = None
        if asked.webhook:
            intermediate = bool(asked.webhook_intermediate_status)
            webhook = schemas.deployments.Webhook(asked.webhook, intermediate, self.view_url)
        fields = {
            "workflow_id": workflow_id,
            "version": number,
            "inputs": asked.inputs,
            "machine": self.request.headers.get(MACHINE, "").strip() or None,
            "webhook": webhook,
        }
        request = schemas.parse(schemas.deployments.DeploymentRun, fields)
        small = len(self.request.body) <= SMALL
        run = await self.services.runs.queue(request, small=small)
        self.reply({"run_id": run.prompt_id})


class DeploymentRunHandler(DeploymentBase):
    """``GET run/{run_id}``: a run."""

    async def get(self, run_id: str) -> None:
        """Reply with any run, also one that another route has started."""
        await self.answer(await self.services.runs.record(run_id))


class DeploymentCancelHandler(DeploymentBase):
    """``POST run/{run_id}/cancel``: cancel a run."""

    async def post(self, run_id: str) -> None:
        """Cancel the run; a run that has ended is not changed."""
        message = "The run is being cancelled"
        try:
            await self.services.runs.interrupt(run_id, None)
        except ConflictError as fault:
            message = fault.message
        record = await self.services.runs.record(run_id)
        self.reply({"run_id": run_id, "status": record.status, "message": message})
