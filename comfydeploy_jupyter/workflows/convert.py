"""Workflows from one format to another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..graphs.api_to_ui import api_to_ui
from ..graphs.definitions import NodeDefinitions
from ..graphs.formats import GraphFormat, check_api_graph, detect_format
from ..graphs.ui_to_api import ui_to_api

if TYPE_CHECKING:
    from ..machines.machine import Machine
    from ..schemas import ConvertRequest


async def convert(request: ConvertRequest, machine: Machine) -> dict[str, Any]:
    """Convert a workflow.

    Parameters
    ----------
    request : ConvertRequest
        The graph, and what it is to become; by default the other one of the two formats.
    machine : Machine
        Its node definitions are used, unless the request brings its own.

    Returns
    -------
    dict
        ``from``, ``to``, the graph under the name of its format, ``warnings``.

    Raises
    ------
    InvalidRequestError
        If there is no graph or two, or it is not what its field says.
    """
    source, graph = _source(request)
    if request.object_info is not None:
        layouts = NodeDefinitions(request.object_info)
    else:
        layouts = (await machine.knowledge()).layouts
    target = GraphFormat(request.to or _other(source).value)
    found, warnings = await asyncio.to_thread(_convert, graph, source, target, layouts)
    name = "workflow_api" if target is GraphFormat.API else "workflow"
    return {"from": source.value, "to": target.value, name: found, "warnings": warnings}


def _source(request: ConvertRequest) -> tuple[GraphFormat, dict[str, Any]]:
    """Return the graph and its format, which counts more than the name of the field."""
    given = [
        (field, graph)
        for field, graph in (
            ("workflow", request.workflow),
            ("workflow_api", request.workflow_api),
        )
        if graph is not None
    ]
    if len(given) != 1:
        problem = "is given beside workflow_api; send one" if given else "is missing"
        raise InvalidRequestError.of_field("workflow", problem)
    ((field, graph),) = given
    return detect_format(graph, field=field), graph


def _other(source: GraphFormat) -> GraphFormat:
    return GraphFormat.UI if source is GraphFormat.API else GraphFormat.API


def _convert(
    graph: dict[str, Any], source: GraphFormat, target: GraphFormat, layouts: NodeDefinitions
) -> tuple[dict[str, Any], list[str]]:
    if source is target:
        return graph, []
    if target is GraphFormat.API:
        converted = ui_to_api(graph, layouts)
        return converted.graph, converted.warnings
    return api_to_ui(check_api_graph(graph), layouts), []
