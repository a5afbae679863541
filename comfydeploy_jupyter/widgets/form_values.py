"""The fields of a form and their values, as the page takes them and as runs take them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from ..client.graph_text import counted
from ..errors import InvalidRequestError
from ..graphs.seeds import MAX_SEED, SeedMode, apply_seeds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..graphs.form import InputGroup
    from ..graphs.form_fields import FormField
    from ..graphs.formats import Definitions, Graph, UIGraph

MOST_SHOWN = 80
"""How many characters of a value without a field are shown at most."""

EXACT = 2**53
"""Larger integers are not exact in a browser."""

_NAMES = {
    "text": "text",
    "multiline": "text",
    "int": "integer",
    "float": "number",
    "bool": "yes or no",
    "combo": "choice",
    "color": "colour",
    "image": "picture",
    "video": "video",
    "audio": "sound",
    "seed": "seed",
}


def unlocked_seeds(
    fields: Sequence[FormField], graph: Graph, ui: UIGraph | None, definitions: Definitions | None
) -> list[str]:
    """Return the keys of the seeds that ComfyUI's editor would draw anew for each run."""
    settled = apply_seeds(graph, SeedMode.AUTO, ui=ui, definitions=definitions)
    before = {f"{field.node_id}.{field.input_name}": field for field in fields}
    return [
        before[name].key
        for name, seed in settled.seeds.items()
        if name in before and before[name].kind == "seed" and seed != before[name].value
    ]


def read_number(field: FormField, text: str) -> int | float:
    """Return the number that was typed into a field.

    Raises
    ------
    InvalidRequestError
        The text is not a number, or the number is out of range; the message names the field.
    """
    try:
        value = float(text) if field.kind == "float" else int(text)
    except ValueError as error:
        what = "a number" if field.kind == "float" else "a whole number"
        raise InvalidRequestError.of_field(field.label, f"must be {what}") from error
    if field.min is not None and value < field.min:
        raise InvalidRequestError.of_field(field.label, f"must be at least {_plain(field.min)}")
    if field.max is not None and value > field.max:
        raise InvalidRequestError.of_field(field.label, f"must be at most {_plain(field.max)}")
    return value


def draw_seed(field: FormField) -> int:
    """Return a random seed in the range of a field."""
    low = 0 if field.min is None else max(0, int(field.min))
    high = MAX_SEED if field.max is None else min(MAX_SEED, int(field.max))
    return random.randint(low, max(low, high))


def page_value(field: FormField, value: Any) -> Any:
    """Return a value as the page takes it: choices and booleans unchanged, all else as text."""
    if field.kind == "bool":
        return bool(value)
    if field.options:
        return value
    if field.kind in {"int", "seed", "color"} and isinstance(value, float) and value.is_integer():
        value = int(value)
    if field.kind == "color" and isinstance(value, int) and 0 <= value <= 0xFFFFFF:
        return f"#{value:06x}"
    return str(value)


def is_within(key: str, tops: Collection[str]) -> bool:
    """Return whether a key belongs to an input of one of these dynamic combos or groups."""
    dot = key.find(".")
    while dot >= 0:
        if key[:dot] in tops:
            return True
        dot = key.find(".", dot + 1)
    return False


def insert_group(rows: list[dict[str, Any]], group: InputGroup) -> None:
    """Insert the row of a group after its inputs, or after those of its node."""
    node = f"{group.node_id}."
    own = [n for n, row in enumerate(rows) if row["key"].startswith(f"{group.key}.")]
    near = own or [n for n, row in enumerate(rows) if row["key"].startswith(node)]
    place = near[-1] + 1 if near else len(rows)
    more = rows[place - 1]["more"] if near else True
    row = {
        "key": group.key,
        "label": group.label,
        "kind": "group",
        "hint": counted(group.count, "value"),
        "can_grow": group.following is not None,
        "can_shrink": group.last is not None,
        "more": more,
    }
    rows.insert(place, row)


def page_field(field: FormField, *, more: bool) -> dict[str, Any]:
    """Return a field as the script in the page takes it."""
    kind = field.kind
    number = isinstance(field.value, (int, float)) and not isinstance(field.value, bool)
    if kind in {"int", "float"} and not number:
        kind = "text"
    if kind == "color" and not str(page_value(field, field.value)).startswith("#"):
        kind = "text"
    return {
        "key": field.key,
        "label": field.label,
        "kind": kind,
        "original": page_value(field, field.value),
        "options": field.options,
        "min": field.min,
        "max": field.max,
        "step": field.step,
        "tooltip": field.tooltip,
        "hint": _hint(field),
        "more": more,
    }


def _hint(field: FormField) -> str:
    """Return the type, range and default of a field in words."""
    kind = _NAMES.get(field.kind, field.kind)
    if field.kind == "combo" and field.options:
        kind = f"choice of {len(field.options)}"
    parts = [kind]
    if field.kind in {"int", "float"} and field.min is not None and field.max is not None:
        # The limits of 64-bit integers tell the user nothing.
        low = "" if abs(field.min) >= EXACT else _plain(field.min)
        high = "" if abs(field.max) >= EXACT else _plain(field.max)
        if low or high:
            parts[0] += (
                f" {low} to {high}" if low and high else f" from {low}" if low else f" to {high}"
            )
        if field.step and field.step != 1 and field.kind == "int":
            parts[0] += f", step {_plain(field.step)}"
    simple = isinstance(field.default, (str, int, float)) and field.default != ""
    if simple and field.kind not in {"seed", "multiline"}:
        default = page_value(field, field.default)
        if field.kind == "bool":
            default = "yes" if default else "no"
        parts.append(f"default {default}")
    return " · ".join(parts)


def shorten(value: object) -> str:
    """Return a value as text of at most `MOST_SHOWN` characters."""
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} …"


def _plain(number: float) -> str:
    return f"{int(number)}" if float(number).is_integer() else f"{number:g}"
