"""Fixtures for all tests: a Jupyter server with the extension's needs, and a real ComfyUI."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = [
    "pytest_jupyter.jupyter_server",
    "tests.comfyui_server",
    "tests.cloudflared",
    "tests.fake_comfydeploy",
    "tests.faulty_comfyui",
    "tests.jupyter_app",
    "tests.jupyter_process",
    "tests.jupyterhub_server",
    "tests.mortal_jupyter",
    "tests.newer_comfyui",
    "tests.selection",
    "tests.transfer_service",
]

# jupyter-server-mcp takes seconds to import and a port that only one server can have: the servers
# of tests do without it, unless a test enables it.
os.environ["JUPYTER_CONFIG_PATH"] = str(Path(__file__).with_name("jupyter_config"))

BROWSER = "tests/browser/"


class Scheduling(LoadScopeScheduling):
    """Gives each process whole files, and all tests in a browser to one: they share its page."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else nodeid.partition("::")[0]


@pytest.fixture
def jp_environ(jp_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what pytest-jupyter makes of ``PYTHONPATH`` from other Pythons, such as ComfyUI's.

    It is all of this one's paths, and no standard library works in a Python of another version.
    """
    monkeypatch.delenv("PYTHONPATH")


def pytest_configure() -> None:
    """Give signals back that whoever started the tests ignores, as shells do in the background.

    Programs hand what they ignore on to those that they start, but not what they handle: those that
    tests start can be interrupted, as if they had been started from a terminal.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Tell xdist how tests are given to processes."""
    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """Let reports reach the first process, whatever the tests have printed and logged."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    """Return what a report is made of with all its texts as Unicode allows them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(found) for key, found in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_sendable(found) for found in value)
    return value
