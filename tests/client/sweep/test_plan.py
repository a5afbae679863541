"""The points of a sweep: how users define them, and what the server is sent."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from comfydeploy_jupyter.batches.plan import count_of, plan
from comfydeploy_jupyter.client.sweep.plan import Grid
from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.request_models import BatchRequest


def test_the_last_input_changes_fastest():
    grid = Grid.of({"seed": range(2), "cfg": [4, 7]})
    assert grid.points == (
        {"seed": 0, "cfg": 4},
        {"seed": 0, "cfg": 7},
        {"seed": 1, "cfg": 4},
        {"seed": 1, "cfg": 7},
    )
    assert [axis.names for axis in grid.axes] == [("seed",), ("cfg",)]


def test_inputs_that_change_together():
    grid = Grid.of({("width", "height"): [(512, 768), (768, 512)], "seed": (1,)})
    assert grid.points[1] == {"width": 768, "height": 512, "seed": 1}


@pytest.mark.parametrize(
    "points",
    [{"1.seed": range(3), ("1.a", "1.b"): [(1, "x"), (2, "y")]}, [{"1.a": 1}, {"1.b": "ä"}]],
)
def test_the_server_reads_the_same_points(points):
    grid = Grid.of(points)
    graph = {"1": {"class_type": "Node", "inputs": {"seed": 0, "a": 0, "b": ""}}}
    sent = json.loads(json.dumps({"workflow_api": graph, **grid.to_json()}))
    made = plan(BatchRequest(**sent), None)
    rows = sorted(json.loads(made.points), key=lambda row: row[0])
    assert [json.loads(row[4]) for row in rows] == [*grid.points]
    again = Grid.from_json(
        json.loads(json.dumps({"axes": json.loads(made.axes), **grid.to_json()}))
    )
    assert (again.axes, again.points) == (grid.axes, grid.points)


def test_a_function_is_applied_to_all_values():
    grid = Grid.of({"cfg": np.linspace(1, 2, 3)}).map(float)
    assert [point["cfg"] for point in grid.points] == [1.0, 1.5, 2.0]
    assert Grid.of([{"a": 1}]).map(str).points == ({"a": "1"},)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "points: are missing"),
        ([], "points: is empty"),
        ("seed", "must be a dict of inputs"),
        (7, "must be a dict of inputs"),
        ([1], r"points\[0\]: must be a dict, not a int"),
        ({"seed": []}, "points.seed: is empty"),
        ({"text": "a cat"}, "points.text: must be a list of values, not 'a cat'"),
        ({"seed": 5}, "points.seed: must be a list of values"),
        ({3: [1]}, "3 must be the name of an input"),
        ({("a", "b"): [(1,)]}, r"points.a, b: each value must have 2 parts, not \(1,\)"),
        ({"a": [1], ("a", "b"): [(1, 2)]}, "points.a: is given twice"),
    ],
)
def test_refusals_say_why(points, message):
    with pytest.raises(InvalidRequestError, match=message):
        Grid.of(points)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ({"seed": itertools.count()}, "inputs: have 100001 points; a batch has at most 100000"),
        ({"a": range(1000), "b": range(1000), "seed": range(1000)}, "have 1000000000 points"),
        (({"seed": 1} for _ in itertools.count()), "points: have 100001 points"),
    ],
)
def test_the_server_says_that_there_are_too_many(points, told):
    sent = json.loads(json.dumps(Grid.of(points).to_json()))
    with pytest.raises(InvalidRequestError, match=told):
        count_of(BatchRequest(workflow_api={}, **sent))
