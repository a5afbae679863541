"""Requests of the ComfyDeploy SDKs: runs of deployments."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from .base import Endpoint, Identifier, JSONObject, Model
from .examples import WORKFLOW_ID
from .runs import RunRequest

__all__ = ["DeploymentRunRequest"]


class Webhook(NamedTuple):
    """An address that receives the end of a run.

    Attributes
    ----------
    url : str
        The address.
    intermediate : bool
        Whether it receives the states before the end as well.
    view_url : str
        The absolute address of the ``view`` route, for the addresses of outputs.
    """

    url: str
    intermediate: bool
    view_url: str


class DeploymentRun(RunRequest):
    """A run with a webhook; made from a `DeploymentRunRequest`, never read from a body."""

    webhook: Webhook | None = None


class DeploymentRunRequest(Model):
    """Body of ``POST run/deployment/queue``."""

    deployment_id: Identifier = Field(
        description="The id of a stored workflow, whose newest version is run, or the id of one"
        " of its versions.",
        examples=[WORKFLOW_ID],
    )
    inputs: JSONObject | None = Field(
        None, description="Values by name, as `inputs` of `run`.", examples=[{"1.width": 128}]
    )
    webhook: Endpoint | None = Field(
        None,
        description="An address that receives the end of the run; it is sent again until the"
        " address accepts it.",
    )
    webhook_intermediate_status: bool | None = Field(
        None,
        description="Whether `webhook` receives each state and the progress as well.",
        examples=[False],
    )
    gpu: str | None = Field(
        None, max_length=100, description="Ignored: the machine decides.", examples=["A10G"]
    )
