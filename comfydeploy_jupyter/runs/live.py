"""How far a run is: what its nodes do, and when that is worth an event."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..store.runs import RunRecord
    from .progress import NodeWork

LIVE_STEP = 0.01  # smallest change of the overall progress that is worth an event
DRIFT = 0.2, 2.0  # part of the time that is left, and s, by which it may be off until it is told
_NODE_STARTED = "running"
_NODE_FINISHED = "finished"


class NodeName(NamedTuple):
    """What a node is called.

    Attributes
    ----------
    title : str
        Its title, else its class.
    class_type : str or None
        Its class.
    """

    title: str
    class_type: str | None


class LiveStatus:
    """Follows the nodes of a run while it executes.

    Parameters
    ----------
    record : RunRecord
        Its ``node_times`` and ``node_steps`` are filled in.
    nodes : dict of str to NodeName
        The nodes of its graph.
    steps : mapping of str to int
        The nodes that will be executed, and how many steps each of them probably takes.
    """

    def __init__(
        self, record: RunRecord, nodes: dict[str, NodeName], steps: Mapping[str, int]
    ) -> None:
        self.current_node: str | None = None
        self._nodes = nodes
        self._times = record.node_times
        self._steps = record.node_steps
        self._progress = Progress(steps)
        self._started: dict[str, float] = {}
        self._told: tuple[float, float | None, float] = -1.0, None, 0.0

    def name(self, node: str) -> NodeName:
        """Return what to call a node; one that a node made while running goes by its maker's."""
        found = self._nodes.get(node) or self._nodes.get(node.split(".", 1)[0])
        return found or NodeName(f"node {node}", None)

    def learn(self, past: Sequence[Mapping[str, NodeWork]]) -> None:
        """Take in what the nodes did in earlier runs of the same workflow, the newest first."""
        self._progress.learn(past, time.monotonic())

    def restart(self) -> None:
        """Forget the progress of an attempt that ComfyUI did not live to finish."""
        self.current_node = None
        self._progress.restart(time.monotonic())
        self._started.clear()

    def skip(self, nodes: Iterable[str]) -> None:
        """Note that ComfyUI has the outputs of these nodes already."""
        self._progress.skip(list(nodes), time.monotonic())

    def start(self, node: str) -> None:
        """Note that ComfyUI executes a node now."""
        self.current_node = node
        self._progress.start(self._owner(node), time.monotonic())

    def step(self, node: str, data: dict[str, Any]) -> None:
        """Note ComfyUI's ``progress`` event of a node."""
        value, maximum = data.get("value"), data.get("max")
        if isinstance(value, (int, float)) and isinstance(maximum, (int, float)):
            with contextlib.suppress(OverflowError, ValueError):  # numbers that no node has
                value, steps = float(value), int(maximum)
                self._progress.step(self._owner(node), value, steps, time.monotonic())

    def note_states(self, states: object) -> None:
        """Note the states of nodes in ComfyUI's ``progress_state`` event."""
        if not isinstance(states, dict):
            return
        now = time.monotonic()
        for node, state in states.items():
            if not isinstance(state, dict) or node in self._times:
                continue
            if state.get("state") == _NODE_STARTED:
                self._started.setdefault(node, now)
                self._progress.start(node, now)
            elif state.get("state") == _NODE_FINISHED:
                self._end_node(node)

    def finish(self, node: str) -> None:
        """Note that a node is done."""
        self._progress.finish(node)

    def stop(self) -> None:
        """Note that no node is executed any more."""
        for node in list(self._started):
            self._end_node(node)

    def read(self) -> dict[str, Any]:
        """Return how far the run is.

        Returns
        -------
        dict
            ``live_status`` (a line), ``progress`` (0 to 1), ``current_node`` and ``time_left`` (s,
            None while nobody knows).
        """
        now, node = time.monotonic(), self.current_node
        left = self._progress.seconds_left(now)
        return {
            "live_status": f"Executing {self.name(node).title}" if node else "Executing",
            "progress": round(self._progress.fraction(now), 4),
            "current_node": node,
            "time_left": None if left is None else round(left, 1),
        }

    def news(self, *, force: bool) -> dict[str, Any] | None:
        """Return how far the run is if that has changed since the last time, or by ``force``."""
        now = time.monotonic()
        if not force and self._progress.fraction(now) - self._told[0] < LIVE_STEP:
            return None
        live = self.read()
        self._told = live["progress"], live["time_left"], now
        return live

    def has_drifted(self) -> bool:
        """Return whether the time that is left is another one than those think who were told."""
        now = time.monotonic()
        _, told, at = self._told
        left = self._progress.seconds_left(now)
        if told is None or left is None:
            return told is not left
        return abs(told - (now - at) - left) > max(DRIFT[0] * left, DRIFT[1])

    def _owner(self, node: str) -> str:
        """Return the node of the graph that a node belongs to which was made while running."""
        return node if node in self._nodes else node.split(".", 1)[0]

    def _end_node(self, node: str) -> None:
        started = self._started.pop(node, None)
        if started is not None:
            self._times[node] = round(time.monotonic() - started, 4)
            steps = self._progress.steps_of(node)
            if any(steps):
                self._steps[node] = list(steps)
        self._progress.finish(node)
