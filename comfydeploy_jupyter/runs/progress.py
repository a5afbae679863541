"""Progress and remaining time of a run, from its steps and the durations in earlier runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LIGHT = 0.1  # share of a run for nodes without steps, if nothing is known about their durations
UNSEEN = 0.02  # share of a run for a node that no earlier run has executed
ON_TIME = 0.9  # largest part of a node or step that counts as done by elapsed time alone
LATE = 1.5  # multiple of the usual duration after which the remaining time is unknown
PACE_STEPS, PACE_SECONDS = 2, 0.5  # steps and seconds after which the pace of a node is known
RECENT = 3  # latest executions of a node from which its duration is estimated


@dataclass(frozen=True)
class NodeWork:
    """The work of a node in one run.

    Attributes
    ----------
    seconds : float
        Duration in seconds.
    steps : int
        Number of steps in its first report; 0 without steps.
    phases : int
        Number of times that its steps started again from the beginning.
    predicted : int
        Number of steps expected from the graph; 0 if unknown.
    """

    seconds: float
    steps: int = 0
    phases: int = 0
    predicted: int = 0


@dataclass
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
        """Return how much of the node's weight is done."""
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
        known = steps >= PACE_STEPS and seconds >= PACE_SECONDS
        return seconds / steps if known else None


class Progress:
    """The progress of one run, which never decreases, and the remaining time.

    Each node that is still to be executed has a weight: its duration in earlier runs of the same
    workflow, else its number of steps. The progress is the done part of the sum of all weights.
    If a weight changes, or nodes need not be executed, the remaining part of the progress bar is
    distributed over the remaining weights: the bar continues from its present value.

    All times are seconds of one monotonic clock.

    Parameters
    ----------
    steps : dict of str to int
        The nodes that will be executed, with the expected number of steps of each.
    """

    def __init__(self, steps: Mapping[str, int]) -> None:
        self._predicted = dict(steps)
        self._steps = dict(steps)
        self._pace: float | None = None  # pace of the last node that reported steps
        self._usual: dict[str, NodeWork] = {}
        self._best = 0.0
        self.restart(0.0)

    def restart(self, now: float) -> None:
        """Record that no node has been executed; the bar keeps its value."""
        self._waiting = {
            node: _Node(steps, self._predicted[node], self._usual.get(node))
            for node, steps in self._steps.items()
        }
        self._running: dict[str, _Node] = {}
        self._base = self._best
        self._update_weights(now)

    def learn(self, past: Sequence[Mapping[str, NodeWork]], now: float) -> None:
        """Use the work of the nodes in earlier runs of the same workflow, the newest first."""
        found: dict[str, list[NodeWork]] = {}
        for run in past:
            for node, work in run.items():
                if node in self._steps and len(found.setdefault(node, [])) < RECENT:
                    found[node].append(work)
        if not found:
            return
        self._base = self.fraction(now)
        for node, works in found.items():
            seconds = median(work.seconds for work in works)
            self._usual[node] = replace(works[0], seconds=seconds)
        for node, left in (*self._waiting.items(), *self._running.items()):
            left.usual = self._usual.get(node)
        self._update_weights(now)

    def skip(self, nodes: Iterable[str], now: float) -> None:
        """Remove nodes that need not be executed; the bar is distributed over the others."""
        self._base = self.fraction(now)
        for node in nodes:
            self._waiting.pop(node, None)
        self._update_weights(now)

    def start(self, node: str, now: float) -> None:
        """Record that the execution of a node starts."""
        found = self._waiting.pop(node, None)
        if found is not None:
            found.started = now
            self._running[node] = found
            self._forget(found)

    def step(self, node: str, value: float, steps: int, now: float) -> None:
        """Record the step that a node has reached, and its number of steps."""
        self.start(node, now)
        found = self._running.get(node)
        if found is None or steps < 2:
            return
        value = min(max(value, 0.0), float(steps))
        again = value < found.value
        if not found.phases or again or steps != found.steps:
            self._base = self.fraction(now)
            if not found.phases or again:
                found.phases += 1
                found.begun, found.origin = None, 0.0
            else:
                found.origin = found.value
            found.reported = found.reported or steps
            found.steps = self._steps[node] = steps
            found.value = found.origin
            self._update_weights(now)
        if found.begun is None and value > 0:
            found.begun = now, value
        if value > found.value:
            found.value, found.stepped = value, now

    def finish(self, node: str) -> None:
        """Record that a node has been executed."""
        found = self._waiting.pop(node, None)
        if found is not None:
            self._forget(found)
        found = self._running.pop(node, None)
        if found is not None:
            self._pace = found.pace or self._pace

    def steps_of(self, node: str) -> tuple[int, int, int]:
        """Return ``steps``, ``phases`` and ``predicted`` of `NodeWork` for a running node."""
        found = self._running.get(node)
        return (0, 0, 0) if found is None else (found.reported, found.phases, found.predicted)

    @property
    def nodes(self) -> tuple[int, int]:
        """The number of nodes that are done, and of all nodes."""
        total = len(self._steps)
        return total - len(self._waiting) - len(self._running), total

    def step_of(self, node: str) -> tuple[int, int] | None:
        """Return the step of a running node and its number of steps; None without steps."""
        found = self._running.get(node)
        return None if found is None or not found.phases else (int(found.value), found.steps)

    def fraction(self, now: float) -> float:
        """Return the part of the run that is done, 0 to 1."""
        if self._whole > 0:
            done = 1.0 - self._outstanding(now) / self._whole
            self._best = max(self._best, min(self._base + (1.0 - self._base) * done, 1.0))
        elif self._steps:
            self._best = 1.0
        return self._best

    def seconds_left(self, now: float) -> float | None:
        """Return the expected remaining duration of the nodes, s; None if unknown."""
        running = [_seconds_left(node, now) for node in self._running.values()]
        known = [seconds for seconds in running if seconds is not None]
        if self._usual:
            if len(known) < len(running):
                return None
            return max(known, default=0.0) + max(self._waiting_weight, 0.0)
        pace = next((node.pace for node in self._running.values() if node.pace), self._pace)
        if pace is None or not (known or self._waiting_steps):
            return None
        return max(known, default=0.0) + self._waiting_steps * pace

    def _outstanding(self, now: float) -> float:
        running = sum(node.weight * (1.0 - node.done(now)) for node in self._running.values())
        return max(self._waiting_weight, 0.0) + running

    def _update_weights(self, now: float) -> None:
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
        self._whole = self._outstanding(now)

    def _forget(self, node: _Node) -> None:
        """Subtract a node from the sums over the waiting nodes."""
        self._waiting_weight -= node.weight
        self._waiting_steps -= node.steps


def _seconds_left(node: _Node, now: float) -> float | None:
    """Return the remaining duration of an executing node in seconds, None if unknown."""
    pace, usual = node.pace, node.usual_seconds
    if pace is not None and not node.follows_time:
        left = node.steps - node.value
        return max(pace * left - (now - node.stepped), pace * max(left - 1, 0))
    if usual is None or node.started is None:
        return None
    left = usual - (now - node.started)
    return None if left < (1.0 - LATE) * usual - 1.0 else max(left, 0.0)
