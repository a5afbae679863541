"""What ``POST snapshot-to-docker`` takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .base import FOLDER_PATTERN, CloudBody, JSONObject, MachineField

__all__ = ["SnapshotRequest"]


def _check_not_relative(value: str) -> str:
    if value in (".", ".."):
        raise ValueError("must be a name, not . or ..")
    return value


class SnapshotRequest(CloudBody):
    """Body of ``POST snapshot-to-docker``; ``snapshot`` may be the text of a JSON or YAML file."""

    snapshot: JSONObject | str | None = Field(
        None,
        description="An earlier environment, or a snapshot of ComfyUI-Manager; as object or text.",
    )
    name: (
        Annotated[str, Field(pattern=FOLDER_PATTERN), AfterValidator(_check_not_relative)] | None
    ) = Field(None, description="The name of the build context.", examples=["studio"])
    include_models: bool | None = Field(
        None, description="Whether the image holds the models, too.", examples=[False]
    )
    build: bool | None = Field(
        None, description="Whether the image is built at once.", examples=[False]
    )
    machine: MachineField = None
