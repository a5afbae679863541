"""The folders of a local ComfyUI, its model folders, and the paths that the routes may access.

All functions read the disk, which may be a slow network drive: call them in threads. The rules for
model folders are those of ComfyUI's folder_paths.py and utils/extra_config.py.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import yaml

from ..errors import ConflictError, ForbiddenPathError, InvalidRequestError, NotFoundError
from ..util.system import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

# Of files with weights, as in ComfyUI's folder_paths.py.
MODEL_EXTENSIONS = frozenset(
    {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
)
# Of files in folders under ``models/`` that only custom nodes register.
UNREGISTERED_EXTENSIONS = MODEL_EXTENSIONS | {".gguf", ".onnx"}
# Former names of model folders (ComfyUI, folder_paths.py).
LEGACY_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}
NOT_MODELS = frozenset({"configs", "custom_nodes", "datasets"})  # folders without models
# The folders of the oldest tested ComfyUI, for a folder without ComfyUI's source.
_FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models"),
    *("clip_vision", "style_models", "embeddings", "diffusers", "vae_approx", "controlnet"),
    *("gligen", "upscale_models", "latent_upscale_models", "custom_nodes", "hypernetworks"),
    *("photomaker", "classifiers", "model_patches", "audio_encoders"),
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
BESIDE_MODELS = frozenset({"custom_nodes", "datasets"})  # next to ``models/``, not below it
_MAX_BYTES = 1024 * 1024  # of a file that is read
# The code with which folder_paths.py registers folders, in all tested versions of ComfyUI.
_STOCK_FOLDER = re.compile(
    r'^folder_names_and_paths\["([\w-]+)"\] = \(\[([^\]\n]*)\], (.+)\)[ \t]*$', re.MULTILINE
)
_STOCK_PATH = re.compile(r'os\.path\.join\((models_dir|base_path), "([\w-]+)"\)')


@dataclass(frozen=True)
class ModelFolder:
    """One model folder of ComfyUI, such as ``checkpoints``."""

    name: str
    paths: tuple[Path, ...]  # its directories, absolute; new models are stored in the first one
    extensions: frozenset[str]  # lower-case extensions of its files, with the dot; empty: all files


def is_folder_name(name: str) -> bool:
    """Return whether a name from ComfyUI can be the name of a folder directly under ``models/``."""
    return re.fullmatch(r"[\w][\w .-]{0,100}", name) is not None and name == name.rstrip(" .")


def registered_extensions(name: str) -> frozenset[str]:
    """Return the extensions that ComfyUI registers for a model folder; empty: all files."""
    known = dict.fromkeys(_FOLDERS, MODEL_EXTENSIONS) | _EXTENSIONS
    return known.get(name, frozenset())


# Name; directories, each with whether it is next to ``models/``; extensions.
_StockFolder: TypeAlias = tuple[str, list[tuple[bool, str]], frozenset[str]]


def _registered_folders(
    home: Path, base: Path, models: Path, more: Iterable[tuple[str, str, bool]]
) -> dict[str, ModelFolder]:
    """Return ComfyUI's table of model folders: those of its source, then ``more`` directories.

    Each of these has the name of its folder, a path, and whether it becomes the first one.
    """
    paths: dict[str, list[str]] = {}
    extensions: dict[str, frozenset[str]] = {}
    for name, parts, accepted in _read_stock_folders(home) or _stock_folders():
        paths[name] = [str((base if beside else models) / part) for beside, part in parts]
        extensions[name] = accepted
    for name, path, is_default in more:
        known = paths.setdefault(LEGACY_NAMES.get(name, name), [])
        if is_default and path in known:
            known.remove(path)
        if path not in known:
            known.insert(0 if is_default else len(known), path)
    return {
        name: ModelFolder(name, tuple(map(Path, found)), extensions.get(name, frozenset()))
        for name, found in paths.items()
    }


def _stock_folders() -> list[_StockFolder]:
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
        source = read_regular(home / "folder_paths.py", _MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    found: list[_StockFolder] = []
    for name, paths, extensions in _STOCK_FOLDER.findall(source):
        parts = [(root == "base_path", part) for root, part in _STOCK_PATH.findall(paths)]
        if parts:
            found.append((name, parts, _read_extensions(extensions)))
    return found if any(name == "checkpoints" for name, *_ in found) else []


def _read_extensions(text: str) -> frozenset[str]:
    if text == "set()":
        return frozenset()
    if text.startswith(("{", "[")):
        return frozenset(re.findall(r'"([^"]*)"', text))
    return MODEL_EXTENSIONS


def _read_extra_paths(config: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield ``(folder name, absolute path, is_default)`` of an ``extra_model_paths.yaml``.

    A file or section that cannot be parsed is logged and skipped; the rest is used.
    """
    try:
        sections = yaml.safe_load(read_regular(config, _MAX_BYTES).decode()) or {}
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


Kind = Literal["file", "directory", "any"]

MAX_PATH_BYTES = 4095
MAX_COMPONENT_BYTES = 255

_SAVED_UNDER_OUTPUT = ("checkpoints", "clip", "vae", "diffusion_models", "loras")


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequestError.of_field("launch_args", message)


class Folders:
    """The folders of one local ComfyUI, and the check that paths are within them.

    The launch arguments and ``extra_model_paths.yaml`` are read once, as ComfyUI reads them at its
    start (folder_paths.py, main.py, utils/extra_config.py): create a new object for another start.
    """

    def __init__(
        self,
        comfyui_path: str | Path | None,  # None: only Jupyter's root and the extra roots
        *,
        argv: Sequence[str] = (),
        cwd: str | Path | None = None,  # of relative paths in `argv`
        jupyter_root: str | Path | None = None,
        extra_roots: Sequence[str | Path] = (),
    ) -> None:
        self.jupyter_root = absolute(jupyter_root) if jupyter_root is not None else None
        self.extra_roots = tuple(absolute(root) for root in extra_roots)
        self.comfyui_path: Path | None = None
        self.base: Path | None = None
        self.models_directory: Path | None = None
        # Names of model folders in replies of the running ComfyUI, which custom nodes may have
        # registered. A new name means the folder of that name under ``models/``: no reply of a
        # ComfyUI can make another folder accessible.
        self.reported: tuple[str, ...] = ()
        self._types: dict[str, Path] = {}
        self._registered: dict[str, ModelFolder] = {}
        if comfyui_path is not None:
            self._read_comfyui(absolute(comfyui_path), argv, cwd)

    def _read_comfyui(self, home: Path, argv: Sequence[str], cwd: str | Path | None) -> None:
        start = absolute(cwd) if cwd is not None else home
        given = _parse_arguments(argv)

        def from_argument(value: str | None, default: Path) -> Path:
            return Path(os.path.normpath(start / value)) if value else default

        self.comfyui_path = home
        self.base = base = from_argument(given.base_directory, Path(os.path.realpath(home)))
        self._types = {
            "input": from_argument(given.input_directory, base / "input"),
            "output": from_argument(given.output_directory, base / "output"),
            "temp": from_argument(given.temp_directory, base) / "temp",
        }
        self.models_directory = from_argument(given.models_directory, base / "models")
        configs = [start / name for name in chain(*given.extra_model_paths_config)]
        if (home / "extra_model_paths.yaml").is_file():
            configs.insert(0, home / "extra_model_paths.yaml")
        saved = ((name, str(self._types["output"] / name), False) for name in _SAVED_UNDER_OUTPUT)
        more = chain(chain.from_iterable(map(_read_extra_paths, configs)), saved)
        self._registered = _registered_folders(home, base, self.models_directory, more)

    def model_folders(self) -> dict[str, ModelFolder]:
        """Return every model folder by name, in ComfyUI's order.

        The registered folders are followed by directories directly under ``models/`` that belong to
        no registered folder: custom nodes register such folders by the directory's name. The last
        ones are those that only the running ComfyUI lists (`reported`).
        """
        found = dict(self._registered)
        used = {os.path.realpath(path) for folder in found.values() for path in folder.paths}
        for entry in self._directories_under_models():
            if entry.name not in found and os.path.realpath(entry.path) not in used:
                found[entry.name] = ModelFolder(
                    entry.name, (Path(entry.path),), UNREGISTERED_EXTENSIONS
                )
        for name in self.reported:
            if self.base is None or self.models_directory is None:
                break
            if name not in found and LEGACY_NAMES.get(name, name) not in found:
                parent = self.base if name in BESIDE_MODELS else self.models_directory
                extensions = _EXTENSIONS.get(name, UNREGISTERED_EXTENSIONS)
                found[name] = ModelFolder(name, (parent / name,), extensions)
        return found

    def is_reported(self, name: str) -> bool:
        """Return whether only the running ComfyUI lists a folder of this name."""
        return name in self.reported and name not in self._registered

    def model_folder(self, name: str) -> ModelFolder:
        """Return one model folder; former names such as ``unet`` are accepted."""
        folders = self.model_folders()
        folder = folders.get(LEGACY_NAMES.get(name, name))
        if folder is None:
            raise NotFoundError(
                f"There is no model folder {name!r}.", details={"folders": list(folders)}
            )
        return folder

    def directory(self, kind: str) -> Path:
        """Return the directory for the ``type`` of an upload; it need not exist yet."""
        if self.base is None:
            raise NotFoundError(
                "The folders of ComfyUI are not known; set `comfyui_path` to its directory."
            )
        if kind in self._types:
            return self._types[kind]
        family, _, name = kind.partition("/")
        if family == "models" and LEGACY_NAMES.get(name, name) != "custom_nodes":
            folder = self.model_folders().get(LEGACY_NAMES.get(name, name))
            if folder is not None:
                assert self.models_directory is not None
                own = self.models_directory / name
                has_default = folder.paths[0].parent != own.parent
                return folder.paths[0] if has_default or own not in folder.paths else own
        raise InvalidRequestError.of_field(
            "type", "must be input, output, temp or models/<folder> with a known model folder"
        )

    def upload_directories(self) -> list[Path]:
        """Return all directories that uploads may be stored in, without subfolders."""
        folders = self.model_folders().items()
        models = chain.from_iterable(each.paths for name, each in folders if name != "custom_nodes")
        return list(dict.fromkeys([*self._types.values(), *models]))

    def roots(self) -> list[Path]:
        """Return the directories that may be accessed with all their content, links resolved."""
        return list(dict.fromkeys(self._roots()))

    def resolve(
        self,
        name: str,
        *,
        must_exist: bool = True,
        kind: Kind = "file",
        field: str = "filename",
    ) -> Path:
        """Return the real path for a name, after checking that it is within the roots.

        The first of these paths that exists is used: relative to ComfyUI (``models/…``,
        ``<model folder>/…`` in each directory of that folder, ``input/…``, ``output/…``,
        ``temp/…``), then to Jupyter's root directory, then to ``input/``. A path outside of the
        roots ends the search whether or not it exists, so that errors reveal nothing about the rest
        of the disk. Names are not decoded or expanded: ``%2e`` and ``~`` are ordinary characters.
        If no file has a backslash in its name, a backslash is a separator, as in workflows made on
        Windows.
        """
        _check_name(name, field)
        spellings = [name, name.replace("\\", "/")] if "\\" in name else [name]
        missing: Path | None = None
        for candidate in chain.from_iterable(self._readings(spelling) for spelling in spellings):
            with _as_user_errors(name):
                path = Path(os.path.realpath(candidate))
            self._check_within(path, field)
            if _check_kind(path, kind, name, field):
                return path
            missing = missing or path
        if must_exist or missing is None:
            raise NotFoundError(f"{name} does not exist.", details={"field": field, "name": name})
        return missing

    def open_for_read(self, path: str | Path) -> io.FileIO:
        """Open a file that `resolve` returned, unbuffered.

        Each component from the root on is opened without following links, so a path that was
        replaced by a link after the check is not followed. Pipes and devices do not block.
        """
        path = Path(os.path.normpath(path))
        with _as_user_errors(path):
            parent = self._open_parent(path, create=False)
            try:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(path.name, flags, dir_fd=parent)
            finally:
                os.close(parent)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _not_regular(path)
                return io.FileIO(descriptor, "rb")
            except BaseException:
                os.close(descriptor)
                raise

    def open_file(self, kind: str, subfolder: str, filename: str) -> io.FileIO:
        """Open a file of the ``output``, ``input`` or ``temp`` folder as `open_for_read` does."""
        return self.open_for_read(self._path_within(kind, subfolder, filename))

    def file_size(self, kind: str, subfolder: str, filename: str) -> int:
        path = self._path_within(kind, subfolder, filename)
        try:
            return path.lstat().st_size
        except OSError as error:  # it has just been deleted
            raise _not_there(filename, kind) from error

    def _path_within(self, kind: str, subfolder: str, filename: str) -> Path:
        """Return the path of a file in one of ComfyUI's folders, without links."""
        if kind not in ("output", "input", "temp"):  # the value may be from a node
            raise InvalidRequestError.of_field("type", "must be output, input or temp")
        folder = self.directory(kind)
        try:
            path = self.resolve(str(folder / subfolder / filename))
        except NotFoundError as error:
            raise _not_there(f"{subfolder}/{filename}" if subfolder else filename, kind) from error
        if not path.is_relative_to(folder.resolve()):
            raise ForbiddenPathError.of_field("filename", f"the file is outside the {kind} folder")
        return path

    def open_directory(self, path: str | Path, *, create: bool = False) -> int:
        """Open a directory within the roots, for a ``dir_fd``; the caller closes it."""
        with _as_user_errors(path):
            return self._open_parent(Path(os.path.normpath(path)) / "_", create=create)

    def _open_parent(self, path: Path, *, create: bool) -> int:
        root = self._check_within(path.parent, "path")
        if create:
            root.mkdir(parents=True, exist_ok=True)
        return _open_below(root, path.parent.relative_to(root).parts, create=create)

    def _check_within(self, path: Path, field: str) -> Path:
        for root in self._roots():
            if path.is_relative_to(root):
                return root
        raise ForbiddenPathError(
            "This path is outside the allowed folders: those of ComfyUI, Jupyter's root "
            "directory, folders linked directly under models/, and those in the setting "
            "`extra_roots`.",
            details={
                "field": field,
                "roots": [str(root) for root in self.roots()],
                "extra_roots": [str(root) for root in self.extra_roots],
            },
        )

    def _readings(self, name: str) -> Iterator[Path]:
        if name.startswith("/"):
            yield Path("/", name.lstrip("/"))
            return
        first, _, rest = name.partition("/")
        if first == "models" and self.models_directory is not None:
            yield self.models_directory / rest.lstrip("/")
            yield from self._in_model_folder(rest)
        if first in self._types:
            yield self._types[first] / rest.lstrip("/")
        yield from self._in_model_folder(name)
        if self.jupyter_root is not None:
            yield self.jupyter_root / name
        if "input" in self._types:
            yield self._types["input"] / name

    def _in_model_folder(self, name: str) -> Iterator[Path]:
        first, _, rest = name.lstrip("/").partition("/")
        folder = self._registered.get(LEGACY_NAMES.get(first, first))
        if folder is None and self.models_directory is not None:
            if first not in {"", ".", ".."} and (self.models_directory / first).is_dir():
                yield self.models_directory / first / rest.lstrip("/")
        elif folder is not None and folder.name != "custom_nodes":
            yield from (path / rest.lstrip("/") for path in folder.paths)

    def _roots(self) -> Iterator[Path]:
        """Yield the roots, most frequently used first, since each check reads the disk."""
        own = [self.models_directory, *self._types.values(), self.jupyter_root]
        for path in chain(own, self.extra_roots, self._model_paths()):
            if path is not None:
                yield Path(os.path.realpath(path))
        for entry in self._directories_under_models():
            if entry.is_symlink():
                yield Path(os.path.realpath(entry.path))

    def _model_paths(self) -> Iterator[Path]:
        """Yield the registered directories of models, without those under ``output/``."""
        output = self._types.get("output")
        for folder in self._registered.values():
            if folder.name != "custom_nodes":
                yield from (path for path in folder.paths if output not in path.parents)

    def _directories_under_models(self) -> list[os.DirEntry[str]]:
        if self.models_directory is None:
            return []
        try:
            with os.scandir(self.models_directory) as entries:
                found = [entry for entry in entries if entry.is_dir() and entry.name[0] != "."]
        except OSError:
            return []
        return sorted(found, key=lambda entry: entry.name)


def _parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _ArgumentParser(add_help=False)
    for flag in ("base", "models", "output", "input", "temp"):
        parser.add_argument(f"--{flag}-directory")
    parser.add_argument("--extra-model-paths-config", nargs="+", action="append", default=[])
    known, _ = parser.parse_known_args(list(argv))
    return known


def _check_name(name: str, field: str) -> None:
    if not name:
        raise InvalidRequestError.of_field(field, "must name a file")
    if "\0" in name:
        raise InvalidRequestError.of_field(field, "must not contain NUL characters")
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequestError.of_field(field, "is not valid Unicode text") from None
    longest = max(map(len, encoded.split(b"/")))
    if len(encoded) > MAX_PATH_BYTES or longest > MAX_COMPONENT_BYTES:
        raise InvalidRequestError.of_field(
            field,
            f"is too long (at most {MAX_PATH_BYTES} bytes, {MAX_COMPONENT_BYTES} in each part)",
        )


def _check_kind(path: Path, kind: Kind, name: str, field: str) -> bool:
    """Return whether the path exists; raise if it is not of the requested kind."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return False
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidRequestError.of_field(field, "is too long") from None
        raise _unreadable(name) from error
    if stat.S_ISDIR(mode):
        if kind == "file":
            raise InvalidRequestError.of_field(field, f"{name} is a directory, not a file")
    elif not stat.S_ISREG(mode):
        raise _not_regular(name)
    elif kind == "directory":
        raise InvalidRequestError.of_field(field, f"{name} is a file, not a directory")
    elif name.endswith(("/", "/.")):
        return False
    return True


@contextmanager
def _as_user_errors(path: str | Path) -> Iterator[None]:
    """Convert errors of the operating system to errors of the routes."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise NotFoundError(f"{path} does not exist.") from error
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise ForbiddenPathError(f"{path} leads through a link or a file.") from error
        raise _unreadable(path) from error


def _open_below(root: str | bytes | Path, parts: Iterable[str | bytes], *, create: bool) -> int:
    """Open a directory below a root without following links; the caller closes it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    for part in parts:
        try:
            if create:
                _make_directory(part, descriptor)
            inner = os.open(part, flags, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _make_directory(name: str | bytes, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise ConflictError(
                f"{os.fsdecode(name)} is a file, so no folder can be made there."
            ) from None


def _not_there(name: str, kind: str) -> NotFoundError:
    text = f"{name} is not in the {kind} folder of this ComfyUI"
    return NotFoundError(text, details={"field": "filename"})


def _not_regular(path: str | Path) -> ForbiddenPathError:
    return ForbiddenPathError(f"{path} is a device, pipe or socket, not a regular file.")


def _unreadable(path: str | Path) -> ForbiddenPathError:
    return ForbiddenPathError(f"{path} may not be read by the Jupyter server.")


DELETABLE = ("output", "temp")


def locate(
    directory: Callable[[str], Path], kind: str, subfolder: str, filename: str
) -> tuple[bytes, bytes]:
    """Return the root folder of an output file and its path in that folder, without links.

    ``directory`` returns the folder of a type, as `Folders.directory` does.
    """
    if kind not in DELETABLE:
        raise ForbiddenPathError("only files in ComfyUI's output and temp folders are deleted")
    root = os.path.realpath(directory(kind))
    try:
        if filename in ("", ".", "..") or "/" in filename or "\0" in subfolder + filename:
            raise ForbiddenPathError("its name is not the name of a file")
        parent = Path(os.path.realpath(Path(root, subfolder)))
        if not parent.is_relative_to(root):
            raise ForbiddenPathError(f"it is outside of ComfyUI's {kind} folder")
        return os.fsencode(root), os.fsencode((parent / filename).relative_to(root))
    except UnicodeEncodeError:  # half of an emoji
        raise ForbiddenPathError("its name is not the name of a file") from None


def state_of(root: bytes, path: bytes) -> str | None:
    """Return a text that identifies a file until it is changed; None if it is missing."""
    try:
        with _parent(root, path) as (parent, name):
            return _state(os.stat(name, dir_fd=parent, follow_symlinks=False))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForbiddenPathError(f"it cannot be read: {error.strerror}") from None


def size_of(state: str) -> int:
    return int(json.loads(state)[0])


def delete_file(root: bytes, path: bytes, state: str) -> bool:
    """Delete a file if it is still in this state; return whether it was (OSError: it cannot be)."""
    try:
        with _parent(root, path) as (parent, name):
            if _state(os.stat(name, dir_fd=parent, follow_symlinks=False)) != state:
                return False
            os.unlink(name, dir_fd=parent)
    except (FileNotFoundError, ForbiddenPathError):
        return False
    return True


def _state(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        raise ForbiddenPathError("it is not a regular file")
    return json.dumps([found.st_size, found.st_mtime_ns, found.st_ino])


@contextmanager
def _parent(root: bytes, path: bytes) -> Iterator[tuple[int, bytes]]:
    """Open the folder of a file without following links; yield it, and the name of the file."""
    *parts, name = path.split(b"/")
    descriptor = _open_below(root, parts, create=False)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)
