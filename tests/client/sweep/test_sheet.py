"""Stars, headings in words, exports and the time left of sweeps, with a real server."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageChops
import PIL.ImageDraw
import pytest

from comfydeploy_jupyter.client.stream import RunProgress
from comfydeploy_jupyter.client.sweep import sheet
from comfydeploy_jupyter.client.sweep.plan import Grid, Plan
from comfydeploy_jupyter.client.sweep.runner import Job, Point, time_left
from comfydeploy_jupyter.client.sweep.sheet import ContactSheet, Words
from comfydeploy_jupyter.errors import InvalidRequestError, NotFoundError
from tests.client.sweep.test_sweep import failing_if, in_words
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_best_are_marked_and_stay(comfy):
    graph = failing_if()
    sweep = comfy.sweep(graph, {"seed": range(4)}, save="best.json")
    sweep.star(1, sweep[3])
    assert sweep.starred == [sweep[1], sweep[3]]
    again = comfy.sweep.load("best.json")
    assert [p.index for p in again.starred] == [1, 3]
    again.unstar(sweep[1])
    assert [p.index for p in comfy.sweep(graph, {"seed": [9, 3]}, save="best.json").starred] == [1]
    fresh = comfy.sweep(graph, {"seed": range(4)}, save="best.json", fresh=True)
    assert [p.index for p in fresh.starred] == [3]
    assert fresh[3].prompt_id != sweep[3].prompt_id


def test_no_star_is_set_if_a_point_does_not_exist_or_it_cannot_be_saved(comfy, tmp_path):
    sweep = comfy.sweep(failing_if(), {"seed": [1, 2]}, save=False)
    for wrong in (2, -3):
        with pytest.raises(NotFoundError, match=f"no point {wrong}; it has the points 0 to 1"):
            sweep.star(0, wrong)
    other = comfy.sweep(failing_if(), {"seed": [7]}, save=False)
    with pytest.raises(NotFoundError, match="the sweep has no point seed 7"):
        sweep.star(0, other[0])
    assert sweep.starred == [], "none is marked if one is wrong"
    for export in (sweep.to_png, sweep.to_csv, sweep.sheet):
        with pytest.raises(InvalidRequestError, match="starred: no point of the sweep has a star"):
            export(starred=True)
    (tmp_path / "gone").write_text("a file, not a folder")
    sweep._file.path = tmp_path / "gone" / "it.json"
    with pytest.raises(OSError, match="gone"):
        sweep.star(0)
    assert sweep.starred == []


STAR_AND_EXIT = """\
import comfydeploy_jupyter as c, os, signal
sweep = c.connect(start=False).sweep.load('it.json')
sweep.star(2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_star_is_kept_when_the_kernel_ends(comfy, jupyter):
    comfy.sweep(failing_if(), {"seed": range(3)}, save="it.json")
    env = {**jupyter.env, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", STAR_AND_EXIT], env=env, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [p.index for p in comfy.sweep.load("it.json").starred] == [2]


def test_headings_are_those_of_the_form(comfy):
    points = {"1.color": [0x00AAFF], ("width", "scale_by"): [(64, 0.1 + 0.2), (96, 1.0)]}
    sweep = comfy.sweep(in_words(), points, save=False)
    heads = sweep.contact_sheet.headings
    assert heads.row_title == "<b>Sky</b>: color"
    assert heads.rows == ["#00aaff"]
    assert heads.column_title == "<b>Sky</b>: width, Upscale Image By: scale by"
    assert heads.columns == ["64 px, 0.3", "96 px, 1.0"]
    page = sweep.to_html()
    assert "&lt;b&gt;Sky&lt;/b&gt;: width" in page
    assert "1.color" not in page
    assert "<b>" not in page


def test_every_seed_has_one_heading_and_files_have_no_folder(comfy):
    for colour in ("red", "lime"):
        picture = PIL.Image.new("RGB", (8, 8), colour)
        comfy.upload(picture, name=f"{colour}.png", subfolder="words")
    graph = {
        **in_words(),
        "6": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Start"}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
        "8": {"class_type": "TestSeed", "inputs": {"seed": 6}},
    }
    files = ["words/red.png", "words/lime.png"]
    sweep = comfy.sweep(graph, {"6.image": files, "seed": [3]}, save=False)
    assert sweep.words.label(sweep[0].values) == "Start: image red.png, Seed 3"
    assert sweep.contact_sheet.headings.rows == ["red.png", "lime.png"]


def test_the_table_as_csv_has_no_formulas(comfy, tmp_path):
    texts = ["=HYPERLINK(0)", "+1", "-1", "@x", "\tx", 'plain, "quoted"\nlines', "ü"]
    sweep = comfy.sweep(in_words(), {"3.text": texts, "seed": [0, 7]}, save=False)
    sweep.star(13)
    path = tmp_path / "table.csv"
    text = sweep.to_csv(path)
    assert path.read_bytes() == b"\xef\xbb\xbf" + text.encode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    heads = list(rows[0])
    assert heads[:4] == ["Point", "'@Words: text", "TestSeed: seed", "Starred"]
    assert [row[heads[1]] for row in rows[::2]] == [*(f"'{t}" for t in texts[:5]), *texts[5:]]
    assert not [c for row in rows for c in row.values() if c.startswith(("=", "+", "-", "@"))]
    first, second = rows[1]["Texts"].splitlines()  # in the order in which the nodes ended
    assert {first, second} in ({"=HYPERLINK(0)", "7"}, {"'=HYPERLINK(0)", "7"})
    assert second != "'=HYPERLINK(0)", "not at the beginning of the cell"
    last = rows[13]
    assert (last["Starred"], last["Status"], rows[12]["Starred"]) == ("yes", "success", "no")
    best = sweep.to_csv(starred=True)
    assert [row["Point"] for row in csv.DictReader(io.StringIO(best, newline=""))] == ["13"]


def test_the_sheet_as_a_file_shows_stars(comfy, tmp_path):
    sweep = comfy.sweep(in_words(), {"1.color": [0, 255], "width": [64, 96, 128]}, save=False)
    plain = sweep.sheet()
    sweep.star(4)
    path = tmp_path / "sheet.png"
    content = sweep.to_png(path)
    assert path.read_bytes() == content
    marked = PIL.Image.open(io.BytesIO(content)).convert("RGB")
    left, top, right, bottom = PIL.ImageChops.difference(plain, marked).getbbox()
    assert right - left < 40
    assert bottom - top < 40
    assert left > plain.width / 3
    assert top > plain.height / 2
    assert sweep.sheet(starred=True).width < plain.width / 2


def test_a_sheet_of_many_points_stays_small(comfy):
    grid = Grid.of({"seed": range(1000), "width": range(8, 18)})
    plan = Plan(comfy.server, comfy.load(in_words()), grid)
    points = [Point(n, v, Job(plan, v)) for n, v in enumerate(grid.points)]
    sheet = ContactSheet(points, grid, Words(plan))
    picture = sheet.image()
    assert picture.width * picture.height <= 40_000_000
    assert PIL.Image.open(io.BytesIO(sheet.encoded("WEBP"))).height <= 16_383


def test_time_left_takes_the_members_of_a_pool_into_account(comfy):
    plan = Plan(comfy.server, comfy.load(in_words()), Grid.of({"seed": range(8)}))
    jobs = [Job(plan, values) for values in plan.grid.points]
    assert time_left(jobs, 1) is None, "nothing is known before a point has ended"

    def end(job: Job, machine: str, seconds: float) -> None:
        job.status, job.record = "success", {"machine": machine, "execution_time": seconds}

    end(jobs[0], "one", 10)
    assert time_left(jobs, 1) == pytest.approx(70)
    assert time_left(jobs, 2) == pytest.approx(35), "the other one is taken to be as fast"
    end(jobs[1], "two", 30)
    assert time_left(jobs, 2) == pytest.approx(6 / (1 / 10 + 1 / 30))
    jobs[2].status, jobs[2].progress = "running", RunProgress(plan.source, fraction=0.5)
    assert time_left(jobs, 2) == pytest.approx(5.5 / (1 / 10 + 1 / 30))
    for job in jobs[3:]:
        end(job, "one", 10)
    assert time_left(jobs, 4) == pytest.approx(0.5 / ((1 / 10 + 1 / 30) / 2)), "one run is left"
    jobs[2].status = "failed"
    assert time_left(jobs, 1) == 0


def test_a_whole_pool_gets_points(comfy):
    plan = Plan(comfy.server, comfy.load(in_words()), Grid.of({"seed": range(8)}))
    queued = {1: 2, 4: 16, 64: 256, 100: 200, 200: 200, 1000: 256}
    assert {n: plan.division(n) for n in queued} == {n: (min(n, 256), q) for n, q in queued.items()}


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


def test_points_with_more_iterations_of_a_loop_take_longer(comfy):
    graph = in_words() | {
        "s": {
            "class_type": "StartLoop",
            "inputs": {"mode": "simple", "mode.num_iterations": 3, "mode.x": ["1", 0]},
        },
        "b": {"class_type": "ImageInvert", "inputs": {"image": ["s", 0]}},
        "e": {"class_type": "EndLoop", "inputs": {"output_value": ["b", 0]}},
    }
    grid = Grid.of({"s.mode.num_iterations": [1, 10, 100]})
    plan = Plan(comfy.server, comfy.load(graph), grid)
    jobs = [Job(plan, values) for values in plan.grid.points]
    around = len(graph) - 2  # the nodes that are executed once
    assert [job.work for job in jobs] == [around + 2, around + 20, around + 200]
    jobs[0].status, jobs[0].record = "success", {"machine": "one", "execution_time": around + 2}
    assert time_left(jobs, 1) == pytest.approx(2 * around + 220)
    assert Plan(comfy.server, comfy.load(in_words()), Grid.of({"seed": [1]})).work_at({}) == 1
    assert plan.notes == ["ComfyUI executes its loops anew at each point"]
    many = Plan(comfy.server, comfy.load(graph), grid, inputs={"s.mode.num_iterations": 10**9})
    assert many.notes[1:] == ["Node StartLoop has 1,000,000,000 iterations"]
    assert "anew at each point" in repr(comfy.sweep(graph, grid.points, wait=False, save=False))
