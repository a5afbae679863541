"""The tunnel routes, with a replacement for cloudflared: starts, failures, wrong input, rests."""

import asyncio
import base64
import json
import os
import signal
import stat

import pytest
from traitlets.config import Config

from tests.helpers.jupyterhub import RecordingAuthorizer
from tests.helpers.processes import alive
from tests.helpers.selection import few
from tests.helpers.waiting import until_async

PORT = 65_000  # nothing listens there; the tunnel starts nevertheless
NO_GATE = {"port": PORT, "protect": False}  # most of these tests are not about the gate
TOKEN = base64.b64encode(json.dumps({"a": "account", "t": "tunnel", "s": "c2VjcmV0"}).encode())
NAMED = {"port": PORT, "token": TOKEN.decode(), "protect": False}


@pytest.fixture
def settings():
    return {}


@pytest.fixture
def extension_config(without_comfyui, cloudflared, settings):
    return {**without_comfyui, "cloudflared_path": str(cloudflared.path), **settings}


async def process_ended(pid):
    await until_async(lambda: not alive(pid))


async def until_status(api, accept, **query):
    _, body = await until_async(
        lambda: api.get("tunnel/status", **query), lambda answer: accept(answer[1])
    )
    return body


async def test_start_status_stop(api, jp_fetch, cloudflared):
    code, body = await api.get("tunnel/status")
    assert (code, body["success"], body["running"]) == (200, True, False)
    assert (body["url"], body["port"]) == (None, None)
    code, started = await api.post("tunnel/start", NO_GATE)
    assert (code, started["success"], started["running"]) == (200, True, True)
    assert (started["port"], started["target"], started["protected"]) == (PORT, "comfyui", False)
    assert "NOT protected" in started["message"]
    assert started["url"].endswith(".trycloudflare.com")
    assert started["access_url"] == started["url"] + "/"
    for fetched in (
        (await api.get("tunnel/status"))[1],
        json.loads((await jp_fetch("tunnel", "status")).body),
    ):
        assert fetched["url"] == started["url"]
        assert fetched["tunnels"]["comfyui"]["running"] is True
        assert fetched["tunnels"]["jupyter"]["running"] is False
    summary = (await api.get("check-status"))[1]["tunnel"]
    assert (summary["running"], summary["url"]) == (True, started["url"])
    code, stopped = await api.post("tunnel/stop", {})
    assert (code, stopped["success"], stopped["running"]) == (200, True, False)
    assert not alive(cloudflared.starts[0]["pid"])
    assert (await api.post("tunnel/stop", {}))[1]["success"] is True
    assert (await api.get("check-status"))[1]["tunnel"]["running"] is False


async def test_starts_at_the_same_time_are_one(api, cloudflared):
    cloudflared.hold()
    starts = [asyncio.ensure_future(api.post("tunnel/start", NO_GATE)) for _ in range(5)]
    await until_status(api, lambda body: body["state"] == "starting")
    bad = await api.post("tunnel/start", {"port": 0})
    other = await api.post("tunnel/start", {"port": PORT - 1})
    cloudflared.release()
    answers = await asyncio.gather(*starts)
    assert (bad[0], bad[1]["code"], bad[1]["details"]["field"]) == (400, "invalid_request", "port")
    assert (other[0], other[1]["code"], other[1]["details"]["field"]) == (409, "conflict", "port")
    assert {code for code, _ in answers} == {200}
    urls = {body["url"] for _, body in answers}
    for body in ({}, {"port": PORT}, {"protect": False}):
        code, again = await api.post("tunnel/start", body)
        assert (code, {again["url"]}) == (200, urls)
        assert "already" in again["message"]
    assert len(cloudflared.starts) == 1


WRONG = {
    "port": (0, 65_536, -1, "8188", 8188.5, True, {}),
    "target": ("fridge", 1),
    "token": ("", "hello", *(base64.b64encode(t).decode() for t in (b"[]", b'{"a": "x"}')), 7),
    "hostname": ("no dots", "comfy.example.com", "a.b/../c"),  # the second one needs a token
    "protect": ("no",),
    "machine": ("", 7),
}


async def test_bad_input(api, cloudflared):
    for field, value in ((field, value) for field, values in WRONG.items() for value in values):
        code, body = await api.post("tunnel/start", {field: value})
        assert (code, body["code"], body["success"]) == (400, "invalid_request", False), value
        assert body["details"]["field"] == field
        assert "(?" not in body["error"], "words, not a regular expression"
    code, body = await api.post("tunnel/start", {})
    assert (code, body["code"]) == (503, "comfyui_unavailable")
    assert cloudflared.starts == []
    assert (await api.get("tunnel/status"))[1]["state"] == "stopped"


async def test_bad_input_leaves_a_running_tunnel_alone(api, cloudflared):
    url = (await api.post("tunnel/start", NO_GATE))[1]["url"]
    for body in ({"port": 0}, {"token": "x"}, {"target": "fridge"}):
        assert (await api.post("tunnel/start", body))[0] == 400
    assert (await api.post("tunnel/stop", {"target": "fridge"}))[0] == 400
    for body, field in (
        ({"port": PORT + 1}, "port"),
        ({"protect": True}, "protect"),
        ({"token": TOKEN.decode()}, "token"),
        ({"machine": "local"}, "machine"),  # this one leads to a port
    ):
        assert await api.refusal("tunnel/start", body) == (409, field)
    status = (await api.get("tunnel/status"))[1]
    assert (status["running"], status["url"]) == (True, url)
    assert alive(cloudflared.starts[0]["pid"])


FAILURES = [
    ("hangs", "timed_out", "within 5 s"),
    ("rate_limited", "rate_limited", "Too many"),
    ("exits", "exited", "the moon is in the wrong place"),
    ("no_service", "service_unreachable", "cannot be reached"),
    ("port_blocked", "port_blocked", "7844"),
]


@pytest.mark.parametrize("settings", [{"tunnel_timeout": 5.0}])
async def test_failures_have_a_reason_and_leave_no_process(api, cloudflared):
    for count, (mode, reason, words) in enumerate(few(FAILURES, 2), 1):
        cloudflared.behave(mode=mode)
        code, body = await api.post("tunnel/start", {"port": PORT})
        assert (code, body["code"], body["success"]) == (502, "tunnel_failed", False)
        assert body["details"]["reason"] == reason
        assert words in body["error"]
        assert any("metrics server" in line for line in body["details"]["log"])
        assert len(cloudflared.starts) == count
        await process_ended(cloudflared.starts[-1]["pid"])
        status = (await api.get("tunnel/status"))[1]
        assert (status["running"], status["state"], status["url"]) == (False, "stopped", None)
        assert words in status["error"]
    says = 'Request failed error="EOF" dest=https://a.trycloudflare.com/?access=hush&x=1 type=http'
    cloudflared.behave(mode="exits", says=[says])
    _, body = await api.post("tunnel/start", {"port": PORT})
    assert any("access=<secret>&x=1" in line for line in body["details"]["log"])
    assert "hush" not in json.dumps([body, await api.get("tunnel/status")])
    cloudflared.behave()
    assert (await api.post("tunnel/start", {"port": PORT}))[0] == 200


@pytest.mark.parametrize("settings", [{"cloudflared_path": "/no/such/cloudflared"}])
async def test_no_binary(api):
    code, body = await api.post("tunnel/start", NO_GATE)
    assert (code, body["code"], body["details"]["reason"]) == (502, "tunnel_failed", "no_binary")
    assert "cloudflared_download" in body["hint"]


async def test_stop_while_it_starts(api, cloudflared):
    cloudflared.hold()
    start = asyncio.ensure_future(api.post("tunnel/start", NO_GATE))
    await asyncio.to_thread(cloudflared.wait_for_start)
    assert (await api.post("tunnel/stop", {}))[0] == 200
    code, body = await start
    assert (code, body["details"]["reason"]) == (502, "stopped")
    await process_ended(cloudflared.starts[0]["pid"])
    cloudflared.release()


async def test_start_without_waiting(api, cloudflared):
    cloudflared.hold()
    code, body = await api.post("tunnel/start", {**NO_GATE, "wait": False})
    assert (code, body["state"], body["running"]) == (200, "starting", False)
    cloudflared.release()
    await until_status(api, lambda body: body["running"])
    await api.post("tunnel/stop", {})
    cloudflared.behave(mode="rate_limited")
    assert (await api.post("tunnel/start", {**NO_GATE, "wait": False}))[0] == 200
    body = await until_status(api, lambda body: body["error"])
    assert body["details"]["reason"] == "rate_limited"
    assert body["details"]["log"]
    await api.post("tunnel/stop", {})
    assert (await api.get("tunnel/status"))[1]["error"] is None


async def test_a_tunnel_whose_process_ends_is_restarted(api, cloudflared):
    first = (await api.post("tunnel/start", {"port": PORT}))[1]
    os.kill(cloudflared.starts[0]["pid"], signal.SIGKILL)
    again = await until_status(api, lambda body: body["running"] and body["url"] != first["url"])
    assert again["restarts"] == 1
    assert len(cloudflared.starts) == 2
    # the gate is the same: who has the secret still has it
    assert again["access_url"].split("?")[1] == first["access_url"].split("?")[1]
    cloudflared.behave(mode="exits")
    os.kill(cloudflared.starts[1]["pid"], signal.SIGKILL)
    body = await until_status(api, lambda body: "the moon" in (body["error"] or ""))
    assert (body["running"], body["state"], body["url"]) == (False, "restarting", None)
    cloudflared.behave()
    code, body = await api.post("tunnel/start", {})  # does not wait for the pause to end
    assert (code, body["running"]) == (200, True)


async def test_a_quick_tunnel_gets_none_of_our_secrets(api, cloudflared, monkeypatch):
    monkeypatch.setenv("TUNNEL_TOKEN", "from elsewhere")
    monkeypatch.setenv("JUPYTER_TOKEN", "sesame")
    started = (await api.post("tunnel/start", {"port": PORT}))[1]
    secret = started["access_url"].split("=")[1]
    (start,) = cloudflared.starts
    assert not {"TUNNEL_TOKEN", "JUPYTER_TOKEN"} & set(start["env"])
    assert secret not in json.dumps(start)
    assert "--token-file" not in start["argv"]
    gate = start["target"].rpartition(":")[2]
    assert gate != str(PORT)


async def test_named_tunnel(api, cloudflared, tmp_path):
    body = {**NAMED, "hostname": "comfy.example.com"}
    code, started = await api.post("tunnel/start", body)
    assert (code, started["url"], started["named"]) == (200, "https://comfy.example.com", True)
    (start,) = cloudflared.starts
    assert (start["token"], start["token_mode"]) == (TOKEN.decode(), 0o600)
    assert TOKEN.decode() not in json.dumps([start["argv"], start["env"]])
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if TOKEN in path.read_bytes()]
    assert TOKEN.decode() not in json.dumps(started)
    assert stat.S_IMODE((tmp_path / "data" / "tunnel").stat().st_mode) == 0o700
    await api.post("tunnel/stop", {})
    # Cloudflare says its name, and leads past the gate
    rule = {"hostname": "studio.example.com", "service": f"http://localhost:{PORT}"}
    cloudflared.behave(ingress=[rule, {"service": "http_status:404"}])
    assert (await api.post("tunnel/start", NAMED))[1]["url"] == "https://studio.example.com"
    await api.post("tunnel/stop", {})
    code, body = await api.post("tunnel/start", {**NAMED, "protect": True})
    assert (code, body["details"]["reason"]) == (502, "not_protected")
    assert "tunnel_gate_port" in body["hint"]
    await process_ended(cloudflared.starts[-1]["pid"])


async def test_the_comfyui_of_another_machine(api, cloudflared, comfyui):
    machine = {"name": "my studio", "comfyui_url": comfyui.url}
    code, made = await api.post("machine/create", machine)
    assert (code, made["machine"]["status"]) == (200, "ready")
    for other in ({"target": "jupyter"}, {"port": PORT}):
        refused = await api.refusal("tunnel/start", {"machine": "my studio", **other})
        assert refused == (400, "machine")
    code, body = await api.post("tunnel/start", {"machine": "nobody's"})
    assert (code, body["code"]) == (404, "not_found")
    code, body = await api.post("tunnel/start", {"machine": "My Studio", "protect": False})
    assert (code, body["machine"], body["port"]) == (200, "my-studio", comfyui.port)
    assert cloudflared.starts[0]["target"] == comfyui.url
    assert (await api.post("tunnel/start", {}))[1]["url"] == body["url"]
    assert await api.refusal("tunnel/start", {"machine": "local"}) == (409, "machine")
    assert (await api.get("tunnel/status"))[1]["machine"] == "my-studio"


async def test_a_tunnel_to_jupyter(api, cloudflared, jp_serverapp):
    code, body = await api.post("tunnel/start", {"target": "jupyter"})
    assert (code, body["target"], body["port"]) == (200, "jupyter", jp_serverapp.port)
    assert (body["protected"], body["protection"]) == (True, "jupyter")
    assert body["access_url"] == body["url"] + jp_serverapp.base_url
    assert cloudflared.starts[0]["target"] == f"http://127.0.0.1:{jp_serverapp.port}"
    host = body["url"].removeprefix("https://")
    assert host in jp_serverapp.web_app.settings["local_hostnames"]
    both = (await api.post("tunnel/start", NO_GATE))[1]
    assert both["url"] != body["url"]
    await api.post("tunnel/stop", {"target": "jupyter"})
    assert host not in jp_serverapp.web_app.settings["local_hostnames"]
    assert (await api.get("tunnel/status", target="comfyui"))[1]["running"] is True
    assert await api.refusal("tunnel/start", {"target": "jupyter", "port": PORT}) == (400, "port")


class TestReadPermission:
    """A user with the permission to read only."""

    @pytest.fixture
    def jp_server_config(self, extension_config):
        extensions = {"comfydeploy_jupyter": True}
        server = {"jpserver_extensions": extensions, "authorizer_class": RecordingAuthorizer}
        return Config({"ServerApp": server, "ComfyDeploy": extension_config})

    async def test_a_user_with_read_permission_only_gets_no_link(self, api, jp_fetch, monkeypatch):
        started = (await api.post("tunnel/start", {"port": PORT}))[1]
        assert "access=" in started["access_url"]
        assert (await api.get("tunnel/status"))[1]["access_url"] == started["access_url"]
        secret = started["access_url"].partition("access=")[2]
        monkeypatch.setattr(RecordingAuthorizer, "allowed", {"read"})
        for body in (
            (await api.get("tunnel/status"))[1],
            (await api.get("tunnel/status", target="comfyui"))[1],
            json.loads((await jp_fetch("tunnel", "status")).body),
            (await api.get("check-status"))[1]["tunnel"],
        ):
            assert body["running"] is True
            assert secret not in json.dumps(body)
        monkeypatch.setattr(RecordingAuthorizer, "allowed", {"read", "write"})
        await api.post("tunnel/stop", {})
