"""Functions that need Linux or macOS, and the error for other systems."""

from __future__ import annotations

import errno
import os
import sys

from ..errors import UnsupportedPlatformError

_NAMES = {"win32": "Windows", "emscripten": "a browser"}
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def require_posix(what: str) -> None:
    """Raise unless this is a POSIX system.

    Parameters
    ----------
    what : str
        What needs such a system; the beginning of the error's sentence.

    Raises
    ------
    UnsupportedPlatformError
        This is another system.
    """
    try:
        import fcntl  # noqa: F401 - only whether it is there
    except ImportError:
        raise UnsupportedPlatformError(
            f"{what} needs Linux or macOS and does not run on "
            f"{_NAMES.get(sys.platform, sys.platform)}; what works here are the client and the "
            "panels, with a Jupyter server elsewhere: comfydeploy_jupyter.connect(url, token)"
            f"{', or Jupyter within WSL 2' if sys.platform == 'win32' else ''}"
        ) from None


def user_name(uid: int) -> str | None:
    """Return the name of a user of this machine; None if there is no such user."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def lock_file(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or folder against other processes, until it is closed.

    On a file system without ``flock``, files are locked as SQLite does it (``fcntl``): a process
    then must not open a file that it has locked again, since closing that would end the lock.

    Parameters
    ----------
    descriptor : int
        The open file.
    shared : bool
        Whether other processes may hold a shared lock at the same time.
    wait : bool
        Whether to wait until the lock is free.

    Returns
    -------
    bool
        Whether it is locked; False if its file system does not support locks.

    Raises
    ------
    BlockingIOError
        Another process holds it, and `wait` is false.
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


def rename_without_replacing(name: str, folder: int, new_name: str, new_folder: int) -> None:
    """Rename a file unless its new name is in use; a killed process may leave it with both names.

    Parameters
    ----------
    name, new_name : str
        The names, without folders.
    folder, new_folder : int
        Descriptors of the folders.

    Raises
    ------
    FileExistsError
        The new name is in use.
    OSError
        The file cannot be renamed.
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(new_name, flags, 0o666, dir_fd=new_folder))
    try:
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
    except OSError:
        os.unlink(new_name, dir_fd=new_folder)
        raise
