"""A workflow in a request to save it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ..errors import InvalidRequestError
from ..graphs.formats import GraphFormat, check_api_graph, detect_format
from ..graphs.ui import check_integrity
from ..util import jsons, worker
from ..util.jsons import decoder
from ..util.worker import packed

Convert: TypeAlias = Callable[[dict[str, Any]], Awaitable["dict[str, Any] | None"]]
"""Converts a graph in UI format to API format; returns None if that is not possible now."""


@dataclass(frozen=True)
class Draft:
    """A workflow to be saved."""

    workflow: dict[str, Any] | None
    workflow_api: dict[str, Any] | None
    name: str | None = None
    workflow_id: str | None = None
    comment: str = ""
    machine_id: str | None = None
    force: bool = False


async def read_graphs(*given: Any) -> tuple[Any, Any]:
    """Call `graphs_of` without blocking the event loop; large graphs become `RawJSON`."""
    return await worker.run(_packed_graphs_of, *given)


def _packed_graphs_of(*given: Any) -> tuple[Any, Any]:
    ui, api = graphs_of(*given)
    return packed(ui), packed(api)


def graphs_of(
    workflow: Any, workflow_json: Any, workflow_api: Any
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the graphs of a request in UI and in API format."""
    graphs = {
        field: _parsed(value, field)
        for field, value in (("workflow", workflow), ("workflow_json", workflow_json))
        if value is not None
    }
    field = next(iter(graphs), "workflow")
    ui = graphs.get(field)
    if len(graphs) == 2 and graphs["workflow_json"] != ui:
        raise InvalidRequestError.of_field("workflow_json", "differs from workflow")
    api = None if workflow_api is None else _parsed(workflow_api, "workflow_api")
    if ui is not None and detect_format(ui, field=field) is GraphFormat.API:
        if api is not None:
            raise InvalidRequestError.of_field(
                field, "is in API format, and workflow_api is given too; send one of them"
            )
        check_api_graph(ui, field=field)
        check_integrity(ui, field=field)
        return None, ui
    if ui is not None:
        check_integrity(ui, field=field)
    if api is not None:
        check_api_graph(api)
        check_integrity(api, field="workflow_api")
    elif ui is None:
        raise InvalidRequestError.of_field(
            "workflow", "no graph: one of workflow, workflow_json, workflow_api is needed"
        )
    return ui, api


async def completed(draft: Draft, convert: Convert | None) -> Draft:
    """Return the draft with its graph in API format, if that can be created."""
    if draft.workflow_api is None and draft.workflow is not None and convert is not None:
        return replace(draft, workflow_api=await convert(draft.workflow))
    return draft


def _parsed(value: Any, field: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = jsons.loads(value, decoder=decoder(unique=True))
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError.of_field(field, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError.of_field(field, "must be a workflow, a JSON object")
    return value
