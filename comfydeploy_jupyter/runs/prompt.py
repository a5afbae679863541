"""Turn the graph of a request into a prompt, as far as this does not need ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidRequestError
from ..graphs.consistency import check_consistency
from ..graphs.contract import check_inputs
from ..graphs.depth import check_depth
from ..graphs.external import EXTERNAL_PREFIX
from ..graphs.fingerprint import fingerprint_of
from ..graphs.formats import Graph, check_api_graph, detect_format, same_graph, title_of
from ..graphs.formats import GraphFormat as Format
from ..graphs.inputs import AppliedInputs, apply_inputs
from ..graphs.loaders import file_names_in, load_files
from ..graphs.model_files import models_in
from ..graphs.partial import check_nodes, only_what_is_needed
from ..graphs.replacements import BUNDLED as REPLACED
from ..graphs.seeds import SeedMode, Seeds, apply_seeds, needs_definitions
from ..graphs.structure import structure_of
from ..graphs.ui_to_api import ui_to_api
from ..graphs.workload import Workload, workload
from ..util.json_stream import dumps
from .live import NodeName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..comfyui.definitions import DefinitionSet
    from ..graphs.definitions import NodeDefinitions
    from ..graphs.formats import Definitions
    from ..schemas import RunRequest

LONGEST_INPUT = 20_000  # characters of an input that is stored; longer ones are file contents


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
        The names of the nodes.
    workload : Workload
        The dependencies of the nodes, and their numbers of steps.
    seeds, next_seeds : dict of str to int
        The seeds in the prompt, and the seeds that ComfyUI's editor would show next.
    warnings : list of str
        What was lost in the conversion from UI format.
    structure : str
        Identifies the workflow independently of its values: `structure_of` the given graph.
    inputs : dict
        The inputs that the request gives by name, without those as long as files.
    targets : list of str or None
        The output nodes that ComfyUI is asked to execute; None means all in the graph.
    models : frozenset of str
        The model files that the prompt names.
    fingerprint : bytes
        The hashes of its nodes: `fingerprint_of`.
    files : tuple of str
        The files that were put into the input folder of the machine for this run.
    file_names : frozenset of str
        The texts in the prompt that may name input files.
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
    models: frozenset[str] = frozenset()
    fingerprint: bytes = b""
    files: tuple[str, ...] = ()
    file_names: frozenset[str] = frozenset()


class Chosen(NamedTuple):
    """A graph with its inputs set; its seeds and external-input nodes are not processed yet."""

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
        """Whether new seeds will be drawn, which have to be in the range of their nodes."""
        applied = self.applied
        return needs_definitions(applied.graph, self.mode, given=applied.given, ui=self.ui)

    @property
    def has_external(self) -> bool:
        """Whether the graph has external-input nodes."""
        nodes = self.applied.graph.values()
        return any(str(node.get("class_type")).startswith(EXTERNAL_PREFIX) for node in nodes)

    def settle_seeds(self, definitions: Definitions | None = None) -> Seeds:
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
    request: RunRequest,
    layouts: NodeDefinitions | None,
    known: DefinitionSet | None,
    *,
    cut: bool,
) -> Prepared | Chosen:
    """Do all steps that do not need ComfyUI in one call, since each thread call costs time.

    With ``known``, the definitions of the running ComfyUI, given values are checked as well.
    """
    definitions = None if known is None else known.object_info
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
    if known is not None and strict:
        check_inputs(graph, applied, definitions, known.rules)
    applied = load_files(applied, definitions)
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
        _remembered(request.inputs or {}),
        targets,
    )
    if chosen.draws_seeds or chosen.has_external:
        return chosen
    return encode(chosen, chosen.settle_seeds())


def _choose(
    request: RunRequest, layouts: NodeDefinitions | None
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
    if ui is not None and detect_format(ui, field="workflow") is Format.API:
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


def _with_inputs(graph: Graph) -> Graph:
    """Add an ``inputs`` object to each node without one.

    ComfyUI accepts a prompt in which a node that no output needs has none. Its worker thread then
    ends with an exception, and executes nothing until ComfyUI is restarted.
    """
    for node_id, node in graph.items():
        if not isinstance(node.get("inputs", {}), dict):
            raise InvalidRequestError(
                f"workflow_api: the inputs of node {node_id!r} must be a JSON object",
                details={"field": "workflow_api", "node_id": node_id},
            )
    return {node_id: {"inputs": {}, **_title(node), **node} for node_id, node in graph.items()}


def _title(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``_meta`` for a node whose class newer versions of ComfyUI replace.

    Without it ComfyUI 0.33 answers with status 500; ComfyUI's editor always sends one.
    """
    replaced = node.get("class_type") in REPLACED
    return {"_meta": {"title": node["class_type"]}} if replaced else {}


def node_names(graph: dict[str, Any]) -> dict[str, NodeName]:
    """Return the names of the nodes of a graph in API format."""
    names = {}
    for node_id, node in graph.items():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        known = class_type if isinstance(class_type, str) else None
        names[node_id] = NodeName(title_of(node) or known or f"node {node_id}", known)
    return names


def _remembered(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs without those that are as long as files."""
    return {
        key: value
        for key, value in inputs.items()
        if not isinstance(value, (str, list, dict)) or len(dumps(value)) <= LONGEST_INPUT
    }


def encode(chosen: Chosen, seeds: Seeds) -> Prepared:
    """Return the prompt of a graph with its final seeds."""
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
        models=models_in(seeds.graph),
        fingerprint=fingerprint_of(seeds.graph),
        file_names=file_names_in(seeds.graph),
    )
