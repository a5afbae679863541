"""A sweep in a page: it fills up, the Stop button stops it, its sheet stays."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.jupyter_process import JupyterProcess

pytestmark = pytest.mark.timeout(300)

CODE = """\
import comfydeploy_jupyter
comfy = comfydeploy_jupyter.connect(start=False)
comfy.sweep({name!r}, {points!r}, wait={wait!r})"""


RESTART = """() => {
    const { context } = window.jupyterapp.shell.currentWidget;
    return context.sessionContext.session.kernel.restart();
}"""


def test_it_fills_and_stays(open_notebook: Any) -> None:
    points = {"Width.value": [160, 240, 320], "Caption.value": ["<b>low</b>", "high"]}
    lab_page = open_notebook("sweep", CODE.format(name="sunset.json", points=points, wait=True))
    output = lab_page.page.locator(".jp-OutputArea-output")
    expect(output.get_by_text(re.compile("Done after"))).to_be_visible(timeout=60_000)
    expect(output.locator("table img")).to_have_count(6)
    expect(output.get_by_text("<b>low</b>", exact=True).first).to_be_visible()
    lab_page.shoot("sweep-done")


def slow_graph() -> dict[str, Any]:
    picture = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    return {
        "1": {"class_type": "TestSeed", "inputs": {"seed": 0, "token": uuid.uuid4().hex}},
        "2": {"class_type": "EmptyImage", "inputs": picture},
        "3": {"class_type": "TestSleep", "inputs": {"seconds": 2.0, "anything": ["1", 0]}},
        "4": {"class_type": "TestText", "inputs": {"text": "", "anything": ["3", 0]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def test_it_says_that_its_kernel_is_gone(open_notebook: Any, lab: JupyterProcess) -> None:
    (lab.root / "gone.json").write_text(json.dumps(slow_graph()))
    points = {"seed": list(range(9))}
    lab_page = open_notebook("sweep-gone", CODE.format(name="gone.json", points=points, wait=False))
    page = lab_page.page
    output = page.locator(".jp-OutputArea-output")
    stop = output.get_by_role("button", name="Stop")
    gone = output.get_by_text("The kernel of this sweep was restarted or has ended")
    expect(stop).to_be_enabled(timeout=60_000)
    expect(gone).to_be_hidden()
    page.evaluate(RESTART)
    expect(gone).to_be_visible()
    expect(stop).to_be_disabled()
    lab_page.shoot("sweep-gone")


@pytest.mark.parametrize("wait", [True, False], ids=["busy", "free"])
def test_it_can_be_stopped(open_notebook: Any, lab: JupyterProcess, wait: bool) -> None:
    name = f"slow-{wait}.json"
    (lab.root / name).write_text(json.dumps(slow_graph()))
    points = {"color": [0xAA0000, 0x00AA00, 0x0000AA], "seed": [1, 2, 3]}
    code = CODE.format(name=name, points=points, wait=wait)
    lab_page = open_notebook(f"sweep-stop-{wait}", code)
    page = lab_page.page
    output = page.locator(".jp-OutputArea-output")
    stop = output.get_by_role("button", name="Stop")
    hint = output.get_by_text(re.compile("interrupt the kernel to stop it"))
    expect(output.locator("img:visible")).to_have_count(1, timeout=60_000)
    expect(stop).to_have_count(0 if wait else 1)
    expect(hint).to_have_count(1 if wait else 0)
    lab_page.shoot(f"sweep-running-{wait}")
    if wait:
        page.get_by_role("button", name="Interrupt the kernel").click()
        expect(output.get_by_text(re.compile(r"continues with resume\(\) of"))).to_be_visible()
    else:
        stop.click()
    expect(output.get_by_text(re.compile("Stopped after"))).to_be_visible()
    expect(stop).to_have_count(0)
    lab_page.shoot(f"sweep-stopped-{wait}")
