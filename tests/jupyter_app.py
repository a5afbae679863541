"""A Jupyter server with the extension in the process of the tests, and calls of its routes.

By default it uses the ComfyUI that all tests share; to use another one, a conftest or a module
overrides ``extension_config``.
"""

from __future__ import annotations

import json
import re
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import HTTPClientError

from tests.comfyui_server import REPOSITORY
from tests.processes import OF_TESTS
from tests.specification import check_reply
from tests.waiting import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def extension_config(comfyui, tmp_path) -> dict[str, Any]:
    """The extension's settings."""
    return {"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}


@pytest.fixture
def config_with_folders(comfyui, tmp_path) -> dict[str, Any]:
    """Settings with which the server knows the folders of ComfyUI."""
    return {
        "comfyui_url": comfyui.url,
        "comfyui_path": str(comfyui.path),
        "data_dir": str(tmp_path / "data"),
    }


@pytest.fixture
def jp_server_config(extension_config):
    return {
        "ServerApp": {
            "jpserver_extensions": {"comfydeploy_jupyter": True, "jupyter_server_terminals": False}
        },
        "ComfyDeploy": {**OF_TESTS, **extension_config},
    }


@pytest.fixture
def extension(jp_serverapp, jp_asyncio_loop) -> Iterator[Any]:
    """The running extension, closed after the test."""
    app = jp_serverapp.extension_manager.extension_points["comfydeploy"].app
    yield app
    jp_asyncio_loop.run_until_complete(app.stop_extension())


class Api:
    """Calls routes and returns status and JSON, also for errors."""

    def __init__(self, fetch: Callable[..., Any]) -> None:
        self._fetch = fetch

    async def get(self, route: str, /, **params: str) -> tuple[int, Any]:
        return await self.call("GET", route, params=params)

    async def post(self, route: str, body: Any = None, **kwargs: Any) -> tuple[int, Any]:
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return await self.call("POST", route, body=text, **kwargs)

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        response = await self.raw(method, path, **kwargs)
        return response.code, json.loads(response.body)

    async def raw(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call a route; fail if the specification does not have this reply."""
        try:
            response = await self._fetch(
                "comfyui-deploy", *path.split("/"), method=method, request_timeout=60, **kwargs
            )
        except HTTPClientError as error:
            if error.response is None:
                raise
            response = error.response
        kind = response.headers.get("Content-Type", "")
        check_reply(method, f"/comfyui-deploy/{path}", response.code, kind, response.body)
        return response

    async def until(self, prompt_id: str, *statuses: str, timeout: float = 30) -> dict[str, Any]:
        """Wait until a run has one of the statuses."""
        _, body = await until_async(
            lambda: self.get("check-status", prompt_id=prompt_id),
            lambda answer: answer[0] == 200 and answer[1]["status"] in statuses,
            timeout=timeout,
        )
        return body


@pytest.fixture
def api(extension, jp_fetch) -> Api:
    return Api(jp_fetch)


@pytest.fixture
def events(extension, jp_fetch) -> Callable[..., Any]:
    """Return a function that reads a stream to its end: a list of (id, data)."""

    async def read(method: str = "POST", body: Any = None, **kwargs: Any) -> list[tuple[int, Any]]:
        received = bytearray()
        if method == "POST":
            kwargs["body"] = json.dumps(body)
        await jp_fetch(
            "comfyui-deploy",
            "run",
            "streaming",
            method=method,
            streaming_callback=received.extend,
            request_timeout=60,
            **kwargs,
        )
        messages = parse_stream(bytes(received))
        names = {message["event"] for _, message in messages if "event" in message}
        assert names <= documented_events("The events of a run")
        return messages

    return read


class Metrics(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The values in one reply of ``/metrics``, by name and labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self, f"{key} is there twice"
                self[key] = sample.value
        self.lines = [line for line in text.splitlines() if "comfydeploy" in line]

    def of(self, name: str, **labels: str) -> float | None:
        """Return a value by its name without the prefix."""
        return self.get((f"comfydeploy_{name}", frozenset(labels.items())))


@pytest.fixture
def scrape(extension, jp_fetch) -> Callable[[], Any]:
    """Return a function that reads Jupyter's metrics."""

    async def ask() -> Metrics:
        return Metrics((await jp_fetch("metrics")).body.decode())

    return ask


def parse_stream(text: bytes) -> list[tuple[int, Any]]:
    """Return the messages of a ``text/event-stream``: id and parsed data."""
    messages = []
    for block in text.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        fields = dict(line.split(": ", 1) for line in lines)
        assert fields["event"] == "event_update"
        messages.append((int(fields["id"]), json.loads(fields["data"])))
    return messages


@cache
def documented_events(heading: str) -> frozenset[str]:
    """Return the names in the first column of each table below a heading of ``docs/routes.md``."""
    text = (REPOSITORY / "docs" / "routes.md").read_text()
    section = re.split(r"^##+ ", text.split(f"### {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[
        0
    ]
    rows = re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)
    return frozenset(name for row in rows for name in re.findall(r"`(\w+)`", row))


def chain(*nodes: tuple[str, dict[str, Any]], token: bool = True) -> dict[str, Any]:
    """Return a chain of test nodes that ends with a TestText."""
    stamp = uuid.uuid4().hex if token else ""
    graph: dict[str, Any] = {}
    previous = None
    for number, (class_type, inputs) in enumerate([*nodes, ("TestText", {"text": "done"})], 1):
        graph[str(number)] = {"class_type": class_type, "inputs": {**inputs, "token": stamp}}
        if previous is not None:
            graph[str(number)]["inputs"]["anything"] = [previous, 0]
        previous = str(number)
    return graph


@pytest.fixture(name="chain")
def chain_fixture() -> Callable[..., dict[str, Any]]:
    return chain
