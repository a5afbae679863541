"""The letters on contact sheets, with the fonts of a system and without any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import pytest

from comfydeploy_jupyter.client.sweep import contact_sheet, fonts

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
    """Return the one folder of programs, modules and fonts of a system; it is empty."""
    for name in ("PATH", "XDG_DATA_DIRS", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    forget_fonts()
    yield tmp_path
    forget_fonts()


def forget_fonts() -> None:
    fonts._others.cache_clear()
    fonts._font_of.cache_clear()


def list_fonts(folder: Path, *paths: Path) -> None:
    """Add fontconfig's program."""
    program = folder / "fc-match"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '0 {path}'\n" for path in paths))
    program.chmod(0o755)


def chosen(text: str) -> tuple[str, str]:
    """Return the name of the font of a text, and the text that is shown."""
    font, shown = fonts.lettering(text)
    return Path(font.path).name if isinstance(font.path, str) else "", shown


def test_a_font_is_used_that_has_all_characters(folder: Path) -> None:
    latin = font_file(folder / "latin.ttf", LATIN)
    chinese = font_file(folder / "chinese.ttc", f"{ASCII}…日本é")
    symbols = font_file(folder / "symbols.ttf", "日★")
    list_fonts(folder, folder / "gone.ttf", symbols, latin, chinese)
    assert chosen("Steps: 20 …") == ("", "Steps: 20 …"), "Pillow's own has them"
    assert chosen(f"No. {LETTERS}") == ("latin.ttf", f"No. {LETTERS}")
    assert chosen("日本, é") == ("chinese.ttc", "日本, é")
    assert chosen("e\u0301") == ("latin.ttf", "é"), "file names of macOS are decomposed"
    assert chosen("日本 ß é") == ("chinese.ttc", "日本 ? é"), "the fewest are missing"
    assert chosen("★") == ("", "?"), "a font without Latin letters is not used"


def test_without_fonts_missing_characters_are_replaced(folder: Path) -> None:
    assert chosen("Größe\u00a0é ñ: 日本\u200b\ufe0f\x1b") == ("", "Gro?e e n: ??")
    assert chosen(ASCII) == ("", ASCII)
    assert fonts._first().lacking(ASCII.strip()) == 0


def test_the_usual_folders_are_searched_if_fontconfig_fails(folder: Path) -> None:
    (folder / "fc-match").write_text("#!/bin/sh\nexit 1\n")
    (folder / "fc-match").chmod(0o755)
    (folder / "fonts" / "truetype").mkdir(parents=True)
    font_file(folder / "fonts" / "truetype" / "DejaVuSans.ttf", LATIN)
    assert chosen("é") == ("DejaVuSans.ttf", "é")


def test_the_font_of_matplotlib_is_used(folder: Path) -> None:
    data = folder / "matplotlib" / "mpl-data" / "fonts" / "ttf"
    data.mkdir(parents=True)
    (folder / "matplotlib" / "__init__.py").write_text("raise ImportError('it is not imported')")
    font_file(data / "DejaVuSans.ttf", LATIN)
    assert chosen("é") == ("DejaVuSans.ttf", "é")


def test_fonts_are_looked_for_once_and_only_if_needed(folder: Path) -> None:
    program = folder / "fc-match"
    program.write_text(f"#!/bin/sh\necho called >> {folder}/calls\n")
    program.chmod(0o755)
    fonts.lettering("Steps: 20")
    assert not (folder / "calls").exists()
    for text in ("é", "日本", "ß"):
        fonts.lettering(text)
    assert (folder / "calls").read_text() == "called\n"


def test_lines_of_several_fonts_have_equal_base_lines(folder: Path) -> None:
    """A font with a larger ascent is not drawn lower, and no box is drawn."""
    list_fonts(folder, font_file(folder / "latin.ttf", LATIN))
    picture = PIL.Image.new("L", (60, 2 * contact_sheet.LINE))
    draw = PIL.ImageDraw.Draw(picture)
    contact_sheet._text(draw, (0, 0), ["AE", "é"], "white", "ls")
    box = picture.getbbox()
    assert box is not None
    assert box[3] == contact_sheet.LINE + contact_sheet.ASCENT
    first = picture.crop((0, 0, 60, contact_sheet.LINE)).getbbox()
    assert first is not None
    assert first[3] == contact_sheet.ASCENT
    assert contact_sheet._width("é") == 9
