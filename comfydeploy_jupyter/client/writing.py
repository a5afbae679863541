"""Writes files on this machine so that a crash leaves no incomplete file."""

from __future__ import annotations

import filecmp
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


@contextmanager
def unfinished(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a new hidden file in a folder; it is removed at the end unless it was renamed.

    Parameters
    ----------
    folder : pathlib.Path
        The folder in which the finished file will be.
    """
    path = folder / f".{uuid.uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write or replace a text file; a crash leaves the old content, or the new one complete."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write or replace a file; a crash leaves the old content, or the new one complete."""
    target = Path(path).expanduser()
    with unfinished(target.parent) as file:
        file.write(content)
        file.close()
        Path(file.name).replace(target)


def rename_or_number(file: Path, wanted: Path) -> Path:
    """Rename a finished file to its name, or to a free one; never replace other content.

    Parameters
    ----------
    file : pathlib.Path
        The file. It is not moved if a file with its content exists already.
    wanted : pathlib.Path
        Its name, in the same folder; if ``a.png`` is taken, it becomes ``a (1).png``.

    Returns
    -------
    pathlib.Path
        The path of the content.
    """
    path, number = wanted, 0
    while not _reserve(path):
        if path.is_file() and filecmp.cmp(file, path, shallow=False):
            return path
        number += 1
        path = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
    return file.replace(path)


def _reserve(path: Path) -> bool:
    try:
        path.open("xb").close()
    except FileExistsError:
        return False
    return True
