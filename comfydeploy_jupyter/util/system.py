"""What this package needs of its surroundings.

POSIX functions and the error for systems without them; whether files may be downloaded; and modules
that are imported now, but loaded later in a thread. Jupyter imports every extension while its user
waits for its start. Loading pydantic, aiohttp and others takes several times as long as loading the
handlers themselves. So they are loaded after Jupyter has started; requests are processed then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OfflineError, UnsupportedPlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = {"win32": "Windows", "emscripten": "a browser"}
RESERVED = ".reserved"  # suffix of the record of a path that is reserved
MAX_PATH = 4096  # bytes that are read of such a record, as another user may have made it
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def require_posix(what: str) -> None:
    """Raise unless this is a POSIX system."""
    try:
        import fcntl  # noqa: F401 - only whether it is there
    except ImportError:
        raise UnsupportedPlatformError(
            f"{what} needs Linux or macOS and does not run on "
            f"{_NAMES.get(sys.platform, sys.platform)}; what works here are the client and the "
            "panels, with a Jupyter server elsewhere: comfydeploy_jupyter.connect(url, token)"
            f"{', or Jupyter within WSL 2' if sys.platform == 'win32' else ''}"
        ) from None


@contextmanager
def closing_fd(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end of a block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file; OSError if it is something else, or longer.

    The file is opened without blocking: to open a pipe could block until another process writes.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit} bytes")
    return content


def replace_file(path: Path, content: bytes) -> None:
    """Write a file of this user alone; a crash leaves the old content, or the new one complete."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def user_name(uid: int) -> str | None:
    """Return the name of a user of this machine; None if there is no such user."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def lock_file(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or folder against other processes, until it is closed.

    False if its file system has no locks; BlockingIOError if another process holds it, unless
    ``wait``. On a file system without ``flock``, files are locked as SQLite does it (``fcntl``):
    a process then must not open a file that it has locked again: closing it would end the lock.
    """
    import fcntl

    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            lock(descriptor, how)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(error.errno, error.strerror) from None
        else:
            return True
    return False


def rename_without_replacing(
    name: str, folder: int, new_name: str, new_folder: int, *, target: Path
) -> None:
    """Rename a file; FileExistsError if the new name, whose path is `target`, is in use.

    A killed process may leave it with both names. On a file system without hard links it may leave
    an empty file with the new name, and beside the old one a record: see `reserved_target`. The
    folders are descriptors.
    """
    try:
        os.link(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    else:
        os.unlink(name, dir_fd=folder)
        return
    # A file system without hard links: an empty file reserves the name.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    record = f"{name}{RESERVED}"
    written = os.open(record, flags | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        with closing_fd(written):
            os.write(written, os.fsencode(target))
            os.fsync(written)
        os.close(os.open(new_name, flags | os.O_EXCL, 0o666, dir_fd=new_folder))
        try:
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
        except OSError:
            os.unlink(new_name, dir_fd=new_folder)
            raise
    finally:
        os.unlink(record, dir_fd=folder)


def exchange_names(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one step; False if the system cannot do that here."""
    libc = ctypes.CDLL(None, use_errno=True)
    name, here, flag = (
        ("renameatx_np", -2, 2) if sys.platform == "darwin" else ("renameat2", -100, 2)
    )
    call = getattr(libc, name, None)
    if call is None:
        return False
    if call(here, os.fsencode(one), here, os.fsencode(other), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def reserved_target(name: str, folder: int) -> Path | None:
    """Return the path that a killed process had reserved for a file, None if it had not."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        record = os.open(f"{name}{RESERVED}", flags, dir_fd=folder)
    except OSError:
        return None
    with closing_fd(record) as file:
        if stat.S_ISREG(os.fstat(file).st_mode):
            path = os.read(file, MAX_PATH)
            return None if b"\0" in path else Path(os.path.normpath(os.fsdecode(path)))
    return None


def end_reservation(name: str, folder: int, target: Path, target_folder: int) -> None:
    """Remove the empty file that reserved a path, and the record of it."""
    with suppress(FileNotFoundError):
        found = os.stat(target.name, dir_fd=target_folder, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            os.unlink(target.name, dir_fd=target_folder)
    with suppress(FileNotFoundError):
        os.unlink(f"{name}{RESERVED}", dir_fd=folder)


VARIABLE = "COMFYDEPLOY_OFFLINE"
TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True)
class FetchPolicy:
    """Whether this package may download files from other machines.

    Call `require` before each download.
    """

    offline: bool = False  # the setting ``offline``: no downloads are allowed

    @classmethod
    def from_environment(cls) -> FetchPolicy:
        """Return the policy in ``COMFYDEPLOY_OFFLINE``, for code without access to the settings."""
        return cls(is_true(os.environ.get(VARIABLE, "")))

    def require(self, what: str) -> None:
        """Raise unless a file may be downloaded."""
        if self.offline:
            raise OfflineError(
                f"{what} is not fetched: the setting `offline` forbids that",
                details={"setting": "offline"},
                extra={"hint": f"Set c.ComfyDeploy.offline = False, or unset {VARIABLE}."},
            )


ALLOWED = FetchPolicy()
"""The default policy: files may be downloaded."""


def is_true(text: str) -> bool:
    """Return whether the value of an environment variable means true."""
    return text.strip().lower() in TRUE
