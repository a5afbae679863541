"""A small Jupyter server extension that measures how long the event loop is blocked.

A timer of one millisecond runs on the loop. Where a tick comes late, something held the loop, or
the operating system had no processor for it; the processor time that the whole process used in that
gap, threads that hold the interpreter lock included, tells the two apart.
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
KEPT = 50  # largest gaps that are told


class Ticker:
    """The timer and the largest gaps since the last `take`."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._ticks = 0
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Begin to tick on the running loop, for good."""
        self._loop = asyncio.get_running_loop()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._loop.call_later(INTERVAL, self._tick)

    def take(self) -> dict[str, Any]:
        """Return the number of ticks and the largest gaps, then forget them."""
        gaps = sorted(self._gaps, reverse=True)
        told = {"ticks": self._ticks, "gaps": gaps}
        self._gaps, self._ticks = [], 0
        return told

    def _tick(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        gap = (wall - self._wall - INTERVAL, cpu - self._cpu)
        keep = heapq.heappush if len(self._gaps) < KEPT else heapq.heappushpop
        keep(self._gaps, gap)
        self._ticks += 1
        self._wall, self._cpu = wall, cpu
        self._loop.call_later(INTERVAL, self._tick)


class TickerHandler(APIHandler):
    """``GET benchmark/ticker``: what the ticker saw since the last request; starts it at first."""

    ticker: Ticker | None = None

    @authenticated
    def get(self) -> None:
        """Answer with ``ticks`` and ``gaps``: pairs of seconds, late by and computed."""
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
