"""What needs a POSIX system: Linux and macOS have it, others get one sentence that says so."""

from __future__ import annotations

import sys

from .errors import UnsupportedPlatformError

_NAMES = {"win32": "Windows", "emscripten": "a browser"}


def require_posix(what: str) -> None:
    """Return if this is a POSIX system.

    Parameters
    ----------
    what : str
        What needs it; begins the sentence of the error.

    Raises
    ------
    UnsupportedPlatformError
        It is another system.
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
    """Return the name of a user of this machine; None where there is no such user."""
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
        Whether others may hold a shared lock at the same time.
    wait : bool
        Whether to wait until it is free.

    Raises
    ------
    BlockingIOError
        Another one holds it, and `wait` is false.
    OSError
        The file system has no such locks.
    """
    import fcntl

    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
