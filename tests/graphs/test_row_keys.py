"""The keys of rows, against what was recorded from ComfyUI 0.38 and is written down here anew."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.validation import validate_prompt
from tests.helpers.graphs import node
from tests.helpers.selection import examples

FIELDS = {"name": ["STRING", {}], "n": ["INT", {"min": 0, "max": 9}]}
OPTIONAL = {"weight": ["FLOAT", {"min": 0.0, "max": 1.0}]}
DIGITS = "0123456789\u0661\u00b2+-._ x"
INDEXES = st.one_of(
    st.integers(0, 5).map(str),
    st.integers(0, 10**20).map(str),
    st.text(DIGITS, max_size=4),
    st.integers(0, 12).map(lambda number: f"{number:03}"),
)
OWN = st.sampled_from(["name", "n", "weight", "other", "", "name.more", "0.n"])
KEYS = st.tuples(INDEXES, OWN).map(lambda parts: f"rows.{parts[0]}.{parts[1]}") | st.sampled_from(
    ["rows", "rows.", "rows.0", "rowsx.0.n", "row.0.n", ".rows.0.n", "Rows.0.n"]
)
VALUES = {"name": st.just("a"), "n": st.integers(-2, 12), "weight": st.sampled_from([0.5, 7.0])}


def known(least: int, most: int) -> NodeDefinitions:
    template = {"required": FIELDS, "optional": OPTIONAL}
    rows = ["COMFY_DYNAMICGROUP_V3", {"template": template, "min": least, "max": most}]
    entry = {"input": {"optional": {"rows": rows}}, "output_node": True}
    v3 = {"api_node": False, "deprecated": False, "experimental": False}
    return NodeDefinitions({"Rows": {**entry, **v3}})


def wrong_key(inputs: dict[str, Any], least: int, most: int) -> tuple[str, str] | None:
    """Return the input that has a wrong set of rows, and the text about it."""
    rows = set()
    for key in inputs:
        if not key.startswith("rows."):
            continue
        index, _, own = key[5:].partition(".")
        if not re.fullmatch("(?a:0|[1-9][0-9]*)", index) or own not in {**FIELDS, **OPTIONAL}:
            expected = "expected 'rows.<index>.<template field>'."
            return key, f"Invalid DynamicGroup input key '{key}'; {expected}"
        if int(index) > most - 1:
            limit = f"exceeds the index limit of {most - 1} (max={most})."
            return key, f"DynamicGroup input '{key}' {limit}"
        rows.add(int(index))
    if len(rows) < least:
        text = f"received {len(rows)} rows; expected between {least} and {most}."
        return "rows", f"DynamicGroup input 'rows' {text}"
    return None


def wrong_values(inputs: dict[str, Any]) -> set[tuple[str, str]]:
    """Return type and input of the errors about rows whose keys are right."""
    rows = {key.split(".")[1] for key in inputs if key.startswith("rows.")}
    found = set()
    for row in rows:
        for name in FIELDS:
            if f"rows.{row}.{name}" not in inputs:
                found.add(("required_input_missing", f"rows.{row}.{name}"))
        for name, (_, options) in {**FIELDS, **OPTIONAL}.items():
            value = inputs.get(f"rows.{row}.{name}")
            if name == "name" or value is None:
                continue
            if value < options["min"]:
                found.add(("value_smaller_than_min", f"rows.{row}.{name}"))
            if value > options["max"]:
                found.add(("value_bigger_than_max", f"rows.{row}.{name}"))
    return found


@settings(max_examples=examples(400))
@given(
    data=st.data(),
    limits=st.tuples(st.integers(0, 3), st.integers(0, 12)),
    keys=st.lists(KEYS, max_size=5),
    rows=st.lists(st.integers(0, 11), max_size=4, unique=True),
)
def test_rows_are_judged_as_recorded(
    data: st.DataObject, limits: tuple[int, int], keys: list[str], rows: list[int]
) -> None:
    least, most = limits[0], sum(limits)
    inputs = {
        f"rows.{row}.{name}": data.draw(values)
        for row in rows
        for name, values in VALUES.items()
        if data.draw(st.integers(0, 9))
    }
    if data.draw(st.booleans()):
        inputs |= dict.fromkeys(keys, 1)
    result = validate_prompt({"1": node("Rows", **inputs)}, known(least, most))
    errors = result.node_errors.get("1", {}).get("errors", [])
    wrong = wrong_key(inputs, least, most)
    if wrong is not None:
        (error,) = errors
        assert (error["type"], error["details"]) == ("invalid_dynamic_input", wrong[1])
        assert error["extra_info"] == {"input_name": wrong[0]}
        return
    told = {(error["type"], error["extra_info"]["input_name"]) for error in errors}
    assert told == wrong_values(inputs)
    assert result.valid == (not told)
