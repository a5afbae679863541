"""UI → API against what ComfyUI's own editor queues.

`tests/golden/ui_to_api.jsonl.gz` holds workflows composed for the purpose and what frontend
1.32.9 (``api``) and, where it differs, 1.58.1 (``api_new``) queue for them; it is recorded by
`tests/golden/record_ui_to_api.py`. The tests expect the result of the newer one; `DIFFERENCES`
lists the cases in which this package does otherwise, with the reasons.
"""

import copy
import json
import random
import time
from datetime import datetime
from operator import itemgetter
from typing import Any

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.ui import SavedWorkflow, name_conflicts
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.graphs import SMALL, SMALL_CLASSES, probe_definitions, recorded, saved

Graph = dict[str, dict[str, Any]]
ROWS = {row["name"]: row for row in recorded("ui_to_api.jsonl.gz")}
DEFINITIONS = probe_definitions()


def compared(graph):
    return {
        key: {"class_type": node.get("class_type"), "inputs": node["inputs"]}
        for key, node in graph.items()
    }


DEFAULTS = {"seed": 1, "steps": 20, "cfg": 8, "sampler_name": "euler", "denoise": 1}
# name: which recording to start from, and what of it to change
DIFFERENCES = {
    # The editor queues unknown nodes without a class. With the class, ComfyUI says which one is
    # missing, and a ComfyUI that has it runs it.
    "unknown": ("api_new", {"2": {"class_type": "Nope"}}),
    "set_and_get_nodes": ("api", {"2": {"class_type": "SetNode"}, "3": {"class_type": "GetNode"}}),
    "primitive_proxied_onto_an_unknown_node": (
        "api_new",
        {"1:21": {"class_type": "Nope"}, "1:24": {"class_type": "Nope"}},
    ),
    # Null for a widget that is no input of the subgraph says that its value is not kept there, as
    # in 1.49.6; 1.58.1 queues null for it.
    "promoted_proxy_null": ("api_new", {"1:12": {"cfg": 7.5}}),
    # Both editors drop values kept by name unless they are complete and in order.
    "kinds_dict": (
        "api",
        {
            "1": {"m": "mm", "i": 5, "c2": "q"},
            "2": {"i": 5, "f": 2, "s": "s", "m": "m", "b": False, "c": "one", "o": 3, "c2": "q"},
            "3": {"i": 2, "f": 5, "s": "s", "m": "m", "b": False, "c": "one", "o": 3, "c2": "q"},
        },
    ),
    # 1.58.1 lets proxyWidgets of one instance rewire the definition, so that another instance
    # loses its value; here values are per instance.
    "prim_inner": ("api_new", {"1:11": {"text": "from prim"}, "1:12": {"steps": 64}}),
    "sub_fanout": ("api", {}),
    # The editor throws; here, as in 1.58.1 with a link that does not exist, it is left out.
    "link_to_missing": ("", {"2": {"class_type": "PSampler", **DEFAULTS}}),
    # 1.58.1 turns group nodes into subgraphs under ids that it draws on each load; the ids of
    # 1.32.9 say which part of which node it is, in every run. Both lose links to inputs that had
    # been widgets, and a link that enters the group through a reroute.
    **dict.fromkeys(
        [
            *("group_basic", "group_dup_names", "group_external", "group_old_separator"),
            *("group_primitive", "group_upload"),
        ],
        ("api", {}),
    ),
    "group_converted": ("api", {"2:0": {"width": ["1", 0]}, "2:1": {"steps": ["1", 0]}}),
    "group_reroute": ("api", {"2:1": {"image": ["1", 0]}}),
    # A muted or bypassed group node takes its parts with it, like every other node.
    "group_modes": ("api", {"2:0": None, "3": {"images": None}, "4:0": None}),
}


def expected(row):
    """Return what the row asks for, None where the editor throws."""
    source, changes = DIFFERENCES.get(row["name"], ("", {}))
    if row["name"] not in DIFFERENCES:
        source = "api_new" if "api_new" in row else "api"
        if "error_new" in row or source not in row:
            return None
    graph = compared(copy.deepcopy(row[source])) if source else {}
    for key, change in changes.items():
        if change is None:
            del graph[key]
            continue
        node = graph.setdefault(key, {"class_type": None, "inputs": {}})
        node["class_type"] = change.get("class_type", node["class_type"])
        for name, value in change.items():
            if name != "class_type":
                node["inputs"][name] = value
            if value is None:
                del node["inputs"][name]
    return graph


@pytest.mark.parametrize("name", ROWS)
def test_converts_as_the_editor_queues(name):
    row = ROWS[name]
    before = copy.deepcopy(row["ui"])
    assert compared(ui_to_api(row["ui"], DEFINITIONS).graph) == expected(row)
    assert row["ui"] == before
    assert ROWS.keys() >= DIFFERENCES.keys()


@pytest.mark.parametrize("case", [each for each in SMALL if "ui" in each], ids=itemgetter("name"))
def test_small_workflows_are_queued_as_editors_do(case):
    graph = ui_to_api(case["ui"], SMALL_CLASSES[case["classes"]]).graph
    assert {key: node["inputs"] for key, node in graph.items()} == case["queued"]


def workflow(nodes, links=(), **more):
    return {"version": 0.4, "nodes": nodes, "links": [list(row) for row in links], **more}


def convert(*nodes, **options):
    return ui_to_api(workflow(list(nodes)), DEFINITIONS, **options)


def test_keeps_titles_and_orders_ids_as_javascript():
    graph = convert(saved(10, "PInt", title="Ten"), saved("b", "PInt"), saved(9, "PSrc")).graph
    assert list(graph) == ["9", "10", "b"]
    titles = [entry["_meta"]["title"] for entry in graph.values()]
    assert titles == ["Load Probe", "Ten", "PInt"]


def test_warns_of_nodes_that_comfyui_would_refuse():
    assert ui_to_api(ROWS["kinds_ok"]["ui"], DEFINITIONS).warnings == []
    assert 'node "My unknown" (Nope): ' in ui_to_api(ROWS["unknown"]["ui"], DEFINITIONS).warnings[0]
    warnings = ui_to_api(ROWS["link_to_missing"]["ui"], DEFINITIONS).warnings
    assert any("node PSampler: " in warning and "steps" in warning for warning in warnings)
    warnings = ui_to_api(ROWS["primitive_to_host"]["ui"], DEFINITIONS).warnings
    assert 'node PrimitiveNode does not set the input steps of node "S" (subgraph)' in warnings[0]


@pytest.mark.parametrize(
    ("flow", "field"),
    [
        ([], "workflow"),
        ({}, "workflow.nodes"),
        ({"3": {"class_type": "KSampler", "inputs": {}}}, "workflow.nodes"),
        (workflow([saved(1, "PInt"), 5]), "workflow.nodes[1]"),
        (workflow([{"id": 1}]), "workflow.nodes[0].type"),
        (workflow([{"type": "PInt"}]), "workflow.nodes[0].id"),
        (workflow([{"type": "PInt", "id": True}]), "workflow.nodes[0].id"),
        (workflow([{"type": "PInt", "id": 1, "inputs": {}}]), "workflow.nodes[0].inputs"),
        (workflow([], definitions={"subgraphs": [5]}), "definitions.subgraphs[0]"),
    ],
)
def test_names_the_field_that_is_not_a_workflow(flow, field):
    with pytest.raises(InvalidRequestError) as caught:
        ui_to_api(flow, DEFINITIONS)
    assert caught.value.details["field"] == field


def chain(kind, length, mode):
    """Return a source, `length` nodes to see through, and a sink."""
    name, out = {"Reroute": "", "PPass": "image"}[kind], [{"name": "IMAGE", "type": "IMAGE"}]
    nodes = [
        saved(0, "PDecode", outputs=out),
        *(saved(n, kind, None, [(name, n)], outputs=out, mode=mode) for n in range(1, length + 1)),
        saved("sink", "SaveImage", None, [("images", length + 1)]),
    ]
    for slot in (slot for each in nodes for slot in each["inputs"]):
        slot["type"] = "IMAGE"
    ends = [*range(1, length + 1), "sink"]
    return workflow(nodes, [[n, n - 1, 0, end, 0, "IMAGE"] for n, end in enumerate(ends, 1)])


@pytest.mark.parametrize(("kind", "mode"), [("Reroute", 0), ("PPass", 4)])
def test_many_nodes_linked_to_a_long_chain_of_bypassed_nodes_take_little_time(kind, mode):
    flow = chain(kind, 2_000, mode)
    for key in range(2_000):
        flow["nodes"].append(saved(f"s{key}", "SaveImage", None, [("images", 10_000 + key)]))
        flow["links"].append([10_000 + key, 2_000, 0, f"s{key}", 0, "IMAGE"])
    begun = time.thread_time()
    graph = ui_to_api(flow, DEFINITIONS).graph
    assert {key for key in graph if key[0] != "s"} == {"0"}
    assert {tuple(each["inputs"]["images"]) for key, each in graph.items() if key != "0"} == {
        ("0", 0)
    }
    assert time.thread_time() - begun < 6


@pytest.mark.parametrize(("kind", "mode"), [("Reroute", 0), ("PPass", 4)])
def test_refuses_cycles_as_the_editor_does(kind, mode):
    flow = chain(kind, 3, mode)
    flow["links"][0][1] = 3
    with pytest.raises(InvalidRequestError, match="cycle") as caught:
        ui_to_api(flow, DEFINITIONS)
    node_id = caught.value.details["field"].removeprefix("node ")
    assert node_id in {"1", "2", "3"}
    assert str(caught.value).startswith(f"node {kind} (id {node_id}) is part of a cycle")


def promoted_steps(key, link, kind, values=None):
    made = saved(key, kind, values, [("steps", link)])
    made["inputs"][0] |= {"type": "INT", "widget": {"name": "steps"}}
    return made


def nested(depth, copies=1):
    """Return subgraph definitions, each with `copies` of the next inside."""
    out = [{"name": "INT", "type": "INT", "links": []}]
    subgraphs = [
        {
            "id": f"level-{level}",
            "name": f"Level {level}",
            "nodes": [
                saved(1 + level * 10 + key, f"level-{level + 1}", outputs=out)
                for key in range(copies)
            ],
            "inputs": [],
            "outputs": [{"name": "out", "type": "INT", "linkIds": [1]}],
            "links": [[1, 1 + level * 10, 0, -20, 0, "INT"]],
        }
        for level in range(depth)
    ]
    last = subgraphs[-1]["nodes"]
    last[:] = [saved(last[0]["id"], "PInt", [3], outputs=out)]
    nodes = [saved("h", "level-0", outputs=out), promoted_steps("s", 7, "PSampler")]
    return workflow(nodes, [[7, "h", 0, "s", 0, "INT"]], definitions={"subgraphs": subgraphs})


def test_quarantined_proxies_are_converted_as_the_editor_does():
    # as frontends 1.49.6 and 1.58.1: the first entry of an input, by its name
    inside = {
        "id": "inside",
        "nodes": [promoted_steps(1, 1, "PSampler", [20])],
        "inputs": [{"name": "steps", "type": "INT", "linkIds": [1]}],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0}],
    }
    host = promoted_steps("h", None, "inside", [7])
    flow = workflow([host], definitions={"subgraphs": [inside]})

    def steps(*entries):
        host["properties"] = {"proxyWidgetErrorQuarantine": list(entries)}
        return ui_to_api(flow, DEFINITIONS).graph["h:1"]["inputs"]["steps"]

    def entry(*original, **more):
        return {"originalEntry": list(original), "reason": "missingSourceNode", **more}

    assert steps() == 7
    kept = entry("-1", "steps", hostValue=3)
    assert steps(kept, entry("-1", "steps", hostValue=4)) == 3
    assert steps(entry("1", "steps", hostValue=4), entry("-1", "cfg", hostValue=5)) == 7
    assert steps(entry("-1", "steps"), 5, {"hostValue": 6}) == 7


def test_expands_deep_subgraphs():
    graph = ui_to_api(nested(400), DEFINITIONS).graph
    inner = next(key for key in graph if key != "s")
    assert inner.count(":") == 400
    assert graph["s"]["inputs"]["steps"] == [inner, 0]


def test_refuses_a_subgraph_inside_itself():
    flow = nested(3)
    flow["definitions"]["subgraphs"][2]["nodes"].append(saved(99, "level-0"))
    with pytest.raises(InvalidRequestError, match="contains itself"):
        ui_to_api(flow, DEFINITIONS)


def test_refuses_subgraphs_that_expand_to_too_many_nodes():
    with pytest.raises(InvalidRequestError, match="nodes once its subgraphs are expanded"):
        ui_to_api(nested(40, copies=3), DEFINITIONS)


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("a {red|green|blue} dog", {"a red dog", "a green dog", "a blue dog"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{|x}", {"", "x"}),
        (r"\{a\|b\} {c\}|d}", {"{a|b} c}", "{a|b} d"}),
        ("see http://host/page", {"see http:"}),
        ("one /* two\nlines */three // rest\nfour", {"one three \nfour"}),
        ("{unclosed|end", {"unclosed", "end"}),
        ("closed} only", {"closed} only"}),
        ("a /* open {b|c}", {"a /* open b", "a /* open c"}),
        ("tail \\", {"tail \\"}),
    ],
)
def test_dynamic_prompts(text, possible):
    rng = random.Random(4)
    graphs = [convert(saved(1, "PLine", [text]), rng=rng).graph for _ in range(80)]
    assert {graph["1"]["inputs"]["text"] for graph in graphs} == possible


def test_dynamic_prompts_repeat_with_the_same_generator():
    line = saved(1, "PLine", ["{0|1|2|3|4|5|6|7|8|9}" * 20])
    once, again, other = (convert(line, rng=random.Random(seed)).graph for seed in (9, 9, 10))
    assert once == again != other


def test_many_unclosed_braces_take_bounded_time():
    begun = time.thread_time()
    convert(saved(1, "PLine", ["{" * 10_000]))
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("%date:yyyy-MM-dd%/x", "2026-03-05/x"),
        ("%date:yy%_%date:M.d%", "26_%date:M.d%"),
        ("%date:hh_mm_ss%-%date:h_m_s%", "07_08_09-7_8_9"),
        ("%date:yyy%", "yyy"),
        ("%PInt.value%", "12"),
        ("%width%", "%width%"),
    ],
)
def test_patterns_in_file_names(pattern, name):
    now = datetime(2026, 3, 5, 7, 8, 9)
    graph = convert(saved(1, "SaveImage", [pattern]), saved(2, "PInt", [12]), now=now).graph
    assert graph["1"]["inputs"]["filename_prefix"] == name


@pytest.mark.parametrize(
    ("value", "queued"),
    [
        ("9007199254740993", "9007199254740992"),
        ("18446744073709551615", "18446744073709552000"),
        ("12345678901234567890", "12345678901234567000"),
        ("-9007199254740995", "-9007199254740996"),
        ("8.0", "8"),
        ("-0.0", "0"),
        ("0.1", "0.1"),
        ("1e21", "1e+21"),
        ("1e400", "null"),
    ],
)
def test_numbers_are_written_as_javascript_does(value, queued):
    graph = convert(saved(1, "PInt", json.loads(f"[{value}]"))).graph
    assert json.dumps(graph["1"]["inputs"]["value"]) == queued


def test_values_are_copied_however_deep():
    deep = [float("nan"), 2.0]
    for _ in range(5_000):
        deep = [deep]
    value = convert(saved(1, "PMulti", [deep, 1])).graph["1"]["inputs"]["tags"]["__value__"]
    for _ in range(5_000):
        assert value is not deep
        value, deep = value[0], deep[0]
    assert json.dumps(value) == "[null, 2]"


def test_values_too_deep_for_json_cause_no_error():
    deep = ["a", [], None, [["b", 1.0]]]
    for _ in range(50_000):
        deep = [deep]
    assert convert(saved(1, "PText", [deep])).graph["1"]["inputs"]["text"] == "a,,,b,1"
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        convert(saved(1, "Nope", [deep]))


OLDER = [7, "fixed", 20, 6.5, "extra", "ddim", 0.5]
"""Values of a sampler of a version that had one more widget, by position."""
NAMES = ("seed", "control_after_generate", "steps", "cfg", "extra", "sampler_name", "denoise")
NAMED = dict(zip(NAMES, OLDER, strict=True))


def test_values_that_do_not_fit_by_position_are_taken_by_name():
    older = saved(1, "PSampler", OLDER, widgets_values_named=NAMED)
    converted = convert(older)
    wanted = {key: NAMED[key] for key in ("seed", "steps", "cfg", "sampler_name", "denoise")}
    assert converted.graph["1"]["inputs"] == wanted
    (warning,) = converted.warnings
    assert warning.startswith("node PSampler: ")
    assert "taken by name" in warning
    others = [saved(2, "PSampler"), saved(3, "PSampler", title="Last")]
    assert convert(older, *others).warnings[0].startswith("node PSampler (id 1): ")
    others[0]["mode"] = 2
    assert convert(older, *others).warnings[0].startswith("node PSampler: ")
    older["widgets_values_named"] = {**NAMED, "denoise": "ddim", "sampler_name": "extra"}
    converted = convert(older)  # they do not help
    assert converted.graph["1"]["inputs"]["sampler_name"] == "extra"
    assert "denoise must be a number" in converted.warnings[0]


def test_promoted_values_that_do_not_fit_by_position_are_taken_by_name():
    flow = copy.deepcopy(ROWS["promoted_plain"]["ui"])
    host = flow["nodes"][0]
    host["widgets_values"] = ["gone", "words", 33, 77]
    host["widgets_values_named"] = {"gone": "gone", "text": "words", "steps": 33, "seed": 77}
    converted = ui_to_api(flow, DEFINITIONS)
    assert converted.graph["1:11"]["inputs"]["text"] == "words"
    inner = converted.graph["1:12"]["inputs"]
    assert (inner["steps"], inner["seed"]) == (33, 77)
    assert "taken by name" in converted.warnings[0]


def test_values_that_differ_by_position_and_by_name_are_told():
    values = [1, "fixed", 20, 6.5, "euler", 0.5]
    older = saved(1, "PSampler", OLDER, widgets_values_named=NAMED)
    named = dict(zip(("seed", "steps", "cfg", "sampler_name"), (2, 20.0, 6.5, "ddim"), strict=True))
    other = saved(2, "PSampler", values, title="Fits", widgets_values_named=named)
    muted = {**copy.deepcopy(other), "id": 3, "mode": 2}
    flow = copy.deepcopy(ROWS["promoted_plain"]["ui"])
    host = flow["nodes"][0]
    host["title"] = "Host"
    host["widgets_values"] = ["words", 33, 77]
    host["inputs"] = [{"name": n, "widget": {"name": n}} for n in ("text", "steps", "seed")]
    host["widgets_values_named"] = {"text": "words", "steps": 34, "seed": None}
    flow["nodes"] += [
        older,
        other,
        muted,
        {**saved(4, "Nope", [1]), "widgets_values_named": {"a": 2}},
    ]
    deep = []
    for _ in range(50_000):
        deep = [deep]
    flow["nodes"].append(saved(5, "PText", [deep], widgets_values_named={"text": deep}))
    told = name_conflicts(SavedWorkflow(flow), DEFINITIONS)
    assert [text for text in told if "PSampler" not in text] == [
        'node "Host" (subgraph): steps is 33 by position, 34 by name'
    ]
    assert [text for text in told if '"Fits"' in text] == [
        f'node "Fits" (PSampler, id 2): {name}; the one by position is used'
        for name in (
            "seed is 1 by position, 2 by name",
            'sampler_name is "euler" by position, "ddim" by name',
        )
    ]
    assert "sampler_name is" in "".join(told)
    assert any(text.endswith("the one by name is used") for text in told)
