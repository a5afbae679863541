"""Encodes large values as JSON in pieces, so that other threads can run in between."""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any

from .unparsed import Unparsed

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 200  # values that are encoded at once
LEVELS = 12  # levels of objects and arrays that are split; Python's recursion has a limit

in_worker = False  # whether this process has no event loop: then nothing is split

_encoder = json.JSONEncoder()


def dumps(value: Any, *, encoder: json.JSONEncoder = _encoder) -> str:
    """Return a value as JSON. Call it in a thread if the value is large.

    Python's encoder holds the interpreter lock until it is done, in any thread, and so blocks the
    event loop. Here, objects and arrays of more than `PIECE` values are split, and their items are
    encoded one after the other. A text counts as one value.

    Parameters
    ----------
    value : object
        A JSON value; the keys of objects are strings. `Unparsed` JSON in it is written unchanged.
    encoder : json.JSONEncoder, optional
        The encoder for the pieces; its ``indent`` is ignored.
    """
    parts = _parts(value, encoder, LEVELS)
    return "".join(part if isinstance(part, str) else part.text.decode() for part in parts)


def encoded(value: Any) -> list[bytes]:
    """Return a value as JSON in several pieces; `Unparsed` JSON is not copied.

    Parameters
    ----------
    value : object
        As in `dumps`.
    """
    pieces: list[bytes] = []
    texts: list[str] = []
    for part in _parts(value, _encoder, LEVELS):
        if isinstance(part, str):
            texts.append(part)
            if len(texts) < PIECE:
                continue
        pieces.append("".join(texts).encode())
        texts.clear()
        if isinstance(part, Unparsed):
            pieces.append(part.text)
    return [*pieces, "".join(texts).encode()]


def _parts(value: Any, encoder: json.JSONEncoder, levels: int) -> Iterator[str | Unparsed]:
    """Yield the JSON of a value in pieces."""
    if isinstance(value, Unparsed):
        yield value
    elif in_worker or not levels or not isinstance(value, (dict, list, tuple)) or _is_small(value):
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
        for item in value:
            yield before
            yield from _parts(item, encoder, levels - 1)
            before = encoder.item_separator
        yield "]"


def sorted_keys(keys: list[str]) -> list[str]:
    """Return sorted keys; unlike `sorted`, this releases the interpreter lock."""
    parts = [sorted(keys[at : at + PIECE]) for at in range(0, len(keys), PIECE)]
    return list(heapq.merge(*parts))


def _is_small(value: object) -> bool:
    """Return whether a value contains at most `PIECE` values, none of which is `Unparsed`."""
    waiting = [value]
    for part in waiting:  # grows in the loop
        if isinstance(part, dict):
            part = part.values()
        elif isinstance(part, Unparsed):
            return False
        elif not isinstance(part, (list, tuple)):
            continue
        if len(waiting) + len(part) > PIECE:
            return False
        waiting.extend(part)
    return True


def rough_size(value: object) -> int:
    """Return the approximate number of characters of a value as JSON, without encoding it."""
    size, waiting = 0, [value]
    while waiting:
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
