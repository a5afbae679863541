"""The expected durations of runs, learnt from runs that have ended."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loads import AssignedRun, MemberLoad

KEPT_STRUCTURES = 4096  # workflows, and sets of models, whose durations are kept
RECENT = 0.3  # weight of the last run in the expected duration of the next one


class ExpectedDurations:
    """The expected durations of workflows on members, learnt from runs that have ended.

    The durations of a workflow on the same member are preferred. Else its durations on other
    members are scaled by the speeds of both, learnt from workflows that ran on several members.

    Speeds, and the durations at speed 1, are geometric means. With arithmetic ones the speeds of
    members would grow without limit, because the runs of a workflow do not all take equally long.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._plain: dict[str, float] = {}  # seconds on a member of speed 1, by structure
        self._loading: OrderedDict[frozenset[str], float] = OrderedDict()
        self._compared: set[str] = set()  # the members that have executed the same workflows
        self._mean: float | None = None

    def expected(self, structure: str | None, member: MemberLoad) -> float | None:
        """Return the expected duration of a run in seconds; None if no similar run has ended."""
        known = self._seconds.get(structure) if structure is not None else None
        if known is not None and member.id in known:
            return known[member.id]
        plain = self.plain(structure)
        return None if plain is None else plain / member.speed

    def knows(self, structure: str | None) -> bool:
        """Return whether a run of a workflow has ended."""
        return structure in self._plain

    def is_compared(self, structure: str | None, member: MemberLoad) -> bool:
        """Return whether it is known how fast a member is, at least for runs of a workflow."""
        compared = member.id in self._compared
        return compared or member.id in self._seconds.get(structure or "", ())

    def plain(self, structure: str | None) -> float | None:
        """Return the expected seconds on a member of speed 1, None if unknown."""
        known = self._plain.get(structure) if structure is not None else None
        return self._mean if known is None else known

    def loading(self, models: frozenset[str]) -> float:
        """Return the seconds to load some models, 0 if unknown."""
        return self._loading.get(models, 0.0)

    def add(self, run: AssignedRun, seconds: float) -> None:
        """Add the duration of a run that has ended."""
        member, structure = run.member, run.structure
        if structure is None or seconds <= 0:
            return
        known = self._seconds.setdefault(structure, {})
        self._seconds.move_to_end(structure)
        if run.cold and run.models and member.id in known:
            extra = max(seconds - known[member.id], 0.0)
            self._loading[run.models] = _mixed(self._loading.get(run.models), extra, RECENT)
            self._loading.move_to_end(run.models)
            if len(self._loading) > KEPT_STRUCTURES:
                self._loading.popitem(last=False)
            return
        known[member.id] = _mixed(known.get(member.id), seconds, RECENT)
        plain = self._plain.get(structure)
        if plain is not None and len(known) > 1:
            weight = max(RECENT, 1 / (member.samples + 1))
            member.speed *= (plain / (seconds * member.speed)) ** weight
            member.speed = min(max(member.speed, 1e-3), 1e3)
            member.samples += 1
            self._compared.update(known)
        scaled = seconds * member.speed
        self._plain[structure] = scaled if plain is None else plain * (scaled / plain) ** RECENT
        self._mean = _mixed(self._mean, scaled, RECENT)
        while len(self._seconds) > KEPT_STRUCTURES:
            gone, _ = self._seconds.popitem(last=False)
            self._plain.pop(gone, None)

    def forget(self, member_id: str) -> None:
        """Delete the durations on a member."""
        self._compared.discard(member_id)
        for known in self._seconds.values():
            known.pop(member_id, None)


def _mixed(old: float | None, new: float, weight: float) -> float:
    """Return the weighted average of an old and a new value, whose weight is from 0 to 1."""
    return new if old is None else old + (new - old) * weight
