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
    passed_over: int = 0


@dataclass(slots=True)
class AssignedRun:
    """A run that is assigned to a member."""

    run_id: str
    member: MemberLoad
    structure: str | None
    models: frozenset[str]
    cold: bool
    handed_at: float | None = None
    begun_at: float | None = None


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

    @property
    def load(self) -> int:
        """Number of prompts on the member."""
        return len(self.handed) + self.others

    @property
    def has_room(self) -> bool:
        """Whether another run can be assigned to the member."""
        return self.connected and self.load < self.depth
