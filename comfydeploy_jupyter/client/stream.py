"""The events of a run, its progress, and following it over a connection that may break."""

from __future__ import annotations

import base64
import codecs
import io
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import requests

from ..errors import (
    ComfyDeployError,
    ConflictError,
    NotFoundError,
    RunCancelledError,
    RunTimeoutError,
    ServerUnreachableError,
)
from ..util.times import Backoff
from .server import Server, check_timeout, chunks_of, interrupt, loads, send, unreachable

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..graphs.outline import NodeName
    from .graph import Source
    from .results import Result


_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Message:
    """One message of an event stream."""

    data: str
    id: str | None = None


class SSEParser:
    """Parses the bytes of an event stream, in chunks of any size, into messages.

    The types of messages are ignored: their data say what they are.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._line: list[str] = []
        self._after_cr = False
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[Message]:
        """Return the messages that are complete with this chunk."""
        text = self._decoder.decode(chunk)
        if text:
            begin = "\n" if self._after_cr else ""
            self._after_cr = text.endswith("\r")
            text = text.removeprefix(begin)
        *lines, rest = _LINE_END.split(text)
        messages = []
        for line in lines:
            message = self._take("".join([*self._line, line]))
            self._line.clear()
            if message is not None:
                messages.append(message)
        if rest:
            self._line.append(rest)
        return messages

    def _take(self, line: str) -> Message | None:
        if not line:
            data, self._data = self._data, []
            return Message("\n".join(data), self._id) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        return None


FINAL = frozenset({"success", "failed", "cancelled"})


@dataclass(frozen=True)
class Event:
    """One event of a run."""

    event: str
    """``queued`` (the first: ``prompt_id``, ``number``, ``node_errors``), an event of ComfyUI
    (``executing``, ``progress``, ``executed``, …), ``live_status``, ``output_ready``, ``preview``,
    ``result`` (the reply of the run) or ``status`` (the last)."""
    data: dict[str, Any]
    """The content of the event."""
    id: str | None = None
    """Its id in the stream."""

    def __repr__(self) -> str:
        shown = dict(self.data)
        for key, value in shown.items():
            if isinstance(value, str) and len(value) > 200:
                shown[key] = f"<{len(value)} characters>"
        return f"Event({self.event!r}, {shown!r})"

    @property
    def node(self) -> str | None:
        """The id of the node that the event is about, if any."""
        node = self.data.get("node", self.data.get("node_id"))
        return None if node is None else str(node)

    @property
    def is_final(self) -> bool:
        """Whether this is the ``status`` that ends the run."""
        return self.event == "status" and self.data.get("status") in FINAL

    @property
    def image_bytes(self) -> bytes:
        """The picture of a ``preview``, as an encoded file; empty for other events."""
        if self.event != "preview":
            return b""
        return base64.b64decode(str(self.data.get("image", "")))

    @property
    def image(self) -> Image | None:
        """The picture of a ``preview``; None for other events."""
        import PIL.Image

        data = self.image_bytes
        return PIL.Image.open(io.BytesIO(data)) if data else None


@dataclass
class RunProgress:
    """The progress of a run, which is updated with its events.

    Attributes
    ----------
    step, steps : int
        The step of this node and the number of its steps; both 0 if the node reports none.
    iterations : sequence of (int, int)
        Of the loops around this node, the outermost first: the iteration that is executed, and
        their number.
    preview, preview_format : bytes, str
        The last picture of a sampler, as an encoded file, and its format (``jpeg``, ``png``).
    """

    workflow: Source
    status: str = "queued"
    """``queued``, ``running``, ``uploading``, ``success``, ``failed`` or ``cancelled``."""
    fraction: float = 0.0
    """The part of the run that is done, 0 to 1."""
    node: NodeName | None = None
    """The node that runs now."""
    step: int = 0
    steps: int = 0
    iterations: Sequence[tuple[int, int]] = ()
    preview: bytes = b""
    preview_format: str = "jpeg"
    started: float = field(default_factory=time.monotonic)
    """When this client began to follow it, s of `time.monotonic`."""
    ended: float | None = None
    """When it ended, s of `time.monotonic`."""
    version: int = 0
    """A number that grows with each change."""
    result: Result | None = None
    """The result, once the run has ended."""
    waiting_for: Sequence[str] = ()
    """The runs whose outputs it needed, and which had not ended, when it was queued."""
    _left: tuple[float, float] | None = None  # the time left, and when that was reported

    @property
    def time_left(self) -> float | None:
        """How long the run will probably take from now on, s; None if that is not known."""
        if self._left is None or self.ended is not None:
            return None
        left, reported = self._left
        return max(0.0, left - (time.monotonic() - reported))

    @property
    def elapsed(self) -> float:
        """Time since this client began to follow it, or from then to its end, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def feed(self, event: Event) -> None:
        """Update the progress with an event; unknown events are ignored."""
        data = event.data
        match event.event:
            case "queued":
                runs = data.get("waiting_for")
                self.waiting_for = [*map(str, runs)] if isinstance(runs, list) else []
            case "execution_start":
                self.status = "running"
            case "executing":
                self.status = "running"
                self._enter(data.get("display_node") or event.node)
            case "progress":
                if event.node is not None and (self.node is None or self.node.id != event.node):
                    self._enter(event.node)
                self.step, self.steps = _integer(data.get("value")), _integer(data.get("max"))
            case "live_status":
                progress, left = data.get("progress"), data.get("time_left")
                if isinstance(progress, (int, float)):
                    self.fraction = min(1.0, max(self.fraction, float(progress)))
                self._left = (left, time.monotonic()) if isinstance(left, (int, float)) else None
                rounds = data.get("iterations")
                self.iterations = [
                    (_integer(each[0]), _integer(each[1]))
                    for each in (rounds if isinstance(rounds, list) else ())
                    if isinstance(each, list) and len(each) == 2
                ]
            case "preview":
                self.preview = event.image_bytes
                self.preview_format = str(data.get("mime", "image/jpeg")).rpartition("/")[2]
            case "status" if event.is_final:
                self.finish(str(data["status"]))
            case "status":
                self.status = str(data.get("status") or self.status)
            case _:
                return
        self.version += 1

    def finish(self, status: str) -> None:
        """Record the end of the run, or that it is not followed any more."""
        self.status = status
        self.ended = time.monotonic()
        self._enter(None)
        if status == "success":
            self.fraction = 1.0
        self.version += 1

    def _enter(self, node_id: object) -> None:
        self.node = None if node_id is None else self.workflow.name(node_id)
        self.step = self.steps = 0


def _integer(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


SILENCE = 50.0
"""A stream that is silent for longer is broken, s; the server sends something every 15 s."""

PATIENCE = 60.0
"""How long a server may not answer before an error is raised, s; Jupyter can restart in it."""

BACKOFF = Backoff(first=0.1, longest=5.0)
"""Pauses between attempts to join a run again."""


class EventStream(Iterator[Event]):
    """The events of one run, as they arrive; ends after the final ``status``.

    With a ``body``, ComfyUI has accepted the run when the constructor returns. If the connection
    breaks, the stream reconnects and continues after the last event. To stop before the end, leave
    the loop and call `close`; the run continues.
    """

    def __init__(
        self,
        server: Server,
        prompt_id: str,
        *,
        body: dict[str, Any] | None = None,
        previews: bool = False,
        timeout: float | None = None,
    ) -> None:
        check_timeout(timeout)
        self.prompt_id = prompt_id
        self._server = server
        self._previews = previews or bool(body and body.get("previews"))
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._timer: threading.Timer | None = None
        self._last_id: str | None = None
        self._last_received = time.monotonic()
        self._failures = 0  # attempts in a row to reconnect, without a byte
        self._problem: ComfyDeployError | None = None
        self._accepted = body is None
        self._session = server.session()
        self._open(body)
        if self._deadline is not None:
            left = max(0.0, self._deadline - time.monotonic())
            self._timer = threading.Timer(left, self._close_response)
            self._timer.daemon = True
            self._timer.start()
        self._events = self._follow()
        if body is not None:
            self._events = self._from_first(self._events)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def close(self) -> None:
        """Stop following, also from another thread; a ``next`` that waits ends at once."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()
        self._close_response()
        with self._lock:
            if self._response is not None:
                self._response.close()
            self._session.close()

    def _close_response(self) -> None:
        with self._lock:
            if self._response is not None:
                interrupt(self._response)

    def _from_first(self, events: Iterator[Event]) -> Iterator[Event]:
        """Wait for the first event, with which ComfyUI accepts the run; return all events."""
        try:
            return chain([next(events)], events)
        except BaseException:
            self.close()
            raise

    def _open(self, body: dict[str, Any] | None) -> None:
        if body is None:
            self._join()
            return
        try:
            self._use(self._send("POST", self._server.address("run/streaming"), body=body))
        except ConflictError as error:
            raise _refusal(error) from None
        except ServerUnreachableError as error:
            if not error.extra.get("sent"):
                raise
            self._check_deadline()
            # The server may have received the request; then the run can be followed by its id.
            try:
                self._join()
            except NotFoundError:
                raise error from None

    def _join(self) -> None:
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        query = {"prompt_id": self.prompt_id, "previews": "true" if self._previews else None}
        address = self._server.address("run/streaming", query)
        self._use(self._send("GET", address, headers=headers))

    def _send(self, method: str, address: str, **kwargs: Any) -> requests.Response:
        silence = SILENCE
        if self._deadline is not None:
            silence = min(SILENCE, max(0.1, self._deadline - time.monotonic()))
        return send(self._session, method, address, timeout=silence, **kwargs)

    def _use(self, response: requests.Response) -> None:
        with self._lock:
            self._response = response
        # `close` or the timer may have run while there was no connection that they could end.
        if self._closed.is_set():
            self.close()
        elif self._is_late():
            self._close_response()

    def _follow(self) -> Iterator[Event]:
        while True:
            for message in self._messages():
                self._last_id = message.id
                event = _event(message)
                if event is not None:
                    if event.event == "error" and not self._accepted:
                        raise _refusal(ComfyDeployError.from_reply(None, event.data))
                    self._accepted = True
                    yield event
                    # The time in which the consumer handled the event does not count.
                    self._last_received = time.monotonic()
                    if event.is_final:
                        self.close()
                        return
            with self._lock:  # it has ended or is broken
                if self._response is not None:
                    self._response.close()
                self._response = None
            if self._closed.is_set():
                return
            self._check_deadline()
            record: dict[str, Any] = {}
            with self._ignoring_absence():
                record |= self._server.get("check-status", prompt_id=self.prompt_id, timeout=10)
            if record.get("status") in FINAL:
                # The run ended while the connection was broken: its record replaces the events.
                yield Event("result", record)
                yield Event("status", {"prompt_id": self.prompt_id, "status": record["status"]})
                self.close()
                return
            self._wait()
            if self._closed.is_set():
                return
            with self._ignoring_absence():
                self._join()

    def _messages(self) -> Iterator[Message]:
        """Yield the messages that arrive until the connection ends or breaks."""
        response = self._response
        if response is None:
            return
        parser = SSEParser()
        # Without chunked encoding, requests would wait until it has as many bytes as requested.
        chunks = chunks_of(response)
        while True:
            try:
                chunk = next(chunks, None)
            except (requests.RequestException, OSError, AttributeError, ValueError) as error:
                # urllib3 raises the last two when another thread calls `close`.
                self._problem = unreachable(response.url, error)
                return
            if chunk is None:
                return
            self._last_received, self._failures = time.monotonic(), 0
            yield from parser.feed(chunk)

    @contextmanager
    def _ignoring_absence(self) -> Iterator[None]:
        """Ignore that the server does not answer or restarts; raise all other errors.

        A run for which ComfyUI is being started is not known to the server yet; that is ignored,
        too.
        """
        try:
            yield
        except ComfyDeployError as error:
            unknown = isinstance(error, NotFoundError) and not self._accepted
            if error.status < 500 and not unknown:
                raise
            self._problem = error

    def _wait(self) -> None:
        if time.monotonic() - self._last_received > PATIENCE:
            self.close()
            problem = "" if self._problem is None else f": {self._problem}"
            raise ServerUnreachableError(
                f"the run {self.prompt_id} cannot be followed any more{problem}; it may still "
                f"be running: get its state with get({self.prompt_id!r})",
                extra={"prompt_id": self.prompt_id},
            ) from self._problem
        self._failures += 1
        pause = BACKOFF.pause(self._failures)
        if self._deadline is not None:
            pause = min(pause, max(0.0, self._deadline - time.monotonic()))
        self._closed.wait(pause)
        self._check_deadline()

    def _check_deadline(self) -> None:
        if self._is_late():
            self.close()
            raise RunTimeoutError(
                f"the run {self.prompt_id} has not ended after {self._timeout:g} s; it continues",
                extra={"prompt_id": self.prompt_id},
            )

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline


def _refusal(error: ComfyDeployError) -> ComfyDeployError:
    """Return the error for a refused run; one cancelled before it was queued is no conflict."""
    if isinstance(error, ConflictError) and error.details.get("status") == "cancelled":
        return RunCancelledError(error.message, details=error.details)
    return error


def _event(message: Message) -> Event | None:
    try:
        content = loads(message.data)
    except ValueError:
        return None
    match content:
        case {"event": str(name), "data": dict(inner)}:
            return Event(name, inner, message.id)
        case {"prompt_id": _}:
            return Event("queued", content, message.id)
    return None
