"""Copy files into a build context: with bounds, without caches, secrets and outside links."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FULL
from ..util.secrets import holds_secret, is_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
_LARGE = 100 * MIB  # bytes; a larger file is probably a model and not code
_SEARCHED = 4 * MIB  # bytes; only smaller files are searched for keys
_NOT_CODE = frozenset({"__pycache__", "venv", "node_modules", ".DS_Store"})


@dataclass
class Copier:
    """Copies folders, up to a total size and number of files."""

    bytes_left: int = 500 * MIB
    files_left: int = 50_000
    warnings: list[str] = field(default_factory=list)

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
        if facts.st_size > _LARGE:
            return f"it is larger than the limit: {facts.st_size // MIB} MiB"
        if facts.st_size > self.bytes_left or self.files_left <= 0:
            return "there are too many files, or too large ones"
        with os.fdopen(opened, "rb", closefd=False) as file:
            content = file.read(_SEARCHED)
            if facts.st_size <= _SEARCHED and holds_secret(content):
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
    """The folder that is copied: its path, and its open descriptor."""

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


@contextmanager
def _opened(name: str | Path, folder: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(name, flags, dir_fd=folder)
    try:
        yield opened
    finally:
        os.close(opened)
