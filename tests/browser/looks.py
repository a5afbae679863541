"""Compares screenshots with the accepted ones, which are stored beside this module.

``ACCEPT_SCREENSHOTS=look-`` stores what the tests see as accepted, if the names begin so. A
screenshot that differs is stored in the folder of ``SCREENSHOTS`` or in a temporary one: accepted,
seen and the difference side by side. Small differences are allowed: the panels show times, and
fonts are drawn differently by other versions of the browser.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageFilter

from tests.browser.accessibility import DIM
from tests.helpers.selection import few

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from comfydeploy_jupyter.client import Comfy
    from tests.browser.conftest import LabPage

ACCEPTED = Path(__file__).parent / "accepted"
ACCEPTS = os.environ.get("ACCEPT_SCREENSHOTS")
COARSE = 8  # pixels of the screen for each compared pixel, in both directions
VISIBLE = 32  # of 255: a difference of grey levels that counts
TOLERANCE = 0.01  # of the compared pixels may differ
WORD = (64, 16)  # width and height of a word, in pixels of the screen
WORD_TOLERANCE = 0.4  # of the compared pixels in an area of that size may differ
SIZES = 24  # pixels by which width and height may differ

THEMES = ("Light", "Dark")
HEIGHTS = {480: 1700, 1440: 1000, 900: 1300, 2560: 1300}
"""The height of the window for each width at which panels are compared."""

STEADY = r"""() => {
    const texts = [
        [/\d+(\.\d+)? s\b/g, "1.00 s"],
        [/^\d+ % · 1\.00 s.*/, "64 % · 1.00 s"],
        [/\d+ % of \d+ cores?/, "20 % of 2 cores"],
        [/^[\d.]+ of [\d.]+ GiB$/, "8.0 of 32.0 GiB"],
        [/^[\d.]+ [GT]iB free$/, "60.0 GiB free"],
        [/\bComfyUI \d+\.\d+\.\d+/, "ComfyUI 0.33.0"],
        [/[\d.]+ GiB of [\d.]+ GiB free/, "60.0 GiB of 500.0 GiB free"],
        [/\blook_\d+_/, "look_00001_"],
        [/:\d{5}\b/g, ":8188"],
        [/', \d{5}\)/g, "', 8188)"],
        [/\bport \d{5}\b/, "port 8188"],
        [/^\/\S+\/output$/, "/home/jovyan/ComfyUI/output"],
        [/\b\d{4}-\d\d-\d\d\b/g, "2030-01-02"],
        [/\d+ % · [\d.]+ \w+ of ([\d.]+ \w+).*/g, "7 % · 4.0 MiB of $1 · 2.0 MiB/s"],
        [/\b\d{1,2}:\d\d(:\d\d)?( [AP]M)?\b/g, "12:00 PM"],
        [/\d{1,2}\/\d{1,2}\/\d{4}/g, "1/2/2030"],
        [/https:\/\/\S+/g, "https://quiet-harbour-dawn.trycloudflare.com/?secret=0123456789"],
    ];
    const bars = {
        ".comfydeploy-progress .cd-bar:not(.cd-thin) > div": "64%",
        ".comfydeploy-machine .cd-meter > div": "25%",
        ".cd-transfers .cd-bar > div": "7%",
    };
    const panels = document.querySelectorAll(".comfydeploy-panel");
    const replace = () => {
        for (const panel of panels) {
            const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
            for (let node = walker.nextNode(); node; node = walker.nextNode()) {
                if (node.parentElement.closest("style")) continue;
                const steady = texts.reduce((text, pair) => text.replace(...pair), node.data);
                if (steady !== node.data) node.data = steady;
            }
            for (const [selector, width] of Object.entries(bars)) {
                for (const bar of panel.querySelectorAll(selector)) {
                    bar.parentElement.classList.remove("cd-full");
                    if (bar.style.width !== width) bar.style.width = width;
                }
            }
            for (const video of panel.querySelectorAll("video")) video.controls = false;
            for (const code of panel.querySelectorAll(".comfydeploy-link img")) {
                if (!code.style.filter) code.style.filter = "contrast(0)";
            }
        }
    };
    replace();
    window.steady = new MutationObserver(replace);
    const changes = {subtree: true, childList: true, characterData: true};
    for (const panel of panels) {
        window.steady.observe(panel, {...changes, attributeFilter: ["value", "style"]});
    }
}"""
"""Replaces what differs each time (times, addresses, progress, the load of this machine, numbers of
files) or with each ComfyUI, blanks the QR code, and hides that a video is being loaded."""


def is_compared(name: str) -> bool:
    """Return whether there is an accepted screenshot of this name, or one is to be stored."""
    return _is_stored(name) or path_of(name).exists()


def _is_stored(name: str) -> bool:
    return ACCEPTS is not None and name.startswith(ACCEPTS)


def path_of(name: str) -> Path:
    """Return the file of an accepted screenshot."""
    return ACCEPTED / f"{name}.png"


def check(name: str, screenshot: bytes) -> None:
    """Compare a screenshot with the accepted one, or store it as accepted."""
    with Image.open(io.BytesIO(screenshot)) as opened:
        seen = opened.convert("RGB")
    half = seen.resize((seen.width // 2, seen.height // 2), Image.Resampling.LANCZOS)
    if _is_stored(name):
        ACCEPTED.mkdir(exist_ok=True)
        colours = half.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        colours.save(path_of(name), optimize=True)
        return
    with Image.open(path_of(name)) as opened:
        accepted = opened.convert("RGB")
    share, densest = difference(accepted, half)
    if share > TOLERANCE or densest > WORD_TOLERANCE:
        shown = show(name, accepted, half)
        raise AssertionError(
            f"{name} looks different in {share:.1%} of its area, and in {densest:.0%} of that of"
            f" a word: see {shown}. If it is right, accept it: ACCEPT_SCREENSHOTS={name}"
        )


def difference(accepted: Image.Image, seen: Image.Image) -> tuple[float, float]:
    """Return how much is visibly different, from 0 to 1."""
    if any(abs(a - b) > SIZES // 2 for a, b in zip(accepted.size, seen.size, strict=True)):
        return 1.0, 1.0
    size = (max(1, accepted.width * 2 // COARSE), max(1, accepted.height * 2 // COARSE))
    coarse = [
        picture.convert("L").resize(size, Image.Resampling.BOX) for picture in (accepted, seen)
    ]
    differing = ImageChops.difference(*coarse).point([0] * VISIBLE + [255] * (256 - VISIBLE))
    width, height = ((length / COARSE - 1) / 2 for length in WORD)
    _, most = differing.filter(ImageFilter.BoxBlur((width, height))).getextrema()
    assert isinstance(most, (int, float))
    return differing.histogram()[255] / (size[0] * size[1]), most / 255


def show(name: str, accepted: Image.Image, seen: Image.Image) -> Path:
    """Store a picture of the accepted screenshot, the present one, and their difference."""
    folder = Path(os.environ.get("SCREENSHOTS") or tempfile.mkdtemp(prefix="screenshots-"))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [accepted, seen, ImageChops.difference(accepted, seen.resize(accepted.size))]
    sheet = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)))
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width
    path = folder / f"{name}-differs.png"
    sheet.save(path)
    return path


class Looks:
    """Takes the screenshots of one page; collects all that look different or have dim texts."""

    def __init__(self, opened: LabPage) -> None:
        self.opened = opened
        self.taken: list[str] = []
        self.problems: list[str] = []

    def take(
        self,
        state: str,
        part: Locator | None = None,
        *,
        focused: Locator | None = None,
    ) -> None:
        """Compare a state, and check the contrast of its texts.

        `make test` compares the first state of each test only.
        """
        page = self.opened.page
        page.mouse.move(0, 0)  # so that it is over no control at any width
        for theme in few(THEMES):
            self.opened.set_theme(theme)
            for width, height in few([*HEIGHTS.items()], 0 if self.taken else 2):
                page.set_viewport_size({"width": width, "height": height})
                page.wait_for_timeout(250)
                notebook = page.locator(".jp-WindowedPanel-outer").first
                notebook.evaluate("all => all.scrollTo(0, 0)")  # clicks may have scrolled it
                if part is not None:
                    # at once: a list draws its rows anew while the window changes
                    part.evaluate("part => part.scrollIntoViewIfNeeded()")
                if focused is not None:
                    focused.evaluate("control => control.focus({ preventScroll: true })")
                self.opened.wait_for_pictures()
                page.evaluate(STEADY)
                try:
                    self.opened.shoot(f"look-{state}-{theme}-{width}")
                except AssertionError as error:
                    self.problems.append(str(error))
                page.evaluate("() => window.steady.disconnect()")
            dim = self.opened.panel.first.evaluate(DIM)
            self.problems += [f"{state}, {theme}: contrast {text}" for text in dim]
        self.taken.append(state)
        self.opened.set_theme("Light")
        page.set_viewport_size({"width": 1440, "height": 1000})


def connected(comfy: Comfy) -> str:
    """Return code that connects a notebook to the server of a client."""
    url, token = comfy.server.url, comfy.server.token
    return f"import comfydeploy_jupyter as cd\ncomfy = cd.connect({url!r}, token={token!r})\n"
