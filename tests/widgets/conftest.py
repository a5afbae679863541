"""Fixtures for the tests of the panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.client import Comfy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.jupyter import JupyterProcess


@pytest.fixture
def comfy(jupyter: JupyterProcess) -> Comfy:
    """A client of the Jupyter server that tests share."""
    return Comfy(jupyter.url, jupyter.token)


@pytest.fixture(scope="module")
def start_without_comfyui(
    start_jupyter: Callable[..., JupyterProcess], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., JupyterProcess]:
    """A function that starts a Jupyter server without a ComfyUI; it takes further settings."""

    def start(**settings: Any) -> JupyterProcess:
        data_dir = str(tmp_path_factory.mktemp("comfydeploy"))
        nowhere = {"comfyui_url": "http://127.0.0.1:9", "autostart": False}
        return start_jupyter(ComfyDeploy={**nowhere, "data_dir": data_dir, **settings})

    return start
