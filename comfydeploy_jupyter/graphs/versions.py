"""What differs between versions of ComfyUI, each difference named once."""

from __future__ import annotations

import re

OLDEST_TESTED, NEWEST_TESTED = "0.3.75", "0.33.0"
"""The versions of ComfyUI that the tests run against; what is between them is expected to work."""

_PARTIAL_EXECUTION = (0, 3, 48)  # the first release after it came, on 31 July 2025


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
