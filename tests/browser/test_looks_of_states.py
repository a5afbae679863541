"""How the panels look in each state: compared with accepted screenshots.

The panels use a Jupyter server of their own, which has no workflows and runs of other tests.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.accessibility import assert_accessible
from tests.browser.looks import Looks
from tests.browser.test_sweep import RESTART
from tests.browser.test_upload_panel import network_of
from tests.helpers.comfyui import free_port
from tests.helpers.comfyui_proxies import FaultyComfyUI, answering
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.processes import REPOSITORY
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from comfydeploy_jupyter.client import Machine
    from tests.helpers.cloudflared import FakeCloudflared
    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(600)

SUNSET = json.loads((REPOSITORY / "notebooks" / "sunset.json").read_text())
MEMORY = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.69 GiB of"
    " which 1.12 GiB is free."
)


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def painting(last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a workflow that paints a sunset and ends with certain nodes."""
    graph = {key: value for key, value in SUNSET.items() if key not in ("29", "34")}
    graph["50"] = node(
        "TestText", "Prompt", text="a harbour at dawn, soft light, film grain", anything=""
    )
    graph["51"] = node("TestSeed", "Dice", seed=20240731)
    return {**graph, **last}


NEW = {
    "1": node("EmptyImage", "Paper", width=512, height=768, batch_size=1, color=3368550),
    "2": node("ImageScaleBy", "Smaller", image=["1", 0], upscale_method="area", scale_by=0.5),
    "3": node("ImageInvert", "Invert", image=["2", 0]),
    "4": node("PreviewImage", "Preview", images=["3", 0]),
    "5": node("TestSeed", "Dice", seed=5),
    "6": node("TestText", "Words", text="a harbour at dawn, soft light", anything=["5", 0]),
}
SAVED = {"29": SUNSET["29"]}
MIRRORED = {
    "62": node("ImageFlip", "Mirrored", image=["28", 0], flip_method="y-axis: horizontally"),
    "65": node("ImageBatch", "Two", image1=["28", 0], image2=["62", 0]),
    "29": node("SaveImage", "Save", images=["65", 0], filename_prefix="look"),
}
HELD = {
    "60": node("TestHeldPreview", "Sampler", image=["28", 0], steps=20, at=12),
    "29": node("SaveImage", "Save", images=["60", 0], filename_prefix="look"),
}
FAILING = {
    "61": node("TestFailIf", "Upscale", condition=True, message=MEMORY, anything=["28", 0]),
    "29": node("SaveImage", "Save", images=["61", 0], filename_prefix="look"),
}


SEVERAL = {
    "62": node("ImageFlip", "Mirrored", image=["28", 0], flip_method="y-axis: horizontally"),
    "63": node("ImageInvert", "Negative", image=["28", 0]),
    "64": node("ImageFlip", "Turned", image=["62", 0], flip_method="x-axis: vertically"),
    "65": node("ImageBatch", "Two", image1=["28", 0], image2=["62", 0]),
    "66": node("ImageBatch", "Three", image1=["65", 0], image2=["64", 0]),
    "67": node("ImageBatch", "Four", image1=["66", 0], image2=["63", 0]),
    "29": node("SaveImage", "Save", images=["67", 0], filename_prefix="look"),
    "68": node("CreateVideo", "Film", images=["67", 0], fps=2.0),
    "69": node(
        "SaveVideo",
        "Save film",
        video=["68", 0],
        filename_prefix="look",
        format="mp4",
        codec="h264",
    ),
}


@pytest.fixture(scope="module")
def empty_server(
    start_jupyter: Any, comfyui: ComfyUIServer, tmp_path_factory: pytest.TempPathFactory
) -> JupyterProcess:
    """A Jupyter server without workflows and runs in front of the ComfyUI that all tests share."""
    server: JupyterProcess = start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.base_dir),
            "autostart": False,
            "data_dir": str(tmp_path_factory.mktemp("empty_server")),
        }
    )
    return server


@pytest.fixture
def looks(open_notebook: Any) -> Iterator[Looks]:
    """The page of a notebook whose panels are compared."""
    taken = Looks(open_notebook("looks", "pass", width=1440))
    yield taken
    assert not taken.problems, "\n".join(taken.problems)


@pytest.fixture
def comfy(empty_server: JupyterProcess) -> Comfy:
    """A client of the server without workflows and runs."""
    made = Comfy(empty_server.url, empty_server.token)
    for found in made.workflows.list():
        found.delete()
    runs = made.runs()
    made.runs.pin(runs, False)
    made.runs.delete(runs)
    return made


def connected(server: JupyterProcess) -> str:
    """Return code that connects to a server."""
    return (
        "import comfydeploy_jupyter as cd\n"
        f"comfy = cd.connect({server.url!r}, token={server.token!r})\n"
    )


def assert_all_in_sight(page: Page, panel: Locator) -> None:
    """Check that a usual window shows a result with four pictures without scrolling."""
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_timeout(250)
    pictures = panel.locator(".comfydeploy-gallery .cd-pictures img")
    for number in range(4):
        expect(pictures.nth(number)).to_be_in_viewport(ratio=1)


def test_a_run_panel_in_each_state(
    looks: Looks, lab: JupyterProcess, empty_server: JupyterProcess, comfy: Comfy
) -> None:
    folder = lab.root / "looks"
    folder.mkdir(exist_ok=True)
    ends = {"held": HELD, "memory": FAILING, "several": SEVERAL, "history": MIRRORED}
    graphs = {"new": NEW, **{name: painting(last) for name, last in ends.items()}}
    for name, graph in graphs.items():
        (lab.root / f"look-{name}.json").write_text(json.dumps(graph))
    for name in ("portrait", "landscape at night"):
        (folder / f"{name}.json").write_text(json.dumps(SUNSET))
    comfy.workflows.save(SUNSET, "Harbour at dawn")
    comfy.workflows.save(SUNSET, "Poster")
    opened, panel = looks.opened, looks.opened.panel

    def show(name: str) -> None:
        opened.run(f"{connected(empty_server)}cd.RunPanel('look-{name}.json', comfy=comfy)")
        expect(panel.get_by_text("Ready")).to_be_visible()

    def press(name: str) -> None:
        panel.get_by_role("button", name=name, exact=True).click()

    opened.run(f"{connected(empty_server)}cd.RunPanel(comfy=comfy, directory='looks')")
    expect(panel.get_by_role("button", name="Harbour at dawn")).to_be_visible()
    looks.take("run-empty")

    show("new")
    looks.take("run")

    comfy.free()  # the results show how many nodes were cached
    show("held")
    press("Keys (?)")
    looks.take("run-keys")
    opened.page.keyboard.press("Escape")
    width = panel.get_by_label("Sky: width", exact=True)
    width.fill("0")
    press("Run")
    expect(panel.get_by_role("alert")).to_contain_text("Sky: width: must be at least 1")
    top = panel.get_by_role("combobox", name="Workflow")
    expect(width).to_be_focused()
    looks.take("run-wrong", top, focused=width)
    width.fill("768")
    press("Run")
    expect(panel.get_by_alt_text("Preview of the sampler")).to_be_visible()
    looks.take("run-running")
    press("Cancel")
    expect(panel.get_by_text("the last run was cancelled")).to_be_visible()
    looks.take("run-cancelled")

    show("memory")
    press("Run")
    expect(panel.get_by_text("the last run failed")).to_be_visible()
    looks.take("run-failed")

    show("several")
    press("Run")
    expect(panel.locator("b", has_text="Success")).to_be_visible()
    expect(panel.get_by_text("the last run is done")).to_be_visible()
    expect(panel.locator(".comfydeploy-gallery .cd-pictures img")).to_have_count(4)
    looks.take("run-results", everywhere=True)
    assert_all_in_sight(opened.page, panel)

    path = lab.root / "look-history.json"
    for blur, words in ((1, "calm water"), (8, "a light breeze"), (40, "rough sea")):
        labels = {"for": "poster"} if blur == 8 else {}
        comfy.run(path, {"32.value": blur, "Prompt.text": f"a sunset, {words}"}, labels=labels)
    comfy.runs.pin(comfy.runs(labels={"for": "poster"}))
    show("history")
    history = panel.locator(".comfydeploy-history")
    history.scroll_into_view_if_needed()
    expect(history.locator("li img")).to_have_count(3)
    looks.take("run-history", history.locator("li").last)
    history.get_by_label("Time", exact=True).select_option("dates")
    history.get_by_label("From", exact=True).fill("2020-01-02")
    expect(history.locator("li img")).to_have_count(3)
    looks.take("run-dates", history.locator("li").last)
    history.get_by_label("Show all runs again").click()
    history.locator("li").last.get_by_label(re.compile("in full size")).click()
    lightbox = history.get_by_role("dialog", name="Picture in full size")
    expect(lightbox.get_by_text("a sunset, calm water")).to_be_visible()
    looks.take("run-enlarged")
    opened.page.keyboard.press("Escape")
    history.locator("li").first.locator(".cd-run").focus()
    opened.page.keyboard.press("Delete")
    expect(history.get_by_role("dialog")).to_contain_text("Delete the run of")
    looks.take("run-delete")
    opened.page.keyboard.press("Escape")
    for place in (0, 2):
        history.locator("li").nth(place).hover()
        history.get_by_role("checkbox").nth(place).check()
    history.get_by_role("button", name="Compare").click()
    expect(history.get_by_role("dialog").locator(".cd-stack img").last).to_be_visible()
    opened.page.keyboard.press("ArrowRight")
    expect(history.get_by_role("dialog")).to_contain_text("Picture 2 of 2")
    looks.take("run-compared")
    opened.page.keyboard.press("Escape")
    opened.page.evaluate(RESTART)
    expect(panel.get_by_role("alert")).to_contain_text("The kernel of this panel was restarted")
    looks.take("run-lost")


def test_a_sweep(looks: Looks, empty_server: JupyterProcess) -> None:
    opened, panel = looks.opened, looks.opened.panel
    points = {"Width.value": [160, 240], "Caption.value": ["low tide", "high tide"]}
    sweep = f"comfy.sweep('sunset.json', {points!r}, save='look-sweep.json')"
    opened.run(connected(empty_server) + sweep)
    expect(panel.get_by_text(re.compile("Done after"))).to_be_visible(timeout=60_000)
    expect(panel.locator("table img")).to_have_count(4)
    looks.take("sweep")
    panel.get_by_role("button", name="Width 160 px, Caption low tide: success").click()
    expect(panel.get_by_role("dialog").locator("dl")).to_contain_text("Caption")
    looks.take("sweep-lightbox")


def test_a_sweep_with_failures(
    looks: Looks, lab: JupyterProcess, empty_server: JupyterProcess
) -> None:
    opened, panel = looks.opened, looks.opened.panel
    (lab.root / "look-sweep-fails.json").write_text(json.dumps(painting(FAILING)))
    sweep = "comfy.sweep('look-sweep-fails.json', {'Sky.width': [160, 240]}, save='fails.json')"
    opened.run(connected(empty_server) + sweep)
    expect(panel.get_by_text(re.compile("Done after"))).to_be_visible(timeout=60_000)
    looks.take("sweep-failed")


def test_a_model_is_moved_and_deleted(
    looks: Looks, empty_server: JupyterProcess, comfy: Comfy, comfyui: ComfyUIServer
) -> None:
    name = "look-of-ink.safetensors"
    path = comfyui.models_dir / "loras" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    naming = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": name}}}
    comfy.workflows.save(naming, "Sunset with ink")
    opened, panel = looks.opened, looks.opened.panel
    opened.run(f"{connected(empty_server)}cd.UploadPanel(comfy=comfy)")
    expect(panel.get_by_text("Drop").first).to_be_visible()
    looks.take("upload")
    panel.get_by_role("tab", name="Add a model from a link").click()
    expect(panel.get_by_label("Link")).to_be_visible()
    looks.take("models-link")
    panel.get_by_role("tab", name="Models", exact=True).click()
    panel.get_by_label("Search models").fill(name)
    expect(panel.get_by_role("button", name=f"Delete {name}")).to_be_visible()
    looks.take("models")
    dialog = panel.get_by_role("dialog")
    for label, state in (("Move or rename", "models-move"), ("Delete", "models-delete")):
        panel.get_by_role("button", name=f"{label} {name}").click()
        expect(dialog).to_contain_text("1 stored workflow uses it")
        looks.take(state)
        opened.page.keyboard.press("Escape")
    path.unlink()


def test_uploads_under_way(looks: Looks, lab: JupyterProcess, tmp_path: Path) -> None:
    opened, panel = looks.opened, looks.opened.panel
    files = [tmp_path / name for name in ("harbour.mp4", "voices.wav")]
    for path in files:
        path.write_bytes(bytes(20_000_000))
    opened.run("import comfydeploy_jupyter as cd\ncd.UploadPanel(subfolder='look')")
    expect(panel.locator(".comfydeploy-zone")).to_be_visible()
    limit = network_of(opened.page)
    limit(50_000)
    try:
        panel.locator("input[type=file]").set_input_files(files)
        rows = panel.get_by_role("list", name="Transfers").get_by_role("listitem")
        expect(rows.filter(has_text=" % · ")).not_to_have_count(0)
        looks.take("uploads")
        for path in files:
            panel.get_by_role("button", name=f"Cancel {path.name}").click()
        expect(rows.filter(has_text="Cancelled")).to_have_count(2)
        looks.take("uploads-cancelled")
    finally:
        limit(-1)


def test_a_tunnel(looks: Looks, lab: JupyterProcess, cloudflared: FakeCloudflared) -> None:
    opened, panel = looks.opened, looks.opened.panel
    cloudflared.behave()
    try:
        opened.run("import comfydeploy_jupyter as cd\ncd.TunnelPanel()")
        top = panel.get_by_label("Make reachable")
        start = panel.get_by_role("button", name="Start")
        expect(start).to_be_enabled()
        looks.take("tunnel")
        start.click()
        expect(panel.get_by_role("link")).to_be_visible()
        panel.get_by_text("QR code").click()
        code = panel.get_by_alt_text("QR code of the link")
        expect(code).to_have_js_property("complete", True)
        looks.take("tunnel-running", top)
        panel.get_by_role("button", name="Stop").click()
        expect(panel.get_by_text("Stopped")).to_be_visible()
        cloudflared.behave(mode="rate_limited")
        start.click()
        expect(panel.get_by_role("alert").filter(has_text="Too many quick tunnels")).to_be_visible()
        looks.take("tunnel-failed", top)
    finally:
        cloudflared.behave()
        Comfy(lab.url, lab.token).tunnel.stop()


def test_a_tunnel_without_cloudflared(looks: Looks, without_cloudflared: JupyterProcess) -> None:
    panel = looks.opened.panel
    looks.opened.run(f"{connected(without_cloudflared)}cd.TunnelPanel('jupyter', comfy)")
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_role("button", name="Download cloudflared")).to_be_visible()
    looks.take("tunnel-missing")


def test_an_account(looks: Looks, empty_server: JupyterProcess, comfy: Comfy) -> None:
    panel = (
        "from comfydeploy_jupyter.widgets.account_panel import AccountPanel\nAccountPanel(comfy)"
    )
    looks.opened.run(connected(empty_server) + panel)
    expect(looks.opened.panel.get_by_role("button", name="Sign in")).to_be_enabled()
    looks.take("account")
    comfy.comfy_account.set_api_key("comfyui-of-a-test")
    try:
        looks.opened.run(connected(empty_server) + panel)
        expect(looks.opened.panel.get_by_role("button", name="Sign out")).to_be_visible()
        looks.take("account-stored")
    finally:
        comfy.comfy_account.sign_out()


def test_a_workflow_panel(looks: Looks, empty_server: JupyterProcess, comfy: Comfy) -> None:
    stored = comfy.workflows.save(SUNSET, "Harbour at dawn", comment="first light")
    stored.tag("portrait", "client A")
    comfy.run(stored.load())
    changed = json.loads(json.dumps(SUNSET))
    changed["32"]["inputs"]["value"] = 24
    comfy.workflows.save(changed, workflow_id=stored.id, comment="softer water")
    comfy.workflows.save(SUNSET, "Poster", comment="as it came").tag("print")
    opened, panel = looks.opened, looks.opened.panel
    code = f"cd.WorkflowPanel(workflow_id={stored.id!r}, comfy=comfy, directory='nowhere')"
    opened.run(f"{connected(empty_server)}{code}")
    expect(panel.get_by_text("version 2 of 2")).to_be_visible()
    expect(panel.locator(".comfydeploy-workflow-list img").first).to_be_visible()
    looks.take("workflows", everywhere=True)
    shown = {
        "Compare": panel.locator(".comfydeploy-changes li"),
        "Save": panel.get_by_label("Comment"),
        "Export": panel.get_by_label("Format"),
        "Run": panel.locator(".comfydeploy-history li img"),
    }
    for tab, part in shown.items():
        panel.get_by_role("tab", name=tab, exact=True).click()
        expect(part.first).to_be_visible()
        looks.take(f"workflows-{tab.lower()}")


def test_a_machine_and_a_pool(
    looks: Looks,
    lab: JupyterProcess,
    empty_server: JupyterProcess,
    comfyui: ComfyUIServer,
    comfy: Comfy,
) -> None:
    (lab.root / "look-machine.json").write_text(json.dumps(painting(SAVED)))
    studio = FaultyComfyUI(comfyui.url)
    studio.start()
    stats = json.dumps(
        {
            "system": {
                "comfyui_version": "0.33.0",
                "ram_total": 68719476736,
                "ram_free": 51539607552,
            },
            "devices": [
                {
                    "name": "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync",
                    "type": "cuda",
                    "index": 0,
                    "vram_total": 25757220864,
                    "vram_free": 9663676416,
                }
            ],
        }
    )
    studio.fail("GET", "/system_stats", answering(200, stats, "application/json"))
    opened, panel = looks.opened, looks.opened.panel
    until(lambda: comfy.machines.get("local").status == "ready")  # connected before the other one
    other = comfy.machines.create("Studio", comfyui_url=studio.url)
    pool = comfy.machines.create("All GPUs", kind="pool", members=["local", other.id])
    machines = [pool, other]
    runs = []
    try:
        opened.run(
            f"{connected(empty_server)}cd.ComfyDeployPanel('look-machine.json', comfy=comfy)"
        )
        expect(panel.first.get_by_text("Memory", exact=True)).to_be_visible()
        looks.take("machine")
        graph = {
            "1": node(
                "UNETLoader", "Model", unet_name="flux1-dev.safetensors", weight_dtype="default"
            ),
            "2": node("TestSleep", "Wait", seconds=3000),
            "3": node("TestText", "Words", text="a", anything=["2", 0]),
        }
        # Both machines are one ComfyUI, which sends events to the one that has connected last.
        runs.append(comfy.submit(graph, machine=other.id))
        panel.first.get_by_label("Machine", exact=True).select_option("All GPUs")
        members = panel.first.get_by_label("Machines of the pool")
        expect(members.get_by_role("listitem")).to_have_count(2)
        expect(members.get_by_role("listitem").last).to_contain_text(
            "ComfyUI 0.33.0 · NVIDIA GeForce RTX 4090"
        )
        expect(members).to_contain_text("1 running")
        expect(members).to_contain_text("flux1-dev.safetensors")
        expect(panel.first.get_by_text("2 of 2 machines ready")).to_be_visible()
        assert_accessible(panel.first)
        looks.take("pool")
        panel.first.get_by_label("Machine", exact=True).select_option("Studio")
        expect(panel.first.get_by_text("NVIDIA GeForce RTX 4090")).to_be_visible()
        looks.take("machine-gpu")
        machines.append(comfy.machines.create("Attic", comfyui_url="http://127.0.0.1:9"))
        panel.first.get_by_label("Machine", exact=True).select_option("Attic")
        expect(panel.first.get_by_text("cannot be reached")).to_be_visible()
        expect(panel.first.get_by_text("Start ComfyUI so that it")).to_have_count(2)
        looks.take("machine-lost")
    finally:
        for run in runs:
            run.cancel()
        until(lambda: not [*comfy.runs(status="running"), *comfy.runs(status="queued")])
        for machine in machines:
            machine.delete()
        studio.close()


def test_a_machine_that_fails_its_runs(
    looks: Looks, lab: JupyterProcess, empty_server: JupyterProcess, comfy: Comfy
) -> None:
    """Pools give it no runs for some time."""
    (lab.root / "look-machine.json").write_text(json.dumps(painting(SAVED)))
    comfyuis = {name: (InstantComfyUI(), free_port()) for name in ("Attic", "Studio")}
    comfyuis["Studio"][0].fails = True
    loop = asyncio.new_event_loop()
    serving = [loop.create_task(comfyui.serve(port)) for comfyui, port in comfyuis.values()]
    served = asyncio.gather(*serving, return_exceptions=True)
    thread = threading.Thread(target=loop.run_until_complete, args=(served,))
    thread.start()
    machines: list[Machine] = []
    try:
        for name, (_, port) in comfyuis.items():
            url = f"http://127.0.0.1:{port}"
            machines.append(comfy.machines.create(name, comfyui_url=url))
        members = [machine.id for machine in machines]
        pool = comfy.machines.create("Both", kind="pool", members=members)
        machines.insert(0, pool)
        until(lambda: [member["status"] for member in pool.refresh().members] == ["ready"] * 2)
        for number in range(40):
            text = {"text": str(number), "token": ""}
            graph = {"1": {"class_type": "TestText", "inputs": text}}
            comfy.submit(graph, machine=pool.id)
            if machines[2].refresh().status == "paused":
                break
            time.sleep(0.1)
        until(lambda: "with the next run" in str(machines[2].refresh().record.get("error")))
        opened, panel = looks.opened, looks.opened.panel
        code = "cd.ComfyDeployPanel('look-machine.json', comfy=comfy, machine='Studio')"
        opened.run(f"{connected(empty_server)}{code}")
        expect(panel.first.get_by_text("runs of pools on this machine have failed")).to_be_visible()
        expect(panel.first.get_by_text("Memory", exact=True)).to_be_visible()
        assert_accessible(panel.first)
        looks.take("machine-paused")
    finally:
        until(lambda: not [*comfy.runs(status="running"), *comfy.runs(status="queued")])
        for machine in machines:
            machine.delete()
        for each in serving:
            loop.call_soon_threadsafe(each.cancel)
        thread.join()
        loop.close()
