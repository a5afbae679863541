"""The life of a run, decided in one place: an event and the present state give effects.

`RunState.handle` makes the transitions of `TABLE` and decides everything else about a run. It does
no I/O, has no clock, never waits, and is called in any order: an event that comes too late, twice,
or for an earlier machine changes nothing. `Engine` performs the effects, and their results are
events again. ``docs/architecture.md`` shows the table.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from ..comfyui.memory import HANGS
from ..util.secrets import hide
from ..util.times import utc_now
from .history import has_failed, read_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .progress import LiveStatus
    from .records import RunRecord

MAX_ATTEMPTS = 2  # exits of ComfyUI with a run as the next one, after which the run fails
GRACE = 10.0  # seconds at most until a prompt without an answer counts as not queued
LOST = "ComfyUI was restarted, or has dropped the run"
REFUSES = "ComfyUI has ended: it refuses connections"

MAX_ENTRIES = 100
KEPT_FIRST = 20  # entries at the start of a story that are never dropped
MAX_DETAIL = 300  # characters


class State(str, Enum):
    """The state of a run. The status that clients receive is coarser."""

    RECEIVED = "received"  # it is being stored; ComfyUI has not received the last byte
    POSTED = "posted"  # it is stored, and ComfyUI has been asked to queue it
    UNANSWERED = "unanswered"  # ComfyUI did not answer whether it has queued it
    UNCONFIRMED = "unconfirmed"  # recovered; it is unknown whether ComfyUI received it
    NEEDING = "needing"  # it waits here for outputs of other runs
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
    """What has happened; the causes of transitions are in the history of a run."""

    RECEIVED = "received"
    RECOVERED = "recovered after a restart"
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
    NEEDS = "needs outputs of other runs"
    NEED_ENDED = "a run that it needs has ended"
    INPUTS_THERE = "all outputs that it needs are there"
    DUE = "all outputs that it needs are there, and its machine is ready"
    NO_ROOM = "no machine has room"
    ASSIGNED = "assigned to a machine"
    RETURNED = "its machine does not have it"
    REORDERED = "put at another place in the queue"
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

    # These lead to a decision, and make no transition of their own.
    SAVE_DUE = "its state is to be stored now"
    ERROR_TOLD = "readers were told that its execution has failed"
    MISSING = "not in ComfyUI's queue"
    NOT_IN_HISTORY = "not in ComfyUI's history"
    AWAY = "its ComfyUI is away"
    CANCEL_DUE = "its cancellation is to be carried out"
    CANCEL_SENT = "ComfyUI was asked to cancel it"
    OUTPUTS_KEPT = "outputs copied from its machine"


class Saved(Enum):
    """When a transition is stored."""

    AWAITED = "before it is made"
    SOON = "soon after it"
    NEXT = "with the next one"


class Notification(Enum):
    """The messages that a transition sends to the readers of a run's events."""

    NOTHING = ""
    CANCELLING = "status, only to readers of the Comfy API"
    FIRST = "the first message"
    UPLOADING = "live_status"
    END = "result, status"
    CLOSED = "result, status; not to followers"


class Do(Enum):
    """What the engine is to do."""

    __hash__ = object.__hash__  # that of enumerations is written in Python

    SEND = "send readers a message"
    STORE = "store the record; then the event comes back"
    SAVE_SOON = "store the state soon, with other runs"
    SAVE = "store the state now"
    SEARCH = "look for the prompt in ComfyUI's queue"
    HISTORY = "look for the prompt in ComfyUI's history"
    OUTCOME = "read the outcome from ComfyUI's history, if it is there"
    TAKE_BACK = "delete the prompt from ComfyUI's queue, and look what became of it"
    REORDER = "put the run at another place in the queue of its pool"
    CANCEL = "delete the prompt from ComfyUI's queue, or interrupt it"
    INTERRUPT = "interrupt the prompt"
    READ_GRAPH = "read the graph from the store, to queue the run anew"
    POST = "send the prompt to ComfyUI's queue"
    BEGUN = "count the start, and follow the progress"
    STOPPED = "freeze the progress"
    RESTART = "reset the progress"
    MOVE = "find the run by its new machine or id in ComfyUI"
    GIVE_UP = "remember that a machine must not execute a prompt"
    LOOK = "look whether the runs that it needs have ended"
    FILL = "put the outputs that it needs into its graph"
    ENQUEUE = "put the run into the queue of its pool"
    TRY_LATER = "put the run into the queue after a pause"
    FOLLOW = "count the run as one of its machine"
    PAUSE = "give the machine no run for a moment"
    LEAVE = "take the run out of the queue and from its machine"
    KEEP_OUTPUTS = "copy the outputs from a machine that may end"
    UPLOAD = "upload the outputs"
    STORE_END = "store the end"
    END = "forget the run, and send its end"
    DROP = "forget the run, and send its end to nobody but its readers"
    DISCARD = "delete the record"


class Place(NamedTuple):
    """What is known of the machine and the pool of a run when an event happens."""

    known: bool = True  # whether the machine exists
    connected: bool = True
    dead: bool = False  # whether its ComfyUI has ended, and is not started again
    leased: bool = False  # whether its files may go with it
    uploads: bool = False  # whether the outputs of the run are uploaded
    pool: str | None = None  # the kind of the run's pool; None if it has none, or that is gone
    patience: float = 30.0  # seconds that requests to it may take


class Event(NamedTuple):
    cause: Cause
    detail: str = ""  # for its history, without messages of nodes
    facts: Mapping[str, Any] = {}  # what the cause tells; `Transition.takes` are such facts
    at: str = ""  # the time, UTC
    now: float = 0.0  # the time of the monotonic clock
    place: Place = Place()
    moves: int | None = None  # the attempt that it belongs to; None: to whichever there is
    state: State | None = None  # the state in which it was decided; None: any
    again: bool = False  # whether it results from a second look
    asked: bool = False  # whether ComfyUI was asked before this look to cancel it
    keep: bool = False  # SAVE_DUE: whether a client is told as soon as this is stored
    stored: bool | None = None  # whether its record could be stored; None: that was not tried
    seen: int = -1  # `RunState.changes` when it was tried


class Effect(NamedTuple):
    do: Do
    event: Event | None = None  # comes back when it is done, changed by the result
    record: RunRecord | None = None  # that is to be stored
    sends: Notification = Notification.NOTHING
    prompt: tuple[str, str] = ("", "")  # a machine, and the id of a prompt there
    failed: bool = False  # ENQUEUE and LEAVE: its execution has failed
    seconds: float | None = None  # LEAVE: the duration of its execution


@dataclass(frozen=True)
class Transition:
    """A row of the table. If ``to`` is None, the state does not change."""

    sources: tuple[State, ...]
    cause: Cause
    to: State | None = None
    saved: Saved = Saved.NEXT
    sends: Notification = Notification.NOTHING
    sets: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    in_story: bool = True


S, C = State, Cause
POSTING = (S.RECEIVED, S.POSTED, S.REQUEUING)  # ComfyUI is being asked to queue it
IN_DOUBT = (S.UNANSWERED, S.UNCONFIRMED)
EXECUTING = (S.RUNNING, S.EXECUTED)
# The outcome is not known.
OPEN = (*POSTING, *IN_DOUBT, S.NEEDING, S.WAITING, S.QUEUED, *EXECUTING)
UNFINISHED = (*OPEN, S.ENDING, S.UPLOADING)
OVER = (S.ENDED, S.DROPPED)

_IN_LINE, _UPLOADS = (*IN_DOUBT, S.QUEUED), (S.ENDING, S.UPLOADING)
_KNOWN, _LOST = (S.QUEUED, S.RUNNING, S.UPLOADING), (S.QUEUED, *IN_DOUBT)
_NOT_TAKEN = (S.RECEIVED, S.POSTED, *_IN_LINE)  # a machine may turn out not to have it

_GAP, _SUCCESS = {"events_complete": False}, {"success_reported": True}
_ANEW = {"was_next": False, "success_reported": False}
_FORGET: Mapping[str, Any] = {
    **dict.fromkeys(("number", "missed_at", "comfyui_exit")),
    "node_errors": {},
    **_ANEW,
}
_NOT_BEGUN: Mapping[str, Any] = {
    **dict.fromkeys(("started_at", "finished_at", "execution_time")),
    "outputs": {},
    "cached_nodes": [],
}
_UNDO = {**_FORGET, **_NOT_BEGUN}

_ANSWER, _OUTCOME, _EXIT = ("number", "node_errors"), ("outcome",), ("comfyui_exit", "was_next")
_SENT_TO, _BACK = ("machine", "session", "events_complete"), ("machine", "attempts")
_RETURNS, _RETRIES = (*_BACK, "comfyui_id"), (*_BACK, "retry")
_AGAIN = ("session", "attempts", "events_complete", "comfyui_id")
_FILLED: Mapping[str, Any] = {"waiting_for": None}
_TO_POOL, _TO_MACHINE = ("files", "file_hashes"), ("session", "events_complete")
AWAITED, SOON, FIRST = Saved.AWAITED, Saved.SOON, Notification.FIRST
CANCELLING, CLOSED, END = Notification.CANCELLING, Notification.CLOSED, Notification.END

TRANSITIONS = (
    Transition((S.RECEIVED,), C.RECEIVED),
    Transition((S.RECEIVED,), C.STORED, S.POSTED),
    Transition((S.RECEIVED,), C.NOT_STORED, S.DROPPED, sends=CLOSED, takes=_OUTCOME),
    Transition((S.RECEIVED, S.POSTED), C.NOT_IN_TIME, sets={"id_returned": True}),
    Transition((S.RECEIVED, S.POSTED), C.NOT_SENT, S.DROPPED, sends=CLOSED, takes=_OUTCOME),
    Transition((S.REQUEUING,), C.NOT_SENT, S.QUEUED, sets=_GAP),
    Transition(POSTING, C.REFUSED, S.ENDING, takes=_OUTCOME),
    Transition(POSTING, C.NOT_ANSWERED, S.UNANSWERED, sets={**_GAP, "missed_at": None}),
    Transition(POSTING, C.ACCEPTED, S.QUEUED, SOON, FIRST, takes=_ANSWER),
    # An event was received before ComfyUI's answer: it is emitted after the answer.
    Transition((S.POSTED, S.REQUEUING), C.EXECUTION_STARTED, S.RUNNING, SOON),
    Transition((S.POSTED, S.REQUEUING), C.EXECUTION_SUCCEEDED, S.EXECUTED, sets=_SUCCESS),
    Transition(EXECUTING, C.ACCEPTED, None, SOON, FIRST, takes=_ANSWER),
    Transition(EXECUTING, C.NOT_ANSWERED, sends=FIRST, sets=_GAP),
    # Runs that need outputs of other runs.
    Transition((S.RECEIVED,), C.NEEDS, S.NEEDING, AWAITED, FIRST),
    Transition((S.NEEDING,), C.NEED_ENDED, None, SOON, takes=("waiting_for",)),
    Transition((S.NEEDING,), C.INPUTS_THERE, S.WAITING, AWAITED, sets=_FILLED, takes=_TO_POOL),
    Transition((S.NEEDING,), C.DUE, S.REQUEUING, AWAITED, sets=_FILLED, takes=_TO_MACHINE),
    # Runs of pools.
    Transition((S.RECEIVED,), C.NO_ROOM, S.WAITING, AWAITED, FIRST),
    Transition((S.WAITING,), C.ASSIGNED, S.POSTED, AWAITED, sets=_FORGET, takes=_SENT_TO),
    Transition(_NOT_TAKEN, C.RETURNED, S.WAITING, AWAITED, FIRST, _FORGET, _RETURNS),
    Transition((S.RUNNING,), C.RETRIED, S.WAITING, AWAITED, sets=_UNDO, takes=_RETRIES),
    Transition((S.RUNNING,), C.MOVED, S.WAITING, AWAITED, sets=_UNDO, takes=_BACK),
    Transition((S.WAITING, S.QUEUED), C.REORDERED, None, AWAITED, sets=_GAP, takes=("front",)),
    Transition((S.UNCONFIRMED,), C.RECOVERED, saved=AWAITED),
    Transition((S.NEEDING, S.WAITING, *_KNOWN), C.RECOVERED, None, AWAITED, FIRST),
    Transition(IN_DOUBT, C.NOT_FOUND, takes=("missed_at",)),
    Transition(IN_DOUBT, C.FOUND_QUEUED, S.QUEUED, SOON, FIRST),
    Transition(_IN_LINE, C.FOUND_EXECUTING, S.RUNNING, SOON, FIRST),
    Transition(_IN_LINE, C.EXECUTION_STARTED, S.RUNNING, SOON, FIRST),
    Transition(_IN_LINE, C.EXECUTION_SUCCEEDED, S.EXECUTED, sends=FIRST, sets=_SUCCESS),
    Transition((S.RUNNING,), C.EXECUTION_SUCCEEDED, S.EXECUTED, sets=_SUCCESS),
    Transition(_LOST, C.QUEUED_ANEW, S.REQUEUING, AWAITED, sets=_ANEW, takes=_AGAIN),
    Transition(EXECUTING, C.EVENT_SKIPPED, sets=_GAP),
    Transition(UNFINISHED, C.RELEASED, in_story=False),
    Transition(UNFINISHED, C.CONNECTION_LOST, sets=_GAP, takes=("was_next",)),
    Transition(UNFINISHED, C.CONNECTED),
    Transition(UNFINISHED, C.COMFYUI_ENDED, sets=_GAP, takes=_EXIT),
    Transition(OPEN, C.CANCEL_REQUESTED, None, AWAITED, CANCELLING, sets={"cancelling": True}),
    Transition(OPEN, C.CANCEL_NOT_STORED, sends=CANCELLING, sets={"cancelling": False}),
    Transition((S.EXECUTED,), C.COMPLETE, S.ENDING, takes=_OUTCOME),
    Transition(OPEN, C.FOUND_IN_HISTORY, S.ENDING, takes=_OUTCOME),
    Transition(OPEN, C.WITHDRAWN, S.ENDING, takes=_OUTCOME),
    Transition(OPEN, C.LOST, S.ENDING, takes=_OUTCOME),
    Transition(_UPLOADS, C.UPLOADS_QUEUED, S.UPLOADING, AWAITED, Notification.UPLOADING),
    Transition(_UPLOADS, C.UPLOADS_ENDED, S.ENDING, takes=_OUTCOME),
    Transition((S.ENDING,), C.OUTPUTS_LOST, takes=_OUTCOME),
    Transition((S.ENDING,), C.END_STORED, S.ENDED, AWAITED, END, in_story=False),
    Transition((S.ENDING,), C.END_NOT_STORED, S.ENDED, sends=END, in_story=False),
)
TABLE = {(source, row.cause): row for row in TRANSITIONS for source in row.sources}

# The status that belongs to a state; other states do not change the status.
STATUS = {
    **dict.fromkeys((S.WAITING, S.QUEUED, S.REQUEUING), "queued"),
    S.RUNNING: "running",
}
# The state of a recovered run, by the status that another process stored in its record.
RECOVERED = {
    "not-started": S.UNCONFIRMED,
    "waiting": S.WAITING,  # status `queued`, but no machine has it
    "needing": S.NEEDING,  # status `not-started`
    **{state.value: state for state in _KNOWN},
}
# Facts that are fields of the record.
STORED = frozenset(
    {
        *("number", "node_errors", "cancelling", "session", "attempts"),
        *("machine", "comfyui_id", "retry", "front", *_NOT_BEGUN),
        *("files", "file_hashes", "waiting_for"),
    }
)
_SENT = (*IN_DOUBT, S.POSTED, S.REQUEUING)  # ComfyUI may still receive it
_SAVE_SOON = Effect(Do.SAVE_SOON)


class RunState:
    """The state of a run, its record, and what is known about it beside the record.

    ``live_status`` has the names of its nodes and the one that executes. ``new_id`` draws the id of
    its prompt in ComfyUI when it needs another one.
    """

    def __init__(
        self,
        record: RunRecord,
        live_status: LiveStatus,
        *,
        state: State = State.RECEIVED,
        events_complete: bool = True,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.record = record
        self.prompt_id = record.prompt_id
        self.live_status = live_status
        self.state = state
        self.outcome: RunRecord | None = None  # the record of its end while that is being stored
        # Whether all its events are received; if not, ComfyUI's history has its end and outputs.
        self.events_complete = events_complete
        self.id_returned = False  # a client has received its id before ComfyUI has answered
        self.success_reported = False  # ComfyUI has reported success, but may not have finished it
        self.error_told = False  # whether followers know that its execution has failed
        self.missed_at: float | None = None  # monotonic time at which ComfyUI first did not have it
        self.was_next = False  # it was next in the queue when the connection was lost
        self.comfyui_exit: str | None = None  # how the ComfyUI that had it exited, if known
        self.keys: dict[str, str] = {}  # keys of a Comfy account; never stored
        self.is_answered = state is not State.RECEIVED  # ComfyUI is not being asked to queue it
        self.is_released = False  # ComfyUI has finished all work on it, or events cannot show that
        self.began_at: float | None = None  # monotonic time
        self.moves = 0  # how often it was sent or taken back: what was seen before is outdated then
        self.changes = 0  # of the record, and writes of it: what was stored before is outdated then
        self.due = False  # whether its state is to be stored soon
        self._new_id = new_id
        self._next_id: tuple[str, str] = ("", "")
        self._enter()

    @property
    def comfyui_id(self) -> str:
        return self.record.comfyui_id

    @property
    def ending(self) -> bool:
        """Whether the outcome of its execution is known."""
        return self.state not in OPEN

    @property
    def posting(self) -> bool:
        """Whether ComfyUI is being asked to queue it."""
        return not self.is_answered

    @property
    def awaits_release(self) -> bool:
        """Whether its last event will follow."""
        return self.success_reported and self.events_complete and not self.is_released

    @property
    def may_be_repeated(self) -> bool:
        """Whether it may be executed again, by its pool, if it is lost while it executes."""
        record = self.record
        return self.state is State.RUNNING and record.retry > 0 and record.pool is not None

    @property
    def should_be_queued(self) -> bool:
        """Whether ComfyUI's queue should contain it."""
        # A run that has succeeded leaves the queue shortly before ComfyUI sends its last event.
        has_left = self.state is State.EXECUTED and self.events_complete
        told = self.state not in (*POSTING, *IN_DOUBT) and self.is_answered
        return told and not self.ending and not has_left

    def handle(self, event: Event) -> list[Effect]:
        """Let an event change the state, and return what is to be done."""
        changes = self.changes
        outdated = event.moves not in (None, self.moves) or event.state not in (None, self.state)
        effects = [] if outdated else _DECISIONS.get(event.cause, RunState._make)(self, event)
        abandoned = event.stored and not effects and changes == self.changes and not self.ending
        if abandoned and event.cause is not C.CANCEL_REQUESTED:
            # The transition that was stored is not made: the store gets the present state again.
            return self._save_soon()
        return effects

    # -- transitions -------------------------------------------------------------------------

    def _make(self, event: Event) -> list[Effect]:
        """Make the transition of an event, if the table has one from the present state."""
        row = TABLE.get((self.state, event.cause))
        if row is None:
            return []
        record = self._after(row, event)
        for name, value in {**row.sets, **event.facts}.items():
            if name not in STORED:
                setattr(self, name, value)
        self.state = row.to or self.state
        self.changes += 1
        if self.state is State.ENDING:
            self.outcome = record
        else:
            self.record, self.outcome = record, None
        if row.to is not None:
            self._enter()
        if event.cause in (C.ACCEPTED, C.NOT_ANSWERED):
            self.is_answered = True
        elif event.cause in (C.RELEASED, C.CONNECTION_LOST, C.COMFYUI_ENDED):
            self.is_released = True
        effects = []
        if event.stored:
            self.due = False
        elif row.saved is Saved.SOON and not self.ending:
            effects = self._save_soon()
        if row.to is State.RUNNING:
            self.began_at = event.now
            effects.append(Effect(Do.BEGUN))
        if row.sends is not Notification.NOTHING and row.to not in OVER:
            effects.append(Effect(Do.SEND, sends=row.sends))
        return effects

    def _after(self, row: Transition, event: Event) -> RunRecord:
        """Return the record as it will be after a transition."""
        facts = event.facts
        assert facts.keys() <= {*row.takes}, f"{row.cause.name} takes no {[*facts]}"
        record: RunRecord = facts.get("outcome") or self.outcome or self.record
        changes: dict[str, Any] = {
            name: value.copy() if isinstance(value, (dict, list)) else value
            for name, value in {**row.sets, **facts}.items()
            if name in STORED
        }
        if row.to is State.RUNNING:
            changes["started_at"] = not_before(record.created_at, moment=event.at)
        if row.to in STATUS:
            changes["status"] = STATUS[row.to]
        if row.in_story:
            reached = record.status if row.to is State.ENDING else (row.to or self.state).value
            changes["story"] = [*record.story]
            detail = hide(event.detail, self.keys.values())
            add_entry(changes["story"], row.cause.value, reached, detail, event.at)
        return record.changed(**changes)

    def _enter(self) -> None:
        """Note what belongs to the present state."""
        self.moves += self.state in (State.POSTED, State.REQUEUING, State.WAITING)
        if self.state in (State.POSTED, State.REQUEUING):
            self.is_answered = self.is_released = False
        elif self.state not in (*POSTING, *EXECUTING):
            self.is_answered = True
        if self.state in (State.WAITING, State.REQUEUING):
            self.began_at, self.error_told = None, False

    def _store_first(self, event: Event) -> list[Effect]:
        """Let the record be stored as it will be after a transition, before it is made."""
        row = TABLE.get((self.state, event.cause))
        if row is None:
            return []
        record = self._after(row, event)
        event = event._replace(
            moves=self.moves if event.moves is None else event.moves,
            stored=None,
            seen=self.changes,
        )
        return [Effect(Do.STORE, event, record)]

    def _is_stored(self, event: Event) -> bool:
        """Return whether nothing was changed since the record of a transition was stored."""
        return bool(event.stored) and event.seen == self.changes

    def _is_tried(self, event: Event) -> bool:
        """Return the same for a transition that is made also if it could not be stored."""
        return event.stored is False or self._is_stored(event)

    def _save_soon(self) -> list[Effect]:
        self.due = True
        return [_SAVE_SOON]

    def _save_due(self, event: Event) -> list[Effect]:
        if not self.due or self.state in OVER or (self.ending and not event.keep):
            return []  # the end is stored instead; that may fail, so it remains due for readers
        self.due = False
        self.changes += 1  # this may be stored after a later state that is being stored now
        return [Effect(Do.SAVE, record=self.record)]

    # -- a new run ---------------------------------------------------------------------------

    def _no_room(self, event: Event) -> list[Effect]:
        if not self._is_tried(event):
            return self._store_first(event)
        return [*self._make(event), Effect(Do.ENQUEUE, event)]

    # -- outputs of other runs ---------------------------------------------------------------

    def _needs(self, event: Event) -> list[Effect]:
        if not self._is_tried(event):
            return self._store_first(event)
        return [*self._make(event), self._inputs_due()]

    def _inputs_due(self) -> Effect:
        return Effect(Do.LOOK if self.record.waiting_for else Do.FILL)

    def _need_ended(self, event: Event) -> list[Effect]:
        """Note that a run has ended whose output it needs; the detail says how, if it failed."""
        ended, waiting = event.facts, self.record.waiting_for or []
        if self.state is not State.NEEDING or ended["run"] not in waiting:
            return []
        if ended["status"] == "cancelled" and self.record.cancel_with:
            return self._withdraw(event, event.detail)
        if ended["status"] != "success":
            return self._fail(event, event.detail, kind="InputFailed")
        left = [run for run in waiting if run != ended["run"]]
        effects = self._make(event._replace(facts={"waiting_for": left}))
        return effects if left else [*effects, self._inputs_due()]

    def _inputs_there(self, event: Event) -> list[Effect]:
        """Let the queue of its pool or its machine have it; if that is not stored, it waits."""
        if self.state is not State.NEEDING or event.stored is False:
            return []
        if self.record.cancelling:
            return self._withdraw(event)
        if not self._is_stored(event):
            return self._store_first(event)
        effects = [*self._make(event), Effect(Do.MOVE)]
        if event.cause is C.INPUTS_THERE:
            return [*effects, Effect(Do.ENQUEUE, event)]
        return [*effects, Effect(Do.FOLLOW), Effect(Do.POST)]

    def _assigned(self, event: Event) -> list[Effect]:
        if self.state is not State.WAITING:
            return []  # it was cancelled in the meantime
        if self.record.cancelling or event.stored is False:  # it ends now, or that is not stored
            return [Effect(Do.TRY_LATER)]
        if not self._is_stored(event):
            return self._store_first(event)
        return [*self._make(event), Effect(Do.MOVE), Effect(Do.POST)]

    def _accepted(self, event: Event) -> list[Effect]:
        # If both processes exit before this is stored, the run is queued again.
        return self._make(event) + self._when_answered(event)

    def _not_answered(self, event: Event) -> list[Effect]:
        effects = self._make(event) + self._when_answered(event)
        if self.state is State.UNANSWERED and self.record.pool is None:
            effects.append(Effect(Do.SEARCH, self._seen(event)))
        return effects

    def _when_answered(self, event: Event) -> list[Effect]:
        """Decide what waited for ComfyUI's answer, which is part of the record."""
        if self.record.pool is not None and not event.place.connected:
            # Its machine may have been removed before it was known as the machine of the run. If
            # it has started again, it may have received the run then: it is asked soon.
            reason = self.comfyui_exit
            if reason is None and not event.place.known:
                reason = f"There is no machine {self.record.machine!r} any more"
            waits = self.state in (State.UNANSWERED, State.QUEUED)
            if reason is not None and (waits or self.may_be_repeated):
                return self._give_back(event, reason)
        if self.is_released and self.state in EXECUTING:
            return self._conclude(event)
        return self._complete_if_over(event)

    def _not_sent(self, event: Event) -> list[Effect]:
        """Decide about a run that is stored, and that ComfyUI cannot have received."""
        if self.state is State.RECEIVED:  # that it is stored is told at the same moment
            self._make(event._replace(cause=C.STORED, detail=""))
        if self.state is State.REQUEUING:
            return self._make(event)
        if self.record.pool is not None:
            if self.state is State.POSTED:
                return [Effect(Do.PAUSE), *self._give_back(event, event.detail)]
            return []
        if self.id_returned or self.record.cancelling:  # a client has its id
            return self._fail(event, event.detail, kind="NotQueued")
        return self._drop(event)

    def _drop(self, event: Event) -> list[Effect]:
        """Remove a run of which no message was sent; everything that waits for it is woken."""
        record = self.record.changed(status="failed", error=_error("NotQueued", event.detail))
        stored = self.state is State.POSTED
        if (self.state, event.cause) not in TABLE:
            return []
        self._make(event._replace(facts={"outcome": record}))
        return [Effect(Do.DROP), *([Effect(Do.DISCARD)] if stored else [])]

    def _refused(self, event: Event) -> list[Effect]:
        elsewhere = event.facts.get("elsewhere")  # why another member may accept it, if one may
        if elsewhere is not None:
            return self._give_back(event, elsewhere)
        error, node_errors = event.facts["error"], event.facts["node_errors"]
        record = self.record.changed(status="failed", error=error, node_errors=node_errors)
        return self._end(event, C.REFUSED, record)

    def _queue_anew(self, event: Event) -> list[Effect]:
        """Queue a run again that ComfyUI has lost, if it has neither started nor ended."""
        if (self.state, C.QUEUED_ANEW) not in TABLE:
            return []
        if self.record.cancelling:
            return self._withdraw(event)
        if event.stored is False:
            return []  # it is looked up again soon
        before = self.comfyui_id
        if not self._is_stored(event):
            facts = {**event.facts, "attempts": self.record.attempts + self.was_next}
            if self.state in IN_DOUBT:
                facts["comfyui_id"] = self._other_id()
            return self._store_first(event._replace(facts=facts))
        effects = self._make(event)
        if self.comfyui_id != before:
            effects.append(Effect(Do.GIVE_UP, prompt=(self.record.machine, before)))
        return [*effects, Effect(Do.MOVE), Effect(Do.RESTART), Effect(Do.POST)]

    def _reordered(self, event: Event) -> list[Effect]:
        """Take a run out of its queue that has not begun, and queue it again as its record says.

        Without its events being complete, ComfyUI counts as having lost it: it is not withdrawn.
        """
        if event.stored is False:
            return []
        if not self._is_stored(event):
            return self._store_first(event)
        effects = self._make(event)
        if self.state is State.WAITING:
            return [*effects, Effect(Do.REORDER, event)]
        return [*effects, Effect(Do.TAKE_BACK, self._seen(event))]

    def _other_id(self) -> str:
        """Return the id that its prompt gets next; the same until it is used."""
        if self._next_id[0] != self.comfyui_id:
            self._next_id = self.comfyui_id, self._new_id()
        return self._next_id[1]

    # -- events of ComfyUI -------------------------------------------------------------------

    def _started(self, event: Event) -> list[Effect]:
        effects = self._make(event)
        if self.record.cancelling and not self.ending:
            # ComfyUI resets its interrupt flag when it starts a prompt (its execution.py).
            effects.append(Effect(Do.INTERRUPT))
        return effects

    def _succeeded(self, event: Event) -> list[Effect]:
        return self._make(event) + self._complete_if_over(event)

    def _released(self, event: Event) -> list[Effect]:
        effects = self._make(event)
        if self.ending:
            return effects
        if self.events_complete:
            effects += self._stop_clock(event)
        return effects + self._conclude(event)

    def _conclude(self, event: Event) -> list[Effect]:
        """Find out how a run ended that ComfyUI has stopped executing."""
        if self.posting or self.ending:
            return []
        if self.state is State.EXECUTED and self.events_complete:
            return self._complete(event)
        return [Effect(Do.OUTCOME, event._replace(moves=self.moves))]

    def _complete_if_over(self, event: Event, *, now: bool = False) -> list[Effect]:
        """End a run that has succeeded: ``now``, or once ComfyUI has answered."""
        if self.state is State.EXECUTED and self.events_complete:
            effects = self._stop_clock(event)
            return effects + self._complete(event) if now or self.is_answered else effects
        return []

    def _note_error(self, _: Event) -> list[Effect]:
        self.error_told = True
        return []

    def _connected(self, event: Event) -> list[Effect]:
        if self.posting:  # the ComfyUI that is there now may be the one that accepts it
            self.comfyui_exit = None
        return self._make(event)

    def _connection_lost(self, event: Event) -> list[Effect]:
        effects = self._complete_if_over(event, now=True)  # only its last event is missing
        return effects + self._make(event)

    def _comfyui_ended(self, event: Event) -> list[Effect]:
        facts, reason = event.facts, event.detail
        if facts["gone"]:
            event = event._replace(place=event.place._replace(leased=True))
        effects = self._complete_if_over(event, now=True)
        exit_facts = {"comfyui_exit": reason, "was_next": facts["was_next"]}
        effects += self._make(event._replace(facts=exit_facts))
        if self.ending:
            return effects
        executes = self.record.status == "running" or self.state is State.EXECUTED
        stranded = facts["gone"] and self.record.pool is None
        if (executes and not self.may_be_repeated) or self.record.cancelling or stranded:
            return effects + self._fail(event, reason, advice=facts["advice"])
        if self.record.pool is not None and not self.posting:
            return effects + self._give_back(event, reason)
        return effects

    # -- findings ----------------------------------------------------------------------------

    def _found(self, event: Event) -> list[Effect]:
        """Decide about a run whose prompt is executing, or is in the queue."""
        effects = self._make(event)
        if self.record.cancelling and not event.asked and not self.ending:
            effects.append(Effect(Do.CANCEL, event._replace(moves=self.moves)))
        return effects

    def _seen(self, event: Event) -> Event:
        """Return an event that is outdated once the run has another state.

        Otherwise a prompt that arrives while ComfyUI is asked for it would count as lost.
        """
        return event._replace(moves=self.moves, state=self.state, stored=None)

    def _missing(self, event: Event) -> list[Effect]:
        """Decide about a run that is not in the queue: it has ended, or it was not there yet."""
        if self.ending or self.posting:
            return []
        if event.again:
            return self._resolve_missing(event)
        return [Effect(Do.HISTORY, self._seen(event))]

    def _not_in_history(self, event: Event) -> list[Effect]:
        # A run that ComfyUI has would be in the queue, or in the history that was requested later.
        # A run in doubt may have been queued, or have started, in the meantime.
        if self.ending or self.posting:
            return []
        if self.state in IN_DOUBT or (self.record.cancelling and not event.asked):
            return [Effect(Do.SEARCH, self._seen(event)._replace(again=True))]
        return self._resolve_missing(event)

    def _found_in_history(self, event: Event) -> list[Effect]:
        if self.ending:
            return []
        entry = event.facts["entry"]
        may_move = self.state is State.RUNNING and not (self.record.cancelling or self.error_told)
        if may_move and event.facts["excused"] and has_failed(entry):
            return self._give_back(event, "Its execution failed", failed=True)
        effects = self._stop_clock(event) if self.events_complete else []
        record = self.record.changed()
        if not self.events_complete:
            # Events may have been received late: the times in ComfyUI's history are more exact.
            record.started_at = record.finished_at = record.execution_time = None
        read_history(record, hide(entry, self.keys.values()) if self.keys else entry)
        record.started_at = record.started_at or self.record.started_at or record.created_at
        return effects + self._end(event, C.FOUND_IN_HISTORY, record)

    def _resolve_missing(self, event: Event) -> list[Effect]:
        """Decide about a run that ComfyUI does not have."""
        effects: list[Effect] = []
        if self.state in IN_DOUBT:
            if self.missed_at is None:
                found = event._replace(cause=C.NOT_FOUND, facts={"missed_at": event.now})
                effects = self._make(found)
            missed_at = event.now if self.missed_at is None else self.missed_at
            if event.now - missed_at <= min(GRACE, event.place.patience):
                return effects  # it may still be queued
        return effects + self._lost(event)

    def _lost(self, event: Event) -> list[Effect]:
        record = self.record
        if self.state is State.EXECUTED and self.events_complete:
            return self._complete(event)
        if self.may_be_repeated and not record.cancelling:
            return self._give_back(event, LOST)
        if self.state in EXECUTING:
            return self._fail(event, LOST)
        if record.pool is not None and not self.events_complete:
            return self._give_back(event, LOST)
        if record.batch is None:  # its client has no answer, and may send it again
            if self.state is State.UNCONFIRMED and not record.needs:
                reason = "ComfyUI does not have the run: Jupyter stopped while it was handed over"
                return self._fail(event, reason, kind="NotQueued")
            if record.status == "not-started":
                return self._fail(event, "ComfyUI did not accept the run", kind="NotQueued")
        if self.events_complete or record.cancelling:
            return self._withdraw(event)
        failure = self._why_not_again()
        if failure is not None:
            return self._fail(event, failure)
        return [Effect(Do.READ_GRAPH, event._replace(moves=self.moves))]

    def _away(self, event: Event) -> list[Effect]:
        """Its ComfyUI is disconnected, or does not answer: give the run up if it is for too long.

        Events count as answers, except for a run that ComfyUI is not known to have received.
        """
        if self.posting or self.ending:
            return []
        facts = event.facts
        # One that has succeeded may not have been seen to start; no other machine can get it.
        urgent = self.state in EXECUTING or self.record.cancelling
        if facts["ended"] and urgent:
            return self._fail(event, REFUSES, advice=facts["advice"])
        if facts["ended"] and self.record.pool is not None:
            return self._give_back(event, REFUSES)
        since: float = facts["since"]
        if event.place.connected and self.state is not State.UNANSWERED:
            since = max(since, facts["heard"])
        away, hangs = event.now - since, facts["hangs"]
        if away <= facts["lost_after" if urgent and not hangs else "gone_after"]:
            return []
        what = "has not answered" if event.place.connected else "has been unreachable"
        advice = HANGS if hangs else facts["advice"]
        return self._fail(event, f"ComfyUI {what} for {away:.0f} s", advice=advice)

    def _recovered(self, event: Event) -> list[Effect]:
        """Decide about a run of a server that has exited, which is stored as recovered."""
        if not self._is_stored(event):
            return self._store_first(event)
        record, place = self.record, event.place
        gone = f"There is no machine {record.machine!r} any more"
        effects = self._make(event)
        if self.state is State.UPLOADING:
            return [*effects, Effect(Do.UPLOAD)]
        if self.state is State.NEEDING and record.cancelling:
            return effects + self._withdraw(event)
        if self.state is State.NEEDING:
            return [*effects, self._inputs_due()]
        if place.pool is None and (not place.known or record.waits):
            return effects + self._fail(event, gone)
        if self.state is State.WAITING:
            end = self._withdraw(event) if record.cancelling else [Effect(Do.ENQUEUE)]
            return effects + end
        effects.append(Effect(Do.FOLLOW))
        if not place.known and place.pool == "pool":
            return effects + self._give_back(event, gone)
        return effects

    # -- cancellations -----------------------------------------------------------------------

    def _cancel_requested(self, event: Event) -> list[Effect]:
        if event.stored is None:
            effects = self._make(event)
            ours = event._replace(seen=self.changes)
            return [*effects, Effect(Do.STORE, ours, self.record)] if effects else []
        if event.stored:
            return []
        return self._make(event._replace(cause=C.CANCEL_NOT_STORED))

    def _cancel_due(self, event: Event) -> list[Effect]:
        """Carry a cancellation out once ComfyUI has answered whether it accepts the run."""
        if self.ending or self.posting or not self.record.cancelling:
            return []
        waits = self.state in (State.NEEDING, State.WAITING)
        if waits or not event.place.known or event.place.dead:
            return self._withdraw(event)
        if not event.place.connected or self.state in IN_DOUBT:
            return []  # ComfyUI is asked when it is back, or has it
        return [Effect(Do.CANCEL, event._replace(moves=self.moves))]

    def _cancel_sent(self, event: Event) -> list[Effect]:
        if self.ending or self.record.status == "running":
            return []  # ComfyUI's history will have its end
        return [Effect(Do.SEARCH, self._seen(event)._replace(asked=True))]

    # -- runs of pools -----------------------------------------------------------------------

    def _give_back(self, event: Event, reason: str, *, failed: bool = False) -> list[Effect]:
        """Put a run into the queue of its pool again that its machine does not have.

        If its machine may still receive the request to queue it, the prompt gets another id, and
        the old one is deleted there when it arrives. With ``failed``, its execution has failed on a
        machine that is paused.
        """
        why = self._why_not_again()
        if why is not None:
            return self._fail(event, why)
        pool = self.record.pool
        if pool is None or event.place.pool is None:
            return self._fail(event, f"{reason}, and there is no pool {pool!r} any more")
        blamed = self.was_next and self.state not in POSTING
        facts: dict[str, Any] = {"machine": pool, "attempts": self.record.attempts + blamed}
        cause = C.RETURNED
        if failed:
            cause = C.MOVED
        elif self.state is State.RUNNING:
            cause, facts["retry"] = C.RETRIED, self.record.retry - 1
        elif self.state in IN_DOUBT:
            facts["comfyui_id"] = self._other_id()
        if (self.state, cause) not in TABLE:
            return []
        return self._return(
            event._replace(
                cause=cause,
                detail=reason,
                facts=facts,
                moves=self.moves,
                state=self.state,
                stored=None,
            )
        )

    def _return(self, event: Event) -> list[Effect]:
        if self.record.cancelling:
            return self._withdraw(event)
        if not self._is_tried(event):
            return self._store_first(event)
        machine, prompt = self.record.machine, self.comfyui_id
        effects = self._make(event)
        if self.comfyui_id != prompt:
            effects.append(Effect(Do.GIVE_UP, prompt=(machine, prompt)))
        enqueued = Effect(Do.ENQUEUE, event, failed=event.cause is C.MOVED)
        return [*effects, Effect(Do.MOVE), Effect(Do.RESTART), enqueued]

    def _why_not_again(self) -> str | None:
        """Return why a run that ComfyUI has lost fails; None if it may be queued again.

        It fails if it was the next one each time that ComfyUI exited, `MAX_ATTEMPTS` times. A run
        that ComfyUI has not received was not.
        """
        if not self.was_next or self.state in POSTING or self.record.attempts < MAX_ATTEMPTS:
            return None
        ended = self.comfyui_exit or "ComfyUI ended"
        return f"{ended}, {self.record.attempts} times when the run was about to begin"

    # -- the end -----------------------------------------------------------------------------

    def _complete(self, event: Event) -> list[Effect]:
        """End a run whose success ComfyUI has reported, and of which no event is missing."""
        effects = self._stop_clock(event)
        return effects + self._end(event, C.COMPLETE, self.record.changed(status="success"))

    def _withdraw(self, event: Event, detail: str = "") -> list[Effect]:
        """End a run that was cancelled before ComfyUI executed it."""
        return self._end(event, C.WITHDRAWN, self.record.changed(status="cancelled"), detail)

    def _fail(
        self, event: Event, reason: str, *, kind: str = "ComfyUIEnded", advice: str | None = None
    ) -> list[Effect]:
        """End a run of which nothing more will be received; ``advice`` names cause and remedy."""
        if (self.state, C.LOST) not in TABLE:
            return []
        effects = self._stop_clock(event)
        if self.record.cancelling:
            return effects + self._end(
                event, C.LOST, self.record.changed(status="cancelled"), reason
            )
        node = self.live_status.current_node
        name = self.live_status.name(node) if node is not None else None
        where = f" while {name.title} was executing" if name is not None else ""
        message = f"{reason}{where}{f': {advice}' if advice else ''}"
        error = _error(kind, message, node, name.class_type if name is not None else None)
        record = self.record.changed(status="failed", error=error)
        return effects + self._end(event, C.LOST, record, reason)

    def _fail_now(self, event: Event) -> list[Effect]:
        return self._fail(event, event.detail, kind=event.facts["kind"])

    def _stop_clock(self, event: Event) -> list[Effect]:
        """Set the time at which the run ended and its duration, on the first call only."""
        record = self.record
        if record.finished_at is not None:
            return []
        record.finished_at = not_before(record.created_at, record.started_at, moment=event.at)
        if self.began_at is not None and record.execution_time is None:
            record.execution_time = round(event.now - self.began_at, 4)
        return [Effect(Do.STOPPED)]

    def _end(self, event: Event, cause: Cause, record: RunRecord, detail: str = "") -> list[Effect]:
        """Let the end of a run be stored, which is then reported. Only the first end counts."""
        if (self.state, cause) not in TABLE:
            return []
        record.waiting_for = None
        error = self.live_status.with_culprit(record.error or {})
        if error:
            record.error = error
        title = self.live_status.title(str(error.get("node_id")))
        if title is not None:
            record.error = {**error, "node_title": title}
        if record.status == "success" and event.place.uploads:
            record = record.changed(status="uploading", finished_at=None)
        elif record.error is not None and not detail:
            detail = str(record.error.get("type"))
        effects = []
        if self.state in _SENT and cause not in (C.FOUND_IN_HISTORY, C.REFUSED):
            effects.append(Effect(Do.GIVE_UP, prompt=(self.record.machine, self.comfyui_id)))
        succeeded = record.status in ("success", "uploading")
        failed = self.record.status == "running" and record.status == "failed"
        ended = Event(cause, detail, {"outcome": record}, event.at, event.now)
        effects += self._make(ended)
        seconds = record.execution_time if succeeded else None
        effects.append(Effect(Do.LEAVE, seconds=seconds, failed=failed))
        if succeeded and event.place.leased:
            return [*effects, Effect(Do.KEEP_OUTPUTS)]
        return effects + self._after_execution(event)

    def _after_execution(self, event: Event) -> list[Effect]:
        """Upload the outputs, then store the end; the uploads may take long."""
        if self.outcome is not None and self.outcome.status == "uploading":
            return [Effect(Do.UPLOAD)]
        return self._store_end(event)

    def _outputs_lost(self, event: Event) -> list[Effect]:
        error = _error("OutputsLost", event.detail)
        return self._end_with(event._replace(detail=""), error)

    def _uploads_queued(self, event: Event) -> list[Effect]:
        """Its uploads can be cancelled, and none of them has begun."""
        return self._make(event) if self._is_tried(event) else self._store_first(event)

    def _uploads_ended(self, event: Event) -> list[Effect]:
        return self._end_with(event, event.facts["error"])

    def _end_with(self, event: Event, error: dict[str, Any] | None) -> list[Effect]:
        status = "success" if error is None else "failed"
        record = (self.outcome or self.record).changed(status=status, error=error)
        self._make(event._replace(facts={"outcome": record}))
        return self._store_end(event) if self.state is State.ENDING else []

    def _store_end(self, event: Event) -> list[Effect]:
        record = self.outcome
        assert record is not None
        created, started = record.created_at, record.started_at
        if started is not None:
            record.started_at = started = not_before(created, moment=started)
        moment = record.finished_at or event.at
        record.finished_at = not_before(created, started, moment=moment)
        return [Effect(Do.STORE_END, event._replace(facts={}), record)]

    def _ended(self, event: Event) -> list[Effect]:
        if self.state is not State.ENDING:
            return []
        self._make(event)
        return [Effect(Do.END)]


_DECISIONS: Mapping[Cause, Callable[[RunState, Event], list[Effect]]] = {
    C.SAVE_DUE: RunState._save_due,
    C.NO_ROOM: RunState._no_room,
    C.NEEDS: RunState._needs,
    C.NEED_ENDED: RunState._need_ended,
    C.INPUTS_THERE: RunState._inputs_there,
    C.DUE: RunState._inputs_there,
    C.ASSIGNED: RunState._assigned,
    C.ACCEPTED: RunState._accepted,
    C.NOT_ANSWERED: RunState._not_answered,
    C.NOT_SENT: RunState._not_sent,
    C.NOT_STORED: RunState._drop,
    C.REFUSED: RunState._refused,
    C.QUEUED_ANEW: RunState._queue_anew,
    C.REORDERED: RunState._reordered,
    C.EXECUTION_STARTED: RunState._started,
    C.EXECUTION_SUCCEEDED: RunState._succeeded,
    C.RELEASED: RunState._released,
    C.ERROR_TOLD: RunState._note_error,
    C.CONNECTED: RunState._connected,
    C.CONNECTION_LOST: RunState._connection_lost,
    C.COMFYUI_ENDED: RunState._comfyui_ended,
    C.FOUND_QUEUED: RunState._found,
    C.FOUND_EXECUTING: RunState._found,
    C.FOUND_IN_HISTORY: RunState._found_in_history,
    C.MISSING: RunState._missing,
    C.NOT_IN_HISTORY: RunState._not_in_history,
    C.AWAY: RunState._away,
    C.RECOVERED: RunState._recovered,
    C.CANCEL_REQUESTED: RunState._cancel_requested,
    C.CANCEL_DUE: RunState._cancel_due,
    C.CANCEL_SENT: RunState._cancel_sent,
    **dict.fromkeys((C.RETURNED, C.RETRIED, C.MOVED), RunState._return),
    C.LOST: RunState._fail_now,
    C.WITHDRAWN: RunState._withdraw,
    C.OUTPUTS_KEPT: RunState._after_execution,
    C.OUTPUTS_LOST: RunState._outputs_lost,
    C.UPLOADS_QUEUED: RunState._uploads_queued,
    C.UPLOADS_ENDED: RunState._uploads_ended,
    C.END_STORED: RunState._ended,
    C.END_NOT_STORED: RunState._ended,
}


def _error(
    kind: str, message: str, node_id: str | None = None, node_type: str | None = None
) -> dict[str, Any]:
    return {"type": kind, "message": message, "node_id": node_id, "node_type": node_type}


def state_of(record: RunRecord) -> State:
    """Return the state of a run that another server has stored."""
    if record.waiting_for is not None:
        return RECOVERED["needing"]
    if record.waits:
        return RECOVERED["waiting"]
    handed = record.pool is not None or record.needs
    if record.status == "queued" and handed and record.number is None:
        # It was handed to a machine; whether that has accepted it was not stored.
        return RECOVERED["not-started"]
    return RECOVERED[record.status]


def next_of(runs: Iterable[RunState]) -> RunState | None:
    """Return the run that ComfyUI may have been about to start when it was lost, or None."""
    runs = [*runs]
    queued = [
        run
        for run in runs
        if run.record.status == "queued" and (run.missed_at is None or run.state not in IN_DOUBT)
    ]
    if not queued or any(run.record.status == "running" for run in runs):
        return None
    return min(queued, key=lambda run: (run.record.number is None, run.record.number))


# -- the history of a run: what happened to it, in order, stored with its record ----------------


def not_before(*earlier: str | None, moment: str | None = None) -> str:
    """Return ``moment`` (default: now), or the latest of ``earlier`` if that is later.

    The clock of this machine may be set back in the meantime, and the clock of a ComfyUI on another
    machine may be slow.
    """
    return max(moment or utc_now(), *(time for time in earlier if time is not None))


def add_entry(story: list[list[str]], cause: str, state: str, detail: str, at: str = "") -> None:
    """Add an entry; if there are too many, drop the oldest but for the first `KEPT_FIRST`."""
    entry = [max(at or utc_now(), story[-1][0] if story else ""), cause, state]
    if detail:
        entry.append(detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…")
    story.append(entry)
    if len(story) > MAX_ENTRIES:
        del story[KEPT_FIRST]


def describe(story: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return a history in the format of the reply to ``GET runs?story=``."""
    return [
        {"at": at, "cause": cause, "state": state, "detail": detail[0] if detail else None}
        for at, cause, state, *detail in story
    ]
