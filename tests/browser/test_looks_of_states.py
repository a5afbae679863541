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

from tests.browser.accessibility import assert_accessible
from tests.browser.looks import Looks, connected
from tests.browser.test_sweep import RESTART
from tests.helpers.comfyui import free_port
from tests.helpers.comfyui_proxies import FaultyComfyUI, answering
from tests.helpers.graphs import SUNSET, node, paper
from tests.helpers.instant_comfyui import InstantComfyUI
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from comfydeploy_jupyter.client import Comfy, Machine
    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(600)

MEMORY = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.69 GiB of"
    " which 1.12 GiB is free."
)


def painting(last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a workflow that paints a sunset and ends with certain nodes."""
    graph = {key: value for key, value in SUNSET.items() if key not in ("29", "34")}
    graph["50"] = node(
        "TestText", "Prompt", text="a harbour at dawn, soft light, film grain", anything=""
    )
    graph["51"] = node("TestSeed", "Dice", seed=20240731)
    return {**graph, **last}


NEW = {
    "1": paper(512, 768, color=3368550),
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


def assert_all_in_sight(page: Page, panel: Locator) -> None:
    """Check that a usual window shows a result with four pictures without scrolling."""
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_timeout(250)
    pictures = panel.locator(".comfydeploy-gallery .cd-pictures img")
    for number in range(4):
        expect(pictures.nth(number)).to_be_in_viewport(ratio=1)


def test_a_run_panel_in_each_state(looks: Looks, lab: JupyterProcess, empty: Comfy) -> None:
    folder = lab.root / "looks"
    folder.mkdir(exist_ok=True)
    ends = {"held": HELD, "memory": FAILING, "several": SEVERAL, "history": MIRRORED}
    graphs = {"new": NEW, **{name: painting(last) for name, last in ends.items()}}
    for name, graph in graphs.items():
        (lab.root / f"look-{name}.json").write_text(json.dumps(graph))
    for name in ("portrait", "landscape at night"):
        (folder / f"{name}.json").write_text(json.dumps(SUNSET))
    empty.workflows.save(SUNSET, "Harbour at dawn")
    empty.workflows.save(SUNSET, "Poster")
    opened, panel = looks.opened, looks.opened.panel

    def show(name: str) -> None:
        opened.run(f"{connected(empty)}cd.RunPanel('look-{name}.json', comfy=comfy)")
        expect(panel.get_by_text("Ready")).to_be_visible()

    def press(name: str) -> None:
        panel.get_by_role("button", name=name, exact=True).click()

    opened.run(f"{connected(empty)}cd.RunPanel(comfy=comfy, directory='looks')")
    expect(panel.get_by_role("button", name="Harbour at dawn")).to_be_visible()
    looks.take("run-empty")

    show("new")
    looks.take("run")

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
    looks.take("run-results")
    assert_all_in_sight(opened.page, panel)

    path = lab.root / "look-history.json"
    for blur, words in ((1, "calm water"), (8, "a light breeze"), (40, "rough sea")):
        labels = {"for": "poster"} if blur == 8 else {}
        empty.run(path, {"32.value": blur, "Prompt.text": f"a sunset, {words}"}, labels=labels)
    empty.runs.pin(empty.runs(labels={"for": "poster"}))
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


def test_sweeps(looks: Looks, lab: JupyterProcess, empty: Comfy) -> None:
    opened, panel = looks.opened, looks.opened.panel
    points = {"Width.value": [160, 240], "Caption.value": ["low tide", "high tide"]}
    sweep = f"comfy.sweep('sunset.json', {points!r}, save='look-sweep.json')"
    opened.run(connected(empty) + sweep)
    line = panel.locator(".cd-line > .cd-grow")
    expect(line).to_contain_text("Done: 4 of 4", timeout=60_000)
    expect(panel.locator("table img")).to_have_count(4)
    looks.take("sweep")
    panel.get_by_role("button", name="Width 160 px, Caption low tide: success").click()
    expect(panel.get_by_role("dialog").locator("dl")).to_contain_text("Caption")
    looks.take("sweep-lightbox")
    (lab.root / "look-sweep-fails.json").write_text(json.dumps(painting(FAILING)))
    sweep = "comfy.sweep('look-sweep-fails.json', {'Sky.width': [160, 240]}, save='fails.json')"
    opened.run(connected(empty) + sweep)
    expect(line).to_contain_text("Done: 2 of 2", timeout=60_000)
    looks.take("sweep-failed")


def test_an_account(looks: Looks, empty: Comfy) -> None:
    kinds = "from comfydeploy_jupyter.widgets import comfydeploy_panel as kinds"
    panel = f"{kinds}\nkinds.AccountPanel(comfy)"
    looks.opened.run(connected(empty) + panel)
    expect(looks.opened.panel.get_by_role("button", name="Sign in")).to_be_enabled()
    looks.take("account")
    empty.comfy_account.set_api_key("comfyui-of-a-test")
    try:
        looks.opened.run(connected(empty) + panel)
        expect(looks.opened.panel.get_by_role("button", name="Sign out")).to_be_visible()
        looks.take("account-stored")
    finally:
        empty.comfy_account.sign_out()


def test_a_workflow_panel(looks: Looks, empty: Comfy) -> None:
    stored = empty.workflows.save(SUNSET, "Harbour at dawn", comment="first light")
    stored.tag("portrait", "client A")
    empty.run(stored.load())
    changed = json.loads(json.dumps(SUNSET))
    changed["32"]["inputs"]["value"] = 24
    empty.workflows.save(changed, workflow_id=stored.id, comment="softer water")
    empty.workflows.save(SUNSET, "Poster", comment="as it came").tag("print")
    opened, panel = looks.opened, looks.opened.panel
    code = f"cd.WorkflowPanel(workflow_id={stored.id!r}, comfy=comfy, directory='nowhere')"
    opened.run(f"{connected(empty)}{code}")
    expect(panel.get_by_text("version 2 of 2")).to_be_visible()
    expect(panel.locator(".comfydeploy-workflow-list img").first).to_be_visible()
    looks.take("workflows")
    shown = {
        "Compare": panel.locator(".comfydeploy-changes li"),
        "Save": panel.get_by_label("Comment"),
        "Export": panel.get_by_label("Format"),
        "Run": panel.get_by_role("button", name="Use these values again"),
    }
    for tab, part in shown.items():
        panel.get_by_role("tab", name=tab, exact=True).click()
        if tab == "Run":  # what is not seen is not requested
            panel.locator(".comfydeploy-history").evaluate("each => each.scrollIntoView()")
        expect(part.first).to_be_visible()
        looks.take(f"workflows-{tab.lower()}")


@pytest.mark.thorough
def test_a_machine_and_a_pool(
    looks: Looks, lab: JupyterProcess, comfyui: ComfyUIServer, empty: Comfy
) -> None:
    (lab.root / "look-machine.json").write_text(json.dumps(painting(SAVED)))
    studio = FaultyComfyUI(comfyui.url)
    studio.start()
    system = {"comfyui_version": "0.33.0", "ram_total": 64 << 30, "ram_free": 48 << 30}
    gpu = {"name": "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync", "type": "cuda", "index": 0}
    memory = {"vram_total": 25757220864, "vram_free": 9 << 30}
    stats = json.dumps({"system": system, "devices": [{**gpu, **memory}]})
    studio.fail("GET", "/system_stats", answering(200, stats, "application/json"))
    opened, panel = looks.opened, looks.opened.panel
    until(lambda: empty.machines.get("local").status == "ready")  # connected before the other one
    other = empty.machines.create("Studio", comfyui_url=studio.url)
    # a member that connects has no models yet
    until(lambda: empty.machines.get(other.id).status == "ready")
    pool = empty.machines.create("All GPUs", kind="pool", members=["local", other.id])
    machines = [pool, other]
    runs = []
    try:
        opened.run(f"{connected(empty)}cd.ComfyDeployPanel('look-machine.json', comfy=comfy)")
        expect(panel.first.get_by_text("Memory", exact=True)).to_be_visible()
        expect(panel.get_by_text("Ready").first).to_be_visible()
        looks.take("machine")
        graph = {
            "1": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
            "2": node("TestSleep", "Wait", seconds=3000),
            "3": node("TestText", "Words", text="a", anything=["2", 0]),
        }
        # Both machines are one ComfyUI, which sends events to the one that has connected last.
        runs.append(empty.submit(graph, machine=other.id))
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
        machines.append(empty.machines.create("Attic", comfyui_url="http://127.0.0.1:9"))
        panel.first.get_by_label("Machine", exact=True).select_option("Attic")
        expect(panel.first.get_by_text("cannot be reached")).to_be_visible()
        expect(panel.first.get_by_text("Start ComfyUI so that it")).to_have_count(2)
        looks.take("machine-lost")
    finally:
        for run in runs:
            run.cancel()
        until(lambda: not [*empty.runs(status="running"), *empty.runs(status="queued")])
        for machine in machines:
            machine.delete()
        studio.close()


@pytest.mark.thorough
def test_a_machine_that_fails_its_runs(looks: Looks, lab: JupyterProcess, empty: Comfy) -> None:
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
            machines.append(empty.machines.create(name, comfyui_url=url))
        members = [machine.id for machine in machines]
        pool = empty.machines.create("Both", kind="pool", members=members)
        machines.insert(0, pool)
        until(lambda: [member["status"] for member in pool.refresh().members] == ["ready"] * 2)
        for number in range(40):
            graph = {"1": node("TestText", text=str(number), token="")}
            empty.submit(graph, machine=pool.id)
            if machines[2].refresh().status == "paused":
                break
            time.sleep(0.1)
        until(lambda: "with the next run" in str(machines[2].refresh().record.get("error")))
        opened, panel = looks.opened, looks.opened.panel
        code = "cd.ComfyDeployPanel('look-machine.json', comfy=comfy, machine='Studio')"
        opened.run(f"{connected(empty)}{code}")
        expect(panel.first.get_by_text("runs of pools on this machine have failed")).to_be_visible()
        expect(panel.first.get_by_text("Memory", exact=True)).to_be_visible()
        assert_accessible(panel.first)
        opened.page.evaluate("() => document.activeElement?.blur()")
        looks.take("machine-paused")
    finally:
        until(lambda: not [*empty.runs(status="running"), *empty.runs(status="queued")])
        for machine in machines:
            machine.delete()
        for each in serving:
            loop.call_soon_threadsafe(each.cancel)
        thread.join()
        loop.close()
