"""The file of the store: who uses it, the disk it is on, and how a damaged one is set aside."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import struct
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil

from ..posix import lock_file
from .migrations import unknown_steps

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

DAMAGED = ".damaged-"
"""What follows the store's name in that of a damaged one that was set aside."""

# SQLite's WAL needs memory that all who have the file open share: no network has that.
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
_HEADER = struct.Struct(">IIIIIIII")  # of a WAL file
_FRAME = struct.Struct(">IIIIII")
_MAGIC = (0x377F0682, 0x377F0683)
_ASK_AGAIN = 0.02  # seconds


class Place:
    """Where a store is. To be used in threads.

    Whoever has the store open holds a shared lock on the file beside it, ``<name>.lock``, so that
    nobody moves it away from under them. It is locked alone while it is opened, and to set it
    aside: SQLite itself does not notice that an open database was renamed.

    Parameters
    ----------
    path : pathlib.Path
        The database file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def enter(self, patience: float) -> bool:
        """Make the folder, and lock the store: alone if nobody else has it open.

        Parameters
        ----------
        patience : float
            Seconds to wait for one who opens it now.

        Returns
        -------
        bool
            Whether nobody else has it open. `share` lets others in.

        Raises
        ------
        OSError
            If the folder cannot be made or written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(f"{self.path}.lock", flags, 0o600)
        deadline = time.monotonic() + patience
        while not (alone := self._take()) and not self._take(shared=True):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked")
            time.sleep(_ASK_AGAIN)
        return alone

    def have_alone(self) -> bool:
        """Lock it alone; return false, and hold it together with others, where that cannot be."""
        if self._take():
            return True
        # What cannot be had alone may be lost altogether, by flock(2).
        self.share()
        return False

    def share(self) -> None:
        """Let others in again."""
        with contextlib.suppress(OSError):
            lock_file(self._lock, shared=True, wait=True)

    def leave(self) -> None:
        """Say that the store is closed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take(self, *, shared: bool = False) -> bool:
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

    # -- what is in it, before SQLite touches it ---------------------------------------------

    def unknown_steps(self) -> list[str]:
        """Return the steps of its schema that this version does not know; it is only read.

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

    def wal_frames(self) -> int | None:
        """Return how many frames of the WAL should be valid; None: its beginning is damaged.

        A frame repeats two random numbers of the file's header; those of earlier rounds have
        others. What follows the last frame that ends a transaction was never committed.
        Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
        """
        try:
            with self._side("-wal").open("rb") as file:
                header = file.read(_HEADER.size)
                if not header:
                    return 0
                if len(header) < _HEADER.size:
                    return None
                magic, _, page_size, _, *salts, _, _ = _HEADER.unpack(header)
                if magic not in _MAGIC or not 512 <= page_size <= 65536:
                    return None
                count = committed = 0
                while len(frame := file.read(_FRAME.size)) == _FRAME.size:
                    _, ends, *found, _, _ = _FRAME.unpack(frame)
                    if found != salts or len(file.read(page_size)) < page_size:
                        break
                    count += 1
                    committed = count if ends else committed
                return committed
        except FileNotFoundError:
            return 0

    def has_lost_its_beginning(self) -> bool:
        """Return whether a WAL is there without its database: SQLite would delete it."""
        return not _size(self.path) and _size(self._side("-wal")) > 0

    # -- damaged ones ------------------------------------------------------------------------

    def set_aside(self) -> Path:
        """Give the store, which nobody has open, a name that tells what it is; return that.

        Its side files go first: after a crash in between, the next start finds the rest damaged,
        and sets that aside too.
        """
        target = self._free_name()
        for side in _SIDES:
            if _size(self._side(side)):
                self._side(side).rename(f"{target}{side}")
        self._side(_SHARED).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(target)
        log.error("The store %s is damaged. It was set aside as %s", self.path, target)
        return target

    def keep_wal(self) -> Path | None:
        """Copy a damaged WAL, which SQLite is going to overwrite; return the copy's name."""
        target = self.path.with_name(f"{self._free_name().name}-wal")
        try:
            target.write_bytes(self._side("-wal").read_bytes())
            target.chmod(0o600)
        except OSError as fault:
            log.warning("A damaged WAL could not be kept as %s: %s", target, fault)
            return None
        log.error("The last changes to the store are damaged. They were kept as %s", target)
        return target

    def set_aside_before(self) -> list[Path]:
        """Return all that was set aside and is still there, oldest first."""
        found = sorted(self.path.parent.glob(f"{self.path.name}{DAMAGED}*"))
        names = {path.name for path in found}
        sides = {f"{name}{side}" for name in names for side in _SIDES}
        return [path for path in found if path.name not in sides]

    def _side(self, suffix: str) -> Path:
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
