"""The result of a deletion of runs: what was deleted, and what was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import printable

if TYPE_CHECKING:
    from .server import Server


class Kept(NamedTuple):
    """A run or a file that was not deleted.

    Attributes
    ----------
    prompt_id : str
        The run.
    file : str or None
        The name of its file; None if the run itself was kept.
    reason : str
        Why.
    """

    prompt_id: str
    file: str | None
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.file or f'run {self.prompt_id}'}: {self.reason}")


class Deletion(NamedTuple):
    """The result of a deletion of runs: what was deleted, and what was kept.

    Attributes
    ----------
    runs, files, bytes : int
        How many runs and files were deleted, and the size of the files.
    kept : list of Kept
        The first 1,000 runs and files that were not deleted, and why.
    kept_count : int
        Number of all of them.
    """

    runs: int
    files: int
    bytes: int
    kept: list[Kept]
    kept_count: int

    def __str__(self) -> str:
        runs = f"{self.runs} run{'s' if self.runs != 1 else ''}"
        files = f"{self.files} file{'s' if self.files != 1 else ''}"
        text = f"{runs} and {files} deleted ({self.bytes / 1024**2:.1f} MiB)"
        return f"{text}; {self.kept_count} kept" if self.kept_count else text


def delete_runs(server: Server, fields: dict[str, Any]) -> Deletion:
    """Send a request to delete runs, and return what was deleted."""
    reply = server.post("runs/delete", fields)
    kept = [Kept(**entry) for entry in reply["kept"]]
    return Deletion(reply["runs"], reply["files"], reply["bytes"], kept, reply["kept_count"])
