"""The function that makes a transition in the life of a run.

Other modules request a transition by its cause. If `TABLE` has no row for the present state and
that cause, nothing happens: only the first end of a run counts, and an event that comes too late
changes nothing.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from ..secrets import hide
from .facts import Facts
from .story import add_entry, not_before
from .transitions import (
    EVENT_OF,
    EXECUTING,
    OPEN,
    OVER,
    POSTING,
    STATUS,
    STORED,
    TABLE,
    Cause,
    Saved,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..store.runs import RunRecord
    from .saving import StateSaver


class Lifecycle(Facts):
    """A run with its state and transitions.

    The parameters are those of `Facts`, the first state (``RECEIVED``, or one of `RECOVERED`), and
    the object that stores the transitions whose ``saved`` is `Saved.SOON`.
    """

    def __init__(
        self,
        record: RunRecord,
        nodes: Mapping[str, object],
        *,
        state: State = State.RECEIVED,
        saver: StateSaver | None = None,
        events_complete: bool = True,
    ) -> None:
        super().__init__(record, nodes, events_complete=events_complete)
        self.state = state
        self._saver = saver
        self._enter()
        if state is not State.RECEIVED:
            self.answered.set()

    @property
    def ending(self) -> bool:
        """Whether the outcome of its execution is known."""
        return self.state not in OPEN

    @property
    def posting(self) -> bool:
        """Whether ComfyUI is being asked to queue it."""
        return not self.answered.is_set()

    def transition(
        self,
        cause: Cause,
        detail: str = "",
        *,
        saved: bool = False,
        reply: dict[str, Any] | None = None,
        **facts: Any,
    ) -> bool:
        """Make a transition: change the state, add it to the story, store it and emit its message.

        Parameters
        ----------
        cause : Cause
            The cause of the transition.
        detail : str
            Details for the story, without messages of nodes.
        saved : bool
            Whether the record that `record_after` returned for this transition has been stored.
        reply : dict, optional
            For an end: the body of the reply to ``POST run``.
        **facts
            The values that the row ``takes``.

        Returns
        -------
        bool
            False if the table has no such transition from the present state; then nothing was done.
        """
        row = TABLE.get((self.state, cause))
        if row is None:
            return False
        record = self.record_after(cause, detail, **facts)
        for name, value in {**row.sets, **facts}.items():
            if name not in STORED:
                setattr(self, name, value)
        self.state = row.to or self.state
        if self.state is State.ENDING:
            self.outcome = record
        else:
            self.record, self.outcome = record, None
        if row.to is not None:
            self._enter()
        if cause in EVENT_OF:
            getattr(self, EVENT_OF[cause]).set()
        if row.saved is Saved.SOON and not saved and self._saver is not None and not self.ending:
            self._saver.soon(self)
        self.send(row.sends, reply)
        return True

    def record_after(self, cause: Cause, detail: str = "", **facts: Any) -> RunRecord:
        """Return the record as it will be after a transition, to be stored before the transition.

        The parameters are those of `transition`. If there is no such transition, the record is
        returned unchanged.
        """
        row = TABLE.get((self.state, cause))
        if row is None:
            return self.record
        unknown = facts.keys() - {*row.takes}
        assert not unknown, f"{cause.name} takes no {unknown}"
        record: RunRecord = facts.get("outcome") or self.outcome or self.record
        changes = {n: copy(v) for n, v in {**row.sets, **facts}.items() if n in STORED}
        if row.to is State.RUNNING:
            changes["started_at"] = not_before(record.created_at)
        if row.to in STATUS:
            changes["status"] = STATUS[row.to]
        if row.in_story:
            reached = record.status if row.to is State.ENDING else (row.to or self.state).value
            changes["story"] = [*record.story]
            add_entry(changes["story"], cause.value, reached, hide(detail, self.keys.values()))
        return record.changed(**changes)

    def _enter(self) -> None:
        """Set the events that belong to the present state; a new request clears them."""
        if self.state in (State.POSTED, State.REQUEUING):
            self.answered.clear()
            self.released.clear()
        elif self.state not in (*POSTING, *EXECUTING):
            self.answered.set()
        if self.state in (State.UPLOADING, *OVER):
            self.settled.set()
