"""JSON in pieces, so that the event loop can run in between, and JSON that stays text.

`worker` has the functions that do this on the event loop, in a thread or in a worker process.
"""

from __future__ import annotations

import heapq
import json
import math
import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

THREAD_ABOVE = 64 * 1024  # bytes of JSON above which it leaves the event loop
PROCESS_ABOVE = 1024 * 1024  # bytes of JSON above which Jupyter's process does not parse a graph
PIECE = 8 * 1024  # characters of JSON that are parsed at once
VALUES = 200  # values that are encoded at once
LEVELS = 12  # levels of objects and arrays that are split; Python's recursion has a limit

in_worker = False  # whether this process has no event loop: then nothing is split

_SIMPLE = frozenset((str, int, float, bool, type(None)))
_NO_NUMBERS = re.compile(r"[\[\]{}\"]")  # a character that is not part of numbers and constants
_SPACE = re.compile(r"[ \t\n\r]*")


class RawJSON:
    """A JSON object, such as a large graph, as text in ASCII; with a ``field`` in UTF-8.

    A parsed graph of 20 MB consists of some hundred thousand Python objects. Jupyter's event loop
    is blocked while these are created, searched by the garbage collector, or freed. A worker
    process (`worker.call`) gets the parsed object instead of the text.

    ``field`` names the field of a request whose text was not parsed yet, for the error that it is
    no JSON.
    """

    __slots__ = ("field", "text")

    def __init__(self, text: bytes, field: str = "") -> None:
        self.text = text
        self.field = field

    def parsed(self) -> Any:
        """Return the object; InvalidRequestError if it is none, which only text with a field is."""
        if not self.field:
            return loads(self.text)
        try:
            return loads(self.text, decoder=decoder())
        except ValueError as error:
            raise InvalidRequestError.of_field(self.field, f"is not JSON: {error}") from None


def is_large(*values: Any) -> bool:
    return any(isinstance(value, RawJSON) for value in values)


# ``NaN`` and ``Infinity``, which Python writes and browsers reject, become None.
_decoder = json.JSONDecoder(parse_constant=lambda _: None)
_encoder = json.JSONEncoder()


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys are unique; for ``object_pairs_hook``."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


def no_constant(name: str) -> Any:
    """Raise for ``NaN`` and ``Infinity``, which JSON does not have; for ``parse_constant``."""
    raise ValueError(f"{name} is not JSON")


def finite(text: str) -> float:
    """Return a finite number; for ``parse_float``. ``1e999`` would be infinite."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


@cache
def decoder(*, unique: bool = False) -> json.JSONDecoder:
    """Return the decoder for the JSON of requests, which accepts only standard JSON."""
    return json.JSONDecoder(
        parse_constant=no_constant,
        parse_float=finite,
        object_pairs_hook=unique_keys if unique else None,
    )


def loads(
    text: bytes | str,
    depth: int = 0,
    leaf: Callable[[Any], Any] | None = None,
    *,
    decoder: json.JSONDecoder = _decoder,
) -> Any:
    """Parse JSON; ValueError if it is not JSON, or nested too deeply. Large text: in a thread.

    Python's parser holds the interpreter lock until it is done, and so blocks the event loop. Here,
    objects and arrays of more than `PIECE` characters are split, and their items are parsed one
    after the other. A text counts as one value. ``leaf`` is called with each value at a ``depth``
    of nesting, and replaces it. By default ``NaN`` and ``Infinity`` become None.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        if leaf is None and (len(text) <= PIECE or in_worker):
            return decoder.decode(text)
        found, end = _Parser(text, decoder, leaf).value(_skip(text, 0), depth if leaf else 0)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _skip(text, end) != len(text):
        raise ValueError(f"there is more text after the end, at {end}")
    return found


def dumps(value: Any, *, encoder: json.JSONEncoder = _encoder) -> str:
    """Return a value as JSON. Call it in a thread if the value is large.

    Python's encoder holds the interpreter lock until it is done, in any thread, and so blocks the
    event loop. Here, objects and arrays of more than `VALUES` values are split, and their items are
    encoded one after the other. A text counts as one value; `RawJSON` is written unchanged.
    """
    parts = _parts(value, encoder, LEVELS)
    return "".join(part if isinstance(part, str) else part.text.decode() for part in parts)


def chunks(value: Any) -> list[bytes]:
    """Return a value as JSON in several chunks; `RawJSON` in it is not copied."""
    pieces: list[bytes] = []
    texts: list[str] = []
    for part in _parts(value, _encoder, LEVELS):
        if isinstance(part, str):
            texts.append(part)
            if len(texts) < VALUES:
                continue
        pieces.append("".join(texts).encode())
        texts.clear()
        if isinstance(part, RawJSON):
            pieces.append(part.text)
    return [*pieces, "".join(texts).encode()]


def _parts(value: Any, encoder: json.JSONEncoder, levels: int) -> Iterator[str | RawJSON]:
    if isinstance(value, RawJSON):
        yield value
    elif (
        in_worker
        or not levels
        or not isinstance(value, (dict, list, tuple))
        or _count(value) <= VALUES
    ):
        yield encoder.encode(value)
    elif isinstance(value, dict):
        keys = sorted_keys(list(value)) if encoder.sort_keys else list(value)
        before = "{"
        for key in keys:
            yield before + encoder.encode(key) + encoder.key_separator
            yield from _parts(value[key], encoder, levels - 1)
            before = encoder.item_separator
        yield "}"
    else:
        before = "["
        for items in _together(value):
            yield before
            if isinstance(items, list):
                yield encoder.encode(items)[1:-1]
            else:
                yield from _parts(items[0], encoder, levels - 1)
            before = encoder.item_separator
        yield "]"


def _together(values: Sequence[Any]) -> Iterator[list[Any] | tuple[Any]]:
    """Yield lists of neighbours with at most `VALUES` values together; larger ones alone."""
    found: list[Any] = []
    room = VALUES
    for value in values:
        count = _count(value)
        if found and count > room:
            yield found
            found, room = [], VALUES
        if count > VALUES:
            yield (value,)
        else:
            found.append(value)
            room -= count
    if found:
        yield found


def sorted_keys(keys: list[str]) -> list[str]:
    """Return sorted keys; unlike `sorted`, this releases the interpreter lock."""
    parts = [sorted(keys[at : at + VALUES]) for at in range(0, len(keys), VALUES)]
    return list(heapq.merge(*parts))


def _count(value: object) -> int:
    """Return how many values a value contains; more than `VALUES` if one is `RawJSON`."""
    waiting = [value]
    for part in waiting:  # grows in the loop
        if type(part) in _SIMPLE:
            continue
        if isinstance(part, dict):
            part = part.values()
        elif isinstance(part, RawJSON):
            return VALUES + 1
        elif not isinstance(part, (list, tuple)):
            continue
        if len(waiting) + len(part) > VALUES:
            return VALUES + 1
        waiting.extend(part)
    return len(waiting)


def rough_size(value: object, limit: float = math.inf) -> int:
    """Return the approximate number of characters of a value as JSON; beyond the limit, any."""
    size, waiting = 0, [value]
    while waiting and size <= limit:
        part = waiting.pop()
        if isinstance(part, dict):
            size += sum(map(len, part))
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)
        elif isinstance(part, str):
            size += len(part)
        size += 6
    return size


class _Parser:
    def __init__(
        self, text: str, decoder: json.JSONDecoder, leaf: Callable[[Any], Any] | None
    ) -> None:
        self._text = text
        self._decoder = decoder
        self._leaf = leaf
        self._start, self._piece = 0, text[:PIECE]

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        """Return the value that begins at ``at``, and the position of its end."""
        text, leaf = self._text, self._leaf
        if leaf is not None and depth == 0:
            value, at = _Parser(text, self._decoder, None).value(at, 0)
            return leaf(value), at
        kind = text[at : at + 1]
        if kind not in ("{", "["):
            return self._decoder.raw_decode(text, at)
        if leaf is None and depth == -LEVELS:
            return self._decoder.raw_decode(text, at)
        # A value that ends in the piece is complete in it; the next ones may end there, too.
        while leaf is None:
            start = self._start
            try:
                value, end = self._decoder.raw_decode(self._piece, at - start)
                return value, start + end
            except ValueError:
                if start == at:
                    break  # it is longer than a piece, so it is split
            self._start, self._piece = at, text[at : at + PIECE]
        return self._object(at, depth) if kind == "{" else self._array(at, depth)

    def _object(self, at: int, depth: int) -> tuple[Any, int]:
        text = self._text
        pairs: list[tuple[str, Any]] = []
        at = _skip(text, at + 1)
        while text[at : at + 1] != "}":
            key, at = self._decoder.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise ValueError(f"no key of an object at {at}")
            value, at = self.value(_skip(text, at + 1), depth - 1)
            pairs.append((key, value))
            at = self._next(at, "}")
        made: Callable[[list[tuple[str, Any]]], Any] | None = self._decoder.object_pairs_hook
        return dict(pairs) if made is None else made(pairs), at + 1

    def _array(self, at: int, depth: int) -> tuple[Any, int]:
        text = self._text
        items: list[Any] = []
        at = _skip(text, at + 1)
        while text[at : at + 1] != "]":
            piece = ""  # also at the end of a text that is cut off
            if self._leaf is None and text[at : at + 1] not in '{["':
                piece = text[at : at + PIECE].rpartition(",")[0]
            if piece and _NO_NUMBERS.search(piece) is None:
                items += self._decoder.decode(f"[{piece}]")
                at += len(piece)
            else:
                value, at = self.value(at, depth - 1)
                items.append(value)
            at = self._next(at, "]")
        return items, at + 1

    def _next(self, at: int, end: str) -> int:
        """Return the position of the next item, or of the end of the items."""
        text = self._text
        at = _skip(text, at)
        if text[at : at + 1] == end:
            return at
        if text[at : at + 1] != ",":
            raise ValueError(f"neither a comma nor an end at {at}")
        at = _skip(text, at + 1)
        if text[at : at + 1] == end:
            raise ValueError(f"a comma before an end, at {at}")
        return at


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] > " ":
        return at
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
