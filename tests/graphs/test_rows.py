"""Groups of rows: how they are set, checked, described, exported and compared."""

import ast
import re
import time

import pytest
from jsonschema import Draft202012Validator

from comfydeploy_jupyter.errors import InvalidInputError, UnknownInputError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.diff import diff_graphs
from comfydeploy_jupyter.graphs.export import python_script, variable_names
from comfydeploy_jupyter.graphs.form import with_rows, workflow_form
from comfydeploy_jupyter.graphs.inputs import (
    apply_inputs,
    check_inputs,
    contract_of,
    file_names_in,
    load_files,
)
from tests.helpers.graphs import combo, declared, node, rows
from tests.helpers.waiting import grows_too_fast

NAME = ["COMBO", {"options": ["a", "b"]}]
STRENGTH = ["FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0}]
SIZE = ["INT", {"default": 8, "min": 1, "max": 64}]


def in_schema_3(classes):
    own = {"api_node": 0, "deprecated": 0, "experimental": 0, "is_input_list": []}
    entries = {name: {**entry, **own} for name, entry in classes.items()}
    return NodeDefinitions(entries, version="0.46.0")


MODE = combo(small={"size": SIZE}, large={"size": SIZE, "inner": rows(0, 2, w=SIZE)}, plain={})
DEFINITIONS = in_schema_3(
    {
        "Load": declared("Load", loras=rows(1, 3, "LoRA", name=NAME, strength=STRENGTH)),
        "Deep": declared(steps=rows(0, 4, "Step", mode=MODE, model=["MODEL", {}])),
        "Choice": declared(mode=combo(off={}, on={"parts": rows(2, 4, w=STRENGTH)})),
        "Save": {**declared(images=["*", {}]), "output_node": True},
    }
)
TWO = {"loras.0.name": "a", "loras.0.strength": 0.5, "loras.1.name": "b", "loras.1.strength": 1.5}
GRAPH = {
    "1": node("Load", "LoRA", **TWO),
    "2": node("Deep"),
    "3": node("Choice", mode="off"),
    "9": node("Save", images=["1", 0]),
}


def inputs(node_id, given):
    return apply_inputs(GRAPH, given, definitions=DEFINITIONS).graph[node_id]["inputs"]


@pytest.mark.parametrize("key", ["2.steps", "Deep.steps", "steps"])
def test_a_group_without_rows_gets_them_by_any_of_its_names(key):
    graph = {"2": node("Deep", "Deep")}
    applied = apply_inputs(graph, {key: [{"mode": "plain"}, {}]}, definitions=DEFINITIONS)
    assert applied.graph["2"]["inputs"] == {
        "steps.0.mode": "plain",
        "steps.1.mode": "small",
        "steps.1.mode.size": 8,
    }
    none = apply_inputs(applied.graph, {key: []}, definitions=DEFINITIONS)
    assert none.graph["2"]["inputs"] == {}
    first = apply_inputs(graph, {"2.steps.0.mode": "plain"}, definitions=DEFINITIONS)
    assert first.graph["2"]["inputs"] == {"steps.0.mode": "plain"}


@pytest.mark.parametrize("order", [1, -1])
def test_the_rows_of_an_option_are_set_with_it(order):
    given = [("3.mode", "on"), ("3.mode.parts", [{"w": 0.5}, {}])][::order]
    wanted = {"mode": "on", "mode.parts.0.w": 0.5, "mode.parts.1.w": 1.0}
    assert inputs("3", dict(given)) == wanted
    with pytest.raises(UnknownInputError):
        inputs("3", {"3.mode.parts": [{}, {}]})


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("2.steps", [{}] * 5, "2.steps: must have 0 to 4 rows, not 5"),
        ("2.steps", [{}, 3], "2.steps: must be a list with an object for each row, not [{}, 3]"),
        ("2.steps", None, "2.steps: must be a list with an object for each row, not null"),
        ("2.steps", [{}, {"kind": 1}], "2.steps: row 1 has no field 'kind'; the fields are mode"),
        ("2.steps", [{"mode": "plain", "mode.size": 1}], "row 0 has no field 'mode.size'"),
        ("LoRA.loras", [{}, {"strength": "x"}], 'LoRA.loras.1.strength: must be a number, not "x"'),
        ("1.loras", [{"strength": 5}], "LoRA.loras.0.strength: must be at most 2.0, not 5.0"),
        ("1.loras", [{"name": "c"}], 'LoRA.loras.0.name: must be one of "a", "b", not "c"'),
        (
            "2.steps",
            [{"mode": "large", "mode.inner": [{}] * 3}],
            "2.steps.0.mode.inner: must have 0 to 2 rows, not 3",
        ),
        (
            "2.steps",
            [{"mode": "large", "mode.inner": [{"x": 1}]}],
            "2.steps.0.mode.inner: row 0 has no field 'x'; the fields are w",
        ),
    ],
)
def test_what_is_wrong_in_rows_is_named(key, value, problem):
    graph = {**GRAPH, "9": node("Save", images=["1", 0], more=["2", 0])}

    def check():
        check_inputs(graph, apply_inputs(graph, {key: value}, definitions=DEFINITIONS), DEFINITIONS)

    with pytest.raises(InvalidInputError) as caught:
        check()
    assert problem in str(caught.value)
    assert caught.value.details["field"].startswith(f"inputs.{key}")


@pytest.mark.parametrize("row", ["3.name", "99999999999999999999.name", "01.name", "-1.name"])
@pytest.mark.parametrize("node", ["1", "LoRA"])
def test_the_key_of_no_row_is_refused_with_the_form_of_the_others(node, row):
    with pytest.raises(UnknownInputError) as error:
        inputs("1", {f"{node}.loras.{row}": "a"})
    told = "must be loras.<0 to 2>.<field>, with a field of name, strength"
    assert error.value.message == f"inputs.{node}.loras.{row}: {told}"


def test_the_fields_of_many_rows_are_set_in_linear_time():
    definitions = in_schema_3({"Many": declared(parts=rows(0, 9999, n=SIZE, s=STRENGTH))})

    def give(count, step=10_000):
        given = {f"1.parts.{row}.{name}": 1 for row in range(count) for name in "ns"}
        graph = {"1": node("Many")}
        for place in range(0, len(given), step):
            some = dict(list(given.items())[place : place + step])
            applied = apply_inputs(graph, some, definitions=definitions)
            check_inputs(graph, applied, definitions)
            graph = applied.graph
        assert len(graph["1"]["inputs"]) == 2 * count

    assert not grows_too_fast(give, 75)
    started = time.process_time()
    give(125, 1)
    assert time.process_time() - started < 0.6, "250 fields, one by one"


def test_the_schema_of_a_group_is_an_array_of_objects():
    schema = contract_of(GRAPH, DEFINITIONS)["inputs"]
    Draft202012Validator.check_schema(schema)
    loras = schema["properties"]["1.loras"]
    assert (loras["type"], loras["minItems"], loras["maxItems"]) == ("array", 1, 3)
    assert loras["x-kind"] == "rows"
    item = loras["items"]
    assert item["properties"]["name"]["enum"] == ["a", "b"]
    assert item["properties"]["strength"]["maximum"] == 2.0
    assert item["properties"]["strength"]["default"] == 1.0
    assert item["additionalProperties"] is False
    first = {"name": "a", "strength": 0.5}
    assert loras["default"] == [first, {"name": "b", "strength": 1.5}]
    steps = schema["properties"]["2.steps"]
    assert (steps["default"], steps["items"]["additionalProperties"]) == ([], True)
    assert not [key for key in schema["properties"] if key.startswith("1.loras.")]
    check = Draft202012Validator(schema).is_valid
    assert check({"1.loras": [first]})
    assert check({"2.steps": [{"mode": "large", "mode.size": 3, "model": ["1", 0]}]})
    for wrong in ([], [{}] * 4, [{"weight": 1}], [{"strength": 3}], [{"name": "c"}], "a"):
        assert not check({"1.loras": wrong}), wrong


def test_a_script_has_the_rows_as_one_variable():
    form = with_rows(workflow_form(GRAPH, DEFINITIONS))
    names = dict(zip((each.key for each in form), variable_names(form), strict=True))
    assert names["1.loras"] == "loras"
    code = python_script(GRAPH, form)
    assert "# LoRA: loras; 1 to 3 rows; name, one of 'a', 'b'; strength, 0 to 2" in code
    scope = {}
    for statement in ast.parse(code).body:
        target = getattr(statement, "targets", [None])[0]
        if isinstance(target, ast.Name) and target.id in names.values():
            exec(ast.unparse(statement), scope)
    assert scope["loras"] == [{"name": "a", "strength": 0.5}, {"name": "b", "strength": 1.5}]
    assert re.search(r"'1\.loras': loras,", code)
    assert inputs("1", {"1.loras": scope["loras"]}) == TWO


A, B, C = ({"name": name, "n": number} for name, number in (("a", 1), ("b", 2), ("c", 3)))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ([A, B], [A, B, C], ['row 3 added (name "c", n 3)']),
        ([A, B, C], [B, C], ['row 1 removed (name "a", n 1)']),
        ([A, B], [B, A], ["row 2 moved to 1"]),
        ([A, B, C], [C, A, B], ["row 3 moved to 1"]),
        ([A, B], [A, {**B, "n": 9}], ["row 2 n 2 → 9"]),
        ([A, {**B, "n": 9}, C], [C, A, B], ["row 3 moved to 1", "row 3 n 9 → 2"]),
        ([], [A], ['row 1 added (name "a", n 1)']),
        ([A, A], [A], ['row 2 removed (name "a", n 1)']),
        ([{**A, "n": ["2", 0]}], [A], ["row 1 n from node 2, output 0 → 1"]),
        ([A] * 1200, [A] * 1199 + [B], ['row 1200 name "a" → "b"', "row 1200 n 1 → 2"]),
    ],
)
def test_rows_are_compared_as_rows(old, new, told):
    def graph(listed):
        fields = {f"parts.{n}.{key}": v for n, row in enumerate(listed) for key, v in row.items()}
        return {"1": node("Load", **fields)}

    difference = diff_graphs(graph(old), graph(new))
    texts = [text.removeprefix("Load: parts ") for text in str(difference).splitlines()]
    assert sorted(texts) == sorted(told)
    assert not diff_graphs(graph(new), graph(new))


def test_saved_rows_are_compared_as_rows():
    def ui(*listed):
        names = [f"parts.{n}.{key}" for n, row in enumerate(listed) for key in row]
        slots = [{"name": name, "widget": {"name": name}, "link": None} for name in names]
        values = [len(listed), *(value for row in listed for value in row.values())]
        return {"nodes": [{"id": 1, "type": "Load", "inputs": slots, "widgets_values": values}]}

    assert str(diff_graphs(ui(A, B), ui(B))) == 'Load: parts row 1 removed (name "a", n 1)'
    assert str(diff_graphs(ui(A), ui(A, C))) == 'Load: parts row 2 added (name "c", n 3)'


def test_files_in_rows_get_loaders_like_others():
    inner = rows(0, 2, mask=["IMAGE", {}])
    loader = declared(image=["COMBO", {"options": ["a.png"], "image_upload": True}])
    mix = declared(rows=rows(0, 3, image=["IMAGE", {}], inner=inner))
    known = in_schema_3({"Mix": mix, "LoadImage": loader})
    given = {"Mix.rows": [{"image": "a.png"}, {"inner": [{"mask": "b.png"}]}, {"image": ""}]}
    applied = apply_inputs({"1": node("Mix", "Mix")}, given, definitions=known)
    graph = load_files(applied, known).graph
    assert graph["1"]["inputs"] == {
        "rows.0.image": ["1.rows.0.image", 0],
        "rows.1.inner.0.mask": ["1.rows.1.inner.0.mask", 0],
    }
    assert graph["1.rows.1.inner.0.mask"]["inputs"] == {"image": "b.png"}
    assert file_names_in(graph) == {"a.png", "b.png"}, "a pool copies these to its machine"


def test_a_row_with_a_very_long_number_is_shown_as_it_is():
    graph = {"1": node("Load", **{f"loras.{'1' * 5000}.name": "a"})}
    (field,) = workflow_form(graph, DEFINITIONS).fields
    assert field.label.startswith("Load: loras: 111")
