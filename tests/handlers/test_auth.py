"""Who may do what: every route, with Jupyter's switch for unauthenticated access both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPClientError
from traitlets.config import Config

from comfydeploy_jupyter.handlers import ROUTES
from comfydeploy_jupyter.handlers.base import Base
from comfydeploy_jupyter.handlers.ws import EventSocket

VERBS = ("get", "head", "post")


def routes() -> list[tuple[str, str]]:
    """Every verb of every route that is ours, the catch-all by an example."""
    found = []
    for pattern, handler in ROUTES:
        path = pattern.replace("(?:/.*)?", "/no-such-route").replace("(.*)", "x")
        path = path.replace("(?:api/)?", "")
        ours = [kind for kind in handler.__mro__ if issubclass(kind, Base)]
        found += [(v.upper(), path) for v in VERBS if any(v in kind.__dict__ for kind in ours)]
    return found


class Recorder(Authorizer):
    """Remembers what was asked, and says what the test wants."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 - the one list that the test reads
    answer = True

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return self.answer


@pytest.fixture
def extension_config(tmp_path):
    # No ComfyUI is needed to be turned away.
    return {"comfyui_url": "http://127.0.0.1:9", "data_dir": str(tmp_path), "autostart": False}


@pytest.fixture(params=[True, False], ids=["open", "closed"])
def jp_server_config(request, extension_config):
    return Config(
        {
            "ServerApp": {
                "jpserver_extensions": {"comfydeploy_jupyter": True},
                "allow_unauthenticated_access": request.param,
                "authorizer_class": Recorder,
            },
            "ComfyDeploy": extension_config,
        }
    )


@pytest.fixture
def recorder():
    Recorder.asked.clear()
    Recorder.answer = True
    yield Recorder
    Recorder.answer = True


@pytest.fixture
def call(extension, http_server_client, jp_base_url):
    async def fetch(method: str, path: str, headers: dict[str, str]) -> Any:
        try:
            return await http_server_client.fetch(
                url_path_join(jp_base_url, path),
                method=method,
                body="{}" if method == "POST" else None,
                headers=headers,
                follow_redirects=False,
            )
        except HTTPClientError as error:
            return error.response

    return fetch


STRANGERS = ({}, {"Authorization": "token wrong"}, {"Authorization": "Bearer wrong"})


async def test_strangers_are_turned_away(call, recorder):
    for method, path in routes():
        for headers in STRANGERS:
            response = await call(method, path, dict(headers))
            assert response.code == 403, (method, path, headers)
            assert "Location" not in response.headers
            if method != "HEAD":
                body = json.loads(response.body)
                assert (body["success"], body["code"]) == (False, "unauthorized")
    assert recorder.asked == []


async def test_authorizer_is_asked_once_with_our_resource(call, recorder, jp_auth_header):
    recorder.answer = False
    for method, path in routes():
        recorder.asked.clear()
        response = await call(method, path, dict(jp_auth_header))
        action = {"GET": "read", "HEAD": "read", "POST": "write"}[method]
        if path.endswith("/ws") or path.startswith("comfyui/"):
            action = "execute"
        assert recorder.asked == [(action, "comfydeploy")], (method, path)
        assert response.code == 403
        if method != "HEAD":
            assert json.loads(response.body)["code"] == "unauthorized"


async def test_post_with_a_cookie_needs_the_xsrf_token(call, recorder, jp_auth_header):
    login = await call("GET", "comfyui-deploy/check-ws-status", dict(jp_auth_header))
    cookies = [value.split(";")[0] for value in login.headers.get_list("Set-Cookie")]
    assert cookies
    cookie = {"Cookie": "; ".join(cookies)}
    assert (await call("GET", "comfyui-deploy/runs", dict(cookie))).code == 200
    recorder.asked.clear()
    for method, path in routes():
        if method == "POST":
            response = await call(method, path, dict(cookie))
            assert response.code == 403, path
            assert json.loads(response.body)["code"] == "unauthorized"
    assert recorder.asked == []


async def test_refusals_say_what_is_wrong(call, recorder, jp_auth_header):
    async def sentence(headers: dict[str, str], path: str = "comfyui-deploy/runs") -> str:
        method = "POST" if path.endswith("/run") else "GET"
        response = await call(method, path, headers)
        assert response.code == 403
        assert json.loads(response.body)["code"] == "unauthorized"
        return json.loads(response.body)["error"]

    login = await call("GET", "comfyui-deploy/check-ws-status", dict(jp_auth_header))
    cookie = "; ".join(value.split(";")[0] for value in login.headers.get_list("Set-Cookie"))
    run = "comfyui-deploy/run"
    for path in (run, "comfyui-deploy/runs"):
        assert "token or login is needed" in await sentence({}, path)
        assert "token or login is needed" in await sentence({"Origin": "https://evil.example"}, run)
        foreign = {"Cookie": cookie, "Origin": "https://evil.example"}
        assert "page of another origin" in await sentence(foreign, path)
        host = {**jp_auth_header, "Host": "rebound.example:8888"}
        assert "does not go by the name 'rebound.example'" in await sentence(host, path)
    assert "X-XSRFToken" in await sentence({"Cookie": cookie}, run)
    assert "does not go by" in await sentence(
        {**jp_auth_header, "Host": "rebound.example"}, "comfyui-deploy/ws"
    )


async def test_socket_from_a_foreign_page_is_refused(call, jp_auth_header, jp_serverapp):
    login = await call("GET", "comfyui-deploy/check-ws-status", dict(jp_auth_header))
    cookies = [value.split(";")[0] for value in login.headers.get_list("Set-Cookie")]
    headers = {
        "Cookie": "; ".join(cookies),
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Origin": "https://evil.example",
    }
    assert (await call("GET", "comfyui-deploy/ws", headers)).code == 403


def test_the_list_above_has_every_route():
    assert ("POST", "comfyui-deploy/run") in routes()
    assert ("GET", "comfyui-deploy/ws") in routes()
    assert len({path for _, path in routes()}) == len(ROUTES)
    assert EventSocket.auth_action == "execute"
