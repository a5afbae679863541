"""Finding the Jupyter server with the routes, or starting one."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import psutil
from jupyter_core.paths import jupyter_runtime_dir

from ..errors import (
    ComfyDeployError,
    ServerUnreachableError,
    UnauthorizedError,
    UnsupportedPlatformError,
)
from ..util.reaper import reaped_command
from ..util.system import require_posix
from .comfy import Comfy, Display
from .server import HOW_TO_ENABLE, ExtensionMissingError, Server

if TYPE_CHECKING:
    from collections.abc import Iterator


START_TIMEOUT = 90.0
"""How long a server may take to start, s; the first start reads many files."""

LOG_LINES = 20


class OwnServer:
    """A Jupyter server on loopback with only this extension; it ends with this process."""

    def __init__(self) -> None:
        require_posix("The Jupyter server that connect() starts where there is none")
        self._folder = Path(tempfile.mkdtemp(prefix="comfydeploy-jupyter-"))
        self._log = self._folder / "server.log"
        self._write_config(secrets.token_hex(24))
        self._process = subprocess.Popen(
            reaped_command(
                [sys.executable, "-m", "comfydeploy_jupyter"], log=self._log, cwd=self._folder
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=self._environment(),
        )
        atexit.register(self.stop)
        try:
            self.server = self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop it; a second call does nothing."""
        atexit.unregister(self.stop)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_config(self, token: str) -> None:
        # A configuration file, not arguments: everybody on this machine can read the arguments of a
        # process. It is in the folder of highest priority, so the settings that the user made for
        # other servers (a port, a certificate, a password) do not apply here.
        config: dict[str, dict[str, Any]] = {
            "ServerApp": {
                "ip": "127.0.0.1",
                # not 0, which means any free port: jupyter_server 2.18 announces that 0
                "port": _free_port(),
                "port_retries": 50,  # another process may take it before Jupyter does
                "sock": "",
                "base_url": "/",
                "root_dir": str(Path.cwd()),
                "open_browser": False,
                "allow_root": True,
                "certfile": "",
                "keyfile": "",
                "identity_provider_class": "jupyter_server.auth.PasswordIdentityProvider",
            },
            "IdentityProvider": {"token": token},
            "PasswordIdentityProvider": {"token": token, "hashed_password": ""},
        }
        path = self._folder / "jupyter_server_config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))

    def _environment(self) -> dict[str, str]:
        paths = [str(self._folder), os.environ.get("JUPYTER_CONFIG_PATH", "")]
        return {
            **os.environ,
            "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths)),
            "JUPYTER_RUNTIME_DIR": str(self._folder),
        }

    def _wait(self) -> Server:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if not self.alive:
                raise self._failure("ended while starting")
            server = self._announced()
            if server is not None:
                try:
                    server.get("check-status", timeout=deadline - time.monotonic())
                except ServerUnreachableError as error:
                    if error.details.get("foreign"):
                        raise
                except ComfyDeployError as error:
                    raise self._failure(f"does not have the routes: {error}") from error
                else:
                    return server
            time.sleep(0.05)
        raise self._failure(f"has not started within {START_TIMEOUT:g} s")

    def _announced(self) -> Server | None:
        for path in self._folder.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # it is being written
                info = json.loads(path.read_bytes())
                return Server(info["url"], info["token"], own=True)
        return None

    def _failure(self, what: str) -> ServerUnreachableError:
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = log.splitlines()[-LOG_LINES:]
        last = f": {lines[-1].strip()}" if lines else ""
        return ServerUnreachableError(
            f"the Jupyter server that connect() started {what}{last}", details={"log": lines}
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_lock = threading.Lock()
_running: list[OwnServer] = []


def own_server() -> Server:
    """Return the server that this process has started, or start it."""
    with _lock:
        if not (_running and _running[0].alive):
            _running[:] = [OwnServer()]
        return _running[0].server


ENV_URL = "COMFYDEPLOY_JUPYTER_URL"
ENV_TOKEN = "COMFYDEPLOY_JUPYTER_TOKEN"  # noqa: S105 - the name of a variable

CHECK_TIMEOUT = 10.0
"""How long a server may take to reply that it has the routes, s."""


@dataclass(frozen=True)
class Candidate:
    """A Jupyter server that may have the routes."""

    url: str  # its address and its token
    token: str
    mine: bool  # whether it started this process
    sock: str = ""  # the Unix socket on which it listens; empty if it listens on a port


def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    start: bool = True,
    display: Display | None = None,
) -> Comfy:
    """Find the Jupyter server with the routes, and return a client for it.

    See `comfydeploy_jupyter.connect`, which also shows progress. Except for a given ``url``, a
    server on this machine gets the token only if it is a process of this user or of root.

    Parameters
    ----------
    url, token, start
        As for `comfydeploy_jupyter.connect`, which raises the same.
    display : callable, optional
        Makes the live view of `Comfy.run`.
    """
    own = not url  # an address that the user gives is used without a check of its owner
    url = url or os.environ.get(ENV_URL)
    token = token if token is not None else os.environ.get(ENV_TOKEN)
    if url:
        server = Server(url, token, own=own)
        _check(server)
    else:
        found = _find(token)
        if found is None and not start:
            raise ServerUnreachableError(
                f"no Jupyter server with comfydeploy_jupyter was found; give its url and token, or "
                f"{HOW_TO_ENABLE}"
            )
        server = own_server() if found is None else found
    return Comfy(server.url, server.token, display=display, own=own)


def candidates() -> Iterator[Candidate]:
    """Yield the Jupyter servers that may have the routes, the most likely first."""
    token, service = map(os.environ.get, ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_SERVICE_URL"))
    if token and service:
        prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
        yield Candidate(urljoin(_reachable(service), prefix), token, mine=True)
    servers = _servers(set(_ancestors()))
    for _, found in sorted(servers, key=lambda server: (not server[1].mine, -server[0])):
        yield found


def _check(server: Server) -> None:
    """Raise unless the server has the routes; the message says what to do."""
    try:
        server.get("check-status", timeout=CHECK_TIMEOUT)
    except UnauthorizedError as error:
        how = f"give one to connect(token=…) or in {ENV_TOKEN}"
        if server.token:
            raise UnauthorizedError(
                f"the Jupyter server at {server.url} does not accept the token; {how} that it"
                " accepts"
            ) from error
        raise UnauthorizedError(
            f"the Jupyter server at {server.url} requires a token, and none is known (a program "
            f"cannot enter a password); start Jupyter with a token and {how}"
        ) from error


def _find(token: str | None) -> Server | None:
    for candidate in candidates():
        try:
            if candidate.sock:
                raise ServerUnreachableError(
                    f"the Jupyter server of this kernel listens on the Unix socket "
                    f"{candidate.sock}, which is not supported; start Jupyter with a port"
                )
            server = Server(candidate.url, candidate.token if token is None else token, own=True)
            _check(server)
        except ComfyDeployError as error:
            if not candidate.mine:
                continue
            if candidate.sock or isinstance(error, (UnauthorizedError, UnsupportedPlatformError)):
                raise
            problem = f"{error}; another server is used instead"
            if isinstance(error, ExtensionMissingError):
                problem = (
                    "the Jupyter server of this kernel does not have comfydeploy_jupyter enabled "
                    f"({HOW_TO_ENABLE}); another server is used until then"
                )
            warnings.warn(problem, UserWarning, stacklevel=3)
        else:
            return server
    return None


def _servers(ancestors: set[int]) -> Iterator[tuple[float, Candidate]]:
    """Yield this user's running servers by their runtime files, and when these were written."""
    for path in Path(jupyter_runtime_dir()).glob("jpserver-*.json"):
        try:
            facts = path.stat()
            info = json.loads(path.read_bytes())
            if hasattr(os, "getuid") and facts.st_uid != os.getuid():
                continue  # on Windows the folder itself is the user's own
            _ = info["base_url"]  # files of other programs, such as an MCP server, have none
            url, pid = _reachable(str(info["url"])), int(info["pid"])
            token, sock = str(info.get("token") or ""), str(info.get("sock") or "")
        except (OSError, ValueError, KeyError, TypeError):
            # The file is being written, or is of another version of Jupyter.
            continue
        if _alive(pid):
            yield facts.st_mtime, Candidate(url, token, pid in ancestors, sock)


def _reachable(url: str) -> str:
    """Return an address that works on this machine, also for a server on all interfaces."""
    parts = urlsplit(url)
    if parts.hostname not in {None, "", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return url
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, f"127.0.0.1{port}", parts.path, "", ""))


def _ancestors() -> Iterator[int]:
    """Yield the ids of this process and its parents; Jupyter passes its own id to kernels."""
    yield os.getpid()
    parent = os.environ.get("JPY_PARENT_PID", "")
    if parent.isdigit():
        yield int(parent)
    yield os.getppid()
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().parents():
            yield process.pid


def _alive(pid: int) -> bool:
    """Return whether there is such a process, and it is this user's."""
    try:
        process = psutil.Process(pid)
        return not hasattr(os, "getuid") or process.uids().real == os.getuid()
    except (psutil.Error, OverflowError, ValueError):
        return False
