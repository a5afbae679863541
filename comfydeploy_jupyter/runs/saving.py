"""Write the states of runs to the store at the right time."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ComfyDeployError
from ..util.times import Backoff
from .background import Recorded

if TYPE_CHECKING:
    from .background import Background
    from .records import RunRecord, RunRepository

log = logging.getLogger(__name__)

SAVE_WITHIN = 0.01  # seconds until a state is stored that no client has received
SAVE_AGAIN = Backoff(first=3.0, longest=3.0)  # pauses between two attempts to store an end


class Savable(Recorded, Protocol):
    """The part of a run that saving its record needs."""

    @property
    def ending(self) -> bool:
        """Whether the outcome is known: then only the record of the end is stored."""

    def record_after(self, cause: Any, detail: str = "", **facts: Any) -> RunRecord:
        """Return the record as it will be after a transition."""


class StateSaver:
    """Writes the records of runs: at once, soon, or as soon as the store is writable.

    Parameters
    ----------
    repository : RunRepository
        The records.
    background : Background
        Runs saves that no caller waits for.
    """

    def __init__(self, repository: RunRepository, background: Background) -> None:
        self._repository = repository
        self._background = background
        self._unsaved: dict[str, Savable] = {}
        self._saving: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def soon(self, run: Savable) -> None:
        """Store the state of a run within `SAVE_WITHIN`; a run that ends before is stored once.

        All runs whose states are due are stored in one transaction.
        """
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SAVE_WITHIN, self._save_unsaved)
        self._unsaved[run.record.prompt_id] = run

    async def now_if_due(self, prompt_id: str) -> None:
        """Store the state of a run at once if it is due: a client is about to receive it.

        The state remains due while the end of the run is being stored, because that may fail.

        Raises
        ------
        StoreUnavailableError, NoSpaceError
            If the store cannot be written to.
        """
        while prompt_id in self._unsaved or prompt_id in self._saving:
            if prompt_id in self._unsaved:
                self._save(prompt_id)
            saving = self._saving[prompt_id]
            await asyncio.wait({saving})
            self._forget(prompt_id, saving)
            saving.result()

    async def ahead(self, run: Savable, cause: Any, detail: str, **facts: Any) -> bool:
        """Store a run as it will be after a transition, which the caller makes afterwards.

        Returns
        -------
        bool
            False if the run was changed in the meantime: then an older state may be stored.

        Raises
        ------
        StoreUnavailableError, NoSpaceError
            If the store cannot be written to.
        """
        before, prompt_id = run.record, run.record.prompt_id
        await self._repository.save(run.record_after(cause, detail, **facts))
        if run.record is not before or prompt_id in self._saving:
            return False
        self._unsaved.pop(prompt_id, None)
        return True

    async def now(self, record: RunRecord) -> None:
        """Store a record.

        Raises
        ------
        StoreUnavailableError, NoSpaceError
            If the store cannot be written to.
        """
        await self._repository.save(record)

    async def try_ahead(self, run: Savable, cause: Any, detail: str = "", **facts: Any) -> bool:
        """Store a run as `ahead` does; if the store cannot be written to, log that."""
        try:
            return await self.ahead(run, cause, detail, **facts)
        except ComfyDeployError as fault:
            log.warning(
                "The state of run %s (%s) cannot be stored: %s",
                run.record.prompt_id,
                cause.value,
                fault.message,
                extra=run.record.log_fields,
            )
            return True

    async def end(self, record: RunRecord) -> bool:
        """Store the end of a run; return False if the store fails and it is stored later."""
        try:
            await self._repository.save(record)
        except Exception:
            log.exception(
                "The end of run %s cannot be stored yet", record.prompt_id, extra=record.log_fields
            )
            self._background.keep(
                partial(self._repository.save, record),
                f"Storing the end of run {record.prompt_id}",
                SAVE_AGAIN,
            )
            return False
        finally:
            self._unsaved.pop(record.prompt_id, None)
        return True

    async def close(self) -> None:
        """Store all states that are due."""
        if self._timer is not None:
            self._timer.cancel()
        unsaved, self._unsaved = self._unsaved, {}
        for run in unsaved.values():
            if not run.ending:
                with suppress(ComfyDeployError):
                    await self._repository.save(run.record)

    def _save_unsaved(self) -> None:
        """Store the states that are due, but for runs whose end is being stored instead."""
        self._timer = None
        for prompt_id, run in list(self._unsaved.items()):
            if not run.ending:
                self._save(prompt_id)

    def _save(self, prompt_id: str) -> None:
        run = self._unsaved.pop(prompt_id)
        task = self._background.start(self._repository.save(run.record), run)
        self._saving[prompt_id] = task
        task.add_done_callback(partial(self._forget, prompt_id))

    def _forget(self, prompt_id: str, task: asyncio.Task[None]) -> None:
        if self._saving.get(prompt_id) is task:
            del self._saving[prompt_id]
