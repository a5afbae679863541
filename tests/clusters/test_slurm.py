"""A pool on a real Slurm, with dask-jobqueue, as a user of a notebook makes it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter import connect
from tests.clusters.test_pools import run, view
from tests.helpers.clusters import make_certificates
from tests.helpers.jupyter import RestartableJupyter
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


_handler = signal.getsignal(signal.SIGINT)
from dask_jobqueue import SLURMCluster  # noqa: E402 - it replaces the handler of SIGINT

signal.signal(signal.SIGINT, _handler)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def make_cluster(folder: Path) -> SLURMCluster:
    """Return a cluster whose workers are jobs."""
    from distributed.security import Security

    files = make_certificates(folder)
    names = ("scheduler", "worker", "client")
    security = Security(
        require_encryption=True,
        tls_ca_file=files["tls_ca_file"],
        **{f"tls_{name}_cert": files["tls_client_cert"] for name in names},
        **{f"tls_{name}_key": files["tls_client_key"] for name in names},
    )
    return SLURMCluster(
        queue="main",
        cores=1,
        processes=1,
        memory="1GB",
        walltime="01:00:00",
        protocol="tls://",
        security=security,
        interface="lo",
        local_directory=str(folder),
        log_directory=str(folder),
        scheduler_options={"dashboard_address": ":0"},
    )


@pytest.mark.thorough
def test_slurm_jobs_start_with_runs_and_end_after_them(slurm, lease_settings, tmp_path):
    jupyter = RestartableJupyter(
        tmp_path / "jupyter", {"autostart": False, "cluster_idle_timeout": 10.0}
    )
    jupyter.start()
    try:
        comfy = connect(jupyter.url, token=jupyter.token)
        with make_cluster(tmp_path) as cluster:
            comfy.machines.create("hpc", cluster=cluster, workers=(0, 1), **lease_settings)
            assert slurm.jobs() == []
            # a job for the first run
            first = jupyter.until(run(jupyter, "first"), "success", timeout=200)
            [job] = slurm.jobs()
            # the job is cancelled: the executing run fails, the waiting one moves to the next job
            executing = run(jupyter, "executing", 300)
            jupyter.until(executing, "running", timeout=100)
            waiting = run(jupyter, "waiting")
            slurm.call("scancel", job)
            jupyter.until(executing, "failed", timeout=60)
            moved = jupyter.until(waiting, "success", timeout=200)
            assert moved["machine"] != first["machine"]
            assert job not in slurm.jobs()
            # no runs, no jobs
            until(lambda: not slurm.jobs(), timeout=100, what=slurm.log)
            for record in (first, moved):
                assert view(jupyter, record).startswith(b"\x89PNG")
            comfy.machines.delete("hpc")
    finally:
        jupyter.kill()
