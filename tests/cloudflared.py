"""Installs the replacement for cloudflared for a test; `fake_cloudflared` is the program itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

PROGRAM = Path(__file__).with_name("fake_cloudflared.py")


class FakeCloudflared:
    """The interface of tests to the replacement for cloudflared.

    Attributes
    ----------
    path : pathlib.Path
        The program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "cloudflared"
        self.path.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/stand-in.py "$@"\n')
        self.path.chmod(0o755)
        (folder / "stand-in.py").symlink_to(PROGRAM)
        self.behave()

    def behave(self, **behaviour: object) -> None:
        """Set the behaviour of the next starts."""
        beside = self.folder / "behaviour.new"
        beside.write_text(json.dumps(behaviour))
        beside.replace(self.folder / "behaviour.json")

    def hold(self) -> None:
        """Delay the tunnel of each start."""
        (self.folder / "hold").touch()

    def wait_for_start(self) -> None:
        until(lambda: self.starts, what="cloudflared was not started")

    def release(self) -> None:
        (self.folder / "hold").unlink()

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The records of its starts."""
        path = self.folder / "starts.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def edge(self) -> str:
        """The local address for clients of the last tunnel."""
        return f"http://127.0.0.1:{self.starts[-1]['edge']}"


@pytest.fixture
def cloudflared(tmp_path_factory: pytest.TempPathFactory) -> FakeCloudflared:
    """The replacement for cloudflared."""
    return FakeCloudflared(tmp_path_factory.mktemp("cloudflared"))
