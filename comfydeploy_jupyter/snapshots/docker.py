"""A snapshot as a Docker build context, a folder from which it can be rebuilt, and as an image.

The image is built with the program of Docker or Podman on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import (
    FULL,
    ConflictError,
    DockerFailedError,
    DockerUnavailableError,
    NoSpaceError,
    printable,
)
from ..util.child import Child, child_environment
from ..util.secrets import holds_secret, is_secret_file, with_options
from ..util.system import closing_fd, lock_file
from ..util.tasks import open_in_thread, wait_for
from .environment import LOCAL
from .snapshot import to_manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from .environment import Environment
    from .snapshot import Package, Snapshot

PORT = 8188
_PYTHON = "3.12"  # used if the snapshot does not contain the version
_HOME = "/opt/comfyui"
_CONTEXT = "/opt/snapshot"
_GET = f"{_CONTEXT}/get.py"
_END = "END-OF-FILE"
_TORCH = re.compile(
    r"torch|torchvision|torchaudio|xformers|(pytorch[-_])?triton.*|nvidia[-_].+|cuda[-_].+",
    re.IGNORECASE,
)
_PROGRAMS = "build-essential ca-certificates ffmpeg git libgl1 libglib2.0-0"
# Launch arguments whose values are only valid on the machine of the snapshot.
_PLACES = frozenset(
    {
        *("--listen", "--port", "--base-directory", "--input-directory", "--output-directory"),
        *("--temp-directory", "--user-directory", "--extra-model-paths-config", "--database-url"),
        *("--front-end-root", "--tls-keyfile", "--tls-certfile", "--auto-launch", "--cuda-device"),
        *("--windows-standalone-build", "--enable-cors-header", "--log-stdout"),
    }
)
MIB = 1024 * 1024
MAX_FILE = 100 * MIB  # bytes; a larger file is probably a model and not code
MAX_SEARCHED = 4 * MIB  # bytes; only smaller files are searched for keys
_NOT_CODE = frozenset({"__pycache__", "venv", "node_modules", ".DS_Store"})
# The engines, each with a command that succeeds only if the engine can build.
PROGRAMS = {"docker": ("version", "--format", "{{.Server.Version}}"), "podman": ("info",)}
IMAGE = "comfyui-snapshot"
# Prefixes of the variables with the address and credentials of an engine and of registries.
_OF_DOCKER = ("DOCKER_", "BUILDX_", "BUILDKIT_", "CONTAINER_", "REGISTRY_", "SSH_")
_PROBE_TIMEOUT = 20.0  # seconds for an engine to answer
_POLL_INTERVAL = 0.1  # seconds between two reads of a build's log
_GRACE = 10.0  # seconds that a build has to exit after SIGTERM
_TAIL = 30  # lines of the log that are part of an error
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Written:
    path: Path
    dockerfile: str  # its text
    warnings: list[str]  # the parts that are not in it, and the reasons


def write_context(folder: Path, name: str, environment: Environment, *, models: bool) -> Written:
    """Write a build context, which replaces an earlier one of the same name.

    It is written to a temporary folder and renamed, so a name always refers to a complete context.
    ``models``: whether the image contains the models whose source is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, name):
        beside, target = folder / f"{name}~new", folder / name
        shutil.rmtree(beside, ignore_errors=True)
        try:
            beside.mkdir()
            writer = _Writer(beside, environment, with_models=models)
            dockerfile = writer.write()
        except BaseException as error:
            shutil.rmtree(beside, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in FULL:
                raise NoSpaceError(
                    f"There is no space left on the disk for the snapshot {name}"
                ) from error
            raise
        old = folder / f"{name}~old"
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.replace(old)
        beside.replace(target)
        shutil.rmtree(old, ignore_errors=True)
    return Written(target, dockerfile, writer.warnings)


def single_dockerfile(environment: Environment, about: Sequence[str]) -> tuple[str, list[str]]:
    """Return a Dockerfile that needs no file beside it, and what is not in it.

    ``about`` are comments at its beginning.
    """
    with tempfile.TemporaryDirectory(prefix="comfydeploy-") as name:
        folder = Path(name)
        writer = _Writer(folder, environment, with_models=True)
        lines = ["# syntax=docker/dockerfile:1", *map(_comment, about)]
        for line in writer.write().splitlines():
            copied = re.fullmatch(r"COPY (.+) \./", line)
            if copied is None:
                lines.append(line)
            for file in copied[1].split() if copied else ():
                if not file.endswith("snapshot.json"):
                    text = (folder / file).read_text(encoding="utf-8")
                    lines += [f'COPY <<"{_END}" ./{file}', *text.splitlines(), _END]
    return "\n".join(lines) + "\n", writer.warnings


def _comment(text: str) -> str:
    line = printable(" ".join(text.split()))
    return f"# {line.encode(errors='backslashreplace').decode()}"


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    with closing_fd(os.open(folder / f"{name}~lock", flags, 0o600)) as descriptor:
        try:
            lock_file(descriptor)
        except BlockingIOError:
            text = f"the snapshot {name} is being written"
            raise ConflictError.of_field("name", text) from None
        yield


class _Writer:
    def __init__(self, folder: Path, environment: Environment, *, with_models: bool) -> None:
        self.warnings: list[str] = []
        self._folder = folder
        self._environment = environment
        self._snapshot: Snapshot = environment.snapshot
        self._with_models = with_models
        self._copier = Copier(warnings=self.warnings)
        self._lines: list[str] = []

    def write(self) -> str:
        shutil.copyfile(Path(__file__).with_name("context_get.py"), self._folder / "get.py")
        self._begin()
        self._install_packages()
        self._get_comfyui()
        self._get_custom_nodes()
        self._get_models()
        self._end()
        dockerfile = "\n".join(self._lines) + "\n"
        self._write("Dockerfile", dockerfile)
        self._write("snapshot.json", _json(self._snapshot.model_dump()))
        self._write("manager-snapshot.json", _json(to_manager(self._snapshot)))
        return dockerfile

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text, encoding="utf-8")

    def _run(self, *words: str, secrets: bool = False) -> None:
        """Add a RUN command; it is written as JSON if a shell or Docker would change its words."""
        mounts = "--mount=type=secret,id=hf_token --mount=type=secret,id=civitai_token "
        plain = all(re.fullmatch(r"[A-Za-z0-9@%+=:,./_~-]+", word) for word in words)
        command = shlex.join(words) if plain else json.dumps(words)
        self._lines.append(f"RUN {mounts if secrets else ''}{command}")

    def _begin(self) -> None:
        version = self._snapshot.python.version or _PYTHON
        if self._snapshot.python.version is None:
            self.warnings.append(
                f"the snapshot does not contain its Python version; {_PYTHON} is used"
            )
        if not (self._snapshot.python.platform or "linux").startswith("linux"):
            self.warnings.append(
                "the snapshot is not from Linux; some packages may not exist for Linux"
            )
        image = ".".join(version.split(".")[:2])
        self._lines += [
            "# The wheels of torch contain CUDA or ROCm; only the driver of the host is used.",
            f"FROM python:{image}-slim-bookworm",
            "ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \\",
            "    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            f"RUN apt-get update && apt-get install -y --no-install-recommends {_PROGRAMS} \\",
            "    && rm -rf /var/lib/apt/lists/*",
            "# A mirror: docker build --build-arg PIP_INDEX_URL=...",
            "ARG PIP_INDEX_URL",
            f"WORKDIR {_CONTEXT}",
            "COPY get.py ./",
        ]

    def _install_packages(self) -> None:
        """Install exactly the packages of the snapshot, without resolving their dependencies."""
        packages = self._snapshot.python.packages
        options = [f"--extra-index-url {index}" for index in self._snapshot.python.indexes]
        torch = [p for p in packages if _TORCH.fullmatch(p.name)]
        others = [p for p in packages if not _TORCH.fullmatch(p.name)]
        install = ("python", "-m", "pip", "install", "--no-deps", "-r")
        for name, chosen in (("requirements-torch.txt", torch), ("requirements.txt", others)):
            lines = [line for package in chosen if (line := self._requirement(package))]
            if not lines:
                continue
            self._write(name, "\n".join([*options, *lines]) + "\n")
            self._lines.append(f"COPY {name} ./")
            if name == "requirements.txt" and (self._folder / LOCAL).is_dir():
                self._lines.append(f"COPY {LOCAL}/ {LOCAL}/")
            self._run(*install, name)
        pinned = [p.requirement for p in packages if p.requirement.startswith(f"{p.name}==")]
        self._write("constraints.txt", "\n".join(pinned) + "\n")

    def _requirement(self, package: Package) -> str | None:
        """Return the requirement line of a package; copy a package that is only on this machine."""
        line = package.requirement
        if not line.startswith(f"{LOCAL}/"):
            return line
        source = self._environment.package_sources.get(line)
        if source is None:
            self.warnings.append(
                f"the package {package.name} is left out: its files are not on this machine"
            )
            return None
        (self._folder / LOCAL).mkdir(exist_ok=True)
        self._copier.copy(source, self._folder / LOCAL / line.rsplit("/", 1)[-1])
        return line

    def _get_comfyui(self) -> None:
        comfyui = self._snapshot.comfyui
        revision = comfyui.commit or (
            f"refs/tags/v{comfyui.version}" if comfyui.version else "HEAD"
        )
        if revision == "HEAD":
            self.warnings.append(
                "the snapshot does not contain its ComfyUI version; the newest one is used"
            )
        self._run("python", _GET, "git", comfyui.repository, revision, _HOME)
        python = self._snapshot.python
        if all(_TORCH.fullmatch(package.name) for package in python.packages):
            self.warnings.append(
                "the versions of most packages are not known; those that ComfyUI requires are"
                " installed"
            )
            indexes = [word for each in python.indexes for word in ("--extra-index-url", each)]
            install = ("python", "-m", "pip", "install", *indexes, "-r")
            self._run(*install, f"{_HOME}/requirements.txt")

    def _get_custom_nodes(self) -> None:
        copied = self._folder / "custom_nodes"
        for node in self._snapshot.custom_nodes:
            target = f"{_HOME}/custom_nodes/{node.name}"
            if node.disabled:
                continue
            if node.kind == "git" and node.repository:
                if node.commit is None:
                    self.warnings.append(f"the commit of {node.name} is not known")
                self._run("python", _GET, "git", node.repository, node.commit or "HEAD", target)
            elif node.kind == "registry" and node.id and node.version:
                self._run("python", _GET, "node", node.id, node.version, target)
            elif (source := self._environment.node_sources.get(node.name)) is not None:
                copied.mkdir(exist_ok=True)
                self._copier.copy(source, copied / node.name)
            else:
                self.warnings.append(f"{node.name} is left out: its files are not on this machine")
        if copied.is_dir():
            self._lines.append(f"COPY custom_nodes/ {_HOME}/custom_nodes/")
        scripts = f"python {_GET} scripts {_HOME}/custom_nodes"
        self._lines += [
            "# What the packs' own install.py installs must fit the packages of the snapshot.",
            "COPY constraints.txt ./",
            f"RUN PIP_CONSTRAINT={_CONTEXT}/constraints.txt {scripts}",
        ]

    def _get_models(self) -> None:
        models = self._snapshot.models
        unknown = 0
        if self._with_models:
            for model in models:
                if model.source is None:
                    unknown += 1
                    digest = model.sha256 or "unknown"
                    self._lines += [
                        _comment(f"models/{model.folder}/{model.name} has no known source."),
                        _comment(
                            f"Its SHA-256: {digest}. Put it into {_HOME}/models/{model.folder}."
                        ),
                    ]
                    continue
                target = f"{_HOME}/models/{model.folder}/{model.name}"
                words = ("python", _GET, "model", model.source, target, model.sha256 or "")
                self._run(*filter(None, words), secrets=True)
        if unknown:
            self.warnings.append(
                f"{unknown} of {len(models)} models have no known source; comments name them"
            )

    def _end(self) -> None:
        command = ["python", "main.py", "--listen", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - in a container
        arguments, left_out = _portable(self._snapshot.comfyui.launch_args)
        if left_out:
            self.warnings.append(
                "launch arguments that are valid only on this machine are left out:"
                f" {', '.join(left_out)}"
            )
        self._lines += [
            "COPY snapshot.json manager-snapshot.json ./",
            f"WORKDIR {_HOME}",
            f"EXPOSE {PORT}",
            f"CMD {json.dumps([*command, *arguments])}",
        ]


def _portable(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the launch arguments that are valid elsewhere, and the options that are not."""
    given = [*with_options(arguments)]
    kept = [argument for option, argument in given if option not in _PLACES]
    left_out = dict.fromkeys(option for option, _ in given if option in _PLACES)
    return kept, [option for option in left_out if option not in ("--listen", "--port")]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# -- copying files into a build context -------------------------------------------------------


@dataclass
class Copier:
    """Copies folders, up to a total size and number of files.

    Caches, secrets and links that lead out of a folder are left out.
    """

    bytes_left: int = 500 * MIB
    files_left: int = 50_000
    warnings: list[str] = field(default_factory=list)  # what was not copied, and the reasons

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file or a folder; ``target`` must not exist, but its parent must.

        All paths below ``source`` are opened relative to it and without following links, so a file
        that is replaced by a link at the same time is not followed.
        """
        root = Path(os.path.realpath(source))
        with _opened(root) as opened:
            self._any(_Root(root, opened), root, opened, target, source.name)

    def _any(self, root: _Root, path: Path, opened: int, target: Path, shown: str) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            self._folder(root, path, opened, target, shown)
        else:
            self._file(path.name, opened, target, shown)

    def _folder(self, root: _Root, path: Path, opened: int, target: Path, shown: str) -> None:
        target.mkdir()
        for name in sorted(os.listdir(opened)):
            if name in _NOT_CODE or name.endswith((".pyc", ".pyo")):
                continue
            beside = f"{shown}/{name}"
            try:
                self._entry(root, path / name, opened, target / name, beside)
            except OSError as error:
                if error.errno in FULL:
                    raise
                self.warnings.append(f"{beside} is left out: {error.strerror}")

    def _entry(self, root: _Root, path: Path, folder: int, target: Path, shown: str) -> None:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            self._link(root, path, target, shown)
        elif not stat.S_ISDIR(mode) or not path.name.startswith("."):  # skips .git, .venv etc.
            with _opened(path.name, folder) as opened:
                self._any(root, path, opened, target, shown)

    def _link(self, root: _Root, path: Path, target: Path, shown: str) -> None:
        end = Path(os.path.realpath(path))
        if not end.is_relative_to(root.path):
            self.warnings.append(f"{shown} is left out: it is a link that leads out of its pack")
            return
        folder = os.path.realpath(path.parent)
        with root.open(end) as opened:
            if not stat.S_ISDIR(os.fstat(opened).st_mode):
                self._file(end.name, opened, target, shown)
            elif end == Path(folder, path.name):  # a link to it would lead to itself
                self.warnings.append(f"{shown} is left out: it was replaced while it was copied")
            else:
                target.symlink_to(os.path.relpath(end, folder))

    def _file(self, name: str, opened: int, target: Path, shown: str) -> None:
        try:
            why = self._copied(name, opened, target)
        except OSError as error:
            if error.errno in FULL:
                raise
            target.unlink(missing_ok=True)
            why = error.strerror or "it cannot be read"
        if why is not None:
            self.warnings.append(f"{shown} is left out: {why}")

    def _copied(self, name: str, opened: int, target: Path) -> str | None:
        """Copy an opened file, or return the reason why it was not copied."""
        facts = os.fstat(opened)
        if not stat.S_ISREG(facts.st_mode):
            return "not a file"
        if is_secret_file(name):
            return "such files hold secrets"
        if facts.st_size > MAX_FILE:
            return f"it is larger than the limit: {facts.st_size // MIB} MiB"
        if facts.st_size > self.bytes_left or self.files_left <= 0:
            return "there are too many files, or too large ones"
        with os.fdopen(opened, "rb", closefd=False) as file:
            content = file.read(MAX_SEARCHED)
            if facts.st_size <= MAX_SEARCHED and holds_secret(content):
                return "it contains a key"
            with target.open("xb") as written:
                written.write(content)
                shutil.copyfileobj(file, written)
        target.chmod(stat.S_IMODE(facts.st_mode))
        self.bytes_left -= facts.st_size
        self.files_left -= 1
        return None


@dataclass(frozen=True)
class _Root:
    path: Path
    opened: int

    @contextmanager
    def open(self, path: Path) -> Iterator[int]:
        """Open a path below the folder without following links."""
        with ExitStack() as stack:
            opened = self.opened
            for name in path.relative_to(self.path).parts:
                opened = stack.enter_context(_opened(name, opened))
            yield opened


def _opened(name: str | Path, folder: int | None = None) -> AbstractContextManager[int]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    return closing_fd(os.open(name, flags, dir_fd=folder))


# -- building images --------------------------------------------------------------------------


def image_name(name: str) -> str:
    """Return the name of the image of a snapshot; a tag cannot begin with a dot or a dash."""
    return f"{IMAGE}:{name if name[0].isalnum() or name[0] == '_' else f'_{name}'}"


async def find_engine() -> str:
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
    """Build an image; if the task is cancelled, the build is stopped.

    ``report`` gets each line of the output; ``tokens`` are build secrets by their ids, which do not
    become part of the image. The last lines of the log are ``details["log"]`` of the error.
    """
    env = {**child_environment(secrets=False, keep=_OF_DOCKER), "BUILDKIT_PROGRESS": "plain"}
    arguments = []
    for name, token in tokens.items():
        variable = f"COMFYDEPLOY_BUILD_{name.upper()}"
        env[variable] = token
        arguments += ["--secret", f"id={name},env={variable}"]
    command = [program, "build", *arguments, "--tag", image, str(context)]
    await asyncio.to_thread(log.unlink, missing_ok=True)
    engine = Child("build of an image", log, grace=_GRACE)
    lines: deque[str] = deque(maxlen=_TAIL)

    def keep(line: bytes) -> None:
        lines.append(line.decode(errors="replace").rstrip("\r"))
        report(lines[-1])

    try:
        await engine.start(command, cwd=log.parent, env=env)
        await _follow(engine, keep)
    finally:
        await asyncio.shield(engine.end())
    code = engine.last_exit
    if code != 0:
        raise DockerFailedError(
            f"The image was not built: {lines[-1] if lines else f'exit code {code}'}",
            details={"exit_code": code, "log": list(lines), "log_path": str(log)},
        )


async def _follow(child: Child, report: Callable[[bytes], None]) -> None:
    """Call a function with each line that is added to a log, until the process has exited."""
    ended = asyncio.ensure_future(child.wait())
    rest = b""
    with await open_in_thread(lambda: child.log_path.open("rb")) as log:
        while True:
            last = ended.done()
            while chunk := await asyncio.to_thread(log.read, _CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    report(line)
            if last:
                break
            await asyncio.wait([ended], timeout=_POLL_INTERVAL)
    if rest:
        report(rest)
