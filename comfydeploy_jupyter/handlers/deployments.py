"""The routes of ComfyDeploy's SDKs: runs of deployments, which are stored workflows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import Field

from .. import request_models as fields
from ..errors import (
    ComfyDeployError,
    ConflictError,
    InvalidInputError,
    InvalidJSONError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    UnknownInputError,
)
from ..request_models import DeploymentRun, Model, Webhook, optional, parse, required
from ..runs.outputs import as_json, service_run
from ..util.jsons import RawJSON
from ..workflows import store
from . import route
from .base import Handler
from .comfy_api import MACHINE_HEADER
from .route import MACHINE, TIME, Large, Link, ReplyModel
from .runs import RUN_ERRORS

if TYPE_CHECKING:
    from ..errors import ComfyDeployError
    from ..runs.records import RunRecord


class DeploymentRunRequest(Model):
    deployment_id: fields.Identifier = required(
        "The id of a stored workflow, whose newest version is run, or the id of one of its"
        " versions.",
        fields.WORKFLOW_ID,
    )
    inputs: fields.JSONObject | None = optional(
        "Values by name, as `inputs` of `run`.", {"1.width": 128}
    )
    webhook: fields.Endpoint | None = optional(
        "An address that receives the end of the run; it is sent again until the address accepts"
        " it."
    )
    webhook_intermediate_status: bool | None = optional(
        "Whether `webhook` receives each state and the progress as well.", False
    )
    gpu: str | None = optional("Ignored: the machine decides.", "A10G", max_length=100)


class CreatedRun(ReplyModel):
    """A run that is queued."""

    run_id: str = Field(examples=[fields.RUN_ID])


class CancelledRun(ReplyModel):
    """A run that is cancelled, or has ended."""

    run_id: str = Field(examples=[fields.RUN_ID])
    status: fields.Status = Field(examples=["running"])
    message: str = Field(examples=["The run is being cancelled"])


class ServiceOutput(ReplyModel):
    """The output of a node."""

    id: str = Field(examples=["a8098c1a-f86e-51da-bd1a-00112444be1e"])
    run_id: str = Field(examples=[fields.RUN_ID])
    data: dict[str, list[Any]] = required(
        "By kind: files with `url`, `type` and `filename`, texts, and booleans.",
        {"text": ["a cat"]},
    )
    node_meta: dict[str, Any] | None
    node_id: str = Field(examples=["2"])
    type: str | None
    created_at: str = Field(examples=[TIME])
    updated_at: str = Field(examples=[TIME])


class ServiceRun(ReplyModel):
    """A run in the form of the ComfyDeploy service; what does not exist here is null."""

    id: str = required("The id of the run in all routes.", fields.RUN_ID)
    workflow_id: str = required("The stored workflow, or an empty text.", fields.WORKFLOW_ID)
    workflow_version_id: str | None
    workflow_inputs: dict[str, Any] | None
    workflow_api: dict[str, Any] | None
    machine_id: str | None = Field(examples=["local"])
    machine_version: str | None
    machine_type: str | None
    gpu: str | None
    gpu_event_id: str | None
    modal_function_call_id: str | None
    user_id: str | None
    org_id: str | None
    origin: str = Field(examples=["api"])
    status: fields.Status = Field(examples=["success"])
    live_status: str | None
    progress: float = required("From 0 to 1.", 1.0)
    outputs: list[ServiceOutput]
    webhook: str | None
    webhook_status: str | None = required(
        "`success` if the webhook accepted the end of the run, `failed` if it did not, `pending`"
        " before; null without a webhook.",
        "success",
    )
    number: int = Field(examples=[1])
    is_realtime: bool = Field(examples=[False])
    created_at: str = Field(examples=[TIME])
    updated_at: str = Field(examples=[TIME])
    queued_at: str | None = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    ended_at: str | None = Field(examples=[TIME])
    duration: float | None = required("Seconds from the request to the end.")
    run_duration: float | None = required("Seconds of the execution.")
    cold_start_duration: float | None
    cold_start_duration_total: float | None


_RUN = {"run_id": "$response.body#/run_id"}
_UNPROCESSABLE = tuple(
    (422, kind)
    for kind in (InvalidRequestError, PromptInvalidError, InvalidInputError, UnknownInputError)
)


class DeploymentsHandler(Handler):
    """These routes; their errors have ``detail``, as those of the service."""

    tag = "ComfyDeploy SDK"

    def error_of(self, exception: BaseException | None, status: int) -> ComfyDeployError:
        """Return the error for an exception; an invalid field is 422 with a list as ``detail``."""
        error = super().error_of(exception, status)
        detail: Any = error.message
        if isinstance(error, (InvalidRequestError, InvalidJSONError, PromptInvalidError)):
            error.status = 422
            field = error.details.get("field")
            loc = ["body", *str(field).split(".", 1)] if field else ["body"]
            detail = [{"loc": loc, "msg": error.message, "type": error.code}]
        error.extra = {**error.extra, "detail": detail}
        return error

    @property
    def view_url(self) -> str:
        """The absolute address of the ``view`` route, with the host of the request."""
        return f"{self.public_origin}{self.base_url}comfyui-deploy/view"

    async def answer(self, record: RunRecord) -> RawJSON:
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
        return RawJSON(await asyncio.to_thread(as_json, body))

    @route.post("run/deployment/queue", "queueDeployment")
    @route.takes(example=("deployment_id", "inputs"), headers=(MACHINE_HEADER,))
    @route.replies(
        CreatedRun,
        "The run is queued.",
        Link("getDeploymentRun", _RUN),
        Link("cancelDeploymentRun", _RUN),
    )
    @route.errors(*RUN_ERRORS, *_UNPROCESSABLE, (422, InvalidJSONError))
    async def queue_deployment(self, body: DeploymentRunRequest) -> Any:
        """Run a stored workflow as a deployment of ComfyDeploy.

        Errors have `detail` as well, as those of the service. A `webhook` receives `run_id`,
        `status`, `live_status`, `progress` and `outputs`.
        """
        workflow_id, number = await self.services.local_workflows.deployed(body.deployment_id)
        webhook = None
        if body.webhook:
            intermediate = bool(body.webhook_intermediate_status)
            webhook = Webhook(body.webhook, intermediate, self.view_url)
        fields = {
            "workflow_id": workflow_id,
            "version": number,
            "inputs": body.inputs,
            "machine": self.request.headers.get(MACHINE_HEADER.name, "").strip() or None,
            "webhook": webhook,
        }
        request = parse(DeploymentRun, fields)
        run = await self.services.runs.queue(request)
        return {"run_id": run.prompt_id}

    @route.get("run/{run_id}", "getDeploymentRun")
    @route.replies(ServiceRun, "The run.")
    @route.errors(NotFoundError, _UNPROCESSABLE[0])
    async def get_deployment_run(self, run_id: str) -> Large:
        """A run in the form of the ComfyDeploy service."""
        return await self.answer(await self.services.runs.record(run_id))

    @route.post("run/{run_id}/cancel", "cancelDeploymentRun")
    @route.replies(CancelledRun, "The run.")
    @route.errors(*MACHINE, NotFoundError, _UNPROCESSABLE[0])
    async def cancel_deployment_run(self, run_id: str) -> Any:
        """Cancel a run; one that has ended stays as it is."""
        message = "The run is being cancelled"
        try:
            await self.services.runs.interrupt(run_id, None)
        except ConflictError as exc:
            message = exc.message
        record = await self.services.runs.record(run_id)
        return {"run_id": run_id, "status": record.status, "message": message}
