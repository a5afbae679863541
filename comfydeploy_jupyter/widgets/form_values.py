"""The values of a form, as the page takes them and as runs take them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..graphs.seeds import MAX_SEED, SeedMode, apply_seeds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..graphs.definitions import AnyDefinitions
    from ..graphs.form import FormField
    from ..graphs.formats import Graph, UIGraph

MOST_SHOWN = 80
"""How many characters of a value without a field are shown at most."""


def unlocked_seeds(
    fields: Sequence[FormField], graph: Graph, ui: UIGraph | None, definitions: AnyDefinitions
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
        raise InvalidRequestError.of_field(
            field.label, f"must be at least {plain_number(field.min)}"
        )
    if field.max is not None and value > field.max:
        raise InvalidRequestError.of_field(
            field.label, f"must be at most {plain_number(field.max)}"
        )
    return value


def draw_seed(field: FormField) -> int:
    """Return a random seed in the range of a field."""
    low = 0 if field.min is None else max(0, int(field.min))
    high = MAX_SEED if field.max is None else min(MAX_SEED, int(field.max))
    return random.randint(low, max(low, high))


def is_within(key: str, tops: Collection[str]) -> bool:
    """Return whether a key belongs to an input of one of these dynamic combos or groups."""
    dot = key.find(".")
    while dot >= 0:
        if key[:dot] in tops:
            return True
        dot = key.find(".", dot + 1)
    return False


def shorten(value: object) -> str:
    """Return a value as text of at most `MOST_SHOWN` characters."""
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} …"


def plain_number(number: float) -> str:
    """Return a number as text, without a decimal point if it is an integer."""
    return f"{int(number)}" if float(number).is_integer() else f"{number:g}"
