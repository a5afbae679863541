"""Simulates Windows and macOS on Linux, as far as possible; for use in a separate process.

Before the package is imported, features that such a system does not have are removed, and
`sys.platform` gets its name. Libraries are imported before that, because they choose their
implementation by the real features. `os.name` is not changed, since `pathlib` rejects the paths of
another system; `select` and ``AF_UNIX`` are not changed, because the event loop needs them.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys

POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
LIBRARIES = (
    *("IPython", "PIL.Image", "aiohttp.web", "anywidget", "ipywidgets", "jupyter_client"),
    *("jupyter_server.serverapp", "multiprocessing", "nbformat", "platform", "prometheus_client"),
    *("psutil", "pydantic", "requests", "sqlite3", "subprocess", "tornado.netutil", "uuid"),
    *("urllib.request", "webbrowser", "yaml"),
)
LINUX = {
    os: """O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE copy_file_range eventfd
        eventfd_read eventfd_write fdatasync getrandom getresgid getresuid getxattr listxattr
        memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate removexattr sched_getaffinity
        sched_getparam sched_setaffinity setresgid setresuid setxattr splice""",
    signal: "SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT sigtimedwait sigwaitinfo",
    socket: """AF_ALG AF_CAN AF_NETLINK AF_PACKET AF_VSOCK SOCK_CLOEXEC SOCK_NONBLOCK
        SO_BINDTODEVICE SO_DOMAIN SO_MARK SO_PASSCRED SO_PEERCRED SO_PROTOCOL
        TCP_DEFER_ACCEPT TCP_QUICKACK TCP_USER_TIMEOUT""",
}
POSIX = {
    os: """O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC ST_RDONLY WNOHANG
        chown chroot confstr ctermid fchdir fchown fork forkpty fstatvfs getegid geteuid getgid
        getgroups getloadavg getpgid getpgrp getpriority getsid getuid initgroups killpg lchown
        lockf mkfifo mknod nice openpty posix_spawn posix_spawnp pread preadv pwrite pwritev
        readv sched_yield sendfile setegid seteuid setgid setgroups setpgid setsid setuid statvfs
        sync sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 writev""",
    signal: """SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN
        SIGTTOU SIGUSR1 SIGUSR2 SIGWINCH alarm pthread_kill pthread_sigmask setitimer sigwait""",
    socket: "MSG_DONTWAIT MSG_NOSIGNAL recv_fds send_fds SCM_RIGHTS",
}


def as_windows() -> None:
    """Simulate Windows: remove POSIX modules, functions and signals."""
    _import_libraries()
    _forbid_proc()
    for module, names in (*LINUX.items(), *POSIX.items()):
        _remove(module, names)
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # makes an import of it fail
    sys.platform = "win32"


def as_macos() -> None:
    """Simulate macOS: remove ``/proc`` and other features of Linux."""
    _import_libraries()
    _forbid_proc()
    for module, names in LINUX.items():
        _remove(module, names)
    sys.platform = "darwin"


def _import_libraries() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    asyncio.run(_run_true())  # asyncio, too, chooses when it first starts a program


async def _run_true() -> None:
    await (await asyncio.create_subprocess_exec("true")).wait()


def _remove(module: object, names: str) -> None:
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def _forbid_proc() -> None:
    """Let only psutil open files in ``/proc``: on other systems it does not need them."""

    def check(event: str, arguments: tuple[object, ...]) -> None:
        if event in {"open", "os.listdir", "os.scandir"} and str(arguments[0]).startswith("/proc"):
            frame = sys._getframe(1)
            while frame is not None and "psutil" not in frame.f_code.co_filename:
                frame = frame.f_back  # type: ignore[assignment]  # typeshed says never None
            if frame is None:
                raise FileNotFoundError(2, "No such file or directory", arguments[0])

    sys.addaudithook(check)
