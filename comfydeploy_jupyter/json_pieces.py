"""JSON of values that may be large, made so that others have their turn meanwhile."""

from __future__ import annotations

import heapq
import json
from typing import Any

PIECE = 200  # values that are encoded at once
LEVELS = 12  # levels of objects and arrays that are taken apart; Python's recursion has a limit

_encoder = json.JSONEncoder()


def dumps(value: Any, *, encoder: json.JSONEncoder = _encoder, levels: int = LEVELS) -> str:
    """Return a value as JSON; for a thread, where it is large.

    The encoder keeps the interpreter to itself until it is done, and with it the event loop, in
    whatever thread it runs. Here objects and arrays of more than `PIECE` values are taken apart,
    and what is in them is encoded one after the other. A text counts as one value.

    Parameters
    ----------
    value : object
        What JSON has: its objects have strings as keys.
    encoder : json.JSONEncoder, optional
        Says how it is written; ``indent`` is not heeded.
    levels : int
        Levels of objects and arrays that are taken apart.
    """
    if not levels or not isinstance(value, (dict, list, tuple)) or _is_small(value):
        return encoder.encode(value)

    parts = []
    if isinstance(value, dict):
        keys = sorted_keys(list(value)) if encoder.sort_keys else list(value)
        for key in keys:
            text = dumps(value[key], encoder=encoder, levels=levels - 1)
            parts.append(encoder.encode(key) + encoder.key_separator + text)
        return f"{{{encoder.item_separator.join(parts)}}}"
    for item in value:
        parts.append(dumps(item, encoder=encoder, levels=levels - 1))  # noqa: PERF401 - one frame a level
    return f"[{encoder.item_separator.join(parts)}]"


def sorted_keys(keys: list[str]) -> list[str]:
    """Return keys sorted as `sorted` does, which keeps the interpreter to itself meanwhile."""
    parts = [sorted(keys[at : at + PIECE]) for at in range(0, len(keys), PIECE)]
    return list(heapq.merge(*parts))


def _is_small(value: object) -> bool:
    """Return whether there are no more than `PIECE` values in a value."""
    waiting = [value]
    for part in waiting:  # grows meanwhile
        if isinstance(part, dict):
            part = part.values()
        elif not isinstance(part, (list, tuple)):
            continue
        if len(waiting) + len(part) > PIECE:
            return False
        waiting.extend(part)
    return True


def rough_size(value: object) -> int:
    """Return about how many characters a value has as JSON; costs little where texts are long."""
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
