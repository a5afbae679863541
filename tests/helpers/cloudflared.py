"""Installs the replacement for cloudflared for a test; `fake_cloudflared` is the program itself."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.tunnel.cloudflared import asset_name
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("fake_cloudflared.py")


class FakeCloudflared:
    """The interface of tests to the replacement for cloudflared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "cloudflared"
        self.path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/stand-in.py" "$@"\n')
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
        path = self.folder / "starts.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def edge(self) -> str:
        """The local address for clients of the last tunnel."""
        return f"http://127.0.0.1:{self.starts[-1]['edge']}"


@contextlib.contextmanager
def release_of(program: Path, folder: Path) -> Iterator[str]:
    """Publish a program as GitHub does with a release; give the address of its description."""
    content = program.read_bytes()
    (folder / asset_name()).write_bytes(content)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        address = f"http://127.0.0.1:{site.server_port}"
        asset = {
            "name": asset_name(),
            "browser_download_url": f"{address}/{asset_name()}",
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        }
        (folder / "latest").write_text(json.dumps({"tag_name": "1", "assets": [asset]}))
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"{address}/latest"
        site.shutdown()


@pytest.fixture
def without_cloudflared(
    start_jupyter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A Jupyter server without cloudflared, which it can download from a site of this machine."""
    for name in ("program", "site", "bin"):
        (tmp_path / name).mkdir()
    program = FakeCloudflared(tmp_path / "program").path
    with release_of(program, tmp_path / "site") as address:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        yield start_jupyter(
            ComfyDeploy={
                "comfyui_url": "http://127.0.0.1:9",
                "autostart": False,
                "cloudflared_release_url": address,
                "data_dir": str(tmp_path / "data"),
            }
        )


@pytest.fixture
def cloudflared(tmp_path_factory: pytest.TempPathFactory) -> FakeCloudflared:
    """The replacement for cloudflared."""
    return FakeCloudflared(tmp_path_factory.mktemp("cloudflared"))
