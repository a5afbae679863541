"""Validate a graph as ComfyUI does, without queueing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..comfyui.definitions import core_classes
from ..errors import ComfyDeployError
from ..graphs.definitions import type_mismatches
from ..graphs.models import CORE_PACK, core_versions
from ..graphs.prices import partner_nodes
from ..graphs.validation import findings, issue, validate_prompt
from ..graphs.versions import version_parts
from ..util import worker
from ..util.worker import packed
from .convert import as_api

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..comfyui.definitions import DefinitionSet
    from ..comfyui.folders import Folders
    from ..machines.machine import Machine
    from .convert import Graphs

FINDINGS = ("node_errors", "further_errors", "outputs", "missing_nodes", "missing_models")
MODELS_MAX_AGE = 3.0  # seconds; short, so that a model file that was just added is found


async def validate_workflow(machine: Machine, graphs: Graphs) -> dict[str, Any]:
    """Return the result that ``POST /prompt`` of a machine's ComfyUI would have for a graph.

    Live node definitions are used, else the last known ones. If both formats are given, the one in
    UI format only provides the packs of nodes and the addresses of models.
    """
    definitions = await machine.definitions(max_age=MODELS_MAX_AGE)
    folders = await machine.folders() if machine.path is not None else None
    return await worker.run(_validate, definitions, folders, *graphs)


def _validate(
    definitions: DefinitionSet,
    folders: Folders | None,
    workflow_api: dict[str, Any] | None,
    workflow: dict[str, Any] | None,
) -> dict[str, Any]:
    prompt, workflow, warnings = as_api(workflow_api, workflow, definitions.nodes)
    if warnings is None:  # those of a conversion are also about wrong values
        warnings = [str(each) for each in type_mismatches(prompt or {}, definitions.nodes)]
    exists = None if folders is None else _lookup(folders)
    result = validate_prompt(prompt, definitions.nodes, files=exists, workflow=workflow)
    if result.missing_nodes:
        warnings += core_node_warnings(result.missing_nodes, workflow, definitions.comfyui_version)
    error = result.error
    if result.raises is not None:
        why = result.cause or result.raises
        error = issue("prompt_unreadable", "ComfyUI could not read the graph", why)
    said = {name: getattr(result, name) for name in FINDINGS}
    said["warnings"] = [*warnings, *result.warnings]
    said["by_node"], said["general"] = findings({**said, "error": error})
    return {
        "valid": result.valid,
        "error": error,
        "partner_nodes": partner_nodes(prompt or {}, definitions.nodes),
        **{name: packed(value) for name, value in said.items()},
        "definitions": definitions.origin(),
    }


def core_node_warnings(
    missing: list[dict[str, Any]], workflow: dict[str, Any] | None, running: str | None
) -> list[str]:
    """Complete missing nodes of ComfyUI itself; return warnings about the other missing nodes.

    Such a node gets ``pack`` and, if a newer ComfyUI is known to have it, ``needs``.
    """
    warnings = []
    bundled_version, bundled = core_classes()
    saved = core_versions(workflow)
    mine = version_parts(running)
    for entry in missing:
        class_type = entry["class_type"]
        having = [saved[class_type]] if class_type in saved else []
        if class_type in bundled:
            having.append(bundled_version)
        if not having:
            continue
        entry["pack"] = CORE_PACK
        numbers = {parts: version for version in having if (parts := version_parts(version))}
        newer = [parts for parts in numbers if mine is None or parts > mine]
        if newer:
            entry["needs"] = f"ComfyUI {numbers[min(newer)].removeprefix('v')} or newer"
        elif bundled.get(class_type, "").startswith("comfy_api_nodes"):
            warnings.append(
                f"Node class {class_type} is one of ComfyUI's partner nodes, and this ComfyUI runs "
                "without it: it may have been started with --disable-partner-nodes"
                " (--disable-api-nodes in older versions) or --offline."
            )
        else:
            warnings.append(
                f"Node class {class_type} was ComfyUI's own, but ComfyUI {running} does not have"
                " it."
            )
    return warnings


def _lookup(folders: Folders) -> Callable[[str, str], bool]:
    def exists(folder: str, name: str) -> bool:
        try:
            directory = folders.directory(folder)
            path = folders.resolve(str(directory / name), kind="any")
        except ComfyDeployError:
            return False
        return path.is_relative_to(directory.resolve())

    return exists
