"""TunnelPanel without a page, with the real routes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
    panel.open_tunnel()
    panel.wait()
    assert "There is no cloudflared" in str(panel.status.error)
    panel.download()
    until(lambda: panel.status.running)
    panel.close_tunnel()
    until(lambda: panel.status.state == "stopped")
    panel.open_tunnel()  # it is there now
    until(lambda: panel.status.running)
    panel.close()
    comfy.tunnel.stop()


def test_the_panel_starts_and_stops_a_tunnel(
    panel_of: Callable[..., TunnelPanel], comfy: Comfy
) -> None:
    with pytest.raises(ValueError, match="comfyui or jupyter, not 'fridge'"):
        panel_of("fridge")
    with pytest.raises(TypeError, match="did you mean target"):
        TunnelPanel(tarket="jupyter")
    panel = panel_of("jupyter")
    assert panel.status.state == "stopped"
    panel.open_tunnel()
    until(lambda: panel.status.running)
    assert panel.status.url == comfy.tunnel.status("jupyter").url
    panel.close_tunnel()
    until(lambda: panel.status.state == "stopped")
    assert panel.error == ""
    panel.open_tunnel()
    until(lambda: panel.status.running)
    panel.close()
    assert comfy.tunnel.status(), "it does not belong to the panel"


def test_the_notebook_keeps_no_secret(panel_of: Callable[..., TunnelPanel], comfy: Comfy) -> None:
    started = comfy.tunnel.start(port=9)
    panel = panel_of()
    panel.summary = f"Tunnel to ComfyUI: Running at {started.url}"
    secret = str(started.access_url).partition("access=")[2]
    plain = panel._repr_mimebundle_()[0]["text/plain"]
    assert str(started.url) in plain
    saved = json.dumps(w.Widget.get_manager_state(widgets=[panel]), default=str)
    assert str(started.url) in saved
    assert secret not in saved + plain
    assert comfy.server.token not in saved


def test_errors_of_python_are_shown(panel_of: Callable[..., TunnelPanel]) -> None:
    panel = panel_of("jupyter")
    panel.open_tunnel(token="nonsense", hostname="comfy.example.com")
    panel.wait()
    assert "token" in panel.error
    assert "nonsense" not in json.dumps(panel.get_state(), default=str)
    panel.close_tunnel()
    panel.wait()
    assert panel.error == ""


def test_a_server_that_does_not_answer_is_tried_again(
    server: JupyterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfydeploy_jupyter.widgets.panel.CONNECT_INTERVAL", 0.05)
    panel = TunnelPanel(comfy=Comfy("http://127.0.0.1:9/"))
    until(lambda: "does not answer" in panel.error)
    assert panel.server == {}
    panel._comfy = Comfy(server.url, server.token)
    until(lambda: panel.server)
    assert panel.error == ""
    panel.close()
