"""A Dask cluster of one machine, for tests."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.comfyui import ComfyUIServer, free_port
from tests.helpers.processes import PYTHONPATH, Reaped
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class DaskProcess(Reaped):
    """A scheduler or a worker."""

    def __init__(self, log: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        env = {"PYTHONPATH": PYTHONPATH, **(env or {})}
        super().__init__(sys.executable, "-m", *arguments, log=log, cwd=log.parent, env=env)
        self._log = log

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text(errors="replace")


class DaskCluster:
    """A scheduler and workers with TLS, whose processes can be killed one by one."""

    def __init__(self, folder: Path, *, plain: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        scheme = "tcp" if plain else "tls"
        self.port = free_port()
        self.address = f"{scheme}://127.0.0.1:{self.port}"
        self.security = {} if plain else make_certificates(folder)
        self.scheduler: Any = None
        self.workers: list[DaskProcess] = []

    def start(self, workers: int = 0) -> None:
        """Start the scheduler and some workers, and wait until the scheduler listens."""
        self.scheduler = DaskProcess(
            self.folder / "scheduler.log",
            *("distributed.cli.dask_scheduler", "--no-dashboard", "--host", self.address),
            *self._tls(),
        )
        until(self._listens, what=self.log)
        for _ in range(workers):
            self.add_worker()

    def add_worker(
        self, *, threads: int = 1, host: str = "127.0.0.1", env: dict[str, str] | None = None
    ) -> DaskProcess:
        """Start a worker, without waiting until it is there."""
        worker = DaskProcess(
            self.folder / f"worker-{len(self.workers)}.log",
            *("distributed.cli.dask_worker", self.address, "--no-dashboard", "--no-nanny"),
            *("--nworkers", "1", "--nthreads", str(threads), "--host", host),
            *("--local-directory", str(self.folder), "--memory-limit", "0", *self._tls()),
            env=env,
        )
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        for process in filter(None, [*self.workers, self.scheduler]):
            process.close()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

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


def _shared(workers: int) -> Any:
    @pytest.fixture(scope="module")
    def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
        made = DaskCluster(tmp_path_factory.mktemp("cluster"))
        made.start(workers)
        yield made
        made.close()

    return cluster


shared_cluster = _shared(1)  # for tests of a module that leave its worker idle
shared_scheduler = _shared(0)


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
