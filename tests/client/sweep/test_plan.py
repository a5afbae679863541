"""The points of a sweep: how users define them, their order, and their division among machines."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.client.sweep.plan import (
    MAX_POINTS,
    Branches,
    Grid,
    Order,
    run_order,
    value_text,
)
from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.formats import inputs_of, is_link


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


def test_points_one_by_one():
    grid = Grid.of([{"seed": 1}, {"cfg": 2.5}])
    assert grid.axes == ()
    assert grid.points == ({"seed": 1}, {"cfg": 2.5})


@pytest.mark.parametrize(
    "points",
    [{"seed": range(3), ("a", "b"): [(1, "x"), (2, "y")]}, [{"seed": 1}, {"text": "ä"}]],
)
def test_a_grid_is_stored_and_read_again(points):
    grid = Grid.of(points)
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


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
        ({"seed": itertools.count()}, f"more than the {MAX_POINTS}"),
        ({"a": range(200), "b": range(200)}, f"more than the {MAX_POINTS}"),
    ],
)
def test_refusals_say_why(points, message):
    with pytest.raises(InvalidRequestError, match=message):
        Grid.of(points)


def test_values_in_labels_are_short_and_on_one_line():
    assert value_text("a\nb  c") == "a b c"
    assert value_text(True) == "true"
    assert value_text(4.5) == "4.5"
    assert len(value_text("x" * 500)) <= 60


def chain(*links: str) -> dict:
    """A graph whose nodes each read the one before: a -> b -> c."""
    graph: dict = {}
    for before, node in itertools.pairwise(("", *links)):
        inputs = {"source": [before, 0]} if before else {}
        graph[node] = {"class_type": "Node", "inputs": {"value": 0, **inputs}}
    return graph


def grid(**axes: list) -> list[dict]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def executed(points: list[dict], order: list[int], graph: dict) -> int:
    """Return how many nodes ComfyUI executes: those with a signature new since the last prompt."""
    count, last = 0, set()
    for index in order:
        signatures = set(map_signatures(points[index], graph).items())
        count += len(signatures - last)
        last = signatures
    return count


def distinct(points: list[dict], graph: dict) -> int:
    return len({item for point in points for item in map_signatures(point, graph).items()})


def map_signatures(point: dict, graph: dict) -> dict[str, str]:
    """Return what the output of each node depends on; the input ``x`` is the value of node x."""
    found: dict[str, str] = {}

    def of(node_id: str) -> str:
        if node_id not in found:
            sources = [of(v[0]) for v in inputs_of(graph[node_id]).values() if is_link(v)]
            found[node_id] = f"{node_id}={point.get(node_id)}({','.join(sources)})"
        return found[node_id]

    for node_id in graph:
        of(node_id)
    return found


def order_of(points: list[dict], graph: dict) -> list[int]:
    return run_order(points, graph, {node: [node] for node in graph}).indexes


@pytest.mark.parametrize("names", list(itertools.permutations("adg")))
def test_a_grid_over_three_depths_executes_each_different_node_once(names):
    """200 points, with each order of the inputs; the sheet keeps this order."""
    graph = chain(*"abcdefgh")
    points = grid(**{name: list(range({"a": 5, "d": 8, "g": 5}[name])) for name in names})
    order = order_of(points, graph)
    assert sorted(order) == list(range(200))
    assert executed(points, order, graph) == distinct(points, graph)


def test_an_unsorted_order_executes_three_times_as_many_nodes():
    graph = chain(*"abcdefgh")
    points = grid(h=list(range(5)), d=list(range(8)), a=list(range(5)))
    in_order = executed(points, list(range(200)), graph)
    assert in_order >= 3 * executed(points, order_of(points, graph), graph)


def test_joined_branches_share_the_values_where_the_order_reverses():
    graph = {
        **chain("a", "b"),
        "c": {"class_type": "Node", "inputs": {"value": 0}},
        "d": {"class_type": "Node", "inputs": {"x": ["b", 0], "y": ["c", 0]}},
    }
    points = grid(a=[1, 2, 3], c=[1, 2])
    order = order_of(points, graph)
    assert [tuple(points[index].values()) for index in order] == [
        (1, 1), (1, 2), (2, 2), (2, 1), (3, 1), (3, 2)
    ]  # fmt: skip


def test_without_common_work_the_order_stays():
    points = grid(a=[3, 1, 2])
    assert order_of(points, chain("a", "b")) == [0, 1, 2]
    points = [{"a.x": x, "a.y": y} for x in (1, 2) for y in (1, 2)]
    targets = {"a.x": ["a"], "a.y": ["a"]}
    assert run_order(points, chain("a", "b"), targets) == Order([0, 1, 2, 3], [])
    assert run_order(points, {}, {}) == Order([0, 1, 2, 3], [])
    assert run_order([], chain("a"), {}) == Order([], [])


@given(
    points=st.lists(
        st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), min_size=1), max_size=20
    )
)
def test_each_point_runs_once_even_if_points_have_different_inputs(points):
    order = order_of(points, chain(*"abcd"))
    assert sorted(order) == list(range(len(points)))


def taken(branches: Branches[int], count: int) -> list[tuple[int, int]]:
    return [found for _ in range(count) if (found := branches.take()) is not None]


def test_the_levels_say_which_input_changes():
    graph = chain(*"abc")
    points = grid(c=[1, 2], a=[1, 2])
    assert run_order(points, graph, {node: [node] for node in graph}) == Order(
        [0, 2, 3, 1], [0, 1, 0, 1]
    )


def test_each_machine_gets_a_branch_and_then_the_second_half_of_the_longest():
    """Twelve points; the first input changes at 0, 4 and 8, the second one in between."""
    branches = Branches(range(12), [0, 1, 1, 1] * 3, 3)
    assert taken(branches, 3) == [(0, 0), (1, 4), (2, 8)]
    for _ in range(3):
        branches.ended(2)
        assert taken(branches, 1)[0][0] == 2
    branches.ended(2)
    assert taken(branches, 1) == [(2, 2)]
    rest = []
    while len(branches):
        for branch, item in taken(branches, 1):
            rest.append(item)
            branches.ended(branch)
    assert branches.take() is None
    assert sorted(rest) == [1, 3, 5, 6, 7]


def test_points_without_common_work_are_not_divided():
    branches = Branches("abcd", [], 4)
    assert taken(branches, 9) == [(0, "a"), (0, "b"), (0, "c"), (0, "d")]


@given(
    levels=st.lists(st.integers(0, 3), max_size=30),
    machines=st.integers(1, 5),
    ends=st.lists(st.integers(0, 4), max_size=100),
)
def test_each_point_is_taken_once(levels, machines, ends):
    branches = Branches(range(len(levels)), levels, machines)
    found, active = [], []
    for end in (*ends, *[0] * 100):
        for branch, item in taken(branches, 1):
            found.append(item)
            active.append(branch)
        if active:
            branches.ended(active.pop(end % len(active)))
    assert sorted(found) == list(range(len(levels)))


def looped(iterations: object = 3, **more: object) -> dict:
    """A loop over b between a and d; c is in no loop."""
    inputs = {"mode": "simple", "mode.num_iterations": iterations, **more}
    return {
        **chain("a"),
        "s": {"class_type": "StartLoop", "inputs": {**inputs, "x": ["a", 0]}},
        "b": {"class_type": "Node", "inputs": {"x": ["s", 0]}},
        "e": {"class_type": "EndLoop", "inputs": {"x": ["b", 0]}},
        "d": {"class_type": "Node", "inputs": {"x": ["e", 0]}},
        "c": {"class_type": "Node", "inputs": {"value": 0}},
        "f": {"class_type": "Node", "inputs": {"x": ["c", 0]}},
    }


def test_nodes_in_loops_are_no_reason_for_an_order():
    """ComfyUI executes them at each point, so what is before them matters less than it seems."""
    points = grid(a=[1, 2], c=[1, 2])
    targets = {name: [name] for name in "ac"}
    assert run_order(points, looped(), targets).indexes == [0, 2, 3, 1], "c has two nodes, a one"
    cached = looped(50, cache_iterations=True)
    assert run_order(points, cached, targets).indexes == [0, 1, 3, 2], "a has 50 cached iterations"
    inside = grid(b=[1, 2], d=[1, 2])
    assert run_order(inside, looped(), {name: [name] for name in "bd"}).levels == []
