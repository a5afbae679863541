"""The client of the tests of sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.client import Comfy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.jupyter import JupyterProcess


@pytest.fixture
def comfy(jupyter: JupyterProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comfy:
    """A client of the Jupyter server, in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    return Comfy(jupyter.url, jupyter.token)
