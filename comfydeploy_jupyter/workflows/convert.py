"""Workflows from one format to another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..graphs.api_to_ui import api_to_ui
from ..graphs.definitions import NodeDefinitions
from ..graphs.formats import GraphFormat, check_api_graph, detect_format
from ..graphs.image_metadata import embedded_workflow
from ..graphs.inputs import input_form
from ..graphs.notebook import notebook
from ..graphs.python_script import python_script
from ..graphs.ui_to_api import ui_to_api

if TYPE_CHECKING:
    from ..machines.machine import Machine
    from ..schemas import ConvertRequest

API, UI, NOTEBOOK, PYTHON = "api", "ui", "notebook", "python"
NAMES = {API: "workflow_api", UI: "workflow", NOTEBOOK: "notebook", PYTHON: "python"}


async def convert(request: ConvertRequest, machine: Machine) -> dict[str, Any]:
    """Convert a workflow.

    Parameters
    ----------
    request : ConvertRequest
        The graph, and what it is to become; by default the other one of the two graph formats.
    machine : Machine
        Its node definitions are used, unless the request brings its own.

    Returns
    -------
    dict
        ``from``, ``to``, the result under the name of its format, ``warnings``.

    Raises
    ------
    InvalidRequestError
        If there is no graph or two, or it is not what its field says.
    """
    source, graph = _source(request)
    if request.object_info is not None:
        object_info = request.object_info
        layouts = NodeDefinitions(object_info)
    else:
        knowledge = await machine.knowledge()
        object_info, layouts = knowledge.object_info, knowledge.layouts
    target = request.to or (UI if source == API else API)
    result, warnings = await asyncio.to_thread(
        _convert, graph, source, target, layouts, object_info
    )
    return {"from": source, "to": target, NAMES[target]: result, "warnings": warnings}


def read_file(content: bytes) -> dict[str, Any]:
    """Return the graphs in a picture, video, sound or JSON file, as fields of a request.

    Raises
    ------
    InvalidRequestError
        If there is none in it.
    """
    found = embedded_workflow(content)
    if found["workflow"] is not None:
        return {"workflow": found["workflow"]}
    return {"workflow_api": found["prompt"]}


def _source(request: ConvertRequest) -> tuple[str, dict[str, Any]]:
    """Return the format of the graph, which counts more than the name of its field, and it."""
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
    return (UI if detect_format(graph, field=field) is GraphFormat.UI else API), graph


def _convert(
    graph: dict[str, Any],
    source: str,
    target: str,
    layouts: NodeDefinitions,
    object_info: dict[str, Any],
) -> tuple[dict[str, Any] | str, list[str]]:
    if source == target:
        return graph, []
    if target == UI:
        return api_to_ui(check_api_graph(graph), layouts), []
    warnings: list[str] = []
    ui = None
    if source == UI:
        converted = ui_to_api(graph, layouts)
        graph, warnings, ui = converted.graph, converted.warnings, graph
    if target == API:
        return graph, warnings
    graph = check_api_graph(graph)
    fields = input_form(graph, object_info, ui)
    made = notebook(graph, fields) if target == NOTEBOOK else python_script(graph, fields)
    return made, warnings
