"""ComfyUI's model folders: their names, directories and extensions, and their configuration.

All functions in this module read the disk: call them in threads.

Source of the rules: ComfyUI folder_paths.py and utils/extra_config.py.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

log = logging.getLogger(__name__)

MODEL_EXTENSIONS = frozenset(
    {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
)
"""Extensions of files with weights, as in ComfyUI's folder_paths.py."""

UNREGISTERED_EXTENSIONS = MODEL_EXTENSIONS | {".gguf", ".onnx"}
"""Extensions that are listed in folders under ``models/`` that only custom nodes register."""

LEGACY_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}
"""Former names of model folders (ComfyUI, folder_paths.py)."""

NOT_MODELS = frozenset({"configs", "custom_nodes", "datasets"})
"""Registered folders that contain no models."""

_FOLDERS = (
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "latent_upscale_models",
    "custom_nodes",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
)
_DIRECTORIES = {
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "controlnet": ("controlnet", "t2i_adapter"),
}
_EXTENSIONS = {
    "configs": frozenset({".yaml"}),
    "diffusers": frozenset({"folder"}),
    "custom_nodes": frozenset[str](),
    "datasets": frozenset[str](),
    "classifiers": frozenset({""}),
}
BESIDE_MODELS = frozenset({"custom_nodes", "datasets"})
"""Folders that are not below ``models/``, but next to it."""

_LONGEST = 1024 * 1024  # bytes of a file that are read at most
_STOCK_FOLDER = re.compile(
    r'^folder_names_and_paths\["([\w-]+)"\] = \(\[([^\]\n]*)\], (.+)\)[ \t]*$', re.MULTILINE
)
_STOCK_PATH = re.compile(r'os\.path\.join\((models_dir|base_path), "([\w-]+)"\)')
"""The code with which folder_paths.py registers folders, in all tested versions of ComfyUI."""


@dataclass(frozen=True)
class ModelFolder:
    """One model folder of ComfyUI, such as ``checkpoints``."""

    name: str
    paths: tuple[Path, ...]  # its directories, absolute; new models are stored in the first one
    extensions: frozenset[str]  # lower-case extensions of its files, with the dot; empty: all files


def reported_folder(name: str, base: Path, models: Path) -> ModelFolder:
    """Return the folder for a name from a running ComfyUI, whose custom nodes registered it."""
    parent = base if name in BESIDE_MODELS else models
    return ModelFolder(name, (parent / name,), _EXTENSIONS.get(name, UNREGISTERED_EXTENSIONS))


def is_folder_name(name: str) -> bool:
    """Return whether a name from ComfyUI can be the name of a folder directly under ``models/``."""
    return re.fullmatch(r"[\w][\w .-]{0,100}", name) is not None and name == name.rstrip(" .")


def registered_extensions(name: str) -> frozenset[str]:
    """Return the extensions that ComfyUI registers for a model folder; empty: all files."""
    known = dict.fromkeys(_FOLDERS, MODEL_EXTENSIONS) | _EXTENSIONS
    return known.get(name, frozenset())


class Registry:
    """ComfyUI's table of model folders while it is being built."""

    def __init__(self, home: Path, base: Path, models: Path) -> None:
        self._paths: dict[str, list[str]] = {}
        self._extensions: dict[str, frozenset[str]] = {}
        for name, parts, extensions in _read_stock_folders(home) or _stock_folders():
            self._paths[name] = [str((base if beside else models) / part) for beside, part in parts]
            self._extensions[name] = extensions

    def add(self, name: str, path: str, *, is_default: bool = False) -> None:
        """Add a directory to a model folder; it becomes the first one if it is the default."""
        paths = self._paths.setdefault(LEGACY_NAMES.get(name, name), [])
        if is_default and path in paths:
            paths.remove(path)
        if path not in paths:
            paths.insert(0 if is_default else len(paths), path)

    def read_config(self, config: Path) -> None:
        """Add the directories of an ``extra_model_paths.yaml``."""
        for name, path, is_default in _read_extra_paths(config):
            self.add(name, path, is_default=is_default)

    def folders(self) -> dict[str, ModelFolder]:
        """Return the model folders by name."""
        return {
            name: ModelFolder(
                name, tuple(map(Path, paths)), self._extensions.get(name, frozenset())
            )
            for name, paths in self._paths.items()
        }


_StockFolder: TypeAlias = tuple[str, list[tuple[bool, str]], frozenset[str]]
"""Name; directories, each with whether it is next to ``models/``; extensions."""


def _stock_folders() -> list[_StockFolder]:
    """Return the folders of the oldest tested ComfyUI, for a folder without ComfyUI's source."""
    return [
        (
            name,
            [(name in BESIDE_MODELS, part) for part in _DIRECTORIES.get(name, (name,))],
            registered_extensions(name),
        )
        for name in _FOLDERS
    ]


def _read_stock_folders(home: Path) -> list[_StockFolder]:
    """Return the folders that ComfyUI's source registers; none if that cannot be read."""
    try:
        source = _read(home / "folder_paths.py").decode("utf-8", "replace")
    except OSError:
        return []
    found: list[_StockFolder] = []
    for name, paths, extensions in _STOCK_FOLDER.findall(source):
        parts = [(root == "base_path", part) for root, part in _STOCK_PATH.findall(paths)]
        if parts:
            found.append((name, parts, _read_extensions(extensions)))
    return found if any(name == "checkpoints" for name, *_ in found) else []


def _read_extensions(text: str) -> frozenset[str]:
    """Return the extensions in the source text of a set or list."""
    if text == "set()":
        return frozenset()
    if text.startswith(("{", "[")):
        return frozenset(re.findall(r'"([^"]*)"', text))
    return MODEL_EXTENSIONS


def _read(path: Path) -> bytes:
    """Return the content of a regular file.

    The file is opened without blocking: to open a pipe could block until another process writes.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise OSError(errno.EFBIG, f"it is longer than {_LONGEST} bytes")
    return content


def _read_extra_paths(config: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield ``(folder name, absolute path, is_default)`` of an ``extra_model_paths.yaml``.

    A file or section that cannot be parsed is logged and skipped; the rest is used.
    """
    try:
        sections = yaml.safe_load(_read(config).decode()) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        log.warning("The model paths in %s are ignored: %s", config, error)
        return
    for title, section in sections.items() if isinstance(sections, Mapping) else ():
        if isinstance(section, Mapping):
            yield from _read_section(config, dict(section))
        elif section is not None:
            log.warning("The section %r of %s is ignored: it is not a mapping", title, config)


def _read_section(config: Path, section: dict[Any, Any]) -> Iterator[tuple[str, str, bool]]:
    given = section.pop("base_path", None) or ""
    if not isinstance(given, str) or "\0" in given:  # with YAML aliases a short list can be huge
        log.warning("A section of %s is ignored: its base_path is not a path", config)
        return
    try:
        base = Path(given).expanduser()
    except RuntimeError as error:  # ~user of an unknown user
        log.warning("A section of %s is ignored: %s", config, error)
        return
    start = absolute(config.parent) / os.path.expandvars(base)
    is_default = bool(section.pop("is_default", False))
    for name, lines in section.items():
        if not isinstance(lines, str) or "\0" in lines:
            log.warning("%r in %s is ignored: it is not a path", name, config)
            continue
        for line in filter(None, lines.split("\n")):
            yield str(name), os.path.normpath(start / line), is_default


def absolute(path: str | Path) -> Path:
    """Return an absolute path without ``~`` and ``..``; links are not resolved."""
    return Path(os.path.normpath(Path(path).expanduser().absolute()))
