"""The limits of the setting `keep_runs`, and the runs that are beyond them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..comfyui.deleting import size_of, state_of
from ..errors import ForbiddenPathError
from ..util.timestamps import timestamp_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .deleted_files import OutputFolders, Place
    from .deletion_records import StoredRun

DAY = 24 * 3600.0  # seconds


@dataclass(frozen=True)
class KeepRuns:
    """How many runs are kept. Pinned runs, and runs that have not ended, do not count.

    Attributes
    ----------
    days : float or None
        Runs that are older are deleted.
    number : int or None
        The number of runs that are kept: the newest ones.
    bytes : int or None
        The size of the output files that are kept: those of the newest runs.
    files : bool
        Whether the output files of runs are deleted with them. Those of runs that ComfyUI's editor
        has queued stay and do not count, since another user may have queued them.
    """

    days: float | None = None
    number: int | None = None
    bytes: int | None = None
    files: bool = True

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return (self.days, self.number, self.bytes) != (None, None, None)


KEEP_ALL = KeepRuns()


def beyond(keep: KeepRuns, runs: Sequence[StoredRun], folders: OutputFolders) -> list[StoredRun]:
    """Return the runs beyond the limits. This function reads the disk: call it in a thread.

    Parameters
    ----------
    keep : KeepRuns
        The limits.
    runs : sequence of StoredRun
        All runs that count, oldest first.
    folders : OutputFolders
        The folders of their output files.

    Returns
    -------
    list of StoredRun
        Oldest first. If files are deleted with their runs, it has no runs of machines that are not
        available now: their files can be deleted when the machines are available again.
    """
    oldest = "" if keep.days is None else timestamp_of(time.time() - keep.days * DAY)
    newest = len(runs) if keep.number is None else keep.number
    found = []
    total = 0
    counted: set[Place] = set()
    for rank, run in enumerate(reversed(runs)):
        counts = keep.bytes is not None and not run.from_editor
        size = _size(run, folders, counted) if counts else 0
        total += size
        too_large = keep.bytes is not None and size > 0 and total > keep.bytes
        old = run.created_at < oldest or rank >= newest or too_large
        if old and (run.from_editor or not (keep.files and folders.may_become_known(run))):
            found.append(run)
    return found[::-1]


def _size(run: StoredRun, folders: OutputFolders, counted: set[Place]) -> int:
    """Return the size of those files of a run that are not counted yet, bytes."""
    size = 0
    for output in run.outputs:
        try:
            place = folders.locate(run, output)
            state = state_of(*place) if place is not None and place not in counted else None
        except ForbiddenPathError:
            continue
        if place is not None and state is not None:
            counted.add(place)
            size += size_of(state)
    return size
