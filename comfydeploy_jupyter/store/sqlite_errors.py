"""Convert SQLite's errors to errors of this package, with their causes and advice."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from ..errors import FULL, NoSpaceError, StoreUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from ..errors import ComfyDeployError

LITTLE = 64 * 1024  # bytes; with less free space, an I/O error is reported as a full disk

# SQLite's messages (sqlite3_errstr); Python 3.10 does not provide the error codes.
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
        "Make the folder writable for the user who runs Jupyter, or set data_dir to a writable"
        " folder.",
    ),
    "unable to open database file": _Meaning(
        "read_only",
        "The store {path} cannot be opened",
        "The folder must exist and be writable for the user who runs Jupyter; or set data_dir to"
        " another folder.",
    ),
    "disk I/O error": _Meaning(
        "disk",
        "The disk of the store {path} reports an error",
        "Check the disk, or set data_dir to a folder on another disk.",
    ),
}


def is_locked(error: BaseException) -> bool:
    """Return whether another process held a lock for longer than this process waits."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_LOCKED)


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the file is damaged or not a database."""
    return isinstance(error, sqlite3.DatabaseError) and str(error).startswith(_DAMAGED)


def explain(error: Exception, path: Path) -> ComfyDeployError | None:
    """Return this package's error for an error of SQLite or of the operating system."""
    if isinstance(error, OSError):
        return _explain_system(error, path)
    if not isinstance(error, sqlite3.Error):
        return None
    text = str(error)
    if is_locked(error):
        return _unavailable(
            _Meaning(
                "locked",
                "Another process has locked the store {path}",
                "Try again; if the error remains, end the process that has the file open.",
            ),
            path,
        )
    if is_damage(error):
        return damaged(path)
    meaning = _MEANINGS.get(text)
    if text.startswith(_FULL) or (meaning is not None and _is_full(path)):
        return _no_space(path)
    return None if meaning is None else _unavailable(meaning, path)


def damaged(path: Path) -> StoreUnavailableError:
    """Return the error for a damaged store that cannot be set aside while it is open."""
    return _unavailable(
        _Meaning(
            "damaged",
            "The store {path} is damaged",
            "Restart all Jupyter servers that use it: the first one that starts renames it and"
            " creates a new one.",
        ),
        path,
    )


def newer(path: Path, steps: list[str]) -> StoreUnavailableError:
    """Return the error for a store that was created by a newer version of this package."""
    return _unavailable(
        _Meaning(
            "newer",
            f"The store {{path}} was created by a newer version of comfydeploy-jupyter"
            f" ({', '.join(steps)})",
            "Install that version, or set data_dir to another folder. The store was not changed.",
        ),
        path,
    )


def _explain_system(error: OSError, path: Path) -> ComfyDeployError | None:
    if error.errno in FULL:
        return _no_space(path)
    if error.errno in _READ_ONLY:
        return _unavailable(_MEANINGS["attempt to write a readonly database"], path)
    return _unavailable(
        _Meaning("disk", f"The store {{path}} cannot be opened: {error.strerror}", ""), path
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
