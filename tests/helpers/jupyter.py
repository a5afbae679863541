"""Jupyter servers with the extension, in the process of a test or in their own, and their routes.

By default they use the ComfyUI that all tests share; to use another one, a conftest or a module
overrides ``extension_config``.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tornado.httpclient import HTTPClientError

import comfydeploy_jupyter
from comfydeploy_jupyter.handlers.document import specification
from comfydeploy_jupyter.handlers.route import ReplyModel
from tests.helpers.comfyui import ComfyUIServer, free_port, is_free
from tests.helpers.processes import OF_TESTS, PYTHONPATH, REPOSITORY, ServerProcess
from tests.helpers.waiting import until, until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


TOKEN = "sesame"
BASE_URL = "/a%40b/"
LAB = (
    *("jupyterlab", "jupyter_lsp", "jupyter_server_proxy", "jupyter_server_terminals"),
    *("notebook", "notebook_shim"),
)


_LAB_PORTS: list[int] = []


def _lab_port() -> int:
    """Return a free port, if possible one of an earlier JupyterLab.

    The browser then has files and compiled scripts in its cache.
    """
    for port in _LAB_PORTS:
        if is_free(port):
            return port
    _LAB_PORTS.append(free_port())
    return _LAB_PORTS[-1]


class JupyterProcess(ServerProcess):
    """One Jupyter server with this extension, with an unusual base URL."""

    program: Sequence[str] = ("-m", "jupyter_server")

    def __init__(
        self, folder: Path, config: dict[str, dict[str, Any]], *, lab: bool = False
    ) -> None:
        super().__init__("Jupyter", folder / "jupyter.log")
        self.folder = folder
        self.root = folder / "root"
        self.runtime_dir = folder / "runtime"
        self.token = TOKEN
        self.url = ""
        self._port = 0
        self._config = config
        self._lab = lab
        self.root.mkdir(parents=True)
        # the extension of JupyterLab as it is now, not as it was when the package was installed
        extensions = folder / "extensions" / "labextensions"
        extensions.mkdir(parents=True)
        package = Path(comfydeploy_jupyter.__file__).parent
        (extensions / "comfydeploy-jupyter").symlink_to(package / "labextension")
        self.env = {
            **os.environ,
            "PYTHONPATH": PYTHONPATH,
            "JUPYTER_RUNTIME_DIR": str(self.runtime_dir),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_PATH": str(extensions.parent),
            "IPYTHONDIR": str(folder / "ipython"),
        }
        for name in ("COMFYDEPLOY_JUPYTER_URL", "COMFYDEPLOY_JUPYTER_TOKEN", "JPY_PARENT_PID"):
            self.env.pop(name, None)

    def start(self) -> None:
        """Start it and wait until it replies; fail with its log otherwise."""
        config: dict[str, dict[str, Any]] = {
            "ServerApp": {
                "ip": "127.0.0.1",
                # a number: jupyter_server 2.18 reports the 0 for any port instead of the real one
                "port": self._port or (_lab_port() if self._lab else free_port()),
                "port_retries": 0 if self._port else 50,
                "base_url": BASE_URL,
                "root_dir": str(self.root),
                "open_browser": False,
                "allow_root": True,
                "jpserver_extensions": {
                    "comfydeploy_jupyter": True,
                    **dict.fromkeys(LAB, self._lab),
                },
            },
            "IdentityProvider": {"token": TOKEN},
            "ComfyDeploy": OF_TESTS,
        }
        for name, values in self._config.items():
            config[name] = {**config.get(name, {}), **values}
        path = self.folder / "jupyter_config.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, *self.program, f"--config={path}"]
        self._spawn(command, self._answers, self.kill, cwd=self.root, env=self.env)

    def move(self) -> None:
        self._port = 0

    def kill(self) -> None:
        """Kill it and its kernels (``kill -9``), which is like a crash."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            for path in self.runtime_dir.glob("jpserver-*"):
                path.unlink()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        self.kill()

    def get(self, path: str, **params: str) -> tuple[int, Any]:
        return self.call("GET", path, params=params)

    def post(self, path: str, body: Any, *, timeout: float = 60.0) -> tuple[int, Any]:
        return self.call("POST", path, json=body, timeout=timeout)

    def upload(self, name: str, content: bytes, **fields: str) -> tuple[int, Any]:
        return self.call("POST", "upload-file", files={"file": (name, content)}, data=fields)

    def until(self, prompt_id: str, *statuses: str, timeout: float = 60.0) -> dict[str, Any]:
        _, body = until(
            lambda: self.get("check-status", prompt_id=prompt_id),
            lambda answer: answer[0] == 200 and answer[1]["status"] in statuses,
            timeout=timeout,
        )
        return dict(body)

    def stream(self, prompt_id: str, *, last_id: int = 0) -> list[tuple[int, Any]]:
        """Read the stream of a run to its end: a list of (id, data)."""
        with self._stream(prompt_id, last_id) as answer:
            return parse_stream(answer.content)

    def first_id(self, prompt_id: str) -> int:
        """Return the id of the first event in the stream of a run."""
        with self._stream(prompt_id, 0) as answer:
            return int(next(answer.iter_lines()).removeprefix(b"id: "))

    def _stream(self, prompt_id: str, last_id: int) -> requests.Response:
        headers = {"Last-Event-ID": str(last_id)}
        query = {"prompt_id": prompt_id}
        answer = self.raw("GET", "run/streaming", params=query, headers=headers, stream=True)
        assert answer.status_code == 200, answer.text
        return answer

    def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """Return status and body, JSON or bytes; fail if the specification does not have both."""
        answer = self.raw(method, path, **kwargs)
        kind = answer.headers.get("Content-Type", "")
        check_reply(method, f"/comfyui-deploy/{path}", answer.status_code, kind, answer.content)
        is_json = kind.startswith("application/json")
        return answer.status_code, answer.json() if is_json else answer.content

    def raw(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> requests.Response:
        headers = {"Authorization": f"token {self.token}", **(headers or {})}
        url = f"{self.url}comfyui-deploy/{path}"
        return requests.request(method, url, headers=headers, **{"timeout": 60, **kwargs})

    def _answers(self) -> bool:
        for path in self.runtime_dir.glob("jpserver-*.json"):
            try:
                info = json.loads(path.read_bytes())
            except ValueError:
                return False
            self.url, self._port = info["url"], info["port"]
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                connection.request("GET", f"{urlsplit(self.url).path}api")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
        return False


def _servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., JupyterProcess]]:
    servers: list[JupyterProcess] = []

    def start(*, lab: bool = False, program: Any = None, **config: Any) -> JupyterProcess:
        server = JupyterProcess(tmp_path_factory.mktemp("jupyter"), config, lab=lab)
        server.program = program or server.program
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def start_jupyter(tmp_path_factory) -> Iterator[Callable[..., JupyterProcess]]:
    """A function that starts a Jupyter server for the tests of a module, if they do not end it.

    Its arguments are configuration by class.
    """
    yield from _servers(tmp_path_factory)


@pytest.fixture(scope="session")
def start_shared_jupyter(tmp_path_factory) -> Iterator[Callable[..., JupyterProcess]]:
    """As `start_jupyter`, for tests of several modules."""
    yield from _servers(tmp_path_factory)


@pytest.fixture(scope="session")
def jupyter(start_shared_jupyter, comfyui, tmp_path_factory) -> JupyterProcess:
    """A Jupyter server that uses the real ComfyUI which all tests share."""
    return start_shared_jupyter(
        ComfyDeploy=with_folders(comfyui, tmp_path_factory.mktemp("comfydeploy"))
    )


def with_folders(comfyui: ComfyUIServer, folder: Path) -> dict[str, Any]:
    """Return settings with which the server knows the folders of ComfyUI."""
    path = str(comfyui.path)
    return {"comfyui_url": comfyui.url, "comfyui_path": path, "data_dir": str(folder / "data")}


class RestartableJupyter(JupyterProcess):
    """A Jupyter server that uses the same data folder after each restart."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        settings = {"data_dir": str(folder / "comfydeploy"), **settings}
        super().__init__(folder, {"ComfyDeploy": settings})

    def start(self) -> None:
        """Start it and wait until the extension replies."""
        super().start()
        until(lambda: self.get("check-status")[0] == 200, what=self.log)

    def kill(self) -> None:
        """End only this process by ``kill -9``, like the out-of-memory killer of the kernel."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        super().kill()


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RestartableJupyter]]:
    """A function that starts a Jupyter server; its argument is the extension's settings.

    ``env`` is added to its environment.
    """
    servers: list[RestartableJupyter] = []

    def start(env: dict[str, str] | None = None, **settings: Any) -> RestartableJupyter:
        servers.append(RestartableJupyter(tmp_path_factory.mktemp("jupyter"), settings))
        servers[-1].env.update(env or {})
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


HERE = "urn:specification"


@lru_cache
def strict() -> dict[str, Any]:
    """Return the specification; its replies must not have further keys.

    Clients must accept keys that are added later; our own tests do not.
    """
    found = copy.deepcopy(specification())
    replies = _names_below(ReplyModel)
    for name, schema in found["components"]["schemas"].items():
        if name in replies:
            schema.setdefault("additionalProperties", False)
    return found


def _names_below(model: type) -> set[str]:
    return {model.__name__}.union(*map(_names_below, model.__subclasses__()))


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    """Return the errors of a value as text; the schema is a part of the specification."""
    registry: Registry[Any] = Registry().with_resource(
        HERE, Resource.from_contents(strict(), default_specification=DRAFT202012)
    )
    text = json.dumps(schema).replace('"#/', f'"{HERE}#/')
    validator = Draft202012Validator(json.loads(text), registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of each operation."""
    for path, item in strict()["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def find(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation for a path below the base URL, or None; the longest template counts."""
    matching = [
        (len(template), operation)
        for known, template, operation in operations()
        if known == method.lower() and re.fullmatch(re.sub(r"\{\w+\}", ".*", template), path)
    ]
    return max(matching, key=lambda found: found[0])[1] if matching else None


def check_reply(method: str, path: str, status: int, media_type: str, body: bytes) -> None:
    """Fail unless the specification has this reply.

    The path is below the base URL. Methods and paths that are not in the specification are ignored.
    """
    operation = find(method, unquote(path))
    if operation is None:
        return
    known = operation["responses"]
    reply = known.get(str(status)) or known.get(f"{status // 100}XX") or known.get("default")
    request = f"{method} {path}: {status}"
    assert reply is not None, f"{request} is not in the specification: {body[:500]!r}"
    contents = reply.get("content", {})
    kind = media_type.partition(";")[0].strip()
    content = contents.get(kind) or contents.get("*/*")
    assert content is not None or not contents, f"{request} has the type {kind}, not {[*contents]}"
    if kind == "application/json" and content is not None:
        found = faults(content["schema"], json.loads(body))
        assert not found, f"{request} is not as specified: {found}\n{body[:2000]!r}"


@pytest.fixture
def extension_config(comfyui, tmp_path) -> dict[str, Any]:
    return {"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}


@pytest.fixture
def config_with_folders(comfyui, tmp_path) -> dict[str, Any]:
    return with_folders(comfyui, tmp_path)


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

    async def run(self, graph: Any = None, /, **fields: Any) -> dict[str, Any]:
        """Run a graph, which must succeed; return the record of the run."""
        body = fields if graph is None else {"workflow_api": graph, **fields}
        code, record = await self.post("run", body)
        assert (code, record["status"]) == (200, "success"), record
        return record

    async def start(self, graph: Any, **fields: Any) -> str:
        """Queue a graph; return the id of its run."""
        body = {"workflow_api": graph, "wait": False, **fields}
        code, record = await self.post("run", body)
        assert code == 200, record
        return record["prompt_id"]

    async def transferred(self, transfer_id: str) -> dict[str, Any]:
        """Wait for the end of a transfer, and return it."""

        async def transfer() -> dict[str, Any]:
            _, queue = await self.get("upload-queue-status")
            return next(one for one in queue["uploads"] if one["id"] == transfer_id)

        final = ("done", "failed", "cancelled")
        return await until_async(transfer, lambda found: found["state"] in final)

    async def refusal(self, route: str, body: Any = None, **kwargs: Any) -> tuple[int, str]:
        """Send a wrong request; return the status, and the wrong field, else the code."""
        code, error = await self.post(route, body, **kwargs)
        assert error["success"] is False
        return code, error.get("details", {}).get("field", error["code"])

    async def until(self, prompt_id: str, *statuses: str, timeout: float = 60) -> dict[str, Any]:
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
        path = ("comfyui-deploy", "run", "streaming")
        options = {"streaming_callback": received.extend, "request_timeout": 60}
        await jp_fetch(*path, method=method, **options, **kwargs)
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
    section = re.split(r"\n##+ ", text.split(f"### {heading}\n")[1])[0]
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


def run_in_terminal(
    code: str,
    *arguments: str,
    jupyter: JupyterProcess,
    folder: Path,
    whole: bool = False,
    **environ: str,
) -> tuple[str, str]:
    """Run a script whose errors go to a terminal; return its output, and the terminal's text.

    With `whole`, its output goes to the terminal too.
    """
    parent_end, child_end = pty.openpty()
    known = ("COLORTERM", "KITTY_WINDOW_ID", "NO_COLOR", "TERM_PROGRAM", "TMUX", "VTE_VERSION")
    env = {key: value for key, value in jupyter.env.items() if key not in known}
    env["PYTHONPATH"] = str(REPOSITORY)
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**env, "COLUMNS": "100", "TERM": "xterm-256color", **environ},
        stdin=subprocess.DEVNULL,
        stdout=child_end if whole else subprocess.PIPE,
        stderr=child_end,
        text=True,
    ) as process:
        os.close(child_end)
        drawn = _read(parent_end)
        out, _ = process.communicate(timeout=60)
    os.close(parent_end)
    return out, drawn


def _read(terminal: int) -> str:
    content = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while chunk := os.read(terminal, 4096):
            content += chunk
    return content.decode(errors="replace")
