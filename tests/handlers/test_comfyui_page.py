"""ComfyUI's own page below Jupyter's address, with a real ComfyUI."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tests.comfyui_server import comfyui_tree

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = {"Accept": "text/html,*/*"}
EVIL = "https://evil.example"


@pytest.fixture
def cookie(call, jp_auth_header, jp_asyncio_loop) -> dict[str, str]:
    """What a browser has after logging in."""
    login = jp_asyncio_loop.run_until_complete(call("GET", "comfyui/", dict(jp_auth_header)))
    cookies = [value.split(";")[0] for value in login.headers.get_list("Set-Cookie")]
    assert cookies
    return {"Cookie": "; ".join(cookies)}


@pytest.fixture
def call(extension, http_server_client, jp_base_url) -> Callable[..., Any]:
    async def fetch(method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
        try:
            return await http_server_client.fetch(
                url_path_join(jp_base_url, path),
                method=method,
                body=body,
                headers=headers,
                follow_redirects=False,
                request_timeout=60,
            )
        except HTTPClientError as error:
            return error.response

    return fetch


@pytest.fixture
def origin(jp_serverapp) -> str:
    return f"http://127.0.0.1:{jp_serverapp.port}"


def graph(text: str) -> dict[str, Any]:
    return {"1": {"class_type": "TestText", "inputs": {"text": text, "token": uuid.uuid4().hex}}}


async def test_the_page_and_its_parts(call, jp_auth_header):
    page = await call("GET", "comfyui/", {**PAGE, **jp_auth_header})
    assert page.code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"<title>ComfyUI" in page.body
    assert page.body.count(b"<script>// Put into ComfyUI's page") == 1
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
    stats = await call("GET", "comfyui/api/system_stats", dict(jp_auth_header))
    assert json.loads(stats.body)["system"]["comfyui_version"]
    missing = await call("GET", "comfyui/no/such/thing", dict(jp_auth_header))
    assert missing.code == 404


async def test_without_a_slash_it_leads_to_the_page(call, jp_auth_header, jp_base_url):
    answer = await call("GET", "comfyui", {**PAGE, **jp_auth_header})
    assert answer.code == 302
    assert answer.headers["Location"] == url_path_join(jp_base_url, "comfyui/")


async def test_visitors_log_in_and_programs_are_refused(call, jp_base_url):
    visit = await call("GET", "comfyui/", dict(PAGE))
    assert visit.code == 302
    assert visit.headers["Location"].startswith(url_path_join(jp_base_url, "login?next="))
    assert (await call("GET", "comfyui/api/system_stats", {})).code == 403
    assert (await call("POST", "comfyui/api/prompt", {}, "{}")).code == 403
    assert (await call("DELETE", "comfyui/api/userdata/x", {})).code == 403


async def test_a_browser_that_is_logged_in_queues_a_prompt(call, cookie, comfyui, origin, api):
    body = json.dumps({"prompt": graph("from the page"), "client_id": "page"})
    headers = {**cookie, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    headers["Host"] = origin.removeprefix("http://")
    answer = await call("POST", "comfyui/api/prompt", headers, body)
    assert answer.code == 200, answer.body
    prompt_id = json.loads(answer.body)["prompt_id"]
    for _ in range(400):
        history = json.loads((await call("GET", f"comfyui/history/{prompt_id}", cookie)).body)
        if prompt_id in history:
            break
        await asyncio.sleep(0.05)
    assert history[prompt_id]["outputs"]["1"]["text"] == ["from the page"]


async def test_other_web_sites_are_refused(call, cookie, origin):
    host = {"Host": origin.removeprefix("http://")}
    for headers in (
        {"Origin": EVIL},
        {"Origin": "null"},
        {},  # what cannot prove where it is from
        {"Origin": origin, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = await call("POST", "comfyui/api/interrupt", {**cookie, **host, **headers}, "{}")
        assert answer.code == 403, headers
    there = {"Sec-Fetch-Site": "cross-site"}
    assert (await call("GET", "comfyui/api/queue", {**cookie, **there})).code == 403
    assert (await call("GET", "comfyui/api/queue", {**cookie, **there, **PAGE})).code == 403
    assert (await call("GET", "comfyui/", {**cookie, **there, **PAGE})).code == 200, "a link to it"


async def test_large_bodies_pass_in_both_directions(call, comfyui, jp_auth_header, tmp_path):
    content = uuid.uuid4().bytes * (3 << 20)  # 48 MiB, more than a buffer holds
    name = f"{uuid.uuid4().hex}.bin"
    boundary = uuid.uuid4().hex
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + content
    body += f"\r\n--{boundary}--\r\n".encode()
    headers = {**jp_auth_header, "Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = await call("POST", "comfyui/upload/image", headers, body)
    assert json.loads(answer.body)["name"] == name
    assert (comfyui.input_dir / name).read_bytes() == content
    back = await call("GET", f"comfyui/view?filename={name}&type=input", dict(jp_auth_header))
    assert back.body == content
    part = {**jp_auth_header, "Range": "bytes=16-31"}
    ranged = await call("GET", f"comfyui/view?filename={name}&type=input", part)
    assert (ranged.code, ranged.body) == (206, content[16:32])


@pytest.fixture
def socket(
    extension, http_server_client, jp_serverapp, jp_base_url, jp_auth_header, jp_asyncio_loop
):
    opened = []

    async def open_socket(path: str, headers: dict[str, str] | None = None) -> Any:
        url = f"ws://127.0.0.1:{jp_serverapp.port}{url_path_join(jp_base_url, path)}"
        request = HTTPRequest(url, headers=jp_auth_header if headers is None else headers)
        opened.append(await websocket_connect(request))
        return opened[-1]

    async def close() -> None:
        for connection in opened:
            is_open = connection.close_code is None
            connection.close()
            while is_open and await connection.read_message() is not None:
                pass

    yield open_socket
    jp_asyncio_loop.run_until_complete(close())


async def test_the_socket_tells_what_happens(call, socket, jp_auth_header):
    client_id = uuid.uuid4().hex
    connection = await socket(f"comfyui/ws?clientId={client_id}")
    first = json.loads(await connection.read_message())
    assert first["type"] == "status"
    assert first["data"]["sid"] == client_id
    await connection.write_message(json.dumps({"type": "feature_flags", "data": {}}))
    body = json.dumps({"prompt": graph("x"), "client_id": client_id})
    answer = await call("POST", "comfyui/prompt", dict(jp_auth_header), body)
    prompt_id = json.loads(answer.body)["prompt_id"]
    kinds = []
    while "execution_success" not in kinds:
        message = await asyncio.wait_for(connection.read_message(), 20)
        if isinstance(message, str) and prompt_id in message:
            kinds.append(json.loads(message)["type"])
    assert "executed" in kinds


async def test_the_socket_is_for_users_and_for_our_own_pages(socket, cookie, origin):
    for headers in ({}, {**cookie, "Origin": EVIL}):
        with pytest.raises(HTTPClientError) as refused:
            await socket("comfyui/ws", headers)
        assert refused.value.code == 403
    host = origin.removeprefix("http://")
    connection = await socket("comfyui/api/ws", {**cookie, "Origin": origin, "Host": host})
    assert "status" in await connection.read_message()


async def test_credentials_stay_here(call, cookie, jp_auth_header, jp_serverapp, origin):
    token = jp_serverapp.identity_provider.token
    path = "comfyui/comfydeploy_test/echo"
    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        body = "told" if verb in {"POST", "PUT", "PATCH"} else None
        headers = {
            **cookie,
            **jp_auth_header,
            "Origin": origin,
            "Referer": f"{origin}/lab?token={token}",
            "X-XSRFToken": "secret",
            "Comfy-User": "ada",
            "Content-Type": "text/odd",
        }
        answer = await call(verb, f"{path}?a=%20b&token={token}", headers, body)
        facts = json.loads(answer.body)
        assert (facts["method"], facts["body"]) == (verb, body or "")
        assert facts["headers"]["comfy-user"] == "ada"
        assert facts["headers"]["content-type"] == "text/odd"
        assert token not in json.dumps(facts)
        assert not {"cookie", "authorization", "origin", "referer"} & facts["headers"].keys()
        assert "secret" not in facts["headers"].values()
        assert answer.headers["X-Test"] == "yes"
        assert "theirs" not in "".join(answer.headers.get_list("Set-Cookie"))
    unchanged = await call("GET", f"{path}?a=%2Fb+c&d=", dict(jp_auth_header))
    assert json.loads(unchanged.body)["url"] == "/comfydeploy_test/echo?a=%2Fb+c&d="


async def test_redirects_lead_below_the_page(call, jp_auth_header, jp_base_url):
    answer = await call("GET", "comfyui/comfydeploy_test/moved", dict(jp_auth_header))
    assert answer.code == 302
    there = url_path_join(jp_base_url, "comfyui/comfydeploy_test/echo?moved=1")
    assert answer.headers["Location"] == there


async def test_half_an_answer_is_no_answer(call, jp_auth_header):
    answer = await call("GET", "comfyui/comfydeploy_test/broken", dict(jp_auth_header))
    assert answer is None, "the connection ends, as ComfyUI's did"


class TestAway:
    """No ComfyUI there."""

    @pytest.fixture
    def extension_config(self, tmp_path):
        return {"comfyui_url": "http://127.0.0.1:9", "data_dir": str(tmp_path), "autostart": False}

    async def test_visitors_are_told(self, call, jp_auth_header):
        page = await call("GET", "comfyui/", {**PAGE, **jp_auth_header})
        assert page.code == 503
        assert page.headers["Content-Type"].startswith("text/html")
        assert b"ComfyUI is not there" in page.body
        assert b'http-equiv="refresh"' in page.body
        answer = await call("GET", "comfyui/api/queue", dict(jp_auth_header))
        assert (answer.code, json.loads(answer.body)["code"]) == (503, "comfyui_unavailable")

    async def test_a_socket_is_closed_and_may_try_again(self, socket):
        connection = await socket("comfyui/ws")
        assert await connection.read_message() is None
        assert connection.close_code == 1013


class TestOff:
    """Turned off by the configuration."""

    @pytest.fixture
    def extension_config(self, tmp_path):
        return {
            "comfyui_url": "http://127.0.0.1:9",
            "data_dir": str(tmp_path),
            "autostart": False,
            "comfyui_page": False,
        }

    async def test_there_is_no_page(self, call, socket, jp_auth_header):
        answer = await call("GET", "comfyui/", {**PAGE, **jp_auth_header})
        assert answer.code == 404
        with pytest.raises(HTTPClientError) as refused:
            await socket("comfyui/ws")
        assert refused.value.code == 404


class TestStart:
    """A ComfyUI that is ours to start."""

    @pytest.fixture
    def extension_config(self, tmp_path):
        path, python = comfyui_tree()
        (tmp_path / "custom_nodes").mkdir()
        return {
            "comfyui_path": str(path),
            "comfyui_python": str(python),
            "launch_args": ["--base-directory", str(tmp_path), "--disable-api-nodes"],
            "data_dir": str(tmp_path / "data"),
            "autostart": False,
        }

    async def test_the_page_starts_it(self, call, jp_auth_header):
        headers = {**PAGE, **jp_auth_header}
        answer = await call("GET", "comfyui/", headers)
        assert b"ComfyUI is starting" in answer.body, answer.body
        while answer.code == 503:
            await asyncio.sleep(0.2)
            answer = await call("GET", "comfyui/", headers)
            assert b"not there" not in answer.body
        assert answer.code == 200
