"""A small Jupyter server extension that measures how long the event loop is blocked.

A timer of one millisecond runs on the loop. If a tick is late, either code has blocked the loop, or
the operating system had no free processor for it. The processor time of the whole process in that
gap, including threads that hold the interpreter lock, distinguishes the two cases.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

INTERVAL = 0.001  # seconds
KEPT = 50  # number of reported gaps


class Ticker:
    """The timer and the largest gaps since the last `take`."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._ticks = 0
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Start the timer on the running loop; it never ends."""
        self._loop = asyncio.get_running_loop()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._loop.call_later(INTERVAL, self._tick)

    def take(self) -> dict[str, Any]:
        """Return the number of ticks and the largest gaps, and reset both."""
        gaps = sorted(self._gaps, reverse=True)
        taken = {"ticks": self._ticks, "gaps": gaps}
        self._gaps, self._ticks = [], 0
        return taken

    def _tick(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        gap = (wall - self._wall - INTERVAL, cpu - self._cpu)
        keep = heapq.heappush if len(self._gaps) < KEPT else heapq.heappushpop
        keep(self._gaps, gap)
        self._ticks += 1
        self._wall, self._cpu = wall, cpu
        self._loop.call_later(INTERVAL, self._tick)


class TickerHandler(APIHandler):
    """``GET benchmark/ticker``: gaps since the last request; the first one starts the ticker."""

    ticker: Ticker | None = None

    @authenticated
    def get(self) -> None:
        """Reply with ``ticks`` and ``gaps``: pairs of seconds, the delay and the computing time."""
        cls = type(self)
        if cls.ticker is None:
            cls.ticker = Ticker()
            cls.ticker.start()
        self.finish(json.dumps(cls.ticker.take()))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "benchmarks.ticker"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    path = url_path_join(serverapp.base_url, "benchmark/ticker")
    serverapp.web_app.add_handlers(".*$", [(path, TickerHandler)])
