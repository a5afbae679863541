"""The page that shows only a RunPanel, as a colleague opens it: without notebook and kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from comfydeploy_jupyter.client import Comfy
from tests.browser.axe import violations
from tests.browser.panels import PANEL, assert_neat, field, press, run
from tests.helpers.graphs import SUNSET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Locator, Page

    from tests.helpers.jupyter import JupyterProcess

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def colleague(browser: BrowserContext) -> Iterator[Page]:
    """A browser that nobody has used for this server, with a dark theme."""
    assert browser.browser is not None
    context = browser.browser.new_context(
        color_scheme="dark", viewport={"width": 1440, "height": 900}
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    yield page
    context.close()
    # of a policy that is broken, or of a script
    assert [text for text in said if "Content Security" in text or "Uncaught" in text] == []


def sign_in(page: Page, lab: JupyterProcess, address: str) -> Locator:
    """Open a page of the server and log in there; return the panel in it."""
    page.goto(address)
    page.locator("#password_input").fill(lab.token)
    page.locator("#login_submit").click()
    return page.locator(".comfydeploy-panel")


@pytest.mark.thorough
def test_a_link_shows_the_workflow_to_a_colleague(
    open_notebook: Any, lab: JupyterProcess, browser: BrowserContext, colleague: Page
) -> None:
    opened = open_notebook(PANEL.format("sunset.json"))
    browser.grant_permissions(["clipboard-read", "clipboard-write"])
    expect(opened.panel.get_by_text("Ready")).to_be_visible()
    press(opened.panel, "More actions")
    opened.panel.get_by_role("menuitem", name="Copy link for a colleague").click()
    expect(opened.panel.get_by_text("The link is copied.")).to_be_visible()
    link = opened.page.evaluate("() => navigator.clipboard.readText()")
    page, panel = colleague, sign_in(colleague, lab, link)
    expect(field(panel, "Width")).to_have_value("640")
    assert (page.url, page.title()) == (link, "sunset.json")
    assert lab.token not in page.content()
    field(panel, "Width").fill("320")
    page.reload()
    expect(field(panel, "Width")).to_have_value("320")
    run(panel)
    picture = panel.locator(".comfydeploy-gallery .cd-pictures img")
    expect(picture).to_be_visible()
    for width, height in ((2560, 1300), (1440, 900), (480, 900), (375, 700)):
        page.set_viewport_size({"width": width, "height": height})
        expect(picture).to_be_in_viewport()
        assert_neat(panel)
    assert violations(panel) == []
    back = panel.evaluate("panel => getComputedStyle(panel).backgroundColor")
    assert back == "rgb(24, 24, 24)"
    page.emulate_media(color_scheme="light")
    expect(panel).to_have_css("background-color", "rgb(255, 255, 255)")


def test_an_address_of_a_run_and_one_of_nothing(lab: JupyterProcess, colleague: Page) -> None:
    comfy = Comfy(lab.url, lab.token)
    stored = comfy.workflows.save(SUNSET, "For colleagues")
    done = comfy.run(workflow_id=stored.id, inputs={"Width.value": 352})
    page = f"{lab.url}comfyui-deploy/app"
    refused: list[str] = []
    colleague.on("response", lambda reply: refused.extend([reply.url] * (reply.status > 399)))
    colleague.goto(f"{page}?run_id={done.prompt_id}&token={lab.token}")
    panel = colleague.locator(".comfydeploy-panel")
    expect(panel.get_by_text("Ready · the last run is done")).to_be_visible()
    assert (colleague.url, refused) == (f"{page}?run_id={done.prompt_id}", [])
    expect(panel.get_by_text("1 changed")).to_be_visible()
    expect(field(panel, "Width")).to_have_value("352")
    expect(panel.locator(".comfydeploy-gallery .cd-pictures img")).to_be_visible()
    colleague.goto(f"{page}?workflow_id=gone")
    problem = panel.get_by_role("alert").filter(has_text="gone")
    expect(problem).to_be_visible()
    assert_neat(panel)
    panel.get_by_role("button", name="For colleagues").click()
    expect(panel.get_by_text("Ready")).to_be_visible()
    expect(problem).to_be_hidden()
    assert colleague.url == f"{page}?workflow_id={stored.id}&version=1"
