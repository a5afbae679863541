"""The graph that a request gives, in any of its forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from .formats import Graph, GraphFormat, check_api_graph, detect_format, same_graph
from .ui import check_consistency
from .ui_to_api import ui_to_api
from .versions import BUNDLED as REPLACED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..request_models import RunTemplate
    from .definitions import NodeDefinitions


def choose(
    request: RunTemplate, layouts: NodeDefinitions | None
) -> tuple[Graph, dict[str, Any] | None, list[str]]:
    """Return the graph to run, the same graph in UI format if given, and warnings."""
    graph: Graph | None = None
    for field in ("workflow_api", "workflow_api_raw"):
        value = getattr(request, field)
        if value is None:
            continue
        found = check_api_graph(value, field=field)
        if graph is not None and not same_graph(graph, found):
            raise InvalidRequestError.of_field(field, "differs from workflow_api")
        graph = graph or found
    ui = request.workflow
    if ui is not None and detect_format(ui, field="workflow") is GraphFormat.API:
        raise InvalidRequestError.of_field("workflow", "is in API format; send it as workflow_api")
    if graph is None and ui is not None and layouts is not None:
        converted = ui_to_api(ui, layouts)
        if not converted.graph:
            raise InvalidRequestError.of_field("workflow", "has no node that can run")
        return converted.graph, ui, converted.warnings
    if graph is None:
        raise InvalidRequestError.of_field(
            "workflow_api", "no graph: one of workflow_api, workflow, workflow_id is needed"
        )
    if ui is not None and not request.node_form:
        check_consistency(graph, ui)
    return graph, ui, []


def with_inputs(graph: Graph) -> Graph:
    """Add an ``inputs`` object to each node without one.

    ComfyUI accepts a prompt in which a node that no output needs has none. Its worker thread then
    ends with an exception, and executes nothing until ComfyUI is restarted.
    """
    for node_id, node in graph.items():
        if not isinstance(node.get("inputs", {}), dict):
            text = f"the inputs of node {node_id!r} must be a JSON object"
            raise InvalidRequestError.of_field("workflow_api", text, node_id=node_id)
    return {node_id: {"inputs": {}, **_title(node), **node} for node_id, node in graph.items()}


def _title(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``_meta`` for a node whose class newer versions of ComfyUI replace.

    Without it ComfyUI 0.33 answers with status 500; ComfyUI's editor always sends one.
    """
    replaced = node.get("class_type") in REPLACED
    return {"_meta": {"title": node["class_type"]}} if replaced else {}
