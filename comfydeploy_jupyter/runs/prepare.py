"""Turn the body of a run into the prompt for ComfyUI."""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    InvalidInputError,
    UnknownInputError,
)
from ..graphs.fingerprint import fingerprint_of
from ..graphs.inline_external import inline_external, place_files
from ..graphs.model_files import models_in
from ..graphs.versions import has_partial_execution
from ..graphs.workload import Workload, workload
from ..util import responses, worker
from ..util.unparsed import LARGE, is_large
from .input_files import fetch_input_files
from .prompt import Prepared, compose, encode, node_names

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..comfyui.definitions import DefinitionSet
    from ..graphs.inline_external import FileNeed
    from ..machines.machine import Machine
    from ..schemas import RunRequest
    from ..util.fetch_policy import FetchPolicy
    from .live import NodeName
    from .ready import ReadyMachine

log = logging.getLogger(__name__)

SMALL = 4 * 1024  # bytes of a graph; one up to this is processed on the event loop
MANY_NODES = 2_000  # nodes of a graph from which on it is processed in a thread


DEFINITIONS_MAX_AGE = 3.0  # seconds; older choices do not refuse a value


async def prepare(
    request: RunRequest, ready: ReadyMachine, fetching: FetchPolicy, *, small: bool = False
) -> Prepared:
    """Turn a request into the prompt for a machine.

    Parameters
    ----------
    request : RunRequest
        The request.
    ready : ReadyMachine
        The machine. Its node definitions are read if the request has inputs, if the graph has
        external-input nodes or is in UI format only, and if new seeds may be drawn.
    fetching : FetchPolicy
        Whether input files may be downloaded.
    small : bool
        Whether the request is so small that a thread would cost more than the work itself.

    Raises
    ------
    InvalidRequestError
        If there is no graph, or several that differ.
    UnknownInputError
        If an input matches nothing in the graph.
    InvalidInputError
        If the value of an input breaks the contract of the workflow.
    OfflineError
        If an input file would have to be fetched, but fetching is disabled.
    """
    try:
        return await _prepare(request, ready, fetching, small=small)
    except InvalidInputError:
        # A choice may be new, such as a model file that was just downloaded.
        before = await ready.machine.definitions()
        if await ready.machine.definitions(max_age=DEFINITIONS_MAX_AGE) is before:
            raise
    return await _prepare(request, ready, fetching, small=small)


async def _prepare(
    request: RunRequest, ready: ReadyMachine, fetching: FetchPolicy, *, small: bool
) -> Prepared:
    machine = ready.machine
    layouts = None
    only_ui = _is_only_ui(request)
    if only_ui:
        await ready.wait()
        layouts = (await machine.definitions()).layouts
        small = False
    cut = False
    if request.outputs is not None:
        await ready.wait()
        cut = not has_partial_execution(await machine.known_version())
    if is_large(request.workflow_api, request.workflow_api_raw, request.workflow):
        return await _prepare_large(request, ready, fetching, cut=cut)
    declared = None
    if request.inputs and machine.reachable_client() is not None:
        declared = await _declared(machine)
    work = partial(compose, request, layouts, declared, cut=cut)
    unknown: UnknownInputError | None = None
    try:
        begun = work() if small else await asyncio.to_thread(work)
    except UnknownInputError as error:
        if declared is not None:
            raise
        unknown = error
    given = (request.inputs or {}).values()
    if declared is None and (unknown or any(isinstance(value, str) for value in given)):
        # A choice may have inputs of its own, which only the node definitions list.
        try:
            await ready.wait()
        except ComfyUIUnavailableError:
            if unknown is not None:
                raise unknown from None
            raise
        work = partial(compose, request, layouts, await _declared(machine), cut=cut)
        begun = await asyncio.to_thread(work)
    if isinstance(begun, Prepared):
        return begun
    await ready.wait()
    known = (await machine.definitions()).object_info
    if small and not begun.has_external:
        return encode(begun, begun.settle_seeds(known))
    seeds = await asyncio.to_thread(begun.settle_seeds, known)
    files: tuple[str, ...] = ()
    if begun.has_external:
        inlined = inline_external(seeds.graph, known.keys(), given=begun.applied.given)
        graph = inlined.graph
        if inlined.files:
            folders = await machine.folders()
            client = await ready.client()
            placed = await fetch_input_files(inlined.files, client, folders, fetching)
            graph = place_files(graph, placed)
            files = _names(placed)
        seeds = replace(seeds, graph=graph)
    return replace(await asyncio.to_thread(encode, begun, seeds), files=files)


def _names(placed: dict[str, str | list[str]]) -> tuple[str, ...]:
    """Return the names of the files that `fetch_input_files` has put into the input folder."""
    values = placed.values()
    return tuple(n for value in values for n in ([value] if isinstance(value, str) else value))


async def _declared(machine: Machine) -> DefinitionSet | None:
    """Return the node definitions of a machine; None if those of the running one are unknown."""
    return _declared_by(await machine.definitions())


def _declared_by(definitions: DefinitionSet) -> DefinitionSet | None:
    return definitions if definitions.source == "live" else None


def _is_only_ui(request: RunRequest) -> bool:
    graphs = (request.workflow_api, request.workflow_api_raw)
    return graphs == (None, None) and request.workflow is not None


async def _prepare_large(
    request: RunRequest, ready: ReadyMachine, fetching: FetchPolicy, *, cut: bool
) -> Prepared:
    """Do the same as `prepare` in a worker process, which receives all data at once."""
    await ready.wait()
    machine = ready.machine
    definitions = await machine.definitions()
    found = await worker.call(_prepare_in_worker, request, definitions, cut)
    if isinstance(found, Prepared):
        return found
    needs, state = found
    client = await ready.client()
    placed = await fetch_input_files(needs, client, await machine.folders(), fetching)
    finished = await worker.call(_finish_in_worker, state, placed, definitions)
    return replace(finished, files=_names(placed))


def _prepare_in_worker(
    request: RunRequest, definitions: DefinitionSet, cut: bool
) -> Prepared | tuple[list[FileNeed], bytes]:
    """Return the prompt, or the files that it needs and the state for `_finish_in_worker`."""
    layouts = definitions.layouts if _is_only_ui(request) else None
    begun = compose(request, layouts, _declared_by(definitions), cut=cut)
    if isinstance(begun, Prepared):
        return _only_what_executes(begun, definitions)
    seeds = begun.settle_seeds(definitions.object_info)
    inlined = inline_external(
        seeds.graph, definitions.object_info.keys(), given=begun.applied.given
    )
    seeds = replace(seeds, graph=inlined.graph)
    if inlined.files:
        return inlined.files, pickle.dumps((begun, seeds))
    return _only_what_executes(encode(begun, seeds), definitions)


def _finish_in_worker(state: bytes, placed: dict[str, str], definitions: DefinitionSet) -> Prepared:
    begun, seeds = pickle.loads(state)  # noqa: S301 - from a worker process of this package
    seeds = replace(seeds, graph=place_files(seeds.graph, placed))
    return _only_what_executes(encode(begun, seeds), definitions)


def _only_what_executes(prepared: Prepared, definitions: DefinitionSet) -> Prepared:
    """Remove the data of nodes that ComfyUI will not execute: no event will concern them."""
    work = prepared.workload.only_needed(definitions.layouts, prepared.targets)
    names = {node_id: name for node_id, name in prepared.nodes.items() if node_id in work.steps}
    return replace(prepared, nodes=names, workload=work)


class StoredGraph(NamedTuple):
    """What is known about a stored graph; see `Prepared`."""

    names: dict[str, NodeName]
    workload: Workload
    models: frozenset[str]
    fingerprint: bytes


async def read_stored(
    prompt: bytes | None, definitions: DefinitionSet | None, targets: Collection[str] | None
) -> StoredGraph:
    """Return what is known about a stored graph.

    Parameters
    ----------
    prompt : bytes or None
        The graph, as JSON.
    definitions : DefinitionSet or None
        If given, the result has only those nodes of a large graph that ComfyUI executes.
    targets : collection of str or None
        The output nodes that ComfyUI is asked to execute; None means all.
    """
    size = 0 if prompt is None else len(prompt)
    try:
        if size <= SMALL:  # a thread would cost more than the work itself
            return _facts(prompt, definitions, targets)
        return await worker.compute(_facts, prompt, definitions, targets, large=size > LARGE)
    except ComfyDeployError as fault:  # a run can be followed without these, too
        log.warning("The names of the nodes of a run cannot be read: %s", fault.message)
        return StoredGraph({}, Workload({}, {}, {}), frozenset(), b"")


def _facts(
    prompt: bytes | None, definitions: DefinitionSet | None, targets: Collection[str] | None
) -> StoredGraph:
    graph = {} if prompt is None else responses.loads(prompt)
    names, work = node_names(graph), workload(graph)
    if prompt is not None and len(prompt) > LARGE and definitions is not None:
        work = work.only_needed(definitions.layouts, targets)
        names = {node_id: name for node_id, name in names.items() if node_id in work.steps}
    return StoredGraph(names, work, models_in(graph), fingerprint_of(graph))


async def steps_of(
    work: Workload, machine: Machine | None, targets: Collection[str] | None
) -> dict[str, int]:
    """Return the nodes that ComfyUI will execute, with the expected number of steps of each."""
    known = None if machine is None else machine.known_definitions
    count = partial(work.needed_steps, None if known is None else known.layouts, targets)
    return await asyncio.to_thread(count) if len(work.steps) > MANY_NODES else count()
