"""ComfyUI's own page in JupyterLab, as users open it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
import requests
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.launcher import comfyui_tile
from tests.browser.conftest import new_workspace

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)


# The editor asks for its icons and some of its pictures at the root of the host.
PICTURES = """async () => {
    const icon = document.querySelector("link[rel~=icon]");
    icon.href = "/assets/images/favicon_progress_16x16/frame_3.png";
    const shows = async (src) => {
        const image = new Image();
        image.src = src;
        return image.decode().then(() => image.naturalWidth > 0, () => false);
    };
    const other = Object.assign(new Image(), { src: "http://elsewhere.test/a.png" });
    return {
        icon: (await fetch(icon.href)).ok,
        logo: await shows("/assets/images/comfy-logo-single.svg"),
        data: await shows("data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="),
        elsewhere: other.src,
    };
}"""

# The addresses at the root of the host in all style sheets and in the styles that scripts set; the
# picture of one such style is drawn.
STYLES = """async () => {
    const loaded = performance.getEntriesByType("resource").map(({ name }) => new URL(name));
    const ours = loaded.filter(({ host }) => host === location.host);
    const files = ours.filter(({ pathname }) => /[.](css|js)$/.test(pathname));
    const texts = await Promise.all(files.map(async (url) => (await fetch(url)).text()));
    const found = texts.join("").matchAll(/["'`}:]url[(]["']?([/][^"')]*)/g);
    const addresses = [...new Set([...found].map(([, address]) => address))];
    const picture = addresses.find((address) => address.endsWith("/paintBucket.png"));
    const drawn = document.body.appendChild(document.createElement("div"));
    drawn.style.cssText = `position: fixed; inset: 0; z-index: 9999; background: url(${picture})`;
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    drawn.remove();
    return addresses;
}"""


def test_the_tile_opens_comfyui(
    lab: JupyterProcess, browser: BrowserContext, comfyui: ComfyUIServer
) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.set_default_timeout(90_000)
    sockets: list[str] = []
    failures: list[str] = []
    missing: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.on("response", lambda r: missing.append(r.url) if r.status == 404 else None)
    page.on(
        "response",
        lambda r: failures.append(f"{r.status} {r.url}") if r.status in {403, 500, 503} else None,
    )
    page.goto(f"{lab.url}{new_workspace()}?token={lab.token}")
    page.locator(".jp-LauncherCard", has_text="ComfyUI").first.click()
    editor = page.frame_locator("iframe").last
    expect(editor.locator("canvas#graph-canvas")).to_be_visible(timeout=120_000)
    frame = next(f for f in page.frames if "/comfyui/" in f.url)
    before = len(Comfy(lab.url, lab.token).runs(limit=100))
    frame.wait_for_function("() => window.app?.api?.socket?.readyState === 1")
    answer = frame.evaluate(
        """async () => {
            const graph = {"1": {class_type: "TestText", inputs: {text: "from the page"}}}
            const heard = new Promise((resolve) => window.app.api.addEventListener(
                "executed", (event) => resolve(event.detail.output.text)))
            const answer = await window.app.api.fetchApi("/prompt", {
                method: "POST",
                headers: {"Content-Type": "application/json"},
                body: JSON.stringify({prompt: graph, client_id: window.app.api.clientId}),
            })
            return {status: answer.status, text: await heard}
        }"""
    )
    assert urlsplit(frame.url).path == f"{urlsplit(lab.url).path}comfyui/", "so it can be reloaded"
    assert answer == {"status": 200, "text": ["from the page"]}
    assert frame.evaluate(PICTURES) == {
        "icon": True,
        "logo": True,
        "data": True,
        "elsewhere": "http://elsewhere.test/a.png",
    }
    with page.expect_response("**/comfyui/cursor/paintBucket.png") as drawn:
        addresses = frame.evaluate(STYLES)
    assert drawn.value.ok
    folder = urlsplit(frame.url).path
    assert f"{folder}cursor/paintBucket.png" in addresses
    assert [address for address in addresses if not address.startswith(folder)] == []
    # What is missing below the page is missing in ComfyUI, too.
    for url in missing:
        assert url.startswith(f"{lab.url}comfyui/"), url
        itself = requests.get(url.replace(f"{lab.url}comfyui/", f"{comfyui.url}/"), timeout=30)
        assert itself.status_code == 404, url
    ours = urlsplit(lab.url)
    theirs = [url for url in sockets if "/comfyui/" in url]
    assert theirs
    assert all(urlsplit(url).netloc == ours.netloc for url in theirs)
    assert [failure for failure in failures if "/comfyui/" in failure] == []
    assert len(Comfy(lab.url, lab.token).runs(limit=100)) == before
    page.close()


def test_the_launchers_tile_adds_no_proxy_to_comfyui(lab: JupyterProcess) -> None:
    headers = {"Authorization": f"token {lab.token}"}
    with requests.Session() as session:
        session.trust_env = False
        info = session.get(f"{lab.url}server-proxy/servers-info", headers=headers, timeout=30)
        (tile,) = [
            entry
            for entry in info.json()["server_processes"]
            if entry["launcher_entry"]["title"] == "ComfyUI"
        ]
        assert tile["launcher_entry"]["path_info"] == "comfyui/"
        icon = session.get(
            f"http://{urlsplit(lab.url).netloc}{tile['launcher_entry']['icon_url']}", timeout=30
        )
        assert re.match(r"image/svg", icon.headers["Content-Type"])
        behind = session.get(f"{lab.url}{tile['name']}/", headers=headers, timeout=30)
        assert behind.status_code >= 500
        session.cookies.clear()
        response = session.get(f"{lab.url}comfyui/api/queue", timeout=30)
        assert response.status_code == 403
    assert Path(comfyui_tile()["launcher_entry"]["icon_path"]).read_text().startswith("<svg")


ACTIVE = "<script>localStorage.acted = location.pathname</script>"
FILES = {
    "acts.html": f"<html>{ACTIVE}</html>",
    "acts.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{ACTIVE}</body></html>',
    "acts.xml": f'<a xmlns:h="http://www.w3.org/1999/xhtml"><h:b>{ACTIVE}</h:b></a>',
    "acts.svg": f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{ACTIVE}</svg>',
    "acts.js": "localStorage.acted = location.pathname",
    "acts": f"<html>{ACTIVE}</html>",
}

SHOW = """async (paths) => {
    const wait = (element, parent) => new Promise((resolve) => {
        element.onload = element.onerror = resolve;
        setTimeout(resolve, 1000);
        parent.append(element);
    });
    const make = (tag, set) => Object.assign(document.createElement(tag), set);
    await Promise.all(paths.flatMap((path) => [
        wait(make("iframe", { src: path }), document.body),
        wait(make("object", { data: path }), document.body),
        wait(make("embed", { src: path }), document.body),
        wait(make("script", { src: path }), document.head),
        wait(make("script", { src: path, type: "module" }), document.head),
    ]));
    return localStorage.acted ?? null;
}"""

WAYS = """async ([file, script]) => {
    const image = new Image();
    image.src = file;
    await image.decode().catch(() => null);
    const begin = (url) => new Promise((resolve) => {
        const worker = new Worker(url);
        worker.onmessage = () => resolve("runs");
        worker.onerror = () => resolve("refused");
    });
    const register = (url) =>
        navigator.serviceWorker.register(url).then(() => "runs", () => "refused");
    const echo = "comfydeploy_test/echo";
    const xhr = new XMLHttpRequest();
    xhr.open("POST", echo);
    await new Promise((resolve) => { xhr.onload = resolve; xhr.send("x"); });
    const headers = { "Comfy-User": "u" };
    const request = new Request(echo, { method: "PUT", body: "told", headers });
    const answer = await (await fetch(request)).json();
    navigator.sendBeacon(`${echo}?way=beacon`, "x");
    document.body.insertAdjacentHTML("beforeend", `<iframe name="sink"></iframe>
        <form id="sent" method="post" target="sink" action="${echo}?way=form">
        <input name="a"><button formaction="${echo}?way=button"></button></form>`);
    const form = document.getElementById("sent");
    form.submit();
    await new Promise((resolve) => setTimeout(resolve, 500));
    form.requestSubmit(form.querySelector("button"));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return { image: image.naturalWidth, worker: await begin(script),
             user_worker: await begin("userdata/acts.js"), service: await register(script),
             xhr: xhr.status, body: answer.body, user: answer.headers["comfy-user"] };
}"""


def test_no_file_of_comfyui_runs_scripts_in_jupyters_origin(
    lab: JupyterProcess, browser: BrowserContext, comfyui: ComfyUIServer
) -> None:
    """Everyone who can reach ComfyUI, also through a tunnel, can store such files there."""
    picture = FILES["acts.svg"].encode()
    for name, text in FILES.items():
        (comfyui.input_dir / name).write_text(text)
        stored = requests.post(f"{comfyui.url}/userdata/{name}", data=text.encode(), timeout=30)
        assert stored.status_code == 200
    paths = [f"userdata/{name}" for name in FILES]
    paths += [f"view?type=input&filename={name}" for name in FILES]
    page = browser.new_page()
    page.goto(f"{lab.url}comfyui/?token={lab.token}")
    expect(page.locator("canvas#graph-canvas")).to_be_visible(timeout=120_000)
    assert page.evaluate(SHOW, paths) is None
    statuses: dict[str, int] = {}
    page.on("response", lambda r: statuses.update({r.url.rpartition("way=")[2]: r.status}))
    script = "comfydeploy_test/answer?header=Content-Type:%20text/javascript&body=postMessage(1)"
    drawn = "comfydeploy_test/answer?header=Content-Type:%20image/svg%2Bxml&body="
    found = page.evaluate(WAYS, [drawn + quote(picture), script])
    assert found == {
        "image": 9,
        "worker": "runs",
        "user_worker": "refused",
        "service": "refused",
        "xhr": 200,
        "body": "told",
        "user": "u",
    }
    ways = {name.partition("&")[0]: status for name, status in statuses.items()}
    assert {ways[name] for name in ("beacon", "form", "button")} == {200}
    for path in paths:
        with contextlib.suppress(PlaywrightError):  # it is saved, not shown
            page.goto(f"{lab.url}comfyui/{path}")
    page.goto(f"{lab.url}api")
    assert page.evaluate("() => localStorage.acted ?? null") is None
    page.close()
