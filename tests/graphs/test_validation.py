from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.graphs.validation import NodeRules, Validation, validate_prompt
from tests.graphs.answers import ask, comparable, comparable_result, wait_until_idle, words
from tests.graphs.validation_prompts import (
    CHEAP,
    EMPTY,
    NODES,
    OTHERS,
    VALUES,
    WHOLE,
    chain,
    make_files,
    node,
    places,
    with_input,
    without_input,
)

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SAMPLES = ROOT.parent / "shared" / "samples"


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


@pytest.fixture(scope="module")
def rules() -> NodeRules:
    return NodeRules(read(GOLDEN / "validate.object_info.json.gz"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comfyui")
    make_files(folder)
    return folder


def custom(**changes: Any) -> dict[str, Any]:
    """Return definitions of a node of others and of an output node."""
    info = {
        "input": {"required": {"n": ["INT", {"max": 5}]}},
        "output": ["INT"],
        "output_node": False,
        "python_module": "custom_nodes.pack",
    }
    return {"Custom": {**info, **changes}, "Show": SHOW}


SHOW: dict[str, Any] = {
    "input": {"required": {"source": ["*", {}]}},
    "output": [],
    "output_node": True,
    "python_module": "nodes",
}


def types_of(result: Validation, node_id: str) -> list[str]:
    return [error["type"] for error in result.node_errors[node_id]["errors"]]


def test_recorded_answers(rules: NodeRules, base: Path) -> None:
    wrong = []
    lines = read_lines(GOLDEN / "validate.jsonl.gz")
    assert len(lines) > 500
    for line in lines:
        result = validate_prompt(
            line["prompt"], rules, files=lambda folder, path: (base / folder / path).exists()
        )
        if line.get("raises"):
            same = result.raises is not None and not result.valid
        else:
            recorded = comparable(line["valid"], line["error"], line["node_errors"])
            same = comparable_result(result) == recorded and result.raises is None
        if not same:
            wrong.append(line["name"])
    assert wrong == []


@pytest.mark.skipif(not SAMPLES.exists(), reason="the shared samples are not here")
def test_shared_samples() -> None:
    rules = NodeRules(read(SAMPLES / "validate.object_info.json.gz"))
    folders = {
        "input": {"b.png", "clip.mp4", "example.png", "tone.wav", "with space.png", "x.latent"}
        | {"sub/nested.png"},
        "output": {"out1.png"},
        "temp": set(),
    }
    # what definitions cannot tell, and what the order of sets and the depth of the stack decide
    undecided = {"code_check", "hidden_type", "order", "recursion"}
    wrong = []
    for line in read_lines(SAMPLES / "validate.jsonl.gz"):
        result = validate_prompt(
            line["prompt"], rules, files=lambda folder, path: path in folders[folder]
        )
        if "raises" in line:
            same = result.raises is not None and words(result.raises) == words(line["raises"])
        else:
            answers = [
                comparable(a["valid"], a["error"], a["node_errors"])
                for a in [line, *line.get("alts", [])]
            ]
            same = comparable_result(result) in answers
            same = same and sorted(result.outputs) in [
                sorted(a["outputs"]) for a in [line, *line.get("alts", [])]
            ]
        if not same and undecided.isdisjoint(line["tags"]):
            wrong.append(line["name"])
    assert wrong == []


def test_prompt_is_left_as_it_was(rules: NodeRules) -> None:
    prompt = copy.deepcopy(CHEAP["image"])
    prompt["1"]["inputs"]["width"] = {"__value__": "64"}
    before = copy.deepcopy(prompt)
    assert validate_prompt(prompt, rules).valid
    assert prompt == before


def test_outputs_are_those_that_would_run(rules: NodeRules) -> None:
    prompt = without_input(CHEAP["two_outputs"], "2", "image")
    result = validate_prompt(prompt, rules)
    assert (result.valid, result.error, result.outputs) == (True, None, ["good"])
    assert result.node_errors["2"]["dependent_outputs"] == ["other"]
    assert result.warnings == [
        "Node other (PreviewImage) has errors or depends on nodes that have; it will be left out."
    ]


def test_inputs_that_break_the_worker_of_comfyui(rules: NodeRules) -> None:
    for inputs in (None, [], "text", 0.5):
        prompt = {**CHEAP["shared_output"], "9": {"class_type": "ImageInvert", "inputs": inputs}}
        result = validate_prompt(prompt, rules)
        assert result.valid
        assert "Node 9 (ImageInvert) has no object of inputs" in result.warnings[0]


@pytest.mark.parametrize("name", [name for name in WHOLE if name.endswith(("link", "of_two"))])
def test_cycles_end(rules: NodeRules, name: str) -> None:
    result = validate_prompt(WHOLE[name], rules)
    assert not result.valid
    assert result.node_errors == {}  # ComfyUI forgets the error on its way back
    assert "cycle" in result.warnings[0]


def test_many_cycles_end(rules: NodeRules) -> None:
    prompt = {
        str(i): node(
            "ImageBlend",
            image1=[str((i + 1) % 60), 0],
            image2=[str((i * 7 + 3) % 60), 0],
            blend_factor=0,
            blend_mode="normal",
        )
        for i in range(60)
    }
    prompt["out"] = node("PreviewImage", images=["0", 0])
    assert not validate_prompt(prompt, rules).valid


def test_long_chains(rules: NodeRules) -> None:
    short = validate_prompt(chain(900), rules)
    assert list(short.node_errors) == ["0"]
    long = validate_prompt(chain(10_000), rules)
    assert not long.valid
    [(node_id, entry)] = long.node_errors.items()
    assert 9_000 < int(node_id) < 9_040
    assert entry["errors"][0]["extra_info"]["exception_type"] == "RecursionError"
    assert "chain of more than" in long.warnings[0]


def test_what_comfyui_would_break_down_of_is_told(rules: NodeRules) -> None:
    prompt = {**CHEAP["values"], "deep": node("EmptyImage", width=deep(1))}
    prompt |= {str(n): node("ImageInvert", image=[str(n - 1), 0]) for n in range(7001, 7700)}
    told = validate_prompt(prompt, rules)
    assert told.valid
    assert len(told.warnings) == 2
    assert "nodes in a row" in told.warnings[0]
    assert told.warnings[1].startswith("Node deep (EmptyImage) has more than 200 lists or objects")


def deep(value: Any) -> Any:
    for _ in range(50_000):
        value = {"__value__": [value]}
    return value


def test_deeply_nested_values(rules: NodeRules) -> None:
    for node_id, name in places(CHEAP["values"]):
        prompt = with_input(CHEAP["values"], node_id, name, None)
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


@settings(max_examples=300, deadline=None)
@given(prompt=json_values, workflow=json_values)
def test_hostile_prompts_get_an_answer(rules: NodeRules, prompt: Any, workflow: Any) -> None:
    result = validate_prompt(prompt, rules, workflow=workflow)
    assert not result.valid or result.outputs
    json.dumps(vars(result))


@settings(max_examples=300, deadline=None)
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
    prompt = {
        "1": node("Show", source=["2", 0]),
        "2": node("Gone"),
        "3": node("Other"),
        "4": node("Gone"),
    }
    workflow = {
        "nodes": [{"type": "Other", "properties": {"aux_id": "someone/other-nodes"}}],
        "definitions": {
            "subgraphs": [{"nodes": [{"type": "Gone", "properties": {"cnr_id": "gone-pack"}}]}]
        },
    }
    result = validate_prompt(prompt, custom(), workflow=workflow)
    assert result.error is not None
    assert result.error["message"] == "Cannot execute because node Gone does not exist."
    assert result.missing_nodes == [
        {"class_type": "Gone", "node_ids": ["2", "4"], "pack": "gone-pack"},
        {"class_type": "Other", "node_ids": ["3"], "pack": "someone/other-nodes"},
    ]
    assert "pack" not in validate_prompt(prompt, custom()).missing_nodes[0]


def test_missing_models_with_folder_and_link(rules: NodeRules) -> None:
    prompt = with_input(OTHERS["text_to_image"], "3", "lora_name", "sub/new.safetensors")
    prompt["1"]["inputs"]["ckpt_name"] = {"__value__": "other.ckpt"}
    models = [{"name": "new.safetensors", "url": "https://example.org/new", "directory": "loras"}]
    workflow = {"nodes": [{"type": "LoraLoader", "properties": {"models": models}}]}
    result = validate_prompt(prompt, rules, workflow=workflow)
    assert result.missing_models == [
        {"name": "other.ckpt", "folder": "checkpoints", "node_id": "1", "input": "ckpt_name"},
        {
            "name": "sub/new.safetensors",
            "folder": "loras",
            "node_id": "3",
            "input": "lora_name",
            "url": "https://example.org/new",
        },
    ]
    assert types_of(result, "3") == ["value_not_in_list"]
    assert validate_prompt(OTHERS["text_to_image"], rules).missing_models == []


def test_missing_models_of_other_nodes() -> None:
    definitions = custom(input={"required": {"weights": [["a.gguf"]], "mode": [["fast"]]}})
    prompt = {
        "1": node("Custom", weights="b.gguf", mode="slow"),
        "2": node("Show", source=["1", 0]),
    }
    assert validate_prompt(prompt, definitions).missing_models == [
        {"name": "b.gguf", "folder": None, "node_id": "1", "input": "weights"}
    ]
    workflow = {"models": [{"name": "b.gguf", "url": "https://example.org/b", "directory": "unet"}]}
    [entry] = validate_prompt(prompt, definitions, workflow=workflow).missing_models
    assert (entry["folder"], entry["url"]) == ("unet", "https://example.org/b")


def test_choices_of_the_newer_kind_are_not_checked_but_told() -> None:
    definitions = custom(input={"required": {"mode": ["COMBO", {"options": ["fast"]}]}})
    prompt = {"1": node("Custom", mode="slow"), "2": node("Show", source=["1", 0])}
    result = validate_prompt(prompt, definitions)
    assert result.valid
    assert "'slow' for 'mode'" in result.warnings[0]


def test_doubts_about_nodes_of_others() -> None:
    prompt = {"1": node("Custom", n=9), "2": node("Show", source=["1", 0])}
    result = validate_prompt(prompt, custom())
    assert types_of(result, "1") == ["value_bigger_than_max"]
    assert "comes from a node pack" in result.warnings[0]
    assert validate_prompt(prompt, custom(python_module="nodes")).warnings == []


def test_any_type_of_others_is_accepted_with_a_doubt() -> None:
    definitions = custom(input={"required": {"any": ["*"]}})
    prompt = {
        "0": node("Custom", any=1),
        "1": node("Custom", any=["0", 0]),
        "2": node("Show", source=["1", 0]),
    }
    result = validate_prompt(prompt, definitions)
    assert result.valid
    assert "the type '*'" in result.warnings[0]


def test_union_types() -> None:
    for wanted, valid in (("FLOAT, INT", True), ("INTEGER,FLOAT", False), (["INT"], False)):
        definitions = {**custom(), "Show": {**SHOW, "input": {"required": {"source": [wanted]}}}}
        prompt = {"1": node("Custom", n=1), "2": node("Show", source=["1", 0])}
        result = validate_prompt(prompt, definitions)
        assert result.valid is valid
        assert valid or types_of(result, "2") == ["return_type_mismatch"]


def test_choices_are_compared_as_python_compares() -> None:
    definitions = custom(input={"required": {"n": [[1, 2, "auto", None]]}})
    for value, valid in ((True, True), (1.0, True), (None, True), ("1", False), (False, False)):
        prompt = {"1": node("Custom", n=value), "2": node("Show", source=["1", 0])}
        assert validate_prompt(prompt, definitions).valid is valid
    definitions = custom(input={"required": {"n": [[str(i) for i in range(21)]]}})
    prompt = {"1": node("Custom", n="x"), "2": node("Show", source=["1", 0])}
    [error] = validate_prompt(prompt, definitions).node_errors["1"]["errors"]
    assert error["details"] == "n: 'x' not in (list of length 21)"
    assert error["extra_info"]["input_config"] is None


def test_files_without_a_look_into_the_folders(rules: NodeRules) -> None:
    for name, valid, told in (
        ("cat.png", True, False),
        ("dog.png", False, False),
        ("sub/dog.png", True, True),
        ("dog.png [output]", True, True),
    ):
        result = validate_prompt(with_input(OTHERS["image_file"], "1", "image", name), rules)
        assert result.valid is valid, name
        assert bool(result.warnings) is told, name


def test_numbers_beyond_json_stand_as_text(rules: NodeRules) -> None:
    prompt = with_input(CHEAP["image"], "3", "blend_factor", "-inf")
    result = validate_prompt(prompt, rules)
    [error] = result.node_errors["3"]["errors"]
    assert error["message"] == "Value -inf smaller than min of 0.0"
    assert error["extra_info"]["received_value"] == "-Infinity"
    json.dumps(result.node_errors, allow_nan=False)


@st.composite
def spoilt_prompts(draw: st.DrawFn) -> Any:
    """Draw a cheap graph in which one input or one node is something else."""
    prompt = draw(st.sampled_from(list(CHEAP.values())))
    spoil = draw(st.sampled_from(["value", "absent", "node"]))
    if spoil == "node":
        return {**prompt, draw(st.sampled_from(list(prompt))): draw(st.sampled_from(NODES))}
    node_id, name = draw(st.sampled_from(places(prompt)))
    if spoil == "absent":
        return without_input(prompt, node_id, name)
    links = st.tuples(st.sampled_from([*prompt, "nobody"]), st.integers(-2, 2)).map(list)
    others = st.none() | st.floats(-9, 9) | st.integers(-9, 9) | st.text(max_size=4)
    return with_input(prompt, node_id, name, draw(st.sampled_from(VALUES) | links | others))


def has_exception(answer: Any) -> bool:
    return any("exception_" in error for entry in answer[2].values() for error in entry["errors"])


def test_same_as_a_running_comfyui(comfyui: Any) -> None:
    rules = NodeRules(requests.get(f"{comfyui.url}/object_info", timeout=60).json())

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(prompt=spoilt_prompts())
    def compare(prompt: Any) -> None:
        result = validate_prompt(prompt, rules)
        if any("worker" in warning for warning in result.warnings):
            return  # would be the end of the ComfyUI that all tests share
        reply = ask(comfyui.url, prompt)
        assert (result.raises is not None) is ("raises" in reply)
        if result.raises is None:
            theirs, ours = comparable(**reply), comparable_result(result)
            if has_exception(theirs):  # then the order of inputs decides which nodes were reached
                theirs, ours = theirs[:2], ours[:2]
            assert ours == theirs

    compare()
    wait_until_idle(comfyui.url)
