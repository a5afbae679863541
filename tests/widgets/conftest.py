"""Fixtures for the tests of the panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.widgets import Panel
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.jupyter import JupyterProcess

P = TypeVar("P", bound=Panel)


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


@pytest.fixture
def opened() -> Iterator[Callable[[P], P]]:
    """A function that returns a panel when it is ready; the panel is closed after the test."""
    panels: list[Panel] = []

    def add(panel: P) -> P:
        panels.append(panel)
        until(lambda: getattr(panel, "ready", True))
        return panel

    yield add
    for panel in panels:
        panel.close()
