"""What a batch runs: its points, whether their values can be right, and their cheapest order.

All of this is pure. `plan` is called once for a batch, for a large one in a worker process: its
result is text that is put into the store as it is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import defaultdict
from contextlib import suppress
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ComfyDeployError, InvalidRequestError, UnknownInputError
from ..graphs.definitions import DYNAMIC_COMBO, ROWS, NodeDefinitions
from ..graphs.dependencies import (
    check_depth,
    check_nodes,
    executed_anew,
    nodes_behind,
    readers_of,
    structure_of,
)
from ..graphs.formats import END, START, check_api_graph, class_of, inputs_of, label_of
from ..graphs.given import choose, with_inputs
from ..graphs.inputs import (
    EACH,
    MAX_POINTS,
    OUTPUT,
    VARY,
    WITH,
    InputNames,
    ValueChecks,
    apply_inputs,
    check_inputs,
    given_fields,
    marked_kinds,
)
from ..graphs.loops import executions, loop_notices
from ..graphs.seeds import SEED_NAMES
from ..graphs.validation import is_missing, names_file, refusal, validate_prompt
from ..util.jsons import dumps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ..comfyui.definitions import DefinitionSet
    from ..graphs.formats import Graph
    from ..graphs.inputs import AppliedInputs
    from ..request_models import BatchRequest

MANY = 500  # points above which a plan is made in a worker process
MAX_WRONG = 100  # wrong points that an error lists
Point = dict[str, Any]  # the values by name
compact = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: texts may have half an emoji


class OpenValues(list[Any]):
    """Values of which only the last one is not known: it stands for any number of others."""


class Axis(NamedTuple):
    """Inputs that change together, and their values."""

    names: tuple[str, ...]
    values: list[tuple[Any, ...]]  # the values of these inputs at each position of the axis


class MissingFile(NamedTuple):
    """A file that is a value, and is not in the input folder."""

    name: str  # of the input
    value: str
    points: list[int]  # with this value; empty: it is the same at all points


class Plan(NamedTuple):
    """What is stored of a new batch."""

    graph: bytes | None  # in API format, as JSON; None if each point has its own
    workflow: bytes | None  # in the editor's format, as JSON
    inputs: dict[str, Any]  # the values that are the same at all points
    seeds: list[str]  # the inputs that `seed` sets
    points: bytes  # a JSON array: position, place, level, key, inputs and graph of each point
    total: int
    axes: bytes  # a JSON array: names and values; none if the points were given one by one
    names: list[str]  # of the inputs that vary
    notes: list[str]  # sentences on what to know before it runs
    structure: str  # `structure_of` the graph
    shared: bool  # whether points have work in common
    # Outputs of runs among the values, each once: the point (None: all), the name and the value
    outputs: Sequence[tuple[int | None, str, Any]] = ()
    kinds: Mapping[str, str] = {}  # of the inputs whose values are outputs of sources
    files: Sequence[MissingFile] = ()  # that the definitions do not list


def plan(
    request: BatchRequest, definitions: DefinitionSet | None, find_outputs: bool = True
) -> Plan:
    """Return the plan of a request; the error for wrong points names each by its number."""
    known = None if definitions is None else definitions.nodes
    live = known if definitions is not None and definitions.source == "live" else None
    if request.prompts is not None:
        return _plan_prompts(request, request.prompts, live)
    graph, ui, warnings = choose(request, known)
    graph = with_inputs(graph)
    if request.outputs is not None:
        check_nodes(graph, request.outputs, field="outputs")
    constant, axes, points = _expanded(request)
    seeds: list[str] = []
    if any("seed" in point for point in points) or "seed" in constant:
        seeds = _every_seed(graph)
    checker = _Checker(request, graph, constant, seeds, live)
    targets, keys = checker.check(points)
    anew = executed_anew(graph)
    notes = [*warnings]
    if {class_of(graph[node_id]) for node_id in anew} - {START, END}:
        notes.append("ComfyUI executes its loops anew at each point")
    settled = apply_inputs(graph, with_seeds(constant, seeds), strict=False).graph
    notes += [notice.rstrip(".") for notice in loop_notices(settled)]
    order = _order(request, points, graph, targets)
    return Plan(
        graph=dumps(graph).encode(),
        workflow=None if ui is None else dumps(ui).encode(),
        inputs=constant,
        seeds=seeds,
        points=_rows(points, keys, order),
        total=len(points),
        axes=dumps([{"names": axis.names, "values": axis.values} for axis in axes]).encode(),
        names=list(dict.fromkeys(chain.from_iterable(points))),
        notes=notes,
        structure=structure_of(graph),
        shared=bool(order.levels),
        outputs=_outputs(constant, points) if find_outputs else [],
        kinds={name: checker.kinds.get(name, "") for axis in axes for name in axis.names},
        files=[MissingFile(*each, numbers) for each, numbers in checker.files.items()],
    )


def count_of(request: BatchRequest) -> int:
    """Return how many points a request has, without making them; raise if there are too many."""
    for name in ("points", "prompts"):
        if (listed := getattr(request, name)) is not None:
            if not listed:
                raise InvalidRequestError.of_field(name, "is an empty list")
            _check_count(len(listed), name)
            return len(listed)
    axes = _axes({n: v for n, v in (request.inputs or {}).items() if _is_varied(v)})
    count = math.prod(len(axis.values) for axis in axes)
    _check_count(count, "inputs")
    return count


def with_seeds(inputs: Mapping[str, Any], seeds: Sequence[str]) -> dict[str, Any]:
    """Return inputs of which ``seed`` sets each of some inputs that have no value of their own."""
    if not seeds or "seed" not in inputs:
        return dict(inputs)
    rest = {name: value for name, value in inputs.items() if name != "seed"}
    return {**dict.fromkeys(seeds, inputs["seed"]), **rest}


# -- points ------------------------------------------------------------------------------------


def _expanded(request: BatchRequest) -> tuple[dict[str, Any], list[Axis], list[Point]]:
    """Return the constant inputs, the axes and the points of a request."""
    inputs = request.inputs or {}
    varied = {name: value for name, value in inputs.items() if _is_varied(value)}
    constant = {name: value for name, value in inputs.items() if name not in varied}
    if request.points is not None:
        if varied:
            name, value = next(iter(varied.items()))
            text = f"has {_key_of(value)!r} although points are given"
            raise InvalidRequestError.of_field(f"inputs.{name}", text)
        for number, point in enumerate(request.points):
            if not isinstance(point, dict):
                raise InvalidRequestError.of_field(f"points[{number}]", "must be an object")
            for name, value in point.items():
                if _is_varied(value):
                    text = f"has {_key_of(value)!r}, which is for inputs"
                    raise InvalidRequestError.of_field(f"points[{number}].{name}", text)
        return constant, [], request.points
    if not varied:
        text = 'has no input with several values: write {"$vary": […]}, or give points or prompts'
        raise InvalidRequestError.of_field("inputs", text)
    axes = _axes(varied)
    names = [name for axis in axes for name in axis.names]
    rows = itertools.product(*(axis.values for axis in axes))
    points = [dict(zip(names, chain.from_iterable(row), strict=True)) for row in rows]
    return constant, axes, points


def _is_varied(value: object) -> bool:
    return isinstance(value, dict) and (VARY in value or EACH in value)


def _key_of(value: Mapping[str, Any]) -> str:
    return VARY if VARY in value else EACH


def _check_count(count: int, field: str) -> None:
    if count > MAX_POINTS:
        text = f"have {count} points; a batch has at most {MAX_POINTS}"
        raise InvalidRequestError.of_field(field, text, points=count)


def _axes(varied: Mapping[str, dict[str, Any]]) -> list[Axis]:
    together: dict[str, dict[str, list[Any]]] = {}
    for name, value in varied.items():
        field, key, partner = f"inputs.{name}", _key_of(value), value.get(WITH)
        values = value[key]
        if not isinstance(values, list) or (not values and key == VARY):
            raise InvalidRequestError.of_field(field, f"{key} must be a list with values")
        if further := value.keys() - {key, WITH}:
            text = f"has {min(further)!r} besides {key!r}"
            raise InvalidRequestError.of_field(field, text)
        known = partner is None or (isinstance(partner, str) and partner in varied)
        if not known or partner == name:
            text = f"{WITH} must name another input with {VARY!r} or {EACH!r}"
            raise InvalidRequestError.of_field(field, text)
        together.setdefault(_first_of(name, varied), {})[name] = values
    return [Axis(tuple(group), _rows_of(group)) for group in together.values()]


def _rows_of(group: Mapping[str, list[Any]]) -> list[tuple[Any, ...]]:
    """Return the values of inputs that change together, at each position."""
    counts = {name: len(v) for name, v in group.items() if not isinstance(v, OpenValues)}
    leader, count = next(iter(counts.items()), ("", max(map(len, group.values()))))
    for name, values in group.items():
        least = len(values) - isinstance(values, OpenValues)
        if leader and (least > count or (name in counts and least < count)):
            own = f"{'at least ' * (name not in counts)}{least} value{'s' * (least != 1)}"
            text = f"has {own}, and {leader!r}, with which it changes, has {count}"
            raise InvalidRequestError.of_field(f"inputs.{name}", text)
    columns = [[*v, *v[-1:] * (count - len(v))][:count] for v in group.values()]
    return list(zip(*columns, strict=True))


def _first_of(name: str, varied: Mapping[str, dict[str, Any]]) -> str:
    """Return the input that stands for all that change together."""
    seen = [name]
    while isinstance(partner := varied[seen[-1]].get(WITH), str) and partner in varied:
        if partner in seen:  # they name each other
            return min(seen[seen.index(partner) :])
        seen.append(partner)
    return seen[-1]


def _every_seed(graph: Graph) -> list[str]:
    """Return the inputs that ``seed`` means; none if exactly one input has this name."""
    names = InputNames(graph)
    if "seed" in names.external or len(names.find("seed")) == 1:
        return []
    return [
        f"{node_id}.{name}"
        for node_id, node in graph.items()
        for name in SEED_NAMES
        if isinstance(inputs_of(node).get(name), int)
    ]


def _outputs(constant: Point, points: list[Point]) -> list[tuple[int | None, str, Any]]:
    found: dict[tuple[str, str], tuple[int | None, str, Any]] = {}
    for number, values in chain([(None, constant)], enumerate(points)):
        for name, value in values.items():
            if isinstance(value, (dict, list)) and f'"{OUTPUT}"' in (text := compact(value)):
                found.setdefault((name, text), (number, name, value))
    return [*found.values()]


# -- the check of all names and values ----------------------------------------------------------


class _Checker:
    """Checks the points of a request, and finds out which are equal.

    Points with the same names set the same inputs. So the names are looked up once for them, and
    each of their values is compared with the contract of its input. Only if something may be wrong,
    or a value brings further inputs, the whole point is checked as that of a run.
    """

    def __init__(
        self,
        request: BatchRequest,
        graph: Graph,
        constant: dict[str, Any],
        seeds: list[str],
        live: NodeDefinitions | None,
    ) -> None:
        self._request = request
        self._graph = graph
        self._constant = constant
        self._seeds = seeds
        self._live = live
        strict = request.strict_inputs
        self._strict = not request.node_form if strict is None else strict
        self._wrong: list[dict[str, Any]] = []
        self._count = 0
        self.kinds: dict[str, str] = {}  # of inputs whose values are outputs of runs
        self.files: dict[tuple[str, str], list[int]] = {}  # points by missing files
        self._missing: dict[str, bool] = {}

    def check(self, points: list[Point]) -> tuple[dict[str, set[str]], list[str]]:
        """Return the nodes that each varied name sets, and the key of each point."""
        nodes: dict[str, set[str]] = defaultdict(set)
        keys: list[str] = [""] * len(points)
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, point in enumerate(points):
            groups[tuple(point)].append(number)
        for members in groups.values():
            for name, found in self._group(points, members, keys).items():
                nodes[name] |= found
        if self._wrong:
            raise wrong_points(self._wrong, self._count)
        return nodes, keys

    def _group(
        self, points: list[Point], members: list[int], keys: list[str]
    ) -> dict[str, set[str]]:
        """Check points with the same names; set their keys; return the nodes of each name."""
        first_named = points[members[0]]
        graph, first = self._graph, self._inputs(first_named)
        try:
            applied = apply_inputs(graph, first, strict=False, definitions=self._live)
            dynamic = self._is_dynamic(applied, first_named)
        except ComfyDeployError:  # such as rows that are none
            applied, dynamic = apply_inputs(graph, first, strict=False), True
        if applied.unknown and self._strict and not dynamic:
            try:
                apply_inputs(graph, first, definitions=self._live)
            except UnknownInputError as error:
                if self._request.points is None:
                    raise
                for number in members:
                    self._note(number, error)
                return {}
        for number in members if dynamic else self._suspects(points, members, applied):
            try:
                whole = self._check(self._inputs(points[number]))
            except ComfyDeployError as error:
                self._note(number, error)
            else:
                keys[number] = digest([whole, self._request.outputs]) if dynamic else ""
        self._find_files(points, members, applied)
        base, targets = applied.graph, defaultdict(list)
        for (node_id, name), key in applied.given.items():
            targets[key].append(f"{node_id}.{name}")
            inputs_of(base[node_id]).pop(name, None)
        start = digest([base, self._request.outputs])
        random = self._request.seed_mode in ("auto", "random") or self._request.node_form
        for number in members:
            inputs = self._inputs(points[number])
            values = {
                targets[name][0] if len(targets[name]) == 1 else name: value
                for name, value in inputs.items()
            }
            key = keys[number] or digest([start, values])
            keys[number] = digest([key, number]) if random else key
        return {
            name: {
                node_id
                for (node_id, _), key in applied.given.items()
                if key == name or (name == "seed" and key in self._seeds and key not in first_named)
            }
            for name in first_named
        }

    def _find_files(self, points: list[Point], members: list[int], applied: AppliedInputs) -> None:
        """Note the points with files that the definitions do not list."""
        live = self._live
        if live is None:
            return
        keys = dict.fromkeys(
            key
            for (node_id, name), key in applied.given.items()
            if (node := live.get(class_of(applied.graph[node_id]))) and names_file(node, name)
        )
        for key in keys:
            if key in points[members[0]]:
                for number in members:
                    if self._is_missing(value := points[number][key]):
                        self.files.setdefault((key, value), []).append(number)
            elif self._is_missing(value := self._constant.get(key, "")):
                self.files.setdefault((key, value), [])

    def _is_missing(self, value: Any) -> bool:
        if not isinstance(value, str) or self._live is None:
            return False
        if value not in self._missing:
            self._missing[value] = is_missing(value, self._live)
        return self._missing[value]

    def _inputs(self, point: Point) -> dict[str, Any]:
        return with_seeds({**self._constant, **point}, self._seeds)

    def _note(self, number: int, error: ComfyDeployError) -> None:
        self._count += 1
        if len(self._wrong) < MAX_WRONG or number < self._wrong[-1]["point"]:
            field = error.details.get("field")
            self._wrong.append({"point": number, "field": field, "problem": error.message})

    def _check(self, inputs: dict[str, Any]) -> Graph:
        """Check one point as its run would be; return its graph."""
        live = self._live
        marks: dict[str, str] = {}
        marked = {name: _marked(value, name, marks) for name, value in inputs.items()}
        applied = apply_inputs(self._graph, marked, strict=self._strict, definitions=live)
        kinds = marked_kinds(applied, live)
        self.kinds |= {name: kinds[mark] for mark, name in marks.items() if mark in kinds}
        if live is not None and self._strict:
            check_inputs(self._graph, applied, live)
        check_depth(applied.graph, None)
        return applied.graph

    def _passes(self, point: Point) -> bool:
        with suppress(ComfyDeployError):
            self._check(self._inputs(point))
            return True
        return False

    def _is_dynamic(self, applied: AppliedInputs, names: Collection[str]) -> bool:
        """Return whether a value may bring further inputs, or is put into a node otherwise."""
        if any(name in applied.names.external for name in names):
            return True
        for (node_id, target), key in applied.given.items():
            declared = applied.names.declared(node_id)(target)
            own = key in names or (key in self._seeds and "seed" in names)
            if own and declared is not None and declared.type in (DYNAMIC_COMBO, ROWS):
                return True
        return False

    def _suspects(
        self, points: list[Point], members: list[int], applied: AppliedInputs
    ) -> list[int]:
        """Return the points that may be wrong, and the first one."""
        live, fields = self._live, {}
        if live is not None:
            found = given_fields(self._graph, applied, live)
            fields = {key: field for field, key in found}
        checks = None if live is None else ValueChecks(applied.graph, live)
        problems: dict[tuple[str, type, Any], bool] = {}
        suspects = [members[0]]
        # of these inputs, the contract of plain values is not known yet
        unlike = {
            name
            for name, value in points[members[0]].items()
            if value is None or isinstance(value, (dict, list))
        }
        for number in members[1:]:
            for name, value in points[number].items():
                if isinstance(value, dict) and OUTPUT in value:  # all have the same problem
                    known = (name, dict, OUTPUT)
                    if known not in problems:
                        problems[known] = not self._passes(points[number])
                elif name in unlike or value is None or isinstance(value, (dict, list)):
                    suspects.append(number)
                    break
                elif (known := (name, type(value), value)) not in problems:
                    keys = self._seeds if name == "seed" and self._seeds else [name]
                    problems[known] = checks is not None and any(
                        checks.problem(fields[key], value) is not None
                        for key in keys
                        if key in fields
                    )
                if problems[known]:
                    suspects.append(number)
                    break
        return suspects


def wrong_points(
    wrong: list[dict[str, Any]], count: int, noun: str = "point"
) -> InvalidRequestError:
    """Return the error for wrong points, of which it lists the first ones; ``count`` of all."""
    wrong.sort(key=lambda each: each["point"])
    first, more = wrong[0], count - 1
    where = f"point {first['point']}" if noun == "point" else first["field"]
    return InvalidRequestError(
        f"{where}: {first['problem']}"
        + (f" ({more} more {noun}{'s are' if more > 1 else ' is'} wrong)" * (more > 0)),
        details={"field": first["field"], "points": wrong[:MAX_WRONG], "wrong": count},
    )


def _marked(value: Any, name: str, marks: dict[str, str]) -> Any:
    """Return the value of an input with a mark for each output of a run, as its graph has it."""
    if isinstance(value, list):
        return [_marked(each, name, marks) for each in value]
    if not isinstance(value, dict):
        return value
    if several := value.keys() & {EACH, VARY}:
        text = f"has {min(several)!r} inside another value"
        raise InvalidRequestError.of_field(f"inputs.{name}", text)
    if OUTPUT not in value:
        return {key: _marked(each, name, marks) for key, each in value.items()}
    mark = f"{OUTPUT}-{digest(value)}"
    marks[mark] = name
    return mark


def digest(value: object) -> str:
    """Return a hash of a value's JSON, 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


# -- prompts -----------------------------------------------------------------------------------


def _plan_prompts(
    request: BatchRequest, prompts: list[dict[str, Any]], live: NodeDefinitions | None
) -> Plan:
    """Return the plan of a list of graphs; their points have the values in which they differ."""
    graphs: list[Graph] = []
    wrong: list[dict[str, Any]] = []
    verdicts: dict[str, str | None] = {}
    keys = []
    for number, prompt in enumerate(prompts):
        field, problem = f"prompts[{number}]", None
        try:
            graph = with_inputs(check_api_graph(prompt, field=field))
            if request.outputs is not None:
                check_nodes(graph, request.outputs, field=field)
            check_depth(graph, None)
            key = digest([graph, request.outputs])
            if key not in verdicts:
                verdicts[key] = None if live is None else _refused(graph, live)
            problem = verdicts[key]
        except ComfyDeployError as error:
            graph, key, problem = {}, "", error.message.removeprefix(f"{field}: ")
        graphs.append(graph)
        random = request.seed_mode in ("auto", "random")
        keys.append(digest([key, number]) if random else key)
        if problem is not None:
            wrong.append({"point": number, "field": field, "problem": problem})
    if wrong:
        raise wrong_points(wrong, len(wrong), "prompt")
    points: list[Point] = [{} for _ in graphs]
    by_structure: dict[str, list[int]] = defaultdict(list)
    for number, graph in enumerate(graphs):
        by_structure[structure_of(graph)].append(number)
    indexes: list[int] = []
    levels: list[int] = []
    for members in by_structure.values():
        differing = _differing([graphs[number] for number in members])
        for number in members:
            points[number] = {
                f"{node_id}.{name}": inputs_of(graphs[number][node_id]).get(name)
                for node_id, name in differing
            }
        targets = {f"{node_id}.{name}": {node_id} for node_id, name in differing}
        own = [points[number] for number in members]
        order = _order(request, own, graphs[members[0]], targets)
        indexes += [members[index] for index in order.indexes]
        levels += order.levels or [0] * len(members)
    if request.order == "given":
        indexes, levels = list(range(len(graphs))), []
    return Plan(
        graph=None,
        workflow=None,
        inputs={},
        seeds=[],
        points=_rows(points, keys, Order(indexes, levels), graphs),
        total=len(graphs),
        axes=b"[]",
        names=list(dict.fromkeys(chain.from_iterable(points))),
        notes=[],
        structure=next(iter(by_structure)) if len(by_structure) == 1 else "",
        shared=any(levels),
    )


def _refused(graph: Graph, live: NodeDefinitions) -> str | None:
    """Return why ComfyUI would refuse a graph, or None."""
    found = validate_prompt(graph, live)
    if found.error is None:
        return None
    return refusal(found.error, found.node_errors, lambda node_id, _: label_of(graph, node_id))


def _differing(graphs: list[Graph]) -> list[tuple[str, str]]:
    """Return the inputs in which graphs of one structure differ."""
    found: dict[tuple[str, str], None] = {}
    first = graphs[0]
    for graph in graphs[1:]:
        for node_id, node in graph.items():
            own, other = inputs_of(node), inputs_of(first[node_id])
            if own != other:
                for name in own.keys() | other.keys():
                    if own.get(name) != other.get(name):
                        found[node_id, name] = None
    return sorted(found)


# -- the order ---------------------------------------------------------------------------------


class Order(NamedTuple):
    """The order in which points run."""

    indexes: list[int]  # the indexes of the points
    # for each of them, the first input that has another value than at the point before, among
    # all varied inputs in the order in which they change; 0 changes least often. Empty if the
    # points have no work in common
    levels: list[int]


def _order(
    request: BatchRequest,
    points: Sequence[Point],
    graph: Graph,
    targets: Mapping[str, Collection[str]],
) -> Order:
    if request.order == "given":
        return Order(list(range(len(points))), [])
    return run_order(points, graph, targets)


def run_order(
    points: Sequence[Mapping[str, Any]],
    graph: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Collection[str]],
) -> Order:
    """Return the order in which points share as much work as possible with the one before.

    The input that most nodes depend on changes least often. Each time that it changes, the others
    go back through their values from the last one to the first, so that these stay the same. Nodes
    that ComfyUI executes at each point, as in loops, do not count.
    """
    readers = readers_of(graph)
    names = list(dict.fromkeys(chain.from_iterable(points)))
    anew, counts = executed_anew(graph), executions(graph)
    dependents = {
        name: frozenset(nodes_behind(targets.get(name, ()), readers) - anew) for name in names
    }
    if len(set(dependents.values())) < 2:
        return Order(list(range(len(points))), [])
    work = {
        name: sum(counts.get(node_id, 1) for node_id in found) for name, found in dependents.items()
    }
    names.sort(key=work.__getitem__, reverse=True)
    indexes = _back_and_forth(points, names)
    levels = [0]
    for before, after in pairwise(points[index] for index in indexes):
        changed = (before.get(name) != after.get(name) for name in names)
        levels.append(next((level for level, has in enumerate(changed) if has), len(names)))
    return Order(indexes, levels)


def _back_and_forth(points: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[int]:
    """Sort points by the values of their inputs, of which the last one changes most often."""
    groups = [list(range(len(points)))]
    for name in names:
        split: list[list[int]] = []
        for group in groups:
            by_value: dict[str, list[int]] = {}
            for index in group:
                by_value.setdefault(repr(points[index].get(name)), []).append(index)
            if split:  # begin with the value that the group before has ended with
                last = repr(points[split[-1][0]].get(name))
                if last in by_value:
                    by_value = {last: by_value.pop(last), **by_value}
            split += by_value.values()
        groups = split
    return list(chain.from_iterable(groups))


def _rows(
    points: Sequence[Point], keys: Sequence[str], order: Order, graphs: Sequence[Graph] = ()
) -> bytes:
    """Return the rows of points as a JSON array, which SQLite itself reads."""
    levels = order.levels or [0] * len(points)
    rows = (
        dumps(
            [
                *(position, place, level, keys[position], compact(points[position])),
                dumps(graphs[position]) if graphs else None,
            ]
        )
        for place, (position, level) in enumerate(zip(order.indexes, levels, strict=True))
    )
    return f"[{','.join(rows)}]".encode()
