"""The letters on contact sheets, with the fonts of a system and without any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import pytest

from comfydeploy_jupyter.client.sweep import sheet

if TYPE_CHECKING:
    from collections.abc import Iterator

ASCII = "".join(map(chr, range(0x20, 0x7F)))
LETTERS = "éöüßñµ€\u00d7\u2013"
LATIN = f"{ASCII}…{LETTERS}"


def font_file(path: Path, chars: str) -> Path:
    """Write a font in the format BDF, in which each character has another pattern."""
    glyphs = []
    for code in [0, *map(ord, chars)]:
        rows = "\n".join(f"{(code * 2_654_435_761 >> 3 * row) & 0xFE | 1:02X}" for row in range(8))
        glyphs.append(
            f"STARTCHAR u{code:x}\nENCODING {code}\nSWIDTH 500 0\nDWIDTH 9 0\nBBX 8 8 0 0\n"
            f"BITMAP\n{rows}\nENDCHAR\n"
        )
    path.write_text(
        "STARTFONT 2.1\nFONT -test-test-medium-r-normal--13-130-75-75-c-90-iso10646-1\n"
        "SIZE 13 75 75\nFONTBOUNDINGBOX 8 8 0 0\nSTARTPROPERTIES 5\nPIXEL_SIZE 13\n"
        'CHARSET_REGISTRY "ISO10646"\nCHARSET_ENCODING "1"\nFONT_ASCENT 10\nFONT_DESCENT 3\n'
        f"ENDPROPERTIES\nCHARS {len(glyphs)}\n{''.join(glyphs)}ENDFONT\n"
    )
    return path


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return the one folder of fonts of a system; it is empty."""
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for name in ("XDG_DATA_DIRS", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    forget_fonts()
    yield fonts
    forget_fonts()


def forget_fonts() -> None:
    sheet._others.cache_clear()
    sheet._has.cache_clear()


def chosen(text: str) -> tuple[str, str]:
    """Return the name of the font of a text, and the text that is shown."""
    font, shown = sheet.lettering(text)
    return Path(font.path).name if isinstance(font.path, str) else "", shown


def test_a_font_is_used_that_has_all_characters(folder: Path) -> None:
    font_file(folder / "DejaVuSans.ttf", LATIN)
    font_file(folder / "FreeSans.ttf", "日★")
    font_file(folder / "wqy-microhei.ttc", f"{ASCII}…日本é")
    assert chosen("Steps: 20 …") == ("", "Steps: 20 …"), "Pillow's own has them"
    assert chosen(f"No. {LETTERS}") == ("DejaVuSans.ttf", f"No. {LETTERS}")
    assert chosen("日本, é") == ("wqy-microhei.ttc", "日本, é")
    assert chosen("e\u0301") == ("DejaVuSans.ttf", "é"), "file names of macOS are decomposed"
    assert chosen("日本 ß é") == ("wqy-microhei.ttc", "日本 ? é"), "the fewest are missing"
    assert chosen("★") == ("", "?"), "a font without Latin letters is not used"


def test_without_fonts_missing_characters_are_replaced(folder: Path) -> None:
    assert chosen("Größe\u00a0é ñ: 日本\u200b\ufe0f\x1b") == ("", "Gro?e e n: ??")
    assert chosen(ASCII) == ("", ASCII)


def test_lines_of_several_fonts_have_equal_base_lines(folder: Path) -> None:
    """A font with a larger ascent is not drawn lower, and no box is drawn."""
    font_file(folder / "DejaVuSans.ttf", LATIN)
    picture = PIL.Image.new("L", (60, 2 * sheet.LINE))
    draw = PIL.ImageDraw.Draw(picture)
    sheet._text(draw, (0, 0), ["AE", "é"], "white", "ls")
    box = picture.getbbox()
    assert box is not None
    assert box[3] == sheet.LINE + sheet.ASCENT
    first = picture.crop((0, 0, 60, sheet.LINE)).getbbox()
    assert first is not None
    assert first[3] == sheet.ASCENT
    assert sheet._width("é") == 9
