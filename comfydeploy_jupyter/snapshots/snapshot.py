"""The content of a snapshot, and the validation of a snapshot in a request."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from ..errors import InvalidRequestError
from ..schemas import Model

LONGEST_NAME = 255  # characters of a file or folder
LONGEST_ADDRESS = 2000
COMFYUI_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
_ADDRESS = re.compile(
    r"(?:https?://|ssh://|git://)[^\s\x00-\x1f\x7f]+|git@[\w.-]+:[^\s\x00-\x1f\x7f]+"
)


def is_address(url: str) -> bool:
    """Return whether ``url`` is a plain address from which git can fetch on another machine."""
    return len(url) <= LONGEST_ADDRESS and _ADDRESS.fullmatch(url) is not None


def is_name(name: str) -> bool:
    """Return whether ``name`` can be that of a file or folder on another machine."""
    if not 1 <= len(name) <= LONGEST_NAME or name in (".", "..") or not name.strip():
        return False
    return "/" not in name and "\0" not in name


def _checked_address(url: str) -> str:
    if not is_address(url):
        raise ValueError("must be an https:// or ssh address of a git repository")
    return url


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise ValueError("must be the name of a file or folder")
    return name


def _checked_path(path: str) -> str:
    for part in path.split("/"):
        _checked_name(part)
    return path


def _checked_requirement(line: str) -> str:
    # pip splits lines as Python does, and allows spaces before an option.
    if line.strip().startswith("-") or len(line.splitlines()) != 1:
        raise ValueError("must be one requirement, not an option of pip")
    return line


Address = Annotated[str, Field(max_length=LONGEST_ADDRESS), AfterValidator(_checked_address)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_checked_name)]
Token = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$")]
Index = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9._/-]+$")]


class ComfyUI(Model):
    """The version of ComfyUI, and how it is started."""

    version: Token | None = None
    commit: Commit | None = None
    repository: Address = COMFYUI_REPOSITORY
    modified: bool = False
    launch_args: list[str] = Field(default_factory=list)


class Package(Model):
    """A Python package."""

    name: Token
    version: str | None = None
    requirement: Annotated[str, Field(min_length=1), AfterValidator(_checked_requirement)]


class Python(Model):
    """The interpreter and its packages."""

    version: Annotated[str, Field(pattern=r"^3\.\d+(\.\d+\S*)?$")] | None = None
    platform: str | None = None
    indexes: list[Index] = Field(default_factory=list)
    packages: list[Package] = Field(default_factory=list)


class CustomNode(Model):
    """A pack of custom nodes."""

    name: Name
    kind: Literal["git", "registry", "files"]
    repository: Address | None = None
    commit: Commit | None = None
    id: Token | None = None
    version: Token | None = None
    disabled: bool = False
    modified: bool = False


class ModelFile(Model):
    """A model file."""

    name: Annotated[str, Field(max_length=4096), AfterValidator(_checked_path)]
    folder: Name
    size: int | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    source: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None


class Snapshot(Model):
    """An environment."""

    created_at: str | None = None
    comfyui: ComfyUI = Field(default_factory=ComfyUI)
    python: Python = Field(default_factory=Python)
    custom_nodes: list[CustomNode] = Field(default_factory=list)
    models: list[ModelFile] = Field(default_factory=list)


def parse(given: dict[str, Any]) -> Snapshot:
    """Validate a snapshot in this package's own format, and return it."""
    try:
        snapshot = Snapshot.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["snapshot", *map(str, first["loc"])])
        raise InvalidRequestError.of_field(place, first["msg"]) from None
    for number, node in enumerate(snapshot.custom_nodes):
        for needed in {"git": ["repository"], "registry": ["id", "version"]}.get(node.kind, []):
            if getattr(node, needed) is None:
                field = f"snapshot.custom_nodes.{number}.{needed}"
                raise InvalidRequestError.of_field(field, f"is needed for a {node.kind} pack")
    return snapshot
