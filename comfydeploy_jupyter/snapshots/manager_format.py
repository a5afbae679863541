"""Snapshots in the format that ComfyUI-Manager writes and restores."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InvalidRequestError
from ..util.secrets import clean_url
from .packages import PYTORCH_INDEX
from .snapshot import ComfyUI, CustomNode, Package, Python, Snapshot, is_address, is_name

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,254}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_FIELDS = ("git_custom_nodes", "cnr_custom_nodes", "file_custom_nodes")
_PYTORCH_BUILD = re.compile(r"==[^+=]+\+(cpu|xpu|cu\d+|rocm[\d.]+)$", re.ASCII)


def is_manager_snapshot(given: dict[str, Any]) -> bool:
    """Return whether a snapshot is in ComfyUI-Manager's format; its YAML form is passed as JSON."""
    return (
        isinstance(given.get("comfyui"), str)
        or any(name in given for name in _FIELDS)
        or isinstance(given.get("custom_nodes"), dict)
    )


def to_manager(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot in ComfyUI-Manager's format."""
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


def from_manager(given: dict[str, Any]) -> tuple[Snapshot, list[str]]:
    """Convert a snapshot of ComfyUI-Manager; return it with warnings about lost information."""
    inner = given.get("custom_nodes")
    content = inner if isinstance(inner, dict) else given
    warnings: list[str] = []
    commit = content.get("comfyui")
    if commit is not None and not (isinstance(commit, str) and _COMMIT.fullmatch(commit)):
        raise InvalidRequestError.of_field("snapshot.comfyui", "must be the commit of ComfyUI")
    nodes = [
        *_git_nodes(_mapping(content, "git_custom_nodes")),
        *_registry_nodes(_mapping(content, "cnr_custom_nodes")),
        *_file_nodes(content.get("file_custom_nodes") or []),
    ]
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
    snapshot = Snapshot(comfyui=ComfyUI(commit=commit), python=python, custom_nodes=nodes)
    return snapshot, warnings


def _mapping(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise InvalidRequestError.of_field(f"snapshot.{name}", "must be an object")
    return found


def _git_nodes(content: dict[str, Any]) -> list[CustomNode]:
    nodes: dict[str, CustomNode] = {}
    for url, entry in content.items():
        cleaned = clean_url(url)
        field = f"snapshot.git_custom_nodes.{cleaned}"
        name = folder_name(cleaned)
        if not is_address(cleaned) or not is_name(name):
            raise InvalidRequestError.of_field(field, "must be an https:// or ssh address")
        facts = entry if isinstance(entry, dict) else {"hash": entry}
        commit = facts.get("hash")
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise InvalidRequestError.of_field(field, "must have the commit as its hash")
        nodes[name] = CustomNode(
            name=name,
            kind="git",
            repository=cleaned,
            commit=commit,
            disabled=bool(facts.get("disabled")),
        )
    return list(nodes.values())


def _registry_nodes(content: dict[str, Any]) -> list[CustomNode]:
    nodes = []
    for node_id, version in content.items():
        field = f"snapshot.cnr_custom_nodes.{node_id}"
        if not _TOKEN.fullmatch(node_id):
            raise InvalidRequestError.of_field(field, "is not an id of the registry")
        if not isinstance(version, str) or not _TOKEN.fullmatch(version):
            raise InvalidRequestError.of_field(field, "must be a version")
        nodes.append(CustomNode(name=node_id, kind="registry", id=node_id, version=version))
    return nodes


def _file_nodes(content: Any) -> list[CustomNode]:
    nodes = []
    for number, entry in enumerate(content if isinstance(content, list) else []):
        facts = entry if isinstance(entry, dict) else {"filename": entry}
        name = facts.get("filename")
        if not isinstance(name, str) or not is_name(name):
            field = f"snapshot.file_custom_nodes.{number}.filename"
            raise InvalidRequestError.of_field(field, "must be the name of a file")
        nodes.append(CustomNode(name=name, kind="files", disabled=bool(facts.get("disabled"))))
    return nodes


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
    if not usable or not _TOKEN.fullmatch(name):
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
