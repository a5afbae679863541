"""A Dask cluster for tests: a scheduler and workers, each in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.util.reaper import reaped_command

from .comfyui_server import REPOSITORY, ComfyUIServer, free_port
from .processes import ServerProcess, alive
from .waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


class DaskProcess(ServerProcess):
    """A scheduler or a worker; it ends with the tests, even if these are killed.

    Parameters
    ----------
    log : pathlib.Path
        The file for its output.
    """

    def __init__(self, log: Path) -> None:
        super().__init__("Dask", log)
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._pid

    def start(self, arguments: Sequence[str], env: dict[str, str] | None = None) -> None:
        """Run ``python -m distributed.cli.…`` with some arguments."""
        self.close()
        command = [sys.executable, "-m", *arguments]
        self._guard = subprocess.Popen(
            reaped_command(command, log=self._log, cwd=self._log.parent),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline())

    def kill(self) -> None:
        """Kill it (``kill -9``), but not the processes that it has started."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        until(lambda: not alive(self._pid))

    def close(self) -> None:
        """End it, with all that it has started."""
        if self._guard is not None:
            with self._guard:
                pass  # closes its standard input, and waits
            self._guard = None


class DaskCluster:
    """A scheduler and workers with TLS, whose processes can be killed one by one.

    Parameters
    ----------
    folder : pathlib.Path
        The parent of logs and certificates.
    plain : bool
        Whether there is no TLS.

    Attributes
    ----------
    address : str
        The address of the scheduler, the same after a restart.
    security : dict of str to str
        The files of the certificates, by the names of `distributed.Security`; empty without TLS.
    workers : list of DaskProcess
        All workers that were started.
    """

    def __init__(self, folder: Path, *, plain: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        scheme = "tcp" if plain else "tls"
        self.port = free_port()
        self.address = f"{scheme}://127.0.0.1:{self.port}"
        self.security = {} if plain else make_certificates(folder)
        self.scheduler = DaskProcess(folder / "scheduler.log")
        self.workers: list[DaskProcess] = []

    def start(self, workers: int = 0) -> None:
        """Start the scheduler and some workers, and wait until the scheduler listens."""
        self.scheduler.start(
            [
                *("distributed.cli.dask_scheduler", "--no-dashboard", "--host", self.address),
                *self._tls(),
            ]
        )
        until(self._listens, what=self.scheduler.log)
        for _ in range(workers):
            self.add_worker()

    def add_worker(
        self, *, threads: int = 1, host: str = "127.0.0.1", env: dict[str, str] | None = None
    ) -> DaskProcess:
        """Start a worker, without waiting until it is there."""
        worker = DaskProcess(self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        worker.start(
            [
                *("distributed.cli.dask_worker", self.address, "--no-dashboard", "--no-nanny"),
                *("--nworkers", "1", "--nthreads", str(threads), "--host", host),
                *("--local-directory", str(self.folder), "--memory-limit", "0"),
                *self._tls(),
            ],
            env,
        )
        return worker

    def close(self) -> None:
        """End all processes."""
        for process in [*self.workers, self.scheduler]:
            process.close()

    def log(self) -> str:
        """Return the output of all processes."""
        return "\n".join(process.log() for process in [self.scheduler, *self.workers])

    def _tls(self) -> list[str]:
        if not self.security:
            return []
        files = self.security
        return [
            *("--tls-ca-file", files["tls_ca_file"]),
            *("--tls-cert", files["tls_client_cert"], "--tls-key", files["tls_client_key"]),
        ]

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0


def make_certificates(folder: Path) -> dict[str, str]:
    """Write new certificates, and return their files by the names of `distributed.Security`."""
    from distributed.security import Security

    security = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        path = folder / f"{name}.pem"
        path.write_text(getattr(security, name))
        path.chmod(0o600)
        files[name] = str(path)
    return files


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[..., DaskCluster]]:
    """A function that makes a `DaskCluster` for one test and starts it with some workers."""
    clusters: list[DaskCluster] = []

    def start(workers: int = 0, **options: Any) -> DaskCluster:
        cluster = DaskCluster(tmp_path / f"cluster-{len(clusters)}", **options)
        clusters.append(cluster)
        cluster.start(workers)
        return cluster

    yield start
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def lease_settings(installed_comfyui: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    """The fields of a request for a pool with which ComfyUI is started on the workers."""
    path, python = installed_comfyui
    base = ComfyUIServer(tmp_path / "base").base_dir  # it has the nodes of the tests
    return {
        "comfyui_path": str(path),
        "comfyui_python": str(python),
        "launch_args": ["--cpu", "--base-directory", str(base), "--disable-api-nodes"],
    }
