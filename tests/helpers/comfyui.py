"""A real ComfyUI for the tests, and its fixtures.

``COMFYUI_TEST_PATH`` names the ComfyUI tree (default: ``.comfyui`` in the repository) and
``COMFYUI_TEST_PYTHON`` its interpreter (default: ``venv/bin/python`` in that tree). Every instance
has its own base directory, so that tests share no models, inputs, outputs or queues.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.comfyui.find import installed_version
from comfydeploy_jupyter.graphs.versions import version_parts
from tests.helpers.processes import HIDDEN, REPOSITORY, Reaped, start_failure
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BEGUN_IN = Path.cwd()  # relative paths in the environment belong to it; a test may change it
TEST_NODES = REPOSITORY / "tests" / "comfyui" / "custom_nodes"


def comfyui_tree() -> tuple[Path, Path]:
    """Return the ComfyUI tree and the interpreter that the tests use; fail if there is none."""
    path = BEGUN_IN / (os.environ.get("COMFYUI_TEST_PATH") or REPOSITORY / ".comfyui")
    python = BEGUN_IN / (os.environ.get("COMFYUI_TEST_PYTHON") or path / "venv/bin/python")
    if not (path / "main.py").is_file() or not python.is_file():
        pytest.fail(
            f"These tests need a real ComfyUI, and there is none at {path} (interpreter {python}). "
            "Install one with: python -m comfydeploy_jupyter.comfyui.install --path .comfyui",
            pytrace=False,
        )
    return path, python


def comfyui_version() -> str:
    version, _ = installed_version(comfyui_tree()[0])
    assert version is not None
    return version


def is_today() -> bool:
    """Return whether that is ComfyUI 0.33 or later.

    Such a version sends progress at most every 100 ms, and accepts only UUIDs as prompt ids.
    """
    return (version_parts(comfyui_version()) or ()) >= (0, 33)


def _ports() -> Iterator[int]:
    """Yield ports outside the system's ephemeral range, different ones for each test process.

    They begin at a random port, so that unrelated processes rarely use the same one.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(16000 + worker % 8 * 2000, 18000 + worker % 8 * 2000)
    first = random.randrange(len(ports))
    yield from itertools.cycle([*ports[first:], *ports[:first]])


_PORTS = _ports()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now, and that no other test process uses."""
    for port in itertools.islice(_PORTS, 2000):
        if is_free(port):
            return port
    raise OSError("no port of 127.0.0.1 is free")


def is_free(port: int) -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return True
    return False


def link_test_nodes(base_dir: Path) -> None:
    """Give a base directory the nodes of the tests."""
    custom_nodes = base_dir / "custom_nodes"
    custom_nodes.mkdir(parents=True, exist_ok=True)
    for pack in TEST_NODES.iterdir():
        link = custom_nodes / pack.name
        if pack.is_dir() and not link.exists():
            link.symlink_to(pack)


class ComfyUIServer:
    """One running ComfyUI with its own base directory and port."""

    def __init__(
        self,
        base_dir: Path,
        *,
        args: Sequence[str] = (),
        env: dict[str, str] | None = None,
        partner_nodes: bool = False,
    ) -> None:
        self.path, self.python = comfyui_tree()
        self.base_dir = base_dir
        self.input_dir = base_dir / "input"
        self.output_dir = base_dir / "output"
        self.models_dir = base_dir / "models"
        self.log_path = base_dir / "comfyui.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._args = list(args)
        self._env = env or {}
        self._partner_nodes = partner_nodes
        self._process: Reaped | None = None
        for folder in (self.input_dir, self.output_dir, self.models_dir):
            folder.mkdir(parents=True, exist_ok=True)
        link_test_nodes(base_dir)

    @property
    def pid(self) -> int:
        assert self._process is not None, "this ComfyUI is not running"
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process is None or self._process.guard.poll() is not None

    def start(self, timeout: float = 150.0) -> None:
        command = [
            *(str(self.python), "-u", "main.py", "--cpu", "--port", str(self.port)),
            *("--base-directory", str(self.base_dir), "--database-url", "sqlite:///:memory:"),
            *("--preview-method", "auto", *self._args),
            *(() if self._partner_nodes else ("--disable-api-nodes",)),
        ]
        env = {"PYTHONPATH": HIDDEN, **self._env}
        self._process = Reaped(*command, log=self.log_path, cwd=self.path, env=env)
        if why := start_failure(self._process.guard, self._answers, timeout):
            self.kill()
            pytest.fail(f"ComfyUI {why}. Its log:\n{self.log()}", pytrace=False)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.close()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def log(self, characters: int = 8000) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-characters:]

    def empty_queue(self) -> None:
        """End the prompt that is executed, and those that wait; wait until none is left."""
        until(self._has_empty_queue)

    def _has_empty_queue(self) -> bool:
        queue = json.loads(self._request("GET", "/queue"))
        if queue["queue_pending"]:
            self._request("POST", "/queue", {"clear": True})
        if queue["queue_running"]:
            self._request("POST", "/interrupt", {})
        return not queue["queue_pending"] and not queue["queue_running"]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(self._request("GET", "/system_stats"))
        return False

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Send a request; return the body of the reply, or nothing if its status is not 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            return reply.read() if reply.status == 200 else b""


@pytest.fixture(scope="session")
def installed_comfyui() -> tuple[Path, Path]:
    """The ComfyUI tree and its interpreter, for tests that start it themselves or read it."""
    return comfyui_tree()


@pytest.fixture(scope="session")
def comfyui(
    installed_comfyui: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUIServer]:
    """A ComfyUI that all tests share; tests must not kill it."""
    server = ComfyUIServer(tmp_path_factory.mktemp("comfyui"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _empty_queue_of_comfyui(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no prompt of a test, such as one that failed, in the queue that all tests share."""
    server = request.getfixturevalue("comfyui") if "comfyui" in request.fixturenames else None
    yield
    if server is not None and not server.has_ended():
        server.empty_queue()


@pytest.fixture
def start_comfyui(
    installed_comfyui: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., ComfyUIServer]]:
    """A function that starts a ComfyUI for one test, with the arguments ``args`` and ``env``."""
    servers: list[ComfyUIServer] = []

    def start(*, args: Sequence[str] = (), env: dict[str, str] | None = None) -> ComfyUIServer:
        servers.append(ComfyUIServer(tmp_path_factory.mktemp("comfyui"), args=args, env=env))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
