"""``comfy.tunnel`` with the real routes and a replacement for cloudflared."""

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.client.tunnel import TunnelStatus
from comfydeploy_jupyter.errors import InvalidRequestError, TunnelFailedError


@pytest.fixture
def comfy(serve, cloudflared):
    # nothing listens there; the tunnel starts nevertheless
    server = serve(
        comfyui_url="http://127.0.0.1:9", autostart=False, cloudflared_path=str(cloudflared.path)
    )
    return Comfy(server.url, server.token)


@pytest.mark.thorough
def test_start_status_stop(comfy, cloudflared):
    assert repr(comfy.tunnel.status()) == "<tunnel to ComfyUI: stopped>"
    started = comfy.tunnel.start(port=9)
    assert started
    assert started.port == 9
    assert (started.protected, started.protection) == (True, "gate")
    assert started.access_url.startswith(f"{started.url}/?access=")
    status = comfy.tunnel.status()
    assert status.url == started.url
    assert repr(status) == (
        f"<tunnel to ComfyUI: {started.url}, protected by the secret in its link; open its "
        "access_url>"
    )
    shown = status._repr_html_()
    assert f'href="{started.url}"' in shown
    assert "access_url" in shown
    assert started.access_url.partition("access=")[2] not in shown
    jupyter = comfy.tunnel.start("jupyter")
    assert jupyter.protection == "jupyter"
    assert not comfy.tunnel.stop("jupyter")
    assert comfy.tunnel.status()
    assert not comfy.tunnel.stop()
    cloudflared.behave(mode="exits")
    with pytest.raises(TunnelFailedError, match="the moon is in the wrong place") as failed:
        comfy.tunnel.start(port=9)
    assert failed.value.details["log"]
    assert "the moon" in repr(comfy.tunnel.status())
    with pytest.raises(InvalidRequestError, match="port"):
        comfy.tunnel.start(port=0)


def test_texts_in_its_html_are_escaped():
    bad = TunnelStatus({"target": "comfyui", "state": "stopped", "error": "<b>no</b>"})
    assert "&lt;b&gt;no&lt;/b&gt;" in bad._repr_html_()
    bare = TunnelStatus({"running": True, "url": "https://a.b", "protection": "none"})
    assert "NOT protected" in bare._repr_html_()
    assert "NOT protected" in repr(bare)
