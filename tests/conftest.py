"""Fixtures for all tests: a Jupyter server with the extension, and a real ComfyUI."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("tests.helpers")
pytest_plugins = [
    "pytest_jupyter.jupyter_server",
    "tests.helpers.clusters",
    "tests.helpers.cloudflared",
    "tests.helpers.comfy_accounts",
    "tests.helpers.comfyui",
    "tests.helpers.comfyui_proxies",
    "tests.helpers.fake_comfydeploy",
    "tests.helpers.jupyter",
    "tests.helpers.jupyterhub",
    "tests.helpers.selection",
    "tests.helpers.transfer_service",
]

# Without compiled modules on disk, each process of the tests compiles all of them: a Jupyter server
# takes three times the processor time to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# jupyter-server-mcp takes seconds to import and a port that only one server can have: the servers
# of tests do without it, unless a test enables it.
os.environ["JUPYTER_CONFIG_PATH"] = str(Path(__file__).with_name("jupyter_config"))

BROWSER = sorted(
    f"tests/browser/{path.name}" for path in Path(__file__).parent.glob("browser/test_*.py")
)
HALF = BROWSER[len(BROWSER) // 2]


class Scheduling(LoadScopeScheduling):
    """Assigns whole files to each process, and half of all browser tests: they share a page."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return f"browser {file > HALF}" if file in BROWSER else file


@pytest.fixture
def jp_environ(jp_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the ``PYTHONPATH`` of pytest-jupyter, which breaks other Pythons such as ComfyUI's.

    It contains all paths of this Python, whose standard library does not work in other versions.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("hidden")))


@pytest.fixture
def jp_nbconvert_templates() -> None:
    """No templates, which pytest-jupyter copies for each server: no test exports a notebook."""


def pytest_configure() -> None:
    """Restore signals that the parent of the tests ignores, as a shell does in the background.

    Child processes inherit ignored signals, but not handled ones. After this, the programs that
    tests start can be interrupted, as if they had been started from a terminal. They also inherit
    the usual permissions of new files.
    """
    os.umask(0o022)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish() -> None:
    """Exempt what exists before the first test from garbage collection.

    The modules and tests consist of about a million objects, and some fixtures collect after each
    test.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Set xdist's scheduler, which assigns tests to processes."""
    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """Make sure that reports reach the first process, with any printed or logged text."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    """Return the data of a report with valid Unicode in all its texts."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(found) for key, found in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_sendable(found) for found in value)
    return value
