"""A real Jupyter server in a separate process, as users start it: with kernels and a page."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from .comfyui_server import free_port
from .processes import OF_TESTS, PYTHONPATH, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
TOKEN = "sesame"
BASE_URL = "/a%40b/"
LAB = (
    *("jupyterlab", "jupyter_lsp", "jupyter_server_proxy", "jupyter_server_terminals"),
    *("notebook", "notebook_shim"),
)


class JupyterProcess(ServerProcess):
    """One Jupyter server with this extension, with an unusual base URL.

    Parameters
    ----------
    folder : pathlib.Path
        The folder of its configuration, its runtime files, its log and its root directory.
    config : dict
        Further configuration, by class.
    lab : bool
        Whether it has JupyterLab; without JupyterLab it starts faster.
    program : tuple of str
        The arguments of Python.

    Attributes
    ----------
    root : pathlib.Path
        Its root directory.
    url, token : str
        Its address and its token; the address is the same after a restart.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, dict[str, Any]],
        *,
        lab: bool = False,
        program: tuple[str, ...] = ("-m", "jupyter_server"),
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
        self._program = program
        self.root.mkdir(parents=True)
        self.env = {
            **os.environ,
            "PYTHONPATH": PYTHONPATH,
            "JUPYTER_RUNTIME_DIR": str(self.runtime_dir),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
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
                "port": self._port or free_port(),
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
        command = [sys.executable, *self._program, f"--config={path}"]
        self._spawn(command, self._answers, self.kill, cwd=self.root, env=self.env)

    def move(self) -> None:
        """Let the next start use another port."""
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
        """End it normally."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        self.kill()

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


@contextlib.contextmanager
def _servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., JupyterProcess]]:
    servers: list[JupyterProcess] = []

    def start(
        *,
        lab: bool = False,
        program: tuple[str, ...] = ("-m", "jupyter_server"),
        **config: dict[str, Any],
    ) -> JupyterProcess:
        folder = tmp_path_factory.mktemp("jupyter")
        servers.append(JupyterProcess(folder, config, lab=lab, program=program))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def start_jupyter(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., JupyterProcess]]:
    """A function that starts a Jupyter server for the tests of a module, if they do not end it.

    Its arguments are configuration by class.
    """
    with _servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def start_shared_jupyter(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., JupyterProcess]]:
    """As `start_jupyter`, for tests of several modules."""
    with _servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def jupyter(start_shared_jupyter, comfyui, tmp_path_factory) -> JupyterProcess:
    """A Jupyter server that uses the real ComfyUI which all tests share."""
    data_dir = tmp_path_factory.mktemp("comfydeploy")
    return start_shared_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "data_dir": str(data_dir),
        }
    )
