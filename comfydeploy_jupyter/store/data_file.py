"""The file of the store: its lock, the disk that it is on, and how a damaged one is set aside."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil

from ..posix import lock_file
from .migrations import unknown_steps
from .sqlite_errors import is_damage

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

DAMAGED = ".damaged-"
"""What follows the store's name in that of a damaged one that was set aside."""

# SQLite's WAL needs memory that all processes share that have the file open; a network has none.
NETWORK = frozenset(
    {
        *("9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2"),
        *("glusterfs", "lustre", "macfuse", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"),
        *("osxfuse", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
        *("vmhgfs", "webdav"),
    }
)
LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g"})
_SIDES = ("-wal", "-journal")  # files beside a database that have changes to it
_SHARED = "-shm"  # and one that SQLite makes anew
_NOTE = ".found-damaged"  # and one that says that SQLite found it damaged
_ASK_AGAIN = 0.02  # seconds


class DataFile:
    """The database file and the files beside it. Its methods block: call them in threads.

    Each process that has the store open holds a shared lock on ``<name>.lock``, so that no other
    process renames the store meanwhile: SQLite does not notice that an open database was renamed.
    While a process opens the store, its lock is exclusive if no other process has the store open.

    Parameters
    ----------
    path : pathlib.Path
        The database file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def lock(self, patience: float) -> bool:
        """Make the folder and lock the store, exclusively if no other process has it open.

        Parameters
        ----------
        patience : float
            Seconds to wait for a process that is opening it.

        Returns
        -------
        bool
            Whether the lock is exclusive; `share_lock` makes it a shared one.

        Raises
        ------
        OSError
            If the folder cannot be made or written.
        """
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
        """Make the lock a shared one: other processes may open the store from now on."""
        with contextlib.suppress(OSError):
            lock_file(self._lock, shared=True, wait=True)

    def unlock(self) -> None:
        """Release the lock, once the store is closed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _try_lock(self, *, shared: bool = False) -> bool:
        try:
            lock_file(self._lock, shared=shared)
        except BlockingIOError:
            return False
        except OSError:  # a file system without such locks
            return True
        return True

    # -- the disk ----------------------------------------------------------------------------

    def network(self) -> str | None:
        """Return the kind of network drive that it is on, such as ``nfs4``, or None."""
        kind = file_system(self.path.parent)
        remote = kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE)
        return kind if remote else None

    # -- its schema --------------------------------------------------------------------------

    def unknown_steps(self) -> list[str]:
        """Return the migrations in it that this version does not know; nothing is written.

        Raises
        ------
        sqlite3.Error
            If it cannot be read.
        """
        if not _size(self.path):
            return []
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            return unknown_steps(connection)

    # -- damage ------------------------------------------------------------------------------

    def note_damage(self) -> None:
        """Leave a note that SQLite found the store damaged, for the next process that opens it."""
        with contextlib.suppress(OSError):
            self._beside(_NOTE).touch(mode=0o600)

    def is_damaged(self) -> bool:
        """Return whether the store was found damaged and still is, or only its WAL is there.

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

        Its WAL and its journal are renamed first: after a crash in between, the next start finds
        the database damaged, and sets that aside too.
        """
        target = self._free_name()
        for side in _SIDES:
            if _size(self._beside(side)):
                self._beside(side).rename(f"{target}{side}")
        self._beside(_SHARED).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(target)
        self._beside(_NOTE).unlink(missing_ok=True)
        log.error("The store %s is damaged. It was set aside as %s", self.path, target)
        return target

    def set_aside_before(self) -> list[Path]:
        """Return the paths of stores that were set aside and are still there, oldest first."""
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
    """Return the bytes in a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_system(path: Path) -> str:
    """Return the kind of file system that a path is on, such as ``ext4``; empty: unknown."""
    real = os.path.realpath(path)
    best = ""
    kind = ""
    try:
        mounted = psutil.disk_partitions(all=True)
    except (OSError, psutil.Error):
        return ""
    for entry in mounted:
        inside = real == entry.mountpoint or real.startswith(entry.mountpoint.rstrip("/") + "/")
        if inside and len(entry.mountpoint) >= len(best):  # the later of two covers the other
            best, kind = entry.mountpoint, entry.fstype
    return kind.lower()
