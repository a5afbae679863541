from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.graphs.definitions import MAX_GROWN, NodeDefinitions
from comfydeploy_jupyter.graphs.formats import inputs_of, is_link
from comfydeploy_jupyter.graphs.validation import Validation, validate_prompt
from comfydeploy_jupyter.graphs.versions import EARLIER, TODAY, behaviour_of
from tests.graphs.validation_prompts import (
    EMPTY,
    IMAGE,
    NODES,
    OF_VALUES,
    TWO_OUTPUTS,
    VALUES,
    chain,
    comparable,
    comparable_result,
    make_files,
    places,
    post_prompt,
    wait_until_idle,
    with_input,
    without_input,
)
from tests.helpers.graphs import declared, node, recorded
from tests.helpers.selection import examples

SHOW: dict[str, Any] = {
    **declared(source=["*", {}]),
    "output": [],
    "output_node": True,
    "python_module": "nodes",
}


@pytest.fixture(scope="module")
def rules() -> NodeDefinitions:
    return NodeDefinitions(recorded("validate.object_info.json.gz"))


@pytest.fixture(scope="module")
def today() -> NodeDefinitions:
    return NodeDefinitions(recorded("validate_today.object_info.json.gz"))


def custom(**changes: Any) -> dict[str, Any]:
    """Return definitions of a node of others and of an output node."""
    info = {"output": ["INT"], "output_node": False, "python_module": "custom_nodes.pack"}
    return {"Custom": {**declared(n=["INT", {"max": 5}]), **info, **changes}, "Show": SHOW}


def custom_with(**inputs: Any) -> dict[str, Any]:
    return custom(**declared(**inputs))


def schema3(**inputs: Any) -> dict[str, Any]:
    """Return definitions of a V3 node of others and of an output node."""
    flags = {"api_node": False, "deprecated": False, "experimental": False}
    return custom(**flags, **declared(**inputs))


def shown(**inputs: Any) -> dict[str, Any]:
    """Return a prompt that shows a node of others."""
    return {"1": node("Custom", **inputs), "2": node("Show", source=["1", 0])}


def types_of(result: Validation, node_id: str) -> list[str]:
    return [error["type"] for error in result.node_errors[node_id]["errors"]]


def exists_in(base: Any, folder: str, path: str, *, outside: bool) -> bool:
    """Return whether ComfyUI finds a file; files outside the folder only if it searches there."""
    target = base / folder / path
    try:
        inside = target.resolve().is_relative_to(base / folder)
    except ValueError:  # a null byte
        return False
    return target.exists() and (outside or inside)


@pytest.mark.parametrize("name", ["validate", "validate_today"])
def test_results_equal_recorded_replies_of_comfyui(name: str, tmp_path: Any) -> None:
    make_files(tmp_path)
    rules = NodeDefinitions(recorded(f"{name}.object_info.json.gz"))
    earlier = name == "validate"

    def is_same(line: dict[str, Any]) -> bool:
        result = validate_prompt(
            line["prompt"],
            rules,
            files=lambda folder, path: exists_in(tmp_path, folder, path, outside=earlier),
        )
        if line.get("raises"):
            return result.raises is not None and not result.valid
        expected = comparable(line["valid"], line["error"], line["node_errors"])
        return comparable_result(result) == expected and result.raises is None

    lines = recorded(f"{name}.jsonl.gz")
    assert len(lines) > 500
    assert [line["name"] for line in lines if not is_same(line)] == []


def test_validation_does_not_change_the_prompt(rules: NodeDefinitions) -> None:
    prompt = copy.deepcopy(IMAGE)
    prompt["1"]["inputs"]["width"] = {"__value__": "64"}
    before = copy.deepcopy(prompt)
    assert validate_prompt(prompt, rules).valid
    assert prompt == before


def test_outputs_are_those_that_comfyui_would_execute(rules: NodeDefinitions) -> None:
    prompt = without_input(TWO_OUTPUTS, "2", "image")
    result = validate_prompt(prompt, rules)
    assert (result.valid, result.error, result.outputs) == (True, None, ["good"])
    assert result.node_errors["2"]["dependent_outputs"] == ["other"]
    ends = "has errors, or depends on nodes with errors; it will not be executed."
    assert result.warnings == [f"Node other (PreviewImage) {ends}"]
    for title, name in (("Last", '"Last"'), ("Twice", "other"), ("PreviewImage", "other")):
        prompt["other"]["_meta"] = {"title": title}
        prompt["2"]["_meta"] = {"title": "Twice"}
        (warning,) = validate_prompt(prompt, rules).warnings
        assert warning.startswith(f"Node {name} (PreviewImage) has errors")


def test_inputs_that_would_end_comfyuis_worker_are_refused(rules: NodeDefinitions) -> None:
    for inputs in (None, [], "text", 0.5):
        prompt = {**TWO_OUTPUTS, "9": {"class_type": "ImageInvert", "inputs": inputs}}
        result = validate_prompt(prompt, rules)
        assert result.valid
        assert "Node 9 (ImageInvert) has no object of inputs" in result.warnings[0]


@pytest.mark.parametrize("others", [("1",), ("2", "1")])
def test_validation_of_a_cycle_ends(rules: NodeDefinitions, others: tuple[str, ...]) -> None:
    cycle = {str(n): node("ImageInvert", image=[other, 0]) for n, other in enumerate(others, 1)}
    result = validate_prompt({**cycle, "3": node("PreviewImage", images=["1", 0])}, rules)
    assert not result.valid
    assert result.node_errors == {}  # ComfyUI forgets the error on its way back
    assert "cycle" in result.warnings[0]


def test_validation_of_many_cycles_ends(rules: NodeDefinitions) -> None:
    prompt = {
        str(i): node("ImageBlend", image1=[str((i + 1) % 60), 0], image2=[str((i * 7 + 3) % 60), 0])
        for i in range(60)
    }
    prompt["out"] = node("PreviewImage", images=["0", 0])
    assert not validate_prompt(prompt, rules).valid


def test_long_chains(rules: NodeDefinitions) -> None:
    short = validate_prompt(chain(900), rules)
    assert list(short.node_errors) == ["0"]
    long = validate_prompt(chain(10_000), rules)
    assert not long.valid
    [(node_id, entry)] = long.node_errors.items()
    assert 9_000 < int(node_id) < 9_040
    assert entry["errors"][0]["extra_info"]["exception_type"] == "RecursionError"
    assert "chain of more than" in long.warnings[0]


def test_graphs_on_which_comfyui_would_fail_give_warnings(rules: NodeDefinitions) -> None:
    prompt = {**OF_VALUES, "deep": node("EmptyImage", width=deep(1))}
    prompt |= {str(n): node("ImageInvert", image=[str(n - 1), 0]) for n in range(7001, 7700)}
    result = validate_prompt(prompt, rules)
    assert result.valid
    assert len(result.warnings) == 2
    assert "nodes in a row" in result.warnings[0]
    assert result.warnings[1].startswith(
        "Node deep (EmptyImage) has more than 200 nested lists or objects"
    )


def deep(value: Any) -> Any:
    for _ in range(50_000):
        value = {"__value__": [value]}
    return value


def test_deeply_nested_values(rules: NodeDefinitions) -> None:
    for node_id, name in places(OF_VALUES):
        prompt = with_input(OF_VALUES, node_id, name, None)
        prompt[node_id]["inputs"][name] = deep(1)
        assert isinstance(validate_prompt(prompt, rules), Validation)


json_values = st.recursive(
    st.sampled_from([*VALUES, "class_type", "inputs", EMPTY]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["1", "2", "class_type", "inputs", "image", "images"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=examples(300))
@given(prompt=json_values, workflow=json_values)
def test_hostile_prompts_get_an_answer(rules: NodeDefinitions, prompt: Any, workflow: Any) -> None:
    result = validate_prompt(prompt, rules, workflow=workflow)
    assert not result.valid or result.outputs
    json.dumps(vars(result))


@settings(max_examples=examples(300))
@given(definition=json_values, inputs=json_values)
def test_hostile_definitions_get_an_answer(definition: Any, inputs: Any) -> None:
    for info in (
        definition,
        {"input": definition, "output_node": True},
        {"input": {"required": definition}, "output": definition, "output_node": True},
        {"input": {"required": {"image": definition}}, "output_node": True},
    ):
        prompt = {"1": {"class_type": "Odd", "inputs": inputs}}
        assert isinstance(validate_prompt(prompt, {"Odd": info}), Validation)


def test_missing_nodes_with_their_pack() -> None:
    prompt = {"1": node("Show", source=["2", 0]), "2": node("Gone"), "3": node("Other")}
    prompt["4"] = node("Gone")
    gone = {"nodes": [{"type": "Gone", "properties": {"cnr_id": "gone-pack"}}]}
    workflow = {
        "nodes": [{"type": "Other", "properties": {"aux_id": "someone/other-nodes"}}],
        "definitions": {"subgraphs": [gone]},
    }
    result = validate_prompt(prompt, custom(), workflow=workflow)
    assert result.error is not None
    assert result.error["message"] == "Node 'Gone' not found. The custom node may not be installed."
    assert result.missing_nodes == [
        {"class_type": "Gone", "node_ids": ["2", "4"], "pack": "gone-pack"},
        {"class_type": "Other", "node_ids": ["3"], "pack": "someone/other-nodes"},
    ]
    assert "pack" not in validate_prompt(prompt, custom()).missing_nodes[0]


def test_missing_models_with_folder_and_link(rules: NodeDefinitions) -> None:
    prompt = {
        "1": node("CheckpointLoaderSimple", ckpt_name={"__value__": "other.ckpt"}),
        "3": node("LoraLoader", model=["1", 0], clip=["1", 1], lora_name="sub/new.safetensors"),
        "7": node("PreviewAny", source=["3", 0]),
    }
    models = [{"name": "new.safetensors", "url": "https://example.org/new", "directory": "loras"}]
    workflow = {"nodes": [{"type": "LoraLoader", "properties": {"models": models}}]}
    checkpoint = {"name": "other.ckpt", "folder": "checkpoints", "node_id": "1"}
    lora = {"name": "sub/new.safetensors", "folder": "loras", "node_id": "3", "input": "lora_name"}
    result = validate_prompt(prompt, rules, workflow=workflow)
    assert result.missing_models == [
        {**checkpoint, "input": "ckpt_name"},
        {**lora, "url": "https://example.org/new"},
    ]
    assert "value_not_in_list" in types_of(result, "3")


def test_missing_models_of_other_nodes() -> None:
    definitions = custom_with(weights=[["a.gguf"]], mode=[["fast"]])
    prompt = shown(weights="b.gguf", mode="slow")
    missing = {"name": "b.gguf", "folder": None, "node_id": "1", "input": "weights"}
    assert validate_prompt(prompt, definitions).missing_models == [missing]
    workflow = {"models": [{"name": "b.gguf", "url": "https://example.org/b", "directory": "unet"}]}
    [entry] = validate_prompt(prompt, definitions, workflow=workflow).missing_models
    assert (entry["folder"], entry["url"]) == ("unet", "https://example.org/b")


def test_choices_in_the_newer_format() -> None:
    definitions = custom_with(mode=["COMBO", {"options": ["fast"]}])
    result = validate_prompt(shown(mode="slow"), NodeDefinitions(definitions, version="0.3.75"))
    assert result.valid
    assert "'slow' for 'mode'" in result.warnings[0]
    result = validate_prompt(shown(mode="slow"), NodeDefinitions(definitions, version="0.33.0"))
    [error] = result.node_errors["1"]["errors"]
    assert error["details"] == "mode: 'slow' not in ['fast']"


def test_several_choices() -> None:
    definitions = custom_with(modes=["COMBO", {"options": ["a", "b"], "multiselect": True}])
    for value, wrong in ((["a", "b"], ""), ("a", ""), (["a", "x", 5], "'x', 5"), ("x", "'x'")):
        several = {"__value__": value} if isinstance(value, list) else value
        result = validate_prompt(shown(modes=several), definitions)
        assert result.valid is not bool(wrong)
        if wrong:
            [error] = result.node_errors["1"]["errors"]
            assert error["details"] == f"modes: {wrong} not in ['a', 'b']"


def test_uncertain_errors_of_custom_nodes_give_warnings() -> None:
    result = validate_prompt(shown(n=9), custom())
    assert types_of(result, "1") == ["value_bigger_than_max"]
    assert "comes from a node pack" in result.warnings[0]
    assert validate_prompt(shown(n=9), custom(python_module="nodes")).warnings == []


def test_any_type_of_custom_nodes_is_accepted_with_a_warning() -> None:
    definitions = custom_with(any=["*"])
    prompt = {"0": node("Custom", any=1), **shown(any=["0", 0])}
    result = validate_prompt(prompt, NodeDefinitions(definitions, version="0.3.75"))
    assert result.valid
    assert "the type '*'" in result.warnings[0]
    result = validate_prompt(prompt, definitions)
    assert (result.valid, result.warnings) == (True, [])


def test_union_types() -> None:
    for wanted, valid in (("FLOAT, INT", True), ("INTEGER,FLOAT", False), (["INT"], False)):
        definitions = {**custom(), "Show": {**SHOW, **declared(source=[wanted])}}
        result = validate_prompt(shown(n=1), definitions)
        assert result.valid is valid
        assert valid or types_of(result, "2") == ["return_type_mismatch"]


def test_choices_are_compared_with_pythons_equality() -> None:
    definitions = custom_with(n=[[1, 2, "auto", None]])
    for value, valid in ((True, True), (1.0, True), (None, True), ("1", False), (False, False)):
        assert validate_prompt(shown(n=value), definitions).valid is valid
    long = custom_with(n=[[str(i) for i in range(21)]])
    [error] = validate_prompt(shown(n="x"), long).node_errors["1"]["errors"]
    assert error["details"] == "n: 'x' not in (list of length 21)"
    assert error["extra_info"]["input_config"] is None


def test_cycles_are_reported(today: NodeDefinitions) -> None:
    prompt = {
        "1": node("ImageInvert", image=["5", 0]),
        "2": EMPTY,
        "3": node("PreviewImage", images=["1", 0]),
        "4": node("PreviewImage", images=["2", 0]),
        "5": node("ImageInvert", image=["1", 0]),
    }
    result = validate_prompt(prompt, today)
    assert result.valid
    assert result.outputs == ["4"]
    path = "1 (ImageInvert) -> 5 (ImageInvert) -> 1 (ImageInvert)"
    for node_id in ("1", "5"):
        [error] = result.node_errors[node_id]["errors"]
        assert (error["type"], error["details"]) == ("dependency_cycle", path)
        assert error["extra_info"] == {"node_id": node_id, "cycle_nodes": ["1", "5"]}
    ring = {str(i): node("ImageInvert", image=[str((i + 1) % 900), 0]) for i in range(900)}
    result = validate_prompt({**ring, "out": node("PreviewImage", images=["0", 0])}, today)
    assert len(result.node_errors) == 900


def test_autogrow_inputs(today: NodeDefinitions) -> None:
    preview = node("PreviewImage", images=["2", 0])
    for name, known in (("image0", True), ("image49", True), ("image50", False)):
        grown = {"images.image0": ["1", 0], f"images.{name}": ["1"]}
        prompt = {"1": EMPTY, "2": node("BatchImagesNode", **grown), "3": preview}
        assert validate_prompt(prompt, today).valid is not known
    prompt = {"2": node("BatchImagesNode"), "3": preview}
    [error] = validate_prompt(prompt, today).node_errors["2"]["errors"]
    assert (error["details"], error["extra_info"]) == ("image0", {"input_name": "images.image0"})
    template = {"min": 10**9, "max": 10**9, "prefix": "p", "input": {"required": {"x": ["INT"]}}}
    definitions = schema3(a=["COMFY_AUTOGROW_V3", {"template": template}])
    assert len(validate_prompt(shown(), definitions).node_errors["1"]["errors"]) == MAX_GROWN


TEMPLATE = {"min": 1, "max": 2, "prefix": "a"}


@pytest.mark.parametrize(
    ("definition", "reported"),
    [
        (["COMFY_AUTOGROW_V3", {}], "'template' is missing"),
        (["COMFY_AUTOGROW_V3"], "it has no options"),
        (["COMFY_AUTOGROW_V3", {"template": TEMPLATE}], "'input'"),
        (["COMFY_AUTOGROW_V3", {"template": {**TEMPLATE, "input": {}}}], "no input"),
        (["COMFY_AUTOGROW_V3", {"template": {"min": "x", "names": ["a"], "input": 5}}], "int"),
        (["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a"}]}], "'inputs' is missing"),
        (["COMFY_DYNAMICCOMBO_V3", {"options": 5}], "not iterable"),
        (["COMFY_DYNAMICCOMBO_V3", {}], "'options' is missing"),
        (["COMFY_DYNAMICSLOT_V3", {}], "'inputs' is missing"),
    ],
)
def test_unreadable_dynamic_inputs_are_reported(definition: Any, reported: str) -> None:
    result = validate_prompt(shown(odd="a"), schema3(odd=definition))
    assert result.valid
    [warning] = result.warnings
    says = "Node 1 (Custom) could not be checked completely: the definition of its"
    assert warning.startswith(says)
    assert reported in warning


def test_a_dynamic_combo_that_contains_itself_ends() -> None:
    options: dict[str, Any] = {"options": [{"key": "in", "inputs": {"required": {}}}]}
    options["options"][0]["inputs"]["required"]["a"] = ["COMFY_DYNAMICCOMBO_V3", options]
    definitions = schema3(a=["COMFY_DYNAMICCOMBO_V3", options])
    for depth, warns in ((60, False), (1500, True)):
        names = [".".join(["a"] * level) for level in range(1, depth)]
        result = validate_prompt(shown(**dict.fromkeys(names, "in")), definitions)
        assert any("more than 100 of its inputs are nested" in w for w in result.warnings) is warns
        assert result.valid


def test_an_option_list_of_a_million_is_looked_up_fast() -> None:
    options = [f"{n}" for n in range(300_000)]
    rules = NodeDefinitions(custom_with(name=[options]))
    prompt = {str(n): node("Custom", name=options[-1 - n]) for n in range(1000)}
    prompt |= {f"o{n}": node("Show", source=[str(n), 0]) for n in range(1000)}
    assert validate_prompt(prompt, rules).valid  # makes the set
    begun = time.thread_time()
    assert validate_prompt(prompt, rules).valid
    assert time.thread_time() - begun < 1  # a search through the list takes 3 s


def replaced(**node_changes: Any) -> Any:
    old = {"class_type": "Old", "inputs": {"n": 3}, "_meta": {}} | node_changes
    return {"1": old, "2": node("Show", source=["1", 1])}


REPLACEMENTS: dict[str, Any] = {
    "Old": [
        {
            "new_node_id": "Custom",
            "input_mapping": [{"new_id": "n", "old_id": "n"}],
            "output_mapping": [{"old_idx": 1, "new_idx": 0}],
        },
        {"new_node_id": "Show"},
    ]
}
LACKS_OLD = [{"class_type": "Old", "node_ids": ["1"]}]


def test_old_nodes_are_replaced() -> None:
    rules = NodeDefinitions(custom(), replacements=REPLACEMENTS)
    prompt = replaced()
    before = copy.deepcopy(prompt)
    for known in (rules, NodeDefinitions({**custom(), "Old": None}, replacements=REPLACEMENTS)):
        result = validate_prompt(prompt, known)
        assert (result.valid, result.missing_nodes) == (True, [])
    assert prompt == before
    [error] = validate_prompt(replaced(inputs={"n": 9}), rules).node_errors["1"]["errors"]
    assert error["type"] == "value_bigger_than_max"
    earlier = validate_prompt(prompt, NodeDefinitions(custom(), version="0.3.75"))
    assert earlier.missing_nodes == LACKS_OLD


def test_old_nodes_that_comfyui_fails_to_replace() -> None:
    rules = NodeDefinitions(custom(), replacements=REPLACEMENTS)
    bare = replaced()
    del bare["1"]["_meta"]
    for prompt, raised, lacks in (
        (bare, "KeyError: '_meta'", 'has no "_meta"'),
        (replaced(inputs={}), "KeyError: 'n'", "has no input 'n'"),
    ):
        result = validate_prompt(prompt, rules)
        assert (result.valid, result.raises) == (False, raised)
        assert result.cause is not None
        assert lacks in result.cause
        assert "node 1 (Old)" in result.cause


@pytest.mark.parametrize(
    "replacements",
    [
        {"Old": [{"new_node_id": "Older"}], "Older": [{"new_node_id": "Old"}]},
        {"Old": [{"new_node_id": "Old"}]},
        {"Old": []},
        {"Old": [None]},
        {"Old": None},
        {"Old": [{"new_node_id": ["Custom"]}]},
    ],
)
def test_replacements_by_unknown_nodes_are_ignored(replacements: Any) -> None:
    result = validate_prompt(replaced(), NodeDefinitions(custom(), replacements=replacements))
    assert result.missing_nodes == LACKS_OLD


def test_malformed_replacements_cause_no_error() -> None:
    odd = [{"new_node_id": "Custom", "input_mapping": [5, {}, {"new_id": []}], "output_mapping": 3}]
    prompt = {**replaced(), "2": node("Show", source=["1", 0])}
    result = validate_prompt(prompt, NodeDefinitions(custom(), replacements={"Old": odd}))
    assert types_of(result, "1") == ["required_input_missing"]


def test_after_an_unknown_node_the_others_are_still_validated() -> None:
    definitions = custom_with(n=["INT", {"max": 5}], m=[["a.ckpt"]])
    prompt = {
        "1": node("Gone"),
        "2": node("Custom", n=9, m="b.ckpt"),
        "3": node("Show", source=["1", 0]),
        "4": node("Missing", source=["2", 0]),
    }
    result = validate_prompt(prompt, definitions)
    assert result.error is not None
    assert (result.error["type"], result.node_errors) == ("missing_node_type", {})
    assert [entry["class_type"] for entry in result.missing_nodes] == ["Gone", "Missing"]
    assert [entry["name"] for entry in result.missing_models] == ["b.ckpt"]
    assert list(result.further_errors) == ["2"]
    fault = result.further_errors["2"]
    assert fault["class_type"] == "Custom"
    assert [(error["message"], error["details"]) for error in fault["errors"]] == [
        ("Value 9 bigger than max of 5", "n"),
        ("Value not in list", "m: 'b.ckpt' not in ['a.ckpt']"),
    ]
    (warning,) = result.warnings
    assert "if its code checks these inputs itself" in warning


def test_the_version_follows_from_its_number_or_the_definitions() -> None:
    earlier = {"A": {"display_name": "A"}}
    later = {"A": {"display_name": "A", "is_input_list": False}}
    for version, definitions, expected in (
        (None, {}, TODAY),
        (None, custom(), TODAY),
        (None, earlier, EARLIER),
        (None, later, TODAY),
        ("0.3.75", later, EARLIER),
        ("v0.3.40", {}, EARLIER),
        ("0.3.76", later, TODAY),
        ("0.33.0", {}, TODAY),
        ("v1.0.0-nightly", {}, TODAY),
        ("nightly", earlier, EARLIER),
    ):
        assert behaviour_of(version, definitions) is expected, version


def test_without_access_to_the_folders_files_are_compared_with_the_definitions(
    rules: NodeDefinitions,
) -> None:
    for name, valid, warned in (
        ("cat.png", True, False),
        ("dog.png", False, False),
        ("sub/dog.png", True, True),
        ("dog.png [output]", True, True),
    ):
        preview = node("PreviewImage", images=["1", 0])
        result = validate_prompt({"1": node("LoadImage", image=name), "2": preview}, rules)
        assert result.valid is valid, name
        assert bool(result.warnings) is warned, name


def test_files_of_any_kind_are_searched_in_the_options_of_all_loaders() -> None:
    # LoadImage takes any file of the input folder, and a webcam's picture is one of them.
    inputs = {
        "LoadImage": {"image": [["cat.png"], {}]},
        "LoadVideo": {"file": [["clip.mp4"], {}]},
        "LoadAudio": {"audio": [[], {}]},
        "LoadLatent": {"latent": [["x.latent"], {}]},
        "WebcamCapture": {"image": ["WEBCAM", {}]},
    }
    classes = {name: {**declared(**each), "output": ["X"]} for name, each in inputs.items()}
    classes["End"] = {**declared(x=["X"]), "output": [], "output_node": True}
    rules = NodeDefinitions(classes, version="0.33.0")
    for class_type, name, valid in (
        ("LoadImage", "clip.mp4", True),
        ("LoadImage", "other.mp4", False),
        ("LoadImage", "x.latent", True),
        ("LoadImage", "notes", False),
        ("LoadImage", "tone.wav", False),
        ("WebcamCapture", "cat.png", True),
        ("WebcamCapture", "CAT.PNG", False),
        ("LoadVideo", "cat.png", True),
    ):
        argument = "file" if class_type == "LoadVideo" else "image"
        prompt = {"1": node(class_type, **{argument: name}), "2": node("End", x=["1", 0])}
        assert validate_prompt(prompt, rules).valid is valid, (class_type, name)


def test_numbers_that_json_cannot_hold_are_returned_as_text(rules: NodeDefinitions) -> None:
    prompt = with_input(IMAGE, "3", "blend_factor", "-inf")
    result = validate_prompt(prompt, rules)
    [error] = result.node_errors["3"]["errors"]
    assert error["message"] == "Value -inf smaller than min of 0.0"
    assert error["extra_info"]["received_value"] == "-Infinity"
    json.dumps(result.node_errors, allow_nan=False)


@st.composite
def damaged(draw: st.DrawFn, prompt: Any) -> Any:
    """Draw a graph in which one input or one node was replaced."""
    damage = draw(st.sampled_from(["value", "absent", "node"]))
    if damage == "node":
        return {**prompt, draw(st.sampled_from(list(prompt))): draw(st.sampled_from(NODES))}
    node_id, name = draw(st.sampled_from(places(prompt)))
    if damage == "absent":
        return without_input(prompt, node_id, name)
    links = st.tuples(st.sampled_from([*prompt, "nobody"]), st.integers(-2, 2)).map(list)
    others = st.none() | st.floats(-9, 9) | st.integers(-9, 9) | st.text(max_size=4)
    return with_input(prompt, node_id, name, draw(st.sampled_from(VALUES) | links | others))


def has_exception(answer: Any) -> bool:
    return any("exception_" in error for entry in answer[2].values() for error in entry["errors"])


def test_same_as_a_running_comfyui(comfyui: Any) -> None:
    rules = NodeDefinitions(requests.get(f"{comfyui.url}/object_info", timeout=60).json())
    earlier = rules.behaviour is EARLIER

    def exists(folder: str, path: str) -> bool:
        return exists_in(comfyui.base_dir, folder, path, outside=earlier)

    graphs = [
        graph
        for name in ("validate", "validate_today")
        for line in recorded(f"{name}.jsonl.gz")
        if line.get("valid") and "#" in line["name"]  # the others may ask partners for pictures
        if all(isinstance(each.get("inputs"), dict) for each in line["prompt"].values())
        if not validate_prompt(graph := line["prompt"], rules).missing_nodes
    ]

    @settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
    @given(prompt=st.sampled_from(range(len(graphs))).flatmap(lambda n: damaged(graphs[n])))
    def compare(prompt: Any) -> None:
        result = validate_prompt(prompt, rules, files=exists)
        if any("worker" in warning for warning in result.warnings):
            return  # would be the end of the ComfyUI that all tests share
        nodes = prompt.values() if result.valid else ()
        values = [value for each in nodes for value in inputs_of(each).values()]
        if any(is_link(value) and value[0] not in prompt for value in values):
            return  # in an input that ComfyUI does not check, it ends the worker, too
        reply = post_prompt(comfyui.url, prompt)
        assert (result.raises is not None) is ("raises" in reply)
        if result.raises is None:
            theirs, ours = comparable(**reply), comparable_result(result)
            if has_exception(theirs):  # then the order of a set decides which nodes were reached
                theirs, ours = ((v, e and e["type"]) for v, e, *_ in (theirs, ours))
            assert ours == theirs

    compare()
    wait_until_idle(comfyui.url)


def test_a_link_to_nothing_that_comfyui_does_not_check_is_told() -> None:
    made = {**declared(), "output": ["IMAGE"]}
    shows = {**declared(images=["IMAGE", {}]), "output_node": True, "is_input_list": False}
    known = NodeDefinitions({"Made": made, "Shows": shows})
    graph = {
        "1": node("Made", unchecked=["77", 0]),
        "2": node("Shows", images=["1", 0]),
        "3": node("Made", unchecked=["77", 0]),
    }
    result = validate_prompt(graph, known)
    assert result.valid
    (told,) = result.warnings
    assert told.startswith("Node 1 (Made) has a link to node '77' in 'unchecked', which does not")
    graph["2"]["inputs"]["images"] = ["77", 0]  # this one is checked, and nothing is executed
    result = validate_prompt(graph, known)
    assert not result.valid
    assert not result.warnings
