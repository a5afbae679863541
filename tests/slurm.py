"""A real Slurm with one node, which is this machine, for tests that run as root."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.util.reaper import reaped_command

from .comfyui_server import free_port
from .waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Slurm's daemons and the daemon that authenticates its messages, with their own folder.

    Parameters
    ----------
    folder : pathlib.Path
        The folder of configuration, state and logs; its path must be short (a socket is in it).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._guards: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons, and wait until the node can be used."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(mode=0o700)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        config = self.folder / "slurm.conf"
        config.write_text(
            CONFIG.format(
                host=host,
                port=free_port(),
                node_port=free_port(),
                folder=self.folder,
                cores=CORES,
            )
        )
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

    def call(self, *command: str) -> str:
        """Run one of Slurm's commands, and return its output."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that wait or run."""
        return self.call("squeue", "-h", "-o", "%i").split()

    def close(self) -> None:
        """End all jobs and daemons."""
        self.call("scancel", "--user=root")
        begin = time.monotonic()
        while self.jobs() and time.monotonic() - begin < 20:
            time.sleep(0.1)
        for guard in reversed(self._guards):
            with guard:
                pass  # closes its standard input, and waits

    def log(self) -> str:
        """Return the output of the daemons."""
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def _run(self, program: str, *arguments: str) -> None:
        self._guards.append(
            subprocess.Popen(
                reaped_command(
                    [program, *arguments], log=self.folder / f"{program}.out.log", cwd=self.folder
                ),
                env={**os.environ, **self.env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
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
