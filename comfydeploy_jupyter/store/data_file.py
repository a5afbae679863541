"""The file of the store: its lock, its file system, and how a damaged file is set aside."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil

from ..util.system import lock_file
from .migrations import unknown_steps
from .sqlite_errors import is_damage

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

DAMAGED = ".damaged-"
"""Part of the name of a damaged store that was set aside, after the store's name."""

# SQLite's WAL needs memory that all processes with the open file share; a network has none.
NETWORK = frozenset(
    {
        *("9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2"),
        *("glusterfs", "lustre", "macfuse", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"),
        *("osxfuse", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
        *("vmhgfs", "webdav"),
    }
)
LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g"})
_SIDES = ("-wal", "-journal")  # files next to a database that contain changes to it
_SHARED = "-shm"  # file next to a database that SQLite creates again
_NOTE = ".found-damaged"  # file which marks that SQLite found the database damaged
_ASK_AGAIN = 0.02  # seconds


class DataFile:
    """The database file and the files beside it. Its methods block: call them in threads.

    Each process that has the store open holds a shared lock on ``<name>.lock``, so that no other
    process renames the store: SQLite does not notice that an open database was renamed. While a
    process opens the store, its lock is exclusive if no other process has the store open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.locks = True
        self._lock = -1

    def lock(self, patience: float) -> bool:
        """Create the folder and lock the store, exclusively if no other process has it open."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(f"{self.path}.lock", flags, 0o600)
        deadline = time.monotonic() + patience
        while not (exclusive := self._try_lock()) and not self._try_lock(shared=True):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked")
            time.sleep(_ASK_AGAIN)
        return exclusive

    def share_lock(self) -> None:
        """Convert the lock to a shared one: other processes may open the store from now on."""
        lock_file(self._lock, shared=True, wait=True)

    def unlock(self) -> None:
        """Release the lock, once the store is closed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _try_lock(self, *, shared: bool = False) -> bool:
        try:
            self.locks = lock_file(self._lock, shared=shared)
        except BlockingIOError:
            return False
        return True

    # -- the file system ---------------------------------------------------------------------

    def network(self) -> str | None:
        """Return the type of its network file system, such as ``nfs4``; None for a local one."""
        kind = file_system(self.path.parent)
        remote = kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE)
        return kind if remote else None

    # -- the schema --------------------------------------------------------------------------

    def unknown_steps(self) -> list[str]:
        """Return the applied migrations that this version does not have; nothing is written."""
        if not _size(self.path):
            return []
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            return unknown_steps(connection)

    # -- damage ------------------------------------------------------------------------------

    def note_damage(self) -> None:
        """Mark the store as damaged, for the next process that opens it."""
        with contextlib.suppress(OSError):
            self._beside(_NOTE).touch(mode=0o600)

    def is_damaged(self) -> bool:
        """Return whether the store was marked and is damaged, or only its WAL exists.

        SQLite would delete a WAL without its database.
        """
        if not _size(self.path):
            return _size(self._beside("-wal")) > 0
        if not self._beside(_NOTE).exists():
            return False
        try:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return True
        if verdict != "ok":
            return True
        self._beside(_NOTE).unlink(missing_ok=True)
        return False

    def set_aside(self) -> Path:
        """Rename the damaged store, which no process has open; return its new path.

        The WAL and the journal are renamed first: after a crash in between, the next start still
        finds the database damaged, and sets it aside, too.
        """
        target = self._free_name()
        for side in _SIDES:
            if _size(self._beside(side)):
                self._beside(side).rename(f"{target}{side}")
        self._beside(_SHARED).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(target)
        self._beside(_NOTE).unlink(missing_ok=True)
        log.error("The store %s is damaged. It was renamed to %s", self.path, target)
        return target

    def set_aside_before(self) -> list[Path]:
        """Return the paths of existing stores that were set aside, oldest first."""
        found = sorted(self.path.parent.glob(f"{self.path.name}{DAMAGED}*"))
        names = {path.name for path in found}
        sides = {f"{name}{side}" for name in names for side in _SIDES}
        return [path for path in found if path.name not in sides]

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}{suffix}")

    def _free_name(self) -> Path:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        name = f"{self.path.name}{DAMAGED}{stamp}"
        taken = {path.name for path in self.path.parent.glob(f"{name}*")}
        number = 0
        while any(other.startswith(f"{name}.{number}") for other in taken):
            number += 1
        return self.path.with_name(f"{name}.{number}")


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_system(path: Path) -> str:
    """Return the type of the file system of a path, such as ``ext4``; empty if unknown."""
    real = os.path.realpath(path)
    best = ""
    kind = ""
    try:
        mounted = psutil.disk_partitions(all=True)
    except (OSError, psutil.Error):
        return ""
    for entry in mounted:
        inside = real == entry.mountpoint or real.startswith(entry.mountpoint.rstrip("/") + "/")
        if inside and len(entry.mountpoint) >= len(best):  # the later of two hides the other
            best, kind = entry.mountpoint, entry.fstype
    return kind.lower()
