"""The contract of a workflow on a machine: its inputs and outputs as JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..graphs.formats import GraphFormat, check_api_graph, detect_format
from ..graphs.inputs import contract_of
from ..graphs.ui_to_api import ui_to_api
from ..util import worker
from ..util.worker import packed

if TYPE_CHECKING:
    from ..comfyui.definitions import DefinitionSet
    from ..machines.machine import Machine


async def read_contract(
    machine: Machine, *, workflow_api: dict[str, Any] | None, workflow: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the contract of a workflow."""
    if workflow_api is None and workflow is None:
        raise InvalidRequestError.of_field(
            "workflow", "is needed: send the graph as workflow or workflow_api, or workflow_id"
        )
    definitions = await machine.definitions()
    return await worker.run(_read, definitions, workflow_api, workflow)


def _read(
    definitions: DefinitionSet, api: dict[str, Any] | None, ui: dict[str, Any] | None
) -> dict[str, Any]:
    warnings: list[str] = []
    if ui is not None and detect_format(ui, field="workflow") is GraphFormat.API:
        # The detected format overrides the name of the field, as in conversions.
        api, ui = api or ui, None
    if api is None:
        assert ui is not None
        converted = ui_to_api(ui, definitions.nodes)
        api, warnings = converted.graph, converted.warnings
    contract = contract_of(check_api_graph(api), definitions.nodes, ui)
    return {
        "inputs": packed(contract["inputs"]),
        "outputs": packed(contract["outputs"]),
        "warnings": packed([*warnings, *contract["warnings"]]),
        "definitions": definitions.origin(),
    }
