"""The WebSocket connection to a ComfyUI, and the events that arrive on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import struct
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import aiohttp

from ..errors import ComfyUIUnavailableError
from ..util import jsons
from ..util.http import text_of
from ..util.jsons import THREAD_ABOVE
from ..util.secrets import clean_url, hide
from ..util.tasks import BackgroundTasks, report, wait_until_set
from ..util.times import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .client import ComfyUIClient

log = logging.getLogger(__name__)

MAX_EVENT = 8 * 1024**2  # bytes of a frame that is parsed: the size limit of the log of a run
MAX_METADATA = 64 * 1024  # bytes of the metadata of a preview, which contain its node and prompt

# How many characters of an event with the states of nodes are always read, and how many a second
# of larger ones, of which one is read at least each so many seconds; see `_says_little`.
SMALL_STATES, STATES_RATE, STATES_INTERVAL = 8 * 1024, 128 * 1024, 5.0

PREVIEW_IMAGE = 1
PROGRESS_TEXT = 3
PREVIEW_IMAGE_WITH_METADATA = 4

_STATES = '{"type": "progress_state"'
_ENDS = frozenset({"execution_success", "execution_error", "execution_interrupted"})
_IMAGE_TYPES = {1: "image/jpeg", 2: "image/png", 3: "image/webp"}
# With this flag ComfyUI sends the node and the prompt of each preview (feature_flags.py).
FEATURE_FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
BACKOFF = Backoff(first=0.05, longest=3.0)  # pauses between attempts to connect
CHECK_TIMEOUT = 5.0  # seconds for the answer to an HTTP request before a socket is opened
TURN = 0.01  # seconds after which frames that wait leave the event loop to others
HEARTBEAT = 20.0  # seconds of silence after which a ping checks whether the connection is closed
PING_INTERVAL, SILENT_AFTER = 1.0, 5.0  # seconds, see `answers`
SUSPECT_AFTER, MAX_SUSPECT_AFTER = 8.0, 300.0  # seconds, see `may_miss_events`
MAX_FRAME = 64 * 1024**2  # bytes; the socket is closed instead of receiving a larger frame


@dataclass(frozen=True)
class Event:
    type: str  # `status`, `execution_start`, `executing`, `progress`, `executed`, …
    data: dict[str, Any] = field(default_factory=dict)  # the data in ComfyUI's format
    size: int = field(default=0, compare=False)  # length of the frame in characters

    @property
    def prompt_id(self) -> str | None:
        found = self.data.get("prompt_id")
        return found if isinstance(found, str) else None

    def renamed(self, prompt_id: str) -> Event:
        """Return the same event with another prompt id at all places where it has one."""
        data = {**self.data, "prompt_id": prompt_id}
        nodes = data.get("nodes")
        if isinstance(nodes, dict):  # ``progress_state`` has the prompt id in each node
            data["nodes"] = {
                node: {**state, "prompt_id": prompt_id}
                if isinstance(state, dict) and "prompt_id" in state
                else state
                for node, state in nodes.items()
            }
        return replace(self, data=data)

    def without(self, secrets: Iterable[str]) -> Event:
        hidden = list(secrets)
        return replace(self, data=hide(self.data, hidden)) if hidden else self

    @property
    def queue_remaining(self) -> int | None:
        """Number of waiting and executing prompts, if the event is a ``status`` with it."""
        found: Any = self.data
        for key in ("status", "exec_info", "queue_remaining"):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int) else None


@dataclass(frozen=True)
class OversizedEvent:
    """A text frame that is too large to be parsed; mostly an event of the executing run."""


@dataclass(frozen=True)
class Preview:
    mime: str  # MIME type, such as `image/jpeg`
    image: bytes
    frame: bytes  # the whole frame as ComfyUI sent it
    # both None in the old format of the frame
    node: str | None = None
    prompt_id: str | None = None

    def renamed(self, prompt_id: str) -> Preview:
        """Return the same preview with another prompt id, also in its frame."""
        if self.prompt_id is None:
            return self
        metadata = jsons.loads(self.frame[8 : len(self.frame) - len(self.image)])
        text = json.dumps({**metadata, "prompt_id": prompt_id}).encode()
        head = struct.pack(">II", PREVIEW_IMAGE_WITH_METADATA, len(text))
        return replace(self, prompt_id=prompt_id, frame=head + text + self.image)


def decode_text(frame: str) -> Event | None:
    """Return the event of a text frame, or None if it is not one of ComfyUI's."""
    try:
        message = jsons.loads(frame)
    except ValueError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    data = message.get("data")
    return Event(message["type"], data if isinstance(data, dict) else {}, len(frame))


def decode_binary(frame: bytes) -> Preview | Event | None:
    """Return the preview or progress text of a binary frame, or None if it is neither.

    A progress text becomes the event ``progress_text`` with ``node`` and ``text``. The result is
    None for a frame larger than `MAX_EVENT`: previews are frequent.
    """
    if len(frame) > MAX_EVENT:
        return None
    try:
        (kind,) = struct.unpack_from(">I", frame)
        if kind == PREVIEW_IMAGE:
            (image_type,) = struct.unpack_from(">I", frame, 4)
            return Preview(_IMAGE_TYPES[image_type], frame[8:], frame)
        if kind == PREVIEW_IMAGE_WITH_METADATA:
            (length,) = struct.unpack_from(">I", frame, 4)
            if length > MAX_METADATA:
                return None
            metadata = jsons.loads(frame[8 : 8 + length])
            return Preview(
                str(metadata["image_type"]),
                frame[8 + length :],
                frame,
                node=str(metadata.get("display_node_id") or metadata["node_id"]),
                prompt_id=str(metadata["prompt_id"]),
            )
        if kind == PROGRESS_TEXT:
            (length,) = struct.unpack_from(">I", frame, 4)
            node = frame[8 : 8 + length].decode()
            text = frame[8 + length :].decode()
            return Event("progress_text", {"node": node, "text": text}, len(frame))
    except (struct.error, LookupError, TypeError, ValueError, AttributeError):
        return None
    return None


class Connection:
    """A WebSocket to ComfyUI that reconnects whenever the connection breaks.

    ComfyUI sends the events of a run only to the client id that queued it, so all runs of one
    ComfyUI are queued with the id of this connection.

    ComfyUI has a table of sockets by client id. When a socket ends, ComfyUI removes the entry of
    its client id, even if the entry is already that of the next socket (ComfyUI, ``server.py``).
    So if a connection broke without being closed, the next socket may be open and receive no
    events. Therefore a new socket is opened only after ComfyUI has answered an HTTP request: by
    then it has usually handled the end of the earlier socket. `may_miss_events` shows when to call
    `reconnect`.
    """

    def __init__(
        self,
        client: ComfyUIClient,
        client_id: str,  # unchanged when it reconnects, so that events of executing prompts arrive
        *,
        on_event: Callable[[Event | Preview | OversizedEvent], None],
        on_connect: Callable[[], None],
        on_disconnect: Callable[[], None],
    ) -> None:
        self._client = client
        self.client_id = client_id
        self._on_event = on_event
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._tasks = BackgroundTasks(log)
        self._socket: aiohttp.ClientWebSocketResponse[Any] | None = None
        self._up = asyncio.Event()
        self._decided = asyncio.Event()  # it is up, or the last attempt was refused
        self._connect_now = asyncio.Event()
        self.last_event_at: float | None = None  # seconds since the epoch
        self.last_heard = time.monotonic()
        self._last_frame = self.last_heard  # also of a reply to a ping
        self.last_executed = self.last_heard  # monotonic time of the last event about a prompt
        self._states_read = -math.inf  # when states of nodes were last read
        self._unread = ""  # the event with the latest ones, if that was not read
        self.queue_remaining: int | None = None  # the last number that ComfyUI sent on this socket
        self.failure: str | None = None
        self.hint: str | None = None  # advice if the server there is not trusted
        self.hangs = False  # the last attempt got no response, and was not refused
        self.refused = False  # ComfyUI answers requests, but the WebSocket was refused
        self._closing = asyncio.Lock()
        self._closing_socket: aiohttp.ClientWebSocketResponse[Any] | None = None
        self._suspect_after: float | None = None  # seconds without a frame, see `may_miss_events`

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @property
    def answers(self) -> bool:
        """Whether ComfyUI has sent anything, or answered a ping, for `SILENT_AFTER` seconds.

        One that executes a node which blocks it is silent, too: it stays connected.
        """
        return time.monotonic() - self._last_frame < SILENT_AFTER

    def start(self) -> None:
        if not self._tasks:
            self._tasks.keep(
                self._run,
                f"The connection to ComfyUI at {clean_url(self._client.url)}",
                again=BACKOFF,
            )

    async def close(self) -> None:
        await self._tasks.close()

    async def wait_connected(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the connection; return whether it is open.

        A WebSocket that is refused while ComfyUI answers requests ends the wait.
        """
        await wait_until_set(self._decided, timeout)
        return self.connected

    def connect_now(self) -> None:
        """Try to connect now instead of waiting for the end of the pause between attempts."""
        if not self.connected:
            self._decided.clear()
        self._connect_now.set()

    @property
    def may_miss_events(self) -> bool:
        """Whether it received no frame for so long that it may get no events (see the class)."""
        return (
            self._suspect_after is not None
            and time.monotonic() - self.last_heard > self._suspect_after
        )

    async def reconnect(self) -> None:
        """Close the socket with a closing handshake and connect again, so that events arrive."""
        socket = self._socket
        if socket is None:
            return
        if self._suspect_after is not None:
            self._suspect_after = min(self._suspect_after * 2, MAX_SUSPECT_AFTER)
        self._closing_socket = socket
        async with self._closing:
            await socket.close()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._connect_now.clear()
            refused = False
            try:
                await self._connect()
                self.hangs = False
            except aiohttp.WSServerHandshakeError as error:
                refused = True
                self.failure, self.hangs = f"its WebSocket is refused (HTTP {error.status})", False
                self.hint = (
                    "Let the proxy in front of ComfyUI forward WebSockets (the path /ws). Until "
                    "then, workflows can be checked and converted, but not run."
                )
            except ComfyUIUnavailableError as error:
                self.failure = error.details.get("reason") or error.message
                self.hangs = bool(error.details.get("hangs"))
                advised = error.details.get("foreign") or error.details.get("field")
                self.hint = error.extra.get("hint") if advised else None
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                self.failure = text_of(error)
                self.hangs = isinstance(error, asyncio.TimeoutError)
            except Exception as error:
                self.failure, self.hangs = f"{type(error).__name__}: {error}", False
                raise
            finally:
                self.refused = refused
                if refused:
                    self._decided.set()
                if self._up.is_set():
                    failures = 0
                    self._socket = None
                    self._up.clear()
                    self._decided.clear()
                    self._on_disconnect()
            failures += 1
            await wait_until_set(self._connect_now, BACKOFF.pause(failures))

    async def _connect(self) -> None:
        """Open a socket and handle its frames until it is closed."""
        async with self._closing:  # the last socket must be closed before the next one is opened
            await self._client.queue_remaining(within=CHECK_TIMEOUT)
        async with self._client.sockets.ws_connect(
            f"{self._client.url}/ws",
            params={"clientId": self.client_id},
            max_msg_size=MAX_FRAME,
            timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
            heartbeat=HEARTBEAT,
            autoping=False,
            compress=0,
        ) as socket:
            await socket.send_str(FEATURE_FLAGS)
            self._client.forget_features()
            self._socket = socket
            self.failure, self.hangs = None, False
            self.last_heard = self._last_frame = time.monotonic()
            self._unread = ""
            self.queue_remaining = None
            self.refused = False
            self._up.set()
            self._decided.set()
            self._on_connect()
            pinging = asyncio.create_task(self._ping(socket))
            try:
                await self._receive(socket)
            finally:
                pinging.cancel()
            self.failure = "ComfyUI closed the connection"
            if socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                self.failure = f"ComfyUI sent more than {MAX_FRAME} bytes in one frame"
                log.warning("%s: %s", clean_url(self._client.url), self.failure)
        closed_properly = (
            socket is self._closing_socket and socket.close_code == aiohttp.WSCloseCode.OK
        )
        if not closed_properly and self._suspect_after is None:
            self._suspect_after = SUSPECT_AFTER

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):  # it has been closed
            while True:
                await asyncio.sleep(PING_INTERVAL)
                if time.monotonic() - self._last_frame >= PING_INTERVAL:
                    await socket.ping()

    def _says_little(self, text: str) -> bool:
        """Return whether an event repeats the states of many nodes, soon after the last such one.

        ComfyUI sends the states of all nodes that ran, for each step of each of them: what that is
        about has events of its own. The last states are read when the execution ends.
        """
        if not text.startswith(_STATES):
            return False
        pause = min(len(text) / STATES_RATE, STATES_INTERVAL)
        soon = self._last_frame - self._states_read < pause
        if len(text) <= SMALL_STATES or not soon:
            self._states_read, self._unread = self._last_frame, ""
            return False
        self._unread = text if len(text) <= MAX_EVENT else ""
        return True

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        others = 0.0  # when others had the event loop: aiohttp returns frames that wait at once
        async for message in socket:
            self._last_frame = time.monotonic()
            if self._last_frame - others > TURN:
                await asyncio.sleep(0)
                others = time.monotonic()
            if message.type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
            if message.type is aiohttp.WSMsgType.TEXT:
                text: str = message.data
                event: Event | Preview | OversizedEvent | None
                if self._says_little(text):
                    self.last_heard = self.last_executed = self._last_frame
                    self.last_event_at = time.time()
                    continue
                event = await _read(text)
                if isinstance(event, Event) and event.type in _ENDS and self._unread:
                    self._handle(await _read(self._unread))
                    self._unread = ""
            elif message.type is aiohttp.WSMsgType.BINARY:
                event = decode_binary(message.data)
            else:
                continue
            self.last_heard = self._last_frame
            self.last_event_at = time.time()
            if isinstance(event, Event) and event.type == "status":
                self.queue_remaining = event.queue_remaining
            elif not isinstance(event, Event) or event.prompt_id is not None:
                self.last_executed = self.last_heard
            self._handle(event)

    def _handle(self, event: Event | Preview | OversizedEvent | None) -> None:
        if event is None:
            log.debug("ComfyUI at %s sent a frame of an unknown kind", self._client.url)
            return
        try:
            self._on_event(event)
        except Exception as error:
            text = "An event of ComfyUI at %s could not be handled"
            report(log, text, self._client.url, error=error)


async def _read(text: str) -> Event | OversizedEvent | None:
    if len(text) > MAX_EVENT:
        return OversizedEvent()
    if len(text) > THREAD_ABOVE:
        return await asyncio.to_thread(decode_text, text)
    return decode_text(text)
