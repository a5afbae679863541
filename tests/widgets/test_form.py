from __future__ import annotations

from typing import Any

import ipywidgets as w
import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.inputs import FormField
from comfydeploy_jupyter.widgets.form import SHOWN, Form


def field(kind: str, value: Any, **more: Any) -> FormField:
    return FormField("1.x", "Node: x", kind, "1", "x", value, **more)


def widget(form: Form) -> Any:
    return form.box.children[0]


@pytest.mark.parametrize(
    ("given", "kind", "new"),
    [
        (field("text", "a"), w.Text, "b"),
        (field("multiline", "a\nb"), w.Textarea, "c\nd"),
        (field("bool", False), w.Checkbox, True),
        (field("int", 3), w.IntText, 4),
        (field("int", 3, min=0, max=10, step=1), w.IntSlider, 4),
        (field("int", 512, min=1, max=16384), w.BoundedIntText, 640),
        (field("int", -5, min=0, max=10), w.IntText, 4),
        (field("int", 2**60), w.Text, 2**60 + 1),
        (field("seed", 2**64 - 1), w.Text, 7),
        (field("float", 0.5, min=0.0, max=1.0, step=0.01), w.FloatSlider, 0.7),
        (field("float", 0.5, min=0.0, max=1e6), w.BoundedFloatText, 0.7),
        (field("float", 2.0, min=0.0, max=1.0), w.FloatText, 0.7),
        (field("combo", "a", options=["a", "b"]), w.Dropdown, "b"),
        (field("combo", "gone", options=["a", "b"]), w.Dropdown, "b"),
        (field("image", "a.png", options=["a.png", "b.png"]), w.Dropdown, "b.png"),
        (field("image", "a.png", options=[]), w.Text, "b.png"),
        (field("color", 0x0102FF), w.ColorPicker, 0xFF0000),
        (field("color", 1 << 30), w.IntText, 4),
        (field("int", "odd"), w.Text, "odder"),
    ],
)
def test_a_field_shows_its_value_and_gives_the_new_one(
    given: FormField, kind: type[Any], new: object
) -> None:
    form = Form([given])
    assert type(widget(form)) is kind
    assert widget(form).description == "Node: x"
    assert form.values() == {}, "an untouched form changes nothing"
    form.set("1.x", new)
    assert form.values() == {"1.x": new}


def test_an_integer_stays_one_and_a_text_that_is_none_is_refused() -> None:
    form = Form([field("seed", 1)])
    widget(form).value = "12x"
    with pytest.raises(InvalidRequestError, match="Node: x: must be a number"):
        form.values()
    assert form.values(seeds=False) == {}


def test_an_unknown_key() -> None:
    with pytest.raises(KeyError):
        Form([field("int", 1)]).set("2.x", 1)


def test_advanced_fields_and_what_is_too_much_wait_in_an_accordion() -> None:
    plain = [FormField(f"{i}.y", f"L{i}", "int", str(i), "y", i) for i in range(SHOWN + 3)]
    form = Form([field("text", "a", advanced=True), *plain])
    *shown, accordion = form.box.children
    assert [child.description for child in shown] == [f"L{i}" for i in range(SHOWN)]
    assert accordion.titles == ("More inputs (4)",)
    form.set(f"{SHOWN + 2}.y", 99)
    form.set("1.x", "b")
    assert form.values() == {"1.x": "b", f"{SHOWN + 2}.y": 99}


def test_closing_leaves_no_widgets() -> None:
    before = set(w.widgets.widget._instances)
    form = Form([field("color", 1), field("text", "a", advanced=True)])
    form.close()
    left = [
        value
        for key, value in w.widgets.widget._instances.items()
        if key not in before and isinstance(value, (w.Box, w.Text, w.ColorPicker, w.Accordion))
    ]
    assert left == []
