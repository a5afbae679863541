"""Requests of the Comfy API v2."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from .base import JSONObject, Labels, Model
from .examples import GRAPH
from .runs import ExtraData

__all__ = ["AssetFromHash", "JobRequest", "JobsQuery"]

HASH_PATTERN = r"^blake3:[0-9a-f]{64}$"
HASH = "blake3:ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
JOB_STATUSES = (
    "queued",
    "running",
    "succeeded",
    "canceling",
    "canceled",
    "failed",
    "expired",
)


def _check_statuses(text: str) -> str:
    for name in text.split(","):
        if name not in JOB_STATUSES:
            raise ValueError(f"{name!r} is not one of {', '.join(JOB_STATUSES)}")
    return text


class JobRequest(Model):
    """Body of ``POST jobs``."""

    workflow: JSONObject = Field(
        description="A graph in ComfyUI's API format. A reference to an asset may stand for the"
        ' name of a file: `{"__type": "core/ASSET", "info": {"id": "…"}}`.',
        examples=[GRAPH],
    )
    extra_data: ExtraData | None = Field(
        None,
        repr=False,
        description="`api_key_comfy_org`: the key of a Comfy account for partner nodes. It is not"
        " stored.",
    )
    metadata: Labels | None = Field(
        None,
        description="Labels of the job: texts by name. `machine` names the machine that executes"
        " it.",
        examples=[{"client": "acme"}],
    )
    priority: float | None = Field(
        None, description="Above 0, the job becomes the first one in the queue.", examples=[0]
    )
    inputs: None = Field(None, description="Not supported: set the values in the workflow itself.")
    webhook_url: None = Field(None, description="Not supported: follow the job's events.")


class JobsQuery(Model):
    """Query of ``GET jobs``."""

    limit: int = Field(
        50, ge=1, le=100, description="The largest number of jobs to return.", examples=[10]
    )
    cursor: Annotated[str, Field(max_length=200)] | None = Field(
        None,
        description="`next_cursor` of the page before this one, with the same filters.",
        examples=["AAAAAAAAAAGcqPzNgFYaTC-uzz4mfFzq"],
    )
    status: Annotated[str, AfterValidator(_check_statuses)] | None = Field(
        None,
        description="Return only jobs with this status, or one of several (`queued,running`).",
        examples=["succeeded"],
    )
    metadata: Labels | None = Field(
        None,
        description="Return only jobs with all of these labels: `metadata[client]=acme`.",
        examples=[{"client": "acme"}],
    )


class AssetFromHash(Model):
    """Body of ``POST assets/from-hash``."""

    hash: Annotated[str, Field(pattern=HASH_PATTERN)] = Field(
        description="The BLAKE3 of the content.", examples=[HASH]
    )
    file_path: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None,
        description="Where the file is to be: a name or `input/…` is an input,"
        " `models/<folder>/…` or `<folder>/…` is a model.",
        examples=["photo.png"],
    )
    tags: list[Any] | None = Field(None, description="Ignored.")
