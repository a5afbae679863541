"""Graphs in requests: read them, convert them, describe their inputs and outputs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..errors import InvalidRequestError
from ..graphs.definitions import NodeDefinitions
from ..graphs.dependencies import structure_of
from ..graphs.diff import diff_graphs
from ..graphs.export import notebook, python_script
from ..graphs.form import (
    FormField,
    choose_inputs,
    page_value,
    with_rows,
    workflow_form,
)
from ..graphs.formats import Graph, GraphFormat, check_api_graph, class_of, detect_format, title_of
from ..graphs.inputs import apply_inputs, contract_of, marks_in
from ..graphs.layout import api_to_ui, picture_of
from ..graphs.outline import graph_rows
from ..graphs.shown_form import RunValues, read_value, shown_form
from ..graphs.ui import SavedWorkflow, check_integrity, name_conflicts
from ..graphs.ui_to_api import NO_CLASS, ui_to_api
from ..util import jsons, worker
from ..util.jsons import THREAD_ABOVE, RawJSON, decoder
from ..util.worker import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..comfyui.definitions import DefinitionSet
    from ..machines.machine import Machine
    from ..request_models import ConvertRequest

T = TypeVar("T")
Graphs: TypeAlias = "tuple[dict[str, Any] | None, dict[str, Any] | None]"
"""A workflow in API format and in that of the editor, as far as it was given."""

API, UI, NOTEBOOK, PYTHON = "api", "ui", "notebook", "python"
NAMES = {API: "workflow_api", UI: "workflow", NOTEBOOK: "notebook", PYTHON: "python"}

MAX_VALUES = 2000  # values and differences in a reply
MAX_LENGTH = 20_000  # characters of one of them
FILES_MAX_AGE = 30.0  # seconds, of the lists of files that a form offers
MAX_FORMS = 2  # of large workflows that are kept
FORMS_KEPT = 300.0  # seconds after the last use of one until all are forgotten


async def with_definitions(machine: Machine, make: Callable[..., T], *args: Any) -> T:
    """Call a function with the node definitions of a machine: live ones, else the last known."""
    return await worker.run(make, await machine.definitions(), *args)


async def convert(
    request: ConvertRequest, machine: Machine, graphs: Graphs, title: str
) -> dict[str, Any]:
    """Return the reply to a request to convert a workflow, by default to the other graph format.

    The node definitions are those of the request, else those of the machine. ``inputs`` are set
    first.
    """
    if request.form and (request.inputs is not None or request.object_info is not None):
        problem = "cannot be made with `inputs` or `object_info`; use `workflow/form`"
        raise InvalidRequestError.of_field("form", problem)
    max_age = FILES_MAX_AGE if request.form else None
    definitions = (
        None if request.object_info is not None else await machine.definitions(max_age=max_age)
    )
    front = None if request.front is None else {each.key: each.label for each in request.front}
    if front is not None and request.to != UI:
        raise InvalidRequestError.of_field("front", "needs `to: ui`, the format that keeps it")
    way = _Way(request.to, title, request.inputs, front, text=request.text, form=request.form)
    return await worker.run(_convert, *graphs, way, request.object_info, definitions)


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


@dataclass(frozen=True)
class _Way:
    """How a graph is converted."""

    target: str | None
    title: str
    inputs: dict[str, Any] | None
    front: dict[str, str | None] | None
    text: bool
    form: bool = False


def _convert(
    api: dict[str, Any] | None,
    ui: dict[str, Any] | None,
    way: _Way,
    object_info: dict[str, Any] | None,
    definitions: DefinitionSet | None,
) -> dict[str, Any]:
    """Return the reply, made with the node definitions of the request or of a machine."""
    nodes = NodeDefinitions.of(object_info) if definitions is None else definitions.nodes
    api, ui = _by_format(api, ui)
    source = API if ui is None else UI
    target = way.target or (UI if source == API else API)
    result, warnings = _converted(api, ui, target, way, nodes)
    made: dict[str, Any] = {NAMES[target]: result}
    other = {API: ui, UI: api}.get(target)
    if way.text and other is not None and not way.inputs:
        made[NAMES[UI if target == API else API]] = other
    indent = None if way.form else 2
    made = {name: _text(v, indent) if way.text else packed(v) for name, v in made.items()}
    if way.form:
        assert definitions is not None
        graph = check_api_graph(result) if target == API else as_api(api, ui, nodes)[0]
        form = _form(definitions, graph, ui, None, None, True)
        made["form"] = {"success": True, "title": way.title, **form}
    return {"from": source, "to": target, "title": way.title, **made, "warnings": packed(warnings)}


def _by_format(
    api: dict[str, Any] | None, ui: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the graphs in API and in UI format: the detected format, not the field, decides."""
    if api is None and ui is not None and detect_format(ui, field="workflow") is GraphFormat.API:
        return ui, None
    if ui is None and detect_format(api, field="workflow_api") is GraphFormat.UI:
        return None, api
    return api, ui


def _text(graph: dict[str, Any] | str, indent: int | None) -> Any:
    """Return a graph as the text of a file; a large one as `RawJSON` with that text."""
    text = graph
    if not isinstance(graph, str):
        indent = 1 if "nbformat" in graph else indent
        text = json.dumps(graph, indent=indent, ensure_ascii=False) + "\n"
    return RawJSON(json.dumps(text).encode()) if len(text) > THREAD_ABOVE else text


def _converted(
    api: dict[str, Any] | None,
    ui: dict[str, Any] | None,
    target: str,
    way: _Way,
    nodes: NodeDefinitions,
) -> tuple[dict[str, Any] | str, list[str]]:
    if target == UI and ui is not None and not way.inputs:
        if way.front is None:
            return ui, []
        graph = check_api_graph(as_api(api, ui, nodes)[0])
        return choose_inputs(graph, ui, way.front, nodes), []
    warnings: list[str] = []
    if api is not None:
        graph = api
    else:
        assert ui is not None
        converted = ui_to_api(ui, nodes)
        graph, warnings = converted.graph, converted.warnings + converted.unknown
    if way.inputs:
        graph, problems = _with_inputs(check_api_graph(graph), way.inputs, nodes)
        warnings = [*warnings, *problems]
    if target == API:
        return graph, warnings
    graph = check_api_graph(graph)
    if target == UI:
        made = api_to_ui(graph, nodes)
        chosen = made if way.front is None else choose_inputs(graph, made, way.front, nodes)
        return chosen, warnings
    form = with_rows(workflow_form(graph, nodes, ui))
    make = notebook if target == NOTEBOOK else python_script
    return make(graph, form, title=way.title), warnings


def _with_inputs(
    graph: Graph, inputs: dict[str, Any], nodes: NodeDefinitions
) -> tuple[Graph, list[str]]:
    """Return a graph with inputs in the form of forms, and which of these are not valid."""
    applied = apply_inputs(graph, inputs, definitions=nodes).graph
    # Fields of options that are chosen now have what was given as their value.
    made = [
        replace(field, value=None, default=None)
        for field in workflow_form(applied, nodes, None).fields
    ]
    made += workflow_form(graph, nodes, None).fields
    fields = {key: field for field in made for key in field.keys}

    def reading(key: str, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(row, dict) for row in value):
            return [
                {name: reading(f"{key}.{index}.{name}", each) for name, each in row.items()}
                for index, row in enumerate(value)
            ]
        field = fields.get(key) if isinstance(value, str) else None
        return value if field is None else read_value(field, value)

    read, problems = {}, []
    for key, value in inputs.items():
        try:
            read[key] = reading(key, value)
        except InvalidRequestError as error:
            problems.append(f"Not set: {error.message}")
    return apply_inputs(graph, read, definitions=nodes).graph, problems


async def read_graphs(*given: Any) -> tuple[Any, Any]:
    """Return the graphs of a request in UI and in API format, from JSON or from text with JSON.

    The fields are ``workflow``, ``workflow_json``, which has the same meaning, and
    ``workflow_api``; a graph in API format in one of the first two is accepted.
    """
    return await worker.run(_graphs_of, *given)


def _graphs_of(workflow: Any, workflow_json: Any, workflow_api: Any) -> tuple[Any, Any]:
    graphs = {
        field: _parsed(value, field)
        for field, value in (("workflow", workflow), ("workflow_json", workflow_json))
        if value is not None
    }
    field = next(iter(graphs), "workflow")
    ui = graphs.get(field)
    if len(graphs) == 2 and graphs["workflow_json"] != ui:
        raise InvalidRequestError.of_field("workflow_json", "differs from workflow")
    api_field = "workflow_api"
    api = None if workflow_api is None else _parsed(workflow_api, api_field)
    if ui is not None and detect_format(ui, field=field) is GraphFormat.API:
        if api is not None:
            raise InvalidRequestError.of_field(
                field, "is in API format, and workflow_api is given too; send one of them"
            )
        ui, api, api_field = None, ui, field
    if ui is not None:
        check_integrity(ui, field=field)
    if api is not None:
        check_api_graph(api, field=api_field)
        check_integrity(api, field=api_field)
    elif ui is None:
        raise InvalidRequestError.of_field(
            "workflow", "no graph: one of workflow, workflow_json, workflow_api is needed"
        )
    return packed(ui), packed(api)


def _parsed(value: Any, field: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = jsons.loads(value, decoder=decoder(unique=True))
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError.of_field(field, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError.of_field(field, "must be a workflow, a JSON object")
    return value


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


def contract(
    definitions: DefinitionSet, api: dict[str, Any] | None, ui: dict[str, Any] | None
) -> dict[str, Any]:
    """Return ``inputs``, ``outputs``, ``warnings``, ``definitions`` of a workflow.

    Of a workflow in both formats, the one in UI format has the choices of its author.
    """
    api, ui, warnings = as_api(api, ui, definitions.nodes)
    found = contract_of(check_api_graph(api), definitions.nodes, ui)
    return {
        "inputs": packed(found["inputs"]),
        "outputs": packed(found["outputs"]),
        "warnings": packed([*(warnings or ()), *found["warnings"]]),
        "definitions": definitions.origin(),
    }


def values(definitions: DefinitionSet, graph: bytes) -> list[dict[str, Any]]:
    """Return the values of a graph as JSON, as its form shows them."""
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


def differences(definitions: DefinitionSet, first: bytes, second: bytes) -> list[dict[str, Any]]:
    """Return what differs between two graphs as JSON: the names and values are those of forms."""
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
    if marks_in(value):
        return "an output of another run"
    if field is not None and not isinstance(value, (list, dict)):
        value = page_value(field, value)
    if isinstance(value, bool):
        return "on" if value else "off"
    text = value if isinstance(value, str) else jsons.dumps(value)
    return text[:MAX_LENGTH]


def outline(
    definitions: DefinitionSet, api: dict[str, Any] | None, ui: dict[str, Any] | None
) -> dict[str, Any]:
    """Return ``structure``, ``nodes``, ``picture`` and ``warnings`` of a workflow."""
    api, ui, warnings = as_api(api, ui, definitions.nodes)
    graph = check_api_graph(api)
    nodes = [
        {"id": node_id, "title": title, "class_type": kind, "inputs": inputs}
        for title, kind, node_id, inputs in graph_rows(graph)
    ]
    picture = picture_of(graph if ui is None else ui)
    return {
        "structure": structure_of(graph),
        "nodes": packed(nodes),
        "picture": packed(picture),
        "warnings": packed(warnings or []),
    }


async def read_diff(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the differences between two versions, as the routes describe these."""
    graphs = [version[name] for name in ("workflow_api", "workflow") for version in (old, new)]
    return await worker.run(_diff, *graphs)


def _diff(*graphs: dict[str, Any] | None) -> dict[str, Any]:
    found = [
        diff_graphs(before, after)
        for before, after in (graphs[:2], graphs[2:])
        if before is not None and after is not None
    ]
    if not found:
        raise InvalidRequestError.of_field("new", "has no graph in the same format as old")
    diff = next((each for each in found if each), found[-1])
    changes = [{"kind": each.kind, "node_id": each.node_id, "text": each.text} for each in diff]
    return {"changes": packed(changes), "text": str(diff)}


async def read_form(
    machine: Machine,
    graphs: Graphs,
    inputs: dict[str, Any] | None,
    run: tuple[bytes, dict[str, Any], dict[str, int]] | None,
    *,
    fresh: bool,
    brief: bool,
) -> dict[str, Any]:
    """Return the form of a workflow with these inputs, or those of a run, see `shown_form`.

    A run is its graph as JSON, the inputs of its request, and its seeds.

    Without live node definitions of the machine, the last known ones are used.
    """
    definitions = await machine.definitions(max_age=0 if fresh else FILES_MAX_AGE)
    given: tuple[Any, ...] = graphs
    are_large = all(graph is None or isinstance(graph, RawJSON) for graph in given)
    if inputs or run is not None or not are_large:
        return await worker.run(_form, definitions, *graphs, inputs, run, brief)
    key = (definitions, brief, *(graph and graph.text for graph in given))
    return await _forms.get(key, lambda: worker.run(_form, definitions, *graphs, None, None, brief))


class _LargeForms:
    """The forms of large workflows without changes: while they are made, and the last ones."""

    def __init__(self) -> None:
        self._made: dict[Any, asyncio.Future[dict[str, Any]]] = {}  # the last one used is the last
        self._timer: asyncio.TimerHandle | None = None

    async def get(
        self, key: Any, make: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
    ) -> dict[str, Any]:
        making = self._made.get(key)
        if making is None:
            making = asyncio.ensure_future(make())
            making.add_done_callback(partial(self._done, key))
        self._use(key, making)
        # one who goes away, such as a page that is closed, does not end it for others
        return await asyncio.shield(making)

    def _use(self, key: Any, making: asyncio.Future[dict[str, Any]]) -> None:
        self._made.pop(key, None)
        self._made[key] = making
        done = [other for other, each in self._made.items() if each.done()]
        for older in done[:-MAX_FORMS]:
            del self._made[older]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(FORMS_KEPT, self._made.clear)

    def _done(self, key: Any, made: asyncio.Future[dict[str, Any]]) -> None:
        failed = made.cancelled() or made.exception() is not None
        if self._made.get(key) is not made:
            return
        if failed:
            del self._made[key]
        else:
            self._use(key, made)


_forms = _LargeForms()


async def prepare(machine: Machine) -> None:
    """Be ready for a large form after another one."""
    await worker.prepare(_form, await machine.definitions())


def _form(
    definitions: DefinitionSet,
    api: dict[str, Any] | None,
    ui: dict[str, Any] | None,
    inputs: dict[str, Any] | None,
    run: tuple[bytes, dict[str, Any], dict[str, int]] | None,
    brief: bool,
) -> dict[str, Any]:
    api, ui, warnings = as_api(api, ui, definitions.nodes)
    graph = check_api_graph(api)
    values = None if run is None else RunValues(jsons.loads(run[0]), *run[1:])
    saved = None if ui is None else SavedWorkflow(ui)
    form = shown_form(graph, definitions.nodes, saved, inputs, values, brief=brief)
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
    if saved is not None:
        conflicts = name_conflicts(saved, definitions.nodes)
        told["names"] = ("Some values are saved differently by position and by name", conflicts)
    # A conversion also tells the values that do not fit.
    # What is missing is said by itself, with what can be done about it.
    inexact = [
        text
        for text in warnings or ()
        if text not in told["types"][1] and not text.endswith(NO_CLASS)
    ]
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
