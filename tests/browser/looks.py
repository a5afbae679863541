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

from PIL import Image, ImageChops, ImageFilter

ACCEPTED = Path(__file__).parent / "accepted"
ACCEPTS = os.environ.get("ACCEPT_SCREENSHOTS")
COARSE = 8  # pixels of the screen for each compared pixel, in both directions
VISIBLE = 32  # of 255: a difference of grey levels that counts
TOLERANCE = 0.01  # of the compared pixels may differ
WORD = (64, 16)  # width and height of a word, in pixels of the screen
WORD_TOLERANCE = 0.4  # of the compared pixels in an area of that size may differ
SIZES = 24  # pixels by which width and height may differ


def is_compared(name: str) -> bool:
    """Return whether there is an accepted screenshot of this name, or one is to be stored."""
    return _is_stored(name) or path_of(name).exists()


def _is_stored(name: str) -> bool:
    return ACCEPTS is not None and name.startswith(ACCEPTS)


def path_of(name: str) -> Path:
    """Return the file of an accepted screenshot."""
    return ACCEPTED / f"{name}.png"


def check(name: str, screenshot: bytes) -> None:
    """Compare a screenshot with the accepted one, or store it as accepted.

    Parameters
    ----------
    name : str
        The name of the screenshot.
    screenshot : bytes
        A PNG file.

    Raises
    ------
    AssertionError
        If it looks different. The message names a picture that shows the difference.
    """
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
    """Return how much is visibly different, from 0 to 1.

    Returns
    -------
    share : float
        The share of the whole area.
    densest : float
        The largest share of an area of the size of a word: it is large if words come or go, and
        small if some digits of a time are others.
    """
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
