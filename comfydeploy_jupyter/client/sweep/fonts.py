"""The fonts of a contact sheet: for each text one that has its characters."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from PIL.ImageFont import FreeTypeFont

FONT_SIZE = 13
"""Height of the letters, pixels."""

LATIN = "AZaz09?…"
"""Characters of every font that is used: numbers and names of inputs are beside other writing."""

FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "FreeSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "segoeui.ttf",
    "arial.ttf",
    "msyh.ttc",
    "meiryo.ttc",
    "malgun.ttf",
)
"""Fonts of Linux, macOS and Windows, which Pillow looks for in the font folders of the system."""

LIST_TIMEOUT = 20.0
"""How long fontconfig may take, s; it reads all fonts where it has not done so before."""

UNASSIGNED = "\U0010ffff"
"""A code point that is never a character, so that no font has it."""


class Font:
    """A font, and which characters it has."""

    def __init__(self, drawn: FreeTypeFont) -> None:
        import PIL.ImageFont

        basic = PIL.ImageFont.Layout.BASIC
        self.drawn = drawn
        # The basic layout shows the same glyph for each character that a font lacks.
        same = drawn.layout_engine == basic
        self._basic = drawn if same else drawn.font_variant(layout_engine=basic)
        self._no_glyph = self._glyph(UNASSIGNED)
        self._known: dict[str, bool] = {}

    def _glyph(self, char: str) -> tuple[object, bytes]:
        mask = self._basic.getmask(char)
        return mask.size, bytes(mask)

    def has(self, char: str) -> bool:
        """Return whether it shows a character, or knows a format character that has no shape."""
        if char not in self._known:
            glyph = self._glyph(char)
            shows = any(glyph[1]) or unicodedata.category(char) == "Cf"
            self._known[char] = shows and glyph != self._no_glyph
        return self._known[char]

    def lacking(self, chars: Iterable[str]) -> int:
        """Return how many of these characters it lacks."""
        return sum(not self.has(char) for char in chars)

    def in_place_of(self, char: str) -> str:
        """Return a character, or what is shown instead of one that it lacks."""
        if self.has(char):
            return char
        if char.isspace():
            return " "
        if unicodedata.category(char) in ("Cc", "Cf", "Me", "Mn"):
            return ""
        return "".join(filter(self.has, unicodedata.normalize("NFD", char))) or "?"


def lettering(text: str) -> tuple[FreeTypeFont, str]:
    """Return a font for a line of text, and the line as that font can show it.

    The font is Pillow's own if it has all characters, else the first font of the system that has
    them, else the one that lacks the fewest. Characters that it lacks lose their accents or are
    question marks. The fonts are looked for when the first text needs them.
    """
    if text.isascii() and text.isprintable():
        return _first().drawn, text
    text = unicodedata.normalize("NFC", text)
    font = _font_of(frozenset(c for c in text if not c.isascii() and c.isprintable()))
    return font.drawn, "".join(map(font.in_place_of, text))


@functools.lru_cache(maxsize=4096)
def _font_of(chars: frozenset[str]) -> Font:
    """Return the font that has these characters, or most of them."""
    first = _first()
    if not first.lacking(chars):
        return first
    complete = (other for other in _others() if not other.lacking(chars))
    return next(complete, None) or min((first, *_others()), key=lambda other: other.lacking(chars))


@functools.cache
def _first() -> Font:
    import PIL.ImageFont

    # Without a size it would be a bitmap font where Pillow has no FreeType.
    font = PIL.ImageFont.load_default(FONT_SIZE)
    assert isinstance(font, PIL.ImageFont.FreeTypeFont)
    return Font(font)


@functools.cache
def _others() -> tuple[Font, ...]:
    """Return the fonts of the system that have Latin letters, the preferred ones first."""
    import PIL.ImageFont

    fonts = []
    for path, number in [*(_listed() or ((name, 0) for name in FILES)), *_of_matplotlib()]:
        try:
            font = Font(PIL.ImageFont.truetype(path, FONT_SIZE, number))
        except OSError:  # there is none, or it has pictures of another size only
            continue
        if not font.lacking(LATIN):
            fonts.append(font)
    return tuple(fonts)


def _listed() -> list[tuple[str, int]]:
    """Return the paths of the fonts that fontconfig lists, and their numbers in these files.

    It leaves out fonts that have no characters beyond those before them.
    """
    program = shutil.which("fc-match")
    if program is None:
        return []
    command = [program, "--sort", "--format", r"%{index} %{file}\n", "sans-serif"]
    try:
        listed = subprocess.run(command, capture_output=True, timeout=LIST_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.partition(" ") for line in os.fsdecode(listed.stdout).splitlines()]
    # The upper half of an index says which style of a variable font it is.
    return [(path, int(index) & 0xFFFF) for index, _, path in found if index.isdecimal()]


def _of_matplotlib() -> Iterator[tuple[str, int]]:
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        fonts = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
        yield str(fonts / "DejaVuSans.ttf"), 0
