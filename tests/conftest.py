"""Fixtures for all tests: a Jupyter server with the extension's needs, and a real ComfyUI."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = [
    "pytest_jupyter.jupyter_server",
    "tests.comfyui_server",
    "tests.cloudflared",
    "tests.fake_comfydeploy",
    "tests.faulty_comfyui",
    "tests.jupyter_process",
    "tests.mortal_jupyter",
    "tests.transfer_service",
]

BROWSER = "tests/browser/"


class Scheduling(LoadScopeScheduling):
    """Gives each process whole files, and all tests in a browser to one: they share its page."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Tell xdist how tests are given to processes."""
    return Scheduling(config, log)
