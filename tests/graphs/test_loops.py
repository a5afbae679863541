"""Loops: `tests/golden/small.jsonl` has what ComfyUI 0.38 refuses about them; here is the rest."""

import random
import time

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
from tests.helpers.graphs import SMALL_CLASSES, node

DEFINITIONS = NodeDefinitions(SMALL_CLASSES["loops"])


def start(parent=None):
    return node("StartLoop", **({} if parent is None else {"parent_iteration": [parent, 0]}))


def end(value, accumulate=False, **more):
    return node("EndLoop", accumulate=accumulate, output_value=[value, 0], **more)


def draw(size):
    return node("Draw", size=[size, 0])


def show(images):
    return node("Show", images=[images, 0])


FOR = ("mode", "mode.start_iteration_index", "mode.max_iteration", "mode.step")


def test_a_graph_with_very_many_loops_takes_no_long_time():
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


def test_any_prompt_is_judged():
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


def counted(**inputs):
    return node("StartLoop", **{name.replace("__", "."): value for name, value in inputs.items()})


def simple(count, parent=None, **more):
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
def test_iterations_are_known_if_they_are_numbers(inputs, count):
    assert iterations_of({"class_type": "StartLoop", "inputs": inputs}) == count


def nested(outer, inner):
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
def test_loops_without_end_and_without_iterations_are_told(outer, inner, told):
    graph = nested(outer, inner) | {"9": node("Draw", size=4)}
    notices = list(loop_notices(graph))
    assert len(notices) >= len(told)
    assert all(any(part in notice for notice in notices) for part in told), notices
    assert bool(notices) == bool(told)
    result = validate_prompt(graph, DEFINITIONS)
    assert result.valid
    assert result.warnings == notices


def test_a_faulty_loop_with_many_iterations_is_told_too():
    graph = {"1": simple(10**9), "2": draw("1"), "6": show("2")}
    assert [*loop_notices(graph)] == ["Node StartLoop has 1,000,000,000 iterations."]
    assert not validate_prompt(graph, DEFINITIONS).valid


def test_the_number_of_executions_is_that_of_all_loops_around():
    assert executions(nested(3, 4)) == {"1": 3, "2": 12, "3": 12, "4": 3}
    assert executions(nested(3, ["1", 0])) == {"1": 3, "2": 3, "3": 3, "4": 3}
    assert executions({"3": draw("1"), "6": show("3")}) == {}


def test_outputs_in_a_loop_that_are_executed_too_are_told():
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


def test_only_what_a_loop_does_not_execute_anew_is_cached():
    graph = {**nested(2, 2), "7": show("8"), "8": node("Draw", size=4)}
    assert executed_anew(graph) == {"1", "2", "3", "4", "5", "6"}
    graph["1"]["inputs"]["cache_iterations"] = graph["2"]["inputs"]["cache_iterations"] = True
    assert executed_anew(graph) == {"1", "2", "4", "5", "6"}
    assert executed_anew({"8": node("Draw", size=4)}) == set()
