"""A small parent process of one child process, which ends the child when its owner has ended.

The owner starts the command of :func:`reaped_command` with ``stdin`` as a pipe and keeps that pipe
open. The reaper runs the child in a new session. It ends the child and all processes that the child
started when the pipe is closed (by the owner, or because the owner ended, also by ``kill -9``),
when the owner is no longer its parent, or on SIGTERM. If the reaper itself is killed, Linux kills
the child.

When the child's program is running, the reaper prints the child's process id as its only line of
output. It exits with the child's exit code: 128 + n if signal n ended the child; 127 if the program
cannot be started, with the reason in the log.

It is a script that uses only the standard library, so it starts in milliseconds and needs few
megabytes of memory.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def reaped_command(
    argv: list[str],
    *,
    log: str | os.PathLike[str],
    cwd: str | os.PathLike[str] | None = None,
    grace: float = 5.0,
    rotate_at: int = 8 * 1024 * 1024,
) -> list[str]:
    """Return the command that runs ``argv`` under a reaper; start it with ``stdin`` as a pipe.

    The process that calls this must be the one that starts the command: it is the owner. ``grace``
    is in seconds between SIGTERM and SIGKILL. A log of more than ``rotate_at`` bytes is moved to
    ``<log>.1``, also while the child runs; its folder must exist.
    """
    settings = [str(os.getpid()), os.fspath(log), os.fspath(cwd or ""), str(grace), str(rotate_at)]
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *settings, *argv]


class _Reaper:
    def __init__(self, owner: int, grace: float, log: _Log) -> None:
        self.owner = owner
        self.log = log
        self.grace = grace
        self.child = 0
        self.exit_code: int | None = None
        self.terminated = False
        self.owner_reads = True
        self.wake, wake_writer = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)
        # the owner decides what happens after Ctrl-C and a closed terminal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def start(self, argv: list[str], cwd: str) -> None:
        """Start the child in a new session, with its output written to the log."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        reaper = os.getpid()
        started, starting = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            _become(argv, self.log.descriptor, cwd, reaper)
        os.close(starting)
        # exec closes the child's end of the pipe: a signal before that would be lost
        os.read(started, 1)
        os.close(started)

    def wait(self) -> int:
        """Wait until the child and all its descendants have ended; return the child's exit code."""
        kill_at: float | None = None
        while self._reap():
            if self.exit_code is not None and kill_at is None:
                kill_at = 0.0
            elif kill_at is None and (self.terminated or self._owner_is_gone()):
                self._signal_group(signal.SIGTERM)
                kill_at = time.monotonic() + self.grace
            if kill_at is not None and time.monotonic() >= kill_at:
                self._kill_all()
            self.log.rotate()
            self._sleep(1.0 if kill_at is None else 0.02)
        return 1 if self.exit_code is None else self.exit_code

    def _owner_is_gone(self) -> bool:
        return not self.owner_reads or os.getppid() != self.owner

    def _sleep(self, seconds: float) -> None:
        """Sleep until a child ends, a signal arrives, or the owner's pipe is closed."""
        readable, _, _ = select.select(
            [self.wake, 0] if self.owner_reads else [self.wake], [], [], seconds
        )
        if self.wake in readable:
            os.read(self.wake, 4096)
        if 0 in readable and not os.read(0, 4096):
            self.owner_reads = False

    def _reap(self) -> bool:
        """Wait for ended children; return whether any child is still running."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.child:
                    code = os.waitstatus_to_exitcode(status)
                    self.exit_code = code if code >= 0 else 128 - code
        except ChildProcessError:
            # if orphans do not become children of the reaper, the group may still have members
            return self._signal_group(0)

    def _signal_group(self, number: int) -> bool:
        """Signal the child's process group; return whether it has members."""
        try:
            os.killpg(self.child, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _kill_all(self) -> None:
        self._signal_group(signal.SIGKILL)
        for pid in _children():
            # its children stay zombies until the reaper waits for them, so none is missing
            os.kill(pid, signal.SIGKILL)


def _become(argv: list[str], log: int, cwd: str, reaper: int) -> None:
    """Execute the child's program in this forked process; never returns."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != reaper:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if cwd:
            os.chdir(cwd)
        os.execvp(argv[0], argv)  # noqa: S606 - starting a program is what a reaper is for
    except OSError as error:
        os.write(2, f"cannot start {argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _prctl(option: int, value: int) -> None:
    """Call ``prctl`` on Linux; other systems do not have it, and only the pipe is used there."""
    if sys.platform == "linux":
        try:
            import ctypes
        except ImportError:
            return
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _children() -> list[int]:
    """Return the reaper's children, with orphaned descendants; only Linux lists them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


class _Log:
    """The file for the child's output, which is emptied when it becomes too large."""

    def __init__(self, path: str, rotate_at: int) -> None:
        self.path = path
        self.rotate_at = rotate_at
        self.descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def rotate(self) -> None:
        """Copy a log that is too large to ``<log>.1``, and empty it.

        The child has it open, and appends to it; what it writes after the copy is lost. On a full
        disk there is no copy.
        """
        status = os.fstat(self.descriptor)
        if status.st_size <= self.rotate_at:
            return
        try:
            if not os.path.samestat(status, os.stat(self.path)):
                return  # somebody has moved it
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with open(os.open(self.path + ".1", flags, 0o600), "wb") as copy:
                place = 0
                while block := os.pread(self.descriptor, 1024 * 1024, place):
                    copy.write(block)
                    place += len(block)
                    if place > 2 * status.st_size:
                        break  # the child writes faster than this
        except OSError:
            pass
        os.ftruncate(self.descriptor, 0)


def main(arguments: list[str]) -> int:
    """Run the child of a command from :func:`reaped_command`; return its exit code."""
    owner, log_path, cwd, grace, rotate_at, *argv = arguments
    if os.getpid() != os.getpgrp():
        os.setsid()
    log = _Log(log_path, int(rotate_at))
    log.rotate()
    reaper = _Reaper(int(owner), float(grace), log)
    reaper.start(argv, cwd)
    os.write(1, b"%d\n" % reaper.child)
    return reaper.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
