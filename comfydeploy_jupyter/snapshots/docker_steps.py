"""Snapshots as the ``docker_command_steps`` of a ComfyDeploy machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .snapshot import CustomNode, Snapshot


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
        if node.kind == "git" and node.repository and node.commit:
            steps.append(_git_step(node.repository, node.commit, node.name))
        elif node.kind == "registry" and node.id and node.version:
            data = {"node_id": node.id, "version": node.version}
            step_id = _id(node.id, node.version)
            steps.append({"id": step_id, "type": "custom-node-manager", "data": data})
        else:
            warnings.append(f"{node.name} is not in docker_command_steps: {_why_not(node)}")
    return {"steps": steps}, warnings


def _why_not(node: CustomNode) -> str:
    if node.kind == "files":
        return "it has neither a repository nor a version in the registry"
    return "its commit or version is not known"


def _git_step(url: str, commit: str, name: str) -> dict[str, Any]:
    data = {"name": name, "url": url, "hash": commit, "files": [url], "install_type": "git-clone"}
    return {"id": _id(url, commit), "type": "custom-node", "data": data}


def _id(*parts: str) -> str:
    """Return an id that depends only on the step, so that an unchanged machine is not rebuilt."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
