"""The routes of ComfyDeploy's SDKs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .. import schemas
from ..errors import (
    InvalidInputError,
    InvalidJSONError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    UnknownInputError,
)
from ..schemas.examples import RUN_ID, WORKFLOW_ID
from .comfy_api import MACHINE as MACHINE_HEADER
from .operation import MACHINE, TIME, Link, Operation, ReplyModel, json_body, json_reply
from .runs import RUN_ERRORS

TAG = "ComfyDeploy SDK"
PATH = "/comfyui-deploy/run"
ServiceStatus = Literal[
    "not-started", "queued", "running", "uploading", "success", "failed", "cancelled"
]


class CreatedRun(ReplyModel):
    """A run that is queued."""

    run_id: str = Field(examples=[RUN_ID])


class CancelledRun(ReplyModel):
    """A run that is cancelled, or has ended."""

    run_id: str = Field(examples=[RUN_ID])
    status: ServiceStatus = Field(examples=["running"])
    message: str = Field(examples=["The run is being cancelled"])


class ServiceOutput(ReplyModel):
    """The output of a node."""

    id: str = Field(examples=["a8098c1a-f86e-51da-bd1a-00112444be1e"])
    run_id: str = Field(examples=[RUN_ID])
    data: dict[str, list[Any]] = Field(
        description="By kind: files with `url`, `type` and `filename`, texts, and booleans.",
        examples=[{"text": ["a cat"]}],
    )
    node_meta: dict[str, Any] | None
    node_id: str = Field(examples=["2"])
    type: str | None
    created_at: str = Field(examples=[TIME])
    updated_at: str = Field(examples=[TIME])


class ServiceRun(ReplyModel):
    """A run in the form of the ComfyDeploy service; what does not exist here is null."""

    id: str = Field(description="The id of the run in all routes.", examples=[RUN_ID])
    workflow_id: str = Field(
        description="The stored workflow, or an empty text.", examples=[WORKFLOW_ID]
    )
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
    status: ServiceStatus = Field(examples=["success"])
    live_status: str | None
    progress: float = Field(description="From 0 to 1.", examples=[1.0])
    outputs: list[ServiceOutput]
    webhook: str | None
    webhook_status: str | None = Field(
        description="`success` if the webhook accepted the end of the run, `failed` if it did not,"
        " `pending` before; null without a webhook.",
        examples=["success"],
    )
    number: int = Field(examples=[1])
    is_realtime: bool = Field(examples=[False])
    created_at: str = Field(examples=[TIME])
    updated_at: str = Field(examples=[TIME])
    queued_at: str | None = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    ended_at: str | None = Field(examples=[TIME])
    duration: float | None = Field(description="Seconds from the request to the end.")
    run_duration: float | None = Field(description="Seconds of the execution.")
    cold_start_duration: float | None
    cold_start_duration_total: float | None


_RUN = {"run_id": "$response.body#/run_id"}
_UNPROCESSABLE = tuple(
    (422, kind)
    for kind in (InvalidRequestError, PromptInvalidError, InvalidInputError, UnknownInputError)
)

OPERATIONS = (
    Operation(
        method="post",
        path=f"{PATH}/deployment/queue",
        id="queueDeployment",
        tag=TAG,
        summary="Run a stored workflow as a deployment of ComfyDeploy",
        text="Errors have `detail` as well, as those of the service. A `webhook` receives"
        " `run_id`, `status`, `live_status`, `progress` and `outputs`.",
        headers=(MACHINE_HEADER,),
        bodies=json_body(schemas.DeploymentRunRequest, "deployment_id", "inputs"),
        replies=(
            json_reply(
                CreatedRun,
                "The run is queued.",
                Link("getDeploymentRun", _RUN),
                Link("cancelDeploymentRun", _RUN),
            ),
        ),
        errors=RUN_ERRORS,
        errors_by_status=(*_UNPROCESSABLE, (422, InvalidJSONError)),
    ),
    Operation(
        method="post",
        path=f"{PATH}/{{run_id}}/cancel",
        id="cancelDeploymentRun",
        tag=TAG,
        summary="Cancel a run; one that has ended stays as it is",
        replies=(json_reply(CancelledRun, "The run."),),
        errors=(*MACHINE, NotFoundError),
        errors_by_status=_UNPROCESSABLE[:1],
    ),
    Operation(
        method="get",
        path=f"{PATH}/{{run_id}}",
        id="getDeploymentRun",
        tag=TAG,
        summary="A run in the form of the ComfyDeploy service",
        replies=(json_reply(ServiceRun, "The run."),),
        errors=(NotFoundError,),
        errors_by_status=_UNPROCESSABLE[:1],
    ),
)
