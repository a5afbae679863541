"""The moving picture of the README: a run in RunPanel, from the form to the result."""

from __future__ import annotations

import io
import itertools
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.timeout(300)

PICTURE = REPOSITORY / "docs" / "images" / "run.webp"
LARGEST = 1_500_000  # bytes
LONGEST = 0.6  # seconds that one frame is shown, except the last
LAST = 4.0  # seconds
WIDTH = 880  # pixels
CODE = 'from comfydeploy_jupyter import RunPanel\n\nRunPanel("sunset.json")'


class Film:
    """Pictures of a part of a page, and the times at which they were taken."""

    def __init__(self, page: Page, part: Locator) -> None:
        self._page = page
        self._clip = part.bounding_box()
        self._frames: list[tuple[float, bytes]] = []

    def shoot(self) -> None:
        """Take a picture, unless nothing has changed since the last one."""
        frame = self._page.screenshot(clip=self._clip)
        if not self._frames or frame != self._frames[-1][1]:
            self._frames.append((time.monotonic(), frame))

    def to_webp(self) -> bytes:
        """Return the film as an animated WebP, with pauses shortened."""
        times = [moment for moment, _ in self._frames]
        pauses = [min(b - a, LONGEST) for a, b in itertools.pairwise(times)] + [LAST]
        frames = []
        for _, frame in self._frames:
            with Image.open(io.BytesIO(frame)) as image:
                height = image.height * WIDTH // image.width
                small = image.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
            frames.append(small)
        film = io.BytesIO()
        frames[0].save(
            film,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=[round(1000 * pause) for pause in pauses],
            loop=0,
            quality=70,
            method=6,
        )
        return film.getvalue()


@pytest.mark.thorough
def test_a_run_from_the_form_to_the_result(pages: Any) -> None:
    opened = pages.new("A sunset", CODE)
    page, panel = opened.page, opened.panel
    page.set_viewport_size({"width": 1180, "height": 900})
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    expect(panel.get_by_text("Ready")).to_be_visible()
    film = Film(page, page.locator(".jp-NotebookPanel"))
    film.shoot()
    for name, value in (("Width", "1500"), ("Height", "1000"), ("Blur of the water", "12")):
        panel.get_by_label(name, exact=True).fill(value)
        film.shoot()
    panel.get_by_role("button", name="Run", exact=True).click()
    node = panel.get_by_text(re.compile(r"^\S.* \(\w+\)"))
    done = panel.locator("b", has_text="Success")
    seen = set()
    while not done.is_visible():
        film.shoot()
        seen.update(node.all_inner_texts())
    picture = panel.locator(".comfydeploy-gallery .cd-pictures img")
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    film.shoot()
    panel.locator("b", has_text="Success").evaluate(
        "result => result.scrollIntoView({block: 'start'})"
    )
    film.shoot()
    assert len(seen) > 1, "the progress names the nodes that run"
    webp = film.to_webp()
    assert len(webp) <= LARGEST
    with Image.open(io.BytesIO(webp)) as image:
        assert image.n_frames > 5, "frames that are alike are one"
    if os.environ.get("STORE_SCREENSHOTS"):
        PICTURE.write_bytes(webp)
    pages.leave(opened, failed=False)
