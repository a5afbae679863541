"""The content of a snapshot, and its other forms.

Those are the format that ComfyUI-Manager writes and restores, and the ``docker_command_steps`` of a
ComfyDeploy machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from ..errors import InvalidRequestError
from ..request_models import Model
from ..util.secrets import clean_url

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NAME = 255  # characters of a file or folder
MAX_ADDRESS = 2000
MAX_YAML = 256 * 1024  # characters; to read so many takes a second
COMFYUI_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
PYTORCH_INDEX = "https://download.pytorch.org/whl"
TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,254}")  # an id or a version
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_PYTORCH_BUILD = re.compile(r"==[^+=]+\+(cpu|xpu|cu\d+|rocm[\d.]+)$", re.ASCII)
_MANAGER_FIELDS = ("git_custom_nodes", "cnr_custom_nodes", "file_custom_nodes")
_ADDRESS = re.compile(
    r"(?:https?://|ssh://|git://)[^\s\x00-\x1f\x7f]+|git@[\w.-]+:[^\s\x00-\x1f\x7f]+"
)


def is_address(url: str) -> bool:
    return len(url) <= MAX_ADDRESS and _ADDRESS.fullmatch(url) is not None


def is_name(name: str) -> bool:
    if not 1 <= len(name) <= MAX_NAME or name in (".", "..") or not name.strip():
        return False
    return "/" not in name and "\0" not in name


def _is_path(path: str) -> bool:
    return all(map(is_name, path.split("/")))


def _is_requirement(line: str) -> bool:
    # pip splits lines as Python does, and allows spaces before an option.
    return not line.strip().startswith("-") and len(line.splitlines()) == 1


def _must_be(what: str, check: Callable[[str], bool]) -> AfterValidator:
    def checked(text: str) -> str:
        if not check(text):
            raise ValueError(f"must be {what}")
        return text

    return AfterValidator(checked)


_NAME = "the name of a file or folder"
_ADDRESS_OF_GIT = "an https:// or ssh address of a git repository"
Address = Annotated[str, Field(max_length=MAX_ADDRESS), _must_be(_ADDRESS_OF_GIT, is_address)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
Name = Annotated[str, Field(max_length=MAX_NAME), _must_be(_NAME, is_name)]
Token = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$")]
Index = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9._/-]+$")]


class ComfyUI(Model):
    """The version of ComfyUI, and how it is started."""

    version: Token | None = Field(None, description="As far as it is known.")
    commit: Commit | None = Field(
        None, description="As far as it is known; it is used in place of the version."
    )
    repository: Address = Field(COMFYUI_REPOSITORY, description="Address of the git repository.")
    modified: bool = Field(
        False,
        description="Whether files of the checkout were changed; the changes are not part of the"
        " snapshot.",
    )
    launch_args: list[str] = Field(
        default_factory=list, description="Arguments of its `main.py`, without secrets."
    )


class Package(Model):
    """A Python package."""

    name: Token
    version: str | None = Field(None, description="May be unknown for a package from an address.")
    requirement: Annotated[
        str,
        Field(
            min_length=1,
            description="The requirement line for pip that installs exactly this package.",
        ),
        _must_be("one requirement, not an option of pip", _is_requirement),
    ]


class Python(Model):
    """The interpreter and its packages."""

    version: Annotated[str, Field(pattern=r"^3\.\d+(\.\d+\S*)?$")] | None = Field(
        None, description="Such as `3.11.7`."
    )
    platform: str | None = Field(None, description="Such as `linux-x86_64`.")
    indexes: list[Index] = Field(
        default_factory=list,
        description="Indexes with packages that pip's default index lacks, such as torch for a"
        " certain CUDA.",
    )
    packages: list[Package] = Field(default_factory=list, description="Sorted by name.")


class CustomNode(Model):
    """A pack of custom nodes."""

    name: Name = Field(description="Name of its folder or file in `custom_nodes`.")
    kind: Literal["git", "registry", "files"] = Field(
        description="Its source: a git repository, the Comfy registry, or only its files."
    )
    repository: Address | None = Field(None, description="For the kind `git`.")
    commit: Commit | None = Field(None, description="For the kind `git`.")
    id: Token | None = Field(
        None,
        description="Id in the registry, for the kind `registry`, and of repositories that"
        " ComfyUI-Manager has cloned by it.",
    )
    version: Token | None = Field(
        None, description="Version in the registry, for the kind `registry`."
    )
    disabled: bool = Field(
        False,
        description="Whether it is disabled in ComfyUI: then it is listed, but not installed.",
    )
    modified: bool = Field(
        False,
        description="Whether files of the checkout were changed; the changes are not part of the"
        " snapshot.",
    )


class ModelFile(Model):
    """A model file."""

    name: Annotated[
        str,
        Field(max_length=4096, description="In its folder, e.g. `a.safetensors`."),
        _must_be(_NAME, _is_path),
    ]
    folder: Name = Field(description="Folder in ComfyUI, e.g. `checkpoints`.")
    size: int | None = Field(None, description="Size in bytes.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Hexadecimal, if it has been computed."
    )
    source: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(
        None, description="Address for downloads, if known."
    )


class Snapshot(Model):
    """An environment."""

    created_at: str | None = Field(None, description="Time in ISO 8601, UTC.")
    comfyui: ComfyUI = Field(default_factory=ComfyUI)
    python: Python = Field(default_factory=Python)
    custom_nodes: list[CustomNode] = Field(default_factory=list)
    models: list[ModelFile] = Field(default_factory=list)


# -- snapshots in requests --------------------------------------------------------------------


def read_snapshot(given: dict[str, Any] | str) -> tuple[Snapshot, list[str]]:
    """Return the snapshot in a request, in any of the formats, and warnings about lost facts."""
    if isinstance(given, str):
        given = _load(given)
    if is_manager_snapshot(given):
        return from_manager(given)
    if not isinstance(given.get("comfyui"), dict):
        raise InvalidRequestError.of_field(
            "snapshot", "must be a snapshot of this route, or of ComfyUI-Manager"
        )
    return parse(given), []


def parse(given: dict[str, Any]) -> Snapshot:
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


class _PlainLoader(yaml.SafeLoader):
    """A YAML loader that refuses aliases: with aliases a short text can use up the memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        found: yaml.Node | None = super().compose_node(parent, index)
        return found


def _load(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if len(text) > MAX_YAML:
            raise InvalidRequestError.of_field(
                "snapshot", f"is not JSON, and too long for YAML: {MAX_YAML} characters at most"
            ) from None
        try:
            found = yaml.load(text, _PlainLoader)  # noqa: S506 - it is a SafeLoader
        except (yaml.YAMLError, RecursionError, ValueError):
            found = None
    if not isinstance(found, dict):
        raise InvalidRequestError.of_field("snapshot", "must be an object, as JSON or YAML")
    return found


# -- ComfyUI-Manager's format -----------------------------------------------------------------


def is_manager_snapshot(given: dict[str, Any]) -> bool:
    """Return whether a snapshot is in ComfyUI-Manager's format; its YAML form is passed as JSON."""
    return (
        isinstance(given.get("comfyui"), str)
        or any(name in given for name in _MANAGER_FIELDS)
        or isinstance(given.get("custom_nodes"), dict)
    )


def to_manager(snapshot: Snapshot) -> dict[str, Any]:
    nodes = snapshot.custom_nodes
    return {
        "comfyui": snapshot.comfyui.commit,
        "git_custom_nodes": {
            node.repository: {"hash": node.commit, "disabled": node.disabled}
            for node in nodes
            if node.kind == "git" and node.commit
        },
        "cnr_custom_nodes": {
            node.id: node.version
            for node in nodes
            if node.kind == "registry" and node.version and not node.disabled
        },
        "file_custom_nodes": [
            {"filename": node.name, "disabled": node.disabled}
            for node in nodes
            if node.kind == "files" and node.name.endswith(".py")
        ],
        "pips": dict(_pip(package) for package in snapshot.python.packages),
    }


def _pip(package: Package) -> tuple[str, str]:
    name, at, address = package.requirement.partition(" @ ")
    return (name, address) if at else (package.requirement, "")


def from_manager(given: dict[str, Any], *, lenient: bool = False) -> tuple[Snapshot, list[str]]:
    """Convert a snapshot of ComfyUI-Manager; return it with warnings about lost information.

    InvalidRequestError names a node pack that cannot be read; ``lenient``: it is a warning, too.
    """
    inner = given.get("custom_nodes")  # in the YAML form, it has all
    content = inner if isinstance(inner, dict) else given
    warnings: list[str] = []
    commit = content.get("comfyui")
    if commit is not None and not (isinstance(commit, str) and _COMMIT.fullmatch(commit)):
        raise InvalidRequestError.of_field("snapshot.comfyui", "must be the commit of ComfyUI")
    files = content.get("file_custom_nodes")
    nodes: dict[tuple[str, str], CustomNode] = {}
    for entries, read in (
        (_mapping(content, "git_custom_nodes").items(), _git_node),
        (_mapping(content, "cnr_custom_nodes").items(), _registry_node),
        (enumerate(files if isinstance(files, list) else ()), _file_node),
    ):
        for key, entry in entries:
            try:
                node = read(key, entry)
            except InvalidRequestError as error:
                if not lenient:
                    raise
                warnings.append(f"a node pack is left out: {error.message}")
            else:
                nodes[node.kind, node.name] = node
    packages = []
    indexes = set()
    for key, address in _mapping(content, "pips").items():
        package = _package(key, address)
        if package is None:
            warnings.append(f"the package {key} is left out: pip cannot install it")
            continue
        packages.append(package)
        build = _PYTORCH_BUILD.search(package.requirement)
        if build:
            indexes.add(f"{PYTORCH_INDEX}/{build[1]}")
    python = Python(indexes=sorted(indexes), packages=packages)
    comfyui, packs = ComfyUI(commit=commit), [*nodes.values()]
    return Snapshot(comfyui=comfyui, python=python, custom_nodes=packs), warnings


def _mapping(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise InvalidRequestError.of_field(f"snapshot.{name}", "must be an object")
    return found


def _git_node(url: Any, entry: Any) -> CustomNode:
    cleaned = clean_url(url)
    field = f"snapshot.git_custom_nodes.{cleaned}"
    name = folder_name(cleaned)
    if not is_address(cleaned) or not is_name(name):
        raise InvalidRequestError.of_field(field, "must be an https:// or ssh address")
    facts = entry if isinstance(entry, dict) else {"hash": entry}
    commit = facts.get("hash")
    # Manager adds the end of the line to a commit that is checked out without a branch.
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit := commit.strip()):
        raise InvalidRequestError.of_field(field, "must have the commit as its hash")
    disabled = bool(facts.get("disabled"))
    return CustomNode(name=name, kind="git", repository=cleaned, commit=commit, disabled=disabled)


def _registry_node(node_id: Any, version: Any) -> CustomNode:
    field = f"snapshot.cnr_custom_nodes.{node_id}"
    if not TOKEN.fullmatch(node_id):
        raise InvalidRequestError.of_field(field, "is not an id of the registry")
    if not isinstance(version, str) or not TOKEN.fullmatch(version):
        raise InvalidRequestError.of_field(field, "must be a version")
    return CustomNode(name=node_id, kind="registry", id=node_id, version=version)


def _file_node(number: Any, entry: Any) -> CustomNode:
    facts = entry if isinstance(entry, dict) else {"filename": entry}
    name = facts.get("filename")
    if not isinstance(name, str) or not is_name(name):
        field = f"snapshot.file_custom_nodes.{number}.filename"
        raise InvalidRequestError.of_field(field, "must be the name of a file")
    return CustomNode(name=name, kind="files", disabled=bool(facts.get("disabled")))


def _package(key: str, address: Any) -> Package | None:
    """Return a line of ``pip freeze``, which ComfyUI-Manager splits at `` @ ``, as a package."""
    editable = re.fullmatch(r"-e\s+(git\+[^\s#]+)#(\S+)", key)
    egg = re.search(r"(?:^|&)egg=([A-Za-z0-9._-]+)", editable[2]) if editable else None
    if editable and egg:
        name, address = egg[1], editable[1]
    else:
        name = re.split(r"[=<>!~ \[;]", key, maxsplit=1)[0]
    line = f"{name} @ {address}" if isinstance(address, str) and address else key
    usable = re.fullmatch(
        r"[A-Za-z0-9._-]+(==[^\s;]+| @ (git\+https?|https?|git\+ssh)://\S+)", line
    )
    if not usable or not TOKEN.fullmatch(name):
        return None
    version = line.partition("==")[2] or None
    if " @ " in line:
        head, _, url = line.partition(" @ ")
        scheme = "git+" if url.startswith("git+") else ""
        line = f"{head} @ {scheme}{clean_url(url.removeprefix(scheme))}"
    return Package(name=name, version=version, requirement=line)


def folder_name(url: str) -> str:
    """Return the name of the folder into which git clones an address by default."""
    name = re.split(r"[/:]", url.rstrip("/").removesuffix(".git"))[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".") or "pack"


# -- the steps of a ComfyDeploy machine -------------------------------------------------------


def docker_command_steps(snapshot: Snapshot) -> tuple[dict[str, Any], list[str]]:
    """Return the steps, and warnings about parts that steps cannot express.

    They are the same steps that the service makes from a snapshot: a ``custom-node`` for each
    repository, a ``custom-node-manager`` for each pack of the registry. The service derives the
    packages from these; the commit of ComfyUI is the machine's ``comfyui_version``.
    """
    steps, warnings = [], []
    for node in snapshot.custom_nodes:
        if node.disabled:
            continue
        if node.kind == "git" and (url := node.repository) and node.commit:
            data = {"name": node.name, "url": url, "hash": node.commit, "files": [url]}
            data |= {"install_type": "git-clone"}
            steps.append(_step("custom-node", data, url, node.commit))
        elif node.kind == "registry" and node.id and node.version:
            data = {"node_id": node.id, "version": node.version}
            steps.append(_step("custom-node-manager", data, node.id, node.version))
        else:
            why = "its commit or version is not known"
            if node.kind == "files":
                why = "it has neither a repository nor a version in the registry"
            warnings.append(f"{node.name} is not in docker_command_steps: {why}")
    return {"steps": steps}, warnings


def _step(kind: str, data: dict[str, Any], *identity: str) -> dict[str, Any]:
    """Return a step; its id depends only on it, so that an unchanged machine is not rebuilt."""
    step_id = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:10]
    return {"id": step_id, "type": kind, "data": data}
