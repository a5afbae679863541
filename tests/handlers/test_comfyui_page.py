"""ComfyUI's own page below Jupyter's address, with a real ComfyUI."""

import asyncio
import json
import re
import uuid
from itertools import product
from urllib.parse import urlencode

import pytest
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from comfydeploy_jupyter.handlers.comfyui_page import AT_ROOT, allow_scripts, in_folder
from tests.helpers.bodies import form
from tests.helpers.waiting import until_async

PAGE = {"Accept": "text/html,*/*"}


@pytest.fixture
def cookie(call, jp_auth_header, jp_asyncio_loop):
    """The cookies of a browser after login."""
    login = jp_asyncio_loop.run_until_complete(call("GET", "comfyui/", jp_auth_header))
    cookies = [value.split(";")[0] for value in login.headers.get_list("Set-Cookie")]
    assert cookies
    return {"Cookie": "; ".join(cookies)}


@pytest.fixture
def xsrf(call, cookie, jp_asyncio_loop):
    """The headers of each request of the page: the cookies, and the token that is in the page."""
    (token,) = re.findall(r"_xsrf=([^;]+)", cookie["Cookie"])
    page = jp_asyncio_loop.run_until_complete(call("GET", "comfyui/", {**PAGE, **cookie}))
    assert f'"{token}"]'.encode() in page.body
    return {**cookie, "X-XSRFToken": token}


@pytest.fixture
def origin(jp_serverapp):
    return f"http://127.0.0.1:{jp_serverapp.port}"


def graph(text):
    return {"1": {"class_type": "TestText", "inputs": {"text": text, "token": uuid.uuid4().hex}}}


async def test_the_page_and_its_scripts_and_api_routes(call, jp_auth_header, jp_base_url):
    page = await call("GET", "comfyui/", {**PAGE, **jp_auth_header})
    assert page.code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"<title>ComfyUI" in page.body
    assert page.body.count(b"<script>// Made from js/src/page/comfyui_page.ts") == 1
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
    stats = await call("GET", "comfyui/api/system_stats", jp_auth_header)
    assert json.loads(stats.body)["system"]["comfyui_version"]
    assert (await call("GET", "comfyui/no/such/thing", jp_auth_header)).code == 404
    redirect = await call("GET", "comfyui", {**PAGE, **jp_auth_header})
    assert redirect.code == 302
    assert redirect.headers["Location"] == url_path_join(jp_base_url, "comfyui/")
    for headers in ({"Service-Worker": "script"}, {"Sec-Fetch-Dest": "serviceworker"}):
        answer = await call("GET", "comfyui/scripts/app.js", {**jp_auth_header, **headers})
        assert answer.code == 403
    broken = await call("GET", "comfyui/comfydeploy_test/broken", jp_auth_header)
    assert broken is None or broken.code == 503, "the connection ends if a part has been sent"


HASH = "'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"  # of "a"


@pytest.mark.parametrize(
    ("policy", "passed"),
    [
        ("script-src 'self' 'unsafe-inline' blob:; img-src 'self'", None),
        ("img-src 'self'", None),
        ("default-src 'self'; script-src 'self'", f"default-src 'self'; script-src 'self' {HASH}"),
        ("default-src 'self'", f"default-src 'self'; script-src 'self' {HASH}"),
        ("script-src 'none'", f"script-src {HASH}"),
        (
            "script-src 'unsafe-inline' 'nonce-1'; SCRIPT-SRC-ELEM 'self' 'self'",
            f"script-src 'unsafe-inline' 'nonce-1'; SCRIPT-SRC-ELEM 'self' 'self' {HASH}",
        ),
        (
            "script-src 'nonce-1' 'unsafe-inline';script-src *, img-src a",
            f"script-src 'nonce-1' 'unsafe-inline' {HASH}; script-src *, img-src a",
        ),
    ],
)
def test_the_policy_of_comfyui_allows_the_scripts_of_this_package(policy, passed):
    assert allow_scripts(policy, ["a"]) == (passed or policy)


async def test_browsers_are_sent_to_the_login_page_and_programs_are_refused(call, jp_base_url):
    visit = await call("GET", "comfyui/", PAGE)
    assert visit.code == 302
    assert visit.headers["Location"].startswith(url_path_join(jp_base_url, "login?next="))
    assert (await call("GET", "comfyui/api/system_stats", {})).code == 403


async def test_a_browser_that_is_logged_in_queues_a_prompt(call, cookie, xsrf, comfyui, origin):
    body = json.dumps({"prompt": graph("from the page"), "client_id": "page"})
    own = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    own["Host"] = origin.removeprefix("http://")
    answer = await call("POST", "comfyui/api/prompt", {**own, **xsrf}, body)
    assert answer.code == 200, answer.body
    in_query = {**own, "Cookie": xsrf["Cookie"]}
    path = f"comfyui/api/interrupt?_xsrf={xsrf['X-XSRFToken']}"
    assert (await call("POST", path, in_query, "{}")).code == 200
    prompt_id = json.loads(answer.body)["prompt_id"]

    async def read_history():
        return json.loads((await call("GET", f"comfyui/history/{prompt_id}", cookie)).body)

    history = await until_async(read_history, lambda found: prompt_id in found)
    assert history[prompt_id]["outputs"]["1"]["text"] == ["from the page"]


async def test_other_web_sites_may_only_link_to_the_page(call, cookie):
    there = {**cookie, **PAGE, "Sec-Fetch-Site": "cross-site"}
    assert (await call("GET", "comfyui/", there)).code == 200
    assert (await call("GET", "comfyui/api/queue", there)).code == 403
    for dest in ("iframe", "frame", "embed", "object", "empty", "image"):
        for path in ("comfyui", "comfyui/"):
            answer = await call("GET", path, {**there, "Sec-Fetch-Dest": dest})
            assert answer.code == 403, dest


@pytest.mark.thorough
async def test_large_bodies_are_passed_on_in_both_directions(call, comfyui, jp_auth_header):
    content = uuid.uuid4().bytes * (3 << 20)  # 48 MiB, more than a buffer holds
    name = f"{uuid.uuid4().hex}.bin"
    body, headers = form(("image", name, content))
    answer = await call("POST", "comfyui/upload/image", {**jp_auth_header, **headers}, body)
    assert json.loads(answer.body)["name"] == name
    assert (comfyui.input_dir / name).read_bytes() == content
    path = f"comfyui/view?filename={name}&type=input"
    assert (await call("GET", path, jp_auth_header)).body == content
    ranged = await call("GET", path, {**jp_auth_header, "Range": "bytes=16-31"})
    assert (ranged.code, ranged.body) == (206, content[16:32])


@pytest.fixture
def socket(
    extension, http_server_client, jp_serverapp, jp_base_url, jp_auth_header, jp_asyncio_loop
):
    opened = []

    async def open_socket(path, headers=None):
        url = f"ws://127.0.0.1:{jp_serverapp.port}{url_path_join(jp_base_url, path)}"
        request = HTTPRequest(url, headers=jp_auth_header if headers is None else headers)
        opened.append(await websocket_connect(request))
        return opened[-1]

    async def close():
        for connection in opened:
            is_open = connection.close_code is None
            connection.close()
            while is_open and await connection.read_message() is not None:
                pass

    yield open_socket
    jp_asyncio_loop.run_until_complete(close())


async def test_the_websocket_receives_events(call, socket, jp_auth_header):
    client_id = uuid.uuid4().hex
    connection = await socket(f"comfyui/ws?clientId={client_id}")
    first = json.loads(await connection.read_message())
    assert first["type"] == "status"
    assert first["data"]["sid"] == client_id
    await connection.write_message(json.dumps({"type": "feature_flags", "data": {}}))
    body = json.dumps({"prompt": graph("x"), "client_id": client_id})
    answer = await call("POST", "comfyui/prompt", jp_auth_header, body)
    prompt_id = json.loads(answer.body)["prompt_id"]
    kinds = []
    while "execution_success" not in kinds:
        message = await asyncio.wait_for(connection.read_message(), 20)
        if isinstance(message, str) and prompt_id in message:
            kinds.append(json.loads(message)["type"])
    assert "executed" in kinds


async def test_jupyters_credentials_are_not_sent_to_comfyui(
    call, cookie, jp_auth_header, jp_serverapp, origin
):
    token = jp_serverapp.identity_provider.token
    path = "comfyui/comfydeploy_test/echo"
    told = {"Comfy-User": "ada", "Content-Type": "text/odd"}
    secrets = (
        *("Cf-Access-Jwt-Assertion", "X-Forwarded-Access-Token", "X-Goog-Iap-Jwt-Assertion"),
        *("X-ComfyDeploy-Token", "X-Forwarded-For", "X-Anything", "X-XSRFToken"),
    )
    headers = {**cookie, **jp_auth_header, **told, **dict.fromkeys(secrets, "secret")}
    headers |= {"Origin": origin, "Referer": f"{origin}/lab?token={token}"}
    names = ("%5Fxsrf", "_xsr%66", "TOKEN", "+token")
    query = "&".join(f"{name}=secret" for name in names)
    query += f"&%74oken={token}&t%6Fken={token}&token={token}"
    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        body = "told" if verb in {"POST", "PUT", "PATCH"} else None
        answer = await call(verb, f"{path}?a=%20b&{query}", headers, body)
        facts = json.loads(answer.body)
        assert (facts["method"], facts["body"]) == (verb, body or "")
        assert facts["url"] == "/comfydeploy_test/echo?a=%20b"
        sent = facts["headers"]
        assert (sent["comfy-user"], sent["content-type"]) == ("ada", "text/odd")
        assert not {"cookie", "authorization", "origin", "referer"} & sent.keys()
        assert not [secret for secret in (token, "secret") if secret in json.dumps(facts)]
        assert "X-Test" not in answer.headers
        assert "theirs" not in "".join(answer.headers.get_list("Set-Cookie"))
    unchanged = await call("GET", f"{path}?a=%2Fb+c&d=", jp_auth_header)
    assert json.loads(unchanged.body)["url"] == "/comfydeploy_test/echo?a=%2Fb+c&d="


def answer_path(*headers, body="", status=200):
    """Return the path of an answer with these headers."""
    fields = [("header", header) for header in headers]
    query = urlencode([("body", body), ("status", status), *fields])
    return f"comfyui/comfydeploy_test/answer?{query}"


async def test_only_listed_response_headers_are_passed_back(call, jp_auth_header):
    path = answer_path(
        *("X-Accel-Redirect: /etc/passwd", "X-Sendfile: /etc/passwd", "Refresh: 0; url=/lab"),
        *("Link: </lab>; rel=preload", "Clear-Site-Data: *", "Service-Worker-Allowed: /"),
        *("Access-Control-Allow-Origin: *", "Cache-Control: public, max-age=60, s-maxage=60"),
        *("Content-Type: text/plain", "ETag: x", "X-Anything: x"),
    )
    answer = await call("GET", path, jp_auth_header)
    assert answer.code == 200
    unknown = {"X-Accel-Redirect", "X-Sendfile", "Refresh", "Link", "Clear-Site-Data", "X-Anything"}
    assert not unknown & set(answer.headers)
    assert "Service-Worker-Allowed" not in answer.headers
    assert answer.headers.get("Access-Control-Allow-Origin") != "*"
    assert answer.headers["Cache-Control"] == "private, max-age=60"
    assert answer.headers["ETag"] == "x"


STYLE = """a { background: url(/assets/a.png), URL("/b.png"), url(../c.png), url(//d.test/e.png) }
@import '/extensions/f.css'; b { cursor: url('/cursor/g.png') 1 2, auto; mask: url(data:,/h) }"""
SCRIPT = """a.style.cursor = "url('/cursor/g.png') 1 2"; b = {
backgroundImage: `url(/assets/a.png)`}; c = "url(//d.test/e.png)"; url(/no style/);
url("/neither"); d = 'url(./c.png)'"""


@pytest.mark.parametrize(
    ("ending", "kind", "text", "places"),
    [
        (".css", "text/css", STYLE, ["assets/a.png", "b.png", "extensions/f.css", "cursor/g.png"]),
        (".js", "text/javascript", SCRIPT, ["cursor/g.png", "assets/a.png"]),
    ],
)
async def test_urls_in_styles_and_scripts_are_moved_below_the_page(
    call, jp_auth_header, jp_base_url, ending, kind, text, places
):
    def named(*args, **kwargs):
        return answer_path(*args, **kwargs).replace("answer?", f"answer{ending}?")

    path = named(f"Content-Type: {kind}", "ETag: x", body=text)
    answer = await call("GET", path, {**jp_auth_header, "Range": "bytes=0-3"})
    moved = answer.body.decode()
    folder = f"{jp_base_url}comfyui/"
    assert moved.replace(folder, "/") == text
    assert re.findall(rf"""{folder}([^"')]*)""", moved) == places
    assert answer.headers["ETag"] == "x", "so that browsers need not load it again"
    of_a_user = f"comfyui/api/userdata/{uuid.uuid4().hex}{ending}"
    await call("POST", of_a_user, jp_auth_header, text)
    for path in (
        named(f"Content-Type: {kind}", body=text, status=404),
        answer_path("Content-Type: text/plain", body=text),
        of_a_user,
    ):
        assert (await call("GET", path, jp_auth_header)).body.decode() == text, path
    await call("DELETE", of_a_user, jp_auth_header)


async def test_urls_are_moved_for_every_chunk_size():
    for size, (ending, text) in product(
        (1, 2, 3, 7, 15, 16, 17, 40), ((".css", STYLE.encode()), (".js", SCRIPT.encode()))
    ):

        async def chunks(text=text, size=size):
            for at in range(0, len(text), size):
                yield text[at : at + size]

        whole = AT_ROOT[ending].sub(lambda found: found[1] + b"folder/", text)
        moved = [chunk async for chunk in in_folder(chunks(), AT_ROOT[ending], b"folder/")]
        assert b"".join(moved) == whole


PASSIVE = ("image/png", "video/mp4", "text/plain; charset=utf-8", "application/json", "text/css")
ACTIVE = (
    *("text/html", "TEXT/HTML ; x", "application/xhtml+xml", "text/xml", "application/xml"),
    *("image/svg+xml", "image/x+xml", "text/xsl", "application/pdf", "text/unknown"),
    *("multipart/x-mixed-replace; boundary=x", "message/rfc822", "application/x-unknown"),
)


async def test_a_file_cannot_run_scripts_as_a_page(call, jp_auth_header):
    for kind in (*PASSIVE, *ACTIVE):
        answer = await call("GET", answer_path(f"Content-Type: {kind}", body="x"), jp_auth_header)
        assert answer.code == 200
        assert "sandbox" in answer.headers["Content-Security-Policy"].split("; ")
        assert "frame-ancestors" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == kind
        saved = answer.headers.get("Content-Disposition", "").startswith("attachment")
        assert saved == (kind in ACTIVE), kind
    plain, page = "text/plain", "text/html"
    for kinds in ((), ("",), ("nonsense",), (f"{plain}, {page}",), (plain, page), ("*/*",)):
        path = answer_path(*(f"Content-Type: {kind}" for kind in kinds), body="<script>")
        answer = await call("GET", path, jp_auth_header)
        assert answer.headers.get_list("Content-Type") == ["application/octet-stream"], kinds
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_files_of_users_are_not_served_as_pages_or_scripts(call, jp_auth_header, comfyui):
    text = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for name in ("x.html", "x.svg", "x.js", "x.mjs", "x.xml", "x.xhtml", "x.pdf", "x"):
        stored = await call("POST", f"comfyui/userdata/{name}", jp_auth_header, text)
        assert stored.code == 200
        (comfyui.input_dir / name).write_text(text)
        view = f"view?filename={name}&type=input"
        for path in (f"userdata/{name}", f"api/userdata/{name}", f"%75serdata/{name}", view):
            answer = await call("GET", f"comfyui/{path}", jp_auth_header)
            assert (answer.code, answer.body.decode()) == (200, text), path
            headers, kind = answer.headers, answer.headers["Content-Type"]
            assert "sandbox" in headers["Content-Security-Policy"].split("; ")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "script" not in kind, path
            saved = headers.get("Content-Disposition", "").startswith("attachment")
            assert saved or kind in {"application/octet-stream", "text/plain"}, (path, kind)


async def test_targets_of_redirects(call, jp_auth_header, jp_base_url, origin):
    for there, here in (
        ("/x?a=%2F", "comfyui/x?a=%2F"),
        ("//evil.example/x", "http://evil.example/x"),
        ("https://evil.example/x", "https://evil.example/x"),
        ("../../../lab", "comfyui/lab"),
        ("/%2e%2e/lab", None),
        ("/x/..%2E/.%2e/lab", None),
        ("/x\\..\\..\\..\\lab", None),
        (f"{origin}/lab", None),
        ("/x?back=/%2e%2e/lab", "comfyui/x?back=/%2e%2e/lab"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("http://[", None),
    ):
        path = answer_path(f"Location: {there}", status=302)
        answer = await call("GET", path, jp_auth_header)
        assert answer.code == 302
        outside = here is not None and here.startswith("http")
        target = here if outside or here is None else url_path_join(jp_base_url, here)
        assert answer.headers.get("Location") == target, there
        by_script = await call("GET", path, {**jp_auth_header, "X-XSRFToken": "secret"})
        assert by_script.headers.get("Location") == (None if outside else target), there


class TestUnreachableComfyUI:
    """There is no ComfyUI."""

    @pytest.fixture
    def extension_config(self, without_comfyui):
        return without_comfyui

    async def test_a_browser_gets_a_page_that_says_so(self, call, jp_auth_header):
        page = await call("GET", "comfyui/", {**PAGE, **jp_auth_header})
        assert page.code == 503
        assert page.headers["Content-Type"].startswith("text/html")
        assert b"ComfyUI is not available" in page.body
        assert b'http-equiv="refresh"' in page.body
        answer = await call("GET", "comfyui/api/queue", jp_auth_header)
        assert (answer.code, json.loads(answer.body)["code"]) == (503, "comfyui_unavailable")

    async def test_a_socket_is_closed_and_may_try_again(self, socket):
        connection = await socket("comfyui/ws")
        assert await connection.read_message() is None
        assert connection.close_code == 1013


class TestPageTurnedOff:
    """Turned off by the configuration."""

    @pytest.fixture
    def extension_config(self, without_comfyui):
        return {**without_comfyui, "comfyui_page": False}

    async def test_the_page_is_not_served(self, call, socket, jp_auth_header):
        answer = await call("GET", "comfyui/", {**PAGE, **jp_auth_header})
        assert answer.code == 404
        with pytest.raises(HTTPClientError) as refused:
            await socket("comfyui/ws")
        assert refused.value.code == 404


class TestStartedByThePage:
    """A ComfyUI that the extension starts."""

    @pytest.fixture
    def extension_config(self, installed_comfyui, tmp_path):
        path, python = installed_comfyui
        (tmp_path / "custom_nodes").mkdir()
        return {
            "comfyui_path": str(path),
            "comfyui_python": str(python),
            "launch_args": ["--base-directory", str(tmp_path), "--disable-api-nodes"],
            "data_dir": str(tmp_path / "data"),
            "autostart": False,
        }

    async def test_opening_the_page_starts_comfyui(self, call, jp_auth_header):
        headers = {**PAGE, **jp_auth_header}
        answer = await call("GET", "comfyui/", headers)
        assert b"ComfyUI is starting" in answer.body, answer.body
        while answer.code == 503:
            await asyncio.sleep(0.2)
            answer = await call("GET", "comfyui/", headers)
            assert b"not there" not in answer.body
        assert answer.code == 200
