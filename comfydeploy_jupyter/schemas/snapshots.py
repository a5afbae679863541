"""The request ``POST snapshot-to-docker``."""

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
        description="The name of the build context: at most 64 letters, digits, `.`, `_` and `-`."
        " The default is the time. An earlier context with this name is replaced completely.",
        examples=["studio"],
    )
    include_models: bool | None = Field(
        None,
        description="Whether to compute missing SHA-256 hashes, and to add downloads of all models"
        " whose source is known; the default is false.",
        examples=[False],
    )
    build: bool | None = Field(
        None,
        description="Whether Docker or Podman builds the image `comfyui-snapshot:<name>` at once;"
        " the default is false.",
        examples=[False],
    )
    machine: MachineField = None
