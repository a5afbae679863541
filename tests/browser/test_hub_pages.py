"""Pages of two users behind a real JupyterHub on one domain: one origin, kept apart by tokens."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from PIL import Image
from playwright.sync_api import Error, expect

from tests.browser.panels import press
from tests.helpers.graphs import SUNSET_PATH
from tests.helpers.jupyterhub import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

    from tests.helpers.jupyterhub import JupyterHubProcess

pytestmark = pytest.mark.timeout(300)

# Addresses that a script requests like pictures, for which JupyterHub requires no token.
QUIET = [
    *("comfyui-deploy/runs", "comfyui-deploy/view?filename=a.png", "comfyui-deploy/openapi.json"),
    *("comfyui/", "comfyui/api/queue", "comfydeploy/"),
]

# Actions of a custom node, which anybody can request; the second one with a WebSocket.
ACTING = "comfyui/api/prompt?their"
BY_SOCKET = "comfyui/api/prompt?socket"

ATTACK = """async ([there, graph, mark, quietly, acting, bySocket]) => {
    const results = {};
    const request = async (name, path, options) => {
        const answer = await fetch(there + path, { credentials: "include", ...options });
        results[name] = answer.status;
    };
    const body = JSON.stringify({ prompt: graph });
    await request("prompt", "comfyui/prompt", { method: "POST", body });
    await request("userdata", `comfyui/userdata/${mark}.html`, { method: "POST", body });
    await request("run", "comfyui-deploy/run", { method: "POST", body });
    await request("queue", "comfyui/api/queue");
    await request("runs", "comfyui-deploy/runs");
    await request("page", "comfyui/");
    await request("sign-in", "comfyui-deploy/auth-response?request_id=theirs");
    const quiet = { mode: "no-cors", referrer: new URL(there).pathname + "lab" };
    for (const path of quietly) {
        await request(`no-cors ${path}`, path, quiet);
    }
    for (const referrerPolicy of ["", "no-referrer"]) {
        const picture = Object.assign(new Image(), { referrerPolicy });
        const seen = new Promise((resolve) => {
            picture.onload = () => resolve("seen");
            picture.onerror = () => resolve("closed");
        });
        picture.src = there + "comfyui/api/view?type=input&filename=hub.png";
        results[`picture ${referrerPolicy}`.trim()] = await seen;
    }
    for (const tag of ["iframe", "embed"]) {
        document.body.append(Object.assign(document.createElement(tag), { src: there + acting }));
    }
    const script = there + "comfyui/scripts/api.js";
    results.module = await import(script).then(() => "open", () => "closed");
    const wrong = { method: "POST", body, headers: { "X-XSRFToken": "wrong" } };
    await request("wrong token", "comfyui/prompt", wrong);
    for (const path of ["comfyui-deploy/ws", "comfyui/ws", bySocket]) {
        const socket = new WebSocket(there.replace("http", "ws") + path);
        results[path] = await new Promise((resolve) => {
            socket.onopen = () => resolve("open");
            socket.onclose = () => resolve("closed");
            setTimeout(() => socket.close(), 3000); // the hub's proxy passes no refusal on
        });
    }
    navigator.sendBeacon(`${there}comfyui/userdata/${mark}.beacon`, "x");
    document.body.innerHTML = `<iframe name="sink"></iframe><iframe id="framed"></iframe>
        <form method="post" enctype="text/plain" target="sink"
              action="${there}comfyui/userdata/${mark}.form"><input name="a" value="b"></form>`;
    document.forms[0].submit();
    const framed = document.getElementById("framed");
    const loaded = new Promise((resolve) => { framed.onload = resolve; });
    framed.src = there + "comfyui/";
    await loaded;
    results.frame = framed.contentDocument?.getElementById("vue-app") ? "open" : "closed";
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return results;
}"""

OWN = """async (graph) => {
    const api = window.app.api;
    const heard = new Promise((resolve) => api.addEventListener(
        "executed", (event) => resolve(event.detail.output.text)));
    const answer = await api.fetchApi("/prompt", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ prompt: graph, client_id: api.clientId }),
    });
    const queue = await (await fetch("api/queue")).json();
    const stored = await api.storeUserData("own.json", { a: 1 });
    const read = await (await api.getUserData("own.json")).json();
    const picture = new Image();
    const seen = new Promise((resolve) => {
        picture.onload = () => resolve(true);
        picture.onerror = () => resolve(false);
    });
    picture.src = "api/view?type=input&filename=hub.png";
    return { status: answer.status, text: await heard, queue: Object.keys(queue).sort(),
             stored: stored.status, read, seen: await seen };
}"""


def log_in(page: Page) -> None:
    """Log bob in, in a page that asks for that."""
    page.locator("[name=username]").fill("bob")
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[type=submit]").click()


@pytest.fixture
def bob(browser: BrowserContext, jupyterhub: JupyterHubProcess) -> Iterator[BrowserContext]:
    """A browser in which bob is logged in."""
    assert browser.browser is not None
    context = browser.browser.new_context()
    page = context.new_page()
    page.goto(f"{jupyterhub.url}hub/login?next=%2Fhub%2Fhome")
    log_in(page)
    page.wait_for_url("**/hub/home")
    page.close()
    yield context
    context.close()


@pytest.fixture(autouse=True)
def picture(comfyui: Any) -> None:
    """A picture that ComfyUI shows."""
    Image.new("RGB", (8, 8)).save(comfyui.input_dir / "hub.png")


def open_comfyui(bob: BrowserContext, hub: JupyterHubProcess) -> tuple[Page, list[str]]:
    """Open his own page of ComfyUI; return it, and a list that collects its refused requests."""
    page = bob.new_page()
    refused: list[str] = []
    page.on(
        "response",
        lambda r: refused.append(f"{r.status} {r.url}") if r.status in {403, 500} else None,
    )
    page.goto(f"{hub.user_url('bob')}comfyui/")
    expect(page.locator("canvas#graph-canvas")).to_be_visible(timeout=120_000)
    page.wait_for_function("() => window.app?.api?.socket?.readyState === 1")
    return page, refused


def graph() -> dict[str, Any]:
    inputs = {"text": "from the page", "token": uuid.uuid4().hex}
    return {"1": {"class_type": "TestText", "inputs": inputs}}


@pytest.mark.thorough
def test_a_users_own_page_works(bob: BrowserContext, jupyterhub: JupyterHubProcess) -> None:
    page, refused = open_comfyui(bob, jupyterhub)
    answer = page.evaluate(OWN, graph())
    assert answer == {
        "status": 200,
        "text": ["from the page"],
        "queue": ["queue_pending", "queue_running"],
        "stored": 200,
        "read": {"a": 1},
        "seen": True,
    }
    assert refused == []


@pytest.mark.thorough
def test_a_colleague_who_is_logged_in_opens_a_panel(
    bob: BrowserContext, jupyterhub: JupyterHubProcess
) -> None:
    page = bob.new_page()
    page.goto(f"{jupyterhub.user_url('bob')}comfyui-deploy/app")
    page.get_by_role("button", name="Coloured clouds").click()
    panel = page.locator(".comfydeploy-panel")
    expect(panel.get_by_text("Ready")).to_be_visible(timeout=60_000)
    press(panel, "Run")
    expect(panel.locator(".comfydeploy-gallery .cd-pictures img")).to_be_visible(timeout=120_000)


@pytest.mark.thorough
def test_a_logout_loses_no_change_of_a_document(
    bob: BrowserContext, jupyterhub: JupyterHubProcess
) -> None:
    path = jupyterhub.homes / "bob" / "flow.json"
    path.write_bytes(SUNSET_PATH.read_bytes())
    page = bob.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{jupyterhub.user_url('bob')}lab/tree/flow.json")
    width = page.locator(".comfydeploy-panel:visible").get_by_label("Width", exact=True)
    expect(width).to_have_value("640", timeout=120_000)
    status = page.locator(".comfydeploy-status")
    expect(status).to_contain_text("idle")
    other = bob.new_page()
    other.goto(f"{jupyterhub.url}hub/logout")
    other.close()
    width.fill("512")
    width.press("Tab")
    said = page.get_by_role("alert").filter(has_text="not in the document yet: You are signed out")
    expect(said).to_be_visible()
    expect(page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_be_visible()
    with bob.expect_page() as opened:
        page.get_by_role("button", name="Sign in").click()
    log_in(opened.value)
    opened.value.wait_for_url("**/user/bob/lab**")
    opened.value.close()
    expect(said).to_have_count(0)
    expect(width).to_have_value("512")
    width.press("Control+s")
    expect(page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)
    assert json.loads(path.read_text())["1"]["inputs"]["value"] == 512


def test_another_users_page_cannot_use_the_server(
    bob: BrowserContext, jupyterhub: JupyterHubProcess, comfyui: Any
) -> None:
    """Bob opens a page of ada's server, which can send any content."""
    open_comfyui(bob, jupyterhub)
    with contextlib.suppress(Error):  # an older Chromium opens sockets of this page without asking
        bob.grant_permissions(["local-network-access"])
    page = bob.new_page()
    address = f"{jupyterhub.user_url('ada')}nice.html"
    page.route(address, lambda route: route.fulfill(content_type="text/html", body="<body>"))
    reached: list[int] = []
    page.on("response", lambda r: reached.append(r.status) if ACTING in r.url else None)
    page.goto(address)
    mark = uuid.uuid4().hex
    given = [jupyterhub.user_url("bob"), graph(), mark, QUIET, ACTING, BY_SOCKET]
    results = page.evaluate(ATTACK, given)
    assert results == {
        **dict.fromkeys(("prompt", "userdata", "run", "wrong token"), 403),
        **dict.fromkeys(("queue", "runs", "page", "sign-in"), 403),
        **{f"no-cors {path}": 403 for path in QUIET},
        **dict.fromkeys(("picture", "picture no-referrer", "module"), "closed"),
        **dict.fromkeys(("comfyui-deploy/ws", "comfyui/ws", BY_SOCKET, "frame"), "closed"),
    }
    assert reached
    assert set(reached) == {403}
    refused = re.findall(r"403 GET /user/bob/(\S+) \(bob@", jupyterhub.log())
    assert {"comfyui-deploy/ws", "comfyui/ws", BY_SOCKET} <= {*refused}
    stored = requests.get(f"{comfyui.url}/userdata?dir=.&recurse=true", timeout=30)
    assert mark not in stored.text


@pytest.mark.thorough
def test_a_missing_token_is_reported(jupyterhub: JupyterHubProcess) -> None:
    """The hub then accepts no cookie, and Jupyter has no user; this is no error of the server."""
    session = jupyterhub.sign_in("bob")
    before = jupyterhub.log().count("Traceback")
    for mode in ({}, {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}):
        for path in ("comfyui/prompt", "comfyui-deploy/run", "comfyui-deploy/interrupt"):
            url = f"{jupyterhub.user_url('bob')}{path}"
            answer = session.post(url, json={}, headers=mode, timeout=30)
            assert answer.status_code == 403, answer.text
            assert json.loads(answer.text)["code"] == "unauthorized"
            assert "_xsrf" in json.loads(answer.text)["error"]
    url = f"{jupyterhub.user_url('bob')}comfyui-deploy/runs"
    answer = session.get(url, headers={"Sec-Fetch-Mode": "cors"}, timeout=30)
    assert (answer.status_code, "_xsrf" in answer.json()["error"]) == (403, True)
    assert jupyterhub.log().count("Traceback") == before
