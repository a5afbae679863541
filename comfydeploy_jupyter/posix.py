"""Functions that need Linux or macOS, and the error for other systems."""

from __future__ import annotations

import sys

from .errors import UnsupportedPlatformError

_NAMES = {"win32": "Windows", "emscripten": "a browser"}


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


def lock_file(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file or folder against other processes, until it is closed (``flock``).

    Parameters
    ----------
    descriptor : int
        The open file.
    shared : bool
        Whether other processes may hold a shared lock at the same time.
    wait : bool
        Whether to wait until the lock is free.

    Raises
    ------
    BlockingIOError
        Another process holds it, and `wait` is false.
    OSError
        The file system does not support such locks.
    """
    import fcntl

    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
