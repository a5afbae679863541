"""The scripts of the package, and their sources."""

from __future__ import annotations

import re

import anywidget
import pytest

import comfydeploy_jupyter.display.sweeps
import comfydeploy_jupyter.widgets  # noqa: F401 - its classes are looked at
from comfydeploy_jupyter.display.page import STATIC
from tests.helpers.processes import REPOSITORY

SOURCES = REPOSITORY / "js" / "src"
FOLDERS = {
    "views": STATIC,
    "viewers": STATIC / "viewers",
    "page": REPOSITORY / "comfydeploy_jupyter" / "static",
}


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


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_script_has_a_source_and_each_source_a_script(folder: str) -> None:
    made = {path.stem for path in FOLDERS[folder].glob("*.js")}
    assert made == {path.stem for path in (SOURCES / folder).glob("*.ts")} != set()


def imports(script: str, pattern: str) -> bool:
    return re.search(pattern, script, re.MULTILINE) is not None


def test_each_widget_has_a_script_that_needs_no_other() -> None:
    scripts = {widget: vars(widget)["_esm"] for widget in widgets(anywidget.AnyWidget)}
    assert len(scripts) == len(list(STATIC.glob("*.js")))
    for widget, script in scripts.items():
        assert not imports(script, r"^\s*import\b(?!\()|\brequire\("), widget
    later = {one.__name__ for one, script in scripts.items() if imports(script, r"\bimport\(")}
    assert later == {"Gallery"}, "the view of 3D models, when one is opened"


def test_the_viewer_of_models_is_light_and_has_its_licence() -> None:
    script = (STATIC / "viewers" / "model_viewer.js").read_text(encoding="utf-8")
    assert len(script.encode()) < 800_000
    assert "Copyright © 2010-2026 three.js authors" in script
    assert "Permission is hereby granted, free of charge" in script
    assert not imports(script, r"^\s*import\b|\bimport\(|\brequire\(")
