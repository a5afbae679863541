from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs import definitions as definitions_module
from comfydeploy_jupyter.graphs.definitions import MISSING, NodeDefinitions
from comfydeploy_jupyter.graphs.models import model_links

GOLDEN = Path(__file__).parents[1] / "golden" / "ui_to_api.object_info.json.gz"


@pytest.fixture(scope="module")
def definitions() -> NodeDefinitions:
    return NodeDefinitions(json.loads(gzip.decompress(GOLDEN.read_bytes())))


def shape(definitions: NodeDefinitions, name: str) -> list[tuple[str, bool, bool]]:
    known = definitions.get(name)
    assert known is not None
    return [(widget.name, widget.stored, widget.emitted) for widget in known.widgets]


def test_control_widgets_are_stored_and_never_emitted(definitions: NodeDefinitions) -> None:
    control = ("control_after_generate", True, False)
    assert shape(definitions, "PControl") == [
        ("noise_seed", True, True),
        control,
        ("ctl", True, True),
        control,
        ("seed", True, True),
        ("combo", True, True),
        control,
        ("control_filter_list", True, False),
        ("fl", True, True),
        control,
        ("last", True, True),
    ]


def test_widgets_that_only_the_editor_has(definitions: NodeDefinitions) -> None:
    assert shape(definitions, "PUpload")[-1] == ("upload", True, False)
    assert shape(definitions, "LoadAudio") == [
        ("audio", True, True),
        ("audioUI", False, False),
        ("upload", True, False),
    ]
    assert shape(definitions, "PreviewAny") == []


def test_sockets_come_before_widget_inputs(definitions: NodeDefinitions) -> None:
    known = definitions.get("PKinds")
    assert known is not None
    names = [(socket.name, socket.type, socket.has_widget) for socket in known.sockets]
    assert names[0] == ("forced", "FLOAT", False)
    assert ("c", "COMBO", True) in names


def test_an_empty_combo_has_no_default(definitions: NodeDefinitions) -> None:
    known = definitions.get("LoadVideo")
    assert known is not None
    assert known.lay_out(None)[0][1] is MISSING
    assert known.lay_out(["a.mp4"])[0][1] == "a.mp4"


def test_unknown_classes_and_foreign_json(definitions: NodeDefinitions) -> None:
    assert definitions.get("Nope") is None
    assert "PInt" in definitions
    assert len(definitions) == len(list(definitions))
    with pytest.raises(InvalidRequestError, match="object_info"):
        NodeDefinitions([])  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"input": None, "output": None},
        {"input": {"required": {"a": [], "b": "INT", "c": None, "d": ["COMBO"], "e": [5]}}},
        {"input": {"required": []}, "input_order": {"required": 5}, "output": 3},
        {"input": {"required": {"a": ["COMFY_DYNAMICCOMBO_V3"], "b": ["COMFY_AUTOGROW_V3", {}]}}},
    ],
)
def test_malformed_definitions_cause_no_error(entry: dict[str, Any]) -> None:
    known = NodeDefinitions({"Odd": entry}).get("Odd")
    assert known is not None
    assert known.title == "Odd"
    known.lay_out([1, 2, 3])


def test_declared_inputs_reads_both_formats_of_a_choice() -> None:
    definitions: dict[str, Any] = {
        "A": {
            "input": {
                "required": {
                    "n": ["INT", {"min": 1}],
                    "old": [["a", "b"]],
                    "new": ["COMBO", {"options": ["c"], "tooltip": "t"}],
                    "model": ["MODEL"],
                },
                "optional": {"more": ["STRING", {}]},
                "hidden": {"prompt": "PROMPT"},
            }
        }
    }
    known = NodeDefinitions(definitions)
    specs = known.declared("A")
    assert list(specs) == ["n", "old", "new", "model", "more"]
    read = [(spec.type, spec.options, spec.choices) for spec in specs.values()]
    assert read[:2] == [("INT", {"min": 1}, None), ("COMBO", {}, ["a", "b"])]
    assert specs["new"].choices == ["c"]
    assert known.declared("B") == {} == NodeDefinitions.of(None).declared("A")


def test_groups_without_a_prefix_have_the_names_of_the_editor() -> None:
    slots = {"required": {"image": ["IMAGE", {}], "mask": ["MASK", {}]}}
    group = ["COMFY_AUTOGROW_V3", {"template": {"input": slots, "min": 1, "max": 5}}]
    known = NodeDefinitions({"A": {"input": {"required": {"g": group}}}}).get("A")
    assert known is not None
    names = [socket.name for socket in known.sockets]
    assert names == ["g.image0", "g.mask0", "g.image1", "g.mask1", "g."]


def test_the_slots_of_a_group_that_cannot_grow_are_not_read(monkeypatch: Any) -> None:
    many = {"required": {f"i{n}": ["IMAGE", {}] for n in range(1000)}}
    inner = ["COMFY_AUTOGROW_V3", {"template": {"input": many, "prefix": "p", "max": 0}}]
    outer = {"input": {"required": {"h": inner}}, "prefix": "p", "min": 50, "max": 100}
    entry = {"input": {"required": {"g": ["COMFY_AUTOGROW_V3", {"template": outer}]}}}
    made = []
    init = definitions_module.Input.__init__
    monkeypatch.setattr(
        definitions_module.Input, "__init__", lambda self, *a: made.append(a[0]) or init(self, *a)
    )
    known = NodeDefinitions({"A": entry}).get("A")
    assert known is not None
    assert len(known.sockets) == 52
    assert len(made) < 200


def test_a_link_is_found_although_the_model_is_first_listed_without_one() -> None:
    plain = {"name": "a.safetensors", "directory": "loras"}
    linked = {**plain, "url": "https://example.com/a.safetensors"}
    assert model_links({"models": [plain, linked]})["a.safetensors"].url == linked["url"]
