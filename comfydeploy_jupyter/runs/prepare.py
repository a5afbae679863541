"""From the body of a run to the prompt that ComfyUI gets."""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import worker
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    InvalidRequestError,
    UnknownInputError,
)
from ..graphs.consistency import check_agreement
from ..graphs.depth import check_depth
from ..graphs.external import EXTERNAL_PREFIX
from ..graphs.formats import Graph, check_api_graph, detect_format, same_graph, title_of
from ..graphs.formats import GraphFormat as Format
from ..graphs.inline_external import inline_external, place_files
from ..graphs.inputs import AppliedInputs, apply_inputs
from ..graphs.loaders import load_files
from ..graphs.partial import check_nodes, only_what_is_needed
from ..graphs.replacements import BUNDLED as REPLACED
from ..graphs.seeds import SeedMode, Seeds, apply_seeds, needs_definitions
from ..graphs.structure import structure_of
from ..graphs.ui_to_api import ui_to_api
from ..graphs.versions import has_partial_execution
from ..graphs.workload import Workload, workload
from ..net import responses
from ..net.json_stream import dumps
from ..unparsed import LARGE, is_large
from .bring import bring_files
from .run import NodeName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..comfyui.definitions import Knowledge
    from ..graphs.definitions import NodeDefinitions
    from ..graphs.external import Target
    from ..graphs.formats import Definitions
    from ..graphs.inline_external import FileNeed
    from ..machines.machine import Machine
    from ..net.fetch_policy import FetchPolicy
    from ..schemas import RunRequest


log = logging.getLogger(__name__)

LONGEST_INPUT = 20_000  # characters of an input that is remembered; longer ones are files


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be queued.

    Attributes
    ----------
    prompt : bytes
        The graph in API format, as JSON.
    workflow : bytes or None
        The graph in UI format, as JSON.
    nodes : dict of str to NodeName
        What the nodes are called.
    workload : Workload
        What they depend on, and how many steps they take.
    seeds, next_seeds : dict of str to int
        The seeds in it, and those that the editor would show next.
    warnings : list of str
        What did not come along from the UI format.
    structure : str
        Which workflow it is, whatever its values: `structure_of` the graph that was handed in.
    inputs : dict
        The inputs that it was given by name, but for those as long as files.
    targets : list of str or None
        The output nodes that ComfyUI is asked to execute; None: all that are in the graph.
    """

    prompt: bytes
    workflow: bytes | None
    nodes: dict[str, NodeName]
    workload: Workload
    seeds: dict[str, int]
    next_seeds: dict[str, int]
    warnings: list[str]
    structure: str
    inputs: dict[str, Any]
    targets: list[str] | None = None


class _Chosen(NamedTuple):
    """A graph with its inputs in it; its seeds and external-input nodes are as they were."""

    applied: AppliedInputs
    ui: dict[str, Any] | None
    mode: SeedMode
    node_form: bool
    warnings: list[str]
    structure: str
    inputs: dict[str, Any]
    targets: list[str] | None

    @property
    def draws_seeds(self) -> bool:
        """Whether there will be new seeds, which have to be what their nodes take."""
        applied = self.applied
        return needs_definitions(applied.graph, self.mode, given=applied.given, ui=self.ui)

    @property
    def has_external(self) -> bool:
        """Whether there are external-input nodes in it."""
        nodes = self.applied.graph.values()
        return any(str(node.get("class_type")).startswith(EXTERNAL_PREFIX) for node in nodes)

    def settle_seeds(self, definitions: Definitions | None = None) -> Seeds:
        """Return the graph with its seeds settled."""
        return apply_seeds(
            self.applied.graph,
            self.mode,
            given=self.applied.given,
            ui=self.ui,
            node_form=self.node_form,
            definitions=definitions,
        )


async def prepare(
    request: RunRequest, machine: Machine, fetching: FetchPolicy, *, small: bool = False
) -> Prepared:
    """Turn a request into the prompt for a machine.

    Parameters
    ----------
    request : RunRequest
        The body of the run.
    machine : Machine
        Asked for its node definitions where inputs are given, where the graph has external-input
        nodes or is given in UI format only, and where new seeds may be drawn.
    fetching : FetchPolicy
        Whether input files may be fetched from elsewhere.
    small : bool
        Whether the request is so small that a trip to a thread costs more than the work itself.

    Raises
    ------
    InvalidRequestError
        If there is no graph, or several that disagree.
    UnknownInputError
        If an input fits nothing in the graph.
    OfflineError
        If an input file would have to be fetched, and may not.
    """
    layouts = None
    only_ui = _is_only_ui(request)
    if only_ui:
        await machine.ready()
        layouts = (await machine.knowledge()).layouts
        small = False
    cut = False
    if request.outputs is not None:
        cut = not has_partial_execution(await machine.running_version())
    if is_large(request.workflow_api, request.workflow_api_raw, request.workflow):
        return await _prepare_large(request, machine, fetching, cut=cut)
    declared = None
    if request.inputs and machine.reachable_client() is not None:
        declared = await _declared(machine)
    work = partial(_begin, request, layouts, declared, cut=cut)
    unknown: UnknownInputError | None = None
    try:
        begun = work() if small else await asyncio.to_thread(work)
    except UnknownInputError as error:
        if declared is not None:
            raise
        unknown = error
    given = (request.inputs or {}).values()
    if declared is None and (unknown or any(isinstance(value, str) for value in given)):
        # A choice may bring inputs of its own, which only the definitions tell.
        try:
            await machine.ready()
        except ComfyUIUnavailableError:
            if unknown is not None:
                raise unknown from None
            raise
        work = partial(_begin, request, layouts, await _declared(machine), cut=cut)
        begun = await asyncio.to_thread(work)
    if isinstance(begun, Prepared):
        return begun
    await machine.ready()
    known = (await machine.knowledge()).object_info
    if small and not begun.has_external:
        return _encode(begun, begun.settle_seeds(known))
    seeds = await asyncio.to_thread(begun.settle_seeds, known)
    if begun.has_external:
        graph = await _resolve_external(seeds.graph, begun.applied.given, machine, known, fetching)
        seeds = replace(seeds, graph=graph)
    return await asyncio.to_thread(_encode, begun, seeds)


async def _declared(machine: Machine) -> dict[str, Any] | None:
    """Return the node definitions of a machine; None where those of the running one are unknown."""
    return _declared_by(await machine.knowledge())


def _declared_by(knowledge: Knowledge) -> dict[str, Any] | None:
    return knowledge.object_info if knowledge.source == "live" else None


def _is_only_ui(request: RunRequest) -> bool:
    graphs = (request.workflow_api, request.workflow_api_raw)
    return graphs == (None, None) and request.workflow is not None


async def _prepare_large(
    request: RunRequest, machine: Machine, fetching: FetchPolicy, *, cut: bool
) -> Prepared:
    """Do what `prepare` does in a worker process, which gets all that it may need at once."""
    await machine.ready()
    knowledge = await machine.knowledge()
    found = await worker.call(_prepare_in_worker, request, knowledge, cut)
    if isinstance(found, Prepared):
        return found
    needs, state = found
    placed = await bring_files(needs, machine, fetching)
    return await worker.call(_finish_in_worker, state, placed, knowledge)


def _prepare_in_worker(
    request: RunRequest, knowledge: Knowledge, cut: bool
) -> Prepared | tuple[list[FileNeed], bytes]:
    """Return the prompt, or which files it needs and what `_finish_in_worker` is to get then."""
    layouts = knowledge.layouts if _is_only_ui(request) else None
    begun = _begin(request, layouts, _declared_by(knowledge), cut=cut)
    if isinstance(begun, Prepared):
        return _only_what_executes(begun, knowledge)
    seeds = begun.settle_seeds(knowledge.object_info)
    inlined = inline_external(seeds.graph, knowledge.object_info.keys(), given=begun.applied.given)
    seeds = replace(seeds, graph=inlined.graph)
    if inlined.files:
        return inlined.files, pickle.dumps((begun, seeds))
    return _only_what_executes(_encode(begun, seeds), knowledge)


def _finish_in_worker(state: bytes, placed: dict[str, str], knowledge: Knowledge) -> Prepared:
    begun, seeds = pickle.loads(state)  # noqa: S301 - of a worker process
    seeds = replace(seeds, graph=place_files(seeds.graph, placed))
    return _only_what_executes(_encode(begun, seeds), knowledge)


def _only_what_executes(prepared: Prepared, knowledge: Knowledge) -> Prepared:
    """Leave out the facts of nodes that ComfyUI will not execute: nothing will be told of them."""
    work = prepared.workload.only_needed(knowledge.layouts, prepared.targets)
    names = {node_id: name for node_id, name in prepared.nodes.items() if node_id in work.steps}
    return replace(prepared, nodes=names, workload=work)


async def read_stored(
    prompt: bytes | None, knowledge: Knowledge | None, targets: Collection[str] | None
) -> tuple[dict[str, NodeName], Workload]:
    """Return what the nodes of a stored graph are called, and the work in it.

    Parameters
    ----------
    prompt : bytes or None
        The graph, as JSON.
    knowledge : Knowledge or None
        With it, of a large graph only the nodes that ComfyUI executes are there.
    targets : collection of str or None
        The output nodes that ComfyUI is asked to execute; None: all.
    """
    large = prompt is not None and len(prompt) > LARGE
    try:
        return await worker.compute(_facts, prompt, knowledge, targets, large=large)
    except ComfyDeployError as fault:  # a run is told and followed without them, too
        log.warning("What the nodes of a run are called is not known: %s", fault.message)
        return {}, Workload({}, {}, {})


def _facts(
    prompt: bytes | None, knowledge: Knowledge | None, targets: Collection[str] | None
) -> tuple[dict[str, NodeName], Workload]:
    graph = {} if prompt is None else responses.loads(prompt)
    names, work = node_names(graph), workload(graph)
    if prompt is not None and len(prompt) > LARGE and knowledge is not None:
        work = work.only_needed(knowledge.layouts, targets)
        names = {node_id: name for node_id, name in names.items() if node_id in work.steps}
    return names, work


def node_names(graph: dict[str, Any]) -> dict[str, NodeName]:
    """Return what the nodes of a graph in API format are called."""
    names = {}
    for node_id, node in graph.items():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        known = class_type if isinstance(class_type, str) else None
        names[node_id] = NodeName(title_of(node) or known or f"node {node_id}", known)
    return names


def _begin(
    request: RunRequest,
    layouts: NodeDefinitions | None,
    definitions: Definitions | None,
    *,
    cut: bool,
) -> Prepared | _Chosen:
    """Do all that needs no ComfyUI in one go: each trip to a thread costs time."""
    graph, ui, warnings = _choose(request, layouts)
    graph = _with_inputs(graph)
    targets = request.outputs
    if targets is not None:
        check_nodes(graph, targets, field="outputs")
    strict = request.strict_inputs
    if strict is None:
        strict = not request.node_form
    inputs = request.inputs or {}
    applied = apply_inputs(graph, inputs, strict=strict, definitions=definitions)
    applied = load_files(applied, definitions)
    check_depth(applied.graph, ui)
    if targets is not None and cut:
        applied = replace(applied, graph=only_what_is_needed(applied.graph, targets))
        targets = None
    chosen = _Chosen(
        applied,
        ui,
        SeedMode(request.seed_mode or ("random" if request.node_form else "auto")),
        request.node_form and request.seed_mode is None,
        warnings,
        structure_of(graph),
        _remembered(request.inputs or {}),
        targets,
    )
    if chosen.draws_seeds or chosen.has_external:
        return chosen
    return _encode(chosen, chosen.settle_seeds())


def _choose(
    request: RunRequest, layouts: NodeDefinitions | None
) -> tuple[Graph, dict[str, Any] | None, list[str]]:
    """Return the graph to run, the same graph in UI format where given, and warnings."""
    graph: Graph | None = None
    for field in ("workflow_api", "workflow_api_raw"):
        value = getattr(request, field)
        if value is None:
            continue
        found = check_api_graph(value, field=field)
        if graph is not None and not same_graph(graph, found):
            raise InvalidRequestError.of_field(field, "is another graph than workflow_api")
        graph = graph or found
    ui = request.workflow
    if ui is not None and detect_format(ui, field="workflow") is Format.API:
        raise InvalidRequestError.of_field("workflow", "is in API format; send it as workflow_api")
    if graph is None and ui is not None and layouts is not None:
        converted = ui_to_api(ui, layouts)
        if not converted.graph:
            raise InvalidRequestError.of_field("workflow", "has no node that would run")
        return converted.graph, ui, converted.warnings
    if graph is None:
        raise InvalidRequestError.of_field(
            "workflow_api", "no graph: one of workflow_api, workflow, workflow_id is needed"
        )
    if ui is not None and not request.node_form:
        check_agreement(graph, ui)
    return graph, ui, []


def _with_inputs(graph: Graph) -> Graph:
    """Give every node its ``inputs`` object.

    ComfyUI accepts a prompt in which a node that no output needs has none, and then its
    worker thread dies of it: nothing runs until ComfyUI is started again.
    """
    for node_id, node in graph.items():
        if not isinstance(node.get("inputs", {}), dict):
            raise InvalidRequestError(
                f"workflow_api: the inputs of node {node_id!r} must be a JSON object",
                details={"field": "workflow_api", "node_id": node_id},
            )
    return {node_id: {"inputs": {}, **_title(node), **node} for node_id, node in graph.items()}


def _title(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``_meta`` for a node of a class that newer ComfyUIs replace.

    ComfyUI 0.33 answers 500 where such a node has none; the editor always sends one.
    """
    replaced = node.get("class_type") in REPLACED
    return {"_meta": {"title": node["class_type"]}} if replaced else {}


async def _resolve_external(
    graph: Graph,
    given: dict[Target, str],
    machine: Machine,
    known: Definitions,
    fetching: FetchPolicy,
) -> Graph:
    inlined = inline_external(graph, known.keys(), given=given)
    if not inlined.files:
        return inlined.graph
    placed = await bring_files(inlined.files, machine, fetching)
    return place_files(inlined.graph, placed)


def _remembered(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs without those that are as long as files."""
    return {
        key: value
        for key, value in inputs.items()
        if not isinstance(value, (str, list, dict)) or len(dumps(value)) <= LONGEST_INPUT
    }


def _encode(chosen: _Chosen, seeds: Seeds) -> Prepared:
    return Prepared(
        prompt=dumps(seeds.graph).encode(),
        workflow=None if chosen.ui is None else dumps(chosen.ui).encode(),
        nodes=node_names(seeds.graph),
        workload=workload(seeds.graph),
        seeds=seeds.seeds,
        next_seeds=seeds.next_seeds,
        warnings=chosen.warnings,
        structure=chosen.structure,
        inputs=chosen.inputs,
        targets=chosen.targets,
    )
