"""The plan of a sweep: a workflow, its points, and the values that are the same at all points."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ...errors import InvalidRequestError
from ...graphs.inputs import apply_inputs
from ..graph import Source
from ..workflow import Workflow
from .grid import Grid
from .order import run_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ...graphs.external import Target
    from ..server import Server
    from .order import Order

AtOnce: TypeAlias = int | Literal["auto"]

ON_A_MACHINE = 2
"""Points that are queued at a time: while one runs the next one waits, so ComfyUI never idles."""

OF_A_POOL = 4
"""The same for each machine of a pool: two more wait in the queue of the pool. So a machine finds
a point of its branch there, also if this client is slow."""

MAX_AT_ONCE = 64
"""The most that a user may choose."""

MOST_OF_AUTO = 256
"""The most of "auto", which depends on the number of machines: each is a thread of the kernel."""


class Plan:
    """What a sweep runs. It does not change while the sweep runs.

    Parameters
    ----------
    server : Server
        The Jupyter server.
    workflow : Workflow
        The workflow; it is copied.
    grid : Grid
        The points; files in their values have been uploaded and replaced by their names.
    inputs : dict, optional
        Further inputs, which have the same values at all points.
    machine : str, optional
        The machine that runs the points.
    options : dict, optional
        Options of each run, as `Comfy.run` takes them.
    at_once : int or "auto"
        How many points are queued at a time, 1 to `MAX_AT_ONCE`.

    Attributes
    ----------
    source : Source
        The workflow as it is sent.

    Raises
    ------
    InvalidRequestError
        ``at_once`` is out of range.
    """

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
        self._sets_every_seed = self._has_no_input_called_seed()

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

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or fits inputs of several nodes.
        InvalidRequestError
            A seed is swept and the workflow has none.
        """
        # The graph is large and the values are few, so the graph is hashed once for all points
        # that set the same inputs.
        hashed: dict[frozenset[str], tuple[str, dict[str, str]]] = {}
        keys = []
        for point in self.grid.points:
            names = frozenset(point)
            if names not in hashed:
                hashed[names] = self._hash_without_values(point)
            graph_hash, targets = hashed[names]
            inputs = self.inputs_at(point)
            values = {target: inputs[name] for target, name in targets.items()}
            keys.append(digest([graph_hash, values]))
        return keys

    def division(self, machines: int) -> tuple[int, int]:
        """Return among how many machines points are divided, and how many are queued at a time.

        Parameters
        ----------
        machines : int
            The number of machines that execute the points.
        """
        if self.at_once != "auto":
            return min(machines, self.at_once), self.at_once
        machines = min(machines, MOST_OF_AUTO)
        each = ON_A_MACHINE if machines == 1 else min(OF_A_POOL, MOST_OF_AUTO // machines)
        return machines, machines * each

    def in_run_order(self, points: Sequence[Mapping[str, Any]]) -> Order:
        """Return the order of points in which ComfyUI executes the fewest nodes."""
        targets = {
            name: {node_id for node_id, _ in found} for name, found in self.targets(points).items()
        }
        return run_order(points, self.source.graph or {}, targets)

    def targets(self, points: Sequence[Mapping[str, Any]]) -> dict[str, list[Target]]:
        """Return for each swept name the inputs of the graph that it sets."""
        graph = self.source.graph or {}
        targets: dict[str, dict[Target, None]] = defaultdict(dict)
        for point in {frozenset(point): point for point in points}.values():
            set_by = {key: name for name in point for key in self._keys_of(name, point)}
            for target, key in apply_inputs(graph, self.inputs_at(point)).given.items():
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
        """Return the plan that `to_json` returned.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            `to_json` did not return this.
        """
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

    def _keys_of(self, name: str, point: Mapping[str, Any]) -> Iterable[str]:
        """Return the keys of ``inputs`` that a swept input sets."""
        if name == "seed" and self._sets_every_seed:
            return self.source.seed_inputs(point["seed"])
        return (name,)

    def _has_no_input_called_seed(self) -> bool:
        """Return whether ``seed`` is swept and means every seed, since no input has that name."""
        if not any("seed" in point for point in self.grid.points):
            return False
        return bool(apply_inputs(self.source.graph or {}, {"seed": 0}, strict=False).unknown)

    def _hash_without_values(self, point: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """Return the hash of the graph without the inputs that are set, and where those are.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or fits inputs of several nodes.
        """
        applied = apply_inputs(self.source.graph or {}, self.inputs_at(point))
        for node_id, name in applied.given:
            applied.graph[node_id]["inputs"][name] = None
        targets = {f"{node_id}.{name}": key for (node_id, name), key in applied.given.items()}
        return digest(applied.graph), targets


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
