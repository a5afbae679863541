"""Simulates the dispatcher of pools: which machine gets which run, and the cost of a decision.

A simulation allows more machines than are available: up to 1,000 members with different speeds,
which fail and return, and 100,000 runs of several workflows with different durations. Time is
simulated; the dispatcher is the real one. Each scenario is compared with its ideal time: the time
in which all members could do all runs if work could be divided into pieces of any size.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import random
import sqlite3
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from itertools import count, product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.batches.plan import run_order
from comfydeploy_jupyter.batches.records import BatchRepository
from comfydeploy_jupyter.batches.service import Batches, Driven
from comfydeploy_jupyter.graphs.dependencies import KEPT, fingerprint_of, nodes_in
from comfydeploy_jupyter.machines.placement import DEPTH, Dispatcher
from comfydeploy_jupyter.runs.engine import DECIDE_INTERVAL
from comfydeploy_jupyter.store.migrations import migrate

from .common import Figure, report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

POOL = "pool"
OVERHEAD = 0.1  # seconds of a run beside the nodes, which take a second each
NODES = 8  # in a row, in the workflow of the simulated sweep
DEPTHS = ("0", "3", "6")  # the nodes with swept inputs


@dataclass
class Member:
    """A simulated machine: executes its runs one after another."""

    speed: float
    alive: bool = True
    runs: list[int] = field(default_factory=list)
    died: int = 0


@dataclass
class Outcome:
    """The result of a simulation."""

    makespan: float
    bound: float
    decisions: int
    seconds: float
    failed: int
    returned: int
    ends: dict[int, int]


def simulate(
    speeds: list[float],
    works: list[float],
    structures: list[str],
    *,
    deaths: int,
    seed: int,
    fingerprints: list[bytes] | None = None,
    latency: float = 0.0,
    known: bool = False,
    between: float = 0.0,
) -> Outcome:
    """Simulate members until they have executed all runs.

    Parameters
    ----------
    speeds : list of float
        The work that each member does in a second.
    works, structures : list
        The work and the workflow of each run.
    deaths : int
        The number of members that fail, at random times; each returns later.
    seed : int
        The seed for these times.
    fingerprints : list of bytes, optional
        The nodes of each run.
    latency : float
        Seconds from the assignment of a run, or the end of the one before it, to its start event.
    known : bool
        Whether each member has executed each workflow before.
    between : float
        Seconds between the arrivals of two runs.
    """
    draw = random.Random(seed)
    dispatcher = Dispatcher()
    members = [Member(speed) for speed in speeds]
    for number in range(len(members)):
        dispatcher.add_member(str(number))
    dispatcher.set_pool(POOL, map(str, range(len(members))))
    for number in range(len(members)):
        dispatcher.set_connected(str(number), connected=True)
    for structure, work in dict(zip(structures, works, strict=True)).items() if known else ():
        for number, member in enumerate(members):
            dispatcher.hand_over("earlier", str(number), structure=structure)
            dispatcher.ended("earlier", work / member.speed)
    bound = sum(works) / sum(speeds)
    ticket = count()
    events: list[tuple[float, int, str, int, int]] = []
    orders = {}

    def arrive(run: int) -> None:
        nodes = b"" if fingerprints is None else fingerprints[run]
        orders[run] = dispatcher.wait(str(run), POOL, structure=structures[run], fingerprint=nodes)

    for run in range(len(structures)):
        if between:
            heapq.heappush(events, (run * between, next(ticket), "arrives", run, 0))
        else:
            arrive(run)
    heapq.heappush(events, (DECIDE_INTERVAL, next(ticket), "time passes", 0, 0))
    for _ in range(deaths):
        victim = draw.randrange(len(members))
        heapq.heappush(events, (draw.uniform(0, bound), next(ticket), "dies", victim, 0))
    ends = dict.fromkeys(range(len(works)), 0)
    now = seconds = 0.0
    decisions = failed = returned = 0
    left = len(works)

    def begin(number: int, pause: float) -> None:
        member = members[number]
        at = now + pause + works[member.runs[0]] / member.speed
        heapq.heappush(events, (now + latency, next(ticket), "begins", number, member.died))
        heapq.heappush(events, (max(at, now + latency), next(ticket), "ends", number, member.died))

    while True:
        start = time.thread_time()
        while (decision := dispatcher.decide(now)) is not None:
            seconds += time.thread_time() - start
            decisions += 1
            number = int(decision.member_id)
            members[number].runs.append(int(decision.run_id))
            assert len(members[number].runs) <= DEPTH
            if len(members[number].runs) == 1:
                begin(number, latency)
            start = time.thread_time()
        seconds += time.thread_time() - start
        if not events or not left:
            break
        now, _, what, number, died = heapq.heappop(events)
        if what == "arrives":
            arrive(number)
            continue
        if what == "time passes":
            works_on = any(member.runs or not member.alive for member in members)
            assert works_on or len(orders) < len(works), "no member gets a run"
            heapq.heappush(events, (now + DECIDE_INTERVAL, next(ticket), what, 0, 0))
            continue
        member = members[number]
        if what == "begins" and died == member.died:
            dispatcher.begun(str(member.runs[0]), now)
        elif what == "ends" and died == member.died:
            run = member.runs.pop(0)
            ends[run] += 1
            left -= 1
            dispatcher.ended(str(run), works[run] / member.speed, now=now)
            if member.runs:
                begin(number, 0.0)
        elif what == "dies" and member.alive:
            member.alive = False
            member.died += 1
            dispatcher.set_connected(str(number), connected=False)
            for place, run in enumerate(member.runs):
                dispatcher.ended(str(run))
                if place:
                    returned += 1
                    dispatcher.wait(str(run), POOL, structure=structures[run], order=orders[run])
                else:
                    failed += 1
                    ends[run] += 1
                    left -= 1
            member.runs.clear()
            heapq.heappush(events, (now + bound / 10, next(ticket), "returns", number, 0))
        elif what == "returns":
            member.alive = True
            dispatcher.set_connected(str(number), connected=True)
    return Outcome(now, bound, decisions, seconds, failed, returned, ends)


class WaitingPoints:
    """The points of a batch that wait, in a store: the server chooses the next one."""

    def __init__(self, order: list[int], levels: list[int], members: list[str]) -> None:
        self._db = db = sqlite3.connect(":memory:", isolation_level=None)
        db.row_factory = sqlite3.Row
        migrate(db)
        columns = ("batch", "position", "place", "level", "key", "inputs")
        db.executemany(
            f"INSERT INTO batch_points ({', '.join(columns)}) VALUES (1, ?, ?, ?, ?, '{{}}')",
            [
                (point, place, level, str(point))
                for place, (point, level) in enumerate(
                    zip(order, levels or [0] * len(order), strict=True)
                )
            ],
        )
        pool = SimpleNamespace(members=members)
        machines: Any = SimpleNamespace(find_pool=lambda _: pool)
        none: Any = None
        runs: Any = SimpleNamespace(chains=none)
        self._batches = Batches(
            BatchRepository(self), runs, machines, none, none, none, stored_version=none
        )
        facts = SimpleNamespace(
            number=1, total=len(order), machine=POOL, plan={"shared": bool(levels)}
        )
        self._driven = Driven(facts)

    async def read(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Call what reads the store."""
        return work(self._db)

    def take(self, active: Collection[int]) -> tuple[int, int] | None:
        """Return the next point and its place; it does not wait any more."""
        found = asyncio.run(self._batches.next_point(self._driven, active))
        if found is None:
            return None
        self._db.execute(
            "UPDATE batch_points SET status = 'queued' WHERE position = ?", (found.position,)
        )
        return found.position, found.place


def sweep(
    sizes: tuple[int, ...], members: int, *, at_once: int, by_user: bool
) -> tuple[int, int, float]:
    """Simulate a sweep; return how many nodes are executed and different, and its makespan.

    Parameters
    ----------
    sizes : tuple of int
        The number of values of the inputs at `DEPTHS`.
    members : int
        The number of machines, which are equally fast.
    at_once : int
        The number of points that are queued at a time.
    by_user : bool
        Whether the points run in an order in which the input of the first node changes most often.
    """
    graph: dict[str, Any] = {}
    for number in range(NODES):
        source = {"source": [str(number - 1), 0]} if number else {}
        graph[str(number)] = {"class_type": "Node", "inputs": {"value": 0, **source}}
    points = [dict(zip(DEPTHS, values, strict=True)) for values in product(*map(range, sizes))]
    if by_user:
        points.sort(key=lambda point: [point[name] for name in reversed(DEPTHS)])
    prints = []
    for point in points:
        for name, value in point.items():
            graph[name]["inputs"]["value"] = value
        prints.append(fingerprint_of(graph))
    nodes = [nodes_in(fingerprint) for fingerprint in prints]
    indexes, levels = run_order(points, graph, {name: [name] for name in DEPTHS})
    if by_user:
        indexes, levels = list(range(len(points))), []
    names = [str(number) for number in range(members)]
    waiting = WaitingPoints(indexes, levels, names)

    dispatcher = Dispatcher()
    for name in names:
        dispatcher.add_member(name)
        dispatcher.set_connected(name, connected=True)
    dispatcher.set_pool(POOL, names)
    queues: dict[str, list[int]] = {name: [] for name in names}
    cached = dict.fromkeys(names, frozenset[int]())
    active: dict[int, int] = {}  # the places of the points that are queued or run
    events: list[tuple[float, int, str, float]] = []
    ticket = count()
    now = 0.0
    executed = 0

    def begin(name: str) -> None:
        nonlocal executed
        run = queues[name][0]
        work = len(nodes[run] - cached[name])
        cached[name] = nodes[run]
        executed += work
        dispatcher.begun(str(run), now)
        heapq.heappush(events, (now + work + OVERHEAD, next(ticket), name, work + OVERHEAD))

    def dispatch() -> None:
        while (decision := dispatcher.decide(now)) is not None:
            queue = queues[decision.member_id]
            queue.append(int(decision.run_id))
            if len(queue) == 1:
                begin(decision.member_id)

    def submit() -> None:
        while len(active) < at_once and (taken := waiting.take(active.values())) is not None:
            run, place = taken
            active[run] = place
            dispatcher.wait(str(run), POOL, structure="sweep", fingerprint=prints[run])
            dispatch()

    submit()
    while events:
        now, _, name, seconds = heapq.heappop(events)
        run = queues[name].pop(0)
        dispatcher.ended(str(run), seconds)
        if queues[name]:
            begin(name)
        del active[run]
        dispatch()
        submit()
    assert waiting.take(()) is None, "points are left"
    return executed, len(frozenset[int]().union(*nodes)), now


def figures(name: str, outcome: Outcome, limit: float) -> list[Figure]:
    """Return the result of a simulation and its bounds."""
    assert set(outcome.ends.values()) == {1}, "a run was lost, or executed twice"
    if outcome.failed:
        print(f"{name}: {outcome.failed} failed with members, {outcome.returned} went to others")
    each = 1e6 * outcome.seconds / outcome.decisions
    return [
        Figure(f"{name}: makespan", outcome.makespan, outcome.bound, "ratio", limit, "s"),
        Figure(f"{name}: a decision", each, 1.0, "ratio", 50, "µs"),
    ]


def memory(runs: int) -> float:
    """Return the bytes of memory of a waiting run."""
    dispatcher = Dispatcher()
    dispatcher.set_pool(POOL, ())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for run in range(runs):
        dispatcher.wait(
            f"{run:036d}",
            POOL,
            structure="0" * 32,
            models=["a.safetensors"],
            fingerprint=run.to_bytes(4, "little") * KEPT,
        )
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / runs


def main() -> int:
    """Simulate small and large pools, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    found: list[Figure] = []

    alike = simulate([1.0, 2.0, 4.0, 8.0], [1.0] * 400, ["a"] * 400, deaths=0, seed=options.seed)
    found += figures("four at 1 : 2 : 4 : 8, 400 runs alike", alike, 1.05)

    kinds = {f"workflow {number}": draw.uniform(1, 20) for number in range(20)}
    names = draw.choices(list(kinds), k=400)
    works = [kinds[name] * draw.uniform(0.9, 1.1) for name in names]
    mixed = simulate([1.0, 2.0, 4.0, 8.0], works, names, deaths=0, seed=options.seed)
    found += figures("the same, 20 workflows", mixed, 1.10)

    for members in (1, 4):
        executed, distinct, took = sweep((5, 5, 8), members, at_once=4 * members, by_user=False)
        name = f"a sweep of 200 points on {members}"
        found.append(Figure(f"{name}: executed nodes", executed, distinct, "ratio", 1.1, ""))
        ideal = (distinct + 200 * OVERHEAD) / members
        found.append(Figure(f"{name}: makespan", took, ideal, "ratio", 1.05, "s"))

    costs: list[float] = []
    for size in (10, 100, options.members):
        speeds = [draw.choice([1.0, 2.0, 4.0, 8.0]) for _ in range(size)]
        names = draw.choices(list(kinds), k=options.runs)
        works = [kinds[name] * draw.uniform(0.9, 1.1) for name in names]
        deaths = size // 5
        large = simulate(speeds, works, names, deaths=deaths, seed=options.seed)
        found += figures(f"{size} members, {deaths} deaths, {options.runs} runs", large, 1.15)
        costs.append(1e6 * large.seconds / large.decisions)
    name = f"a decision, {options.members} members against 10"
    found.append(Figure(name, costs[-1], costs[0], "ratio", 2.0, "µs"))
    graphs = [{str(n): {"inputs": {"x": (n > i) * i}} for n in range(24)} for i in range(2000)]
    prints = [fingerprint_of(graph) for graph in graphs]
    same = ["a"] * len(graphs)
    shared = simulate([1.0] * 10, [1.0] * len(graphs), same, deaths=0, seed=1, fingerprints=prints)
    found += figures("10 members, runs with shared nodes", shared, 1.15)
    kib = memory(options.runs) / 1024
    found.append(Figure("memory of a waiting run", kib, 1.0, "ratio", 1.0, "KiB"))
    return report(*found)


if __name__ == "__main__":
    sys.exit(main())
