"""The error objects of ComfyUI's replies to prompts (ComfyUI execution.py, ``validate_inputs``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .node_rules import InputRule

Issue: TypeAlias = dict[str, Any]
"""``{"type", "message", "details", "extra_info"}``."""

_NOT_IN_JSON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def issue(kind: str, message: str, details: str, extra: Issue | None = None) -> Issue:
    """Return an error object."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def input_issue(kind: str, message: str, details: str, wanted: InputRule, value: Any) -> Issue:
    """Return an error object about the value of an input."""
    if isinstance(value, float) and not math.isfinite(value):
        value = _NOT_IN_JSON[str(value)]
    extra = {"input_name": wanted.name, "input_config": wanted.config, "received_value": value}
    return issue(kind, message, details, extra)


def type_mismatch(wanted: InputRule, received: Any, link: list[Any]) -> Issue:
    """Return the error object for a link between outputs and inputs of different types."""
    return issue(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        f"{wanted.name}, received_type({received}) mismatch input_type({wanted.type})",
        {
            "input_name": wanted.name,
            "input_config": wanted.config,
            "received_type": received,
            "linked_node": link,
        },
    )
