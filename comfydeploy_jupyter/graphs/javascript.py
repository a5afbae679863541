"""Values as JavaScript, in which ComfyUI's editor is written, reads and writes them.

Its numbers are doubles, so the numbers that the editor queues differ from those of Python: large
integers lose digits, ``8.0`` is ``8``, and halves are rounded up.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

_SAFE = 2**53
_CONTEXT = Context(prec=800, rounding=ROUND_HALF_UP)


def number(value: float) -> float | int | None:
    """Return a number as ``JSON.stringify`` writes it and Python reads it back; None for NaN."""
    if isinstance(value, int):
        if -_SAFE <= value <= _SAFE:
            return value
        try:
            value = float(value)
        except OverflowError:
            return None
    if not math.isfinite(value):
        return None
    if not value.is_integer() or abs(value) >= 1e21:
        return value
    if abs(value) <= _SAFE:
        return int(value)
    return int(Decimal(repr(value)))


def plain(value: Any) -> Any:
    """Return a copy of a JSON value of any depth with the numbers that `number` returns."""
    if not isinstance(value, (list, dict)):
        return _scalar(value)
    copy: Any = _empty(value)
    pending = [(value, copy)]
    while pending:
        source, target = pending.pop()
        for key, item in source.items() if isinstance(source, dict) else enumerate(source):
            if isinstance(item, (list, dict)):
                target[key] = _empty(item)
                pending.append((item, target[key]))
            else:
                target[key] = _scalar(item)
    return copy


def _empty(value: list[Any] | dict[Any, Any]) -> Any:
    return {} if isinstance(value, dict) else [None] * len(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    return value


def text(value: Any) -> str:
    """Return ``String(value)`` of a JSON value."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number_text(value)
    if isinstance(value, list):
        return ",".join(_leaves(value))
    return "[object Object]"


def _leaves(value: list[Any]) -> list[str]:
    """Return the texts of a list and of all lists in it; an empty list and null are empty."""
    found: list[str] = []
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list) and item:
            pending.extend(reversed(item))
        else:
            found.append("" if item is None or item == [] else text(item))
    return found


def round_half_up(value: float) -> float:
    """Return ``Math.round(value)``: halves are rounded up, also below zero."""
    return float(math.floor(value + 0.5)) if abs(value) < _SAFE else value


def to_fixed(value: float, digits: int) -> float:
    """Return ``Number(value.toFixed(digits))``; `digits` from 0 to 100."""
    if abs(value) >= 1e21:
        return value
    return float(Decimal(value).quantize(Decimal(1).scaleb(-digits), context=_CONTEXT))


def _number_text(value: float) -> str:
    written = number(value)
    if written is None:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(written, int):
        return str(written)
    mantissa, _, exponent = repr(written).partition("e")
    if not exponent:
        return mantissa
    power = int(exponent)
    if -7 < power < 0:
        return format(Decimal(repr(written)), "f")
    return f"{mantissa.removesuffix('.0')}e{power:+d}"
