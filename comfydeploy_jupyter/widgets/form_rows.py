"""The rows of a form as the script in the page takes them: order, sections, controls and hints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..client.text import counted
from ..graphs.form import page_value
from .form_values import is_within, plain_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..graphs.form import FormField, InputGroup

SHOWN = 12
"""How many fields a form shows at first; the others are below "More inputs"."""

MOST_STEPS = 256
"""A number with at most so many values between its bounds has a slider."""

EXACT = 2**53
"""Larger integers are not exact in a browser."""

UNITS = {
    "pixels": r"((image|target|output|canvas|custom|final|tile|cell)_)?(width|height)|\w+_pixels",
    "megapixels": r"megapixels",
    "seconds": r"(\w+_)?seconds(_\w+)?",
    "frames": r"(\w+_)?(frames|frame_count)",
    "frames per second": r"fps|(\w+_)?frame_rate",
    "degrees": r"(\w+_)?degrees",
}
"""Units, and the names of inputs that say them; ComfyUI's node definitions have no units. Names
such as ``length`` and ``duration`` mean different things in different nodes."""

UNNAMED = ("value", "default_value")
"""Names of inputs whose node says what they are."""


def form_rows(fields: Sequence[FormField], groups: Sequence[InputGroup]) -> list[dict[str, Any]]:
    """Return the rows of a form.

    Fields of one node are next to each other. Those that the author of the workflow chose keep the
    author's order.

    Parameters
    ----------
    fields : sequence of FormField
        The fields; those that users change most often come first.
    groups : sequence of InputGroup
        The groups to which inputs can be added.
    """
    shown = 0
    rows: list[dict[str, Any]] = []
    in_sight: set[str] = set()  # dynamic combos and groups, whose inputs are shown as well
    keys = {group.key for group in groups}
    for field in fields:
        # Inputs that the author of the workflow chose, or that need a value, are never folded.
        external = field.key != f"{field.node_id}.{field.input_name}"
        chosen = field.chosen or field.required or external
        always = chosen or is_within(field.key, in_sight)
        more = not always and (field.advanced or shown >= SHOWN)
        shown += not more
        if not more:
            in_sight.update(key for key in (field.key,) if field.dynamic)
            in_sight.update(key for key in keys if field.key.startswith(f"{key}."))
        rows.append({**_page_field(field, more=more), "of": _section_of(field)})
    firsts: dict[tuple[bool, str], int] = {}
    for place, row in enumerate(rows):
        firsts.setdefault((row["more"], row["of"]), place)
    order = {
        row["key"]: place if field.chosen else firsts[row["more"], row["of"]]
        for place, (row, field) in enumerate(zip(rows, fields, strict=True))
    }
    rows.sort(key=lambda row: order[row["key"]])
    for group in groups:
        _insert_group(rows, group)
    return _in_sections(rows)


def _section_of(field: FormField) -> str:
    """Return what the fields of a section have in common."""
    return f"title {field.title}" if field.chosen and field.title else field.node_id


def _insert_group(rows: list[dict[str, Any]], group: InputGroup) -> None:
    """Insert the row of a group after its inputs, or after those of its node."""
    node = f"{group.node_id}."
    own = [n for n, row in enumerate(rows) if row["key"].startswith(f"{group.key}.")]
    near = own or [n for n, row in enumerate(rows) if row["key"].startswith(node)]
    place = near[-1] + 1 if near else len(rows)
    row = {
        "key": group.key,
        "label": group.label,
        "title": group.title,
        "kind": "group",
        "hint": counted(group.count, "value"),
        "can_grow": group.following is not None,
        "can_shrink": group.last is not None,
        "more": rows[place - 1]["more"] if near else True,
        "of": rows[place - 1]["of"] if near else group.node_id,
    }
    rows.insert(place, row)


def _in_sections(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put neighbouring inputs of a node into a section, whose heading has the node's title.

    ``label`` remains the whole label. ``parts`` are what is before, in and after the part that is
    shown below the heading; a row without a section shows the whole label.
    """
    made: list[dict[str, Any]] = []
    start = 0
    for end in range(1, len(rows) + 1):
        same = end < len(rows) and all(rows[end][k] == rows[start][k] for k in ("of", "more"))
        if same:
            continue
        part = rows[start:end]
        title = part[0]["title"]
        several = len(part) > 1 and title
        suffixes = {_suffix(row["label"]) for row in part}
        suffix = suffixes.pop() if several and len(suffixes) == 1 else ""
        section = {"id": start, "title": f"{title}{suffix}"} if several else None
        for row in part:
            before = f"{title}: " if several and row["label"].startswith(f"{title}: ") else ""
            after = suffix if before else ""
            shown = row["label"][len(before) : len(row["label"]) - len(after)]
            facts = {key: value for key, value in row.items() if key not in ("of", "title")}
            made.append({**facts, "section": section, "parts": [before, shown, after]})
        start = end
    return made


def _suffix(label: str) -> str:
    """Return the node id that `workflow_form` has added to a label, with its brackets."""
    start = label.rfind(" (node ")
    return label[start:] if start >= 0 and label.endswith(")") else ""


def _page_field(field: FormField, *, more: bool) -> dict[str, Any]:
    """Return a field as the script in the page takes it."""
    kind = field.kind
    value = field.initial
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    written = page_value(field, value)
    if kind in {"int", "float"} and not number and value is not None:
        kind = "text"
    if kind == "color" and value is not None and not str(written).startswith("#"):
        kind = "text"
    return {
        "key": field.key,
        "label": field.label,
        "title": field.title,
        "kind": kind,
        "original": written,
        "required": field.required,
        "options": field.options,
        "min": field.min,
        "max": field.max,
        "step": field.step,
        "slider": kind in {"int", "float"} and _slides(field),
        "range": _range(field) if kind in {"int", "float"} else "",
        "tooltip": field.tooltip,
        "hint": _hint(field),
        "more": more,
    }


def _slides(field: FormField) -> bool:
    """Return whether the range of a number is small enough for a slider."""
    if field.min is None or field.max is None or not field.min < field.max:
        return False
    step = field.step or (1 if field.kind == "int" else 0)
    few = step > 0 and (field.max - field.min) / step <= MOST_STEPS
    return few or field.slider


def _hint(field: FormField) -> str:
    """Return in words whether a field needs a value, its range and its default."""
    parts = ["required" if field.required else ""]
    parts += [_range(field)] if field.kind in {"int", "float"} else []
    simple = isinstance(field.default, (str, int, float)) and field.default != ""
    if simple and field.kind not in {"seed", "multiline"}:
        default = page_value(field, field.default)
        if field.kind == "bool":
            default = "yes" if default else "no"
        parts.append(f"default {default}")
    return " · ".join(part for part in parts if part)


def _range(field: FormField) -> str:
    """Return the range of a number and its unit in words, without limits of 64-bit integers."""
    low = "" if field.min is None or abs(field.min) >= EXACT else plain_number(field.min)
    high = "" if field.max is None or abs(field.max) >= EXACT else plain_number(field.max)
    unit = unit_of(field)
    if high:
        text = f"{low} to {high}" if low else f"up to {high}"
        parts = [f"{text} {unit}".strip()]
    else:
        parts = [unit, f"from {low}" if low else ""]
    if (low or high) and field.step and field.step != 1 and field.kind == "int":
        parts.append(f"step {plain_number(field.step)}")
    return ", ".join(part for part in parts if part)


def unit_of(field: FormField) -> str:
    """Return the unit of a number if the name of its input says it, otherwise ``""``.

    A fractional width or height is not in pixels.
    """
    names = [field.input_name]
    if field.input_name in UNNAMED:
        names = [field.key, "_".join(field.title.lower().split())]
    for unit, pattern in UNITS.items():
        if unit == "pixels" and field.kind != "int":
            continue
        if any(re.fullmatch(pattern, name) for name in names):
            return unit
    return ""
