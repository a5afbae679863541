"""TunnelPanel without a page: the state of its widgets, with the real routes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import pytest

from comfydeploy_jupyter import TunnelPanel
from comfydeploy_jupyter.client import Comfy
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.cloudflared import FakeCloudflared
    from tests.helpers.jupyter import JupyterProcess


@pytest.fixture(scope="module")
def cloudflared(tmp_path_factory: pytest.TempPathFactory) -> FakeCloudflared:
    from tests.helpers.cloudflared import FakeCloudflared

    return FakeCloudflared(tmp_path_factory.mktemp("cloudflared"))


@pytest.fixture(scope="module")
def server(
    start_without_comfyui: Callable[..., JupyterProcess], cloudflared: FakeCloudflared
) -> JupyterProcess:
    """A Jupyter server with a replacement for cloudflared."""
    return start_without_comfyui(cloudflared_path=str(cloudflared.path))


@pytest.fixture
def comfy(server: JupyterProcess, cloudflared: FakeCloudflared) -> Iterator[Comfy]:
    cloudflared.behave()
    found = Comfy(server.url, server.token)
    yield found
    found.tunnel.stop()


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[TunnelPanel], TunnelPanel]
) -> Callable[..., TunnelPanel]:
    """A function that makes a panel and waits until it knows the state of the tunnel."""
    return lambda *args: opened(TunnelPanel(*args, comfy=comfy))


def test_cloudflared_is_downloaded_with_consent(without_cloudflared: JupyterProcess) -> None:
    comfy = Comfy(without_cloudflared.url, without_cloudflared.token)
    panel = TunnelPanel("jupyter", comfy)
    until(lambda: panel.ready)
    panel.open_tunnel()
    until(lambda: "There is no cloudflared" in panel.report)
    assert panel._download_box.layout.display == ""
    panel.download()
    until(lambda: panel.status.running)
    assert panel._download_box.layout.display == "none"
    assert panel.copied == panel.status.access_url
    panel.close_tunnel()
    until(lambda: panel.status.state == "stopped")
    assert panel.copied == ""
    panel.open_tunnel()  # it is there now
    until(lambda: panel.status.running)
    panel.close()
    comfy.tunnel.stop()


def test_the_panel_starts_shows_and_stops_a_tunnel(
    panel_of: Callable[..., TunnelPanel], comfy: Comfy
) -> None:
    with pytest.raises(ValueError, match="comfyui or jupyter, not 'fridge'"):
        panel_of("fridge")
    panel = panel_of("jupyter")
    assert "Stopped" in panel.report
    panel.open_tunnel()
    until(lambda: panel.status.running)
    status = comfy.tunnel.status("jupyter")
    assert status.url is not None
    until(lambda: status.url in panel.report)
    assert "protected by Jupyter" in panel.report
    assert panel.copied == status.access_url
    other = panel_of()
    assert other.status.target == "jupyter", "the tunnel that is open"
    panel.close_tunnel()
    until(lambda: other.status.state == panel.status.state == "stopped")
    assert not comfy.tunnel.status()
    assert panel.error == ""
    panel.open_tunnel()
    until(lambda: panel.status.running)
    panel.close()
    assert comfy.tunnel.status(), "it does not belong to the panel"


def test_the_notebook_keeps_no_secret(panel_of: Callable[..., TunnelPanel], comfy: Comfy) -> None:
    started = comfy.tunnel.start(port=9)
    panel = panel_of()
    assert panel.copied == started.access_url
    secret = str(started.access_url).partition("access=")[2]
    plain = panel._repr_mimebundle_()["text/plain"]
    assert str(started.url) in plain
    assert secret not in plain
    saved = json.dumps(w.Widget.get_manager_state(), default=str)
    assert str(started.url) in saved
    assert secret not in saved


def test_a_failure_is_described_and_escaped(
    panel_of: Callable[..., TunnelPanel], cloudflared: FakeCloudflared
) -> None:
    cloudflared.behave(mode="exits")
    panel = panel_of("jupyter")
    panel.open_tunnel()
    until(lambda: "Failed" in panel.report)
    assert "the moon is in the wrong place" in panel.report
    assert "The log of cloudflared" in panel.report
    assert "&quot;the moon" in panel.report
    cloudflared.behave()
    panel.open_tunnel()
    until(lambda: panel.status.running)
    assert "the moon" not in panel.report


def test_a_missing_comfyui_is_reported(panel_of: Callable[..., TunnelPanel]) -> None:
    panel = panel_of()
    panel.open_tunnel()
    until(lambda: "Failed" in panel.report)
    assert "ComfyUI" in panel.report


def test_a_bad_token_is_reported_and_not_stored(panel_of: Callable[..., TunnelPanel]) -> None:
    panel = panel_of("jupyter")
    panel._hostname.value, panel._token.value = "comfy.example.com", "nonsense"
    panel.open_tunnel()
    until(lambda: panel.error)
    assert "token" in panel.error
    assert "nonsense" not in str([widget.get_state() for widget in every(panel)])


def every(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)
