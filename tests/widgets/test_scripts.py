"""The scripts of the package, and their sources."""

from __future__ import annotations

import gzip
import re

import anywidget

import comfydeploy_jupyter.display.sweeps
import comfydeploy_jupyter.widgets  # noqa: F401 - its classes are looked at
from comfydeploy_jupyter.display.page import STATIC


def widgets(base: type) -> set[type]:
    """Return the classes of the package that are derived from another class."""
    found = {
        widget
        for sub in base.__subclasses__()
        for widget in {sub, *widgets(sub)}
        if widget.__module__.startswith("comfydeploy_jupyter.")
    }
    # traitlets makes a class of its own for each widget, whose script is a trait
    return {widget for widget in found if isinstance(vars(widget).get("_esm"), str)}


def imports(script: str, pattern: str) -> bool:
    return re.search(pattern, script, re.MULTILINE) is not None


def test_each_widget_has_a_script_that_needs_no_other() -> None:
    scripts = {widget: vars(widget)["_esm"] for widget in widgets(anywidget.AnyWidget)}
    assert scripts
    for widget, script in scripts.items():
        assert not imports(script, r"^\s*import\b(?!\()|\brequire\("), widget
    later = {one.__name__ for one, script in scripts.items() if imports(script, r"\bimport\(")}
    assert later == {"Panel"}, "the panels"


def test_the_viewer_of_models_is_light_and_has_its_licence() -> None:
    script = (STATIC / "viewers" / "model_viewer.js").read_text(encoding="utf-8")
    assert len(script.encode()) < 800_000
    assert "Copyright © 2010-2026 three.js authors" in script
    assert "Permission is hereby granted, free of charge" in script
    assert not imports(script, r"^\s*import\b|\bimport\(|\brequire\(")


def test_all_panels_together_are_light() -> None:
    assert len(gzip.compress((STATIC / "panels.js").read_bytes(), 9)) <= 160_000
