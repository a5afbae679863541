"""A ComfyUI behind a reverse proxy: one that requires credentials, one without WebSockets."""

import asyncio
import contextlib
import json
import sqlite3
import time
import uuid

import aiohttp
import pytest
import requests
import websocket
from aiohttp import web
from yarl import URL

from comfydeploy_jupyter.comfyui.client import Credentials, check_headers, split_address
from comfydeploy_jupyter.errors import InvalidRequestError
from tests.helpers.comfyui_proxies import Certificates, FaultyComfyUI, basic
from tests.helpers.waiting import until

KEY = "key-of-the-door-2231"
PASSWORD = "pass:word@of/the%door"
SECRETS = (KEY, PASSWORD, basic("ada", PASSWORD).split()[1], "pass%3Aword%40of%2Fthe%25door")


class GuardedComfyUI(FaultyComfyUI):
    """The proxy: it answers 401 unless each request has the right headers."""

    def __init__(self, target, wanted, certificates=None):
        super().__init__(target)
        self.wanted = dict(wanted)
        self.seen = []
        self.refused = []
        self.certificates = certificates
        self.ssl_context = None if certificates is None else certificates.server_context()

    @contextlib.asynccontextmanager
    async def serving(self):
        async with super().serving():
            yield
        await asyncio.sleep(0.25)  # connections with TLS end later than the server

    def _check(self, request):
        self.seen.append(dict(request.headers))
        if any(request.headers.get(name) != value for name, value in self.wanted.items()):
            self.refused.append(request.path)
            raise web.HTTPUnauthorized(text="the door is closed")

    async def _pass_on(self, request):
        self._check(request)
        return await super()._pass_on(request)

    async def _socket(self, request):
        self._check(request)
        return await super()._socket(request)


@pytest.fixture(scope="module")
def guarded(comfyui, tmp_path_factory):
    """The shared ComfyUI behind a proxy that requires a header, a password and a certificate."""
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    proxy = GuardedComfyUI(
        comfyui.url,
        {"X-Door-Key": KEY, "Authorization": basic("ada", PASSWORD)},
        certificates,
    )
    proxy.start()
    yield proxy
    proxy.close()


def with_user(url):
    scheme, _, host = url.partition("://")
    return f"{scheme}://ada:{SECRETS[3]}@{host}"


def credentials_of(guarded):
    """The settings with the credentials for the proxy."""
    files = guarded.certificates
    assert files is not None
    return {
        "comfyui_url": with_user(guarded.url),
        "comfyui_headers": {"X-Door-Key": KEY},
        "comfyui_client_cert": str(files.client),
        "comfyui_client_key": str(files.client_key),
        "comfyui_ca": str(files.ca),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data folder of the server."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def server(start_jupyter, guarded, data):
    """A Jupyter server whose ComfyUI is behind that proxy."""
    started = start_jupyter(
        Application={"log_level": "DEBUG"},
        ComfyDeploy={**credentials_of(guarded), "data_dir": str(data)},
    )
    yield started
    started.stop()


def graph():
    size = {"width": 16, "height": 16, "batch_size": 1, "color": 255}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": f"guarded_{uuid.uuid4().hex}"},
        },
    }


@pytest.mark.thorough
def test_a_run_on_a_comfyui_behind_authentication(server, guarded):
    refused = len(guarded.refused)
    result = server.raw("POST", "run", json={"workflow_api": graph()}).json()
    assert result["status"] == "success", result
    (image,) = result["outputs"]["2"]["images"]
    headers = {"Authorization": f"token {server.token}"}
    url = f"{server.url.rstrip('/').removesuffix('/a%40b')}{image['url']}"
    content = requests.get(url, headers=headers, timeout=30)
    assert (content.status_code, content.content[:4]) == (200, b"\x89PNG")
    assert len(guarded.refused) == refused
    assert guarded.sockets_seen


def test_the_page_of_a_comfyui_behind_authentication(server, guarded):
    page = f"{server.url}comfyui/"
    headers = {"Authorization": f"token {server.token}"}
    found = requests.get(page, headers={**headers, "Accept": "text/html"}, timeout=30)
    assert (found.status_code, b"<title>ComfyUI" in found.content) == (200, True)
    stats = requests.get(f"{page}api/system_stats", headers=headers, timeout=30)
    assert stats.json()["system"]

    url = f"{page}ws?clientId={uuid.uuid4().hex}"

    async def first_message():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(URL(url, encoded=True), headers=headers) as socket,
        ):
            return await socket.receive_json(timeout=30)

    assert asyncio.run(first_message())["type"] in ("status", "feature_flags")
    assert "/ws" not in guarded.refused


@pytest.mark.thorough
def test_a_tunnel_to_a_comfyui_behind_authentication(start_jupyter, guarded, cloudflared, tmp_path):
    """The client of the tunnel has only the secret of the tunnel."""
    server = start_jupyter(
        Application={"log_level": "DEBUG"},
        ComfyDeploy={
            **credentials_of(guarded),
            "data_dir": str(tmp_path),
            "cloudflared_path": str(cloudflared.path),
        },
    )
    reply = server.raw("POST", "tunnel/start", json={})
    started = reply.json()
    assert (reply.status_code, started["protection"]) == (200, "gate"), started
    refused = len(guarded.refused)
    visitor = requests.Session()
    visitor.trust_env = False
    visitor.headers["Host"] = started["url"].removeprefix("https://")
    edge = cloudflared.edge
    assert visitor.get(f"{edge}/system_stats").status_code == 401
    secret = started["access_url"].split("access=")[1]
    visitor.headers["Authorization"] = f"Bearer {secret}"
    stats = visitor.get(f"{edge}/system_stats")
    assert stats.json()["system"]
    socket = websocket.create_connection(
        f"{edge.replace('http', 'ws')}/ws?clientId={uuid.uuid4().hex}&access={secret}",
        host=visitor.headers["Host"],
        origin=started["url"],
        timeout=60,
    )
    assert json.loads(socket.recv())["type"] in ("status", "feature_flags")
    socket.close()
    page = {"Origin": started["url"], "Sec-Fetch-Site": "same-origin"}
    queued = visitor.post(f"{edge}/prompt", json={"prompt": graph()}, headers=page)
    assert queued.json()["node_errors"] == {}
    assert len(guarded.refused) == refused
    texts = [
        reply.text,
        server.log(),
        server.raw("GET", "tunnel/status").text,
        str(stats.headers),
    ]
    texts += [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
    assert all(secret not in text for secret in SECRETS for text in texts)
    server.stop()


def test_the_credentials_of_a_comfyui_are_never_shown(server, data):
    server.raw("POST", "run", json={"workflow_api": graph()})
    seen = [
        server.raw("GET", route).text
        for route in ("machine", "machines", "check-status", "runs", "comfyui/log", "openapi.json")
    ]
    config = json.loads(seen[0])["config"]
    assert list(config["comfyui_headers"]) == ["X-Door-Key"]
    assert "@" not in config["comfyui_url"]
    seen.append(server.log())
    with sqlite3.connect(data / "comfydeploy.db") as store:
        seen.append("\n".join(store.iterdump()))
    for text in seen:
        for secret in SECRETS:
            assert secret not in text


def test_a_machine_is_created_with_credentials(start_jupyter, guarded, comfyui, tmp_path):
    settings = {"comfyui_url": comfyui.url, "data_dir": str(tmp_path)}
    server = start_jupyter(Application={"log_level": "DEBUG"}, ComfyDeploy=settings)
    plain = {"name": "guarded", "comfyui_url": guarded.url}
    closed = server.raw("POST", "machine/create", json=plain)
    assert closed.status_code in (200, 400)
    if closed.status_code == 200:
        server.raw("POST", "machine/delete", json={"machine_id": "guarded"})
    made = {"name": "guarded", **credentials_of(guarded)}
    answer = server.raw("POST", "machine/create", json=made)
    assert answer.status_code == 200, answer.text
    server.kill()  # it is known after a restart
    server.start()
    until(
        lambda: server.raw("GET", "machine?machine=guarded").json(),
        lambda machine: machine["status"] == "ready",
    )
    body = {"workflow_api": graph(), "machine": "guarded"}
    kept = server.raw("GET", "machine?machine=guarded").json()["config"]
    same = {"machine_id": "guarded", "comfyui_headers": kept["comfyui_headers"]}
    assert server.raw("POST", "machine/update", json=same).status_code == 200
    assert server.raw("POST", "run", json=body).json()["status"] == "success"
    # The credentials are for this server only: another address does not get them.
    other = GuardedComfyUI(comfyui.url, {"X-Never": "given"})
    other.start()
    try:
        moved = {"machine_id": "guarded", "comfyui_url": other.url}
        refused = server.raw("POST", "machine/update", json=moved)
        assert (refused.status_code, "status 401" in refused.text) == (400, True)
        assert other.seen
        assert not any({"X-Door-Key", "Authorization"} & set(headers) for headers in other.seen)
    finally:
        other.close()
        server.stop()
    for secret in SECRETS:
        assert secret not in server.log()
        assert secret not in answer.text


def test_an_untrusted_server_certificate_is_reported(start_jupyter, guarded, cloudflared, tmp_path):
    """The server at ``comfyui_url`` has a certificate of an authority that is not trusted."""
    other = Certificates(tmp_path / "other")
    server = start_jupyter(
        ComfyDeploy={
            **credentials_of(guarded),
            "comfyui_ca": str(other.ca),
            "data_dir": str(tmp_path / "data"),
            "cloudflared_path": str(cloudflared.path),
        }
    )
    for reply in (
        server.raw("POST", "tunnel/start", json={}),
        server.raw("POST", "run", json={"workflow_api": graph()}),
    ):
        assert (reply.status_code, reply.json()["code"]) == (503, "comfyui_unavailable")
        assert "certificate" in reply.json()["error"]
        assert "comfyui_ca" in reply.json()["hint"]
    assert cloudflared.starts == []
    known = server.raw("GET", "check-status").json()["comfyui"]
    assert "comfyui_ca" in known["hint"]
    server.stop()


def test_addresses_with_a_user():
    assert split_address("http://host:8188/x") == ("http://host:8188/x", "")
    assert split_address(with_user("https://host/x")) == (
        "https://host/x",
        basic("ada", PASSWORD),
    )


@pytest.mark.parametrize(
    "headers",
    [{"a b": "x"}, {"": "x"}, {"Host": "x"}, {"X": "a\r\nY: b"}, {"X": "☃"}, {"Upgrade": "h2c"}],
)
def test_headers_that_cannot_be_sent(headers):
    with pytest.raises(InvalidRequestError) as refused:
        check_headers(headers)
    assert refused.value.details["field"] == "comfyui_headers"


def test_certificates_that_cannot_be_used(tmp_path):
    files = Certificates(tmp_path / "a")
    other = Certificates(tmp_path / "b")
    (tmp_path / "text").write_text("no certificate")
    for settings, field in (
        ({"ca": str(tmp_path / "none")}, "comfyui_ca"),
        ({"ca": str(tmp_path / "text")}, "comfyui_ca"),
        ({"client_cert": str(files.client)}, "comfyui_client_cert"),
        ({"client_cert": "/a\0b"}, "comfyui_client_cert"),
        ({"client_key": str(files.client_key)}, "comfyui_client_cert"),
        (
            {"client_cert": str(files.client), "client_key": str(other.client_key)},
            "comfyui_client_cert",
        ),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            Credentials(**settings).read()
        assert refused.value.details["field"] == field
    Credentials(client_cert=str(files.client), client_key=str(files.client_key)).read()


class WithoutSockets(FaultyComfyUI):
    """A proxy that forwards requests, but no WebSockets."""

    async def _socket(self, request):
        raise web.HTTPForbidden(text="no sockets here")


def test_its_definitions_are_used_at_once_and_the_state_says_what_is_wrong(server, comfyui):
    proxy = WithoutSockets(comfyui.url)
    proxy.start()
    made = {"name": "socketless", "comfyui_url": proxy.url}
    assert server.raw("POST", "machine/create", json=made).status_code == 200
    try:
        status = until(
            lambda: server.raw("GET", "check-status?machine=socketless").json(),
            lambda status: "refused" in status["comfyui"].get("error", ""),
        )
        assert status["status"] == "degraded"
        assert "WebSocket is refused (HTTP 403)" in status["comfyui"]["error"]
        assert "proxy" in status["comfyui"]["hint"]
        text = {"1": {"class_type": "TestText", "inputs": {"text": "x"}}}
        body = {"workflow_api": text, "machine": "socketless"}
        began = time.monotonic()
        checked = [server.raw("POST", "workflow/validate", json=body).json() for _ in range(3)]
        assert {each["definitions"]["source"] for each in checked} == {"live"}
        stats = requests.get(f"{comfyui.url}/system_stats", timeout=30).json()
        version = stats["system"]["comfyui_version"]
        assert checked[0]["definitions"]["comfyui_version"] == version
        assert server.raw("POST", "workflow/convert", json=body).status_code == 200
        assert "TestText" in server.raw("GET", "object_info?machine=socketless").json()
        refused = server.raw("POST", "run", json=body)
        assert refused.status_code == 503
        assert "cannot be used: its WebSocket is refused" in refused.json()["error"]
        assert time.monotonic() - began < 20, "each of these waited for the WebSocket"
    finally:
        server.raw("POST", "machine/delete", json={"machine_id": "socketless"})
        proxy.close()
