from __future__ import annotations

from typing import Any

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs import definitions as definitions_module
from comfydeploy_jupyter.graphs.definitions import MISSING, NodeClass, NodeDefinitions
from comfydeploy_jupyter.graphs.models import model_links
from tests.helpers.graphs import declared, probe_definitions

DEFINITIONS = probe_definitions()


def known(name: str, definitions: NodeDefinitions = DEFINITIONS) -> NodeClass:
    found = definitions.get(name)
    assert found is not None
    return found


def shape(name: str) -> list[tuple[str, bool, bool]]:
    return [(widget.name, widget.stored, widget.emitted) for widget in known(name).widgets]


def test_control_widgets_are_stored_and_never_emitted() -> None:
    control = ("control_after_generate", True, False)
    assert shape("PControl") == [
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


def test_widgets_that_only_the_editor_has() -> None:
    assert shape("PUpload")[-1] == ("upload", True, False)
    assert shape("LoadAudio") == [
        ("audio", True, True),
        ("audioUI", False, False),
        ("upload", True, False),
    ]
    assert shape("PreviewAny") == []


def test_sockets_come_before_widget_inputs() -> None:
    sockets = known("PKinds").sockets
    names = [(socket.name, socket.type, socket.has_widget) for socket in sockets]
    assert names[0] == ("forced", "FLOAT", False)
    assert ("c", "COMBO", True) in names


def test_an_empty_combo_has_no_default() -> None:
    video = known("LoadVideo")
    assert video.lay_out(None)[0][1] is MISSING
    assert video.lay_out(["a.mp4"])[0][1] == "a.mp4"


def test_unknown_classes_and_foreign_json() -> None:
    assert DEFINITIONS.get("Nope") is None
    assert "PInt" in DEFINITIONS
    assert len(DEFINITIONS) == len(list(DEFINITIONS))
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
    odd = known("Odd", NodeDefinitions({"Odd": entry}))
    assert odd.title == "Odd"
    odd.lay_out([1, 2, 3])


def test_declared_inputs_reads_both_formats_of_a_choice() -> None:
    entry = declared(
        n=["INT", {"min": 1}],
        old=[["a", "b"]],
        new=["COMBO", {"options": ["c"], "tooltip": "t"}],
        model=["MODEL"],
    )
    entry["input"] |= {"optional": {"more": ["STRING", {}]}, "hidden": {"prompt": "PROMPT"}}
    definitions = NodeDefinitions({"A": entry})
    specs = definitions.declared("A")
    assert list(specs) == ["n", "old", "new", "model", "more"]
    read = [(spec.type, spec.options, spec.choices) for spec in specs.values()]
    assert read[:2] == [("INT", {"min": 1}, None), ("COMBO", {}, ["a", "b"])]
    assert specs["new"].choices == ["c"]
    assert definitions.declared("B") == {} == NodeDefinitions.of(None).declared("A")


def test_a_type_that_is_neither_text_nor_a_list_is_no_combo() -> None:
    odd = known("A", NodeDefinitions({"A": declared(n=[5], o=[{"a": 1}, {}])}))
    assert [(socket.type, socket.has_widget) for socket in odd.sockets] == [("*", False)] * 2


def test_groups_without_a_prefix_have_the_names_of_the_editor() -> None:
    slots = {"required": {"image": ["IMAGE", {}], "mask": ["MASK", {}]}}
    grown = ["COMFY_AUTOGROW_V3", {"template": {"input": slots, "min": 1, "max": 5}}]
    sockets = known("A", NodeDefinitions({"A": declared(g=grown)})).sockets
    assert [socket.name for socket in sockets] == [
        "g.image0",
        "g.mask0",
        "g.image1",
        "g.mask1",
        "g.",
    ]


def test_the_slots_of_a_group_that_cannot_grow_are_not_read(monkeypatch: Any) -> None:
    many = {"required": {f"i{n}": ["IMAGE", {}] for n in range(1000)}}
    inner = ["COMFY_AUTOGROW_V3", {"template": {"input": many, "prefix": "p", "max": 0}}]
    outer = {"input": {"required": {"h": inner}}, "prefix": "p", "min": 50, "max": 100}
    entry = declared(g=["COMFY_AUTOGROW_V3", {"template": outer}])
    made = []
    init = definitions_module.Input.__init__
    monkeypatch.setattr(
        definitions_module.Input, "__init__", lambda self, *a: made.append(a[0]) or init(self, *a)
    )
    assert len(known("A", NodeDefinitions({"A": entry})).sockets) == 52
    assert len(made) < 200


def test_a_link_is_found_although_the_model_is_first_listed_without_one() -> None:
    plain = {"name": "a.safetensors", "directory": "loras"}
    linked = {**plain, "url": "https://example.com/a.safetensors"}
    assert model_links({"models": [plain, linked]})["a.safetensors"].url == linked["url"]
