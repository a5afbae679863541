"""With what a run was made, its environment as files, and a batch that is made again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.axe import violations
from tests.browser.looks import THEMES
from tests.browser.panels import PANEL, assert_neat
from tests.helpers.graphs import node, paper
from tests.helpers.selection import few

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.conftest import LabPage
    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)

BATCH = """\
import comfydeploy_jupyter
comfydeploy_jupyter.connect(start=False).sweep({name!r}, {points!r}, wait=True, save=False)"""


def look(opened: LabPage, name: str, shown: Locator) -> None:
    """Take screenshots in both themes, narrow and wide; nothing may stick out."""
    for theme in THEMES:
        opened.set_theme(theme)
        for width in (480, 1440):
            opened.page.set_viewport_size({"width": width, "height": 1000})
            shown.scroll_into_view_if_needed()
            assert_neat(shown)
            assert violations(shown) == []
            opened.shoot(f"proof-{name}-{theme.lower()}-{width}")
    opened.set_theme("Light")
    opened.page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.thorough
def test_the_environment_of_a_run_is_downloaded(open_notebook: Any, lab: JupyterProcess) -> None:
    path = lab.root / "proof-environment.json"
    save = node("SaveImage", images=["1", 0], filename_prefix="proof")
    path.write_text(json.dumps({"1": paper(320, 240, color=0x3060C0), "2": save}))
    comfy = Comfy(lab.url, lab.token)
    comfy.submit(path).record(60)
    opened = open_notebook(PANEL.format(path.name))
    history = opened.panel.locator(".comfydeploy-history")
    history.locator("li").first.hover()
    history.locator("li").first.get_by_label(re.compile("in full size")).click()
    about = history.locator(".cd-about")
    about.get_by_text("Made with", exact=True).click()
    expect(about.locator("dl").filter(has_text="torch")).to_contain_text("ComfyUI")
    about.get_by_text("Environment", exact=True).click()
    forms = {
        "Dockerfile": "FROM python:",
        "Snapshot for ComfyUI-Manager": '"pips"',
        "Steps for a machine of ComfyDeploy": '"steps"',
    }
    for name, content in forms.items():
        with opened.page.expect_download() as download:
            about.get_by_role("link", name=name, exact=True).click()
        assert content in download.value.path().read_text()
    with opened.page.expect_download() as download:
        about.get_by_role("link", name="Receipt", exact=True).click()
    assert comfy.verify(download.value.path(), execute=False).differences == []
    look(opened, "environment", about)
    comfy.runs.delete(of=comfy.load(path), files=True)


@pytest.mark.parametrize(
    ("name", "first", "points", "told"),
    few(
        [
            ("unsteady", node("TestUnstable", height=20), {"1.height": [16, 20]}, "2 differ"),
            ("steady", paper(color=0x3060C0), {"1.width": [*range(32, 128, 16)]}, "5 identical"),
        ]
    ),
    ids=few(["unsteady", "steady"]),  # each in the page that is there already
)
def test_the_points_of_a_batch_are_made_again(
    open_notebook: Any,
    lab: JupyterProcess,
    name: str,
    first: dict[str, Any],
    points: dict[str, list[int]],
    told: str,
) -> None:
    path = lab.root / f"proof-{name}.json"
    save = node("SaveImage", images=["1", 0], filename_prefix="proof")
    path.write_text(json.dumps({"1": first, "2": save}))
    opened = open_notebook(BATCH.format(name=path.name, points=points))
    panel = opened.panel.first
    (count,) = map(len, points.values())
    expect(panel.get_by_text(f"Done: {count} of {count} points").first).to_be_visible(
        timeout=60_000
    )
    panel.get_by_text("Can it be made again?", exact=True).click()
    label = "A sample of 5" if count > 5 else f"Make {count} points again"
    panel.get_by_role("button", name=label).click()
    expect(panel.get_by_role("status").filter(has_text=told)).to_be_visible(timeout=120_000)
    if name == "unsteady":
        expect(panel.get_by_text(re.compile("differs: .* of the pixels")).first).to_be_visible()
    look(opened, name, panel.locator("details").filter(has_text="Can it be made again?"))
