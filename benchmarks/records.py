"""Measures what the record of a run adds to the run: beside a server that makes no records.

Runs of a trivial prompt are executed in turns by two Jupyter servers with the same ComfyUI. In the
time until the last reply stands what is done on the run's way: the row of the record is stored with
the end of the run. All else is done afterwards, which is measured, too.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.proofs.service import Provenance

from .common import Figure, OurClient, in_turns, report, run, running_comfyui, running_jupyter
from .run_overhead import trivial

if TYPE_CHECKING:
    from .common import Jupyter

PAIRS = 12
RUNS = 40  # in a turn
PAUSE = 4.0  # seconds in which the records of a turn are made


def processor_time(pid: int) -> float:
    """Return the processor time of a process, seconds, in more than hundredths."""
    return time.clock_gettime(~pid << 3 | 2)


class Turns:
    """Runs prompts on one server, and keeps what each turn took for a run, ms."""

    def __init__(self, jupyter: Jupyter) -> None:
        self._jupyter = jupyter
        self._client = OurClient(jupyter)
        self.way: list[float] = []
        self.all: list[float] = []

    def turn(self) -> float:
        """Run prompts; return the median of their times, ms."""
        begun, times = processor_time(self._jupyter.pid), []
        for _ in range(RUNS):
            start = time.perf_counter()
            self._client.run(trivial())
            times.append(time.perf_counter() - start)
        self.way.append((processor_time(self._jupyter.pid) - begun) * 1000 / RUNS)
        time.sleep(PAUSE)
        self.all.append((processor_time(self._jupyter.pid) - begun) * 1000 / RUNS)
        return statistics.median(times) * 1000


def main() -> int:
    """Measure, print, and return the exit code."""
    here = {"benchmarks.records": True}
    with (
        running_comfyui() as comfyui,
        running_jupyter(comfyui.url, editor_runs=False) as ours,
        running_jupyter(comfyui.url, extensions=here, editor_runs=False) as without,
    ):
        with contextlib.closing(sqlite3.connect(without.data_dir / "comfydeploy.db")) as store:
            for name in ("provenance_wanted", "provenance_of_ended"):
                store.execute(f"DROP TRIGGER {name}")
            store.commit()
        plain, recorded = Turns(without), Turns(ours)
        in_turns(plain.turn, recorded.turn, 2)
        for each in (plain, recorded):
            each.way, each.all = [], []
        times = [statistics.median(found) for found in in_turns(plain.turn, recorded.turn, PAIRS)]
        ways, alls = (
            [statistics.median(found) for found in pair]
            for pair in ((plain.way, recorded.way), (plain.all, recorded.all))
        )
    with_record = "with its record and without"
    return report(
        Figure(f"a trivial run, {with_record}", times[1], times[0], "added", 1.0),
        Figure(f"processor time until its reply, {with_record}", ways[1], ways[0], "added", 1.0),
        Figure(f"processor time in all, {with_record}", alls[1], alls[0], "added", 5.0),
    )


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "benchmarks.records"}]


def _load_jupyter_server_extension(_serverapp: Any) -> None:
    """Make no records in this server."""
    Provenance.open = lambda _self: None  # type: ignore[method-assign]  # only in this server


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("the time of the server's process is read from its clock")
    run(main)
