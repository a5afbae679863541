"""Fixtures for the tests of the panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from comfydeploy_jupyter.client import Comfy

if TYPE_CHECKING:
    from tests.jupyter_process import JupyterProcess


@pytest.fixture
def comfy(jupyter: JupyterProcess) -> Comfy:
    """A client of the Jupyter server that tests share."""
    return Comfy(jupyter.url, jupyter.token)
