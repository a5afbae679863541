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
        description="An environment to use instead of the present one: `snapshot` of an earlier"
        " reply, or a snapshot of ComfyUI-Manager (an object, or the text of its JSON or YAML"
        " file).",
    )
    name: (
        Annotated[str, Field(pattern=FOLDER_PATTERN), AfterValidator(_check_not_relative)] | None
    ) = Field(
        None,
        description="The name of the build context, by default the time: at most 64 letters,"
        " digits, `.`, `_` and `-`. An earlier context of that name is replaced as a whole.",
        examples=["studio"],
    )
    include_models: bool | None = Field(
        None,
        description="Whether to compute the SHA-256 that are not known, and to write downloads of"
        " all models whose source is known; by default not.",
        examples=[False],
    )
    build: bool | None = Field(
        None,
        description="Whether Docker, or Podman, builds the image `comfyui-snapshot:<name>` at once;"
        " by default not.",
        examples=[False],
    )
    machine: MachineField = None
