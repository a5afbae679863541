"""The folders of a local ComfyUI, and the paths that the routes may access.

All functions read the disk, which may be a slow network drive. They are synchronous: call them in
threads, never on the event loop.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import stat
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from ..errors import ConflictError, ForbiddenPathError, InvalidRequestError, NotFoundError
from .model_folders import (
    LEGACY_NAMES,
    UNREGISTERED_EXTENSIONS,
    ModelFolder,
    Registry,
    absolute,
    reported_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        registry = Registry(home, base, self.models_directory)
        configs = [start / name for name in chain(*given.extra_model_paths_config)]
        if (home / "extra_model_paths.yaml").is_file():
            configs.insert(0, home / "extra_model_paths.yaml")
        for config in configs:
            registry.read_config(config)
        for name in _SAVED_UNDER_OUTPUT:
            registry.add(name, str(self._types["output"] / name))
        self._registered = registry.folders()

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
                found[name] = reported_folder(name, self.base, self.models_directory)
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
        folders = [
            folder for folder in self.model_folders().values() if folder.name != "custom_nodes"
        ]
        models = chain.from_iterable(folder.paths for folder in folders)
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

    def open_directory(self, path: str | Path, *, create: bool = False) -> int:
        """Open a directory within the roots, for a ``dir_fd``; the caller closes it."""
        with _as_user_errors(path):
            return self._open_parent(Path(os.path.normpath(path)) / "_", create=create)

    def _open_parent(self, path: Path, *, create: bool) -> int:
        root = self._check_within(path.parent, "path")
        if create:
            root.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(root, flags)
        for component in path.parent.relative_to(root).parts:
            try:
                if create:
                    _make_directory(component, descriptor)
                inner = os.open(component, flags, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

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


def _make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise ConflictError(f"{name} is a file, so no folder can be made there.") from None


def _not_regular(path: str | Path) -> ForbiddenPathError:
    return ForbiddenPathError(f"{path} is a device, pipe or socket, not a regular file.")


def _unreadable(path: str | Path) -> ForbiddenPathError:
    return ForbiddenPathError(f"{path} may not be read by the Jupyter server.")
