"""The contact sheet and the table of a batch, with a real ComfyUI."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import PIL.ImageChops
import PIL.ImageDraw
import pytest

from comfydeploy_jupyter.batches import sheet as sheets
from comfydeploy_jupyter.batches.plan import Axis
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.util.jsons import RawJSON
from tests.batches.test_batches import create, ended, points
from tests.helpers.graphs import node, paper, shown

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def extension_config(config_with_folders):
    return config_with_folders


def graph() -> dict[str, Any]:
    """Pictures of one colour, and texts."""
    sky = {**paper(), "_meta": {"title": "<b>Sky</b>"}}
    method = {"upscale_method": "nearest-exact", "scale_by": 1.0}
    scale = node("ImageScaleBy", "Upscale Image By", image=["1", 0], **method)
    words = node("TestText", "@Words", text="", token="")
    return {"1": sky, "2": scale, "3": words, "4": shown("2"), "5": shown("1")}


async def sheet(api, batch_id: str, **query: str) -> Any:
    found = await api.raw("GET", f"batch/{batch_id}/sheet", params=query)
    assert found.code == 200, found.body
    return found


async def table(api, batch_id: str) -> dict[str, Any]:
    code, found = await api.get(f"batch/{batch_id}/table")
    assert code == 200, found
    return dict(found)


async def test_headings_are_those_of_the_form(api):
    inputs = {
        "1.color": {"$vary": [0x00AAFF]},
        "width": {"$vary": [64, 96]},
        "scale_by": {"$vary": [0.1 + 0.2, 1.0], "$with": "width"},
    }
    batch_id = await create(api, workflow_api=graph(), inputs=inputs, title="Skies")
    await ended(api, batch_id)
    found = await table(api, batch_id)
    assert found["heads"] == {
        "row_title": "<b>Sky</b>: color",
        "rows": ["#00aaff"],
        "column_title": "<b>Sky</b>: width, Upscale Image By: scale by",
        "columns": ["64 px, 0.3", "96 px, 1.0"],
    }
    assert found["points"][1]["picture"]["kind"] == "image"
    _, first = await api.get(f"batch/{batch_id}/table", limit=1)
    assert first == {**found, "points": found["points"][:1]}
    assert found["points"][0]["label"] == (
        "<b>Sky</b>: color #00aaff, <b>Sky</b>: width 64 px, Upscale Image By: scale by 0.3"
    )
    assert [point["status"] for point in found["points"]] == ["success"] * 2
    page = (await sheet(api, batch_id, format="html")).body.decode()
    assert "&lt;b&gt;Sky&lt;/b&gt;: width" in page
    assert "<b>" not in page
    assert "1.color" not in page
    assert page.count("data:image/jpeg") == 2
    assert "Skies: 2 of 2 points, done" in page


async def test_the_picture_of_each_point_is_on_the_sheet_and_stars(api):
    colours = [0xFF0000, 0x00FF00]
    inputs = {"1.color": {"$vary": colours}, "width": {"$vary": [64, 96, 128]}}
    batch_id = await create(api, workflow_api=graph(), inputs=inputs)
    await ended(api, batch_id)
    found = await sheet(api, batch_id)
    assert found.headers["Content-Type"] == "image/png"
    plain = PIL.Image.open(io.BytesIO(found.body)).convert("RGB")
    seen = {colour for _, colour in plain.getcolors(plain.width * plain.height)}
    for wanted in ((255, 0, 0), (0, 255, 0)):
        assert any(max(abs(a - b) for a, b in zip(wanted, c, strict=True)) < 16 for c in seen)
    (point,) = await points(api, batch_id, offset="4", limit="1")
    marks = {"prompt_ids": [point["prompt_id"]], "starred": True, "note": "the best"}
    assert (await api.post("runs/update", marks))[0] == 200
    run = (await points(api, batch_id, offset="4", limit="1"))[0]["run"]
    assert (run["starred"], run["note"]) == (True, "the best")
    marked = PIL.Image.open(io.BytesIO((await sheet(api, batch_id)).body)).convert("RGB")
    left, top, right, bottom = PIL.ImageChops.difference(plain, marked).getbbox()
    assert right - left < 40
    assert bottom - top < 40
    assert left > plain.width / 3
    assert top > plain.height / 2
    best = PIL.Image.open(io.BytesIO((await sheet(api, batch_id, starred="true")).body))
    assert best.width < plain.width / 2
    webp = (await sheet(api, batch_id, format="webp")).body
    assert PIL.Image.open(io.BytesIO(webp)).format == "WEBP"
    await api.post("runs/update", {**marks, "starred": False})
    code, reply = await api.get(f"batch/{batch_id}/sheet", starred="true")
    assert (code, reply["details"]["field"]) == (400, "starred")
    assert (await api.post("runs/update", {"prompt_ids": [point["prompt_id"]]}))[0] == 400


async def test_the_table_as_csv_has_no_formulas(api):
    texts = ["=HYPERLINK(0)", "+1", "-1", "@x", "\tx", 'plain, "quoted"\nlines', "ü"]
    batch_id = await create(api, workflow_api=graph(), inputs={"3.text": {"$vary": texts}})
    await ended(api, batch_id)
    found = await api.raw("GET", f"batch/{batch_id}/table", params={"format": "csv"})
    assert found.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(found.body.decode(), newline="")))
    heads = list(rows[0])
    assert heads[:3] == ["Point", "'@Words: text", "Starred"]
    assert [row[heads[1]] for row in rows] == [*(f"'{text}" for text in texts[:5]), *texts[5:]]
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


async def test_a_sheet_of_prompts_and_of_points_without_pictures(api):
    prompts = [{"1": node("TestText", text=text, token="")} for text in ("one", "<i>", "三")]
    batch_id = await create(api, prompts=prompts)
    await ended(api, batch_id)
    page = (await sheet(api, batch_id, format="html")).body.decode()
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert [json.loads(json.dumps(p["texts"])) for p in (await table(api, batch_id))["points"]] == [
        ["one"],
        ["<i>"],
        ["三"],
    ]
    assert PIL.Image.open(io.BytesIO((await sheet(api, batch_id)).body)).width > 100


def test_a_sheet_of_many_points_stays_small():
    found = [
        sheets.ShownPoint(n, {"1.width": n}, "waiting", "", "", None, [], [], False)
        for n in range(10_000)
    ]
    shown_of = sheets.Shown([], [], RawJSON(b"[]"), json.dumps(graph()).encode(), None, {}, [], "")
    known = NodeDefinitions({})
    axes = [Axis(("seed",), [(n,) for n in range(1000)]), Axis(("x",), [(n,) for n in range(10)])]
    drawn = sheets.ContactSheet(found, axes, sheets.Words(found, shown_of, known))
    picture = drawn.image()
    assert picture.width * picture.height <= 40_000_000
    assert PIL.Image.open(io.BytesIO(drawn.encoded("WEBP"))).height <= 16_383


def test_a_sheet_of_very_many_points_is_their_small_pictures_alone():
    content = io.BytesIO()
    PIL.Image.new("RGB", (192, 192), "#ff0000").save(content, "JPEG")
    count = 100_000
    plain = sheets.ShownPoint(0, {"1.width": 1}, "waiting", "", "", None, [], [], False)
    found = [plain] * (count - 1) + [plain._replace(picture=content.getvalue(), ended=True)]
    shown_of = sheets.Shown([], [], RawJSON(b"[]"), json.dumps(graph()).encode(), None, {}, [], "")
    axes = [Axis(("seed",), [(n,) for n in range(50_000)]), Axis(("x",), [(1,), (2,)])]
    drawn = sheets.ContactSheet(found, axes, sheets.Words(found, shown_of, NodeDefinitions({})))
    picture = drawn.image()
    assert picture.width * picture.height <= 31_000_000
    across, _, side, gap = sheets.cells(count, [50_000, 2])
    row, column = divmod(count - 1, across)
    middle = [sheets.GAP + place * (side + gap) + side // 2 for place in (column, row)]
    red, green, blue = picture.getpixel(tuple(middle))
    assert red > 230
    assert green < 30
    assert blue < 30


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
    sheets._fonts.cache_clear()
    sheets._has.cache_clear()


def chosen(text: str) -> tuple[str, str]:
    """Return the name of the font of a text, and the text that is shown."""
    font, shown = sheets.lettering(text)
    return Path(font.path).name if isinstance(font.path, str) else "", shown


def test_a_font_is_used_that_has_all_characters(folder):
    font_file(folder / "DejaVuSans.ttf", LATIN)
    font_file(folder / "FreeSans.ttf", "日★")
    font_file(folder / "wqy-microhei.ttc", f"{ASCII}…日本é")
    assert chosen("Steps: 20 …") == ("", "Steps: 20 …"), "Pillow's own has them"
    assert chosen(f"No. {LETTERS}") == ("DejaVuSans.ttf", f"No. {LETTERS}")
    assert chosen("日本, é") == ("wqy-microhei.ttc", "日本, é")
    assert chosen("e\u0301") == ("DejaVuSans.ttf", "é"), "file names of macOS are decomposed"
    assert chosen("日本 ß é") == ("wqy-microhei.ttc", "日本 ? é"), "the fewest are missing"
    assert chosen("★") == ("", "?"), "a font without Latin letters is not used"


def test_without_fonts_missing_characters_are_replaced(folder):
    assert chosen("Größe\u00a0é ñ: 日本\u200b\ufe0f\x1b") == ("", "Gro?e e n: ??")
    assert chosen(ASCII) == ("", ASCII)


def test_lines_of_several_fonts_have_equal_base_lines(folder):
    """A font with a larger ascent is not drawn lower, and no box is drawn."""
    font_file(folder / "DejaVuSans.ttf", LATIN)
    picture = PIL.Image.new("L", (60, 2 * sheets.LINE))
    draw = PIL.ImageDraw.Draw(picture)
    sheets._text(draw, (0, 0), ["AE", "é"], "white", "ls")
    box = picture.getbbox()
    assert box is not None
    assert box[3] == sheets.LINE + sheets.ASCENT
    first = picture.crop((0, 0, 60, sheets.LINE)).getbbox()
    assert first is not None
    assert first[3] == sheets.ASCENT
    assert sheets._width("é") == 9
