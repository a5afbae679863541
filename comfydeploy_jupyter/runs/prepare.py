"""Turns the body of a request into the prompt for ComfyUI, and reads stored prompts again."""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    InvalidInputError,
    InvalidRequestError,
    UnknownInputError,
)
from ..graphs.dependencies import (
    Workload,
    check_depth,
    check_nodes,
    dangling_links,
    fingerprint_of,
    only_what_is_needed,
    structure_of,
    workload,
)
from ..graphs.external import EXTERNAL_PREFIX, inline_external, place_files
from ..graphs.formats import (
    START,
    label_of,
    title_of,
)
from ..graphs.given import choose, with_inputs
from ..graphs.inputs import (
    AppliedInputs,
    apply_inputs,
    check_inputs,
    file_names_in,
    load_files,
    marked_kinds,
    marks_in,
)
from ..graphs.loops import also_executed, loop_bodies, loop_notices
from ..graphs.models import models_in
from ..graphs.seeds import SeedMode, Seeds, apply_seeds, needs_definitions
from ..graphs.validation import endless_links, validate_prompt
from ..graphs.versions import has_partial_execution
from ..util import jsons, worker
from ..util.jsons import PROCESS_ABOVE, dumps, is_large, rough_size
from .inputs import fetch_input_files
from .progress import NodeName
from .run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.definitions import DefinitionSet
    from ..graphs.definitions import AnyDefinitions
    from ..graphs.external import FileNeed
    from ..machines.machine import Machine
    from ..request_models import RunRequest
    from ..util.system import FetchPolicy
    from .records import RunRecord
    from .state import State

T = TypeVar("T")

log = logging.getLogger(__name__)

SMALL = 4 * 1024  # bytes of a graph; one up to this is processed on the event loop
MANY_NODES = 2_000  # nodes of a graph from which on it is processed in a thread
DEFINITIONS_MAX_AGE = 3.0  # seconds; older choices do not refuse a value


class GraphFacts(NamedTuple):
    """What is known about the graph of a run."""

    nodes: dict[str, NodeName]
    workload: Workload
    models: frozenset[str]  # the model files that it names
    fingerprint: bytes
    file_names: frozenset[str]  # texts that may name input files


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be queued."""

    prompt: bytes  # the graph in API format, as JSON
    workflow: bytes | None  # the graph in UI format, as JSON
    facts: GraphFacts
    seeds: dict[str, int]
    next_seeds: dict[str, int]  # that ComfyUI's editor would show next
    warnings: list[str]  # what was lost in the conversion from UI format, and what to expect
    structure: str  # `structure_of` the given graph
    marks: dict[str, str]  # what stands for outputs of other runs; the kinds of these inputs
    # The output nodes that ComfyUI is asked to execute; None means all in the graph
    targets: list[str] | None = None
    files: tuple[str, ...] = ()  # put into the input folder of the machine for this run


class Unplaced(NamedTuple):
    """A graph whose files are not in the input folder of its machine yet."""

    files: list[FileNeed]
    rest: bytes  # for `finish`; of a large graph it stays a pickle in this process


class Chosen(NamedTuple):
    """A graph with its inputs set; its seeds and external-input nodes are not processed yet."""

    applied: AppliedInputs
    ui: dict[str, Any] | None
    mode: SeedMode
    node_form: bool
    warnings: list[str]
    structure: str
    targets: list[str] | None
    outputs: list[str] | None  # the output nodes that the request wants
    marks: dict[str, str]

    @property
    def draws_seeds(self) -> bool:
        """Whether new seeds will be drawn, which have to be in the range of their nodes."""
        applied = self.applied
        return needs_definitions(applied.graph, self.mode, given=applied.given, ui=self.ui)

    @property
    def has_external(self) -> bool:
        """Whether the graph has external-input nodes."""
        nodes = self.applied.graph.values()
        return any(str(node.get("class_type")).startswith(EXTERNAL_PREFIX) for node in nodes)

    @property
    def has_dangling(self) -> bool:
        """Whether a link leads to a node that does not exist."""
        return bool(dangling_links(self.applied.graph))

    def settle_seeds(self, definitions: AnyDefinitions = None) -> Seeds:
        """Return the graph with its final seeds."""
        return apply_seeds(
            self.applied.graph,
            self.mode,
            given=self.applied.given,
            ui=self.ui,
            node_form=self.node_form,
            definitions=definitions,
        )


def compose(
    request: RunRequest, definitions: DefinitionSet | None, cut: bool
) -> Prepared | Chosen | Unplaced:
    """Do all steps in one call, since each thread call costs time.

    Given values are checked against the definitions of the running ComfyUI. Without definitions,
    a graph that needs them is returned before its seeds are drawn.
    """
    known = None if definitions is None else definitions.nodes
    live = None if definitions is None or definitions.source != "live" else known
    graph, ui, warnings = choose(request, known)
    graph = with_inputs(graph)
    targets = request.outputs
    if targets is not None:
        check_nodes(graph, targets, field="outputs")
    strict = request.strict_inputs
    if strict is None:
        strict = not request.node_form
    inputs = request.inputs or {}
    applied = apply_inputs(graph, inputs, strict=strict, definitions=live)
    marks = marked_kinds(applied, live)
    if live is not None and strict:
        check_inputs(graph, applied, live)
    applied = load_files(applied, live)
    check_depth(applied.graph, ui)
    if targets is not None and cut:
        applied = replace(applied, graph=only_what_is_needed(applied.graph, targets))
        targets = None
    chosen = Chosen(
        applied,
        ui,
        SeedMode(request.seed_mode or ("random" if request.node_form else "auto")),
        request.node_form and request.seed_mode is None,
        warnings,
        structure_of(graph),
        targets,
        request.outputs,
        marks,
    )
    if not (chosen.draws_seeds or chosen.has_external or chosen.has_dangling):
        return encode(chosen, chosen.settle_seeds(), definitions)
    return chosen if definitions is None else settle(chosen, definitions)


def settle(chosen: Chosen, definitions: DefinitionSet) -> Prepared | Unplaced:
    """Draw the seeds of a graph, and put its external inputs into the nodes."""
    _check_links(chosen, definitions)
    seeds = chosen.settle_seeds(definitions.nodes)
    if chosen.has_external:
        inlined = inline_external(seeds.graph, definitions.nodes, given=chosen.applied.given)
        seeds = replace(seeds, graph=inlined.graph)
        if inlined.files:
            return Unplaced(inlined.files, pickle.dumps((chosen, seeds)))
    return encode(chosen, seeds, definitions)


def _check_links(chosen: Chosen, definitions: DefinitionSet) -> None:
    """Raise if ComfyUI would accept a link to nothing, and never end the run."""
    graph = chosen.applied.graph
    if chosen.has_dangling:
        outputs = validate_prompt(graph, definitions.nodes).outputs
        wanted = [each for each in outputs if chosen.targets is None or each in chosen.targets]
        for node_id, why in endless_links(graph, wanted):
            raise InvalidRequestError.of_field(
                "workflow_api", f"node {label_of(graph, node_id)} {why}", node_id=node_id
            )


def finish(rest: bytes, placed: dict[str, str | list[str]], definitions: DefinitionSet) -> Prepared:
    """Put the names of the files into the graph of an `Unplaced`."""
    chosen, seeds = pickle.loads(rest)  # noqa: S301 - from this package
    return encode(chosen, replace(seeds, graph=place_files(seeds.graph, placed)), definitions)


def node_names(graph: dict[str, Any]) -> dict[str, NodeName]:
    """Return the names of the nodes of a graph in API format."""
    names = {}
    for node_id, node in graph.items():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        known = class_type if isinstance(class_type, str) else None
        names[node_id] = NodeName(title_of(node) or known or f"node {node_id}", known)
    return names


def encode(chosen: Chosen, seeds: Seeds, definitions: DefinitionSet | None) -> Prepared:
    """Return the prompt of a graph with its final seeds."""
    prompt = dumps(seeds.graph).encode()
    facts = _facts_of(seeds.graph, len(prompt), definitions, chosen.targets)
    warnings = [*chosen.warnings]
    if START in facts.workload.classes.values():
        warnings += loop_notices(seeds.graph)
        known = None if definitions is None else definitions.nodes
        warnings += also_executed(seeds.graph, chosen.outputs or (), known)
    return Prepared(
        prompt=prompt,
        workflow=None if chosen.ui is None else dumps(chosen.ui).encode(),
        seeds=seeds.seeds,
        next_seeds=seeds.next_seeds,
        warnings=warnings,
        structure=chosen.structure,
        targets=chosen.targets,
        marks=chosen.marks,
        facts=facts,
    )


class ReadyMachine:
    """A machine; the first use waits until its ComfyUI is ready, later uses do not.

    With ``may_wait``, a run may be created although the machine is not ready: it waits for one.
    """

    def __init__(self, machine: Machine, *, may_wait: bool = False) -> None:
        self.machine = machine
        self._may_wait = may_wait
        self._client: ComfyUIClient | None = None

    async def client(self) -> ComfyUIClient:
        """Return the client of a ComfyUI that answers; wait again if the connection was lost.

        ComfyUIUnavailableError has a ``hint`` on what to do.
        """
        if self._client is None or self.machine.reachable_client() is not self._client:
            self._client = await self.machine.ready()
        return self._client

    async def wait(self) -> None:
        """Wait as `client` does, if the run cannot be created before."""
        if not self._may_wait:
            await self.client()


async def prepare(request: RunRequest, ready: ReadyMachine, fetching: FetchPolicy) -> Prepared:
    """Turn a request into the prompt for a machine.

    Waits for the machine only if its node definitions are needed: for inputs, external-input
    nodes, a graph in UI format only, and new seeds.
    """
    try:
        return await _prepare(request, ready, fetching)
    except InvalidInputError:
        # A choice may be new, such as a model file that was just downloaded.
        before = await ready.machine.definitions()
        if await ready.machine.definitions(max_age=DEFINITIONS_MAX_AGE) is before:
            raise
    return await _prepare(request, ready, fetching)


async def _prepare(request: RunRequest, ready: ReadyMachine, fetching: FetchPolicy) -> Prepared:
    machine = ready.machine
    graphs = request.workflow_api, request.workflow_api_raw, request.workflow
    large = is_large(*graphs)
    only_ui = graphs[:2] == (None, None) and request.workflow is not None
    if large or only_ui or request.outputs is not None:
        await ready.wait()
    definitions, cut = None, False
    if large or only_ui or (request.inputs and machine.reachable_client() is not None):
        definitions = await machine.definitions()
        if not (large or only_ui) and definitions.source != "live":
            definitions = None  # those of the machine decide about inputs and seeds
    if request.outputs is not None:
        cut = not has_partial_execution(await machine.known_version())
    call: Callable[..., Any] = worker.call if large else asyncio.to_thread
    if not (large or only_ui) and rough_size((*graphs, request.inputs), SMALL) <= SMALL:
        call = _call_now
    unknown: UnknownInputError | None = None
    begun: Prepared | Chosen | Unplaced
    try:
        begun = await call(compose, request, definitions, cut)
    except UnknownInputError as exc:
        unknown = exc
    checked = definitions is not None and definitions.source == "live"
    texts = any(isinstance(value, str) for value in (request.inputs or {}).values())
    if unknown is not None and checked:
        raise unknown
    if not checked and (unknown is not None or texts):
        # A choice may have inputs of its own, which only the node definitions list.
        try:
            await ready.wait()
        except ComfyUIUnavailableError:
            if unknown is not None:
                raise unknown from None
            raise
        definitions = await machine.definitions()
        begun = await call(compose, request, definitions, cut)
    if not isinstance(begun, Prepared) and definitions is None:
        await ready.wait()
        definitions = await machine.definitions()
        begun = await call(settle, begun, definitions)
    if isinstance(begun, Unplaced):
        folders, client = await machine.folders(), await ready.client()
        placed = await fetch_input_files(begun.files, client, folders, fetching)
        finished: Prepared = await call(finish, begun.rest, placed, definitions)
        names = [[name] if isinstance(name, str) else name for name in placed.values()]
        own = (name for name in chain.from_iterable(names) if not marks_in(name))
        return replace(finished, files=tuple(own))
    assert isinstance(begun, Prepared)
    return begun


async def _call_now(function: Callable[..., T], *arguments: Any) -> T:
    return function(*arguments)


async def read_stored(
    prompt: bytes | None, definitions: DefinitionSet | None, targets: Collection[str] | None
) -> GraphFacts:
    """Return what is known about a graph as JSON; of a large one, what ``definitions`` execute."""
    try:
        if prompt is None or len(prompt) <= SMALL:  # a thread would cost more than the work itself
            return _read(prompt, definitions, targets)
        return await worker.run(_read, prompt, definitions, targets)
    except ComfyDeployError as exc:  # a run can be followed without these, too
        log.warning("The names of the nodes of a run cannot be read: %s", exc.message)
        return _read(None, None, None)


def _read(
    prompt: bytes | None, definitions: DefinitionSet | None, targets: Collection[str] | None
) -> GraphFacts:
    prompt = prompt or b"{}"
    return _facts_of(jsons.loads(prompt), len(prompt), definitions, targets)


def _facts_of(
    graph: dict[str, Any],
    size: int,
    definitions: DefinitionSet | None,
    targets: Collection[str] | None,
) -> GraphFacts:
    """Return what is known about a graph, of a large one only the nodes that ComfyUI executes."""
    names, work = node_names(graph), workload(graph)
    if size > PROCESS_ABOVE and definitions is not None:
        work = work.only_needed(definitions.nodes, targets)
        names = {node_id: name for node_id, name in names.items() if node_id in work.steps}
    return GraphFacts(names, work, models_in(graph), fingerprint_of(graph), file_names_in(graph))


async def steps_of(
    work: Workload, machine: Machine | None, targets: Collection[str] | None
) -> tuple[dict[str, int], dict[str, str]]:
    """Return the nodes that ComfyUI will execute, with the expected number of steps of each.

    Those that are executed in a loop are returned apart, each with the node that starts the
    outermost one around it: that node has a step for each iteration.
    """
    known = None if machine is None else machine.known_definitions
    nodes = None if known is None else known.nodes

    def needed() -> tuple[dict[str, int], dict[str, str]]:
        found = work.only_needed(nodes, targets)
        looped = loop_bodies(found.classes, found.sources)
        steps = {node: steps for node, steps in found.steps.items() if node not in looped}
        return steps, looped

    long = len(work.steps) > MANY_NODES or START in work.classes.values()
    return await asyncio.to_thread(needed) if long else needed()


async def recovered(
    record: RunRecord,
    stored: tuple[bytes, bytes | None] | None,
    state: State,
    machine: Machine | None,
) -> Run:
    """Return the run of a record that an earlier server has stored."""
    prompt = stored[0] if stored is not None else None
    definitions = None if machine is None else machine.known_definitions
    graph = await read_stored(prompt, definitions, record.targets)
    steps, looped = await steps_of(graph.workload, machine, record.targets)
    run = Run(record, graph.nodes, steps=steps, looped=looped, state=state, events_complete=False)
    run.models, run.fingerprint = graph.models, graph.fingerprint
    return run
