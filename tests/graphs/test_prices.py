"""The prices of partner nodes, with badges in the form of ComfyUI's definitions."""

import sys
import time

import pytest

from comfydeploy_jupyter.graphs.prices import partner_nodes

LITERAL = '{"type": "usd", "usd": 0.06}'
SIZE = """
(
  $MP := 1024 * 1024;
  $out := $max([1, $floor(((widgets.width * widgets.height) + $MP - 1) / $MP)]);
  $cost := 0.03 + 0.015 * ($out - 1);
  inputs.images.connected
    ? {"type": "range_usd", "min_usd": $cost + 0.015, "max_usd": $cost + 0.12}
    : {"type": "usd", "usd": $cost}
)
"""
MODEL = """
(
  $m := widgets.model;
  $n := $lookup(widgets, "model.seconds");
  $contains($m, "pro")
    ? {"type": "usd", "usd": 0.1 * $n, "format": {"approximate": true}}
    : {"type": "usd", "usd": 0.05, "format": {"suffix": "/second", "note": "(720p)"}}
)
"""


def definitions(expr, *widgets, **also):
    depends = {"widgets": [{"name": name, "type": kind} for name, kind in widgets]}
    badge = {"engine": "jsonata", "expr": expr, "depends_on": {**depends, **also}}
    kinds = {"display_name": "A Service", "output": ["IMAGE"], "input": {"required": {}}}
    paid = {**kinds, "api_node": True, "price_badge": badge}
    return {
        "Paid": paid,
        "Save": {**kinds, "output_node": True, "output": []},
        "PrimitiveInt": {**kinds, "output": ["INT"]},
        "Other": kinds,
    }


def prices(expr, *widgets, given=None, **also):
    graph = {
        "1": {"class_type": "Paid", "inputs": given or {}},
        "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "PrimitiveInt", "inputs": {"value": 4}},
        "4": {"class_type": "Other", "inputs": {}},
    }
    return partner_nodes(graph, definitions(expr, *widgets, **also))


def price(*badge, **also):
    found = prices(*badge, **also)
    (row,) = found["nodes"]
    usd = row["usd"]
    return row["text"], usd if usd is None else (usd["min"], usd["max"])


def test_literal_price():
    assert prices(LITERAL) == {
        "text": "Partner nodes: $0.06",
        "usd": {"min": 0.06, "max": 0.06},
        "nodes": [
            {
                "node_id": "1",
                "class_type": "Paid",
                "title": "A Service",
                "text": "$0.06",
                "usd": {"min": 0.06, "max": 0.06},
            }
        ],
    }


def test_price_by_values_and_links():
    sizes = [("width", "INT"), ("height", "INT")]
    also = {"inputs": ["images"]}
    assert price(SIZE, *sizes, given={"width": 512, "height": "512"}, **also) == (
        "$0.03",
        (0.03, 0.03),
    )
    big = {"width": 2048, "height": 1024}
    assert price(SIZE, *sizes, given=big, **also) == ("$0.045", (0.045, 0.045))
    linked = {**big, "images": ["4", 0]}
    assert price(SIZE, *sizes, given=linked, **also) == ("$0.06 to $0.165", (0.06, 0.165))


def test_values_are_written_as_the_editor_gives_them_to_expressions():
    widgets = [("model", "COMFY_DYNAMICCOMBO_V3"), ("model.seconds", "INT")]
    inputs = {"model": " Kling PRO ", "model.seconds": 5}
    assert price(MODEL, *widgets, given=inputs) == ("about $0.50", (0.5, 0.5))
    inputs["model.seconds"] = ["3", 0]
    assert price(MODEL, *widgets, given=inputs) == ("about $0.40", (0.4, 0.4)), "a primitive"
    inputs["model.seconds"] = ["4", 0]
    assert price(MODEL, *widgets, given=inputs) == ("depends on model.seconds", None)
    assert price(MODEL, *widgets, given={"model": "std"}) == ("$0.05/second (720p)", None)
    assert price(MODEL, *widgets, given={"model": "pro"}) == (
        "depends on model, model.seconds",
        None,
    )
    wide = {"input_groups": ["model.images"]}
    count = '{"type": "usd", "usd": $lookup(inputGroups, "model.images") * 0.1}'
    inputs = {"model.images.image0": ["4", 0], "model.images.image1": ["4", 0]}
    assert price(count, given=inputs, **wide) == ("$0.20", (0.2, 0.2))
    flag = '{"type": "usd", "usd": widgets.on ? 1234.5 : 0}'
    assert price(flag, ("on", "BOOLEAN"), given={"on": "True"})[0] == "$1,234.50"
    number = '{"type": "usd", "usd": $type(widgets.n) = "number" ? 1 : 2}'
    assert price(number, ("n", "COMBO"), given={"n": 5})[0] == "$1.00"
    assert price(number, ("n", "STRING"), given={"n": 5})[0] == "$2.00"


def test_prices_that_are_not_for_a_run_are_told_as_they_are():
    tokens = (
        '{"type": "list_usd", "usd": [0.0003, 0.0025], "format":'
        ' {"approximate": true, "separator": "-", "suffix": " per 1K tokens"}}'
    )
    assert price(tokens) == ("about $0.0003-$0.0025 per 1K tokens", None)
    assert price('{"type": "text", "text": "Free"}') == ("Free", None)
    assert price('{"usd": 2}') == ("$2.00", (2, 2))
    found = prices(tokens)
    assert found["text"] == "Partner nodes: A Service: about $0.0003-$0.0025 per 1K tokens"
    assert found["usd"] is None


def test_only_nodes_that_are_executed_are_counted_and_sums_are_honest():
    known = definitions(LITERAL)
    known["Unknown"] = {**known["Paid"], "display_name": "New"}
    del known["Unknown"]["price_badge"]
    graph = {
        "1": {"class_type": "Paid", "inputs": {}, "_meta": {"title": "First"}},
        "2": {"class_type": "Paid", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "Save", "inputs": {"images": ["2", 0]}},
        "4": {"class_type": "Paid", "inputs": {}},
        "5": {"class_type": "Nothing", "inputs": {}},
        "6": "no node",
    }
    found = partner_nodes(graph, known)
    assert found["usd"] == {"min": 0.12, "max": 0.12}
    assert [(row["node_id"], row["title"]) for row in found["nodes"]] == [
        ("1", "First"),
        ("2", "A Service"),
    ]
    graph["7"] = {"class_type": "Unknown", "inputs": {}}
    graph["8"] = {"class_type": "Save", "inputs": {"images": ["7", 0]}}
    found = partner_nodes(graph, known)
    assert found["usd"] == {"min": 0.12, "max": None}
    assert found["text"] == "Partner nodes: $0.12; New: price unknown"
    assert partner_nodes({"4": graph["4"], "3": graph["8"]}, known) is None
    assert partner_nodes({"3": graph["3"]}, known) is None
    assert partner_nodes({}, None) is None


def test_price_in_a_loop_is_for_each_iteration():
    known = definitions(LITERAL)
    for name in ("StartLoop", "EndLoop"):
        known[name] = known["Other"]
    graph = {
        "1": {"class_type": "StartLoop", "inputs": {"iterations": 3}},
        "2": {"class_type": "Paid", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "EndLoop", "inputs": {"value": ["2", 0]}},
        "4": {"class_type": "Save", "inputs": {"images": ["3", 0]}},
    }
    found = partner_nodes(graph, known)
    assert found["text"] == "Partner nodes: A Service: $0.06 in each iteration"
    assert found["usd"] is None


@pytest.mark.parametrize(
    "expr",
    [
        "",
        "(",
        "nothing",
        "[1, 2]",
        '"text"',
        "$eval('1')",
        "$power(9, 9)",
        "($f := $pad; $f('x', 1000000000))",
        "[1..10000000]",
        "($f := function($x) { $f($x) }; $f(1))",
        "($f := function($x) { 1 + $f($x) }; $f(1))",
        "$match('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', /^(a+)+$/)",
        "$random() > 2 ? 1 : {'usd': 'x'}",
        '{"usd": 1e999}',
        '{"type": "range_usd", "min_usd": 1}',
        '{"type": "list_usd", "usd": []}',
        '{"type": ["usd"], "usd": 1}',
        "(" * 5_000,
        "[" * 100_000,
        " " * 30_000 + "{'usd': 1 + 1}",
    ],
)
def test_expressions_that_cannot_be_used_end_soon(expr):
    begin = time.monotonic()
    assert price(expr) == ("price unknown", None)
    assert time.monotonic() - begin < 5


def test_a_text_of_a_badge_is_limited_and_an_unknown_language_is_not_read():
    assert len(price('{"type": "text", "text": "' + "x" * 9999 + '"}')[0]) == 200
    known = definitions(LITERAL)
    known["Paid"]["price_badge"]["engine"] = "python"
    graph = {"1": {"class_type": "Paid", "inputs": {}}}
    found = partner_nodes(graph, known)
    assert found["text"] == "Partner nodes: A Service: price unknown"
    for badge in (5, [], {"expr": 5}, {"expr": LITERAL, "depends_on": {"widgets": [5, {}]}}):
        known["Paid"]["price_badge"] = badge
        assert partner_nodes(graph, known) is not None


def test_a_missing_dependency_is_no_unknown_price(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonata.jsonata", None)
    with pytest.raises(ImportError, match="jsonata"):
        prices('{"usd": widgets.n * 3}', ("n", "INT"), given={"n": 1})
