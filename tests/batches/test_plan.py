"""The order of the points of a batch, and the check of their values."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.batches.plan import OpenValues, Order, plan, run_order
from comfydeploy_jupyter.comfyui.definitions import DefinitionSet
from comfydeploy_jupyter.errors import InvalidRequestError, UnknownInputError
from comfydeploy_jupyter.graphs.formats import inputs_of, is_link
from comfydeploy_jupyter.request_models import BatchRequest
from tests.helpers.graphs import combo, declared, node, rows


def chain(*links: str) -> dict:
    """A graph whose nodes each read the one before: a -> b -> c."""
    graph: dict = {}
    for before, name in itertools.pairwise(("", *links)):
        inputs = {"source": [before, 0]} if before else {}
        graph[name] = {"class_type": "Node", "inputs": {"value": 0, **inputs}}
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


def test_the_levels_say_which_input_changes():
    graph = chain(*"abc")
    points = grid(c=[1, 2], a=[1, 2])
    assert run_order(points, graph, {node: [node] for node in graph}) == Order(
        [0, 2, 3, 1], [0, 1, 0, 1]
    )


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


DEFINITIONS = DefinitionSet(
    {
        "Number": declared(value=["INT", {"min": 0, "max": 10}], mode=[["a", "b"], {}]),
        "Codec": declared(
            format=combo(opus={"quality": [["64k", "96k"], {}]}, mp3={"rate": ["INT", {"max": 3}]})
        ),
        "LoRA": declared(rows=rows(0, 3, strength=["FLOAT", {"default": 1.0}])),
        "Out": {**declared(any=["*", {}]), "output_node": True},
    },
    "live",
    "0.38.0",
)


def asked(graph: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Return the points of a plan: position, place, level, key, values."""
    found = plan(BatchRequest(workflow_api=graph, **fields), DEFINITIONS)
    names = ("position", "place", "level", "key", "values")
    return [dict(zip(names, row, strict=False)) for row in json.loads(found.points)]


def wrong(graph: dict[str, Any], points: list[dict[str, Any]], **fields: Any) -> list[int]:
    with pytest.raises(InvalidRequestError) as caught:
        asked(graph, points=points, **fields)
    return [each["point"] for each in caught.value.details["points"]]


OUT = {"9": node("Out", any=["1", 0])}


def test_values_are_checked_at_each_point():
    graph = {"1": node("Number", value=1, mode="a"), **OUT}
    points = [{"value": number} for number in (0, 10, 11, 5, -1)]
    assert wrong(graph, points) == [2, 4]
    assert wrong(graph, [{"mode": "a"}, {"mode": "c"}, {"value": "x"}, {"value": "7"}]) == [1, 2]
    assert wrong(graph, [{"value": 1}, {"valeu": 2}]) == [1]
    with pytest.raises(UnknownInputError, match="did you mean"):
        asked(graph, inputs={"valeu": {"$vary": [1]}})
    with pytest.raises(InvalidRequestError, match=r"point 1: inputs\.value: must be at most 10"):
        asked(graph, inputs={"value": {"$vary": [1, 11]}})


def test_the_check_of_one_value_depends_on_others():
    graph = {"1": node("Codec", format="mp3", **{"format.rate": 1}), **OUT}
    points = [
        {"1.format": "opus", "1.format.quality": "96k"},
        {"1.format": "opus", "1.format.rate": 3},
        {"1.format": "mp3", "1.format.rate": 3},
        {"1.format": "mp3", "1.format.quality": "96k"},
        {"1.format": "flac"},
    ]
    assert wrong(graph, points) == [1, 3, 4]


def test_values_that_change_together():
    """With `OpenValues`, of which there may be more, a batch is checked before they are known."""
    graph = {"1": node("Number", value=1, mode="a"), "2": node("Number", value=1, mode="a"), **OUT}
    each, along = {"$each": ["a", "b"]}, {"$vary": [1, 2], "$with": "1.mode"}
    some = {"$each": OpenValues(["a"])}

    def values(*given: Any) -> list[list[Any]]:
        inputs = dict(zip(("1.mode", "1.value", "2.value"), given, strict=False))
        request = BatchRequest.model_construct(workflow_api=graph, inputs=inputs)
        rows = sorted(json.loads(plan(request, None).points))
        return [[*json.loads(row[4]).values()] for row in rows]

    assert values(each, along) == [["a", 1], ["b", 2]]
    assert values(each, along, {"$vary": [5, 6]}) == [
        ["a", 1, 5],
        ["a", 1, 6],
        ["b", 2, 5],
        ["b", 2, 6],
    ]
    assert values({**each, "$with": "1.value"}, {"$vary": [1, 2]}) == [["a", 1], ["b", 2]]
    assert values(some, along) == [["a", 1], ["a", 2]]
    assert values(some, {**along, "$vary": [1]}, {**along, "$vary": [5]}) == [["a", 1, 5]]
    assert values(some, {**some, "$with": "1.mode"}) == [["a", "a"]]
    assert values({"$each": []}, {"$each": [], "$with": "1.mode"}) == []
    several = {"$each": OpenValues("abc")}
    wrong_ones: list[tuple[list[Any], str]] = [
        ([each, {**along, "$vary": [1]}], r"inputs\.1\.value: has 1 value, and '1\.mode', .* 2"),
        ([each, {**along, "$vary": [1] * 3}], r"inputs\.1\.value: has 3 values"),
        ([several, {**along, "$vary": [1]}], r"inputs\.1\.mode: has at least 2 values"),
        ([{"$each": []}, along], r"inputs\.1\.value: has 2 values, .* has 0"),
        ([some, along, {**along, "$vary": [1]}], r"inputs\.2\.value: has 1 value"),
        ([each, {**along, "$with": "1.value"}], r"inputs\.1\.value: \$with must name another"),
        ([each, {**along, "$with": ["1.mode"]}], r"inputs\.1\.value: \$with must name another"),
        (["a", along], r"inputs\.1\.value: \$with must name another"),
    ]
    for given_values, message in wrong_ones:
        with pytest.raises(InvalidRequestError, match=message):
            values(*given_values)


def test_rows_are_values():
    graph = {"1": node("LoRA"), **OUT}
    ways = [[{"strength": 1}], [{"strength": 1}, {"strength": 2}], [], [{"strength": 1}]]
    found = asked(graph, inputs={"1.rows": {"$vary": ways}})
    assert [point["values"] for point in found] == [
        json.dumps({"1.rows": way}, separators=(",", ":")) for way in ways
    ]
    assert [found[0]["key"] == point["key"] for point in found] == [True, False, False, True]
    points = [{"1.rows": way} for way in ({"strength": 1}, [{}] * 4, [{"strenth": 1}], [])]
    assert wrong(graph, points) == [0, 1, 2]


def test_points_that_run_the_same_are_equal():
    graph = {"1": node("Number", "Title", value=1, mode="a"), **OUT}
    found = asked(graph, points=[{"value": 3}, {"1.value": 3}, {"Title.value": 3}, {"value": 4}])
    assert [found[0]["key"] == point["key"] for point in found] == [True, True, True, False]
    other = asked({**graph, "1": node("Number", "Title", value=9, mode="a")}, points=[{"value": 3}])
    assert other[0]["key"] == found[0]["key"], "the value in the graph is replaced"
    drawn = asked(graph, points=[{"value": 3}, {"value": 3}], seed_mode="random")
    assert drawn[0]["key"] != drawn[1]["key"], "new seeds are drawn for each"


def test_an_output_of_another_run_is_a_value():
    link = {"$output": {"run": "x", "file": "2.images[0]"}}
    graph = {"1": node("Number", value=1, mode="a"), **OUT}
    assert len(asked(graph, points=[{"mode": link}, {"mode": "a"}, {"mode": link}])) == 3
    with pytest.raises(InvalidRequestError, match="takes a whole number, not an output") as caught:
        asked(graph, points=[{"value": 2}, {"value": link}, {"value": 3}, {"value": link}])
    assert [each["point"] for each in caught.value.details["points"]] == [1, 3]


def test_seed_is_every_seed_unless_one_input_has_this_name():
    seeds = {"1": node("Seed", seed=1), "2": node("Seed", noise_seed=2, seed=3), **OUT}
    found = plan(BatchRequest(workflow_api=seeds, points=[{"seed": 7}]), None)
    assert found.seeds == ["1.seed", "2.seed", "2.noise_seed"]
    one = {"1": node("Seed", seed=1), **OUT}
    assert plan(BatchRequest(workflow_api=one, points=[{"seed": 7}]), None).seeds == []
