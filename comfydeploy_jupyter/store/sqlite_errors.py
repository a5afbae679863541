"""What SQLite's errors mean to those who wait for an answer."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from ..errors import FULL, NoSpaceError, StoreUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from ..errors import ComfyDeployError

LITTLE = 64 * 1024  # bytes; with less left, an error of the disk means that it is full

# SQLite's texts (sqlite3_errstr): Python 3.10 does not tell the codes.
_LOCKED = ("database is locked", "database table is locked")
_FULL = "database or disk is full"
_DAMAGED = ("database disk image is malformed", "file is not a database", "malformed database")
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class _Meaning(NamedTuple):
    reason: str
    message: str
    hint: str


_MEANINGS = {
    "attempt to write a readonly database": _Meaning(
        "read_only",
        "The store cannot be written: {path} is read-only",
        "Make the folder writable for who runs Jupyter, or set data_dir to one that is.",
    ),
    "unable to open database file": _Meaning(
        "read_only",
        "The store {path} cannot be opened",
        "The folder must exist and be writable for who runs Jupyter; or set data_dir to another.",
    ),
    "disk I/O error": _Meaning(
        "disk",
        "The disk of the store {path} reports an error",
        "Look at the disk; or set data_dir to a folder on another one.",
    ),
}


def is_locked(fault: BaseException) -> bool:
    """Return whether another process holds a lock that was waited for in vain."""
    return isinstance(fault, sqlite3.OperationalError) and str(fault).startswith(_LOCKED)


def is_damage(fault: BaseException) -> bool:
    """Return whether an error says that the file is no proper database any more."""
    return isinstance(fault, sqlite3.DatabaseError) and str(fault).startswith(_DAMAGED)


def explain(fault: Exception, path: Path) -> ComfyDeployError | None:
    """Return the error to tell for one of SQLite or of the operating system.

    Parameters
    ----------
    fault : Exception
        What was raised.
    path : pathlib.Path
        The database file.

    Returns
    -------
    ComfyDeployError or None
        None where it is no matter of the disk or of other processes, but a mistake in a statement.
    """
    if isinstance(fault, OSError):
        return _explain_system(fault, path)
    if not isinstance(fault, sqlite3.Error):
        return None
    text = str(fault)
    if is_locked(fault):
        return _unavailable(
            _Meaning(
                "locked",
                "Another process has locked the store {path}",
                "Try again; if that goes on, end the process that has the file open.",
            ),
            path,
        )
    if is_damage(fault):
        return damaged(path)
    meaning = _MEANINGS.get(text)
    if text.startswith(_FULL) or (meaning is not None and _is_full(path)):
        return _no_space(path)
    return None if meaning is None else _unavailable(meaning, path)


def damaged(path: Path) -> StoreUnavailableError:
    """Return the error for a damaged store that cannot be set aside now."""
    return _unavailable(
        _Meaning(
            "damaged",
            "The store {path} is damaged, and another Jupyter server has it open",
            "End the other server: the damaged store is then set aside, and a new one begun.",
        ),
        path,
    )


def newer(path: Path, steps: list[str]) -> StoreUnavailableError:
    """Return the error for a store that a newer version of this package has made."""
    return _unavailable(
        _Meaning(
            "newer",
            f"The store {{path}} is of a newer version of comfydeploy-jupyter ({', '.join(steps)})",
            "Install that version, or set data_dir to another folder. The store was left as it is.",
        ),
        path,
    )


def _explain_system(fault: OSError, path: Path) -> ComfyDeployError | None:
    if fault.errno in FULL:
        return _no_space(path)
    if fault.errno in _READ_ONLY:
        return _unavailable(_MEANINGS["attempt to write a readonly database"], path)
    return _unavailable(
        _Meaning("disk", f"The store {{path}} cannot be opened: {fault.strerror}", ""), path
    )


def _unavailable(meaning: _Meaning, path: Path) -> StoreUnavailableError:
    return StoreUnavailableError(
        meaning.message.replace("{path}", str(path)),
        details={"reason": meaning.reason, "path": str(path)},
        extra={"hint": meaning.hint} if meaning.hint else None,
    )


def _no_space(path: Path) -> NoSpaceError:
    return NoSpaceError(
        f"There is no space left on the disk for the store {path}", details={"path": str(path)}
    )


def _is_full(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return not found.f_flag & os.ST_RDONLY and found.f_bavail * found.f_frsize < LITTLE
