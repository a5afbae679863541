"""What a sweep runs: its grid of points, and the order in which they share work."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from ...errors import InvalidRequestError
from ...graphs.definitions import AnyDefinitions, NodeDefinitions
from ...graphs.dependencies import executed_anew, nodes_behind, readers_of
from ...graphs.formats import END, START, class_of
from ...graphs.inputs import AppliedInputs, apply_inputs
from ...graphs.loops import executions, loop_notices
from ..graph import Source
from ..workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Collection

    from ...graphs.external import Target
    from ..server import Server


MAX_POINTS = 10_000
"""The most points of a sweep; more are likely a mistake, such as a range without an end."""

MAX_LABEL = 60
"""Longest text of a value in a label, characters."""

Points: TypeAlias = Mapping[Any, Iterable[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Axis:
    """One axis of a grid: inputs that change together, and their values."""

    names: tuple[str, ...]  # the names of the inputs
    values: tuple[tuple[Any, ...], ...]  # the values of these inputs at each position of the axis


@dataclass(frozen=True)
class Grid:
    """The points of a sweep, in the order in which they run."""

    axes: tuple[Axis, ...]  # empty where the points were given one by one
    # the values by input. Of a grid, the last axis changes fastest, as in nested loops
    points: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, points: Points | object) -> Grid:
        """Return the grid that the argument ``points`` of ``comfy.sweep`` describes."""
        if isinstance(points, Mapping):
            return cls.from_axes([_axis(key, values) for key, values in points.items()])
        if isinstance(points, (str, bytes)) or not isinstance(points, Iterable):
            raise InvalidRequestError.of_field(
                "points", "must be a dict of inputs to their values, or a list of dicts"
            )
        listed = _limited(points, "points")
        for number, point in enumerate(listed):
            if not isinstance(point, Mapping):
                raise InvalidRequestError.of_field(
                    f"points[{number}]", f"must be a dict, not a {type(point).__name__}"
                )
        return cls((), tuple({str(key): value for key, value in p.items()} for p in listed))

    @classmethod
    def from_axes(cls, axes: Iterable[Axis]) -> Grid:
        """Return the grid with every combination of the values on the axes."""
        axes = tuple(axes)
        names = [name for axis in axes for name in axis.names]
        if not names:
            raise InvalidRequestError.of_field("points", "are missing: no input has values")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidRequestError.of_field(f"points.{twice}", "is given twice")
        if math.prod(len(axis.values) for axis in axes) > MAX_POINTS:
            raise _too_many("points")
        rows = itertools.product(*(axis.values for axis in axes))
        points = (dict(zip(names, itertools.chain(*row), strict=True)) for row in rows)
        return cls(axes, tuple(points))

    def map(self, change: Callable[[Any], Any]) -> Grid:
        """Return the grid with each value replaced by ``change(value)``."""
        if self.axes:
            return self.from_axes(
                Axis(axis.names, tuple(tuple(map(change, row)) for row in axis.values))
                for axis in self.axes
            )
        return Grid(
            (), tuple({key: change(value) for key, value in p.items()} for p in self.points)
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        if self.axes:
            return {"axes": [{"names": axis.names, "values": axis.values} for axis in self.axes]}
        return {"points": self.points}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        """Return the grid that `to_json` returned."""
        if "axes" in data:
            return cls.from_axes(
                Axis(tuple(axis["names"]), tuple(map(tuple, axis["values"])))
                for axis in data["axes"]
            )
        return cls((), tuple(map(dict, data["points"])))


def value_text(value: Any) -> str:
    """Return a value as text on one line, shortened to `MAX_LABEL` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 2]} …"


def _axis(key: Any, values: Any) -> Axis:
    if isinstance(key, str):
        return Axis((key,), tuple((value,) for value in _values(key, values)))
    if not isinstance(key, tuple) or not key or not all(isinstance(name, str) for name in key):
        raise InvalidRequestError.of_field(
            "points", f"{key!r} must be the name of an input, or a tuple of names"
        )
    rows = []
    for row in _values(", ".join(key), values):
        if isinstance(row, (str, bytes)) or not isinstance(row, Sequence) or len(row) != len(key):
            raise InvalidRequestError.of_field(
                f"points.{', '.join(key)}", f"each value must have {len(key)} parts, not {row!r}"
            )
        rows.append(tuple(row))
    return Axis(key, tuple(rows))


def _values(name: str, values: Any) -> list[Any]:
    field = f"points.{name}"
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidRequestError.of_field(field, f"must be a list of values, not {values!r}")
    return _limited(values, field)


def _limited(values: Iterable[Any], field: str) -> list[Any]:
    found = list(itertools.islice(values, MAX_POINTS + 1))
    if not found:
        raise InvalidRequestError.of_field(field, "is empty")
    if len(found) > MAX_POINTS:
        raise _too_many(field)
    return found


def _too_many(field: str) -> InvalidRequestError:
    return InvalidRequestError.of_field(
        field, f"more than the {MAX_POINTS} points that a sweep can have"
    )


T = TypeVar("T")


class Order(NamedTuple):
    """The order of the points of a sweep."""

    indexes: list[int]  # the indexes of the points, in the order in which they run
    # for each of them, the first input that has another value than at the point before,
    # among all swept inputs in the order in which they change; 0 changes least often. Empty
    # if the points have no work in common
    levels: list[int]


def run_order(
    points: Sequence[Mapping[str, T]],
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
    indexes = _back_and_forth(list(range(len(points))), points, names)
    levels = [0]
    for before, after in pairwise(points[index] for index in indexes):
        changed = (before.get(name) != after.get(name) for name in names)
        levels.append(next((level for level, has in enumerate(changed) if has), len(names)))
    return Order(indexes, levels)


class Branches(Generic[T]):
    """Divides the points of a sweep among machines, so that each gets points with shared work.

    Each machine has a branch: points that follow each other in the order of `run_order`. When it
    has taken them all, it gets the last half of the longest other branch. Without `levels`, the
    points are not divided.
    """

    def __init__(self, items: Sequence[T], levels: Sequence[int], count: int) -> None:
        count = count if levels else 1
        pairs = zip(levels or [0] * len(items), items, strict=True)
        self._left = [deque(pairs), *(deque[tuple[int, T]]() for _ in range(count - 1))]
        self._taken = [0] * count  # how many points of each branch have not ended

    def __len__(self) -> int:
        return sum(map(len, self._left))

    def take(self) -> tuple[int, T] | None:
        """Return the branch with the fewest open items, and its next item; None at the end."""
        branch = self._taken.index(min(self._taken))
        if not self._left[branch]:
            longest = max(self._left, key=len)
            kept = _cut([level for level, _ in longest]) if longest else 0
            self._left[branch] = deque(list(longest)[kept:])
            for _ in self._left[branch]:
                longest.pop()
        if not self._left[branch]:
            return None
        self._taken[branch] += 1
        return branch, self._left[branch].popleft()[1]

    def ended(self, branch: int) -> None:
        """Record that an item of a branch has ended."""
        self._taken[branch] -= 1


def _cut(levels: Sequence[int]) -> int:
    """Return where to divide points: near the middle, where they have the least in common."""
    middle = len(levels) // 2
    near = range(middle - middle // 2, middle + middle // 2 + 1)
    return min(near, key=lambda index: (levels[index], abs(index - middle)))


def _back_and_forth(
    indexes: list[int], points: Sequence[Mapping[str, T]], names: Sequence[str]
) -> list[int]:
    """Sort points by the values of their inputs, of which the last one changes most often."""
    groups = [indexes]
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


AtOnce: TypeAlias = int | Literal["auto"]

ON_A_MACHINE = 2
"""Points that are queued at a time: while one runs the next one waits, so ComfyUI never idles."""

OF_A_POOL = 4
"""The same for each machine of a pool: two more wait in the queue of the pool. So a machine finds
a point of its branch there, also if this client is slow."""

MAX_AT_ONCE = 64
"""The most that a user may choose."""

MAX_AUTO = 256
"""The most of "auto", which depends on the number of machines: each is a thread of the kernel."""


class Plan:
    """What a sweep runs. It does not change while the sweep runs."""

    def __init__(
        self,
        server: Server,
        workflow: Workflow,
        grid: Grid,
        *,
        inputs: Mapping[str, Any] | None = None,
        machine: str | None = None,
        options: Mapping[str, Any] | None = None,
        at_once: AtOnce = "auto",
    ) -> None:
        if at_once != "auto" and at_once not in range(1, MAX_AT_ONCE + 1):
            raise InvalidRequestError.of_field(
                "at_once", f"must be from 1 to {MAX_AT_ONCE}, or 'auto'"
            )
        self.server = server
        self.workflow = Workflow(server, workflow)
        self.source = self.workflow.source
        self.grid = grid
        self.inputs = dict(inputs or {})
        self.machine = machine
        # Inputs that are not swept are the same at all points, so the editor's seed widgets,
        # which may draw new seeds, are ignored unless the user asks for them.
        self.options = {"seed_mode": "saved", **(options or {})}
        self.at_once = at_once
        # whether `seed` is swept and means every seed, since no input has that name
        swept = any("seed" in point for point in grid.points)
        self._sets_every_seed = swept and bool(
            apply_inputs(self.source.graph or {}, {"seed": 0}, strict=False).unknown
        )
        self._definitions: AnyDefinitions = None  # of ComfyUI, as soon as they are needed

    def _applied(self, inputs: Mapping[str, Any], *, strict: bool = True) -> AppliedInputs:
        """Return the graph with these inputs, which may also name what only definitions have."""
        graph = self.source.graph or {}
        if self._definitions is None:
            applied = apply_inputs(graph, inputs, strict=False)
            if not applied.unknown:
                return applied
            self._definitions = NodeDefinitions(self.workflow.definitions())
        return apply_inputs(graph, inputs, strict=strict, definitions=self._definitions)

    def inputs_at(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``inputs`` of the run at a point with these values."""
        inputs = {**self.inputs, **values}
        if self._sets_every_seed and "seed" in values:
            del inputs["seed"]
            inputs = {**self.source.seed_inputs(values["seed"]), **inputs}
        return inputs

    def keys(self) -> list[str]:
        """Return a key for each point; points that run the same graph have the same key.

        The key is a hash of the graph with the values of the point in it.
        """
        # The graph is large and the values are few, so the graph is hashed once for all points
        # that set the same inputs.
        hashed: dict[frozenset[str], tuple[str, dict[str, str]]] = {}
        keys = []
        for point in self.grid.points:
            names = frozenset(point)
            if any(map(_is_rows, point.values())):  # they replace other inputs at each point
                keys.append(digest(self._applied(self.inputs_at(point)).graph))
                continue
            if names not in hashed:
                hashed[names] = self._hash_without_values(point)
            graph_hash, targets = hashed[names]
            inputs = self.inputs_at(point)
            values = {target: inputs[name] for target, name in targets.items()}
            keys.append(digest([graph_hash, values]))
        return keys

    def division(self, machines: int) -> tuple[int, int]:
        """Return among how many machines points are divided, and how many are queued at a time."""
        if self.at_once != "auto":
            return min(machines, self.at_once), self.at_once
        machines = min(machines, MAX_AUTO)
        each = ON_A_MACHINE if machines == 1 else min(OF_A_POOL, MAX_AUTO // machines)
        return machines, machines * each

    def in_run_order(self, points: Sequence[Mapping[str, Any]]) -> Order:
        """Return the order of points in which ComfyUI executes the fewest nodes."""
        nodes = {name: [node for node, _ in found] for name, found in self.targets(points).items()}
        return run_order(points, self.source.graph or {}, nodes)

    @cached_property
    def notes(self) -> list[str]:
        """A sentence for each thing that people should know before it runs."""
        graph = self._applied(self.inputs, strict=False).graph
        anew = {class_of(graph[node_id]) for node_id in executed_anew(graph)} - {START, END}
        always = ["ComfyUI executes its loops anew at each point"] if anew else []
        return [*always, *(notice.rstrip(".") for notice in loop_notices(graph))]

    def work_at(self, values: Mapping[str, Any]) -> int:
        """Return how often the run at a point executes a node; 1 without loops."""
        graph = self.source.graph or {}
        if all(class_of(node) != START for node in graph.values()):
            return 1
        counts = executions(self._applied(self.inputs_at(values), strict=False).graph)
        return max(1, sum(counts.values()) + len(graph.keys() - counts.keys()))

    def targets(self, points: Sequence[Mapping[str, Any]]) -> dict[str, list[Target]]:
        """Return for each swept name the inputs of the graph that it sets."""
        targets: dict[str, dict[Target, None]] = defaultdict(dict)
        for point in {frozenset(point): point for point in points}.values():
            set_by: dict[str, str] = {}
            if self._sets_every_seed and "seed" in point:
                set_by = dict.fromkeys(self.source.seed_inputs(point["seed"]), "seed")
            set_by |= {name: name for name in point}  # a seed that is named has its own value
            for target, key in self._applied(self.inputs_at(point)).given.items():
                if key in set_by:
                    targets[set_by[key]][target] = None
        return {name: list(found) for name, found in targets.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "title": self.workflow.title,
            "workflow_api": self.source.graph,
            "workflow": self.source.ui,
            "inputs": self.inputs,
            "machine": self.machine,
            "options": self.options,
            "at_once": self.at_once,
            **self.grid.to_json(),
        }

    @classmethod
    def from_json(cls, server: Server, data: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_json` returned."""
        source = Source(data["workflow_api"], ui=data["workflow"])
        return cls(
            server,
            Workflow(server, source, title=str(data["title"])),
            Grid.from_json(data),
            inputs=data["inputs"],
            machine=data["machine"],
            options=data["options"],
            at_once=data["at_once"],
        )

    def _hash_without_values(self, point: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """Return the hash of the graph without the inputs that are set, and where those are."""
        applied = self._applied(self.inputs_at(point))
        for node_id, name in applied.given:
            applied.graph[node_id]["inputs"][name] = None
        targets = {f"{node_id}.{name}": key for (node_id, name), key in applied.given.items()}
        return digest(applied.graph), targets


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
