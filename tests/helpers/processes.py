"""Processes of the tests: starts servers, and checks whether a process exists."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.util.reaper import reaped_command
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


REPOSITORY = Path(__file__).resolve().parents[2]
HIDDEN = str(REPOSITORY / "tests" / "hidden")
"""Modules that make the start of Jupyter servers and ComfyUIs faster."""
PYTHONPATH = os.pathsep.join([str(REPOSITORY), HIDDEN])
"""For Jupyter servers: this package, and these modules."""
OF_TESTS = {"editor_runs": False}
"""For Jupyter servers: settings of the extension, unless a test has others.

What other tests have queued at the shared ComfyUI is not listed: its history has large graphs, and
ComfyUI answers nobody while it encodes them for each new server.
"""


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, and return what it prints."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def start_failure(
    process: subprocess.Popen[bytes], answers: Callable[[], bool], timeout: float = 60
) -> str | None:
    """Wait until a new server replies; return the error if it does not."""
    with suppress(AssertionError):
        until(lambda: process.poll() is not None or answers(), timeout=timeout)
        return None if process.poll() is None else f"exited with {process.poll()}"
    return "did not answer in time"


class Reaped:
    """A program under the reaper, so that it ends with the tests, even if these are killed."""

    def __init__(
        self, *command: str, log: Path, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.guard = subprocess.Popen(
            reaped_command(command, log=log, cwd=cwd),
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.guard.stdout is not None
        self.pid = int(self.guard.stdout.readline())

    def kill(self) -> None:
        """Kill it (``kill -9``), but not the processes that it has started."""
        if self.guard.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            until(lambda: not alive(self.pid))

    def close(self) -> None:
        """End it, with all that it has started."""
        with self.guard:
            pass  # closes its standard input, and waits


class ServerProcess:
    def __init__(self, name: str, log: Path) -> None:
        self._name = name
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._name} does not run"
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _spawn(
        self,
        command: Sequence[str],
        answers: Callable[[], bool],
        end: Callable[[], None],
        **options: Any,
    ) -> None:
        """Start it and wait until it replies; otherwise end it and fail with its log."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        if why := start_failure(self._process, answers):
            end()
            pytest.fail(f"{self._name} {why}. Its log:\n{self.log()}", pytrace=False)
