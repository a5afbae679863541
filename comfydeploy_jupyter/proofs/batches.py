"""Verifies batches: their points one after the other, each on a machine that executes nothing.

What was asked for and what was found are rows of the store, and a repetition is an ordinary run. So
the next server goes on where this one was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    RunTimeoutError,
    StoreUnavailableError,
)
from ..store.database import Repository, reading, writing
from ..util.markup import differing
from ..util.tasks import BackgroundTasks, wait_until_set
from ..util.times import Backoff, utc_now
from .verify import whole

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from ..batches.records import BatchRepository
    from ..runs.service import RunService
    from ..store.session import Session
    from .verify import Verifier

log = logging.getLogger(__name__)

VERDICTS = ("identical", "differs", "cannot")
MAX_DIFFERENCES = 200  # sentences that are kept
MAX_REASON = 1000  # characters
LOOK_INTERVAL = 1.0  # seconds between two looks whether a machine is idle
RESULT = Backoff(first=0.2, longest=2.0)  # pauses between two looks at a repetition
GIVE_UP = 600.0  # seconds for which a machine that does not answer is waited for
AGAIN = Backoff(first=1.0, longest=30.0)  # pauses while the store cannot be used


class Asked(NamedTuple):
    """A verification that has not ended, and its next point."""

    batch: int  # its key in the store
    machine: str
    nodes: bool
    begun_at: str
    run_id: str | None  # None: no point is left


class Found(NamedTuple):
    """What was found out about a run."""

    verdict: str
    reason: str = ""
    repetition: str | None = None
    differences: Sequence[str] = ()


class VerificationRepository(Repository):
    """What was asked for and found out about batches."""

    @writing
    def add(
        self,
        db: sqlite3.Connection,
        number: int,
        session: str,
        body: dict[str, Any],
        points: int | Collection[int] | None,
    ) -> None:
        """Store a verification in the place of an earlier one; ConflictError while that runs."""
        known = db.execute(
            "SELECT state FROM batch_verifications WHERE batch = ?", (number,)
        ).fetchone()
        if known is not None and known["state"] == "running":
            raise ConflictError("The batch is being verified already")
        rows = db.execute(
            "SELECT position, run_id, status FROM batch_points WHERE batch = ? ORDER BY position",
            (number,),
        ).fetchall()
        if isinstance(points, int):
            rows = _sample([row for row in rows if row["status"] == "success"] or rows, points)
        elif points is not None:
            unknown = sorted({*points} - {row["position"] for row in rows})
            if unknown:
                text = f"has no point {unknown[0]}: they are 0 to {len(rows) - 1}"
                raise InvalidRequestError.of_field("points", f"the batch {text}")
            wanted = {*points}
            rows = [row for row in rows if row["position"] in wanted]
        db.execute("DELETE FROM batch_verifications WHERE batch = ?", (number,))
        db.execute(
            "INSERT INTO batch_verifications (batch, session, state, body) VALUES (?, ?, ?, ?)",
            (number, session, "running", json.dumps(body)),
        )
        db.executemany(
            "INSERT INTO batch_verdicts (batch, point, run_id, verdict, reason)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (number, row["position"], row["run_id"], None, "")
                if row["status"] == "success"
                else (number, row["position"], row["run_id"], "cannot", _unmade(row["status"]))
                for row in rows
            ],
        )

    @writing
    def claim(self, db: sqlite3.Connection, sessions: Collection[str], session: str) -> list[int]:
        """Take over what servers that have ended did not finish; return all that is open."""
        db.execute(
            "UPDATE batch_verifications SET session = ? WHERE state = 'running'"
            " AND session IN (SELECT value FROM json_each(?))",
            (session, json.dumps(list(sessions))),
        )
        rows = db.execute(
            "SELECT batch FROM batch_verifications WHERE state = 'running' AND session = ?",
            (session,),
        )
        return [number for (number,) in rows]

    @reading
    def next(self, db: sqlite3.Connection, number: int) -> Asked | None:
        """Return the next point of a verification; None if it has ended, or was deleted."""
        row = db.execute(
            "SELECT body FROM batch_verifications WHERE batch = ? AND state = 'running'",
            (number,),
        ).fetchone()
        if row is None:
            return None
        body = json.loads(row["body"])
        point = db.execute(
            "SELECT run_id FROM batch_verdicts WHERE batch = ? AND verdict IS NULL"
            " ORDER BY point LIMIT 1",
            (number,),
        ).fetchone()
        return Asked(
            number,
            body["machine"],
            body["nodes"],
            body["begun_at"],
            None if point is None else point["run_id"],
        )

    @writing
    def keep(self, db: sqlite3.Connection, number: int, run_id: str, found: Found) -> None:
        """Store what was found out about a run, for all points that share it."""
        db.execute(
            "UPDATE batch_verdicts SET verdict = ?, reason = ?, repetition = ?"
            " WHERE batch = ? AND run_id = ? AND verdict IS NULL",
            (found.verdict, found.reason[:MAX_REASON], found.repetition, number, run_id),
        )
        if found.differences:
            row = db.execute(
                "SELECT body FROM batch_verifications WHERE batch = ?", (number,)
            ).fetchone()
            body = json.loads(row["body"]) if row is not None else {"differences": []}
            told = [*dict.fromkeys([*body["differences"], *found.differences])]
            body["differences"] = told[:MAX_DIFFERENCES]
            db.execute(
                "UPDATE batch_verifications SET body = ? WHERE batch = ?",
                (json.dumps(body), number),
            )

    @writing
    def end(self, db: sqlite3.Connection, number: int, state: str) -> bool:
        """Record the end of a verification; return whether it ended now."""
        changed = db.execute(
            "UPDATE batch_verifications SET state = ?, body = json_set(body, '$.finished_at', ?)"
            " WHERE batch = ? AND state = 'running'",
            (state, utc_now(), number),
        )
        return changed.rowcount > 0

    @reading
    def get(
        self,
        db: sqlite3.Connection,
        number: int,
        verdict: str | None,
        limit: int,
        offset: int,
    ) -> dict[str, Any] | None:
        """Return a verification with some of its points; None if there is none."""
        row = db.execute(
            "SELECT state, body FROM batch_verifications WHERE batch = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        counts = dict(
            db.execute(
                "SELECT coalesce(verdict, ''), count(*) FROM batch_verdicts WHERE batch = ?"
                " GROUP BY verdict",
                (number,),
            ).fetchall()
        )
        points = db.execute(
            "SELECT point, run_id AS prompt_id, repetition, verdict, reason FROM batch_verdicts"
            " WHERE batch = ? AND (?2 IS NULL OR verdict = ?2) ORDER BY point LIMIT ?3 OFFSET ?4",
            (number, verdict, limit, offset),
        )
        return {
            "state": row["state"],
            **json.loads(row["body"]),
            "total": sum(counts.values()),
            "counts": {name: counts.get(name, 0) for name in VERDICTS},
            "points": [dict(point) for point in points],
        }


def _sample(rows: list[Any], count: int) -> list[Any]:
    """Return so many rows, evenly spread, the first and the last one included."""
    last = len(rows) - 1
    if count > last:
        return rows
    places = {round(n * last / max(count - 1, 1)) for n in range(count)}
    return [rows[place] for place in sorted(places)]


def _unmade(status: str) -> str:
    return "it has not run" if status == "waiting" else f"its run is {status}"


class BatchVerifier:
    """Verifies batches in the background; `result` says how far that is."""

    def __init__(
        self,
        repository: VerificationRepository,
        batches: BatchRepository,
        verifier: Verifier,
        runs: RunService,
        session: Session,
    ) -> None:
        self._repository = repository
        self._batches = batches
        self._verifier = verifier
        self._runs = runs
        self._session = session
        self._wake: dict[int, asyncio.Event] = {}  # of those at work here, set when cancelled
        self._again: set[int] = set()  # those that were begun while an earlier one was ending
        self._why: dict[int, str] = {}  # why they wait
        self._tasks = BackgroundTasks(log)

    async def open(self) -> None:
        await self.recover(self._session.claimed)

    async def recover(self, sessions: Collection[str]) -> None:
        """Go on with the verifications of servers that have ended."""
        for number in await self._repository.claim(sessions, self._session.id):
            self._start(number)

    async def close(self) -> None:
        """Begin no further repetition; the next start goes on."""
        await self._tasks.close()

    @property
    def at_work(self) -> bool:
        return bool(self._wake)

    async def begin(
        self,
        batch_id: str,
        *,
        machine: str | None,
        points: int | Collection[int] | None,
        nodes: bool,
    ) -> dict[str, Any]:
        """Verify the points of a batch that has ended: all, so many of them, or these."""
        batch = await self._batches.get(batch_id)
        if batch.finished_at is None:
            raise ConflictError(
                f"The batch {batch_id!r} has points that have not ended",
                details={"batch_id": batch_id, "state": batch.state},
            )
        destination, pool = self._runs.destination(machine or batch.machine)
        body = {
            "machine": destination.id if pool is None else pool.id,
            "nodes": nodes,
            "begun_at": utc_now(),
            "finished_at": None,
            "differences": [],
        }
        await self._repository.add(batch.number, self._session.id, body, points)
        self._start(batch.number)
        return await self.result(batch_id)

    async def cancel(self, batch_id: str) -> dict[str, Any]:
        """Verify no further point, and cancel the repetition that runs."""
        batch = await self._batches.get(batch_id)
        if not await self._repository.end(batch.number, "cancelled"):
            raise ConflictError(f"The batch {batch_id!r} is not being verified")
        if batch.number in self._wake:
            self._wake[batch.number].set()
        return await self.result(batch_id)

    async def result(
        self, batch_id: str, *, verdict: str | None = None, limit: int = 100, offset: int = 0
    ) -> dict[str, Any]:
        """Return what is known; NotFoundError if the batch was never verified."""
        batch = await self._batches.get(batch_id)
        found = await self._repository.get(batch.number, verdict, limit, offset)
        if found is None:
            raise NotFoundError(f"The batch {batch_id!r} was not verified")
        verdict = whole([name for name, count in found["counts"].items() if count])
        return {
            **found,
            "verdict": verdict if found["state"] == "done" else None,
            "why": self._why.get(batch.number, "") if found["state"] == "running" else "",
        }

    # -- the work ------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        if number in self._wake:
            self._again.add(number)
            return
        self._wake[number] = asyncio.Event()
        self._tasks.start(
            self._run(number), "Verifying a batch", when_done=partial(self._stopped, number)
        )

    def _stopped(self, number: int) -> None:
        self._wake.pop(number, None)
        self._why.pop(number, None)
        if number in self._again:
            self._again.discard(number)
            self._start(number)

    async def _run(self, number: int) -> None:
        failures = 0
        while True:
            try:
                self._wake[number].clear()
                asked = await self._repository.next(number)
                if asked is None:
                    return
                if asked.run_id is None:
                    await self._repository.end(number, "done")
                    return
                found = await self._point(asked, asked.run_id)
                if found is not None:
                    await self._repository.keep(number, asked.run_id, found)
                failures = 0
            except (StoreUnavailableError, NoSpaceError) as error:
                failures += 1
                self._why[number] = error.message
                await asyncio.sleep(AGAIN.pause(failures))

    async def _point(self, asked: Asked, run_id: str) -> Found | None:
        """Repeat a run, and compare; None if that was cancelled."""
        try:
            begun = await self._unfinished(asked, run_id) or await self._begin(asked, run_id)
            if begun is None:
                return None
            return await self._compared(asked.batch, run_id, begun)
        except (StoreUnavailableError, NoSpaceError):
            raise
        except ComfyDeployError as error:
            return Found("cannot", error.message)
        except Exception as error:  # it must not keep the others waiting
            log.exception("Run %s of a batch cannot be verified", run_id)
            return Found("cannot", f"it could not be found out: {type(error).__name__}")

    async def _unfinished(self, asked: Asked, run_id: str) -> str | None:
        """Return the repetition of a run that an earlier server has begun for this verification."""
        known = await self._verifier.newest(run_id)
        if known is None or known.created_at < asked.begun_at:
            return None
        is_good = known.status == "success" and not known.cached_nodes
        return known.prompt_id if is_good or not known.finished else None

    async def _begin(self, asked: Asked, run_id: str) -> str | None:
        """Queue the repetition on a machine that is idle; return its id, None if cancelled."""
        clock = asyncio.get_running_loop().time
        wake, answered = self._wake[asked.batch], clock()
        before = await self._verifier.record(run_id)
        while not wake.is_set():
            problem: ComfyDeployError | None = None
            for machine in self._verifier.members(asked.machine, before["machine"]):
                try:
                    if await self._verifier.is_idle(machine):
                        return await self._verifier.repeat(
                            run_id, before, machine, nodes=asked.nodes
                        )
                    answered = clock()
                except ConflictError:  # something else came before
                    answered = clock()
                except (ComfyUIUnavailableError, RunTimeoutError) as error:
                    problem = error
            if problem is not None and clock() - answered > GIVE_UP:
                raise problem
            self._why[asked.batch] = (
                f"Waiting until {asked.machine} executes nothing"
                if problem is None
                else problem.message
            )
            await wait_until_set(wake, LOOK_INTERVAL)
        return None

    async def _compared(self, number: int, run_id: str, repetition: str) -> Found | None:
        self._why.pop(number, None)
        wake, looks = self._wake[number], 0
        while (found := await self._verifier.result(run_id))["state"] == "running":
            looks += 1
            if await wait_until_set(wake, RESULT.pause(looks)):
                with suppress(ComfyDeployError):  # it has just ended
                    await self._runs.interrupt(repetition, None)
                return None
        told = "; ".join(differing(found["outputs"], found["first_different"]))
        return Found(found["verdict"], told, found["prompt_id"], [*found["differences"]])
