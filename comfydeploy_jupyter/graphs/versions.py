"""What differs between versions of ComfyUI, each difference named once.

Two versions were observed: 0.3.75 (November 2025) and 0.33.0 (2026). How a version in between
checks a prompt is read from its node definitions: today's describe every class with
``is_input_list``, those of 0.3.75 none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

OLDEST_TESTED, NEWEST_TESTED = "0.3.75", "0.33.0"
"""The versions of ComfyUI that the tests run against; what is between them is expected to work."""

_PARTIAL_EXECUTION = (0, 3, 48)  # the first release after it came, on 31 July 2025
_EARLIER = (0, 3, 75)  # the newest version that is known to behave as `EARLIER` says


@dataclass(frozen=True)
class Behaviour:
    """How one version of ComfyUI checks a prompt.

    The defaults are what was observed with 0.33.0; 0.3.75 does otherwise in each of them.

    Attributes
    ----------
    names_missing_classes : bool
        A node without class, or of an unknown one, is ``missing_node_type`` and is named by its
        title. Otherwise it is ``invalid_prompt``.
    replaces_nodes : bool
        Old node classes are replaced before the check, as ``GET /node_replacements`` says.
    reports_cycles : bool
        A cycle is ``dependency_cycle`` of each of its nodes. Otherwise it is followed until Python
        stops the recursion.
    expands_inputs : bool
        Dynamic inputs of the V3 schema (autogrow, dynamic combo, dynamic slot) stand for the
        inputs ``parent.child`` that a prompt gives them. Otherwise they are checked like a type.
    checks_v3_options : bool
        Values of V3 combos (type ``COMBO``) must be among the options, one by one where several
        may be chosen. Otherwise only the older kind of combo is checked.
    wide_types : bool
        ``*`` counts within a list of types too, ``COMFY_MATCHTYPE_V3`` goes with all types, and an
        output that is a list of options goes into a ``COMBO``.
    quotes_values : bool
        ``value_not_in_list`` shows the value as ``repr()`` does. Otherwise between quotes.
    keeps_files_inside : bool
        A file outside its folder counts as absent. Otherwise absolute paths and ``..`` are
        followed.
    own_checks : str
        Which set of `NODE_CHECKS` the node classes have: ``"today"`` or ``"earlier"``.
    """

    names_missing_classes: bool = True
    replaces_nodes: bool = True
    reports_cycles: bool = True
    expands_inputs: bool = True
    checks_v3_options: bool = True
    wide_types: bool = True
    quotes_values: bool = True
    keeps_files_inside: bool = True
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
    """Return how a ComfyUI checks prompts.

    Parameters
    ----------
    version : str or None
        Its version, if it is known.
    object_info : mapping
        Its node definitions. Where neither they nor the version decide, today's ComfyUI is meant.
    """
    parts = version_parts(version)
    if parts is not None and parts <= _EARLIER:
        return EARLIER
    for info in islice(object_info.values(), 10):
        # ComfyUI gives each class a display_name; definitions without it were made by hand
        if isinstance(info, Mapping) and "display_name" in info:
            return TODAY if "is_input_list" in info else EARLIER
    return TODAY


def has_partial_execution(version: str | None) -> bool:
    """Return whether ``POST /prompt`` takes ``partial_execution_targets``: the outputs to execute.

    An older ComfyUI passes over the field and executes all of them. So does, for all that is known,
    one whose version is not known.
    """
    parts = version_parts(version)
    return parts is not None and parts >= _PARTIAL_EXECUTION


def version_parts(version: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a version such as ``"v0.33.0"``, to compare it; None if it has none."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,9})", version or "")
    return tuple(int(part) for part in found[1].split(".")) if found else None


def outside_tested_range(version: str | None) -> str | None:
    """Return in one sentence that a version is not among those that the tests run against.

    Returns
    -------
    str or None
        None for a version between the oldest and the newest one that are tested, and for one that
        is not known.
    """
    parts = version_parts(version)
    oldest, newest = version_parts(OLDEST_TESTED), version_parts(NEWEST_TESTED)
    if parts is None or oldest is None or newest is None or oldest <= parts <= newest:
        return None
    how = "older" if parts < oldest else "newer"
    return (
        f"ComfyUI {version} is {how} than the versions that this package is tested with"
        f" ({OLDEST_TESTED} to {NEWEST_TESTED}): most things work, but some may not."
    )
