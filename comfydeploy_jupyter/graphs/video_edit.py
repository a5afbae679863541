"""The value of an input of type ``VIDEO_EDIT``: the part of a video that a node uses.

``{"trim": {"start_time": s, "duration": s}, "crop": {"x": …, "y": …, "width": …, "height": …}}``,
in seconds and pixels. A duration of 0 lasts until the end, and a width or height of 0 means the
whole picture. An input has ``trim``, ``crop`` or both; other keys are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidRequestError
from .formats import mapping, sequence

VIDEO_EDIT: Final = "VIDEO_EDIT"
"""The type of such an input."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "trim": ("start_time", "duration"),
    "crop": ("x", "y", "width", "height"),
}
_MOST = 10**9  # seconds or pixels
_EXACT = 2**53


def features_of(options: Mapping[str, Any]) -> list[str]:
    """Return which parts the definition of an input allows; both if it does not say it."""
    named = sequence(options.get("features"))
    return [part for part in PARTS if part in named] or list(PARTS)


def edit_text(value: Mapping[str, Any]) -> str:
    """Return a value as JSON in the form in which a browser writes it."""
    plain = {
        part: {name: _plain(number) for name, number in given.items()}
        if isinstance(given, Mapping)
        else given
        for part, given in value.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(number: Any) -> Any:
    is_whole = isinstance(number, float) and number.is_integer() and abs(number) < _EXACT
    return int(number) if is_whole else number


def edit_in(text: str) -> Any:
    """Return the object that a text contains as JSON, and any other text unchanged."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def read_edit(label: str, text: str) -> dict[str, Any]:
    """Return the value that a text contains; InvalidRequestError names what is wrong in it."""
    found = edit_in(text)
    if not isinstance(found, dict):
        raise InvalidRequestError.of_field(label, "must be an object with trim or crop")
    for part, names in PARTS.items():
        if not isinstance(found.get(part, {}), dict):
            raise InvalidRequestError.of_field(label, f"{part} must be an object")
        for name in names:
            value = found.get(part, {}).get(name, 0)
            whole = part == "crop"
            allowed = (int,) if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, allowed) or not 0 <= value <= _MOST:
                what = "a whole number of pixels" if whole else "a number of seconds"
                raise InvalidRequestError.of_field(label, f"{part}: {name} must be {what}, from 0")
    return found


def changes(value: Any) -> bool:
    """Return whether a value leaves out any part of the video."""
    return any(
        mapping(mapping(value).get(part)).get(n) for part, names in PARTS.items() for n in names
    )
