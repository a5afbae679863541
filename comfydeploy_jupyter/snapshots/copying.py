"""Files that go into a build context: bounded, without caches, secrets and links to elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FULL
from ..secrets import holds_secret, is_secret_file

MIB = 1024 * 1024
_LARGE = 100 * MIB  # bytes of a file that is rather a model than code
_SEARCHED = 4 * MIB  # bytes of a file up to which it is searched for keys
_NOT_CODE = frozenset({"__pycache__", "venv", "node_modules", ".DS_Store"})


@dataclass
class Copier:
    """Copies folders, as long as there is room.

    Attributes
    ----------
    bytes_left, files_left : int
        What may still be copied.
    warnings : list of str
        What was left out, and why.
    """

    bytes_left: int = 500 * MIB
    files_left: int = 50_000
    warnings: list[str] = field(default_factory=list)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file or a folder; ``target`` must not exist, its parent must."""
        root = Path(os.path.realpath(source))
        if root.is_file():
            self._file(root, target, source.name)
        else:
            self._folder(root, root, target, source.name)

    def _folder(self, root: Path, folder: Path, target: Path, shown: str) -> None:
        target.mkdir()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as fault:
            self.warnings.append(f"{shown} is left out: {fault.strerror}")
            return
        for entry in entries:
            if entry.name in _NOT_CODE or entry.name.endswith((".pyc", ".pyo")):
                continue
            path, beside = Path(entry.path), f"{shown}/{entry.name}"
            if entry.is_symlink():
                self._link(root, path, target / entry.name, beside)
            elif not entry.is_dir():
                self._file(path, target / entry.name, beside)
            elif not entry.name.startswith("."):  # .git, .venv, .cache and the like
                self._folder(root, path, target / entry.name, beside)

    def _link(self, root: Path, path: Path, target: Path, shown: str) -> None:
        end = Path(os.path.realpath(path))
        if not end.is_relative_to(root):
            self.warnings.append(f"{shown} is left out: a link to outside of its pack")
        elif end.is_dir():
            target.symlink_to(os.path.relpath(end, os.path.realpath(path.parent)))
        else:
            self._file(end, target, shown)

    def _file(self, path: Path, target: Path, shown: str) -> None:
        try:
            why = self._reason_against(path)
            if why is None:
                shutil.copyfile(path, target)
                shutil.copymode(path, target)
        except OSError as fault:
            if fault.errno in FULL:
                raise
            target.unlink(missing_ok=True)
            why = fault.strerror or "it cannot be read"
        if why is not None:
            self.warnings.append(f"{shown} is left out: {why}")

    def _reason_against(self, path: Path) -> str | None:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return "not a file"
        if is_secret_file(path.name):
            return "such files hold secrets"
        if facts.st_size > _LARGE:
            return f"it has {facts.st_size // MIB} MiB"
        if facts.st_size > self.bytes_left or self.files_left <= 0:
            return "there are too many files, or too large ones"
        if facts.st_size <= _SEARCHED and holds_secret(path.read_bytes()):
            return "there is a key in it"
        self.bytes_left -= facts.st_size
        self.files_left -= 1
        return None
