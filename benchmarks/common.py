"""Functions of all benchmarks: real servers, two equally simple clients, and printed figures.

ComfyUI and Jupyter run in separate processes, so that no client shares an interpreter lock with
the server that it measures. The reference and our code are always measured in the same run and in
turns (reference, ours, ours, reference, …), so that a slow machine slows both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import websocket

from tests.helpers.comfyui import ComfyUIServer, free_port
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NoReturn

Graph = dict[str, dict[str, Any]]
NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


@dataclass(frozen=True)
class Figure:
    """One measured figure and its reference.

    Attributes
    ----------
    name : str
        The name of the measured quantity.
    value, reference : float
        Our value, and that of the reference in the same run; in ``unit``.
    kind : {"ratio", "added"}
        Whether ``bound`` limits ``value / reference`` or ``value - reference``.
    bound : float
        The largest allowed value.
    unit : str
        The unit, such as ``ms``.
    """

    name: str
    value: float
    reference: float
    kind: Literal["ratio", "added"]
    bound: float
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """Our value divided by that of the reference; infinite if that is 0."""
        return self.value / self.reference if self.reference else math.inf

    @property
    def ok(self) -> bool:
        """Whether the value is within the bound."""
        return (self.ratio if self.kind == "ratio" else self.value - self.reference) <= self.bound

    def __str__(self) -> str:
        facts = [f"reference {self.reference:.2f} {self.unit}", f"ratio {self.ratio:.3f}"]
        if self.kind == "added":
            facts.append(f"added {self.value - self.reference:.2f} {self.unit}")
            facts.append(f"bound added {self.bound:g} {self.unit}")
        else:
            facts.append(f"bound ratio {self.bound:g}")
        verdict = "ok" if self.ok else "OVER"
        return f"{self.name}: {self.value:.2f} {self.unit} ({', '.join(facts)}) {verdict}"


def run(main: Callable[[], int]) -> NoReturn:
    """Run a benchmark and exit with its code; on SIGTERM also end the servers that it started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())


def report(*figures: Figure) -> int:
    """Print each figure on a line; return the exit code, 1 if one is over its bound."""
    for figure in figures:
        print(figure, flush=True)
    return 0 if all(figure.ok for figure in figures) else 1


def percentile(values: Iterable[float], percent: int) -> float:
    """Return a percentile: ``percent`` (1 to 99) of the values do not exceed it."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def in_turns(
    reference: Callable[[], float], ours: Callable[[], float], pairs: int
) -> tuple[list[float], list[float]]:
    """Call both equally often, in the order ABBA, and return their results.

    Parameters
    ----------
    reference, ours : callable
        Each does its work once and returns the measured value.
    pairs : int
        The number of calls of each; an even number keeps the order balanced.
    """
    theirs: list[float] = []
    mine: list[float] = []
    for pair in range(pairs):
        turns = [(reference, theirs), (ours, mine)]
        for measure, values in turns if pair % 2 == 0 else reversed(turns):
            values.append(measure())
    return theirs, mine


def seconds(work: Callable[[], object]) -> Callable[[], float]:
    """Return a function that calls ``work`` and returns its duration in seconds."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return timed


def node(class_type: str, **inputs: Any) -> Graph:
    """Return a graph of one test node and one output node.

    Because of the random token, ComfyUI does not use cached outputs of the nodes.
    """
    token = uuid.uuid4().hex
    return {
        "1": {"class_type": class_type, "inputs": {**inputs, "token": token}},
        "2": {
            "class_type": "TestText",
            "inputs": {"text": "done", "token": token, "anything": ["1", 0]},
        },
    }


class Jupyter:
    """A ``python -m jupyter_server`` process with its own folders, port and token.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder for its configuration, its data and its root directory.
    extensions : dict of str to bool
        The server extensions to enable or disable besides those of the environment.
    settings : dict
        The settings of ``ComfyDeploy``.
    """

    def __init__(
        self, folder: Path, *, extensions: dict[str, bool], settings: dict[str, Any]
    ) -> None:
        self.port = free_port()
        self.data_dir = folder / "data"
        self.host = "127.0.0.1"
        self.token = uuid.uuid4().hex
        self.headers = {
            "Authorization": f"token {self.token}",
            "Content-Type": "application/json",
        }
        self.log_path = folder / "jupyter.log"
        root = folder / "root"
        root.mkdir(parents=True)
        config = folder / "config"
        config.mkdir()
        (config / "jupyter_server_config.json").write_text(
            json.dumps(
                {
                    "ServerApp": {
                        "ip": self.host,
                        "port": self.port,
                        "port_retries": 0,
                        "allow_root": True,
                        "open_browser": False,
                        "root_dir": str(root),
                        "jpserver_extensions": extensions,
                    },
                    "IdentityProvider": {"token": self.token},
                    "ComfyDeploy": {"data_dir": str(self.data_dir), **settings},
                }
            )
        )
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("COMFYDEPLOY_")},
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_CONFIG_PATH": str(REPOSITORY / "tests" / "jupyter_config"),
            "JUPYTER_DATA_DIR": str(folder / "jupyter-data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "PYTHONPATH": str(REPOSITORY),
        }
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what clients in other processes need."""
        return {**self.__dict__, "_process": None}

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "this Jupyter is not running"
        return self._process.pid

    def start(self, timeout: float = 60.0) -> float:
        """Start the server and return the seconds until it has answered a request."""
        begin = time.perf_counter()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server"],
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - begin > timeout:
                self.stop()
                raise RuntimeError(f"Jupyter did not start:\n{self.log_path.read_text()[-4000:]}")
            time.sleep(0.002)
        return time.perf_counter() - begin

    def stop(self) -> None:
        """End the server; kill it if it does not end within ten seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def get(self, path: str) -> Any:
        """Return the JSON reply of a route."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request("GET", path, headers=self.headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status} {text[:500]!r}")
        return json.loads(text)

    def wait_connected(self, timeout: float = 30.0) -> None:
        """Wait until the extension is connected to ComfyUI."""
        deadline = time.monotonic() + timeout
        while not self.get("/comfyui-deploy/check-ws-status")["connected"]:
            if time.monotonic() > deadline:
                raise RuntimeError("the extension does not connect to ComfyUI")
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", "/api")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextlib.contextmanager
def running_comfyui() -> Iterator[ComfyUIServer]:
    """Run a ComfyUI with the test nodes in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as folder:
        server = ComfyUIServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def running_jupyter(
    comfyui_url: str, *, extensions: dict[str, bool] | None = None, **settings: Any
) -> Iterator[Jupyter]:
    """Run a Jupyter server with the extension, connected to a ComfyUI."""
    with tempfile.TemporaryDirectory(prefix="comfydeploy-bench-") as folder:
        jupyter = Jupyter(
            Path(folder),
            extensions={"comfydeploy_jupyter": True, **(extensions or {})},
            settings={"comfyui_url": comfyui_url, **settings},
        )
        try:
            jupyter.start()
            jupyter.wait_connected()
            yield jupyter
        finally:
            jupyter.stop()


class RawClient:
    """The reference: ``POST /prompt`` on a persistent connection, and a WebSocket for the end."""

    def __init__(self, comfyui_url: str) -> None:
        address = urlsplit(comfyui_url).netloc
        self.client_id = uuid.uuid4().hex
        self._http = http.client.HTTPConnection(address, timeout=60)
        self._socket = websocket.create_connection(
            f"ws://{address}/ws?clientId={self.client_id}", timeout=60, sockopt=NODELAY
        )

    def run(self, graph: Graph) -> list[tuple[float, str]]:
        """Run a graph; return each text frame with the monotonic time of its arrival."""
        body = json.dumps({"prompt": graph, "client_id": self.client_id})
        self._http.request("POST", "/prompt", body, {"Content-Type": "application/json"})
        response = self._http.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"ComfyUI refused the graph: {answer}")
        frames = []
        while True:
            text = self._socket.recv()
            if not isinstance(text, str):
                continue
            frames.append((time.monotonic(), text))
            if is_end(json.loads(text), answer["prompt_id"]):
                return frames

    def close(self) -> None:
        """Close both connections."""
        self._socket.close()
        self._http.close()


class OurClient:
    """A client of our routes with one persistent connection.

    It stores Jupyter's login cookie, as browsers and sessions of ``requests`` do.
    """

    def __init__(self, jupyter: Jupyter) -> None:
        self._headers = dict(jupyter.headers)
        self._http = http.client.HTTPConnection(jupyter.host, jupyter.port, timeout=60)
        self._http.request("GET", "/comfyui-deploy/check-ws-status", headers=self._headers)
        response = self._http.getresponse()
        response.read()
        cookies = response.headers.get_all("Set-Cookie") or ()
        self._headers["Cookie"] = "; ".join(cookie.partition(";")[0] for cookie in cookies)

    def run(self, graph: Graph, **fields: Any) -> dict[str, Any]:
        """Run a graph and wait for its result."""
        response = self._post("run", {"workflow_api": graph, **fields})
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200 or answer["status"] != "success":
            raise RuntimeError(f"the run did not succeed: {answer}")
        return answer

    def queue(self, graph: Graph, **fields: Any) -> str:
        """Queue a run, and return its id."""
        response = self._post("run", {"workflow_api": graph, "wait": False, **fields})
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"the run was not queued: {answer}")
        return str(answer["prompt_id"])

    def stream(self, graph: Graph, **fields: Any) -> list[tuple[float, bytes]]:
        """Run a graph; return each piece of its event stream with the time of its arrival."""
        response = self._post("run/streaming", {"workflow_api": graph, **fields})
        if response.status != 200:
            raise RuntimeError(f"the run was refused: {response.read()!r}")
        pieces = []
        while piece := response.read1(1 << 20):
            pieces.append((time.monotonic(), piece))
        return pieces

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, route: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        self._http.request("POST", f"/comfyui-deploy/{route}", json.dumps(body), self._headers)
        return self._http.getresponse()


def is_end(message: dict[str, Any], prompt_id: str) -> bool:
    """Return whether a message of ComfyUI marks the end of a prompt."""
    data = message.get("data") or {}
    return (
        message.get("type") == "executing"
        and data.get("node") is None
        and data.get("prompt_id") == prompt_id
    )


def stream_messages(pieces: Iterable[tuple[float, bytes]]) -> list[tuple[float, dict[str, Any]]]:
    """Return the data of each message of an event stream, and when its last byte arrived."""
    messages = []
    waiting = b""
    for when, piece in pieces:
        *blocks, waiting = (waiting + piece).split(b"\n\n")
        for block in blocks:
            lines = (line for line in block.split(b"\n") if line.startswith(b"data: "))
            messages += [(when, json.loads(line[6:])) for line in lines]
    return messages
