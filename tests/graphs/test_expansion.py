"""Small files that would expand to large graphs are rejected before, in linear time."""

import json
import tracemalloc

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.ui import MAX_SIZE
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.graphs import probe_definitions, saved
from tests.helpers.selection import few
from tests.helpers.waiting import grows_too_fast

DEFINITIONS = probe_definitions()


def instances(count, subgraph):
    """Return a workflow that uses one subgraph many times."""
    nodes = [{"id": number, "type": "inner"} for number in range(count)]
    return {"nodes": nodes, "definitions": {"subgraphs": [{"id": "inner", **subgraph}]}}


def long_text(count):
    return instances(count, {"nodes": [saved(2, "Nope", ["x" * 100 * count])]})


def long_title(count):
    return instances(count, {"nodes": [saved(1, "Nope", title="x" * 100 * count)]})


def long_list(count):
    return instances(count, {"nodes": [saved(1, "PText", [[["x"] * 20 * count]])]})


def long_ids(count):
    flow = instances(count, {"nodes": [{"id": "x" * 100 * count, "type": "deeper"}]})
    flow["definitions"]["subgraphs"].append({"id": "deeper", "nodes": [{"id": 1, "type": "PInt"}]})
    return flow


def group_nodes(count):
    parts = [{"index": number, "type": "PInt"} for number in range(count)]
    return {
        "nodes": [{"id": number, "type": "workflow>big"} for number in range(count)],
        "extra": {"groupNodes": {"big": {"nodes": parts, "links": []}}},
    }


def linked_group_nodes(count):
    flow = group_nodes(count)
    group = flow["extra"]["groupNodes"]["big"]
    group["nodes"] = group["nodes"][:2]
    group["links"] = [[0, 0, 1, 0, number] for number in range(100 * count)]
    return flow


def doubling_patterns(count):
    """Return primitive nodes, each of which holds twice what the one before holds."""
    nodes = []
    links = []
    for number in range(count):
        before = f"%target {number - 1}.text%" if number else "xxxxxxxx"
        slot = {"name": "text", "type": "STRING", "link": number, "widget": {"name": "text"}}
        primitive = saved(2 * number, "PrimitiveNode", [before * 2], title=f"primitive {number}")
        primitive["outputs"] = [{"name": "STRING", "type": "STRING", "links": [number]}]
        primitive["properties"] = {"Run widget replace on values": True}
        target = saved(2 * number + 1, "PText", [""], title=f"target {number}")
        nodes += [primitive, {**target, "inputs": [slot]}]
        links.append([number, 2 * number, 0, 2 * number + 1, 0, "STRING"])
    return {"nodes": nodes, "links": links}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (long_text, 3000),
        *few([(long_title, 3000), (long_list, 2000), (long_ids, 2000), (group_nodes, 5000)], 0),
        (linked_group_nodes, 500),
        (doubling_patterns, 40),
    ],
)
def test_a_small_file_that_becomes_large_is_refused(make, count):
    flow = make(count)
    assert len(json.dumps(flow)) < 2 << 20
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match=r"once its subgraphs (and patterns )?are"):
            ui_to_api(flow, DEFINITIONS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_SIZE


def prefixes(size):
    flow = instances(1, {"nodes": [{"id": 1, "type": "PInt"}]})
    flow["nodes"][0] |= {
        "properties": {"proxyWidgets": [["1", "1:" * size + "value"]]},
        "widgets_values": [3],
    }
    return flow


def many_proxies(size):
    ports = [{"name": f"p{n}", "type": "INT", "linkIds": [n]} for n in range(size)]
    inputs = [
        {"name": f"p{n}", "type": "INT", "link": n, "widget": {"name": f"p{n}"}}
        for n in range(size)
    ]
    links = [[n, -10, n, 1, n, "INT"] for n in range(size)]

    def subgraph(name, kind):
        nodes = [{"id": 1, "type": kind, "inputs": inputs}]
        return {"id": name, "inputs": ports, "nodes": nodes, "links": links}

    proxies = {"proxyWidgets": [["1", f"p{n}"] for n in range(size)]}
    definitions = {"subgraphs": [subgraph("inner", "PInt"), subgraph("outer", "inner")]}
    host = saved(1, "outer", [5] * size, properties=proxies)
    return {"nodes": [host], "definitions": definitions}


def one_source(size):
    keys = list(range(size))
    inputs = [{"name": f"p{key}", "type": "INT", "link": key} for key in keys]
    port = {"name": "p", "type": "INT", "linkIds": keys}
    nodes = [{"id": 1, "type": "PInt", "inputs": inputs}]
    links = [[key, -10, 0, 1, key, "INT"] for key in keys]
    return instances(1, {"inputs": [port], "nodes": nodes, "links": links})


def comments(size):
    return {"nodes": [saved(1, "PText", ["/*a" * size])]}


def names_in_patterns(size):
    flow = many_proxies(size)
    flow["nodes"][0]["title"] = "host"
    text = "".join(f"%host.q{number}%" for number in range(size))
    return flow | {"nodes": [*flow["nodes"], saved(2, "SaveImage", [text])]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (prefixes, 4000),
        (many_proxies, 200),
        (one_source, 1000),
        (comments, 5000),
        (names_in_patterns, 200),
    ],
)
def test_time_grows_with_the_file(make, size):
    flows = {key: make(key) for key in (size, 8 * size)}
    assert not grows_too_fast(lambda key: ui_to_api(flows[key], DEFINITIONS), size)
