"""Differences between graphs, in plain words."""

import copy

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.diff import diff_graphs
from comfydeploy_jupyter.graphs.formats import check_api_graph
from tests.helpers.graphs import node, saved

SAMPLED = {"seed": 1, "steps": 20, "cfg": 8.0, "model": ["4", 0], "positive": ["6", 0]}
API = {
    "3": node("KSampler", "Sampler", **SAMPLED),
    "4": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
}
SLOTS = [
    {"name": "model", "type": "MODEL", "link": 1},
    {"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": None},
    {"name": "steps", "type": "INT", "widget": {"name": "steps"}, "link": None},
]
UI = {
    "nodes": [
        {**saved(3, "KSampler", [1, "randomize", 20], pos=[0, 0], mode=0), "inputs": SLOTS},
        saved(4, "Loader", ["a"], title="Base"),
        saved(9, "sub-1", []),
    ],
    "links": [[1, 4, 0, 3, 0, "MODEL"]],
    "definitions": {
        "subgraphs": [
            {
                "id": "sub-1",
                "name": "Upscale",
                "nodes": [
                    saved(1, "Scale", [2.0], [("image", 5)]),
                    saved(2, "Blur", {"radius": 1}),
                ],
                "links": [{"id": 5, "origin_id": -10, "origin_slot": 0, "target_id": 1}],
            }
        ]
    },
}


def edited(graph, edit):
    changed = copy.deepcopy(graph)
    edit(changed)
    return changed


def lora(graph):
    graph["10"] = node("LoraLoader", "Hair")
    graph["3"]["inputs"]["model"] = ["10", 0]


def with_inputs(**values):
    return lambda graph: graph["3"]["inputs"].update(values)


CHECKPOINT = "CheckpointLoaderSimple, output 0"


@pytest.mark.parametrize(
    ("edit", "lines"),
    [
        (lambda g: None, []),
        (lambda g: g.update({"7": node("Nap", "Nap")}), ["added Nap"]),
        (lambda g: g.pop("6"), ["removed CLIPTextEncode"]),
        (with_inputs(steps=30), ["*: steps 20 → 30"]),
        (with_inputs(cfg=8), []),
        (with_inputs(seed=True), ["*: seed 1 → true"]),
        (lambda g: g["3"]["inputs"].pop("cfg"), ["*: cfg 8.0 → not set"]),
        (with_inputs(denoise=None), ["*: denoise not set → null"]),
        (
            lora,
            [
                'added "Hair" (LoraLoader)',
                f'*: model now comes from "Hair" (LoraLoader), output 0, was {CHECKPOINT}',
            ],
        ),
        (with_inputs(seed=["6", 1]), ["*: seed now comes from CLIPTextEncode, output 1, was 1"]),
        (
            with_inputs(positive="x"),
            ['*: positive no longer comes from CLIPTextEncode, output 0, but is "x"'],
        ),
        (
            lambda g: g["3"]["inputs"].pop("positive"),
            ["*: positive no longer comes from CLIPTextEncode, output 0"],
        ),
        (
            with_inputs(model=["99", 2]),
            [f"*: model now comes from node 99, output 2, was {CHECKPOINT}"],
        ),
        (
            lambda g: g["3"].update(class_type="KSamplerAdvanced"),
            ['* became "Sampler" (KSamplerAdvanced)'],
        ),
        (lambda g: g["3"]["_meta"].update(title="Final"), ["* is now called 'Final'"]),
    ],
)
def test_api_graphs(edit, lines):
    changes = [str(change) for change in diff_graphs(API, edited(API, edit))]
    assert changes == [line.replace("*", '"Sampler" (KSampler)') for line in lines]


def drawn(graph, node_id):
    return next(n for n in graph["nodes"] if n["id"] == node_id)


def inner(graph, node_id):
    return drawn(graph["definitions"]["subgraphs"][0], node_id)


@pytest.mark.parametrize(
    ("edit", "lines"),
    [
        (
            lambda g: drawn(g, 3).update(widgets_values=[1, "fixed", 30]),
            ['KSampler: seed control "randomize" → "fixed"', "KSampler: steps 20 → 30"],
        ),
        (
            lambda g: drawn(g, 4).update(widgets_values=["b"]),
            ['"Base" (Loader): value 1 "a" → "b"'],
        ),
        (lambda g: drawn(g, 3).update(mode=2), ["KSampler is now muted"]),
        (lambda g: drawn(g, 3).update(mode=4), ["KSampler is now bypassed"]),
        (
            lambda g: g.update(links=[]),
            ['KSampler: model no longer comes from "Base" (Loader), output 0'],
        ),
        (lambda g: g["nodes"].pop(2), ["removed Upscale"]),
        (
            lambda g: inner(g, 2).update(widgets_values={"radius": 3}),
            ['Blur in subgraph "Upscale": radius 1 → 3'],
        ),
        (
            lambda g: inner(g, 1)["inputs"][0].update(link=None),
            ['Scale in subgraph "Upscale": image no longer comes from input 0 of the subgraph'],
        ),
    ],
)
def test_ui_graphs(edit, lines):
    assert [str(change) for change in diff_graphs(UI, edited(UI, edit))] == lines


def test_nodes_that_are_named_alike_in_either_graph_have_their_ids():
    twin = edited(API, lambda g: g.update({"7": {**g["3"], "inputs": {"steps": 5}}}))
    assert str(diff_graphs(API, twin)) == 'added "Sampler" (KSampler, id 7)'
    moved = edited(twin, lambda g: g.pop("3"))
    assert str(diff_graphs(API, moved)).splitlines() == [
        'removed "Sampler" (KSampler, id 3)',
        'added "Sampler" (KSampler, id 7)',
    ]
    more = edited(UI, lambda g: g["nodes"].append({"id": 2, "type": "Blur"}))
    changed = edited(more, lambda g: inner(g, 2).update(widgets_values={"radius": 3}))
    assert str(diff_graphs(more, changed)) == 'Blur in subgraph "Upscale": radius 1 → 3'


def test_a_changed_layout_is_no_difference():
    moved = edited(UI, lambda g: drawn(g, 3).update(pos=[5, 5]))
    diff = diff_graphs(UI, moved)
    assert (bool(diff), diff.layout, str(diff)) == (False, True, "only the layout differs")
    same = diff_graphs(UI, copy.deepcopy(UI))
    assert (bool(same), same.layout, str(same)) == (False, False, "no differences")


def test_what_comfyui_adds_to_nodes_is_no_difference():
    added = {"_loop_body": ["2"], "_loop_end": "3", "is_changed": [float("nan")]}
    start = {"class_type": "StartLoop", "inputs": {"mode": "simple"}}
    assert str(diff_graphs({"1": start}, {"1": {**start, **added}})) == "no differences"
    assert check_api_graph({"1": {**start, **added}}) == {"1": start}


def test_long_texts_are_shown_where_they_differ():
    text = "a very long prompt, " * 10
    old = edited(API, lambda g: g["6"]["inputs"].update(text=f"{text}of a cat{text}"))
    new = edited(API, lambda g: g["6"]["inputs"].update(text=f"{text}of a dog{text}"))
    (change,) = diff_graphs(old, new)
    assert (change.old, change.new) == (f"{text}of a cat{text}", f"{text}of a dog{text}")
    shown = "…y long prompt, of a {}a very long prompt, a very long promp…"
    cat, dog = map(shown.format, ("cat", "dog"))
    assert change.text == f'CLIPTextEncode: text "{cat}" → "{dog}"'


def test_graphs_of_different_formats_are_not_compared():
    with pytest.raises(InvalidRequestError, match="new: "):
        diff_graphs(API, UI)
    with pytest.raises(InvalidRequestError, match="old: "):
        diff_graphs({}, API)
