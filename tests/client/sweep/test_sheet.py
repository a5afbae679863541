"""Stars, sheets and tables of sweeps, which the server makes, with a real server."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys

import PIL.Image
import pytest

from comfydeploy_jupyter.errors import InvalidRequestError, NotFoundError
from tests.client.sweep.test_sweep import failing_if, in_words
from tests.helpers.processes import REPOSITORY


def test_the_best_are_marked_and_stay(comfy):
    graph = failing_if()
    sweep = comfy.sweep(graph, {"seed": range(4)}, save="best.json")
    sweep.star(1, sweep[3])
    assert sweep.starred == [sweep[1], sweep[3]]
    again = comfy.sweep.load("best.json")
    assert [p.index for p in again.starred] == [1, 3]
    again.unstar(sweep[1])
    assert [p.index for p in comfy.sweep(graph, {"seed": [9, 3]}, save="best.json").starred] == [1]


def test_no_star_is_set_if_a_point_does_not_exist(comfy):
    sweep = comfy.sweep(failing_if(), {"seed": [1, 2]}, save=False)
    for wrong in (2, -3):
        with pytest.raises(NotFoundError, match=f"no point {wrong}; it has the points 0 to 1"):
            sweep.star(0, wrong)
    other = comfy.sweep(failing_if(), {"seed": [7]}, save=False)
    with pytest.raises(NotFoundError, match="the sweep has no point seed 7"):
        sweep.star(0, other[0])
    assert sweep.starred == [], "none is marked if one is wrong"
    for export in (sweep.to_png, sweep.to_csv, sweep.sheet):
        with pytest.raises(InvalidRequestError, match="starred: no point has a star"):
            export(starred=True)


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
    table = comfy.server.get(f"batch/{sweep.id}/table")
    assert table["points"][0]["label"] == "Start: image red.png, Seed 3"
    assert table["heads"]["rows"] == ["red.png", "lime.png"]


def test_sheet_and_table_are_written_into_files(comfy, tmp_path):
    sweep = comfy.sweep(in_words(), {"1.color": [0, 255], "seed": [0, 7, 8]}, save=False)
    plain = sweep.sheet()
    sweep.star(4)
    path = tmp_path / "sheet.png"
    content = sweep.to_png(path)
    assert path.read_bytes() == content
    assert PIL.Image.open(io.BytesIO(sweep.to_webp())).format == "WEBP"
    assert sweep.sheet(starred=True).width < plain.width / 2
    text = sweep.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == b"\xef\xbb\xbf" + text.encode()
    best = list(csv.DictReader(io.StringIO(sweep.to_csv(starred=True), newline="")))
    assert [(row["Point"], row["Starred"], row["Status"]) for row in best] == [
        ("4", "yes", "success")
    ]
