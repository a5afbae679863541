"""Requests from the internet: the real ComfyUI and Jupyter through the tunnel, and `kill -9`."""

import json
import os
import signal
import stat
import uuid
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests
import websocket

from tests.helpers.processes import alive
from tests.helpers.waiting import until


@pytest.fixture
def server(serve, comfyui, cloudflared):
    return serve(comfyui_url=comfyui.url, cloudflared_path=str(cloudflared.path))


def visitor(cloudflared, started):
    """A client at the public name of the tunnel."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Host"] = started["url"].removeprefix("https://")
    return session


def secret_of(started):
    return started["access_url"].split("access=")[1]


def test_comfyui_is_reached_with_the_secret_only_also_after_the_end_of_the_gate(
    server, cloudflared, comfyui
):
    code, started = server.post("tunnel/start", {})
    assert (code, started["protected"], started["protection"]) == (200, True, "gate")
    edge = cloudflared.edge
    session = visitor(cloudflared, started)
    assert session.get(f"{edge}/system_stats").status_code == 401
    bearer = {"Authorization": f"Bearer {secret_of(started)}"}
    stats = session.get(f"{edge}/system_stats", headers=bearer).json()
    assert "comfyui_version" in stats["system"]

    picture = os.urandom(3 * 1024 * 1024)
    name = f"{uuid.uuid4().hex}.bin"
    files = {"image": (name, picture)}
    assert session.post(f"{edge}/upload/image", files=files, headers=bearer).status_code == 200
    params = {"filename": name, "type": "input"}
    assert session.get(f"{edge}/view", params=params, headers=bearer).content == picture

    client_id = uuid.uuid4().hex
    socket = websocket.create_connection(
        f"{edge.replace('http', 'ws')}/ws?clientId={client_id}&access={secret_of(started)}",
        host=session.headers["Host"],
        origin=started["url"],
        timeout=60,
    )
    graph = {"1": {"class_type": "TestText", "inputs": {"text": uuid.uuid4().hex}}}
    # as the editor does it, which ComfyUI accepts of its own pages only
    page = {**bearer, "Origin": started["url"], "Sec-Fetch-Site": "same-origin"}
    body = {"prompt": graph, "client_id": client_id}
    answer = session.post(f"{edge}/prompt", json=body, headers=page)
    assert answer.status_code == 200, answer.text
    events = []
    while "execution_success" not in events:
        message = socket.recv()
        if isinstance(message, str):
            events.append(json.loads(message)["type"])
    socket.close()
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(f"{edge.replace('http', 'ws')}/ws", timeout=60)

    gate = next(pid for pid in pids(server, cloudflared) if pid != cloudflared.starts[-1]["pid"])
    os.kill(gate, signal.SIGKILL)

    def answers():
        with suppress(requests.RequestException):
            url = f"{edge}/system_stats"
            return session.get(url, headers=bearer, timeout=30).status_code == 200
        return False

    until(answers)
    assert "gate of the tunnel ended" in server.log()
    assert secret_of(started) not in server.log()
    assert server.post("tunnel/stop", {})[0] == 200
    tunnels_without_a_gate(server, cloudflared, comfyui)


def tunnels_without_a_gate(server, cloudflared, comfyui):
    code, started = server.post("tunnel/start", {"protect": False})
    assert (code, started["protected"], started["port"]) == (200, False, comfyui.port)
    session = visitor(cloudflared, started)
    assert session.get(f"{cloudflared.edge}/system_stats").status_code == 200
    assert server.post("tunnel/stop", {})[0] == 200
    # A start goes on if its client disconnects.
    before = len(cloudflared.starts)
    cloudflared.hold()
    with pytest.raises(requests.ReadTimeout):
        server.post("tunnel/start", {"target": "jupyter"}, timeout=1)
    until(lambda: len(cloudflared.starts) == before + 1)
    cloudflared.release()
    until(lambda: server.get("tunnel/status")[1]["running"])
    code, started = server.post("tunnel/start", {"target": "jupyter"})
    assert (code, started["protection"], len(cloudflared.starts)) == (200, "jupyter", before + 1)
    session = visitor(cloudflared, started)
    path = f"{cloudflared.edge}{started['access_url'].removeprefix(started['url'])}"
    assert session.get(f"{path}comfyui-deploy/check-status").status_code == 403
    token = {"Authorization": f"token {server.token}"}
    answer = session.get(f"{path}comfyui-deploy/check-status", headers=token)
    assert (answer.status_code, answer.json()["tunnel"]["target"]) == (200, "jupyter")
    assert server.post("tunnel/stop", {})[0] == 200
    # a Jupyter of this machine only takes no other names
    session.headers["Host"] = "rebound.example"
    assert session.get(f"{server.url}comfyui-deploy/check-status", headers=token).status_code == 403


def test_a_jupyter_without_authentication_gets_a_gate(start_jupyter, cloudflared, tmp_path):
    jupyter = start_jupyter(
        IdentityProvider={"token": ""},
        ComfyDeploy={
            "comfyui_url": "http://127.0.0.1:9",
            "autostart": False,
            "data_dir": str(tmp_path / "data"),
            "cloudflared_path": str(cloudflared.path),
        },
    )
    with requests.Session() as user:
        user.trust_env = False
        user.get(f"{jupyter.url}lab/../login")
        page = {"X-XSRFToken": user.cookies.get("_xsrf") or ""}
        route = f"{jupyter.url}comfyui-deploy/tunnel/start"
        answer = user.post(route, json={"target": "jupyter"}, headers=page)
    started = answer.json()
    assert (answer.status_code, started["protection"]) == (200, "gate"), started
    without_credentials = visitor(cloudflared, started)
    path = f"{cloudflared.edge}{urlsplit(started['access_url']).path}"
    for route in ("", "api/kernels", "comfyui-deploy/machines"):
        assert without_credentials.get(f"{path}{route}", allow_redirects=False).status_code == 401
    secret = {"Authorization": f"Bearer {secret_of(started)}"}
    guest = without_credentials.get(f"{path}comfyui-deploy/machines", headers=secret)
    assert (guest.status_code, guest.json()[0]["id"]) == (200, "local")
    folder = tmp_path / "data" / "tunnel"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    jupyter.stop()


def pids(server, cloudflared):
    folder = server.folder / "comfydeploy" / "tunnel"
    found = [int(json.loads(path.read_text())["pid"]) for path in folder.glob("*.json")]
    assert cloudflared.starts[-1]["pid"] in found
    assert len(found) == 2  # the gate too
    return found


def test_no_process_outlives_a_killed_or_stopped_jupyter(server, cloudflared):
    cloudflared.hold()
    with pytest.raises(requests.RequestException):
        server.post("tunnel/start", {}, timeout=3)
    cloudflared.wait_for_start()
    pid = cloudflared.starts[0]["pid"]
    server.kill()
    until(lambda: not alive(pid))
    cloudflared.release()
    server.start()
    assert server.get("tunnel/status")[1]["state"] == "stopped"
    first = server.post("tunnel/start", {})[1]
    killed = pids(server, cloudflared)
    server.kill()
    until(lambda: not any(alive(pid) for pid in killed))
    server.start()
    assert server.get("tunnel/status")[1]["running"] is False
    again = server.post("tunnel/start", {})[1]
    assert (again["running"], again["url"] != first["url"]) == (True, True)
    stopped = pids(server, cloudflared)
    server.stop()
    until(lambda: not any(alive(pid) for pid in stopped))
