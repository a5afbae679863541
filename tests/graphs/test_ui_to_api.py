"""UI → API against what ComfyUI's own editor queues.

`tests/golden/ui_to_api.jsonl.gz` holds workflows composed for the purpose and what frontend
1.32.9 (``api``) and, where it differs, 1.58.1 (``api_new``) queue for them; it is recorded by
`tests/golden/record_ui_to_api.py`. The tests expect the result of the newer one; `DIFFERENCES`
lists the cases in which this package does otherwise, with the reasons.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.ui_to_api import ui_to_api
from tests.helpers.selection import examples

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
SAMPLES = REPOSITORY.parent / "shared" / "samples"

Graph = dict[str, dict[str, Any]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_definitions(path: Path) -> NodeDefinitions:
    return NodeDefinitions(json.loads(gzip.decompress(path.read_bytes())))


ROWS = {row["name"]: row for row in read_lines(GOLDEN / "ui_to_api.jsonl.gz")}
SHARED = {row["name"]: row for row in read_lines(SAMPLES / "convert.jsonl.gz")}


@pytest.fixture(scope="module")
def definitions() -> NodeDefinitions:
    return read_definitions(GOLDEN / "ui_to_api.object_info.json.gz")


@pytest.fixture(scope="module")
def shared_definitions() -> NodeDefinitions:
    return read_definitions(SAMPLES / "convert.object_info.json.gz")


def compared(graph: Graph) -> Graph:
    return {
        key: {"class_type": node.get("class_type"), "inputs": node["inputs"]}
        for key, node in graph.items()
    }


CLASS_NAMED = (
    "The editor queues unknown nodes without a class and ComfyUI can but say that one is missing; "
    "ours names it, so that ComfyUI says which, and a ComfyUI that has it runs it."
)
PART_IDS = (
    "1.58.1 turns group nodes into subgraphs under ids that it draws on each load; 1.32.9's ids "
    "say which part of which node it is, in every run."
)
PER_INSTANCE = (
    "1.58.1 lets proxyWidgets of one instance rewire the definition, so that another instance "
    "loses its value; values are per instance."
)
# name: (which recording to start from, what of it to change, why)
DIFFERENCES: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("api_new", {"2": {"class_type": "Nope"}}, CLASS_NAMED),
    "set_and_get_nodes": (
        "api",
        {"2": {"class_type": "SetNode"}, "3": {"class_type": "GetNode"}},
        CLASS_NAMED,
    ),
    "primitive_proxied_onto_an_unknown_node": (
        "api_new",
        {"1:21": {"class_type": "Nope"}, "1:24": {"class_type": "Nope"}},
        CLASS_NAMED,
    ),
    "promoted_proxy_null": (
        "api",
        {"1:11": {"text": "inner text"}, "1:12": {"seed": 5, "steps": 21}},
        (
            "Beside proxyWidgets null means that the value is not kept there; 1.58.1 queues null "
            "for seed, steps and cfg, which ComfyUI refuses."
        ),
    ),
    "kinds_dict": (
        "api",
        {
            "1": {"m": "mm", "i": 5, "c2": "q"},
            "2": {"i": 5, "f": 2, "s": "s", "m": "m", "b": False, "c": "one", "o": 3, "c2": "q"},
            "3": {"i": 2, "f": 5, "s": "s", "m": "m", "b": False, "c": "one", "o": 3, "c2": "q"},
        },
        (
            "Both editors drop values kept by name unless they are complete and in order; by name "
            "is what they mean."
        ),
    ),
    "prim_inner": (
        "api_new",
        {"1:11": {"text": "from prim"}, "1:12": {"steps": 64}},
        PER_INSTANCE,
    ),
    "sub_fanout": ("api", {}, PER_INSTANCE),
    "link_to_missing": (
        "",
        {
            "2": {
                "class_type": "PSampler",
                "seed": 1,
                "steps": 20,
                "cfg": 8,
                "sampler_name": "euler",
                "denoise": 1,
            }
        },
        (
            "The editor throws; like 1.58.1 with a link that does not exist, ours leaves it out "
            "and warns."
        ),
    ),
    "group_basic": ("api", {}, PART_IDS),
    "group_dup_names": ("api", {}, PART_IDS),
    "group_external": ("api", {}, PART_IDS),
    "group_old_separator": ("api", {}, PART_IDS),
    "group_primitive": ("api", {}, PART_IDS + " 1.58.1 loses the primitive node's value, too."),
    "group_upload": ("api", {}, PART_IDS),
    "group_converted": (
        "api",
        {"2:0": {"width": ["1", 0]}, "2:1": {"steps": ["1", 0]}},
        PART_IDS + " Both editors lose links to inputs that had been widgets, which editors of "
        "the time when there were group nodes kept.",
    ),
    "group_reroute": (
        "api",
        {"2:1": {"image": ["1", 0]}},
        PART_IDS + " Both editors lose a link that enters the group through a reroute.",
    ),
    "group_modes": (
        "api",
        {"2:0": None, "3": {"images": None}, "4:0": None},
        "A muted or bypassed group node takes its parts with it, like every other node.",
    ),
}


def expected(row: dict[str, Any]) -> Graph | None:
    """Return what the row asks for, None where the editor throws."""
    source, changes, _ = DIFFERENCES.get(row["name"], ("", {}, ""))
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


def test_there_are_recorded_pairs() -> None:
    assert len(ROWS) > 60
    assert set(DIFFERENCES) <= set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_converts_as_the_editor_queues(name: str, definitions: NodeDefinitions) -> None:
    row = ROWS[name]
    before = copy.deepcopy(row["ui"])
    converted = ui_to_api(row["ui"], definitions)
    assert compared(converted.graph) == expected(row)
    assert row["ui"] == before


NO_SERVER_INPUT = (
    "The older editor also queues a player or preview widget of its own, which the node class does "
    "not declare and ComfyUI ignores."
)
CONTAINER_MODE = (
    "A muted or bypassed subgraph takes its inner nodes with it; the older editor runs the inner "
    "nodes that are not muted themselves, so that bypassing the container changes nothing."
)
# Shared samples whose recordings differ: which of them is right, and why.
SHARED_DIFFERENCES = {
    "templates/api_from_photo_2_miniature": ("api_new", NO_SERVER_INPUT),
    "templates/api_stability_ai_text_to_audio": ("api_new", NO_SERVER_INPUT),
    "newer/api_wan_image_to_video": ("api_new", NO_SERVER_INPUT),
    "mutated/subgraph_container_and_inner_mode4_video_wan2_2_14B_s2v": (
        "api_new",
        NO_SERVER_INPUT,
    ),
    "mutated/ui_v1_image_flux2_klein_image_edit_9b_distilled": ("api_new", CONTAINER_MODE),
    "mutated/subgraph_container_mode4_video_wan2_2_14B_s2v": (
        "api_new",
        f"{CONTAINER_MODE} {NO_SERVER_INPUT}",
    ),
    "blueprints/depth_to_image_z_image_turbo": (
        "api_new",
        (
            "Two definitions use the same inner ids: the newer editor numbers the later ones anew, "
            "so that each id is one node. Apart from the ids both queue the same."
        ),
    ),
    "blueprints/image_edit_qwen_2511": ("api", DIFFERENCES["promoted_proxy_null"][2]),
    "newer/image_ovis_text_to_image": (
        "api_new",
        (
            "The older editor reads the inner sampler's values from the wrong positions: its seed "
            "becomes the number of steps."
        ),
    ),
    "mutated/dangling_input_link": (
        "api_new",
        (
            "The older editor throws at a link that is not there, the newer one leaves it out, and "
            "ComfyUI then says which input is missing."
        ),
    ),
    "mutated/ui_group_node_edit_default": ("api", PART_IDS),
    "mutated/bypass_cycle": ("", "Both editors throw: bypassed nodes lead in a circle."),
}


def test_every_shared_sample_that_differs_is_listed() -> None:
    differ = {
        name for name, row in SHARED.items() if {"api_new", "error_new", "error"} & row.keys()
    }
    assert differ == (set(SHARED_DIFFERENCES) if SHARED else set())


@pytest.mark.skipif(not SHARED, reason="the shared samples are not beside this repository")
@pytest.mark.parametrize("name", SHARED)
def test_converts_the_shared_samples(name: str, shared_definitions: NodeDefinitions) -> None:
    row = SHARED[name]
    source, _ = SHARED_DIFFERENCES.get(name, ("api", ""))
    if not source:
        with pytest.raises(InvalidRequestError, match="cycle"):
            ui_to_api(row["ui"], shared_definitions)
        return
    wanted = compared(row[source])
    types = {str(node["id"]): node["type"] for node in row["ui"]["nodes"]}
    for key, node in wanted.items():
        node["class_type"] = node["class_type"] or types[key]  # CLASS_NAMED
    assert compared(ui_to_api(row["ui"], shared_definitions).graph) == wanted


def node(key: Any, kind: str, inputs: Any = (), outputs: Any = (), **more: Any) -> dict[str, Any]:
    slots = [{"name": name, "type": sort, "link": link} for name, sort, link in inputs]
    return {
        "id": key,
        "type": kind,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": sort, "type": sort, "links": []} for sort in outputs],
        **more,
    }


def workflow(nodes: list[Any], links: Any = (), **more: Any) -> dict[str, Any]:
    return {"version": 0.4, "nodes": nodes, "links": [list(row) for row in links], **more}


def test_keeps_titles_and_orders_ids_as_javascript(definitions: NodeDefinitions) -> None:
    saved = workflow(
        [
            node(10, "PInt", title="Ten"),
            node("b", "PInt"),
            node(9, "PSrc"),
        ]
    )
    graph = ui_to_api(saved, definitions).graph
    assert list(graph) == ["9", "10", "b"]
    titles = [entry["_meta"]["title"] for entry in graph.values()]
    assert titles == ["Load Probe", "Ten", "PInt"]


def test_takes_plain_object_info(definitions: NodeDefinitions) -> None:
    raw = json.loads(gzip.decompress((GOLDEN / "ui_to_api.object_info.json.gz").read_bytes()))
    row = ROWS["bypass_types"]
    assert ui_to_api(row["ui"], raw) == ui_to_api(row["ui"], definitions)


def test_warns_of_nodes_that_comfyui_would_refuse(definitions: NodeDefinitions) -> None:
    assert ui_to_api(ROWS["kinds_ok"]["ui"], definitions).warnings == []
    assert 'node "My unknown" (Nope): ' in ui_to_api(ROWS["unknown"]["ui"], definitions).warnings[0]
    warnings = ui_to_api(ROWS["link_to_missing"]["ui"], definitions).warnings
    assert any("node PSampler: " in warning and "steps" in warning for warning in warnings)
    warnings = ui_to_api(ROWS["primitive_to_host"]["ui"], definitions).warnings
    assert 'node PrimitiveNode does not set the input steps of node "S" (subgraph)' in warnings[0]


@pytest.mark.parametrize(
    ("saved", "field"),
    [
        ([], "workflow"),
        ({}, "workflow.nodes"),
        ({"3": {"class_type": "KSampler", "inputs": {}}}, "workflow.nodes"),
        (workflow([node(1, "PInt"), 5]), "workflow.nodes[1]"),
        (workflow([{"id": 1}]), "workflow.nodes[0].type"),
        (workflow([{"type": "PInt"}]), "workflow.nodes[0].id"),
        (workflow([{"type": "PInt", "id": True}]), "workflow.nodes[0].id"),
        (workflow([{"type": "PInt", "id": 1, "inputs": {}}]), "workflow.nodes[0].inputs"),
        (workflow([], definitions={"subgraphs": [5]}), "definitions.subgraphs[0]"),
    ],
)
def test_names_the_field_that_is_not_a_workflow(
    saved: Any, field: str, definitions: NodeDefinitions
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ui_to_api(saved, definitions)
    assert caught.value.details["field"] == field


def test_links_are_optional(definitions: NodeDefinitions) -> None:
    graph = ui_to_api({"nodes": [node(1, "PInt", widgets_values=[4])]}, definitions).graph
    assert graph["1"]["inputs"] == {"value": 4}


def chain(kind: str, length: int, mode: int) -> dict[str, Any]:
    """Return a source, `length` nodes to see through, and a sink."""
    nodes = [node(0, "PDecode", outputs=["IMAGE"])]
    name = {"Reroute": "", "PPass": "image"}[kind]
    nodes += [
        node(key, kind, [(name, "IMAGE", key)], ["IMAGE"], mode=mode)
        for key in range(1, length + 1)
    ]
    nodes.append(node("sink", "SaveImage", [("images", "IMAGE", length + 1)]))
    links = [[key, key - 1, 0, key, 0, "IMAGE"] for key in range(1, length + 1)]
    links.append([length + 1, length, 0, "sink", 0, "IMAGE"])
    return workflow(nodes, links)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mode"), [("Reroute", 0), ("PPass", 4)])
def test_resolves_ten_thousand_bypassed_nodes_in_a_chain(
    kind: str, mode: int, definitions: NodeDefinitions
) -> None:
    graph = ui_to_api(chain(kind, 10_000, mode), definitions).graph
    assert graph["sink"]["inputs"]["images"] == ["0", 0]
    assert set(graph) == {"0", "sink"}


def test_many_nodes_linked_to_a_long_chain_take_little_time(definitions: NodeDefinitions) -> None:
    saved = chain("Reroute", 5_000, 0)
    for key in range(5_000):
        saved["nodes"].append(node(f"s{key}", "SaveImage", [("images", "IMAGE", 10_000 + key)]))
        saved["links"].append([10_000 + key, 5_000, 0, f"s{key}", 0, "IMAGE"])
    begun = time.thread_time()
    graph = ui_to_api(saved, definitions).graph
    assert graph["s4999"]["inputs"]["images"] == ["0", 0]
    assert time.thread_time() - begun < 10


@pytest.mark.parametrize(("kind", "mode"), [("Reroute", 0), ("PPass", 4)])
def test_refuses_cycles_as_the_editor_does(
    kind: str, mode: int, definitions: NodeDefinitions
) -> None:
    saved = chain(kind, 3, mode)
    saved["links"][0][1] = 3
    with pytest.raises(InvalidRequestError, match="cycle") as caught:
        ui_to_api(saved, definitions)
    node_id = caught.value.details["field"].removeprefix("node ")
    assert node_id in {"1", "2", "3"}
    assert str(caught.value).startswith(f"node {kind} (id {node_id}) is part of a cycle")


def test_a_cycle_of_executed_nodes_is_converted_and_left_to_comfyui(
    definitions: NodeDefinitions,
) -> None:
    saved = chain("PPass", 2, 0)
    saved["links"][0][1] = 2
    graph = ui_to_api(saved, definitions).graph
    assert graph["1"]["inputs"]["image"] == ["2", 0]


def nested(depth: int, copies: int = 1) -> dict[str, Any]:
    """Return subgraph definitions, each with `copies` of the next inside."""
    subgraphs = [
        {
            "id": f"level-{level}",
            "name": f"Level {level}",
            "nodes": [
                node(1 + level * 10 + key, f"level-{level + 1}", outputs=["INT"])
                for key in range(copies)
            ],
            "inputs": [],
            "outputs": [{"name": "out", "type": "INT", "linkIds": [1]}],
            "links": [
                {
                    "id": 1,
                    "origin_id": 1 + level * 10,
                    "origin_slot": 0,
                    "target_id": -20,
                    "target_slot": 0,
                }
            ],
        }
        for level in range(depth)
    ]
    last = subgraphs[-1]["nodes"]
    last[:] = [node(last[0]["id"], "PInt", outputs=["INT"], widgets_values=[3])]
    sampler = node("s", "PSampler", [("steps", "INT", 7)])
    sampler["inputs"][0]["widget"] = {"name": "steps"}
    host = node("h", "level-0", outputs=["INT"])
    row = [7, "h", 0, "s", 0, "INT"]
    return workflow([host, sampler], [row], definitions={"subgraphs": subgraphs})


def test_duplicate_input_entries_are_converted_as_the_editor_does(
    definitions: NodeDefinitions,
) -> None:
    """As frontends 1.49.6 and 1.58.1 queue them: the first entry of an input, by its name."""
    inner = node(1, "PSampler", [("steps", "INT", 1)], widgets_values=[20])
    inner["inputs"][0]["widget"] = {"name": "steps"}
    inside = {
        "id": "inside",
        "name": "Inside",
        "nodes": [inner],
        "inputs": [{"name": "steps", "type": "INT", "linkIds": [1]}],
        "outputs": [],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0}],
    }
    host = node("h", "inside", [("steps", "INT", None)], widgets_values=[7])
    host["inputs"][0]["widget"] = {"name": "steps"}
    saved = workflow([host], definitions={"subgraphs": [inside]})

    def steps(*entries: Any) -> Any:
        host["properties"] = {"proxyWidgetErrorQuarantine": list(entries)}
        return ui_to_api(saved, definitions).graph["h:1"]["inputs"]["steps"]

    def entry(*original: str, **more: Any) -> dict[str, Any]:
        return {"originalEntry": list(original), "reason": "missingSourceNode", **more}

    assert steps() == 7
    kept = entry("-1", "steps", hostValue=3)
    assert steps(kept, entry("-1", "steps", hostValue=4)) == 3
    assert steps(entry("1", "steps", hostValue=4), entry("-1", "cfg", hostValue=5)) == 7
    assert steps(entry("-1", "steps"), 5, {"hostValue": 6}) == 7


def test_expands_deep_subgraphs(definitions: NodeDefinitions) -> None:
    graph = ui_to_api(nested(400), definitions).graph
    inner = next(key for key in graph if key != "s")
    assert inner.count(":") == 400
    assert graph["s"]["inputs"]["steps"] == [inner, 0]


def test_refuses_a_subgraph_inside_itself(definitions: NodeDefinitions) -> None:
    saved = nested(3)
    saved["definitions"]["subgraphs"][2]["nodes"].append(node(99, "level-0"))
    with pytest.raises(InvalidRequestError, match="contains itself"):
        ui_to_api(saved, definitions)


def test_refuses_subgraphs_that_expand_to_too_many_nodes(definitions: NodeDefinitions) -> None:
    with pytest.raises(InvalidRequestError, match="nodes once its subgraphs are expanded"):
        ui_to_api(nested(40, copies=3), definitions)


def line(text: str) -> dict[str, Any]:
    return workflow([node(1, "PLine", widgets_values=[text])])


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
        ("tail \\", {"tail \\"}),
    ],
)
def test_dynamic_prompts(text: str, possible: set[str], definitions: NodeDefinitions) -> None:
    rng = random.Random(4)
    found = {
        ui_to_api(line(text), definitions, rng=rng).graph["1"]["inputs"]["text"] for _ in range(80)
    }
    assert found == possible


def test_dynamic_prompts_repeat_with_the_same_generator(definitions: NodeDefinitions) -> None:
    saved = line("{0|1|2|3|4|5|6|7|8|9}" * 20)
    once, again = (ui_to_api(saved, definitions, rng=random.Random(9)).graph for _ in range(2))
    other = ui_to_api(saved, definitions, rng=random.Random(10)).graph
    assert once == again != other


def test_many_unclosed_braces_take_bounded_time(definitions: NodeDefinitions) -> None:
    begun = time.thread_time()
    ui_to_api(line("{" * 20_000), definitions)
    assert time.thread_time() - begun < 10


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
def test_patterns_in_file_names(pattern: str, name: str, definitions: NodeDefinitions) -> None:
    saved = workflow(
        [node(1, "SaveImage", widgets_values=[pattern]), node(2, "PInt", widgets_values=[12])]
    )
    now = datetime(2026, 3, 5, 7, 8, 9)
    graph = ui_to_api(saved, definitions, now=now).graph
    assert graph["1"]["inputs"]["filename_prefix"] == name


@pytest.mark.parametrize(
    ("saved", "queued"),
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
def test_numbers_are_written_as_javascript_does(
    saved: str, queued: str, definitions: NodeDefinitions
) -> None:
    values = json.loads(f"[{saved}]")
    graph = ui_to_api(workflow([node(1, "PInt", widgets_values=values)]), definitions).graph
    assert json.dumps(graph["1"]["inputs"]["value"]) == queued


def test_values_are_copied_however_deep(definitions: NodeDefinitions) -> None:
    deep: list[Any] = [float("nan"), 2.0]
    for _ in range(5_000):
        deep = [deep]
    saved = workflow([node(1, "PMulti", widgets_values=[deep, 1])])
    value = ui_to_api(saved, definitions).graph["1"]["inputs"]["tags"]["__value__"]
    for _ in range(5_000):
        assert value is not deep
        value, deep = value[0], deep[0]
    assert json.dumps(value) == "[null, 2]"


@pytest.mark.parametrize("kind", ["PText", "Nope"])
def test_values_too_deep_for_json_cause_no_error(kind: str, definitions: NodeDefinitions) -> None:
    deep: list[Any] = ["a", [], None, [["b", 1.0]]]
    for _ in range(50_000):
        deep = [deep]
    saved = workflow([node(1, kind, widgets_values=[deep])])
    if kind == "Nope":
        with pytest.raises(InvalidRequestError, match="nested too deeply"):
            ui_to_api(saved, definitions)
    else:
        assert ui_to_api(saved, definitions).graph["1"]["inputs"]["text"] == "a,,,b,1"


OLDER = [7, "fixed", 20, 6.5, "extra", "ddim", 0.5]
"""Values of a sampler of a version that had one more widget, by position."""
NAMED = {
    "seed": 7,
    "control_after_generate": "fixed",
    "steps": 20,
    "cfg": 6.5,
    "extra": "extra",
    "sampler_name": "ddim",
    "denoise": 0.5,
}


def test_values_that_do_not_fit_by_position_are_taken_by_name(
    definitions: NodeDefinitions,
) -> None:
    saved = workflow([node(1, "PSampler", widgets_values=OLDER, widgets_values_named=NAMED)])
    converted = ui_to_api(saved, definitions)
    wanted = {key: NAMED[key] for key in ("seed", "steps", "cfg", "sampler_name", "denoise")}
    assert converted.graph["1"]["inputs"] == wanted
    (warning,) = converted.warnings
    assert warning.startswith("node PSampler: ")
    assert "taken by name" in warning
    again = workflow([saved["nodes"][0], node(2, "PSampler"), node(3, "PSampler", title="Last")])
    assert ui_to_api(again, definitions).warnings[0].startswith("node PSampler (id 1): ")
    again["nodes"][1]["mode"] = 2
    assert ui_to_api(again, definitions).warnings[0].startswith("node PSampler: ")
    moved = {**NAMED, "denoise": "ddim", "sampler_name": "extra"}  # they do not help
    saved["nodes"][0]["widgets_values_named"] = moved
    assert ui_to_api(saved, definitions).graph["1"]["inputs"]["sampler_name"] == "extra"
    assert "denoise must be a number" in ui_to_api(saved, definitions).warnings[0]


def test_values_that_fit_by_position_stay_whatever_the_names_say(
    definitions: NodeDefinitions,
) -> None:
    by_position = [1, "fixed", 2, 3.0, "euler", 0.25]
    saved = workflow([node(1, "PSampler", widgets_values=by_position, widgets_values_named=NAMED)])
    converted = ui_to_api(saved, definitions)
    assert list(converted.graph["1"]["inputs"].values()) == [1, 2, 3.0, "euler", 0.25]
    assert converted.warnings == []
    saved["nodes"][0]["widgets_values"][2] = None
    assert ui_to_api(saved, definitions).graph["1"]["inputs"]["steps"] is None


def test_promoted_values_that_do_not_fit_by_position_are_taken_by_name(
    definitions: NodeDefinitions,
) -> None:
    saved = copy.deepcopy(ROWS["promoted_plain"]["ui"])
    host = saved["nodes"][0]
    host["widgets_values"] = ["gone", "words", 33, 77]
    host["widgets_values_named"] = {"gone": "gone", "text": "words", "steps": 33, "seed": 77}
    converted = ui_to_api(saved, definitions)
    assert converted.graph["1:11"]["inputs"]["text"] == "words"
    inner = converted.graph["1:12"]["inputs"]
    assert (inner["steps"], inner["seed"]) == (33, 77)
    assert "taken by name" in converted.warnings[0]


JUNK_NUMBERS = [True, -1, 0, 2, 4, 10**30, 1.5, float("inf")]
JUNK = st.sampled_from([None, *JUNK_NUMBERS, "", "x", "-10", [], [1], [[]], {}, {"a": 1}])


def places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        holder = pending.pop()
        if isinstance(holder, (dict, list)):
            keys = holder if isinstance(holder, dict) else range(len(holder))
            found.extend((holder, key) for key in keys)
            pending.extend(holder[key] for key in keys)
    return found


@settings(
    max_examples=examples(300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), name=st.sampled_from(sorted(ROWS)))
def test_malformed_input_gives_a_graph_or_a_clear_error(
    data: st.DataObject, name: str, definitions: NodeDefinitions
) -> None:
    saved = copy.deepcopy(ROWS[name]["ui"])
    for _ in range(data.draw(st.integers(1, 3))):
        spots = places(saved)
        holder, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        holder[key] = copy.deepcopy(data.draw(JUNK))
    try:
        graph = ui_to_api(saved, definitions).graph
    except InvalidRequestError as error:
        assert error.details["field"]  # noqa: PT017 - it may as well succeed
    else:
        assert all(isinstance(entry["class_type"], str) for entry in graph.values())
        json.dumps(graph, allow_nan=False)
