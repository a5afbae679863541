"""The content of a snapshot, and the checks of one in a request."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from ..errors import InvalidRequestError
from ..schemas import Model

COMFYUI_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
_ADDRESS = re.compile(
    r"(?:https?://|ssh://|git://)[^\s\x00-\x1f\x7f]+|git@[\w.-]+:[^\s\x00-\x1f\x7f]+"
)


def is_address(url: str) -> bool:
    """Return whether git can fetch from ``url`` on another machine, and does nothing else."""
    return _ADDRESS.fullmatch(url) is not None


def _checked_address(url: str) -> str:
    if not is_address(url):
        raise ValueError("must be an https:// or ssh address of a git repository")
    return url


def _checked_name(name: str) -> str:
    if name in (".", "..") or "/" in name or "\0" in name or not name.strip():
        raise ValueError("must be the name of a file or folder")
    return name


def _checked_path(path: str) -> str:
    for part in path.split("/"):
        _checked_name(part)
    return path


def _checked_requirement(line: str) -> str:
    # pip ends a line at everything that Python does, and takes spaces before an option
    if line.strip().startswith("-") or len(line.splitlines()) != 1:
        raise ValueError("must be one requirement, and no option of pip")
    return line


Address = Annotated[str, Field(max_length=2000), AfterValidator(_checked_address)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
Name = Annotated[str, Field(max_length=255), AfterValidator(_checked_name)]
Token = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$")]
Index = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9._/-]+$")]


class ComfyUI(Model):
    """Which ComfyUI, and how it is started.

    Attributes
    ----------
    version, commit : str or None
        As far as they are known; the commit decides.
    repository : str
        Where git gets it.
    modified : bool
        Whether files of the checkout were changed; the changes are not part of the snapshot.
    launch_args : list of str
        Arguments of its ``main.py``, without secrets.
    """

    version: Token | None = None
    commit: Commit | None = None
    repository: Address = COMFYUI_REPOSITORY
    modified: bool = False
    launch_args: list[str] = Field(default_factory=list)


class Package(Model):
    """A Python package.

    Attributes
    ----------
    name, version : str
        What it is; the version may be unknown of one from an address.
    requirement : str
        The line for pip which gets exactly that.
    """

    name: Token
    version: str | None = None
    requirement: Annotated[str, Field(min_length=1), AfterValidator(_checked_requirement)]


class Python(Model):
    """The interpreter and its packages.

    Attributes
    ----------
    version : str or None
        Such as ``3.11.7``.
    platform : str or None
        Such as ``linux-x86_64``.
    indexes : list of str
        Where pip finds packages that its usual index lacks, such as torch for a certain CUDA.
    packages : list of Package
        Sorted by name.
    """

    version: Annotated[str, Field(pattern=r"^3\.\d+(\.\d+\S*)?$")] | None = None
    platform: str | None = None
    indexes: list[Index] = Field(default_factory=list)
    packages: list[Package] = Field(default_factory=list)


class CustomNode(Model):
    """A pack of custom nodes.

    Attributes
    ----------
    name : str
        Its folder or file in ``custom_nodes``.
    kind : {"git", "registry", "files"}
        Where it comes from: a repository, the Comfy registry, or only this folder.
    repository, commit : str or None
        Of ``git``.
    id, version : str or None
        Of ``registry``.
    disabled : bool
        Whether ComfyUI does not load it; such a pack is noted, but not installed.
    modified : bool
        Whether files of the checkout were changed; the changes are not part of the snapshot.
    """

    name: Name
    kind: Literal["git", "registry", "files"]
    repository: Address | None = None
    commit: Commit | None = None
    id: Token | None = None
    version: Token | None = None
    disabled: bool = False
    modified: bool = False


class ModelFile(Model):
    """A model file.

    Attributes
    ----------
    name, folder : str
        As ComfyUI has it, e.g. ``a.safetensors`` in ``checkpoints``.
    size : int or None
        Bytes.
    sha256 : str or None
        Hexadecimal, where it has been computed.
    source : str or None
        Where it can be downloaded, where that is known.
    """

    name: Annotated[str, Field(max_length=4096), AfterValidator(_checked_path)]
    folder: Name
    size: int | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    source: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None


class Snapshot(Model):
    """An environment.

    Attributes
    ----------
    created_at : str or None
        ISO 8601, UTC.
    comfyui : ComfyUI
    python : Python
    custom_nodes : list of CustomNode
    models : list of ModelFile
    """

    created_at: str | None = None
    comfyui: ComfyUI = Field(default_factory=ComfyUI)
    python: Python = Field(default_factory=Python)
    custom_nodes: list[CustomNode] = Field(default_factory=list)
    models: list[ModelFile] = Field(default_factory=list)


def parse(given: dict[str, Any]) -> Snapshot:
    """Return a snapshot in this package's own format, checked.

    Raises
    ------
    InvalidRequestError
        Naming the first field that is wrong.
    """
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
