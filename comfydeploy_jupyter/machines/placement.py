"""Choose the machine for each waiting run: one queue in front of the members of pools."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import itemgetter
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

from ..graphs.dependencies import nodes_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
KEPT_STRUCTURES = 4096  # workflows, and sets of models, whose durations are kept
RECENT = 0.3  # weight of the last run in the expected duration of the next one
DEPTH = 2  # prompts that a member has at the same time: one is executing, one waits
LOOKAHEAD = 16  # waiting runs that are searched for one that a member can execute with less work
MANY = 32  # members with room above which only the most promising ones are compared,
SAMPLE = 10  # so many: a decision costs about the same for 1,000 members as for 32
IN_A_ROW = 3  # failed runs after which a member is paused
AT_ONCE, QUICK = 2, 1.0  # the same for runs that fail within so many seconds
FIRST_PAUSE, MAX_PAUSE = 10.0, 300.0  # seconds
LACKS_FOR = 60.0  # seconds after which it is tried whether a member still lacks a file or class
SUSPECTS = 4096  # workflows of failed runs that are known
ABOUT_AS_FAST = 0.5  # part of the speed of the fastest member
FRONT = ""  # the client of the runs that were put before all others
LATER, LATE = "~", 1 << 40  # how clients begin that come after all others, and their first turn
EASE = 1e-9  # seconds; tolerance for rounding errors
WAITING = 0.01  # seconds that it takes a run to wait in the store and to be sent from there


@dataclass(slots=True)
class Run:
    """What is known of a run that waits, or that a member has."""

    run_id: str
    pool: str | None  # None: its user has chosen the machine
    structure: str | None = None  # runs of one structure are expected to take equally long
    models: frozenset[str] = frozenset()
    fingerprint: bytes = b""
    order: int = 0
    client: str = FRONT
    avoid: str | None = None  # the member that has failed it
    needs: frozenset[str] = frozenset()  # its node classes and model files
    passed_over: int = 0


@dataclass(slots=True)
class AssignedRun:
    run: Run
    member: MemberLoad
    cold: bool  # whether the member had to load its models
    handed_at: float | None = None
    begun_at: float | None = None


@dataclass(slots=True)
class Pause:
    """A time in which a member gets no run, because runs fail there."""

    failures: int
    seconds: float
    deadline: float  # then the member gets one run
    proven: bool  # whether other members have succeeded with runs since the first of these failures
    holds: bool = True  # whether it has not ended


@dataclass(slots=True, eq=False)
class MemberLoad:
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

    def is_able(self, run: Run) -> bool:
        """Return whether the member has what a run needs, and is not known to fail it."""
        able = not self.lacks or self.lacks.isdisjoint(run.needs)
        return able and self.id != run.avoid and (self.pause is None or not self.pause.holds)

    @property
    def load(self) -> int:
        return len(self.handed) + self.others

    @property
    def has_room(self) -> bool:
        if self.pause is not None and (self.pause.holds or self.handed):
            return False  # it is tried with one run
        return self.connected and self.load < self.depth


class ExpectedDurations:
    """The expected durations of workflows on members, learnt from runs that have ended.

    The durations of a workflow on the same member are preferred. Else its durations on other
    members are scaled by the speeds of both, learnt from workflows that ran on several members.

    Speeds, and the durations at speed 1, are geometric means. With arithmetic ones the speeds of
    members would grow without limit, because the runs of a workflow do not all take equally long.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[str | None, dict[str, float]] = OrderedDict()
        self._plain: dict[str | None, float] = {}  # seconds on a member of speed 1, by structure
        self._loading: OrderedDict[frozenset[str], float] = OrderedDict()
        self._compared: set[str] = set()  # the members that have executed the same workflows
        self._mean: float | None = None

    def expected(self, structure: str | None, member: MemberLoad) -> float:
        """Return the expected duration of a run in seconds; 1 if no run has ended."""
        if structure in self._seconds and member.id in self._seconds[structure]:
            return self._seconds[structure][member.id]
        return self.plain(structure) / member.speed

    def knows(self, structure: str | None) -> bool:
        return structure in self._plain

    def is_compared(self, structure: str | None, member: MemberLoad) -> bool:
        """Return whether it is known how fast a member is, at least for runs of a workflow."""
        compared = member.id in self._compared
        return compared or member.id in self._seconds.get(structure, ())

    def plain(self, structure: str | None) -> float:
        return self._plain.get(structure) or self._mean or 1.0

    def loading(self, models: frozenset[str]) -> float:
        return self._loading.get(models, 0.0)

    def add(self, assigned: AssignedRun, seconds: float) -> None:
        member, structure, models = assigned.member, assigned.run.structure, assigned.run.models
        if structure is None or seconds <= 0:
            return
        known = self._seconds.setdefault(structure, {})
        self._seconds.move_to_end(structure)
        if assigned.cold and models and member.id in known:
            extra = max(seconds - known[member.id], 0.0)
            self._loading[models] = _mixed(self._loading.get(models), extra)
            self._loading.move_to_end(models)
            if len(self._loading) > KEPT_STRUCTURES:
                self._loading.popitem(last=False)
            return
        known[member.id] = _mixed(known.get(member.id), seconds)
        plain = self._plain.get(structure)
        if plain is not None and len(known) > 1:
            weight = max(RECENT, 1 / (member.samples + 1))
            member.speed *= (plain / (seconds * member.speed)) ** weight
            member.speed = min(max(member.speed, 1e-3), 1e3)
            member.samples += 1
            self._compared.update(known if len(known) == 2 else (member.id,))
        scaled = seconds * member.speed
        self._plain[structure] = scaled if plain is None else plain * (scaled / plain) ** RECENT
        self._mean = _mixed(self._mean, scaled)
        while len(self._seconds) > KEPT_STRUCTURES:
            gone, _ = self._seconds.popitem(last=False)
            self._plain.pop(gone, None)

    def forget(self, member_id: str) -> None:
        self._compared.discard(member_id)
        for known in self._seconds.values():
            known.pop(member_id, None)


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else old + (new - old) * RECENT


class Decision(NamedTuple):
    run_id: str
    member_id: str


@dataclass(slots=True)
class _Client:
    """The waiting runs of a client of a pool.

    A pool assigns runs in turns, in each of them one run of each client: the first waiting run in
    turn ``turn``, the next one in the turn after it, and so on.
    """

    orders: list[int] = field(default_factory=list)
    turn: int = 0
    last: int = 0  # the highest order of the runs that were assigned


_TURN = itemgetter(0, 1)  # the turn and the order of a waiting run


def _turn_of(key: str, client: _Client) -> int:
    """Return the turn of the first waiting run of a client."""
    if key == FRONT:
        return -1
    return client.turn + (LATE if key.startswith(LATER) else 0)


@dataclass(slots=True)
class _Pool:
    """The members that a run may be assigned to, and the runs that wait for one of them."""

    members: dict[str, MemberLoad]
    clients: dict[str, _Client] = field(default_factory=dict)
    # turn, order and client of the first run of each client, sorted
    heads: list[tuple[int, int, str]] = field(default_factory=list)
    turn: int = 0  # that of the last assigned run
    waiting: dict[int, Run] = field(default_factory=dict)
    open: dict[str, MemberLoad] = field(default_factory=dict)  # the members with room
    idle: list[tuple[float, str]] = field(default_factory=list)  # the idle ones, fastest first
    listed: dict[str, float] = field(default_factory=dict)  # the speeds of the members in that list
    kinds: Counter[str | None] = field(default_factory=Counter)  # of the waiting runs: structures
    work: float = 0.0  # see `Dispatcher._totals`
    speed: float = 0.0
    totals_are_good_for: int = 0  # remaining decisions until they are computed again

    def add(self, run: Run, turn: int) -> None:
        """Add a run, in a turn from ``turn`` on; one that was assigned gets its turn back."""
        client = self.clients.setdefault(run.client, _Client())
        self._unlist(run.client)
        if not client.orders or run.order < client.orders[0]:
            client.turn = max(client.turn - (run.order <= client.last), turn)
        insort(client.orders, run.order)
        self._list(run.client)
        self.waiting[run.order] = run
        self.kinds[run.structure] += 1

    def remove(self, run: Run, *, assigned: bool) -> None:
        """Remove a run; if it is ``assigned``, its client has had its turn."""
        client = self.clients[run.client]
        self._unlist(run.client)
        del client.orders[bisect_left(client.orders, run.order)]
        if assigned and run.client != FRONT:
            self.turn = max(self.turn, client.turn)
            client.turn += 1
            client.last = max(client.last, run.order)
        self._list(run.client)
        del self.waiting[run.order]
        if len(self.clients) > len(self.waiting) + MANY:
            known = self.clients.items()
            self.clients = {k: c for k, c in known if c.orders or c.turn > self.turn}
        self.kinds[run.structure] -= 1
        if not self.kinds[run.structure]:
            del self.kinds[run.structure]

    def _list(self, key: str) -> None:
        client = self.clients[key]
        if client.orders:
            insort(self.heads, (_turn_of(key, client), client.orders[0], key))

    def _unlist(self, key: str) -> None:
        client = self.clients[key]
        if client.orders:
            head = (_turn_of(key, client), client.orders[0], key)
            del self.heads[bisect_left(self.heads, head)]

    def begin_again(self) -> None:
        """Count the turns from 0, as the other pools do then."""
        for client in self.clients.values():
            client.turn = max(client.turn - self.turn, 0)
        self.turn = 0
        self.heads = []
        for key in self.clients:
            self._list(key)

    def turn_of(self, run: Run) -> int:
        """Return the turn of a waiting run; -1 if it was put before all others."""
        client = self.clients[run.client]
        if run.client == FRONT:
            return -1
        return _turn_of(run.client, client) + bisect_left(client.orders, run.order)

    def in_order(self) -> Iterator[tuple[int, int, Run]]:
        """Yield turn, order and run of all that wait, in the order in which they are assigned."""
        return merge(*map(self._in_order, self.clients), key=_TURN)

    def _in_order(self, key: str) -> Iterator[tuple[int, int, Run]]:
        client = self.clients[key]
        first = _turn_of(key, client)
        for place, order in enumerate(client.orders):
            yield first if key == FRONT else first + place, order, self.waiting[order]

    def before(self, turn: int, order: int) -> int:
        """Return how many waiting runs are assigned before one with a turn and an order."""
        count = 0
        for key, client in self.clients.items():
            if key == FRONT:
                count += bisect_left(client.orders, order) if turn < 0 else len(client.orders)
            elif turn >= (first := _turn_of(key, client)) and client.orders:
                full = turn - first
                count += min(full, len(client.orders))
                count += full < len(client.orders) and client.orders[full] < order
        return count

    def update(self, member: MemberLoad) -> None:
        """Update the lists of members with room and of idle members after one has changed."""
        has_room = member.has_room
        if has_room:
            self.open[member.id] = member
        else:
            self.open.pop(member.id, None)
        speed = self.listed.pop(member.id, None)
        if speed is not None:
            del self.idle[bisect_left(self.idle, (-speed, member.id))]
        if has_room and not member.load:
            self.listed[member.id] = member.speed
            insort(self.idle, (-member.speed, member.id))

    def drop(self, member: MemberLoad) -> None:
        if self.members.pop(member.id, None) is not None:
            member.connected = False
            self.update(member)

    def first(self, client: str, count: int) -> Iterator[Run]:
        return (self.waiting[order] for order in islice(self.clients[client].orders, count))


class Dispatcher:
    """One queue for many machines; assigns a run once a member has room for it.

    A pool takes turns between its clients; the runs of one client keep their order, and points of
    batches come after single runs. The first run in the queue is assigned to the member where it
    will probably end first. This depends on the prompts that the member has, the time to load
    models, and the durations of the same workflow on the member. Without known durations, the
    member with the least work is chosen.
    A run waits if the other members would end the whole queue before the chosen one ends the run.

    ComfyUI does not execute the nodes again that a run has in common with the one before. So among
    equally loaded members, the run is assigned to the one whose last run has the most nodes in
    common; and one of the next runs is assigned before the first one if it has more of them.

    It does no I/O and has no clock: the same calls lead to the same decisions. Times are seconds of
    any monotonic clock; runs, members and pools are identified by their ids.
    """

    def __init__(self) -> None:
        self.times = ExpectedDurations()
        self._members: dict[str, MemberLoad] = {}
        self._pools: dict[str, _Pool] = {}
        self._waiting: dict[str, Run] = {}
        self._handed: dict[str, AssignedRun] = {}
        self._sharing: dict[str, list[_Pool]] = {}  # see `_pools_of`
        self._paused: dict[str, MemberLoad] = {}
        self._lacking: dict[str, MemberLoad] = {}  # members that lack something
        self._failed_on: OrderedDict[str | None, str] = OrderedDict()  # workflows that only failed
        self._cached: Counter[int] = Counter()  # in how many members' last runs a node is
        self._kept_models: dict[frozenset[str], frozenset[str]] = {}
        self._last = 0
        self._first = 0

    # -- members and pools -------------------------------------------------------------------

    def add_member(self, member_id: str, *, depth: int = DEPTH) -> None:
        """Add a machine, which is not connected at first."""
        self._members.setdefault(member_id, MemberLoad(member_id, depth))

    def remove_member(self, member_id: str) -> None:
        """Remove a machine from all pools."""
        member = self._members.pop(member_id)
        self._paused.pop(member_id, None)
        self._lacking.pop(member_id, None)
        self._keep(member, frozenset())
        for pool in self._pools.values():
            pool.drop(member)
        for run_id in member.handed:
            del self._handed[run_id]
        self.times.forget(member_id)

    def set_pool(self, pool_id: str, members: Iterable[str]) -> None:
        """Set the machines of a pool; runs that wait for it keep their positions."""
        pool = self._pools.setdefault(pool_id, _Pool({}))
        members = [*members]
        if pool.members.keys() != {*members}:
            self._sharing.clear()
            for each in self._pools.values():
                each.begin_again()
        pool.members = {member_id: self._members[member_id] for member_id in members}
        pool.open, pool.idle, pool.listed = {}, [], {}
        for member in pool.members.values():
            pool.update(member)

    def remove_pool(self, pool_id: str) -> None:
        """Remove a pool, and the runs that wait for it."""
        self._sharing.clear()
        for run in self._pools.pop(pool_id).waiting.values():
            del self._waiting[run.run_id]

    def set_connected(self, member_id: str, connected: bool, *, silent: bool = False) -> None:
        """Set whether a machine can be reached; if not, no runs are assigned to it.

        What is known of it is forgotten then, unless it is only ``silent``, and not another one.
        """
        member = self._members[member_id]
        member.connected = connected
        if not connected and not silent:
            if member.pause is not None:
                member.pause.deadline = -math.inf  # another ComfyUI may be a working one
            member.models = member.lacks = frozenset()
            self._lacking.pop(member_id, None)
            self._keep(member, frozenset())
        self._update(member)

    def set_lacks(self, member_id: str, names: Collection[str], now: float) -> None:
        """Set which node classes and model files a machine does not have, for `LACKS_FOR` seconds.

        No runs that need them are assigned to it.
        """
        member = self._members[member_id]
        member.lacks |= frozenset(names)
        if member.lacks:
            self._lacking[member_id] = member
            member.lacks_until = now + LACKS_FOR

    def set_others(self, member_id: str, count: int) -> None:
        member = self._members[member_id]
        member.others = count
        self._update(member)

    def member(self, member_id: str) -> MemberLoad:
        """Return what is known of a machine, which may be an unknown one."""
        return self._members.get(member_id) or MemberLoad(member_id, 0)

    def member_of(self, run_id: str) -> str | None:
        """Return the id of the machine that a run is assigned to, None if there is none."""
        run = self._handed.get(run_id)
        return None if run is None else run.member.id

    # -- runs --------------------------------------------------------------------------------

    def reserve(self, *, front: bool = False) -> int:
        """Return the next order; with ``front``, one before those of all waiting runs."""
        if front:
            self._first -= 1
            return self._first
        self._last += 1
        return self._last

    @property
    def any_waits(self) -> bool:
        return bool(self._waiting)

    def wait(
        self,
        run_id: str,
        pool_id: str,
        *,
        structure: str | None = None,
        models: Collection[str] = (),
        fingerprint: bytes = b"",
        front: bool = False,
        order: int | None = None,  # from an earlier call or `reserve`, if a member has lost it
        client: str = "",  # a pool takes turns between clients
        later: bool = False,  # whether the runs of all other clients come first
        avoid: str | None = None,  # the member where it has failed
        needs: Collection[str] = (),  # node classes and model files that its member must have
    ) -> int:
        """Add a run to the queue; return its order: runs are assigned in ascending order."""
        order = self.reserve(front=front) if order is None else order
        # Equal values are shared by all waiting runs, of which there may be very many.
        needed, wanted = (
            self._kept_models.setdefault(each, each) for each in map(frozenset, (models, needs))
        )
        self._waiting[run_id] = run = Run(
            run_id,
            pool_id,
            None if structure is None else intern(structure),
            needed,
            fingerprint,
            order,
            FRONT if order < 0 else intern(f"{LATER if later else '='}{client}"),
            avoid,
            wanted,
        )
        pool, turn = self._pools[pool_id], 0
        for each in self._pools_of(pool_id):
            turn = max(turn, each.turn)
            known = None if each is pool else each.clients.get(run.client)
            if known is not None and known.orders:
                turn = max(turn, known.turn + bisect_left(known.orders, order))
        pool.add(run, turn)
        return order

    def _pools_of(self, pool_id: str) -> list[_Pool]:
        """Return a pool and those with some of the same members."""
        if pool_id not in self._sharing:
            own = self._pools[pool_id]
            self._sharing[pool_id] = [
                pool
                for pool in self._pools.values()
                if pool is own or not pool.members.keys().isdisjoint(own.members)
            ]
        return self._sharing[pool_id]

    def withdraw(self, run_id: str, *, assigned: bool = False) -> bool:
        """Remove a run from the queue; return whether it was there."""
        run = self._waiting.pop(run_id, None)
        if run is None:
            return False
        self._pools[run.pool or ""].remove(run, assigned=assigned)
        if not self._waiting:
            self._kept_models.clear()
        return True

    def position(self, run_id: str) -> int | None:
        """Return the position of a waiting run, from 1; None if it does not wait.

        Before it are the runs of its pool, and of pools with some of the same members, that are
        assigned earlier.
        """
        run = self._waiting.get(run_id)
        if run is None or run.pool is None:
            return None
        turn = self._pools[run.pool].turn_of(run)
        return 1 + sum(pool.before(turn, run.order) for pool in self._pools_of(run.pool))

    def line(self, pool_id: str) -> Iterator[tuple[int, str]]:
        """Yield the `position` and the id of each run that waits for a pool, in their order."""
        sharing = (pool.in_order() for pool in self._pools_of(pool_id))
        for place, (_, _, run) in enumerate(merge(*sharing, key=_TURN), 1):
            if run.pool == pool_id:
                yield place, run.run_id

    def hand_over(
        self,
        run_id: str,
        member_id: str,
        *,
        structure: str | None = None,
        models: Collection[str] = (),
        fingerprint: bytes = b"",
        pool: str | None = None,
        now: float | None = None,
    ) -> None:
        """Record that a member has a run that was not assigned here."""
        run = Run(run_id, pool, structure, frozenset(models), fingerprint)
        self._assign(run, self._members[member_id], now)

    def _assign(self, run: Run, member: MemberLoad, now: float | None) -> None:
        assigned = AssignedRun(run, member, not run.models <= member.models, handed_at=now)
        self._handed[run.run_id] = member.handed[run.run_id] = assigned
        if run.models:
            member.models = run.models
        self._keep(member, nodes_in(run.fingerprint))
        self._update(member)

    def begun(self, run_id: str, now: float) -> None:
        run = self._handed.get(run_id)
        if run is not None:
            run.begun_at = now

    def ended(
        self,
        run_id: str,
        seconds: float | None = None,  # of its execution, if it succeeded
        *,
        failed: bool = False,
        now: float | None = None,
    ) -> None:
        assigned = self._handed.pop(run_id, None)
        if assigned is None:
            return
        member = assigned.member
        member.handed.pop(run_id, None)
        member.last_end = member.last_end if now is None else now
        if seconds is not None:
            self.times.add(assigned, seconds)
            self._succeeded(assigned.run, member)
        elif failed and assigned.run.pool is not None and now is not None:
            self._failed(assigned, now)
        self._update(member)

    # -- members that fail runs --------------------------------------------------------------

    @property
    def paused(self) -> set[str]:
        """The ids of the members that get no run, or only one, because runs fail there."""
        return {*self._paused}

    def is_excused(self, run_id: str) -> bool:
        """Return whether the failure of a run does not count, so that it is executed elsewhere.

        It does not on a member that is paused, or tried after that, if there is another member.
        """
        assigned = self._handed.get(run_id)
        if assigned is None or assigned.run.avoid is not None or assigned.member.pause is None:
            return False
        others = self._others(assigned.run, assigned.member)
        return any(other.pause is None for other in others)

    def _others(self, run: Run, member: MemberLoad) -> list[MemberLoad]:
        """Return the other connected members of the pool of a run."""
        pool = self._pools.get(run.pool or "")
        members = () if pool is None else pool.members.values()
        return [other for other in members if other.connected and other is not member]

    def _succeeded(self, run: Run, member: MemberLoad) -> None:
        self._failed_on.pop(run.structure, None)
        if run.pool is None:
            return
        member.failed.clear()
        member.succeeds = True
        self._end_pause(member)
        pool = self._pools.get(run.pool)
        for other in self._paused.values():
            if other.pause is not None and other.connected and pool and other.id in pool.members:
                other.pause.proven = True

    def _failed(self, assigned: AssignedRun, now: float) -> None:
        run, member = assigned.run, assigned.member
        others = self._others(run, member)
        member.succeeds = False
        first = self._failed_on.setdefault(run.structure, member.id)
        while len(self._failed_on) > SUSPECTS:
            self._failed_on.popitem(last=False)
        if first != member.id and run.structure is not None:  # the fault is that of the workflow
            for each in self._members.values():
                each.failed = [failure for failure in each.failed if failure[0] != run.structure]
                if each.pause is not None and not _fails(each):
                    self._end_pause(each)
            return
        if member.pause is None:
            for other in others:
                if other.pause is not None and not other.pause.proven:
                    other.failed.clear()  # the others fail, too
                    self._end_pause(other)
        begun = assigned.begun_at
        member.failed.append((run.structure, begun is not None and now - begun < QUICK))
        pause = member.pause
        if pause is None and _fails(member) and any(other.pause is None for other in others):
            proven = any(other.succeeds for other in others)
            member.pause = Pause(len(member.failed), FIRST_PAUSE, now + FIRST_PAUSE, proven)
            self._paused[member.id] = member
        elif pause is not None:
            pause.failures = len(member.failed)
            if not pause.holds:
                pause.seconds = min(2 * pause.seconds, MAX_PAUSE)
                pause.holds, pause.deadline = True, now + pause.seconds

    def _end_pause(self, member: MemberLoad) -> None:
        if self._paused.pop(member.id, None) is not None:
            member.pause = None
            self._update(member)

    # -- decisions ---------------------------------------------------------------------------

    def decide(self, now: float) -> Decision | None:
        """Remove the next run from the queue and assign it; return None if all have to wait."""
        for paused in self._paused.values():
            if paused.pause is not None and paused.pause.holds and now >= paused.pause.deadline:
                paused.pause.holds = False
                self._update(paused)
        for lacking in [each for each in self._lacking.values() if now >= each.lacks_until]:
            lacking.lacks = frozenset()
            del self._lacking[lacking.id]
        queues = [(pool.heads, pool) for pool in self._pools.values() if pool.open]
        for heads, pool in sorted(
            (each for each in queues if each[0]), key=lambda each: each[0][0]
        ):
            head = self._first_possible(pool, heads)
            member, at = (None, 0.0) if head is None else self._best(pool, head, now)
            if (
                head is None
                or member is None
                or self._others_are_faster(pool, head, member, at, now)
            ):
                continue
            run = self._fitting(pool, head, member, now)
            self.withdraw(run.run_id, assigned=True)
            self._assign(run, member, now)
            return Decision(run.run_id, member.id)
        return None

    def _first_possible(self, pool: _Pool, heads: list[tuple[int, int, str]]) -> Run | None:
        """Return the first run, or a later one if no member with room may have those before it."""
        for _, _, client in heads:
            for run in pool.first(client, LOOKAHEAD):
                if not self._lacking and run.avoid is None:
                    return run
                if any(self._may_have(pool, run, member) for member in pool.open.values()):
                    return run
        return None

    def _best(self, pool: _Pool, run: Run, now: float) -> tuple[MemberLoad | None, float]:
        """Return the member with room where a run would end first, and in how many seconds."""
        some = pool.open.values() if len(pool.open) <= MANY else _promising(pool, run)
        among = [member for member in some if self._may_have(pool, run, member)]
        if len(among) < 2:
            return (among[0], self._end(among[0], run, now)) if among else (None, 0.0)
        ends = ((self._end(member, run, now), member) for member in among)
        at, best = min(ends, key=lambda pair: (pair[0], pair[1].load, -pair[1].speed))
        nodes = nodes_in(run.fingerprint)
        closest = max(
            (member for member in among if _is_like(member, best, run)),
            key=lambda member: len(nodes & member.nodes),
        )
        if len(nodes & closest.nodes) > len(nodes & best.nodes):
            return closest, self._end(closest, run, now)
        return best, at

    def _may_have(self, pool: _Pool, run: Run, member: MemberLoad) -> bool:
        """Return whether a member with room may have a run.

        No run waits on a member behind another one while the member may be a slow one: nothing else
        would execute it. A workflow of unknown duration does not wait on one that is slow either.
        """
        if not member.is_able(run) and any(
            other.connected and other.is_able(run) for other in pool.members.values()
        ):
            return False
        if not member.handed or len(pool.members) == 1 or run.structure is None:
            return True
        if not self.times.is_compared(run.structure, member):
            return False
        if self.times.knows(run.structure):
            return True
        fastest = max(other.speed for other in pool.members.values() if other.connected)
        return member.speed >= ABOUT_AS_FAST * fastest

    def _end(self, member: MemberLoad, run: Run, now: float) -> float:
        return self._ready_in(member, run, now) + self.times.expected(run.structure, member)

    def _ready_in(self, member: MemberLoad, run: Run, now: float) -> float:
        """Return the seconds until a member could begin a run with its models loaded."""
        loading = 0.0 if run.models <= member.models else self.times.loading(run.models) + EASE
        return self._free_in(member, now) + loading

    def _free_in(self, member: MemberLoad, now: float) -> float:
        """Return the seconds until a member will have executed its present prompts."""
        seconds = member.others and member.others * self.times.expected(None, member)
        executes = False
        for assigned in member.handed.values():
            executes = executes or assigned.begun_at is not None
        for assigned in member.handed.values():
            since = assigned.begun_at
            if not executes:  # the first one should have begun as soon as the member could
                since, executes = assigned.handed_at, True
                if since is not None and member.last_end is not None:
                    since = max(since, member.last_end)
            gone = 0.0 if since is None else now - since
            # The longer a run is overdue, the longer its expected remaining duration.
            seconds += abs(self.times.expected(assigned.run.structure, member) - gone)
        return seconds

    def _others_are_faster(
        self, pool: _Pool, run: Run, member: MemberLoad, at: float, now: float
    ) -> bool:
        """Return whether the other members would end the whole queue before this one ends a run.

        Then the run waits for them: at the end of a queue, a slow member would delay the result.
        It waits for no member with prompts of other clients, which may take any time.
        """
        at -= WAITING
        known = self.times.knows(run.structure) and self.times.is_compared(run.structure, member)
        if len(pool.members) == 1 or not known:
            return False
        work, speed = self._totals(pool)
        if work > 2 * at * speed:
            return False  # the queue is too long for all members together
        alike = len(pool.kinds) == 1
        left = len(pool.waiting) if alike else work
        size = len(pool.members)
        step = 1 if size <= MANY else size // SAMPLE + 1
        free: list[tuple[float, MemberLoad]] = []
        for other in islice(pool.members.values(), 0, None, step):
            if other is member or not other.connected or other.others or not other.is_able(run):
                continue
            each = self.times.expected(run.structure, other)
            ready = self._ready_in(other, run, now)
            if not other.load and ready + each < at - EASE:
                return False  # it is idle, so nothing has to be waited for
            # The present prompts of the member come first, then runs of the queue in turn.
            rest = max(at - ready - EASE, 0.0)
            if rest >= each:
                left -= step * (rest // each if alike else rest * other.speed)
            if left <= 0 and (alike or step > 1):
                return True
            free.append((ready, other))
        if alike or step > 1 or left > 0:
            return False
        # Runs of different durations cannot be divided between the members at will.
        for waiting in pool.waiting.values():
            ends = [
                (ready + self.times.expected(waiting.structure, other), other)
                for ready, other in free
            ]
            place = min(range(len(ends)), key=lambda place: ends[place][0])
            if ends[place][0] > at - EASE:
                return False
            free[place] = ends[place]
        return True

    def _totals(self, pool: _Pool) -> tuple[float, float]:
        """Return the work that waits for a pool, in seconds at speed 1, and its members' speed.

        Of pools with many members, they are as of a few decisions ago.
        """
        pool.totals_are_good_for -= 1
        if pool.totals_are_good_for < 0:
            pool.totals_are_good_for = len(pool.members) // MANY
            some = list(islice(pool.kinds.items(), MANY))
            work = sum(self.times.plain(kind) * count for kind, count in some)
            pool.work = work * len(pool.waiting) / sum(count for _, count in some)
            pool.speed = sum(member.speed for member in pool.members.values() if member.connected)
        return pool.work, pool.speed

    def _fitting(self, pool: _Pool, head: Run, member: MemberLoad, now: float) -> Run:
        """Return the first run, or one of the next ones that is less work for the member.

        That is one whose models the member has loaded, and which has more nodes in common with the
        last run of the member, or else fewer with those of other members. No run precedes one that
        was put before all others.
        """
        if head.order < 0 or head.passed_over >= LOOKAHEAD:
            return head
        runs = list(pool.first(head.client, LOOKAHEAD))
        if not head.models <= member.models:
            fitting = [run for run in runs if run.models and run.models <= member.models]
            runs = fitting or [head]
        chosen = runs[0]
        if len(runs) > 1 and self._cached:
            chosen = max(runs, key=lambda run: self._affinity(run, member))
        if not self._may_have(pool, chosen, member) or (
            chosen.structure != head.structure
            and self._others_are_faster(pool, chosen, member, self._end(member, chosen, now), now)
        ):
            return head
        if chosen is not head:
            head.passed_over += 1
        return chosen

    def _affinity(self, run: Run, member: MemberLoad) -> tuple[int, int]:
        """Return the numbers of nodes in a member's cache, and not in those of other members."""
        nodes = nodes_in(run.fingerprint)
        own = nodes & member.nodes
        others = sum(self._cached[node] > (node in own) for node in nodes)
        return len(own), -others

    def _keep(self, member: MemberLoad, nodes: frozenset[int]) -> None:
        self._cached.subtract(member.nodes)
        self._cached.update(nodes)
        for node in member.nodes - nodes:
            if not self._cached[node]:
                del self._cached[node]
        member.nodes = nodes

    def _update(self, member: MemberLoad) -> None:
        """Update the lists of all pools after a member has changed."""
        for pool in self._pools.values():
            if member.id in pool.members:
                pool.update(member)


def _fails(member: MemberLoad) -> bool:
    """Return whether the last runs of a member failed, and so many that it may be broken."""
    at_once = [failure for failure in member.failed if failure[1]]
    return len(member.failed) >= IN_A_ROW or len(at_once) >= AT_ONCE


def _is_like(member: MemberLoad, best: MemberLoad, run: Run) -> bool:
    """Return whether a member has as many prompts as the best one, and the models like that."""
    loaded = run.models <= member.models or not run.models <= best.models
    return member.load == best.load and loaded


def _promising(pool: _Pool, run: Run) -> list[MemberLoad]:
    """Return some of many members with room: fast idle ones, and those with the run's models."""
    if run.models:
        loaded = [member for member in pool.open.values() if run.models <= member.models]
        if loaded:
            return loaded[:SAMPLE]
    idle = [pool.open[member_id] for _, member_id in islice(pool.idle, SAMPLE)]
    return idle or list(islice(pool.open.values(), SAMPLE))
