"""The differences between versions of ComfyUI.

Two versions were observed: 0.3.75 (November 2025) and 0.33.0 (2026). The node definitions show how
a version in between validates prompts: those of 0.33.0 have ``is_input_list`` for each class, those
of 0.3.75 do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

OLDEST_TESTED, NEWEST_TESTED = "0.3.75", "0.33.0"
"""The versions of ComfyUI that the tests use; versions between them are expected to work."""

_PARTIAL_EXECUTION = (0, 3, 48)  # the first release with it, of 31 July 2025
_EARLIER = (0, 3, 75)  # the newest version that is known to behave like `EARLIER`


@dataclass(frozen=True)
class Behaviour:
    """How a version of ComfyUI validates prompts.

    The defaults are those of 0.33.0; 0.3.75 differs in all of them.
    """

    # the error for a node without a class, or of an unknown class, is ``missing_node_type`` with
    # its title. Otherwise it is ``invalid_prompt``
    names_missing_classes: bool = True
    # old node classes are replaced before the validation, as in ``GET /node_replacements``
    replaces_nodes: bool = True
    # each node of a cycle has the error ``dependency_cycle``. Otherwise cycles are followed up to
    # Python's recursion limit
    reports_cycles: bool = True
    # dynamic inputs of the V3 schema (autogrow, dynamic combo, dynamic slot) are replaced by the
    # inputs ``parent.child`` of the prompt. Otherwise they are validated as inputs of their type
    expands_inputs: bool = True
    # values of V3 combos (type ``COMBO``) must be among the options; in a list of several choices,
    # each of them. Otherwise only combos of the older kind are checked
    checks_v3_options: bool = True
    # ``*`` is valid in a list of types, too; ``COMFY_MATCHTYPE_V3`` can be linked to all types, and
    # an output that is a list of options to a ``COMBO``
    wide_types: bool = True
    # ``value_not_in_list`` has the ``repr()`` of the value. Otherwise the value in quotes
    quotes_values: bool = True
    # A file outside of its folder is missing. Otherwise absolute paths and ``..`` are allowed
    keeps_files_inside: bool = True
    # the key of `NODE_CHECKS` with the checks of node classes: ``"today"`` or ``"earlier"``
    own_checks: str = "today"


TODAY = Behaviour()
EARLIER = Behaviour(
    names_missing_classes=False,
    replaces_nodes=False,
    reports_cycles=False,
    expands_inputs=False,
    checks_v3_options=False,
    wide_types=False,
    quotes_values=False,
    keeps_files_inside=False,
    own_checks="earlier",
)


def behaviour_of(version: str | None, object_info: Mapping[str, Any]) -> Behaviour:
    """Return how a ComfyUI validates prompts."""
    parts = version_parts(version)
    if parts is not None and parts <= _EARLIER:
        return EARLIER
    for info in islice(object_info.values(), 10):
        # ComfyUI's definitions have a display_name; others were written by hand
        if isinstance(info, Mapping) and "display_name" in info:
            return TODAY if "is_input_list" in info else EARLIER
    return TODAY


def has_partial_execution(version: str | None) -> bool:
    """Return whether ``POST /prompt`` takes ``partial_execution_targets``: the outputs to execute.

    An older ComfyUI ignores the field and executes all outputs. An unknown version is treated as
    an older one.
    """
    parts = version_parts(version)
    return parts is not None and parts >= _PARTIAL_EXECUTION


def version_parts(version: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a version such as ``"v0.33.0"``, to compare it; None if it has none."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,9})", version or "")
    return tuple(int(part) for part in found[1].split(".")) if found else None


def outside_tested_range(version: str | None) -> str | None:
    """Return a sentence that says that a version is not between those that the tests use."""
    parts = version_parts(version)
    oldest, newest = version_parts(OLDEST_TESTED), version_parts(NEWEST_TESTED)
    if parts is None or oldest is None or newest is None or oldest <= parts <= newest:
        return None
    how = "older" if parts < oldest else "newer"
    return (
        f"ComfyUI {version} is {how} than the versions that this package is tested with"
        f" ({OLDEST_TESTED} to {NEWEST_TESTED}): most things work, but some may not."
    )
