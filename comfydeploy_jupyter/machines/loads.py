"""The runs that wait for the members of pools, and those that are assigned to them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class WaitingRun:
    """A run that is not assigned to a member."""

    run_id: str
    pool: str
    structure: str | None
    models: frozenset[str]
    fingerprint: bytes
    order: int
    client: str = ""
    passed_over: int = 0
    avoid: str | None = None  # the member that has failed it
    needs: frozenset[str] = frozenset()  # its node classes and model files


@dataclass(slots=True)
class AssignedRun:
    """A run that is assigned to a member."""

    run_id: str
    member: MemberLoad
    structure: str | None
    models: frozenset[str]
    cold: bool
    pool: str | None = None
    avoid: str | None = None
    handed_at: float | None = None
    begun_at: float | None = None


@dataclass(slots=True)
class Pause:
    """A time in which a member gets no run, because runs fail there."""

    failures: int
    seconds: float
    until: float  # then the member gets one run
    proven: bool  # whether other members have succeeded with runs since the first of these failures
    holds: bool = True  # whether it has not ended


@dataclass(slots=True, eq=False)
class MemberLoad:
    """A machine to which runs can be assigned."""

    id: str
    depth: int
    connected: bool = False
    handed: dict[str, AssignedRun] = field(default_factory=dict)
    others: int = 0
    models: frozenset[str] = frozenset()
    nodes: frozenset[int] = frozenset()  # of the last run: its outputs are in ComfyUI's cache
    speed: float = 1.0
    samples: int = 0
    last_end: float | None = None  # when its last run has ended
    # The runs of pools that failed one after the other: their workflow, and whether at once.
    failed: list[tuple[str | None, bool]] = field(default_factory=list)
    succeeds: bool = False  # whether its last run of a pool was successful
    pause: Pause | None = None
    lacks: frozenset[str] = frozenset()  # node classes and model files, as of its last refusal
    lacks_until: float = 0.0

    def is_able(self, run: WaitingRun) -> bool:
        """Return whether the member has what a run needs, and is not known to fail it."""
        able = not self.lacks or self.lacks.isdisjoint(run.needs)
        return able and self.id != run.avoid and (self.pause is None or not self.pause.holds)

    @property
    def load(self) -> int:
        """Number of prompts on the member."""
        return len(self.handed) + self.others

    @property
    def has_room(self) -> bool:
        """Whether another run can be assigned to the member."""
        if self.pause is not None and (self.pause.holds or self.handed):
            return False  # it is tried with one run
        return self.connected and self.load < self.depth
