"""The states of a run, the table of all transitions between them, and the function that makes one.

Other modules request a transition by its cause. If `TABLE` has no row for the present state and
that cause, nothing happens: only the first end of a run counts, and an event that comes too late
changes nothing. ``docs/architecture.md`` shows the table.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..util.secrets import hide
from .facts import Facts, Sends
from .story import add_entry, not_before

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import RunRecord
    from .saving import StateSaver


class State(str, Enum):
    """The state of a run. The status that clients receive is coarser."""

    RECEIVED = "received"  # it is being stored; ComfyUI has not received the last byte
    POSTED = "posted"  # it is stored, and ComfyUI has been asked to queue it
    UNANSWERED = "unanswered"  # ComfyUI did not answer whether it has queued it
    UNCONFIRMED = "unconfirmed"  # recovered; it is unknown whether ComfyUI received it
    WAITING = "waiting"  # it waits here for a machine of its pool that has room
    QUEUED = "queued"  # ComfyUI has it
    REQUEUING = "requeuing"  # ComfyUI has lost it, and is asked to queue it again
    RUNNING = "running"  # ComfyUI executes it
    EXECUTED = "executed"  # ComfyUI has reported success, but not its last event
    ENDING = "ending"  # the outcome of its execution is known and is being stored
    UPLOADING = "uploading"  # it was executed, and its outputs are being uploaded
    ENDED = "ended"
    DROPPED = "dropped"  # it was not executed, and is removed


class Cause(str, Enum):
    """The cause of a transition."""

    RECEIVED = "received"
    RECOVERED = "recovered after a restart"
    LOADED = "read from the store"
    STORED = "stored and handed to ComfyUI"
    NOT_STORED = "could not be stored"
    NOT_IN_TIME = "not queued in the time that its caller gave it"
    ACCEPTED = "accepted by ComfyUI"
    REFUSED = "refused by ComfyUI"
    NOT_SENT = "not handed to ComfyUI"
    NOT_ANSWERED = "not answered by ComfyUI"
    NOT_FOUND = "not found in ComfyUI"
    FOUND_QUEUED = "found in the queue"
    FOUND_EXECUTING = "found executing"
    FOUND_IN_HISTORY = "found in the history"
    EXECUTION_STARTED = "execution started"
    EXECUTION_SUCCEEDED = "execution succeeded"
    RELEASED = "released by ComfyUI"
    COMPLETE = "all events received"
    EVENT_SKIPPED = "an event was too large to be read"
    CONNECTION_LOST = "connection lost"
    CONNECTED = "connected again"
    COMFYUI_ENDED = "ComfyUI ended"
    QUEUED_ANEW = "queued anew"
    NO_ROOM = "no machine has room"
    ASSIGNED = "assigned to a machine"
    RETURNED = "its machine does not have it"
    MOVED = "failed on a machine that fails other runs too, it is executed elsewhere"
    RETRIED = "its machine ended, it is executed again"
    CANCEL_REQUESTED = "cancellation requested"
    CANCEL_NOT_STORED = "cancellation could not be stored"
    WITHDRAWN = "withdrawn"
    LOST = "given up"
    UPLOADS_QUEUED = "uploads queued"
    UPLOADS_ENDED = "uploads ended"
    OUTPUTS_LOST = "outputs could not be copied from its machine"
    END_STORED = "end stored"
    END_NOT_STORED = "end not stored yet"


class Saved(Enum):
    """When a transition is stored."""

    AWAITED = "before it is made"
    SOON = "soon after it"
    NEXT = "with the next one"


@dataclass(frozen=True)
class Transition:
    """A row of the table.

    ``sets`` are values of `Facts` that the transition sets, and ``takes`` the names of values that
    the caller passes. If ``to`` is None, the state does not change.
    """

    sources: tuple[State, ...]
    cause: Cause
    to: State | None = None
    saved: Saved = Saved.NEXT
    sends: Sends = Sends.NOTHING
    sets: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    in_story: bool = True


S, C = State, Cause
POSTING = (S.RECEIVED, S.POSTED, S.REQUEUING)  # ComfyUI is being asked to queue it
IN_DOUBT = (S.UNANSWERED, S.UNCONFIRMED)
EXECUTING = (S.RUNNING, S.EXECUTED)
OPEN = (*POSTING, *IN_DOUBT, S.WAITING, S.QUEUED, *EXECUTING)  # the outcome is not known
UNFINISHED = (*OPEN, S.ENDING, S.UPLOADING)
OVER = (S.ENDED, S.DROPPED)

_ANSWER, _OUTCOME = ("number", "node_errors"), ("outcome",)
_AGAIN = ("session", "attempts", "events_complete", "comfyui_id")
_EXIT = ("comfyui_exit", "was_next")
_GAP, _SUCCESS = {"events_complete": False}, {"success_reported": True}
_ANEW = {"was_next": False, "success_reported": False}
_KNOWN, _LOST = (S.QUEUED, S.RUNNING, S.UPLOADING), (S.QUEUED, S.UNANSWERED)
_FORGET: Mapping[str, Any] = {
    "number": None,
    "node_errors": {},
    "missed_at": None,
    "comfyui_exit": None,
    **_ANEW,
}
_NOT_BEGUN: Mapping[str, Any] = {
    **dict.fromkeys(("started_at", "finished_at", "execution_time")),
    "outputs": {},
    "cached_nodes": [],
}
_IN_LINE, _UPLOADS = (*IN_DOUBT, S.QUEUED), (S.ENDING, S.UPLOADING)

TRANSITIONS = (
    Transition((S.RECEIVED,), C.RECEIVED),
    Transition((S.RECEIVED,), C.STORED, S.POSTED),
    Transition((S.RECEIVED,), C.NOT_STORED, S.DROPPED, sends=Sends.CLOSED, takes=_OUTCOME),
    Transition((S.RECEIVED, S.POSTED), C.NOT_IN_TIME, sets={"id_returned": True}),
    Transition((S.RECEIVED, S.POSTED), C.NOT_SENT, S.DROPPED, sends=Sends.CLOSED, takes=_OUTCOME),
    Transition((S.REQUEUING,), C.NOT_SENT, S.QUEUED, sets=_GAP),
    Transition(POSTING, C.REFUSED, S.ENDING, takes=_OUTCOME),
    Transition(POSTING, C.NOT_ANSWERED, S.UNANSWERED, sets={**_GAP, "missed_at": None}),
    Transition(POSTING, C.ACCEPTED, S.QUEUED, Saved.SOON, Sends.FIRST, takes=_ANSWER),
    # An event was received before ComfyUI's answer: it is emitted after the answer.
    Transition((S.POSTED, S.REQUEUING), C.EXECUTION_STARTED, S.RUNNING, Saved.SOON),
    Transition((S.POSTED, S.REQUEUING), C.EXECUTION_SUCCEEDED, S.EXECUTED, sets=_SUCCESS),
    Transition(EXECUTING, C.ACCEPTED, None, Saved.SOON, Sends.FIRST, takes=_ANSWER),
    Transition(EXECUTING, C.NOT_ANSWERED, sends=Sends.FIRST, sets=_GAP),
    # Runs of pools.
    Transition((S.RECEIVED,), C.NO_ROOM, S.WAITING, Saved.AWAITED, Sends.FIRST),
    Transition(
        (S.WAITING,),
        C.ASSIGNED,
        S.POSTED,
        Saved.AWAITED,
        sets=_FORGET,
        takes=("machine", "session", "events_complete"),
    ),
    Transition(
        (S.RECEIVED, S.POSTED, *IN_DOUBT, S.QUEUED),
        C.RETURNED,
        S.WAITING,
        Saved.AWAITED,
        Sends.FIRST,
        sets=_FORGET,
        takes=("machine", "attempts", "comfyui_id"),
    ),
    Transition(
        (S.RUNNING,),
        C.RETRIED,
        S.WAITING,
        Saved.AWAITED,
        sets={**_FORGET, **_NOT_BEGUN},
        takes=("machine", "attempts", "retry"),
    ),
    Transition(
        (S.RUNNING,),
        C.MOVED,
        S.WAITING,
        Saved.AWAITED,
        sets={**_FORGET, **_NOT_BEGUN},
        takes=("machine", "attempts"),
    ),
    Transition((S.WAITING,), C.LOADED, sends=Sends.FIRST, in_story=False),
    Transition((S.UNCONFIRMED,), C.RECOVERED, saved=Saved.AWAITED),
    Transition((S.WAITING, *_KNOWN), C.RECOVERED, None, Saved.AWAITED, Sends.FIRST),
    Transition(IN_DOUBT, C.NOT_FOUND, takes=("missed_at",)),
    Transition(IN_DOUBT, C.FOUND_QUEUED, S.QUEUED, Saved.SOON, Sends.FIRST),
    Transition(_IN_LINE, C.FOUND_EXECUTING, S.RUNNING, Saved.SOON, Sends.FIRST),
    Transition(_IN_LINE, C.EXECUTION_STARTED, S.RUNNING, Saved.SOON, Sends.FIRST),
    Transition(_IN_LINE, C.EXECUTION_SUCCEEDED, S.EXECUTED, sends=Sends.FIRST, sets=_SUCCESS),
    Transition((S.RUNNING,), C.EXECUTION_SUCCEEDED, S.EXECUTED, sets=_SUCCESS),
    Transition(_LOST, C.QUEUED_ANEW, S.REQUEUING, Saved.AWAITED, sets=_ANEW, takes=_AGAIN),
    Transition(EXECUTING, C.EVENT_SKIPPED, sets=_GAP),
    Transition(UNFINISHED, C.RELEASED, in_story=False),
    Transition(UNFINISHED, C.CONNECTION_LOST, sets=_GAP, takes=("was_next",)),
    Transition(UNFINISHED, C.CONNECTED),
    Transition(UNFINISHED, C.COMFYUI_ENDED, sets=_GAP, takes=_EXIT),
    Transition(
        OPEN, C.CANCEL_REQUESTED, None, Saved.AWAITED, Sends.CANCELLING, sets={"cancelling": True}
    ),
    Transition(OPEN, C.CANCEL_NOT_STORED, sends=Sends.CANCELLING, sets={"cancelling": False}),
    Transition((S.EXECUTED,), C.COMPLETE, S.ENDING, takes=_OUTCOME),
    Transition(OPEN, C.FOUND_IN_HISTORY, S.ENDING, takes=_OUTCOME),
    Transition(OPEN, C.WITHDRAWN, S.ENDING, takes=_OUTCOME),
    Transition(OPEN, C.LOST, S.ENDING, takes=_OUTCOME),
    Transition(_UPLOADS, C.UPLOADS_QUEUED, S.UPLOADING, Saved.AWAITED, Sends.UPLOADING),
    Transition(_UPLOADS, C.UPLOADS_ENDED, S.ENDING, takes=_OUTCOME),
    Transition((S.ENDING,), C.OUTPUTS_LOST, takes=_OUTCOME),
    Transition((S.ENDING,), C.END_STORED, S.ENDED, Saved.AWAITED, Sends.END, in_story=False),
    Transition((S.ENDING,), C.END_NOT_STORED, S.ENDED, Saved.NEXT, Sends.END, in_story=False),
)
TABLE = {(source, row.cause): row for row in TRANSITIONS for source in row.sources}

# The status that belongs to a state; other states do not change the status.
STATUS = {S.WAITING: "queued", S.QUEUED: "queued", S.RUNNING: "running"}
# The state of a recovered run, by the status that another process stored in its record.
RECOVERED = {
    "not-started": S.UNCONFIRMED,
    "waiting": S.WAITING,  # status `queued`, but no machine has it
    **{state.value: state for state in _KNOWN},
}
# The events (``answered``, ``released``) that a cause sets in addition to those of the new state.
EVENT_OF = dict.fromkeys((C.ACCEPTED, C.NOT_ANSWERED), "answered")
EVENT_OF |= dict.fromkeys((C.RELEASED, C.CONNECTION_LOST, C.COMFYUI_ENDED), "released")
# Facts that are fields of the record.
STORED = frozenset(
    {
        *("number", "node_errors", "cancelling", "session", "attempts"),
        *("machine", "comfyui_id", "retry", *_NOT_BEGUN),
    }
)


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
        self.moves += self.state in (State.POSTED, State.REQUEUING, State.WAITING)
        if self.state in (State.POSTED, State.REQUEUING):
            self.answered.clear()
            self.released.clear()
        elif self.state not in (*POSTING, *EXECUTING):
            self.answered.set()
        if self.state in (State.UPLOADING, *OVER):
            self.settled.set()
