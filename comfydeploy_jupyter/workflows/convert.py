"""Graphs in requests and files: read them, convert them, describe their inputs and outputs."""

from __future__ import annotations

import asyncio
import tempfile
from random import Random
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..errors import ComfyDeployError, ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..graphs.definitions import NodeDefinitions
from ..graphs.dependencies import structure_of
from ..graphs.diff import diff_graphs
from ..graphs.export import notebook, python_script
from ..graphs.form import FormField, input_form, page_value, workflow_form
from ..graphs.formats import GraphFormat, check_api_graph, class_of, detect_format, title_of
from ..graphs.inputs import contract_of
from ..graphs.layout import api_to_ui
from ..graphs.metadata import embedded_workflow
from ..graphs.shown_form import RunValues, shown_form
from ..graphs.ui import check_integrity
from ..graphs.ui_to_api import ui_to_api
from ..util import jsons, worker
from ..util.jsons import PROCESS_ABOVE, decoder
from ..util.worker import packed

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..comfyui.definitions import DefinitionSet
    from ..comfyui.folders import Folders
    from ..machines.machine import Machine
    from ..request_models import ConvertRequest, FileRequest

API, UI, NOTEBOOK, PYTHON = "api", "ui", "notebook", "python"
NAMES = {API: "workflow_api", UI: "workflow", NOTEBOOK: "notebook", PYTHON: "python"}

LEADING = 64  # bytes at the beginning of a file that show whether it is JSON
SPOOL = 16 * 1024 * 1024  # bytes of a file from ComfyUI that are kept in memory
MAX_VALUES = 2000  # values and differences in a reply
MAX_LENGTH = 20_000  # characters of one of them
FILES_MAX_AGE = 30.0  # seconds, of the lists of files that a form offers


async def convert(request: ConvertRequest, machine: Machine) -> dict[str, Any]:
    """Return the reply to a request to convert a workflow, by default to the other graph format.

    The node definitions are those of the request, else those of the machine.
    """
    field, graph = _source(request)
    definitions = None if request.object_info is not None else await machine.definitions()
    return await worker.run(_convert, field, graph, request.to, request.object_info, definitions)


def to_api(workflow: dict[str, Any], definitions: DefinitionSet) -> Any:
    """Convert a workflow that is saved without its graph in API format, if possible.

    The result is always the same for the same workflow: else saving it again would be a change.
    """
    try:
        converted = ui_to_api(workflow, definitions.nodes, rng=Random(0))
    except InvalidRequestError:
        return None
    known = all(node["class_type"] in definitions.nodes for node in converted.graph.values())
    return packed(converted.graph) if converted.graph and known else None


async def read_upload(content: bytes) -> dict[str, Any]:
    """Call `read_file` without blocking the event loop; a large graph becomes `RawJSON`."""
    is_json = content[:LEADING].lstrip().startswith(b"{")
    if is_json and len(content) > PROCESS_ABOVE:
        return await worker.call(_packed_file, content)
    return await asyncio.to_thread(read_file, content)


def _packed_file(content: bytes) -> dict[str, Any]:
    return {field: packed(graph) for field, graph in read_file(content).items()}


def read_file(source: bytes | BinaryIO, field: str = "file") -> dict[str, Any]:
    """Return the graphs in an image, video, audio or JSON file, as fields of a request."""
    found = embedded_workflow(source, field=field)
    if found["workflow"] is not None:
        return {"workflow": found["workflow"]}
    return {"workflow_api": found["prompt"]}


async def read_stored(request: FileRequest, machine: Machine) -> dict[str, Any]:
    """Return the graphs in a file whose name is in the request; see `read_file`.

    Without ``subfolder`` and ``type``, ``filename`` may also be any path relative to ComfyUI or to
    Jupyter's root directory.
    """
    assert request.filename is not None
    parts = (request.type or "output", request.subfolder, request.filename)
    names = ["/".join(filter(None, parts))]
    if not request.type and not request.subfolder:
        names.append(request.filename)
    missing: ComfyDeployError | None = None
    try:
        if machine.path is None:
            await machine.ready()  # after this the address of its ComfyUI is known
        if machine.path is None:
            return await _read_remote(await machine.ready(), names[-1])
    except (NotFoundError, ComfyUIUnavailableError) as error:
        missing = error
    folders = await machine.folders()
    for name in names:
        try:
            return await asyncio.to_thread(_read_within, folders, name)
        except NotFoundError as error:
            missing = missing or error
    assert missing is not None
    raise missing


async def _read_remote(client: ComfyUIClient, name: str) -> dict[str, Any]:
    """Read a file from ComfyUI's API; the name may begin with its folder."""
    *folder, filename = name.split("/")
    kind = folder.pop(0) if folder and folder[0] in ("output", "input", "temp") else "output"
    query = {"filename": filename, "subfolder": "/".join(folder), "type": kind}
    with tempfile.SpooledTemporaryFile(SPOOL) as file:
        stream = cast("BinaryIO", file)
        await client.fetch(query, stream)
        return await asyncio.to_thread(read_file, stream, "filename")


def _read_within(folders: Folders, name: str) -> dict[str, Any]:
    with folders.open_for_read(folders.resolve(name)) as file:
        return read_file(file, "filename")


def _source(request: ConvertRequest) -> tuple[str, Any]:
    """Return the name of the field that contains the graph, and the graph."""
    graphs = (("workflow", request.workflow), ("workflow_api", request.workflow_api))
    given = [(field, graph) for field, graph in graphs if graph is not None]
    if len(given) != 1:
        both = "must not be given together with workflow_api: send one of them"
        raise InvalidRequestError.of_field("workflow", both if given else "is missing")
    return given[0]


def _convert(
    field: str,
    graph: dict[str, Any],
    target: str | None,
    object_info: dict[str, Any] | None,
    definitions: DefinitionSet | None,
) -> dict[str, Any]:
    """Return the reply, made with the node definitions of the request or of a machine."""
    nodes = NodeDefinitions.of(object_info) if definitions is None else definitions.nodes
    # The detected format overrides the name of the field.
    source = UI if detect_format(graph, field=field) is GraphFormat.UI else API
    target = target or (UI if source == API else API)
    result, warnings = _converted(graph, source, target, nodes)
    made = {NAMES[target]: packed(result), "warnings": packed(warnings)}
    return {"from": source, "to": target, **made}


def _converted(
    graph: dict[str, Any], source: str, target: str, nodes: NodeDefinitions
) -> tuple[dict[str, Any] | str, list[str]]:
    if source == target:
        return graph, []
    if target == UI:
        return api_to_ui(check_api_graph(graph), nodes), []
    warnings: list[str] = []
    ui = None
    if source == UI:
        converted = ui_to_api(graph, nodes)
        graph, warnings, ui = converted.graph, converted.warnings + converted.unknown, graph
    if target == API:
        return graph, warnings
    graph = check_api_graph(graph)
    fields = input_form(graph, nodes, ui)
    made = notebook(graph, fields) if target == NOTEBOOK else python_script(graph, fields)
    return made, warnings


async def read_graphs(*given: Any) -> tuple[Any, Any]:
    """Call `graphs_of` without blocking the event loop; large graphs become `RawJSON`."""
    return await worker.run(_packed_graphs_of, *given)


def _packed_graphs_of(*given: Any) -> tuple[Any, Any]:
    ui, api = graphs_of(*given)
    return packed(ui), packed(api)


def graphs_of(
    workflow: Any, workflow_json: Any, workflow_api: Any
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the graphs of a request in UI and in API format, from JSON or from text with JSON.

    The first two fields have the same meaning; a graph in API format in one of them is accepted.
    """
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


def _parsed(value: Any, field: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = jsons.loads(value, decoder=decoder(unique=True))
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError.of_field(field, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError.of_field(field, "must be a workflow, a JSON object")
    return value


async def read_contract(
    machine: Machine, *, workflow_api: dict[str, Any] | None, workflow: dict[str, Any] | None
) -> dict[str, Any]:
    """Return ``inputs``, ``outputs``, ``warnings``, ``definitions`` of a workflow.

    Of a workflow in both formats, the one in UI format has the choices of its author. The node
    definitions of the machine are live ones, else the last known ones.
    """
    if workflow_api is None and workflow is None:
        raise InvalidRequestError.of_field(
            "workflow", "is needed: send the graph as workflow or workflow_api, or workflow_id"
        )
    definitions = await machine.definitions()
    return await worker.run(_contract, definitions, workflow_api, workflow)


def as_api(
    api: dict[str, Any] | None, ui: dict[str, Any] | None, nodes: NodeDefinitions
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, list[str] | None]:
    """Return a graph in both formats, as far as given, and the warnings if it was converted."""
    if ui is not None and detect_format(ui, field="workflow") is GraphFormat.API:
        # The detected format overrides the name of the field, as in conversions.
        api, ui = api or check_api_graph(ui, field="workflow"), None
    if api is not None or ui is None:
        return api, ui, None
    converted = ui_to_api(ui, nodes)
    return converted.graph, ui, converted.warnings


def _contract(
    definitions: DefinitionSet, api: dict[str, Any] | None, ui: dict[str, Any] | None
) -> dict[str, Any]:
    api, ui, warnings = as_api(api, ui, definitions.nodes)
    contract = contract_of(check_api_graph(api), definitions.nodes, ui)
    return {
        "inputs": packed(contract["inputs"]),
        "outputs": packed(contract["outputs"]),
        "warnings": packed([*(warnings or ()), *contract["warnings"]]),
        "definitions": definitions.origin(),
    }


async def read_values(machine: Machine, graph: bytes) -> list[dict[str, Any]]:
    """Return the values of a graph as JSON, as its form shows them."""
    definitions = await machine.definitions()
    return await worker.run(_values, definitions, graph)


async def read_differences(machine: Machine, first: bytes, second: bytes) -> list[dict[str, Any]]:
    """Return what differs between two graphs as JSON: the names and values are those of forms."""
    definitions = await machine.definitions()
    return await worker.run(_differences, definitions, first, second)


def _values(definitions: DefinitionSet, graph: bytes) -> list[dict[str, Any]]:
    fields = workflow_form(jsons.loads(graph), definitions.nodes, None).fields
    return [
        {
            "key": field.key,
            "label": field.label,
            "title": field.title,
            "kind": field.kind,
            "value": written_value(field, field.initial),
        }
        for field in fields[:MAX_VALUES]
    ]


def _differences(definitions: DefinitionSet, first: bytes, second: bytes) -> list[dict[str, Any]]:
    old, new = jsons.loads(first), jsons.loads(second)
    made = workflow_form(new, definitions.nodes, None).fields
    fields = {(field.node_id, field.input_name): field for field in made}
    found = []
    for change in list(diff_graphs(old, new))[:MAX_VALUES]:
        line = {"text": change.text, "first": None, "second": None, "kind": ""}
        if change.kind == "changed":
            field = fields.get((change.node_id, str(change.input_name)))
            node = new[change.node_id]
            line["text"] = f"{title_of(node) or class_of(node)}: {change.input_name}"
            if field is not None:
                line.update(text=field.label, kind=field.kind)
            line["first"] = written_value(field, change.old)
            line["second"] = written_value(field, change.new)
        found.append(line)
    return found


def written_value(field: FormField | None, value: Any) -> str:
    """Return a value as a form writes it, as text."""
    if value is None:
        return "-"
    if field is not None and not isinstance(value, (list, dict)):
        value = page_value(field, value)
    if isinstance(value, bool):
        return "on" if value else "off"
    text = value if isinstance(value, str) else jsons.dumps(value)
    return text[:MAX_LENGTH]


async def read_form(
    machine: Machine,
    *,
    workflow_api: dict[str, Any] | None,
    workflow: dict[str, Any] | None,
    inputs: dict[str, Any] | None,
    fresh: bool,
    run: tuple[bytes, dict[str, Any], dict[str, int]] | None = None,
) -> dict[str, Any]:
    """Return the form of a workflow with these inputs, or those of a run, see `shown_form`.

    A run is its graph as JSON, the inputs of its request, and its seeds.

    Without live node definitions of the machine, the last known ones are used.
    """
    definitions = await machine.definitions(max_age=0 if fresh else FILES_MAX_AGE)
    return await worker.run(_form, definitions, workflow_api, workflow, inputs, run)


def _form(
    definitions: DefinitionSet,
    api: dict[str, Any] | None,
    ui: dict[str, Any] | None,
    inputs: dict[str, Any] | None,
    run: tuple[bytes, dict[str, Any], dict[str, int]] | None,
) -> dict[str, Any]:
    api, ui, warnings = as_api(api, ui, definitions.nodes)
    graph = check_api_graph(api)
    values = None if run is None else RunValues(jsons.loads(run[0]), *run[1:])
    form = shown_form(graph, definitions.nodes, ui, inputs, values)
    if definitions.source == "bundled":  # its lists of files are empty
        for row in form["rows"]:
            number = row.get("choices")
            if number is not None and not form["choices"][number]:
                row["choices"] = None
    told = {
        "types": ("Some values do not fit their inputs", form.pop("mismatches")),
        "author": (
            "Some inputs that the workflow's author chose do not exist",
            form.pop("warnings"),
        ),
    }
    # A conversion also tells the values that do not fit.
    inexact = [text for text in warnings or () if text not in told["types"][1]]
    told["conversion"] = ("The conversion from the editor's format is not exact", inexact)
    return {
        "defined": definitions.source == "live",
        "definitions": definitions.origin(),
        "structure": structure_of(graph),
        "notes": [
            {"about": about, "title": title, "texts": texts}
            for about, (title, texts) in told.items()
            if texts
        ],
        **{key: packed(value) for key, value in form.items()},
    }
