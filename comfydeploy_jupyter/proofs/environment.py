"""The environment of a run, so that it can be made elsewhere: from its record alone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..snapshots.docker import single_dockerfile
from ..snapshots.environment import LOCAL, Environment
from ..snapshots.snapshot import (
    PYTORCH_INDEX,
    ComfyUI,
    CustomNode,
    ModelFile,
    Package,
    Python,
    Snapshot,
    docker_command_steps,
    to_manager,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..request_models import Model

_BUILD = re.compile(r"[^+]+\+(cpu|xpu|cu\d+|rocm[\d.]+)")


FILES = {
    "dockerfile": ("Dockerfile", "text/plain"),
    "manager_snapshot": ("snapshot.json", "application/json"),
    "docker_command_steps": ("docker_command_steps.json", "application/json"),
}
"""The forms of an environment that are files: their names and types."""


def file_of(environment: Mapping[str, Any], form: str) -> bytes:
    """Return a form of an environment as the content of its file."""
    content = environment[form]
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    return text.encode()


def environment_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment of a run in all forms, and what is not in them.

    Nothing is added that the record does not know.
    """
    maker = _Maker(record)
    snapshot, warnings = maker.snapshot(), maker.warnings
    steps, left_out = docker_command_steps(snapshot)
    about = [f"The environment of the run {record['prompt_id']}.", *maker.comments]
    dockerfile, more = single_dockerfile(Environment(snapshot), [*about, *warnings])
    return {
        "snapshot": snapshot.model_dump(),
        "manager_snapshot": to_manager(snapshot),
        "docker_command_steps": steps,
        "dockerfile": dockerfile,
        "warnings": list(dict.fromkeys([*warnings, *more, *left_out])),
    }


class _Maker:
    """Makes a snapshot of a record; a part that no snapshot can have becomes a warning."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self._environment: Mapping[str, Any] = record.get("environment") or {}
        self.warnings: list[str] = []
        self.comments: list[str] = []  # what has to be put in place by hand

    def snapshot(self) -> Snapshot:
        if not self._environment:
            self.warnings.append("the environment of the run is not known")
        for file in self._record.get("inputs") or ():
            known = file.get("sha256") or file.get("reason") or "unknown"
            self.comments.append(f"Input file: {file['folder']}/{file['name']}, SHA-256 {known}")
        return Snapshot(
            created_at=self._record.get("noted_at"),
            comfyui=self._comfyui(),
            python=self._python(),
            custom_nodes=list(self._packs()),
            models=list(self._models()),
        )

    def _made(self, model: type[Model], what: str, /, **values: Any) -> Any:
        try:
            return model(**values)
        except ValidationError as error:
            first = error.errors()[0]
            self.warnings.append(f"{what} is left out: {first['loc'][0]}: {first['msg']}")
            return None

    def _comfyui(self) -> ComfyUI:
        known = self._environment.get("comfyui") or {}
        names = ("version", "commit", "repository", "modified", "launch_args")
        given = {name: known[name] for name in names if known.get(name)}
        found: ComfyUI = self._made(ComfyUI, "ComfyUI", **given) or ComfyUI()
        if found.commit is None and found.version is None:
            self.warnings.append("the version of ComfyUI is not known")
        elif found.commit is None:
            self.warnings.append("the commit of ComfyUI is not known, only its version")
        if found.modified:
            self.warnings.append("files of ComfyUI were changed; the changes are not in it")
        return found

    def _python(self) -> Python:
        version = re.match(r"3\.\d+(\.\d+)?", str(self._environment.get("python") or ""))
        versions: dict[str, str] = self._environment.get("packages") or {}
        sources: dict[str, str] = self._environment.get("package_sources") or {}
        indexes = set(self._environment.get("package_indexes") or ())
        torch = self._environment.get("torch")
        if "torch" not in versions and torch:
            versions = {**versions, "torch": torch}
            indexes |= {
                f"{PYTORCH_INDEX}/{build[1]}" for build in [_BUILD.fullmatch(torch)] if build
            }
        packages = []
        for name, number in versions.items():
            line = sources.get(name) or f"{name}=={number}"
            if line.startswith(LOCAL):
                self.warnings.append(
                    f"the Python package {name} {number} is left out: it was installed from files"
                    " of the machine of the run"
                )
                continue
            if line.startswith(f"{name}==") and line != f"{name}=={number}":
                self.warnings.append(
                    f"{name} {number} is a build of unknown origin: {line} is used"
                )
            found = self._made(
                Package, f"the Python package {name}", name=name, version=number, requirement=line
            )
            packages += [found] if found is not None else []
        found = self._made(
            Python,
            "Python",
            version=version[0] if version else None,
            indexes=sorted(indexes),
            packages=packages,
        )
        return found or Python(packages=packages)

    def _packs(self) -> Iterator[CustomNode]:
        for pack in self._record.get("node_packs") or ():
            name = f"the node pack {pack['name']}"
            if pack.get("kind") not in ("git", "registry"):
                digest = f" (SHA-256 {pack['sha256']})" if pack.get("sha256") else ""
                why = pack.get("reason") or "it has neither a commit nor a version in the registry"
                self.warnings.append(f"{name}{digest} is left out: {why}")
                continue
            names = ("name", "kind", "repository", "commit", "id", "version", "modified")
            found = self._made(CustomNode, name, **{k: pack[k] for k in names if pack.get(k)})
            if found is not None:
                if found.modified:
                    self.warnings.append(f"files of {name} were changed; only its commit is in it")
                yield found

    def _models(self) -> Iterator[ModelFile]:
        for model in self._record.get("models") or ():
            name = f"the model {model['name']}"
            if not model.get("folder"):
                self.warnings.append(f"{name} is left out: {model.get('reason') or 'unknown'}")
                continue
            if not model.get("sha256"):
                self.warnings.append(f"the SHA-256 of {name} is not known")
            elif not model.get("url"):
                self.warnings.append(f"the source of {name} is not known")
            found = self._made(
                ModelFile,
                name,
                name=model.get("file") or model["name"].replace("\\", "/"),
                folder=model["folder"],
                size=model.get("size"),
                sha256=model.get("sha256"),
                source=model.get("url"),
            )
            if found is not None:
                yield found
