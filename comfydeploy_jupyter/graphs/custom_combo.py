"""The node Custom Combo of ComfyUI, whose choices are texts on the node itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

CUSTOM_COMBO: Final = "CustomCombo"
CHOICE: Final = "choice"
INDEX: Final = "index"
_OPTION = re.compile(r"option([1-9][0-9]{0,3})", re.ASCII)


def custom_options(inputs: Mapping[str, Any]) -> list[Any]:
    """Return the values of the inputs ``option1``, ``option2``, …, in the order of their numbers.

    The editor keeps an empty one at the end.
    """
    numbers = {int(found[1]): name for name in inputs if (found := _OPTION.fullmatch(name))}
    return [inputs[numbers[number]] for number in sorted(numbers)]


def index_of_choice(inputs: Mapping[str, Any]) -> int:
    """Return the place of the choice among the options, -1 for none, as the editor queues it."""
    options, choice = custom_options(inputs), inputs.get(CHOICE)
    return options.index(choice) if choice in options else -1
