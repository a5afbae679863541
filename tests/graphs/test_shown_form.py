"""The form as JSON: rows, values and problems, also with the inputs that a user has set."""

import copy
import json

import pytest

from comfydeploy_jupyter.graphs.form import workflow_form
from comfydeploy_jupyter.graphs.shown_form import RunValues, shown_form
from tests.helpers.graphs import combo, declared, group, node
from tests.helpers.graphs import rows as row_group
from tests.helpers.waiting import grows_too_fast

SEED = ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}]
MODE = combo(
    small={"size": ["INT", {"default": 64, "min": 1, "max": 128}]},
    large={"size": ["INT", {"default": 1024}], "seed": SEED},
    plain={},
)
DEFINITIONS = {
    "Sample": declared(
        "Sampler",
        seed=SEED,
        steps=["INT", {"default": 20, "min": 1, "max": 100}],
        name=[["euler", "ddim"]],
    ),
    "Same": declared(name=[["euler", "ddim"]]),
    "Make": declared("Make it", mode=MODE, values=group("STRING", names=["x", "y"], min=0)),
    "Load": declared(
        "Load",
        loras=row_group(
            1,
            3,
            "LoRA",
            name=["COMBO", {"options": ["a", "b"]}],
            strength=["FLOAT", {"default": 1.0, "max": 2.0}],
            model=["MODEL", {}],
        ),
    ),
    "Latent": declared(width=["INT", {}], height=["INT", {}]),
}
GRAPH = {
    "3": node("Sample", "Red", seed=2**63, steps=20, name="euler"),
    "5": node("Make", mode="small", **{"mode.size": 100}),
    "7": node(
        "Load",
        **{
            "loras.0.name": "a",
            "loras.0.strength": 0.5,
            "loras.0.model": ["3", 0],
            "loras.1.name": "b",
            "loras.1.strength": 1.5,
        },
    ),
}


def shown(inputs=None, graph=GRAPH):
    before = copy.deepcopy(graph)
    form = shown_form(graph, DEFINITIONS, None, inputs)
    assert graph == before
    assert form == json.loads(json.dumps(form))
    assert form["values"].keys() == {r["key"] for r in form["rows"] if r["kind"] != "group"}
    return form


def rows(form):
    return {row["key"]: row for row in form["rows"]}


def test_a_form_has_what_a_page_needs_to_show_and_check_it():
    form = shown()
    steps, seed, name = (rows(form)[key] for key in ("3.steps", "3.seed", "3.name"))
    assert (steps["kind"], steps["min"], steps["most"]) == ("int", 1, "100")
    assert (steps["node"], steps["input"], steps["keys"]) == ("3", "steps", ["3.steps"])
    assert steps["names"] == ["3.steps", "steps", "Red.steps"]
    assert (steps["section"]["title"], steps["parts"]) == ("Red", ["Red: ", "steps", ""])
    assert steps["may_be_empty"] is True
    assert (seed["kind"], seed["most"]) == ("seed", str(2**64 - 1)), "exact"
    assert form["values"]["3.seed"] == str(2**63)
    assert form["choices"][name["choices"]] == ["euler", "ddim"]
    assert rows(form)["5.mode"]["dynamic"] is True
    assert form["unknown"] == form["problems"] == form["others"] == {}


def test_fields_with_the_same_choices_share_one_list():
    graph = {str(number): node("Same", name="euler") for number in range(50)}
    form = shown({}, graph)
    assert len(form["rows"]) == 50
    assert form["choices"] == [["euler", "ddim"]]


def test_another_option_brings_its_fields_and_the_old_ones_are_told_as_unknown():
    form = shown({"5.mode": "large", "5.mode.size": "77", "3.steps": "7"})
    assert rows(form)["5.mode.size"]["original"] == "1024"
    assert form["values"]["5.mode.size"] == "77"
    assert form["values"]["5.mode.seed"] == "0"
    assert (form["values"]["3.steps"], rows(form)["3.steps"]["original"]) == ("7", "20")
    plain = shown({"5.mode": "plain", "5.mode.size": "77"})
    assert "5.mode.size" not in rows(plain)
    assert list(plain["unknown"]) == ["5.mode.size"]
    wrong = shown({"5.mode": "huge"})
    assert wrong["problems"] == {"5.mode": "must be one of small, large, plain"}


@pytest.mark.parametrize(
    ("inputs", "problems"),
    [
        ({"3.steps": "0"}, {"3.steps": "must be at least 1"}),
        ({"Red.steps": "101"}, {"3.steps": "must be at most 100"}),
        ({"steps": "1.5"}, {"3.steps": "must be a whole number"}),
        ({"3.seed": str(2**64)}, {"3.seed": f"must be at most {2**64 - 1}"}),
        ({"3.seed": str(2**64 - 1)}, {}),
        ({"5.mode.size": 4}, {}),
        ({"7.loras": [{"strength": "2.5"}]}, {"7.loras.0.strength": "must be at most 2"}),
    ],
)
def test_wrong_values_are_kept_and_named(inputs, problems):
    form = shown(inputs)
    assert form["problems"] == problems
    ((key, value),) = inputs.items()
    if not isinstance(value, list):
        (name,) = [k for k, row in rows(form).items() if key in row.get("names", ())]
        assert form["values"][name] == str(value)


def test_inputs_of_a_group_are_added_and_removed():
    values = rows(shown())["5.values"]
    assert (values["next"], values["last"], values["can_shrink"]) == ({"5.values.x": ""}, [], False)
    one = shown({**values["next"], "5.values.x": "text"})
    assert one["values"]["5.values.x"] == "text"
    assert rows(one)["5.values.x"]["original"] == ""
    assert rows(one)["5.values"]["next"] == {"5.values.y": ""}
    assert rows(one)["5.values"]["last"] == ["5.values.x"]
    none = shown(dict.fromkeys(rows(one)["5.values"]["last"]))
    assert none["rows"] == shown()["rows"]


def test_rows_are_added_removed_and_moved_by_a_list_of_them():
    form = shown()
    loras = rows(form)["7.loras"]
    assert (loras["hint"], loras["least"], loras["most"]) == ("2 rows", 1, 3)
    first, second = loras["rows"]
    assert first == {"name": "a", "strength": 0.5, "model": ["3", 0]}
    assert loras["next"] == {"7.loras.2.name": "a", "7.loras.2.strength": 1.0}
    assert loras["last"] == ["7.loras.1.name", "7.loras.1.strength"]
    place = {"group": "7.loras", "place": 1, "index": 1, "title": "LoRA #2"}
    assert rows(form)["7.loras.1.name"]["parts"] == ["Load: LoRA #2 ", "name", ""]
    assert rows(form)["7.loras.1.name"]["row"] == place
    assert rows(form)["3.steps"]["row"] is None
    moved = shown({"7.loras": [second, first]})
    assert rows(moved)["7.loras"]["rows"] == [second, first], "with its link"
    assert moved["others"] == {}, "the group shows its rows"
    assert moved["values"]["7.loras.0.name"] == "b"
    assert rows(moved)["7.loras.0.name"]["original"] == "a"
    added = shown(loras["next"])
    assert rows(added)["7.loras"]["can_grow"] is False
    assert rows(added)["7.loras"]["rows"] == [first, second, {"name": "a", "strength": 1.0}]
    removed = shown({"7.loras": [second]})
    assert rows(removed)["7.loras"]["can_shrink"] is False
    assert rows(removed)["7.loras"]["rows"] == [second]
    assert "7.loras.1.name" not in removed["values"]
    again = shown(dict.fromkeys(loras["last"]))
    assert rows(again)["7.loras"]["rows"] == [first]


def test_what_has_no_field_is_told():
    form = shown({"3.steps": ["7", 0], "7.loras.0.model": ["5", 1], "nothing": 1})
    assert form["others"] == {"3.steps": "['7', 0]", "7.loras.0.model": "['5', 1]"}
    assert list(form["unknown"]) == ["nothing"]


def test_a_height_names_its_width():
    graph = {
        "1": node("Latent", width=8, height=8),
        "2": node("PrimitiveInt", "Poster Width", value=1),
        "3": node("PrimitiveInt", "Poster Height", value=1),
        "4": node("PrimitiveInt", "Line height", value=1),
    }
    found = rows(shown({}, graph))
    widths = {key: row["width"] for key, row in found.items()}
    assert widths == {
        "1.width": None,
        "1.height": "1.width",
        "2.value": None,
        "3.value": "2.value",
        "4.value": None,
    }


def test_seeds_are_in_front_unless_the_author_chose_other_inputs_in_app_mode():
    texts = {"Text": declared("Text", **{f"x{n}": ["BOOLEAN", {}] for n in range(30)})}
    definitions = {**DEFINITIONS, **texts}
    graph = {
        "1": node("Text", **{f"x{n}": True for n in range(30)}),
        **{str(n): node("Sample", seed=n, steps=20) for n in range(2, 5)},
    }
    found = rows(shown_form(graph, definitions))
    assert [found[f"{n}.seed"]["more"] for n in range(2, 5)] == [False] * 3
    assert sum(not row["more"] for row in found.values()) <= 15
    nodes = [{"id": 1, "type": "Text"}, *({"id": n, "type": "Sample"} for n in range(2, 5))]
    ui = {"nodes": nodes, "links": [], "extra": {"linearData": {"inputs": [[1, "x3"]]}}}
    chosen = rows(shown_form(graph, definitions, ui))
    assert [key for key, row in chosen.items() if not row["more"]] == ["1.x3"]


@pytest.mark.parametrize("control", ["randomize", "fixed", "increment"])
def test_a_number_that_the_editor_draws_anew_is_a_seed_in_front(control):
    number = ["INT", {"min": -(2**63), "max": 2**63, "control_after_generate": True}]
    texts = {f"x{n}": ["BOOLEAN", {}] for n in range(30)}
    definitions = {"PrimitiveInt": declared(value=number), "Text": declared("Text", **texts)}
    graph = {"1": node("Text", **dict.fromkeys(texts, True)), "2": node("PrimitiveInt", value=7)}
    one = {"id": 2, "type": "PrimitiveInt", "widgets_values": [7, control]}
    ui = {"nodes": [{"id": 1, "type": "Text"}, one], "links": []}
    form = shown_form(graph, definitions, ui)
    drawn = control == "randomize"
    assert rows(form)["2.value"]["kind"] == ("seed" if drawn else "int")
    assert form["unlocked"] == (["2.value"] if drawn else [])
    if drawn:
        assert not rows(form)["2.value"]["more"]


def test_values_that_do_not_fit_are_marked_until_they_are_replaced():
    graph = {"3": node("Sample", seed=1, steps="euler", name="euler")}
    form = shown({}, graph)
    assert form["problems"] == {"3.steps": "must be an integer"}
    assert len(form["mismatches"]) == 1
    assert shown({"3.steps": "4"}, graph)["problems"] == {}


def test_the_time_grows_with_the_number_of_nodes_only():
    def show(count):
        graph = {str(n): node("Sample", seed=n, steps=20, name="euler") for n in range(count)}
        form = shown_form(graph, DEFINITIONS, None, {"1.steps": 3})
        assert len(form["rows"]) == 3 * count

    assert not grows_too_fast(show, 100)


def test_all_names_of_an_input_find_it():
    graph = {
        **GRAPH,
        "8": node("Sample", "Red", steps=3),
        "9": node("ComfyUIDeployExternalNumberInt", input_id="size", default_value=1),
        "10": node("Sample", "steps.of", steps=3, seed=1),
    }
    for key, row in rows(shown({}, graph)).items():
        if row["kind"] == "group":
            continue
        for name in row["names"]:
            assert shown({name: 1}, graph)["values"][key] in ("1", 1, True), name
    fields = workflow_form(graph, DEFINITIONS).fields
    assert {field.key for field in fields} <= set(rows(shown({}, graph)))


def test_the_values_of_a_run_are_given_by_the_keys_of_fields():
    graph = {"3": node("KSampler", seed=1, steps=20)}
    executed = {"3": node("KSampler", seed=2**64 - 1, steps=20), "9": node("Other", a=1)}
    run = RunValues(executed, {"KSampler.steps": 20}, {"3.seed": 2**64 - 1})
    form = shown_form(graph, {}, run=run)
    assert form["given"] == {"3.seed": str(2**64 - 1)}
    assert form["values"]["3.seed"] == str(2**64 - 1)
    assert form["untold"] == []
    other = shown_form({"3": node("KSampler", steps=1), "4": node("X", b=2)}, {}, run=run)
    assert other["given"] == {"3.steps": "20"}
    assert other["untold"] == ["3.seed", "X: b"]
