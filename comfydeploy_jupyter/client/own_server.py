"""Starts a Jupyter server for processes that have none."""

from __future__ import annotations

import atexit
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
from pathlib import Path
from typing import Any

from ..errors import ComfyDeployError, ServerUnreachableError
from ..util.posix import require_posix
from ..util.reaper import reaped_command
from .server import Server

START_TIMEOUT = 90.0
"""How long a server may take to start, s; the first start reads many files."""

LOG_LINES = 20


class OwnServer:
    """A Jupyter server on loopback with only this extension; it ends with this process.

    Raises
    ------
    ServerUnreachableError
        It does not start; ``details["log"]`` has its last lines.
    UnsupportedPlatformError
        This system is not Linux or macOS.
    """

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
        identity = {"token": token, "hashed_password": ""}
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
            "PasswordIdentityProvider": identity,
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
            try:
                info = json.loads(path.read_bytes())
            except ValueError:
                return None
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
    """Return the server that this process has started, or start it.

    Raises
    ------
    ServerUnreachableError
        It does not start.
    """
    with _lock:
        if not (_running and _running[0].alive):
            _running[:] = [OwnServer()]
        return _running[0].server
