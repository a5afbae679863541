"""What ComfyUI 0.38 refuses about loops, as it was recorded; the graphs are of our own."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.dependencies import executed_anew
from comfydeploy_jupyter.graphs.loops import (
    TooManyLoopsError,
    also_executed,
    executions,
    iterations_of,
    loop_bodies,
    loop_fault,
    loop_notices,
)
from comfydeploy_jupyter.graphs.validation import validate_prompt
from tests.helpers.graphs import declared, node

ANY = ["*", {}]
V3 = {"api_node": False, "deprecated": False, "experimental": False}
OUTPUTS = ["INT", "BOOLEAN", "BOOLEAN", "*", "*"]


def of_kind(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"input": {"required": required, "optional": optional}, **V3}


DEFINITIONS = NodeDefinitions(
    {
        "StartLoop": {
            **of_kind({}, parent_iteration=["INT", {"forceInput": True}]),
            "output": OUTPUTS,
        },
        "EndLoop": {
            **of_kind(
                {"accumulate": ["BOOLEAN", {}]},
                output_value=ANY,
                saved=ANY,
            ),
            "output": ["*"],
        },
        "Draw": {**declared(size=["INT", {"max": 64}]), "output": ["IMAGE"]},
        "Pass": {**declared(value=ANY), "output": ["*"]},
        "Is": {**declared(value=ANY), "output": ["BOOLEAN"]},
        "Show": {**declared(images=ANY), "output": ["IMAGE"], "output_node": True},
    }
)


def start(parent: Any = None) -> dict[str, Any]:
    return node("StartLoop", **({} if parent is None else {"parent_iteration": [parent, 0]}))


def end(value: str, accumulate: Any = False, **more: Any) -> dict[str, Any]:
    return node("EndLoop", accumulate=accumulate, output_value=[value, 0], **more)


def draw(size: str) -> dict[str, Any]:
    return node("Draw", size=[size, 0])


def show(images: str) -> dict[str, Any]:
    return node("Show", images=[images, 0])


FOR = ("mode", "mode.start_iteration_index", "mode.max_iteration", "mode.step")
LOOP = {"7": start(), "8": draw("7"), "9": end("8"), "10": show("9")}
FAULTS = {
    "loop_end_without_start": (
        {"8": node("Draw", size=4), "9": end("8"), "10": show("9")},
        "End Loop has no Start Loop",
        "End Loop 9 has no available Start Loop",
        ["9"],
    ),
    "loop_start_without_end": (
        {"7": start(), "2": start("7"), "8": draw("2"), "9": end("8"), "10": show("9")},
        "Start Loop has no End Loop",
        "Start Loops without End Loops: 7",
        ["7"],
    ),
    "loop_escape": (
        {**LOOP, "11": show("8"), "12": show("8")},
        "Loop body is not closed",
        "Start Loop 7 reaches 11, 12 without passing through End Loop 9",
        ["11", "12", "7", "9"],
    ),
    "ambiguous_loop_nesting": (
        {
            "7": start(),
            "2": start(),
            "8": draw("7"),
            "3": draw("2"),
            "9": end("8", saved=["3", 0]),
            "4": end("9"),
            "10": show("4"),
        },
        "End Loop has ambiguous Start Loops",
        "End Loop 9 can close multiple unrelated Start Loops: 2, 7",
        ["2", "7", "9"],
    ),
    "loop_end_cycle": (
        {"7": node("StartLoop", odd=["9", 0]), "8": draw("7"), "9": end("8"), "10": show("9")},
        "End Loops depend on each other",
        "End Loops depend on each other, so none of them can be closed first: 9",
        ["9"],
    ),
    "loop_accumulate_from_body": (
        {**LOOP, "5": node("Is", value=["7", 1]), "9": end("8", ["5", 0])},
        "End Loop accumulate depends on its loop body",
        "End Loop 9 accumulate is driven by loop node 5 under Start Loop 7",
        ["5", "7", "9"],
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(kind: str) -> None:
    prompt, message, details, nodes = FAULTS[kind]
    found = validate_prompt(prompt, DEFINITIONS)
    assert not found.valid
    assert found.error is not None
    assert found.error["details"] == f"{message}: {details}"
    assert sorted(found.node_errors) == nodes
    for entry in found.node_errors.values():
        (error,) = entry["errors"]
        facts = error["extra_info"]
        assert (error["message"], error["details"]) == (message, details)
        assert (facts["loop_error_type"], facts["node_ids"]) == (kind, nodes)
        assert facts["output_ids"] == entry["dependent_outputs"]
        assert "10" in facts["output_ids"]


@pytest.mark.parametrize(
    "prompt",
    [
        LOOP,
        {**LOOP, "11": show("8"), "9": end("8", saved=["11", 0])},
        {**LOOP, "8": draw("3"), "2": start("7"), "3": draw("2"), "4": end("3"), "9": end("4")},
    ],
    ids=["one", "a save in its body", "nested"],
)
def test_valid_loops(prompt: dict[str, Any]) -> None:
    assert validate_prompt(prompt, DEFINITIONS).valid


def test_the_output_of_another_part_runs() -> None:
    """Further errors of a node stay beside that of the loop."""
    prompt = {**LOOP, "11": show("8"), "20": node("Draw", size=99), "21": show("22")}
    prompt["22"] = node("Draw", size=4)
    prompt["8"] = node("Draw", size=["7", 0], odd=1)
    found = validate_prompt(prompt, DEFINITIONS)
    assert found.valid
    assert found.outputs == ["21"]
    assert any('"' not in text and "will not be executed" in text for text in found.warnings)
    assert not any("will fail" in text for text in found.warnings)
    whole = {"30": start(), "31": draw("30"), "32": end("31"), "33": show("32")}
    both = validate_prompt({**prompt, **whole}, DEFINITIONS)
    assert sorted(both.outputs) == ["21", "33"]
    (told,) = (text for text in both.warnings if "will fail" in text)
    assert told.startswith("Node 30 (StartLoop) will fail")
    prompt["8"] = node("Draw", size=["7", 1])  # not its type: what is above is not looked at
    errors = validate_prompt(prompt, DEFINITIONS).node_errors
    assert [error["type"] for error in errors["8"]["errors"]] == ["return_type_mismatch"]
    assert errors["9"]["errors"][0]["message"] == "End Loop has no Start Loop"


def test_a_fault_that_reaches_no_output_is_said_as_what_it_is() -> None:
    """ComfyUI answers 500."""
    prompt = {"8": node("Draw", size=4), "10": show("8"), "7": start(), "9": end("10")}
    prompt["7"]["inputs"]["odd"] = ["10", 0]
    found = validate_prompt(prompt, DEFINITIONS)
    assert (found.valid, found.error) == (False, None)
    assert found.raises == "IndexError: list index out of range"
    assert found.cause == "End Loop has no Start Loop: End Loop 9 has no available Start Loop"


def test_a_graph_with_very_many_loops_takes_no_long_time() -> None:
    prompt = {"e": node("Pass", value=1)}
    before = ["e"]
    for layer in range(60):
        ends = []
        for loop in range(30):
            links = {str(n): [other, 0] for n, other in enumerate(before)}
            prompt[f"s{layer}.{loop}"] = node("StartLoop", **links)
            prompt[f"e{layer}.{loop}"] = end(f"s{layer}.{loop}")
            ends.append(f"e{layer}.{loop}")
        before = ends
    links = {str(n): [other, 0] for n, other in enumerate(before)}
    prompt["out"] = node("Show", images=[before[0], 0], **links)
    begun = time.process_time()
    with pytest.raises(TooManyLoopsError):
        loop_fault(prompt, prompt, ["out"])
    assert time.process_time() - begun < 10
    classes = {key: each["class_type"] for key, each in prompt.items()}
    sources = {
        key: [link[0] for link in each["inputs"].values() if isinstance(link, list)]
        for key, each in prompt.items()
    }
    assert loop_bodies(classes, sources) == {}


def test_any_prompt_is_judged() -> None:
    """Random links, circles included, raise nothing and take no long time."""
    dice = random.Random(3)
    for _ in range(300):
        ids = [str(number) for number in range(dice.randint(2, 14))]

        makers = [start, lambda: end("0"), lambda: draw("0"), lambda: show("0")]
        prompt = {}
        for key in ids:
            made = dice.choice(makers)()
            links = {name: [dice.choice(ids), 0] for name in (*made["inputs"], "more")}
            prompt[key] = {**made, "inputs": links}
        validate_prompt(prompt, DEFINITIONS)
    chain = {"0": start(), **{str(n): node("Pass", value=[str(n - 1), 0]) for n in range(1, 900)}}
    chain |= {"900": end("899"), "901": show("900")}
    assert validate_prompt(chain, DEFINITIONS).valid


def counted(**inputs: Any) -> dict[str, Any]:
    return node("StartLoop", **{name.replace("__", "."): value for name, value in inputs.items()})


def simple(count: Any, parent: Any = None, **more: Any) -> dict[str, Any]:
    inputs = {} if parent is None else {"parent_iteration": [parent, 0]}
    return counted(mode="simple", mode__num_iterations=count, **inputs, **more)


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        ({"mode": "simple", "mode.num_iterations": 3}, 3),
        ({"mode": "simple", "mode.num_iterations": "3"}, 3),
        ({"mode": "simple", "mode.num_iterations": 3.9}, 3),
        ({"mode": "simple", "mode.num_iterations": -1}, 0),
        ({"mode": "simple", "mode.num_iterations": ["1", 0]}, None),
        ({"mode": "simple", "mode.num_iterations": None}, None),
        ({"mode": "simple", "mode.num_iterations": "9" * 5000}, None),
        ({"mode": "simple", "mode.num_iterations": float("inf")}, None),
        ({"mode": "simple"}, None),
        (dict(zip(FOR, ("For", 2, 10, 3), strict=True)), 3),
        (dict(zip(FOR, ("For", 2, 2, 1), strict=True)), 0),
        (dict(zip(FOR, ("For", 5, 2, 1), strict=True)), 0),
        (dict(zip(FOR, ("For", 0, 10**30, 1), strict=True)), 10**18),
        (dict(zip(FOR, ("For", 0, 5, 0), strict=True)), None),
        ({"mode": "List", "mode.list": {"__value__": [1, 2]}}, 2),
        ({"mode": "List", "mode.list": ["1", 3]}, None),
        ({"mode": []}, None),
        (None, None),
    ],
)
def test_iterations_are_known_if_they_are_numbers(inputs: Any, count: int | None) -> None:
    assert iterations_of({"class_type": "StartLoop", "inputs": inputs}) == count


def nested(outer: Any, inner: Any) -> dict[str, Any]:
    return {
        "1": simple(outer),
        "2": simple(inner, "1"),
        "3": draw("2"),
        "4": end("3"),
        "5": end("4"),
        "6": show("5"),
    }


@pytest.mark.parametrize(
    ("outer", "inner", "told"),
    [
        (3, 4, []),
        (100, 100, []),
        (["9", 0], 7, []),
        (0, 4, ["StartLoop (id 1) has 0 iterations: its body is not executed"]),
        (10**9, 1, ["id 1) has 1,000,000,000 iterations."]),
        (1000, 2000, ["id 2) has 2,000 iterations, 2,000,000 with the loops around it."]),
        (10**20, 2, ["id 1) has more than 1,000,000,000,000,000,000 iterations."]),
    ],
)
def test_loops_without_end_and_without_iterations_are_told(
    outer: Any, inner: Any, told: list[str]
) -> None:
    graph = nested(outer, inner) | {"9": node("Draw", size=4)}
    notices = list(loop_notices(graph))
    assert len(notices) >= len(told)
    assert all(any(part in notice for notice in notices) for part in told), notices
    assert bool(notices) == bool(told)
    result = validate_prompt(graph, DEFINITIONS)
    assert result.valid
    assert result.warnings == notices


def test_a_faulty_loop_with_many_iterations_is_told_too() -> None:
    graph = {"1": simple(10**9), "2": draw("1"), "6": show("2")}
    assert [*loop_notices(graph)] == ["Node StartLoop has 1,000,000,000 iterations."]
    assert not validate_prompt(graph, DEFINITIONS).valid


def test_the_number_of_executions_is_that_of_all_loops_around() -> None:
    assert executions(nested(3, 4)) == {"1": 3, "2": 12, "3": 12, "4": 3}
    assert executions(nested(3, ["1", 0])) == {"1": 3, "2": 3, "3": 3, "4": 3}
    assert executions({"3": draw("1"), "6": show("3")}) == {}


def test_outputs_in_a_loop_that_are_executed_too_are_told() -> None:
    graph = {
        "1": simple(3),
        "2": draw("1"),
        "3": show("2"),
        "4": end("2", saved=["3", 0]),
        "5": show("4"),
        "7": show("8"),
        "8": node("Draw", size=4),
    }
    (told,) = also_executed(graph, ["5"], DEFINITIONS)
    assert told.startswith("Output node Show (id 3) is executed, too: it is in the loop of node S")
    assert not [*also_executed(graph, ["7"], DEFINITIONS)]
    assert not [*also_executed(graph, ["5", "3"], DEFINITIONS)]
    assert not [*also_executed(graph, ["5"], None)]  # by its name it is no output


def test_only_what_a_loop_does_not_execute_anew_is_cached() -> None:
    graph = {**nested(2, 2), "7": show("8"), "8": node("Draw", size=4)}
    assert executed_anew(graph) == {"1", "2", "3", "4", "5", "6"}
    graph["1"]["inputs"]["cache_iterations"] = graph["2"]["inputs"]["cache_iterations"] = True
    assert executed_anew(graph) == {"1", "2", "4", "5", "6"}
    assert executed_anew({"8": node("Draw", size=4)}) == set()
