"""The changes that the editor makes to the values of widgets when it queues a prompt.

Dynamic prompts (``{red|green}``, comments), patterns in file names (``%KSampler.seed%``), the
rounding of numbers to steps, and the wrapping of lists, which would otherwise be read as links.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from datetime import datetime

_COMMENT = re.compile(r"/[*/]")
_LINE_END = re.compile(r"[\n\r\u2028\u2029]")
_ESCAPES = re.compile(r"\\([{}|])")
_PATTERN = re.compile(r"%([^%]+)%")
_UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_DATE_PARTS = re.compile("dd?|MM?|hh?|mm?|ss?|yyy?y?")
_MAX_DEPTH = 64
_RANGE = {"min", "max", "step"}
_NEUTRAL = {
    *("control_after_generate", "default", "defaultInput", "dynamicPrompts", "forceInput"),
    *("multiline", "tooltip"),
}

_CAMERA = {
    "position": {"x": 10, "y": 10, "z": 10.000000000000002},
    "target": {"x": 0, "y": 0, "z": 0},
    "zoom": 1,
    "cameraType": "perspective",
    "quaternion": {
        "x": -0.2798481423331213,
        "y": 0.3647051996310008,
        "z": 0.11591689595929511,
        "w": 0.8804762392171493,
    },
    "fov": 35,
    "aspect": 1,
    "near": 0.01,
    "far": 10000,
    "frustum": {"left": -5, "right": 5, "top": 5, "bottom": -5},
}
"""The camera of a 3D view before it is moved."""


def curve(value: Any) -> Any:
    return None if value is None else {"__type__": "CURVE", "__value__": plain(value)}


def viewport(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a 3D view without pictures, as the editor queues it."""
    config = properties.get("Camera Config")
    camera = config.get("state") if isinstance(config, dict) else None
    return {
        "image": "",
        "mask": "",
        "normal": "",
        "camera_info": camera if isinstance(camera, dict) else _CAMERA,
        "recording": "",
        "model_3d_info": [],
    }


def wrapped(value: Any) -> Any:
    """Return a value in the form that a prompt has: lists wrapped, numbers as in JavaScript."""
    written = plain(value)
    return {"__value__": written} if isinstance(written, list) else written


def dynamic_prompt(text: str, rng: random.Random, depth: int = 0) -> str:
    r"""Resolve a dynamic prompt: ``{a|b}`` becomes one of its options, comments are stripped.

    ``\{``, ``\}`` and ``\|`` are not special.
    """
    if depth >= _MAX_DEPTH or not ("{" in text or "/" in text or "\\" in text):
        return text
    text = _without_comments(text)
    resolved: list[str] = []
    place = 0
    while place < len(text):
        character = text[place]
        if character == "{":
            options, place = _options(text, place + 1)
            chosen = options[int(rng.random() * len(options))]
            resolved.append(dynamic_prompt(chosen, rng, depth + 1))
        else:
            length = 2 if character == "\\" else 1
            resolved.append(text[place : place + length])
            place += length
    return _ESCAPES.sub(r"\1", "".join(resolved))


def _without_comments(text: str) -> str:
    """Remove ``/* */`` and ``//`` comments; a comment without an end stays."""
    kept: list[str] = []
    place = start = 0
    endless = False
    while (found := _COMMENT.search(text, start)) is not None:
        if found[0] == "//":
            line_end = _LINE_END.search(text, found.end())
            end = len(text) if line_end is None else line_end.start()
        else:
            end = -1 if endless else text.find("*/", found.end()) + 2
            if end < 2:
                endless = True
                start = found.start() + 1
                continue
        kept.append(text[place : found.start()])
        place = start = end
    kept.append(text[place:])
    return "".join(kept)


def _options(text: str, place: int) -> tuple[list[str], int]:
    """Split the inside of braces at its bars; return the options and the index of their end."""
    options: list[str] = []
    start = place
    depth = 0
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
        elif character == "{":
            depth += 1
        elif character == "}" and depth == 0:
            break
        elif character == "}":
            depth -= 1
        elif character == "|" and depth == 0:
            options.append(text[start:place])
            start = place + 1
        place += 1
    options.append(text[start:place])
    return options, place + 1


def file_name(text: str, widget_text: Callable[[str, str], str | None], now: datetime) -> str:
    if "%" not in text:
        return text

    def fill(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) != 2:
            return _date(parts[0][5:], now) if parts[0].startswith("date:") else match[0]
        found = widget_text(parts[0], parts[1])
        return match[0] if found is None else _UNSAFE.sub("_", found)

    return _PATTERN.sub(fill, text)


def _date(template: str, now: datetime) -> str:
    fields = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def fill(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] in fields:
            return str(fields[letters[0]]).rjust(len(letters), "0")
        return {"yy": f"{now.year:04}"[2:], "yyyy": str(now.year)}.get(letters, letters)

    return _DATE_PARTS.sub(fill, template)


def snapped(kind: str, options: Mapping[str, Any], value: Any) -> Any:
    """Return a number as a widget rounds it when a primitive node sets it."""
    # ``INT`` is rounded to steps from the minimum; ``FLOAT`` to the decimals of its step, and
    # limited to its range. Text that is no number becomes NaN, which is null in the prompt.
    if kind not in ("INT", "FLOAT") or isinstance(value, (list, dict)):
        return value
    try:
        given = float(value or 0)
    except (ValueError, OverflowError):
        return math.nan
    return _snapped_int(options, given) if kind == "INT" else _snapped_float(options, given)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the options of a number that two widgets accept; None if they have none in common."""
    # The range is the intersection, the step the least common multiple. The other options must be
    # equal, except for those that do not concern the value.
    low = max(_option(one, "min", -math.inf), _option(other, "min", -math.inf))
    high = min(_option(one, "max", math.inf), _option(other, "max", math.inf))
    keys = ({*one} | {*other}) - _RANGE - _NEUTRAL
    if low > high or any(one.get(key) != other.get(key) for key in keys):
        return None
    step = _common_step(_step(one, 1), _step(other, 1))
    return {**one, **other, "min": low, "max": high, "step": step}


def _common_step(one: float, other: float) -> float:
    larger, smaller = max(one, other), min(one, other)
    while smaller > 1e-10:
        larger, smaller = smaller, math.fmod(larger, smaller)
    return one * other / larger


def _snapped_int(options: Mapping[str, Any], value: float) -> Any:
    step = _step(options, 1)
    if not math.isfinite(value):
        return math.nan
    if step == 1:
        return number(round_half_up(value))
    low = _option(options, "min", 0)
    offset = math.fmod(low, step) if math.isfinite(low) else 0.0
    return number(round_half_up((value - offset) / step) * step + offset)


def _snapped_float(options: Mapping[str, Any], value: float) -> Any:
    digits = max(0, -math.floor(math.log10(_step(options, 0.5))))
    rounding = _option(options, "round", 0) or (10.0**-digits if digits else 0)
    if not rounding or not math.isfinite(value):
        return value
    fixed = to_fixed(round_half_up(value / rounding) * rounding, digits)
    low, high = _option(options, "min", 0), _option(options, "max", 2048)
    return number(min(max(fixed, low), high))


def _step(options: Mapping[str, Any], default: float) -> float:
    step = _option(options, "step", default)
    return step if 0 < step < math.inf else default


def _option(options: Mapping[str, Any], key: str, default: float) -> float:
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return float(value)


# -- values as JavaScript, in which the editor is written, reads and writes them ---------------
#
# Its numbers are doubles: large integers lose digits, ``8.0`` is ``8``, and halves are rounded up.

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
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
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
