"""A ComfyUI process that this server starts, supervises and stops."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ComfyUIUnavailableError
from ..util.child import Child, child_environment
from ..util.sockets import Peers
from ..util.tasks import BackgroundTasks, end, report, wait_until_set
from ..util.times import Backoff
from . import run_main
from .find import (
    INSTALL_COMMAND,
    answers,
    find_python,
    has_gpu,
    is_comfyui_tree,
    refused_pythons,
    torch_build,
    unknown_option,
)
from .kept import fit_database
from .memory import count_oom_kills, why_killed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

log = logging.getLogger("comfydeploy_jupyter")

State = Literal["stopped", "starting", "running", "backoff", "failed"]

BACKOFF = Backoff(first=1.25, longest=60.0, jitter=0.2)  # pause before a restart
STABLE_AFTER = 60.0
START_LINES = 5000  # of the log, in which ComfyUI says what went wrong at its start
# What ComfyUI (0.33) writes if another process has locked its database. It ends then if it needs
# the database for its assets, which it has by default since 0.38.
_IN_USE = re.compile(r"Could not acquire lock on database|Database is locked\. Another ComfyUI")
PORTS_TRIED = 3  # in one start, if other programs take them first
# What asyncio (0.3.75) and ComfyUI (0.33) write before it ends.
_TAKEN = re.compile(r"bind on address .* in use|Port \d+ is already in use")


class ComfyUIProcess:
    """Starts one ComfyUI, keeps it running, and stops it at the latest when this process exits.

    A ComfyUI that exits by itself is restarted after a pause that grows from 1 s to 60 s, and is
    reset after 60 s of operation. Only a ComfyUI that has never answered since :meth:`start` is not
    restarted: its state is ``failed``, and another call of :meth:`start` tries again.

    ``launch_args`` override ``--listen 127.0.0.1``, ``--port``, ``--preview-method auto``, and
    ``--cpu`` if there is no GPU. A restart uses the same port as long as it is free. A JSON file
    beside the log records the process. Credentials of Jupyter are not in its environment.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        log_path: str | os.PathLike[str],
        python: str | os.PathLike[str] | None = None,
        launch_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        grace: float = 5.0,  # seconds between SIGTERM and SIGKILL
        start_timeout: float = 300.0,
        trusted_users: Iterable[str] = (),
        on_state: Callable[[State], object] = lambda _: None,
    ) -> None:
        self.path = Path(path)
        self.log_path = Path(log_path)
        self.restarts = 0  # after it exited by itself
        self.memory_verdict: str | None = None  # if a lack of memory may have ended it, and advice
        self.end_reason: str | None = None  # the beginning of a sentence
        self.no_gpu_reason: str | None = None  # why it got ``--cpu``, which was not asked for
        self.database_note: str | None = None  # if another ComfyUI uses its database, and advice
        self._database = self.path / "user" / "comfyui.db"
        self._replaced_for: str | None = None
        self._oom_kills = 0
        self._python = Path(python) if python else None
        self._launch_args = list(launch_args)
        self._env = dict(env or {})
        self._child = Child("ComfyUI", self.log_path, grace=grace)
        self._start_timeout = start_timeout
        self.peers = Peers(trusted_users, child=lambda: self._child.pid)
        self._state: State = "stopped"
        self.on_state = on_state
        self.url: str | None = None
        self._port: int | None = None
        self._tasks = BackgroundTasks(log)
        self._lock = asyncio.Lock()
        self._retry_now = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping: asyncio.Future[None] | None = None
        self._attempt: asyncio.Future[ComfyUIUnavailableError | None] | None = None

    @property
    def state(self) -> State:
        """``stopped``, ``starting``, ``running``, ``backoff`` (before a restart) or ``failed``."""
        return self._state

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def last_exit(self) -> int | None:
        """Its last exit code; 128 + n if signal n ended it."""
        return self._child.last_exit

    async def start(self) -> None:
        """Start ComfyUI if it is not running, and wait until it answers.

        A pause before a restart ends at once. There is only one start at a time, also if several
        callers wait or a waiting caller is cancelled.
        """
        async with self._lock:
            if self._attempt is None or self._supervisor is None or self._supervisor.done():
                self._attempt = asyncio.get_running_loop().create_future()
                self._supervisor = self._tasks.start(
                    self._supervise(), "The supervision of ComfyUI"
                )
            self._retry_now.set()
            attempt = self._attempt
        error = await asyncio.shield(attempt)
        if error is not None:
            raise error

    async def stop(self) -> None:
        """Stop ComfyUI and its supervision; without effect if it is not running."""
        self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def replace(self, reason: str) -> None:
        """End ComfyUI as if it had exited by itself, so that it is started again."""
        self._replaced_for = reason
        await self._child.end()

    async def log_tail(self, lines: int = 100) -> list[str]:
        """Return the last ``lines`` lines of its log (at most 256 KiB of them)."""
        return await self._child.log_tail(lines)

    # --- supervision

    async def _supervise(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:
            self._fail(self._unavailable(f"The supervision of ComfyUI failed: {error}"))
            await self._child.end()
            raise

    async def _keep_running(self) -> None:
        has_run = False
        failures = 0
        while True:
            self._set_state("starting")
            error = await self._launch()
            if error is None:
                has_run = True
                self._set_state("running")
                self._resolve_waiters(None)
                since = time.monotonic()
                await self._child.wait()
                error = self._unavailable(f"ComfyUI ended unexpectedly ({await self._why()})")
                if time.monotonic() - since >= STABLE_AFTER:
                    failures = 0
            if not has_run:
                self._fail(error)
                return
            self._resolve_waiters(error)
            self._attempt = asyncio.get_running_loop().create_future()
            self._retry_now.clear()
            failures += 1
            pause = BACKOFF.pause(failures)
            log.warning("%s It is started again in %.1f s.", error.message, pause)
            self._set_state("backoff")
            await wait_until_set(self._retry_now, pause)
            self.restarts += 1

    async def _stop(self) -> None:
        async with self._lock:
            if self._supervisor is not None:
                await end([self._supervisor])
            await self._child.end()
            self._resolve_waiters(
                ComfyUIUnavailableError("ComfyUI was stopped before it answered.")
            )
            self._set_state("stopped")

    def _fail(self, error: ComfyUIUnavailableError) -> None:
        self._set_state("failed")
        self._resolve_waiters(error)

    def _resolve_waiters(self, outcome: ComfyUIUnavailableError | None) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(outcome)

    def _set_state(self, state: State) -> None:
        if state == self._state:
            return
        self._state = state
        try:
            self.on_state(state)
        except Exception:
            log.exception("A callback failed for ComfyUI's new state %s", state)

    # --- start and stop

    async def _launch(self) -> ComfyUIUnavailableError | None:
        """Start ComfyUI and wait until it answers; after a failure stop it and return the error."""
        error: ComfyUIUnavailableError | None = None
        try:
            for _ in range(PORTS_TRIED):
                command, url, env = await asyncio.to_thread(self._prepare)
                self._oom_kills = await asyncio.to_thread(count_oom_kills)
                await self._child.start(command, cwd=self.path, env=env)
                error = await self._until_it_answers(url)
                if error is None or not await self._lost_its_port():
                    break
                log.warning("Another program took port %s while ComfyUI started", self._port)
                self._port = None
        except ComfyUIUnavailableError as refusal:
            return refusal
        except Exception as fault:
            if not isinstance(fault, OSError):
                report(log, "ComfyUI cannot be started", error=fault)
            await self._child.end()
            return self._unavailable(f"ComfyUI cannot be started: {fault}")
        return error

    async def _until_it_answers(self, url: str) -> ComfyUIUnavailableError | None:
        ended = asyncio.ensure_future(self._child.wait())
        deadline = time.monotonic() + self._start_timeout
        try:
            while not ended.done() and time.monotonic() < deadline:
                if await answers(url, peers=self.peers):
                    self.database_note = await self._look_at_database("works without one")
                    if self.database_note is not None:
                        log.warning("%s", self.database_note)
                    return None
                await asyncio.wait([ended], timeout=0.05)
        finally:
            ended.cancel()
        timed_out = not ended.done()
        await self._child.end()
        lines = await self._child.log_tail(30, this_run=True)
        if timed_out:
            why = f"ComfyUI did not answer within {self._start_timeout:g} s"
        else:
            why = f"ComfyUI ended while it started ({await self._why()})"
        return self._unavailable(why, lines, hint=await self._look_at_database("does not start"))

    async def _lost_its_port(self) -> bool:
        """Return whether ComfyUI has ended because the port that was chosen for it is taken."""
        if option_value(self._launch_args, "--port") is not None:
            return False
        return any(map(_TAKEN.search, await self._child.log_tail(30, this_run=True)))

    async def _look_at_database(self, effect: str) -> str | None:
        """Return a sentence if ComfyUI has written that another one uses its database."""
        if not any(map(_IN_USE.search, await self._child.log_tail(START_LINES, this_run=True))):
            return None
        other = self._database.with_name(f"{self._database.stem}-2.db")
        return (
            f"Another ComfyUI uses the database {self._database}, so this one {effect}. Add"
            f" --database-url sqlite:///{other} to launch_args, or end the other ComfyUI."
        )

    async def _why(self) -> str:
        """Return a sentence that describes how ComfyUI has just exited."""
        reason, self._replaced_for = self._replaced_for, None
        kills = await asyncio.to_thread(count_oom_kills) - self._oom_kills
        self.memory_verdict = None if reason else why_killed(self.last_exit, kills)
        if self.last_exit == run_main.PROMPT_WORKER_ENDED:
            reason = reason or "ComfyUI's prompt worker has ended"
        self.end_reason = reason or f"ComfyUI ended with exit code {self.last_exit}"
        if reason:
            return reason
        verdict = f": {self.memory_verdict}" if self.memory_verdict else ""
        return f"{self._child.exit_text()}{verdict}"

    # --- preparation of a start; runs in a thread

    def _prepare(self) -> tuple[list[str], str, dict[str, str]]:
        """Return command line, address and environment; stop a killed server's process."""
        if not is_comfyui_tree(self.path):
            raise self._unavailable(f"There is no ComfyUI in {self.path}")
        python = self._python or find_python(self.path, by_chance=True)
        if python is None:
            refused = refused_pythons(self.path)
            why = f"No Python with torch was found for the ComfyUI in {self.path}"
            raise self._unavailable(" ".join([f"{why}.", *refused]).rstrip("."))
        option = unknown_option(self._launch_args, self.path)
        if option is not None:
            raise self._unavailable(f"launch_args: {option}")
        self._child.end_leftover()  # before a port is chosen
        given = option_value(self._launch_args, "--database-url") or ""
        moved = given.removeprefix("sqlite:///")
        database = Path(moved) if moved != given else self.path / "user" / "comfyui.db"
        self._database = self.path / database
        set_aside = fit_database(self.path, self._database)
        if set_aside is not None:
            log.warning("%s", set_aside)
        env = {**child_environment(), "PYTHONUNBUFFERED": "1", **self._env}
        host = _connect_host(option_value(self._launch_args, "--listen"))
        self._port = self._choose_port(host, option_value(self._launch_args, "--port"))
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._port}"
        script = str(Path(run_main.__file__))
        command = [str(python), script, "main.py", *self._arguments(python, env)]
        return command, self.url, env

    def _arguments(self, python: Path, env: Mapping[str, str]) -> list[str]:
        given = self._launch_args
        arguments: list[str] = []
        defaults = {"--listen": "127.0.0.1", "--port": str(self._port), "--preview-method": "auto"}
        for option, value in defaults.items():
            if option_value(given, option) is None:
                arguments += [option, value]
        self.no_gpu_reason = None
        if option_value(given, "--cpu") is None and option_value(given, "--directml") is None:
            if not has_gpu(env):
                self.no_gpu_reason = "no GPU is visible there"
            elif (torch := torch_build(python)) is not None and not torch.accelerated:
                self.no_gpu_reason = f"torch {torch.version} of {python} is built without GPUs"
        if self.no_gpu_reason is not None:
            arguments.append("--cpu")
        return [*arguments, *given]

    def _choose_port(self, host: str, given: str | None) -> int:
        if given is None:
            if self._port is not None and _is_free(host, self._port):
                return self._port
            return _bind(host, 0)
        port = port_number(given)
        if port is None:
            raise self._unavailable(f"launch_args: {given!r} is not a port")
        if not _is_free(host, port):
            raise self._unavailable(f"ComfyUI cannot be started: port {port} of {host} is taken")
        return port

    def _unavailable(
        self, why: str, lines: list[str] | None = None, *, hint: str | None = None
    ) -> ComfyUIUnavailableError:
        details: dict[str, Any] = {"exit_code": self.last_exit, "log_path": str(self.log_path)}
        if lines is not None:
            details["log"] = lines
        hint = hint or (
            f"Its output is in {self.log_path}. Check comfyui_path, comfyui_python and "
            f"launch_args, or install a ComfyUI: {INSTALL_COMMAND}"
        )
        return ComfyUIUnavailableError(f"{why}.", details=details, extra={"hint": hint})


def port_number(given: str) -> int | None:
    try:
        port = int(given)
    except ValueError:
        return None
    return port if 0 < port < 65536 else None


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of a command-line option, "" without a value, None if it is absent."""
    value = None
    for index, argument in enumerate(arguments):
        if argument == name:
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            value = "" if following.startswith("-") else following
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
    return value


def _connect_host(listen: str | None) -> str:
    """Return the host at which this machine can reach a ComfyUI with this ``--listen``."""
    hosts = [host.strip() for host in (listen or "").split(",") if host.strip()]
    if not hosts or "0.0.0.0" in hosts or "127.0.0.1" in hosts:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return "::1" if "::" in hosts else hosts[0]


def _bind(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        return int(sock.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    try:
        return _bind(host, port) == port
    except (OSError, OverflowError):
        return False
