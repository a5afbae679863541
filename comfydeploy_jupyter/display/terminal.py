"""Runs and sweeps as a line in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..client.results import NAMED_FILES
from ..client.text import counted, cut
from ..errors import printable
from .activity import activity, sweep_activity, sweep_end, sweep_left

if TYPE_CHECKING:
    from ..client import RunProgress, SweepProgress
    from ..client.text import Terminal


class Line:
    """A line of text in a terminal that is overwritten with each update.

    Parameters
    ----------
    terminal : Terminal
        The terminal.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._full, self._empty = ("█", "░") if terminal.can_write("█░") else ("#", "-")

    def draw(self, fraction: float, elapsed: float, text: str) -> None:
        """Write the line, shortened to the width of the terminal."""
        line = f"{self._bar(fraction, elapsed)}{text}"
        line = self._terminal.writable("".join(c if c.isprintable() else " " for c in line))
        self.write(f"\r{cut(line, self._terminal.width - 1)}\x1b[K")

    def leave(self, fraction: float, elapsed: float, text: str) -> None:
        """Write the line for the last time; it stays."""
        self.write(f"\r{self._bar(fraction, elapsed)}{text}\x1b[K\n")

    def write(self, text: str) -> None:
        """Write a text unchanged."""
        self._terminal.stream.write(text)
        self._terminal.stream.flush()

    def _bar(self, fraction: float, elapsed: float) -> str:
        done = round(fraction * 20)
        bar = self._full * done + self._empty * (20 - done)
        return f"{bar} {fraction:4.0%}  {elapsed:5.1f} s  "


class TerminalView(Line):
    """A run as one line of text; at the end it stays and names the files of the run."""

    def show(self, progress: RunProgress) -> None:
        """Write the line."""
        self.draw(progress.fraction, progress.elapsed, activity(progress))

    def end(self, progress: RunProgress) -> None:
        """Write the final line; none if the run was not started."""
        if progress.status == "not-started":
            self.write("\r\x1b[K")
            return
        files = [] if progress.result is None else progress.result.files
        named = [self._terminal.link(file.filename, file.url) for file in files[:NAMED_FILES]]
        if len(files) > NAMED_FILES:
            named.append(f"and {counted(len(files) - NAMED_FILES, 'file')} more")
        text = printable(activity(progress)) + (": " if named else "") + ", ".join(named)
        self.leave(progress.fraction, progress.elapsed, text)


class SweepLine(Line):
    """A sweep as one line of text; at the end it stays and has the outcome."""

    def show(self, progress: SweepProgress) -> None:
        """Write the line."""
        counts = f"{progress.summary}, {sweep_left(progress)}"
        text = ": ".join(part for part in (counts, sweep_activity(progress)) if part)
        self.draw(progress.fraction, progress.elapsed, text)

    def end(self, progress: SweepProgress) -> None:
        """Write the final line."""
        text = self._terminal.writable(printable(sweep_end(progress)))
        self.write(f"\r{text}\x1b[K\n")
