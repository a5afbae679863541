"""Measures pools of real ComfyUIs: how well their members are used, and what a pool costs.

The members are ComfyUIs whose nodes only wait, some of them faster than others, so that many of
them run on few cores. The ideal time is computed from the durations that were measured on each
member alone.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import statistics
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter import connect
from tests.helpers.comfyui import ComfyUIServer

from .common import Figure, Jupyter, OurClient, in_turns, node, report, run, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from comfydeploy_jupyter.client.results import Result
    from comfydeploy_jupyter.client.runs import Run

    from .common import Graph

SPEEDS = (1, 1, 2, 4, 8)
WORK = 4.0  # seconds of a run on a member of speed 1
FEW = 40  # runs of the comparison of one and two members
MANY = 400  # runs on four unequal members
RUNS = 600  # trivial runs
NODES = 8  # in the workflow of the sweep
EACH = 0.3  # seconds of each of them


class Pool:
    """A Jupyter server with ComfyUIs as machines, and pools of them.

    Parameters
    ----------
    jupyter : Jupyter
        The server.
    members : list of ComfyUIServer
        The ComfyUIs; the first is the machine ``local``, the others ``m1``, ``m2``, …
    """

    def __init__(self, jupyter: Jupyter, members: list[ComfyUIServer]) -> None:
        self.jupyter = jupyter
        self.comfy = connect(f"http://{jupyter.host}:{jupyter.port}", token=jupyter.token)
        self.names = ["local", *(f"m{number}" for number in range(1, len(members)))]
        for name, member in zip(self.names[1:], members[1:], strict=True):
            self.comfy.machines.create(name, comfyui_url=member.url)
        deadline = time.monotonic() + 60
        while any(machine.status != "ready" for machine in self.comfy.machines.list()):
            if time.monotonic() > deadline:
                raise RuntimeError("a ComfyUI is not connected")
            time.sleep(0.1)

    def add(self, name: str, members: Sequence[str]) -> None:
        """Make a pool."""
        self.comfy.machines.create(name, members=list(members))

    def execute(self, machine: str, graphs: Sequence[Graph]) -> float:
        """Queue all graphs; return the seconds from the first request to the last end."""
        with ThreadPoolExecutor(8) as threads:
            runs = list(threads.map(lambda graph: self._submit(machine, graph), graphs))
        for submitted in runs:
            submitted.wait()
        records = self.comfy.server.get("runs", limit=len(runs))
        first = min(_seconds(record["created_at"]) for record in records)
        last = max(_seconds(record["finished_at"]) for record in records)
        return last - first

    def results(
        self, machines: Sequence[str], graphs: Sequence[Graph], *, at_once: int
    ) -> list[Result]:
        """Run graphs in their order, some at a time, on machines in turn; return their results."""

        def result(machine: str, graph: Graph) -> Result:
            return self._submit(machine, graph).wait()

        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(result, itertools.cycle(machines), graphs))

    def _submit(self, machine: str, graph: Graph) -> Run:
        return self.comfy.submit(graph, machine=machine)


@contextlib.contextmanager
def running_pool(speeds: Sequence[float]) -> Iterator[Pool]:
    """Run a Jupyter server and a ComfyUI of each speed."""
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as temporary:
        folder = Path(temporary)
        members = [
            ComfyUIServer(folder / str(number), env={"COMFYDEPLOY_TEST_SPEED": str(speed)})
            for number, speed in enumerate(speeds)
        ]
        jupyter = Jupyter(
            folder / "jupyter",
            extensions={"comfydeploy_jupyter": True},
            settings={"comfyui_url": members[0].url},
        )
        try:
            for member in members:
                member.start()
            jupyter.start()
            jupyter.wait_connected()
            yield Pool(jupyter, members)
        finally:
            jupyter.stop()
            for member in members:
                member.kill()


def use(pool: Pool) -> Iterator[Figure]:
    """Measure how well the members of pools are used."""
    pool.add("pair", pool.names[:2])
    pool.add("four", pool.names[1:])
    one = pool.execute("local", sleeps(FEW, 0.5))
    two = pool.execute("pair", sleeps(FEW, 0.5))
    yield Figure("two members, and one for 1 / 1.95 of the time", two, one / 1.95, "ratio", 1, "s")
    rates = [8 / pool.execute(name, sleeps(8)) for name in pool.names[1:]]
    took = pool.execute("four", sleeps(MANY))
    name = f"four at 1 : 2 : 4 : 8, {MANY} runs"
    yield Figure(name, took, MANY / sum(rates), "ratio", 1.05, "s")


def cost(pool: Pool) -> Iterator[Figure]:
    """Measure what a pool adds to a trivial run, and how many of them end in a second."""
    pool.add("only", pool.names[:1])
    client = OurClient(pool.jupyter)

    def trivial(machine: str) -> None:
        client.run(text(), machine=machine)

    works = (seconds(lambda: trivial("local")), seconds(lambda: trivial("only")))
    in_turns(*works, 20)
    theirs, mine = (statistics.median(found) for found in in_turns(*works, 300))
    yield Figure("a trivial run in a pool, median", mine * 1000, theirs * 1000, "added", 1.0)
    client.close()
    pool.add("all", pool.names)
    took = pool.execute("all", [text() for _ in range(RUNS)])
    yield Figure(f"{RUNS} trivial runs, and at 300 in a second", took, RUNS / 300, "ratio", 1, "s")


def sweep(pool: Pool) -> Iterator[Figure]:
    """Count the nodes that a sweep of 200 points executes on one member and on four."""
    pool.add("equal", pool.names[:4])
    # From the input of the last node to that of the first one, which changes most often.
    axes = {"7.token": range(8), "4.token": range(5), "1.token": range(5)}
    distinct = 3 * 5 + 3 * 5 * 5 + 2 * 5 * 5 * 8
    swept = {name: [str(value) for value in values] for name, values in axes.items()}
    counts = {}
    for machine in ("local", "equal"):
        made = pool.comfy.sweep(row(), swept, machine=machine, save=False, progress=False)
        counts[machine] = executed(point.result for point in made)
        name = f"a sweep of {len(made)} points on {machine}: executed nodes"
        yield Figure(name, counts[machine], distinct, "ratio", 1.1, "")
    base = row()
    graphs = []
    for values in itertools.product(*swept.values()):
        graph = copy.deepcopy(base)
        for name, value in zip(swept, values, strict=True):
            graph[name[0]]["inputs"]["token"] += value
        graphs.append(graph)
    # A pool would give a machine points that it has nodes of; machines in turn do not.
    before = executed(pool.results(pool.names, graphs, at_once=8))
    name = "the same in the order of the user on four in turn, and three times that"
    yield Figure(name, 3 * counts["equal"], before, "ratio", 1, "")


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def executed(results: Iterable[Result | None]) -> int:
    """Return how many nodes were not in ComfyUI's cache."""
    return sum(NODES - len(result.cached_nodes) for result in results if result is not None)


def text() -> Graph:
    """Return a graph of one node that shows a text."""
    return {"1": {"class_type": "TestText", "inputs": {"text": "", "token": uuid.uuid4().hex}}}


def sleeps(count: int, duration: float = WORK) -> list[Graph]:
    """Return graphs that wait for some seconds on a member of speed 1."""
    return [node("TestSleep", seconds=duration) for _ in range(count)]


def row() -> Graph:
    """Return a graph of `NODES` nodes in a row, of which all but the last one wait."""
    token = uuid.uuid4().hex
    graph: Graph = {}
    for number in range(1, NODES + 1):
        last = number == NODES
        own: dict[str, Any] = {"text": ""} if last else {"seconds": EACH}
        source = {"anything": [str(number - 1), 0]} if number > 1 else {}
        graph[str(number)] = {
            "class_type": "TestText" if last else "TestSleep",
            "inputs": {**own, **source, "token": token},
        }
    return graph


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=["use", "cost", "sweep", []])
    options = parser.parse_args()
    code = 0
    for name, measure in {"use": use, "cost": cost, "sweep": sweep}.items():
        if not options.parts or name in options.parts:
            with running_pool(SPEEDS if name == "use" else [1] * 4) as pool:
                for figure in measure(pool):
                    code |= report(figure)
    return code


if __name__ == "__main__":
    run(main)
