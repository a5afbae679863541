"""Combos whose options are the answer of a route: ``remote_combo``, and the older ``remote``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from .definitions import DYNAMIC_COMBO, NodeDefinitions
from .formats import mapping, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .definitions import Input

MAX_OPTIONS = 10_000
MAX_TEXT = 1000  # characters of a value
_MAX_LABEL = 200  # characters of a label or a description that are kept
_MAX_ROUTE = 2000  # characters
_MAX_PARAMETERS = 50  # of a route
_MAX_EXACT = 2**53  # larger integers are not exact in a browser
_TIMEOUT = (0.1, 10.0)  # seconds
_REFRESH = (1.0, 86_400.0)  # seconds


class NoListError(Exception):
    """An answer has no list of options."""


@dataclass(frozen=True)
class RemoteList:
    """Where the options of an input are, and how they are read, as its definition says it."""

    route: str  # a path of ComfyUI, or an address; ``""`` if there is none
    query: Mapping[str, str]
    response_key: str  # the key of the list in the answer; ``""``: the answer is the list
    value: str  # the key of the value of an item that is an object
    label: str  # that of its label, or a text with keys in braces
    note: str  # that of its description
    timeout: float  # seconds
    refresh: float | None  # seconds after which the list may be another one

    @classmethod
    def of(cls, declared: Input | None) -> RemoteList | None:
        """Return what the definition of an input says; None if it has no such list."""
        options = {} if declared is None or declared.type != "COMBO" else declared.options
        names = ("remote_combo", "remote")
        found = next((options[n] for n in names if options.get(n) is not None), None)
        if found is None:
            return None
        facts, schema = mapping(found), mapping(mapping(found).get("item_schema"))
        route = text_of(facts.get("route")).strip()
        timeout = _seconds(facts.get("timeout"), *_TIMEOUT)
        return cls(
            route if len(route) <= _MAX_ROUTE else "",
            {
                str(name): str(value)[:MAX_TEXT]
                for name, value in [*mapping(facts.get("query_params")).items()][:_MAX_PARAMETERS]
                if isinstance(value, (str, int, float))
            },
            text_of(facts.get("response_key")),
            text_of(schema.get("value_field")),
            text_of(schema.get("label_field")),
            text_of(schema.get("description_field")),
            _TIMEOUT[1] if timeout is None else timeout,
            _seconds(facts.get("refresh"), *_REFRESH),
        )

    def options_in(self, answer: Any) -> tuple[list[dict[str, Any]], int]:
        """Return the options in an answer, and how many items of it are none.

        NoListError says why there is no list. Each option has ``value``, ``label`` and ``note``.
        """
        items = _at(answer, self.response_key) if self.response_key else answer
        if not isinstance(items, list):
            where = f"no list at {self.response_key[:80]!r}" if self.response_key else "no list"
            raise NoListError(f"there is {where} in its answer")
        found: dict[Any, dict[str, Any]] = {}
        for item in items:
            option = self._option(item)
            if option is not None and len(found) < MAX_OPTIONS:
                found.setdefault((type(option["value"]), option["value"]), option)
        if items and not found:
            raise NoListError("the list in its answer has no value that can be used")
        return list(found.values()), len(items) - len(found)

    def _option(self, item: Any) -> dict[str, Any] | None:
        value = _at(item, self.value) if isinstance(item, dict) and self.value else item
        if isinstance(value, str):
            usable = len(value) <= MAX_TEXT
        elif isinstance(value, float):
            usable = math.isfinite(value)
        else:
            usable = type(value) is int and abs(value) <= _MAX_EXACT
        if not usable:
            return None
        label, note = (_text(item, which) for which in (self.label, self.note))
        return {"value": value, "label": label or str(value), "note": note}


def remote_list(
    definitions: NodeDefinitions, class_type: str, name: str, inputs: Mapping[str, Any]
) -> RemoteList:
    """Return the list of an input that a node class declares.

    ``inputs`` are others of the node: options of dynamic combos decide which inputs there are.
    """
    if class_type not in definitions:
        raise InvalidRequestError.of_field("class_type", f"there are no nodes {class_type[:80]!r}")
    declared = definitions.declared(class_type, {**inputs, name: None}).get(name)
    found = RemoteList.of(declared)
    if found is None:
        what = "no such input" if declared is None else "no list from a route for it"
        raise InvalidRequestError.of_field("input", f"{class_type} has {what}: {name[:80]!r}")
    return found


def deciding(name: str, specs: Mapping[str, Input], inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs of a node that decide whether it has an input: dynamic combos above it."""
    parts = name.split(".")
    above = (".".join(parts[:number]) for number in range(1, len(parts)))
    return {
        each: inputs[each]
        for each in above
        if each in specs and specs[each].type == DYNAMIC_COMBO and isinstance(inputs.get(each), str)
    }


def _seconds(value: Any, least: float, most: float) -> float | None:
    """Return a time in milliseconds within limits, as seconds; None if there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return None
    return min(max(value / 1000 if value < 1e12 else most, least), most)


def _at(item: Any, path: str) -> Any:
    """Return a value by its key, else by the keys that dots separate; None if there is none."""
    if isinstance(item, dict) and path in item:
        return item[path]
    for part in path.split("."):
        if isinstance(item, list) and part.isascii() and part.isdecimal() and len(part) < 6:
            item = item[int(part)] if int(part) < len(item) else None
        else:
            item = item.get(part) if isinstance(item, dict) else None
    return item


def _text(item: Any, which: str) -> str:
    """Return a text of an item; ``which`` is a key of it, or a text with keys in braces."""
    if not which or not isinstance(item, dict):
        return ""

    def shown(path: str) -> str:
        value = _at(item, path.strip())
        return str(value) if isinstance(value, (str, int, float)) else ""

    if "{" not in which:
        return shown(which)[:_MAX_LABEL].strip()
    filled = re.sub(r"\{([^{}]*)\}", lambda found: shown(found[1])[:_MAX_LABEL], which[:_MAX_LABEL])
    # what surrounds a value that is missing
    return re.sub(r"\(\s*\)|\[\s*\]", "", filled)[:_MAX_LABEL].strip()
