"""A pool on a real Slurm, with dask-jobqueue, as a user of a notebook makes it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from comfydeploy_jupyter import connect
from tests.clusters.test_pools import run, view
from tests.helpers.clusters import make_certificates
from tests.helpers.comfyui import free_port
from tests.helpers.jupyter import RestartableJupyter
from tests.helpers.processes import Reaped
from tests.helpers.waiting import until

_handler = signal.getsignal(signal.SIGINT)
from dask_jobqueue import SLURMCluster  # noqa: E402 - it replaces the handler of SIGINT

signal.signal(signal.SIGINT, _handler)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CORES = 64  # more than the machine has, so that several jobs run at the same time

CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} Boards=1 SocketsPerBoard={cores} \
CoresPerSocket=1 ThreadsPerCore=1 RealMemory=100000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Slurm's daemons and the daemon that authenticates its messages, with their own folder."""

    def __init__(self, folder):
        self.folder = folder
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons = []

    def start(self):
        """Start the daemons, and wait until the node can be used."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(mode=0o700)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        config = self.folder / "slurm.conf"
        ports = {"port": free_port(), "node_port": free_port()}
        config.write_text(CONFIG.format(host=host, folder=self.folder, cores=CORES, **ports))
        munge = [
            f"--socket={self.folder}/munge.sock",
            f"--key-file={key}",
            *(f"--{name}-file={self.folder}/munge.{name}" for name in ("log", "pid", "seed")),
        ]
        self._run("munged", "--foreground", "--force", "--num-threads=10", *munge)
        until((self.folder / "munge.sock").exists, what=self.log)
        self._run("slurmctld", "-D", "-f", str(config))
        self._run("slurmd", "-D", "-f", str(config), "-N", host)
        until(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T"), what=self.log)

    def call(self, *command):
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30).stdout

    def jobs(self):
        return self.call("squeue", "-h", "-o", "%i").split()

    def close(self):
        self.call("scancel", "--user=root")
        begin = time.monotonic()
        while self.jobs() and time.monotonic() - begin < 20:
            time.sleep(0.1)
        for daemon in reversed(self._daemons):
            daemon.close()

    def log(self):
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def _run(self, program, *arguments):
        log = self.folder / f"{program}.out.log"
        daemon = Reaped(program, *arguments, log=log, cwd=self.folder, env=self.env)
        self._daemons.append(daemon)


@pytest.fixture
def slurm(monkeypatch):
    """A Slurm that the commands in this process use; the test is skipped where there is none."""
    if not all(shutil.which(program) for program in PROGRAMS):
        pytest.skip("needs Slurm (apt-get install slurm-wlm)")
    folder = Path("/tmp") / f"slurm-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    cluster = Slurm(folder)
    try:
        cluster.start()
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def make_cluster(folder):
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
