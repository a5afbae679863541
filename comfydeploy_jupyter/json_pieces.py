"""JSON of values that may be large, made so that others have their turn meanwhile."""

from __future__ import annotations

import json
from typing import Any


def dumps(value: Any, depth: int = 4) -> str:
    """Return a value as JSON; for a thread, where it is large.

    The encoder keeps the interpreter to itself until it is done, and with it the event loop, in
    whatever thread it runs. Here what is ``depth`` levels down is encoded piece by piece.

    Parameters
    ----------
    value : object
        What JSON has: its objects have strings as keys.
    depth : int
        Levels of objects and arrays that are taken apart.
    """
    if depth and isinstance(value, dict):
        pairs = [
            f"{json.dumps(key)}: {dumps(item, depth - 1)}" for key, item in list(value.items())
        ]
        return f"{{{', '.join(pairs)}}}"
    if depth and isinstance(value, (list, tuple)):
        return f"[{', '.join([dumps(item, depth - 1) for item in value])}]"
    return json.dumps(value)


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
