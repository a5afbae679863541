"""Which machine gets which waiting run: one queue in front of the members of pools.

Nothing here waits, asks or stores: `Dispatcher` is told what happens and answers with decisions.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

DEPTH = 2  # prompts that a member has at a time: one is executed, one waits
LOOKAHEAD = 16  # waiting runs that are looked at for one whose models a member has loaded
MANY = 32  # members with room of which only the most promising are compared
KEPT_STRUCTURES = 4096  # workflows whose times are remembered
RECENT = 0.3  # weight of the last run in what is expected of the next
EASE = 1e-9  # s, of rounding


class Decision(NamedTuple):
    """A run, and the member that gets it.

    Attributes
    ----------
    run_id, member_id : str
        Their ids.
    """

    run_id: str
    member_id: str


@dataclass(slots=True)
class _Waiting:
    """A run that no member has."""

    run_id: str
    pool: str
    structure: str | None
    models: frozenset[str]
    order: int
    passed_over: int = 0


@dataclass(slots=True)
class _Handed:
    """A run that a member has."""

    run_id: str
    member: _Member
    structure: str | None
    models: frozenset[str]
    cold: bool
    begun_at: float | None = None


@dataclass(slots=True, eq=False)
class _Member:
    """A machine that runs can be handed to."""

    id: str
    depth: int
    connected: bool = False
    handed: dict[str, _Handed] = field(default_factory=dict)
    others: int = 0
    models: frozenset[str] = frozenset()
    speed: float = 1.0
    samples: int = 0

    @property
    def load(self) -> int:
        """How many prompts it has."""
        return len(self.handed) + self.others

    @property
    def has_room(self) -> bool:
        """Whether it takes another run."""
        return self.connected and self.load < self.depth


@dataclass(slots=True)
class _Pool:
    """The members that a run may go to, and the runs that wait for one of them."""

    members: dict[str, _Member]
    orders: list[int] = field(default_factory=list)
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    open: dict[str, _Member] = field(default_factory=dict)  # those that have room
    idle: list[tuple[float, str]] = field(default_factory=list)  # of these, the fastest first
    listed: dict[str, float] = field(default_factory=dict)  # their speeds in that list
    speed: float = 0.0  # of all connected members together, as it was a few decisions ago
    speed_is_good_for: int = 0  # decisions

    def add(self, run: _Waiting) -> None:
        insort(self.orders, run.order)
        self.waiting[run.order] = run

    def remove(self, run: _Waiting) -> None:
        del self.orders[bisect_left(self.orders, run.order)]
        del self.waiting[run.order]

    def update(self, member: _Member) -> None:
        """Take in whether a member has room, and whether it is idle."""
        if member.has_room:
            self.open[member.id] = member
        else:
            self.open.pop(member.id, None)
        speed = self.listed.pop(member.id, None)
        if speed is not None:
            del self.idle[bisect_left(self.idle, (-speed, member.id))]
        if member.has_room and not member.load:
            self.listed[member.id] = member.speed
            insort(self.idle, (-member.speed, member.id))

    def total_speed(self) -> float:
        """Return the speed of all connected members together, roughly."""
        self.speed_is_good_for -= 1
        if self.speed_is_good_for < 0:
            self.speed = sum(member.speed for member in self.members.values() if member.connected)
            self.speed_is_good_for = len(self.members)
        return self.speed

    def drop(self, member: _Member) -> None:
        """Take a member out."""
        if self.members.pop(member.id, None) is not None:
            member.connected = False
            self.update(member)

    def first(self, count: int) -> Iterator[_Waiting]:
        return (self.waiting[order] for order in islice(self.orders, count))


class Times:
    """How long workflows take on members, learnt from the runs that have ended.

    What is known of a workflow on a member counts most. Else what is known of it on other members
    is scaled by the speeds of both, which are learnt from workflows that ran on several.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._plain: dict[str, float] = {}  # seconds on a member of speed 1, by structure
        self._loading: dict[frozenset[str], float] = {}
        self._mean: float | None = None

    def expected(self, structure: str | None, member: _Member) -> float | None:
        """Return the seconds that a run will probably take; None if nothing like it has run."""
        known = self._seconds.get(structure) if structure is not None else None
        if known is not None and member.id in known:
            return known[member.id]
        plain = self.plain(structure)
        return None if plain is None else plain / member.speed

    def plain(self, structure: str | None) -> float | None:
        """Return the seconds that a run would take on a member of speed 1, None if unknown."""
        known = self._plain.get(structure) if structure is not None else None
        return self._mean if known is None else known

    def loading(self, models: frozenset[str]) -> float:
        """Return the seconds that loading models takes, 0 while that is not known."""
        return self._loading.get(models, 0.0)

    def add(self, run: _Handed, seconds: float) -> None:
        """Take in how long a run took."""
        member, structure = run.member, run.structure
        if structure is None or seconds <= 0:
            return
        known = self._seconds.setdefault(structure, {})
        self._seconds.move_to_end(structure)
        if run.cold and run.models and member.id in known:
            extra = max(seconds - known[member.id], 0.0)
            self._loading[run.models] = _mixed(self._loading.get(run.models), extra, RECENT)
            return
        known[member.id] = _mixed(known.get(member.id), seconds, RECENT)
        plain = self._plain.get(structure)
        weight = max(RECENT, 1 / (member.samples + 1))
        if plain is not None:
            member.speed *= (plain / member.speed / seconds) ** weight
            member.speed = min(max(member.speed, 1e-3), 1e3)
        member.samples += 1
        self._plain[structure] = _mixed(plain, seconds * member.speed, RECENT)
        self._mean = _mixed(self._mean, seconds * member.speed, RECENT)
        while len(self._seconds) > KEPT_STRUCTURES:
            gone, _ = self._seconds.popitem(last=False)
            self._plain.pop(gone, None)

    def forget(self, member_id: str) -> None:
        """Drop what is known of a member."""
        for known in self._seconds.values():
            known.pop(member_id, None)


class Dispatcher:
    """One queue for many machines: hands a run over once a member has room for it.

    The first run of the queue goes to the member where it will probably end first: what the
    member has to do before, the loading of models that it has not loaded, and what runs of this
    workflow took there count. Without any experience that is the one with the least to do. Where
    a member would need longer for it than all others for the whole queue, it waits for them.

    Times are seconds of any monotonic clock; runs, members and pools go by their ids.
    """

    def __init__(self) -> None:
        self.times = Times()
        self._members: dict[str, _Member] = {}
        self._pools: dict[str, _Pool] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._handed: dict[str, _Handed] = {}
        self._last = 0
        self._first = 0

    # -- members and pools -------------------------------------------------------------------

    def add_member(self, member_id: str, *, depth: int = DEPTH) -> None:
        """Add a machine, which is not connected yet.

        Parameters
        ----------
        member_id : str
            Its id.
        depth : int
            How many prompts it takes at a time.
        """
        self._members.setdefault(member_id, _Member(member_id, depth))

    def remove_member(self, member_id: str) -> list[str]:
        """Take a machine out of all pools; return the runs that were handed to it."""
        member = self._members.pop(member_id)
        for pool in self._pools.values():
            pool.drop(member)
        for run_id in member.handed:
            del self._handed[run_id]
        self.times.forget(member_id)
        return list(member.handed)

    def set_pool(self, pool_id: str, members: Iterable[str]) -> None:
        """Say which machines belong to a pool; what waits for it keeps its place."""
        pool = self._pools.setdefault(pool_id, _Pool({}))
        pool.members = {member_id: self._members[member_id] for member_id in members}
        pool.open, pool.idle, pool.listed = {}, [], {}
        for member in pool.members.values():
            pool.update(member)

    def remove_pool(self, pool_id: str) -> list[str]:
        """Remove a pool; return the runs that waited for it, in order."""
        pool = self._pools.pop(pool_id)
        runs = [pool.waiting[order].run_id for order in pool.orders]
        for run_id in runs:
            del self._waiting[run_id]
        return runs

    def set_connected(self, member_id: str, connected: bool) -> None:
        """Say whether a machine can be reached; one that cannot gets nothing."""
        member = self._members[member_id]
        member.connected = connected
        if not connected:
            member.models = frozenset()
        self._update(member)

    def set_others(self, member_id: str, count: int) -> None:
        """Say how many prompts a machine has that this dispatcher did not hand over."""
        member = self._members[member_id]
        member.others = count
        self._update(member)

    def has_room(self, pool_id: str) -> bool:
        """Return whether a member of a pool could take a run at once."""
        return bool(self._pools[pool_id].open)

    # -- runs --------------------------------------------------------------------------------

    def wait(
        self,
        run_id: str,
        pool_id: str,
        *,
        structure: str | None = None,
        models: Collection[str] = (),
        front: bool = False,
        order: int | None = None,
    ) -> int:
        """Put a run into the queue.

        Parameters
        ----------
        run_id, pool_id : str
            The run, and where it may go.
        structure : str, optional
            Names its workflow; runs of one workflow are expected to take equally long.
        models : collection of str
            The files of the models that it needs.
        front : bool
            Whether it goes before all that wait.
        order : int, optional
            Its place from an earlier call, for a run that comes back from a member.

        Returns
        -------
        int
            Its place: runs of a pool go in ascending order.
        """
        if order is None and front:
            self._first = order = self._first - 1
        elif order is None:
            self._last = order = self._last + 1
        else:
            self._last, self._first = max(self._last, order), min(self._first, order)
        run = _Waiting(run_id, pool_id, structure, frozenset(models), order)
        self._waiting[run_id] = run
        self._pools[pool_id].add(run)
        return order

    def withdraw(self, run_id: str) -> bool:
        """Take a run out of the queue; return whether it was there."""
        run = self._waiting.pop(run_id, None)
        if run is None:
            return False
        self._pools[run.pool].remove(run)
        return True

    def position(self, run_id: str) -> int | None:
        """Return the place of a run among those that wait for its pool, from 1, else None."""
        run = self._waiting.get(run_id)
        return None if run is None else bisect_left(self._pools[run.pool].orders, run.order) + 1

    def waiting(self, pool_id: str) -> int:
        """Return how many runs wait for a pool."""
        return len(self._pools[pool_id].orders)

    def hand_over(
        self,
        run_id: str,
        member_id: str,
        *,
        structure: str | None = None,
        models: Collection[str] = (),
    ) -> None:
        """Note that a member gets a run, by a decision or because its user named the member."""
        member = self._members[member_id]
        needed = frozenset(models)
        cold = not needed <= member.models
        run = _Handed(run_id, member, structure, needed, cold)
        self._handed[run_id] = member.handed[run_id] = run
        if needed:
            member.models = needed
        self._update(member)

    def begun(self, run_id: str, now: float) -> None:
        """Note that a member executes a run."""
        run = self._handed.get(run_id)
        if run is not None:
            run.begun_at = now

    def ended(self, run_id: str, seconds: float | None = None) -> None:
        """Note that a member has a run no more.

        Parameters
        ----------
        run_id : str
            The run.
        seconds : float, optional
            How long it was executed, where it succeeded.
        """
        run = self._handed.pop(run_id, None)
        if run is None:
            return
        run.member.handed.pop(run_id, None)
        if seconds is not None:
            self.times.add(run, seconds)
        self._update(run.member)

    # -- deciding ----------------------------------------------------------------------------

    def decide(self, now: float) -> Decision | None:
        """Take the next run out of the queue and hand it over; None while all have to wait.

        Parameters
        ----------
        now : float
            The time.
        """
        pools = [pool for pool in self._pools.values() if pool.orders and pool.open]
        for pool in sorted(pools, key=lambda pool: pool.orders[0]):
            head = pool.waiting[pool.orders[0]]
            member, at = self._best(pool, head, now)
            if self._others_are_faster(pool, head, member, at, now):
                continue
            run = self._fitting(pool, head, member)
            self.withdraw(run.run_id)
            self.hand_over(run.run_id, member.id, structure=run.structure, models=run.models)
            return Decision(run.run_id, member.id)
        return None

    def _best(self, pool: _Pool, run: _Waiting, now: float) -> tuple[_Member, float]:
        """Return the member with room where a run will probably end first, and when that is."""
        among = pool.open.values() if len(pool.open) <= MANY else _promising(pool, run)
        ends = ((self._end(member, run, now), member) for member in among)
        at, best = min(ends, key=lambda pair: (pair[0], pair[1].load, -pair[1].speed))
        return best, at

    def _end(self, member: _Member, run: _Waiting, now: float) -> float:
        """Return in how many seconds a run would end on a member."""
        own = self.times.expected(run.structure, member)
        loading = 0.0 if run.models <= member.models else self.times.loading(run.models) + EASE
        return self._free_in(member, now) + loading + (1.0 if own is None else own)

    def _free_in(self, member: _Member, now: float) -> float:
        """Return the seconds until a member will have done what it has."""
        seconds = 0.0
        for run in member.handed.values():
            expected = self.times.expected(run.structure, member)
            expected = 1.0 if expected is None else expected
            gone = 0.0 if run.begun_at is None else now - run.begun_at
            # The longer a run is overdue, the longer it is expected to go on.
            seconds += abs(expected - gone)
        return seconds + member.others * (self.times.expected(None, member) or 1.0)

    def _others_are_faster(
        self, pool: _Pool, run: _Waiting, member: _Member, at: float, now: float
    ) -> bool:
        """Return whether the other members would have done the whole queue before one run.

        It waits for them then: at the end of a queue a slow member would keep everybody waiting.
        """
        if len(pool.members) == 1 or self.times.expected(run.structure, member) is None:
            return False
        left = len(pool.orders)
        plain = self.times.plain(run.structure)
        if plain is not None and left > 2 * at * pool.total_speed() / plain:
            return False  # whatever is known of single members, it is too much for them
        step = len(pool.members) // MANY + 1  # of many members, some stand for all
        for other in islice(pool.members.values(), 0, None, step):
            if other is member or not other.connected:
                continue
            each = self.times.expected(run.structure, other)
            if each is None:
                return False
            # What it has already comes first; then they end one after another.
            left -= step * max(math.floor((at - self._free_in(other, now) - EASE) / each), 0)
            if left <= 0:
                return any(not other.has_room for other in pool.members.values())
        return False

    def _fitting(self, pool: _Pool, head: _Waiting, member: _Member) -> _Waiting:
        """Return the first run, or one soon after it whose models the member has loaded."""
        if head.models <= member.models or head.passed_over >= LOOKAHEAD:
            return head
        for run in pool.first(LOOKAHEAD):
            if run.models and run.models <= member.models:
                head.passed_over += 1
                return run
        return head

    def _update(self, member: _Member) -> None:
        """Keep the list of members with room."""
        for pool in self._pools.values():
            if member.id in pool.members:
                pool.update(member)


def _promising(pool: _Pool, run: _Waiting) -> list[_Member]:
    """Return some of many members with room: fast idle ones, and those with the run's models."""
    if run.models:
        loaded = [member for member in pool.open.values() if run.models <= member.models]
        if loaded:
            return loaded[: MANY // 2]
    idle = [pool.open[member_id] for _, member_id in islice(pool.idle, MANY // 2)]
    return idle or list(islice(pool.open.values(), MANY // 2))


def _mixed(old: float | None, new: float, weight: float) -> float:
    """Return an average in which a new value has a weight from 0 to 1."""
    return new if old is None else old + (new - old) * weight
