"""Progress and remaining time of a run, from its steps and the durations in earlier runs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..graphs.formats import START, node_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .records import RunRecord

LIGHT = 0.1  # share of a run for nodes without steps, if nothing is known about their durations
UNSEEN = 0.02  # share of a run for a node that no earlier run has executed
ON_TIME = 0.9  # largest part of a node or step that counts as done by elapsed time alone
LATE = 1.5  # multiple of the usual duration after which the remaining time is unknown
PACE_STEPS, PACE_SECONDS = 2, 0.5  # steps and seconds after which the pace of a node is known
RECENT = 3  # latest executions of a node from which its duration is estimated


class NodeWork(NamedTuple):
    seconds: float
    steps: int = 0  # in its first report; 0 without steps
    phases: int = 0  # times that its steps started again from the beginning
    predicted: int = 0  # steps expected from the graph; 0 if unknown


@dataclass(slots=True)
class _Node:
    """A node whose execution has not ended.

    ``fraction`` is the part of its present phase that is done, according to its steps.
    """

    steps: int
    predicted: int
    usual: NodeWork | None = None
    weight: float = 1.0
    started: float | None = None
    reported: int = 0
    phases: int = 0
    value: float = 0.0
    origin: float = 0.0  # value of the first step in the present phase
    begun: tuple[float, float] | None = None  # time and value of the first report of a step
    stepped: float = 0.0
    loops: bool = False  # whether its steps are iterations of a loop

    @property
    def follows_time(self) -> bool:
        """Whether elapsed time is a better measure than steps: no steps, or many phases."""
        usual = self.usual
        return usual is not None and (usual.phases > 1 or (not usual.phases and not self.phases))

    @property
    def usual_seconds(self) -> float | None:
        """The usual duration in seconds, scaled to the present number of steps."""
        usual = self.usual
        if usual is None:
            return None
        before, now = (
            (usual.steps, self.steps) if self.phases else (usual.predicted, self.predicted)
        )
        more = now / before if usual.phases == 1 and before and now else 1.0
        return usual.seconds * more

    def done(self, now: float) -> float:
        if self.started is None:
            return 0.0
        usual = self.usual_seconds
        if self.follows_time and usual is not None:
            part = (now - self.started) / max(usual, 1e-3)
            return part if part < ON_TIME else 1.0 - (1.0 - ON_TIME) * ON_TIME / part
        span = self.steps - self.origin
        if not self.phases:
            return 0.0
        part = 0.0
        pace = self.pace or (usual / self.steps if usual is not None else None)
        if pace is not None and self.value < self.steps:
            part = min((now - max(self.started, self.stepped)) / max(pace, 1e-6), ON_TIME)
        return min((self.value + part - self.origin) / span, 1.0) if span > 0 else 1.0

    @property
    def pace(self) -> float | None:
        """Seconds for one step; None if not known yet."""
        if self.begun is None or self.phases != 1:
            return None
        at, value = self.begun
        steps, seconds = self.value - value, self.stepped - at
        if self.loops and self.started is not None and not (steps and seconds >= PACE_SECONDS):
            steps, seconds = self.value, self.stepped - self.started  # with what is loaded first
        known = (self.loops or steps >= PACE_STEPS) and seconds >= PACE_SECONDS
        return seconds / steps if known else None


class Progress:
    """The progress of one run, which never decreases, and the remaining time.

    Each node that is still to be executed has a weight: its duration in earlier runs of the same
    workflow, else its number of steps. The progress is the done part of the sum of all weights.
    If a weight changes, or nodes need not be executed, the remaining part of the progress bar is
    distributed over the remaining weights: the bar continues from its present value.

    ``clock`` returns seconds. ``looped`` are nodes that are executed in loops, each with the node
    that starts the outermost one around it: the work on them is that of this node.
    """

    def __init__(
        self,
        steps: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
        looped: Mapping[str, str] | None = None,
    ) -> None:
        self.clock = clock
        self._looped = looped or {}
        self._predicted = dict(steps)
        self._steps = dict(steps)
        self._pace: float | None = None  # pace of the last node that reported steps
        self._usual: dict[str, NodeWork] = {}
        self._best = 0.0
        self.reset()

    def reset(self) -> None:
        """Record that no node has been executed; the bar keeps its value."""
        self._waiting = {
            node: _Node(steps, self._predicted[node], self._usual.get(node))
            for node, steps in self._steps.items()
        }
        self._running: dict[str, _Node] = {}
        self._base = self._best
        self._update_weights()

    def learn(self, past: Sequence[Mapping[str, NodeWork]]) -> None:
        """Use the work of the nodes in earlier runs of the same workflow, the newest first."""
        found: dict[str, list[NodeWork]] = {}
        for run in past:
            for node, work in run.items():
                if node in self._steps and len(found.setdefault(node, [])) < RECENT:
                    found[node].append(work)
        if not found:
            return
        self._base = self.fraction()
        for node, works in found.items():
            seconds = median(work.seconds for work in works)
            self._usual[node] = works[0]._replace(seconds=seconds)
        for node, left in (*self._waiting.items(), *self._running.items()):
            left.usual = self._usual.get(node)
        self._update_weights()

    def skip(self, nodes: Iterable[str]) -> None:
        """Remove nodes that need not be executed; the bar is distributed over the others."""
        self._base = self.fraction()
        for node in nodes:
            self._waiting.pop(node, None)
        self._update_weights()

    def begin(self, node: str) -> None:
        found = self._waiting.pop(node, None)
        if found is not None:
            found.started = self.clock()
            self._running[node] = found
            self._forget(found)

    def reach(self, node: str, value: float, steps: int, *, loops: bool = False) -> None:
        """Record the step or the iteration that a node has reached, and their number."""
        self.begin(node)
        found = self._running.get(node)
        if found is None or (steps < 2 and not loops):
            return
        value = min(max(value, 0.0), float(steps))
        if loops:  # what is between two loops in an iteration is no new beginning
            found.loops, value = True, max(value, found.value)
        again = value < found.value
        if not found.phases or again or steps != found.steps:
            self._base = self.fraction()
            if not found.phases or again:
                found.phases += 1
                found.begun, found.origin = None, 0.0
            else:
                found.origin = found.value
            found.reported = found.reported or steps
            found.steps = self._steps[node] = steps
            found.value = found.origin
            self._update_weights()
        now = self.clock()
        if found.begun is None and value > 0:
            found.begun = now, value
        if value > found.value:
            found.value, found.stepped = value, now

    def finish(self, node: str) -> None:
        found = self._waiting.pop(node, None)
        if found is not None:
            self._forget(found)
        found = self._running.pop(node, None)
        if found is not None:
            self._pace = (None if found.loops else found.pace) or self._pace

    def steps_of(self, node: str) -> tuple[int, int, int]:
        """Return ``steps``, ``phases`` and ``predicted`` of `NodeWork` for a running node."""
        found = self._running.get(node)
        return (0, 0, 0) if found is None else (found.reported, found.phases, found.predicted)

    def nodes(self) -> tuple[int, int]:
        """Return the number of nodes that are done, and of all nodes."""
        left = {*self._waiting, *self._running}
        done = sum(node not in left for node in (*self._steps, *self._looped.values()))
        return done, len(self._steps) + len(self._looped)

    def fraction(self) -> float:
        if self._whole > 0:
            done = 1.0 - self._outstanding() / self._whole
            self._best = max(self._best, min(self._base + (1.0 - self._base) * done, 1.0))
        elif self._steps:
            self._best = 1.0
        return self._best

    def seconds_left(self) -> float | None:
        """Return the expected remaining duration of the nodes, s; None if unknown."""
        if not (self._usual or self._waiting_steps or self._running):
            return None
        now = self.clock()
        running = [_seconds_left(node, now) for node in self._running.values()]
        known = [seconds for seconds in running if seconds is not None]
        if self._usual:
            if len(known) < len(running):
                return None
            return max(known, default=0.0) + max(self._waiting_weight, 0.0)
        paces = (node.pace for node in self._running.values() if not node.loops)
        pace = next(filter(None, paces), self._pace)
        if not (known or self._waiting_steps) or (pace is None and self._waiting_steps):
            return None
        return max(known, default=0.0) + self._waiting_steps * (pace or 0.0)

    def _outstanding(self) -> float:
        outstanding = max(self._waiting_weight, 0.0)
        now = self.clock() if self._running else 0.0
        for node in self._running.values():
            outstanding += node.weight * (1.0 - node.done(now))
        return outstanding

    def _update_weights(self) -> None:
        """Set the weights of all remaining nodes; the bar continues from its present value."""
        nodes = [*self._waiting.values(), *self._running.values()]
        if self._usual:
            seen = sum(work.seconds for work in self._usual.values())
            for node in nodes:
                usual = node.usual_seconds
                node.weight = max(UNSEEN * seen if usual is None else usual, 1e-6)
        else:
            total = sum(self._steps.values())
            light = sum(not steps for steps in self._steps.values())
            heavy = max(light, 1) * (1.0 - LIGHT) / LIGHT
            for node in nodes:
                node.weight = heavy * node.steps / total if node.steps else 1.0
        for node in self._running.values():
            if node.origin:
                node.weight *= 1.0 - node.origin / node.steps
        self._waiting_weight = sum(node.weight for node in self._waiting.values())
        self._waiting_steps = sum(node.steps for node in self._waiting.values())
        self._whole = self._outstanding()

    def _forget(self, node: _Node) -> None:
        """Subtract a node from the sums over the waiting nodes."""
        self._waiting_weight -= node.weight
        self._waiting_steps -= node.steps


def _seconds_left(node: _Node, now: float) -> float | None:
    """Return the remaining duration of an executing node in seconds, None if unknown."""
    pace, usual = node.pace, node.usual_seconds
    if pace is not None and not node.follows_time:
        left, waited = node.steps - node.value, now - node.stepped
        if node.loops and waited > LATE * pace + 1.0:
            return None
        return max(pace * left - waited, pace * max(left - 1, 0))
    if usual is None or node.started is None:
        return None
    left = usual - (now - node.started)
    return None if left < (1.0 - LATE) * usual - 1.0 else max(left, 0.0)


LIVE_STEP = 0.01  # smallest change of the overall progress that is worth an event
DRIFT = 0.2, 2.0  # relative and absolute (s) error of the reported time left that is tolerated
_NODE_STARTED = "running"
FINISHED = "finished"  # the state of a node in ``progress_state``


Iterations: TypeAlias = "dict[str, tuple[int, int]]"
"""By the node that starts a loop, innermost last: the iterations that ended, and their number."""


class NodeName(NamedTuple):
    title: str  # else its class
    class_type: str | None


def name_in(nodes: Mapping[str, NodeName], node: str) -> NodeName | None:
    """Return the name of a node; for one created at run time, the name of its creator."""
    return nodes.get(node) or nodes.get(node.split(".", 1)[0])


def label_in(nodes: Mapping[str, NodeName], node: str, class_type: str, title: str = "") -> str:
    """Return the `node_label` of a node; class and title are those of one that is not known."""
    known = name_in(nodes, node) or NodeName("", class_type)
    unique = bool(title) or _is_unique(nodes, known)
    return node_label(node, known.class_type or "", known.title or title, unique=unique)


def _is_unique(nodes: Mapping[str, NodeName], name: NodeName) -> bool:
    return sum(1 for other in nodes.values() if other.title == name.title) == 1


class LiveStatus(Progress):
    """Follows the nodes of a run while it executes; fills in times and steps in its record."""

    def __init__(
        self,
        record: RunRecord,
        nodes: dict[str, NodeName],
        steps: Mapping[str, int],
        looped: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(steps, looped=looped)
        self.current_node: str | None = None
        self._names = nodes
        self._times, self._works = record.node_times, record.node_steps
        self._started: dict[str, float] = {}
        self._iterations: Iterations = {}  # of the loops around the node that is executing
        self._outermost: set[str] = set()  # outermost loops that are executing
        self._step: tuple[int, int] | None = None  # of that node
        self._stopped_at: tuple[dict[str, Any], tuple[int, int]] | None = None
        self._last_news: tuple[float, float | None, float] = -1.0, None, 0.0

    def name(self, node: str) -> NodeName:
        """Return the name of a node; for one created at run time, the name of its creator."""
        return name_in(self._names, node) or NodeName(f"node {node}", None)

    def label(self, node: str, class_type: str) -> str:
        return label_in(self._names, node, class_type)

    def title(self, node: str) -> str | None:
        """Return the title of a node; None if it has none, or another node has the same."""
        known = self._names.get(node)
        if known is None or known.title == known.class_type or not _is_unique(self._names, known):
            return None
        return known.title

    def with_culprit(self, error: dict[str, Any]) -> dict[str, Any]:
        """Return the error of a run; that of a loop names the node in it that failed."""
        node = self.current_node
        if error.get("node_type") != START or node is None or node not in self._names:
            return error
        return {**error, "node_id": node, "node_type": self._names[node].class_type}

    def restart(self) -> None:
        """Reset the progress after an attempt during which ComfyUI exited."""
        self.current_node = None
        self._stopped_at = None
        self.reset()
        self._iterations, self._step = {}, None
        for before in (self._started, self._times, self._works, self._outermost):
            before.clear()

    def start(self, node: str, loops: Iterations) -> None:
        """Record that a node is executing, in these loops."""
        self.current_node, self._iterations, self._step = node, dict(loops), None
        self.begin(node)

    def step(self, node: str, data: dict[str, Any]) -> None:
        value, maximum = data.get("value"), data.get("max")
        if isinstance(value, (int, float)) and isinstance(maximum, (int, float)):
            with contextlib.suppress(OverflowError, ValueError):  # numbers without a meaning
                self.reach(node, float(value), steps := int(maximum))
                if node == self.current_node and steps > 1:
                    self._step = min(max(int(value), 0), steps), steps

    def iterate(self, outermost: Mapping[str, Iterations], present: Iterations) -> None:
        """Record the iterations of all outermost loops, each with those in it.

        An outermost loop has a step for each of its iterations; the others are parts of these.
        """
        for node in self._outermost - outermost.keys():
            self._end_node(node)  # what ComfyUI says of its state may come late, or much too early
        self._outermost = {*outermost}
        self._iterations = dict(present)
        for node, loops in outermost.items():
            value, total, part = 0.0, next(iter(loops.values()))[1], 1.0
            for number, (done, count) in enumerate(loops.values()):
                part = part / count if number else 1.0
                value += done * part
            self.reach(node, value, total, loops=True)

    def note_states(self, states: object) -> bool:
        """Follow the states of nodes; return whether one has begun or ended."""
        if not isinstance(states, dict):
            return False
        before = len(self._waiting), len(self._running)
        for node, state in states.items():
            if not isinstance(state, dict):
                continue
            if state.get("state") == _NODE_STARTED:
                self._started.setdefault(node, self.clock())
                self.begin(node)
            elif state.get("state") == FINISHED:
                self._end_node(node)
        return before != (len(self._waiting), len(self._running))

    def stop(self) -> None:
        """Record that no node is executing any more; those that were are not done."""
        self._stopped_at = self.read(), self.nodes()
        for node in list(self._started):
            self._end_node(node)

    def read(self, fraction: float | None = None) -> dict[str, Any]:
        """Return one line, the progress (0 to 1), the node, its class and loops, the seconds left.

        What is not known is None. ``fraction`` is the progress, if it has just been computed.
        """
        if self._stopped_at is not None:
            return self._stopped_at[0]
        node, left = self.current_node, self.seconds_left()
        iterations = [[done + 1, total] for done, total in self._iterations.values()]
        rounds = ", ".join(f"{number} of {total}" for number, total in iterations)
        where = f" (iteration {rounds})" if rounds else ""
        return {
            "live_status": f"Executing {self.name(node).title}{where}" if node else "Executing",
            "progress": round(self.fraction() if fraction is None else fraction, 4),
            "current_node": node,
            "current_class": self.name(node).class_type if node else None,
            "iterations": iterations,
            "time_left": None if left is None else round(left, 1),
        }

    def nodes(self) -> tuple[int, int]:
        return super().nodes() if self._stopped_at is None else self._stopped_at[1]

    def current_step(self) -> tuple[int, int] | None:
        """Return the step of the current node and its number of steps; None without steps."""
        return None if self._stopped_at is not None else self._step

    def news(self, *, force: bool) -> dict[str, Any] | None:
        """Return the progress of the run if it has changed enough, or by ``force``."""
        fraction = self.fraction()
        if not force and fraction - self._last_news[0] < LIVE_STEP:
            return None
        live = self.read(fraction)
        self._last_news = live["progress"], live["time_left"], self.clock()
        return live

    def is_outdated(self) -> bool:
        """Return whether the time that is left differs too much from the last reported one."""
        _, last, at = self._last_news
        left = self.seconds_left()
        if last is None or left is None:
            return last is not left
        return abs(last - (self.clock() - at) - left) > max(DRIFT[0] * left, DRIFT[1])

    def _end_node(self, node: str) -> None:
        started = self._started.pop(node, None)
        if started is not None:
            self._times[node] = round(self._times.get(node, 0.0) + self.clock() - started, 4)
            steps = self.steps_of(node)
            if any(steps):
                self._works[node] = list(steps)
        self.finish(node)
