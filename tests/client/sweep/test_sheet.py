"""Stars, sheets and tables of sweeps, which the server makes, with a real server."""

from __future__ import annotations

import csv
import io

import PIL.Image
import pytest

from comfydeploy_jupyter.errors import InvalidRequestError, NotFoundError
from tests.client.sweep.test_sweep import failing_if, in_words


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
