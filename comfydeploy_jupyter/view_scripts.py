"""The scripts of views, which run in the page."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "widgets" / "static"
"""The folder of the widgets' style sheets, and of their scripts, which `js/build.mjs` makes."""


def script(name: str) -> str:
    """Return the script of a view: a single module that imports no others."""
    return (STATIC / f"{name}.js").read_text(encoding="utf-8")
