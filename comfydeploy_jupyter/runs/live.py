"""The progress of a run: the states of its nodes, and when a change is worth an event."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..graphs.formats import node_label
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .progress import NodeWork
    from .records import RunRecord

LIVE_STEP = 0.01  # smallest change of the overall progress that is worth an event
DRIFT = 0.2, 2.0  # relative and absolute (s) error of the reported time left that is tolerated
_NODE_STARTED = "running"
_NODE_FINISHED = "finished"


class NodeName(NamedTuple):
    """The name of a node.

    Attributes
    ----------
    title : str
        The title of the node, else its class.
    class_type : str or None
        The class of the node.
    """

    title: str
    class_type: str | None


def name_in(nodes: Mapping[str, NodeName], node: str) -> NodeName | None:
    """Return the name of a node; for one created at run time, the name of its creator."""
    return nodes.get(node) or nodes.get(node.split(".", 1)[0])


class LiveStatus:
    """Follows the nodes of a run while it executes.

    Parameters
    ----------
    record : RunRecord
        The record of the run; its ``node_times`` and ``node_steps`` are filled in.
    nodes : dict of str to NodeName
        The nodes of the run's graph.
    steps : mapping of str to int
        The nodes that will be executed, with the expected number of steps of each.
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
        self._stopped_at: tuple[dict[str, Any], tuple[int, int]] | None = None
        self._last_news: tuple[float, float | None, float] = -1.0, None, 0.0

    def name(self, node: str) -> NodeName:
        """Return the name of a node; for one created at run time, the name of its creator."""
        return name_in(self._nodes, node) or NodeName(f"node {node}", None)

    def label(self, node: str, class_type: str) -> str:
        """Return the name of a node in messages: `node_label`."""
        known = self._nodes.get(node, NodeName("", class_type))
        return node_label(node, known.class_type or "", known.title, unique=self._is_unique(known))

    def title(self, node: str) -> str | None:
        """Return the title of a node; None if it has none, or another node has the same."""
        known = self._nodes.get(node)
        if known is None or known.title == known.class_type or not self._is_unique(known):
            return None
        return known.title

    def _is_unique(self, name: NodeName) -> bool:
        return sum(1 for other in self._nodes.values() if other.title == name.title) == 1

    def learn(self, past: Sequence[Mapping[str, NodeWork]]) -> None:
        """Use the work of the nodes in earlier runs of the same workflow, the newest first."""
        self._progress.learn(past, time.monotonic())

    def restart(self) -> None:
        """Reset the progress after an attempt during which ComfyUI exited."""
        self.current_node = None
        self._stopped_at = None
        self._progress.restart(time.monotonic())
        for before in (self._started, self._times, self._steps):
            before.clear()

    def skip(self, nodes: Iterable[str]) -> None:
        """Record that ComfyUI has the outputs of these nodes in its cache."""
        self._progress.skip(list(nodes), time.monotonic())

    def start(self, node: str) -> None:
        """Record that ComfyUI starts to execute a node."""
        self.current_node = node
        self._progress.start(self._owner(node), time.monotonic())

    def step(self, node: str, data: dict[str, Any]) -> None:
        """Handle ComfyUI's ``progress`` event of a node."""
        value, maximum = data.get("value"), data.get("max")
        if isinstance(value, (int, float)) and isinstance(maximum, (int, float)):
            with contextlib.suppress(OverflowError, ValueError):  # numbers without a meaning
                value, steps = float(value), int(maximum)
                self._progress.step(self._owner(node), value, steps, time.monotonic())

    def note_states(self, states: object) -> None:
        """Handle the states of nodes in ComfyUI's ``progress_state`` event."""
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
        """Record that the execution of a node has ended."""
        self._progress.finish(node)

    def stop(self) -> None:
        """Record that no node is executing any more; those that were are not done."""
        self._stopped_at = self.read(), self.nodes()
        for node in list(self._started):
            self._end_node(node)

    def read(self) -> dict[str, Any]:
        """Return the progress of the run.

        Returns
        -------
        dict
            ``live_status`` (one line), ``progress`` (0 to 1), ``current_node`` and ``time_left``
            (s, None if unknown).
        """
        if self._stopped_at is not None:
            return self._stopped_at[0]
        now, node = time.monotonic(), self.current_node
        left = self._progress.seconds_left(now)
        return {
            "live_status": f"Executing {self.name(node).title}" if node else "Executing",
            "progress": round(self._progress.fraction(now), 4),
            "current_node": node,
            "time_left": None if left is None else round(left, 1),
        }

    def nodes(self) -> tuple[int, int]:
        """Return the number of nodes that are done, and of all nodes."""
        return self._progress.nodes if self._stopped_at is None else self._stopped_at[1]

    def current_step(self) -> tuple[int, int] | None:
        """Return the step of the current node and its number of steps, if it has steps."""
        node = self.current_node
        return None if node is None else self._progress.step_of(self._owner(node))

    def news(self, *, force: bool) -> dict[str, Any] | None:
        """Return the progress of the run if it has changed enough, or by ``force``."""
        now = time.monotonic()
        if not force and self._progress.fraction(now) - self._last_news[0] < LIVE_STEP:
            return None
        live = self.read()
        self._last_news = live["progress"], live["time_left"], now
        return live

    def is_outdated(self) -> bool:
        """Return whether the time that is left differs too much from the last reported one."""
        now = time.monotonic()
        _, last, at = self._last_news
        left = self._progress.seconds_left(now)
        if last is None or left is None:
            return last is not left
        return abs(last - (now - at) - left) > max(DRIFT[0] * left, DRIFT[1])

    def _owner(self, node: str) -> str:
        """Return the node of the graph that created a node at run time."""
        return node if node in self._nodes else node.split(".", 1)[0]

    def _end_node(self, node: str) -> None:
        started = self._started.pop(node, None)
        if started is not None:
            self._times[node] = round(time.monotonic() - started, 4)
            steps = self._progress.steps_of(node)
            if any(steps):
                self._steps[node] = list(steps)
        self._progress.finish(node)
