"""Writing files on this machine so that a crash leaves no half of one."""

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
    """Give a new file in a folder, hidden; what has got no other name in the end is removed.

    Parameters
    ----------
    folder : pathlib.Path
        Where the file will be when it is finished.
    """
    path = folder / f".{uuid.uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, or replace one; it is there as a whole, or as it was before."""
    target = Path(path).expanduser()
    with unfinished(target.parent) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
        file.close()
        Path(file.name).replace(target)


def put_beside(file: Path, wanted: Path) -> Path:
    """Give a finished file its name, or the next free one; never replace another content.

    Parameters
    ----------
    file : pathlib.Path
        It is moved, unless its content is there already.
    wanted : pathlib.Path
        Its name, in the same folder; ``a (1).png`` instead of ``a.png`` where that is taken.

    Returns
    -------
    pathlib.Path
        Where the content is.
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
