"""Starts, waits for and ends child processes under the `reaper`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .reaper import reaped_command
from .secrets import is_secret_variable, masked_arguments
from .system import replace_file
from .tasks import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("comfydeploy_jupyter")

_ROTATE_AT = 8 * 1024 * 1024
_TAIL_BYTES = 256 * 1024
# Variables of this package and of Jupyter. Child processes do not get them, because with the
# secrets among them a program could act as the Jupyter user, or spend money of the ComfyDeploy
# account.
_OURS = ("COMFYDEPLOY_", "COMFY_DEPLOY_", "COMFY_API_KEY", "JPY_", "JUPYTER", "CONFIGPROXY_")


# Variables that any program may need; they only describe this machine.
_PLAIN = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
    }
)
_PLAIN_BEGINNINGS = ("LC_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_")


def child_environment(*, secrets: bool = True, keep: tuple[str, ...] = ()) -> dict[str, str]:
    """Return this process's environment without the credentials of Jupyter and ComfyDeploy.

    ``secrets`` keeps other ones, such as ``HF_TOKEN``, for custom nodes; ``keep`` has the prefixes
    of variables of the program. Addresses of proxies stay: programs may need them.
    """
    return {
        key: value
        for key, value in os.environ.items()
        if not is_secret_variable(key, value)
        or (secrets and not key.upper().startswith(_OURS))
        or key.lower() in ("http_proxy", "https_proxy", "all_proxy")
        or key.startswith(keep)
    }


def plain_environment(*also: str) -> dict[str, str]:
    """Return a minimal environment, for programs such as ``nvidia-smi``."""
    return {
        key: value
        for key, value in os.environ.items()
        if key in _PLAIN or key in also or key.startswith(_PLAIN_BEGINNINGS)
    }


class Child:
    """A program under a reaper: it ends at the latest when this process ends, for any reason.

    It can be started again after it has ended. Its output is written to a log. A JSON file with the
    same name next to the log describes the process: with it, `end_leftover` finds the process if
    the reaper was killed, too.
    """

    def __init__(self, name: str, log_path: Path, *, grace: float = 5.0) -> None:
        self.log_path = log_path
        self.pid: int | None = None  # None while it is not running
        self.last_exit: int | None = None  # 128 + n if signal n ended it
        self._name = name
        self._grace = grace
        self._log_start = 0
        self._reaper: asyncio.subprocess.Process | None = None

    async def start(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the program; the previous process must have ended.

        A program that cannot be started ends with exit code 127 and a line in its log; OSError only
        if the reaper cannot be started. By default the environment is `child_environment`.
        """
        await asyncio.to_thread(self._prepare)
        guarded = reaped_command(
            list(command), log=self.log_path, cwd=cwd, grace=self._grace, rotate_at=_ROTATE_AT
        )
        self._reaper = await asyncio.create_subprocess_exec(
            *guarded,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment() if env is None else env,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        assert self._reaper.stdout is not None
        first_line = await self._reaper.stdout.readline()
        if first_line:
            self.pid = int(first_line)
            await asyncio.to_thread(
                _write_record, self._record_path, self.pid, self._reaper.pid, list(command)
            )

    async def wait(self) -> None:
        """Wait until it has ended, and set `last_exit`."""
        reaper, pid = self._reaper, self.pid
        if reaper is None:
            return
        code = await reaper.wait()
        if self._reaper is not reaper:
            return  # another process has been started since then
        self.last_exit = code if code >= 0 else 128 - code
        if code < 0 and pid is not None:
            # the reaper itself was killed: processes that the child started may still run
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.pid = None

    async def end(self) -> None:
        reaper = self._reaper
        if reaper is None:
            return
        if reaper.stdin is not None:
            reaper.stdin.close()
        try:
            await wait_for(self.wait(), self._grace + 5.0)
        except asyncio.TimeoutError:
            reaper.kill()
            await self.wait()
        if self._reaper is reaper:
            self._reaper = None

    async def log_tail(self, lines: int, *, this_run: bool = False) -> list[str]:
        """Return the last lines of its log (at most 256 KiB), of all its runs or of this one."""
        start = self._log_start if this_run else 0
        return await asyncio.to_thread(_tail, self.log_path, lines, start)

    def exit_text(self) -> str:
        code = self.last_exit
        if code is not None and code > 128:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(code - 128).name}"
        return f"exit code {code}"

    def end_leftover(self) -> None:
        """End a child whose owner and reaper were killed. This blocks: call it in a thread."""
        try:
            record = json.loads(self._record_path.read_text(encoding="utf-8"))
            pid, started_at = int(record["pid"]), record["started_at"]
            reaper, reaper_started_at = int(record["guard"]), record["guard_started_at"]
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return
        if started_at is None or _started_at(pid) != started_at:
            return
        if reaper_started_at is not None and _started_at(reaper) == reaper_started_at:
            return
        logger.warning("Ending the %s (pid %d) that a killed Jupyter left behind.", self._name, pid)
        deadline = time.monotonic() + self._grace
        number = signal.SIGTERM
        while _started_at(pid) == started_at:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)
            if time.monotonic() > deadline + 5.0:
                return
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            time.sleep(0.05)

    @property
    def _record_path(self) -> Path:
        return self.log_path.with_suffix(".json")

    def _prepare(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.end_leftover()
        size = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._log_start = 0 if size > _ROTATE_AT else size


# Escape sequences for terminals, such as colours, which ComfyUI 0.33 writes into its log.
_CONTROLS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


def _tail(log: Path, lines: int, start: int) -> list[str]:
    """Return the last lines of a log without colours, from ``start`` bytes on."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(start if start <= size else 0, size - _TAIL_BYTES)
            file.seek(begin)
            text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [_CONTROLS.sub("", line) for line in text.splitlines()[-lines:]] if lines > 0 else []


def _started_at(pid: int) -> int | None:
    """Return when a process started; None if it does not exist or that is unknown.

    On Linux, in clock ticks since boot, which do not depend on the system clock.
    """
    if sys.platform != "linux":
        return _created_at(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _created_at(pid: int) -> int | None:
    """Return when a process started, in microseconds since 1970; None as in `_started_at`."""
    try:
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE
        return None if gone else round(process.create_time() * 1_000_000)
    except psutil.Error:
        return None


def _write_record(path: Path, pid: int, reaper: int, command: list[str]) -> None:
    record = {
        "pid": pid,
        "started_at": _started_at(pid),
        "guard": reaper,
        "guard_started_at": _started_at(reaper),
        "command": masked_arguments(command),
    }
    replace_file(path, json.dumps(record, indent=1).encode())
