"""The story of a run: what happened to it, in order; stored with its record, for debugging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..util.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENTRIES = 100
KEPT_FIRST = 20  # entries at the start of a story that are never dropped
MAX_DETAIL = 300  # characters

Entry = list[str]  # time, cause, state, and the detail if there is one


def not_before(*earlier: str | None, moment: str | None = None) -> str:
    """Return ``moment`` (default: now), or the latest of ``earlier`` if that is later.

    The clock of this machine may be set back in the meantime, and the clock of a ComfyUI on another
    machine may be slow.
    """
    return max(moment or utc_now(), *(time for time in earlier if time is not None))


def add_entry(story: list[Entry], cause: str, state: str, detail: str) -> None:
    """Add an entry; if the story is too long, drop entries after its first `KEPT_FIRST` ones.

    Parameters
    ----------
    story : list
        The entries; changed in place.
    cause : str
        The cause of the present state.
    state : str
        The new state of the run.
    detail : str
        Details of the cause; may be empty.
    """
    entry = [not_before(story[-1][0] if story else ""), cause, state]
    if detail:
        entry.append(detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…")
    story.append(entry)
    if len(story) > MAX_ENTRIES:
        del story[KEPT_FIRST]


def describe(story: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a story in the format of the reply to ``GET runs?story=``."""
    return [
        {"at": at, "cause": cause, "state": state, "detail": detail[0] if detail else None}
        for at, cause, state, *detail in story
    ]
