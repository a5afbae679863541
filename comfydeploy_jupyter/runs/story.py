"""What happened to a run, in order: kept with its record, for people who look for a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..timestamps import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENTRIES = 100
KEPT_FIRST = 20  # entries that stay where a story grows too long: how the run began
MAX_DETAIL = 300  # characters

Entry = list[str]  # when, cause, state, and the detail where there is one


def not_before(*earlier: str | None, moment: str | None = None) -> str:
    """Return a timestamp, by default the present one, or the latest of ``earlier`` if it is later.

    The clock of the machine may be set back meanwhile, and that of a ComfyUI elsewhere be slow.
    """
    return max(moment or utc_now(), *(time for time in earlier if time is not None))


def add_entry(story: list[Entry], cause: str, state: str, detail: str) -> None:
    """Add what has just happened; of a long story, what comes after its beginning is dropped.

    Parameters
    ----------
    story : list
        The entries, changed.
    cause : str
        Why the run is in this state now.
    state : str
        Its state from now on.
    detail : str
        More about the cause; may be empty.
    """
    entry = [not_before(story[-1][0] if story else ""), cause, state]
    if detail:
        entry.append(detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…")
    story.append(entry)
    if len(story) > MAX_ENTRIES:
        del story[KEPT_FIRST]


def describe(story: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a story as ``GET runs?story=`` answers it."""
    return [
        {"at": at, "cause": cause, "state": state, "detail": detail[0] if detail else None}
        for at, cause, state, *detail in story
    ]
