"""A snapshot as a Docker build context: a folder from which the environment can be rebuilt."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FULL, ConflictError, NoSpaceError
from ..util.posix import lock_file
from .copying import Copier
from .manager_format import to_manager
from .packages import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .environment import Environment
    from .snapshot import Package, Snapshot

PORT = 8188
_PYTHON = "3.12"  # used if the snapshot does not contain the version
_HOME = "/opt/comfyui"
_CONTEXT = "/opt/snapshot"
_GET = f"{_CONTEXT}/get.py"
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


@dataclass(frozen=True)
class Written:
    """A build context on disk."""

    path: Path
    dockerfile: str
    warnings: list[str]


def write_context(folder: Path, name: str, environment: Environment, *, models: bool) -> Written:
    """Write a build context, which replaces an earlier one of the same name.

    It is written to a temporary folder and renamed, so a name always refers to a complete context.
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


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    descriptor = os.open(folder / f"{name}~lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            lock_file(descriptor)
        except BlockingIOError:
            raise ConflictError(
                f"name: the snapshot {name} is being written", details={"field": "name"}
            ) from None
        yield
    finally:
        os.close(descriptor)


class _Writer:
    """Writes the files of one build context."""

    def __init__(self, folder: Path, environment: Environment, *, with_models: bool) -> None:
        self.warnings: list[str] = []
        self._folder = folder
        self._environment = environment
        self._snapshot: Snapshot = environment.snapshot
        self._with_models = with_models
        self._copier = Copier(warnings=self.warnings)
        self._lines: list[str] = []

    def write(self) -> str:
        """Write all files; return the text of the Dockerfile."""
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
        if not self._snapshot.python.packages:
            install = ("python", "-m", "pip", "install", "-r", f"{_HOME}/requirements.txt")
            self.warnings.append("the snapshot has no packages; those of ComfyUI are installed")
            self._run(*install)

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
                    continue
                target = f"{_HOME}/models/{model.folder}/{model.name}"
                words = ("python", _GET, "model", model.source, target, model.sha256 or "")
                self._run(*filter(None, words), secrets=True)
        if unknown:
            self.warnings.append(
                f"{unknown} of {len(models)} models have no known source; snapshot.json lists them"
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
    kept: list[str] = []
    left_out: list[str] = []
    skipping = False
    for argument in arguments:
        if argument.startswith("-"):
            option = argument.partition("=")[0]
            skipping = option in _PLACES
            if skipping and option not in left_out:
                left_out.append(option)
        if not skipping:
            kept.append(argument)
    return kept, [option for option in left_out if option not in ("--listen", "--port")]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
