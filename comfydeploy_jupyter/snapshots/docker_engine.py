"""Build images with the program of Docker or Podman on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import deque
from typing import TYPE_CHECKING

from ..errors import DockerFailedError, DockerUnavailableError
from ..util.child import child_environment
from ..util.reaper import reaped_command
from ..util.tasks import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The engines, each with a command that succeeds only if the engine can build.
PROGRAMS = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info",),
}
IMAGE = "comfyui-snapshot"
# Prefixes of the variables with the address and credentials of an engine and of registries.
_OF_DOCKER = ("DOCKER_", "BUILDX_", "BUILDKIT_", "CONTAINER_", "REGISTRY_", "SSH_")
_PROBE_TIMEOUT = 20.0  # seconds for an engine to answer
_LOOK_EVERY = 0.1  # seconds between two reads of a build's log
_GRACE = 10.0  # seconds that a build has to exit after SIGTERM
_TAIL = 30  # lines of the log that are part of an error
_CHUNK = 64 * 1024


def image_name(name: str) -> str:
    """Return the name of the image of a snapshot; a tag cannot begin with a dot or a dash."""
    return f"{IMAGE}:{name if name[0].isalnum() or name[0] == '_' else f'_{name}'}"


async def find_engine() -> str:
    """Return the path of an engine's program that can build images."""
    reason = "neither docker nor podman is installed"
    for program, probe in PROGRAMS.items():
        path = await asyncio.to_thread(shutil.which, program)
        if path is None:
            continue
        problem = await _problem(path, *probe)
        if problem is None:
            return path
        reason = f"{program} does not work: {problem}"
    raise DockerUnavailableError(
        f"There is no Docker engine on this machine: {reason}",
        extra={"hint": "Build the context on a machine that has one: docker build <path>"},
    )


async def _problem(program: str, *probe: str) -> str | None:
    """Return the reason why an engine cannot build, None if it can."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, *probe),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(secrets=False, keep=_OF_DOCKER),
        )
    except OSError as error:
        return error.strerror or "it cannot be started"
    try:
        _, errors = await wait_for(process.communicate(), _PROBE_TIMEOUT)
    except asyncio.TimeoutError:
        return f"no answer within {_PROBE_TIMEOUT:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode == 0:
        return None
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


async def build(
    program: str,
    context: Path,
    image: str,
    *,
    log: Path,
    report: Callable[[str], None],
    tokens: Mapping[str, str],
) -> None:
    """Build an image; if the task is cancelled, the build is stopped."""
    await asyncio.to_thread(_prepare, log)
    env = {**child_environment(secrets=False, keep=_OF_DOCKER), "BUILDKIT_PROGRESS": "plain"}
    arguments = []
    for name, token in tokens.items():
        variable = f"COMFYDEPLOY_BUILD_{name.upper()}"
        env[variable] = token
        arguments += ["--secret", f"id={name},env={variable}"]
    command = [program, "build", *arguments, "--tag", image, str(context)]
    process = await asyncio.create_subprocess_exec(
        *reaped_command(command, log=log, cwd=log.parent, grace=_GRACE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=_TAIL)

    def keep(line: str) -> None:
        lines.append(line)
        report(line)

    try:
        await _follow(process, log, keep)
        code = await process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await asyncio.shield(process.wait())
    if code != 0:
        raise DockerFailedError(
            f"The image was not built: {lines[-1] if lines else f'exit code {code}'}",
            details={"exit_code": code, "log": list(lines), "log_path": str(log)},
        )


def _prepare(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")


async def _follow(
    process: asyncio.subprocess.Process, log: Path, report: Callable[[str], None]
) -> None:
    """Call a function with each line that is added to a log, until the process has exited."""
    ended = asyncio.ensure_future(process.wait())
    place, rest = 0, b""
    try:
        while True:
            last = ended.done()
            while chunk := await asyncio.to_thread(_read, log, place):
                place += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    report(line.decode(errors="replace").rstrip("\r"))
            if last:
                break
            await asyncio.wait([ended], timeout=_LOOK_EVERY)
    finally:
        ended.cancel()
    if rest:
        report(rest.decode(errors="replace"))


def _read(log: Path, place: int) -> bytes:
    with log.open("rb") as file:
        file.seek(place)
        return file.read(_CHUNK)
