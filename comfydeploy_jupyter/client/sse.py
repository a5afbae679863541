"""Server-sent events, as the HTML standard defines their text format."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Message:
    """One message of an event stream.

    Parameters
    ----------
    data : str
        The ``data`` lines, joined by newlines.
    event : str
        The event type; ``"message"`` if the stream has none.
    id : str or None
        The last id in the stream, which is sent as ``Last-Event-ID`` to reconnect.
    """

    data: str
    event: str = "message"
    id: str | None = None


class SSEParser:
    """Parses the bytes of an event stream, in chunks of any size, into messages."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._line: list[str] = []
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[Message]:
        """Return the messages that are complete with this chunk.

        Parameters
        ----------
        chunk : bytes
            The next bytes of the stream; may end anywhere, also inside a character.

        Returns
        -------
        list of Message
            The messages in their order; often empty.
        """
        text = self._decoder.decode(chunk)
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        if text.endswith("\r"):
            self._after_cr = True
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
            message = Message("\n".join(self._data), self._event or "message", self._id)
            complete = bool(self._data)
            self._data, self._event = [], ""
            return message if complete else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._id = value
        return None
