"""A small Jupyter server extension that counts asyncio tasks by their coroutines."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated


class CensusHandler(APIHandler):
    """``GET benchmark/census``: the number of tasks of each coroutine."""

    @authenticated
    def get(self) -> None:
        """Reply with ``tasks``, after a run of the garbage collector."""
        gc.collect()
        tasks = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())
        self.finish(json.dumps({"tasks": tasks}))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "benchmarks.census"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    path = url_path_join(serverapp.base_url, "benchmark/census")
    serverapp.web_app.add_handlers(".*$", [(path, CensusHandler)])
