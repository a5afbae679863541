"""The scripts of the package, and their sources."""

from __future__ import annotations

import gzip
import re

from comfydeploy_jupyter.widgets.page import STATIC, script


def imports(script: str, pattern: str) -> bool:
    return re.search(pattern, script, re.MULTILINE) is not None


def test_the_script_of_a_panel_needs_no_other_file() -> None:
    assert not imports(script("anywidget"), r"^\s*import\b(?!\()|\brequire\(")


def test_the_viewer_of_models_is_light_and_has_its_licence() -> None:
    viewer = (STATIC / "viewers" / "model_viewer.js").read_text(encoding="utf-8")
    assert len(viewer.encode()) < 800_000
    assert "Copyright © 2010-2026 three.js authors" in viewer
    assert "Permission is hereby granted, free of charge" in viewer
    assert not imports(viewer, r"^\s*import\b|\bimport\(|\brequire\(")


def test_all_panels_together_are_light() -> None:
    assert len(gzip.compress((STATIC / "panels.js").read_bytes(), 9)) <= 160_000
