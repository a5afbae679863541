import copy
import time
from operator import itemgetter

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.formats import inputs_of, is_link
from comfydeploy_jupyter.graphs.validation import Validation, validate_prompt
from comfydeploy_jupyter.graphs.versions import EARLIER, TODAY, behaviour_of
from tests.graphs.validation_prompts import (
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
from tests.helpers.graphs import SMALL, SMALL_CLASSES, declared, node, recorded
from tests.helpers.selection import examples

SHOW = {
    **declared(source=["*", {}]),
    "output": [],
    "output_node": True,
    "python_module": "nodes",
}


@pytest.fixture(scope="module")
def rules():
    return NodeDefinitions(recorded("validate.object_info.json.gz"))


def custom(**changes):
    """Return definitions of a node of others and of an output node."""
    info = {"output": ["INT"], "output_node": False, "python_module": "custom_nodes.pack"}
    return {"Custom": {**declared(n=["INT", {"max": 5}]), **info, **changes}, "Show": SHOW}


def custom_with(**inputs):
    return custom(**declared(**inputs))


def schema3(**inputs):
    """Return definitions of a V3 node of others and of an output node."""
    flags = {"api_node": False, "deprecated": False, "experimental": False}
    return custom(**flags, **declared(**inputs))


def shown(**inputs):
    """Return a prompt that shows a node of others."""
    return {"1": node("Custom", **inputs), "2": node("Show", source=["1", 0])}


def types_of(result, node_id):
    return [error["type"] for error in result.node_errors[node_id]["errors"]]


def exists_in(base, folder, path, *, outside):
    """Return whether ComfyUI finds a file; files outside the folder only if it searches there."""
    target = base / folder / path
    try:
        inside = target.resolve().is_relative_to(base / folder)
    except ValueError:  # a null byte
        return False
    return target.exists() and (outside or inside)


@pytest.mark.parametrize("name", ["validate", "validate_today"])
def test_results_equal_recorded_replies_of_comfyui(name, tmp_path):
    make_files(tmp_path)
    rules = NodeDefinitions(recorded(f"{name}.object_info.json.gz"))
    earlier = name == "validate"

    def is_same(line):
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


@pytest.mark.parametrize(
    "case", [each for each in SMALL if "prompt" in each], ids=itemgetter("name")
)
def test_small_prompts_are_judged_as_comfyui_does(case):
    known = NodeDefinitions(SMALL_CLASSES[case["classes"]], version=case.get("version"))
    result = validate_prompt(case["prompt"], known)
    if "reply" in case:
        assert case["reply"].items() <= vars(result).items()
        return
    errors = {
        node_id: [[error["type"], error["details"]] for error in entry["errors"]]
        for node_id, entry in result.node_errors.items()
    }
    found = result.valid, errors, len(result.warnings)
    assert found == (case["valid"], case["errors"], case["warnings"])


def test_validation_does_not_change_the_prompt(rules):
    prompt = copy.deepcopy(IMAGE)
    prompt["1"]["inputs"]["width"] = {"__value__": "64"}
    before = copy.deepcopy(prompt)
    assert validate_prompt(prompt, rules).valid
    assert prompt == before


def test_outputs_are_those_that_comfyui_would_execute(rules):
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


def test_inputs_that_would_end_comfyuis_worker_are_refused(rules):
    for inputs in (None, [], "text", 0.5):
        prompt = {**TWO_OUTPUTS, "9": {"class_type": "ImageInvert", "inputs": inputs}}
        result = validate_prompt(prompt, rules)
        assert result.valid
        assert "Node 9 (ImageInvert) has no object of inputs" in result.warnings[0]


def test_long_chains(rules):
    short = validate_prompt(chain(900), rules)
    assert list(short.node_errors) == ["0"]
    long = validate_prompt(chain(10_000), rules)
    assert not long.valid
    [(node_id, entry)] = long.node_errors.items()
    assert 9_000 < int(node_id) < 9_040
    assert entry["errors"][0]["extra_info"]["exception_type"] == "RecursionError"
    assert "chain of more than" in long.warnings[0]


def test_graphs_on_which_comfyui_would_fail_give_warnings(rules):
    prompt = {**OF_VALUES, "deep": node("EmptyImage", width=deep(1))}
    prompt |= {str(n): node("ImageInvert", image=[str(n - 1), 0]) for n in range(7001, 7700)}
    result = validate_prompt(prompt, rules)
    assert result.valid
    assert len(result.warnings) == 2
    assert "nodes in a row" in result.warnings[0]
    assert result.warnings[1].startswith(
        "Node deep (EmptyImage) has more than 200 nested lists or objects"
    )


def deep(value):
    for _ in range(20_000):
        value = {"__value__": [value]}
    return value


def test_deeply_nested_values(rules):
    for node_id, name in places(OF_VALUES):
        prompt = with_input(OF_VALUES, node_id, name, None)
        prompt[node_id]["inputs"][name] = deep(1)
        assert isinstance(validate_prompt(prompt, rules), Validation)


def test_missing_nodes_with_their_pack():
    prompt = {"1": node("Show", source=["2", 0]), "2": node("Gone"), "3": node("Other")}
    prompt["4"] = node("Gone")
    gone = {"nodes": [{"type": "Gone", "properties": {"cnr_id": "gone-pack"}}]}
    workflow = {
        "nodes": [{"type": "Other", "properties": {"aux_id": "someone/other-nodes"}}],
        "definitions": {"subgraphs": [gone]},
    }
    result = validate_prompt(prompt, custom(), workflow=workflow)
    assert result.error["message"] == "Node 'Gone' not found. The custom node may not be installed."
    assert result.missing_nodes == [
        {"class_type": "Gone", "node_ids": ["2", "4"], "pack": "gone-pack"},
        {"class_type": "Other", "node_ids": ["3"], "pack": "someone/other-nodes"},
    ]
    assert "pack" not in validate_prompt(prompt, custom()).missing_nodes[0]


def test_missing_models_with_folder_and_link(rules):
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


def test_missing_models_of_other_nodes():
    definitions = custom_with(weights=[["a.gguf"]], mode=[["fast"]])
    prompt = shown(weights="b.gguf", mode="slow")
    missing = {"name": "b.gguf", "folder": None, "node_id": "1", "input": "weights"}
    assert validate_prompt(prompt, definitions).missing_models == [missing]
    workflow = {"models": [{"name": "b.gguf", "url": "https://example.org/b", "directory": "unet"}]}
    [entry] = validate_prompt(prompt, definitions, workflow=workflow).missing_models
    assert (entry["folder"], entry["url"]) == ("unet", "https://example.org/b")


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
def test_unreadable_dynamic_inputs_are_reported(definition, reported):
    result = validate_prompt(shown(odd="a"), schema3(odd=definition))
    assert result.valid
    [warning] = result.warnings
    says = "Node 1 (Custom) could not be checked completely: the definition of its"
    assert warning.startswith(says)
    assert reported in warning


def test_a_dynamic_combo_that_contains_itself_ends():
    options = {"options": [{"key": "in", "inputs": {"required": {}}}]}
    options["options"][0]["inputs"]["required"]["a"] = ["COMFY_DYNAMICCOMBO_V3", options]
    definitions = schema3(a=["COMFY_DYNAMICCOMBO_V3", options])
    for depth, warns in ((60, False), (1500, True)):
        names = [".".join(["a"] * level) for level in range(1, depth)]
        result = validate_prompt(shown(**dict.fromkeys(names, "in")), definitions)
        assert any("more than 100 of its inputs are nested" in w for w in result.warnings) is warns
        assert result.valid


def test_an_option_list_of_a_million_is_looked_up_fast():
    options = [f"{n}" for n in range(300_000)]
    rules = NodeDefinitions(custom_with(name=[options]))
    prompt = {str(n): node("Custom", name=options[-1 - n]) for n in range(1000)}
    prompt |= {f"o{n}": node("Show", source=[str(n), 0]) for n in range(1000)}
    assert validate_prompt(prompt, rules).valid  # makes the set
    begun = time.thread_time()
    assert validate_prompt(prompt, rules).valid
    assert time.thread_time() - begun < 1  # a search through the list takes 3 s


def replaced(**node_changes):
    old = {"class_type": "Old", "inputs": {"n": 3}, "_meta": {}} | node_changes
    return {"1": old, "2": node("Show", source=["1", 1])}


REPLACEMENTS = {
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


def test_old_nodes_are_replaced():
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


def test_old_nodes_that_comfyui_fails_to_replace():
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


def test_malformed_replacements_cause_no_error():
    odd = [{"new_node_id": "Custom", "input_mapping": [5, {}, {"new_id": []}], "output_mapping": 3}]
    prompt = {**replaced(), "2": node("Show", source=["1", 0])}
    result = validate_prompt(prompt, NodeDefinitions(custom(), replacements={"Old": odd}))
    assert types_of(result, "1") == ["required_input_missing"]


def test_after_an_unknown_node_the_others_are_still_validated():
    definitions = custom_with(n=["INT", {"max": 5}], m=[["a.ckpt"]])
    prompt = {
        "1": node("Gone"),
        "2": node("Custom", n=9, m="b.ckpt"),
        "3": node("Show", source=["1", 0]),
        "4": node("Missing", source=["2", 0]),
    }
    result = validate_prompt(prompt, definitions)
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


def test_the_version_follows_from_its_number_or_the_definitions():
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
    rules,
):
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


@st.composite
def damaged(draw, prompt):
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


def has_exception(answer):
    return any("exception_" in error for entry in answer[2].values() for error in entry["errors"])


def test_same_as_a_running_comfyui(comfyui):
    rules = NodeDefinitions(requests.get(f"{comfyui.url}/object_info", timeout=60).json())
    earlier = rules.behaviour is EARLIER

    def exists(folder, path):
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
    def compare(prompt):
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


def test_a_link_to_nothing_that_comfyui_does_not_check_is_told():
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
