"""The form without a page: the state that it sends, and how it handles messages."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import comfydeploy_jupyter
from comfydeploy_jupyter.comfyui.definitions import BUNDLE
from comfydeploy_jupyter.errors import (
    InvalidInputError,
    InvalidRequestError,
    UnknownInputError,
)
from comfydeploy_jupyter.graphs.form import FormField, input_form, workflow_form
from comfydeploy_jupyter.graphs.shown_form import SHOWN, unlocked_seeds
from comfydeploy_jupyter.widgets import Panel
from comfydeploy_jupyter.widgets.form import Form
from tests.helpers.graphs import combo, declared, group, node, rows

PACKAGE = Path(comfydeploy_jupyter.__file__).parent


@pytest.fixture
def form() -> Any:
    panel = Panel()
    made = Form(panel)
    yield made
    made.close()
    panel.close()


def field(kind: str, value: Any, **more: Any) -> FormField:
    return FormField("1.x", "Node: x", kind, "1", "x", value, **more)


def show(form: Form, *fields: FormField, unlocked: tuple[str, ...] = ()) -> Form:
    graph: dict[str, Any] = {}
    for each in fields:
        node = graph.setdefault(each.node_id, {"class_type": "A", "inputs": {}})
        node["inputs"][each.input_name] = each.value
    form.show(fields, graph, unlocked)
    return form


def receive(form: Form, kind: str, **message: Any) -> None:
    """Send the form a message as its page would."""
    form._handle_custom_msg({"kind": kind, **message}, [])


def type_in(form: Form, value: object, key: str = "1.x") -> None:
    receive(form, "typed", values={key: value})


@pytest.mark.parametrize(
    ("given", "kind", "written", "typed", "new"),
    [
        (field("text", "a"), "text", "a", "b", "b"),
        (field("multiline", "a\nb"), "multiline", "a\nb", "c\nd", "c\nd"),
        (field("bool", False), "bool", False, True, True),
        (field("int", 3), "int", "3", "4", 4),
        (field("int", 512, min=1, max=16384, step=8), "int", "512", " 640 ", 640),
        (field("int", 2**60), "int", str(2**60), str(2**60 + 1), 2**60 + 1),
        (field("seed", 2**64 - 1), "seed", str(2**64 - 1), "7", 7),
        (field("float", 0.5, min=0.0, max=1.0, step=0.01), "float", "0.5", "0.7", 0.7),
        (field("float", 2, min=0.0, max=1e6), "float", "2", "1e3", 1000.0),
        (field("combo", "a", options=["a", "b"]), "combo", "a", "b", "b"),
        (field("combo", 1, options=[1, 2]), "combo", 1, 2, 2),
        (field("combo", "gone", options=["a", "b"]), "combo", "gone", "b", "b"),
        (field("image", "a.png", options=["a.png", "b.png"]), "image", "a.png", "b.png", "b.png"),
        (field("image", "a.png", options=[]), "image", "a.png", "http://b", "http://b"),
        (field("video", "a.mp4", options=["a.mp4"]), "video", "a.mp4", "b.mp4", "b.mp4"),
        (field("audio", "a.mp3"), "audio", "a.mp3", "b.mp3", "b.mp3"),
        (field("color", 0x0102FF), "color", "#0102ff", "#FF0000", 0xFF0000),
        (field("int", "odd"), "text", "odd", "5", 5),
        (field("int", -5, min=0, max=10), "int", "-5", "7", 7),
        # the error of binary fractions is never shown
        (field("float", 5.000000000000001), "float", "5.0", "4", 4.0),
    ],
)
def test_a_field_shows_its_value_and_typed_values_are_read(
    form: Form, given: FormField, kind: str, written: object, typed: object, new: object
) -> None:
    show(form, given)
    (shown,) = form.fields
    assert shown["kind"] == kind
    assert shown["original"] == form.values["1.x"] == written
    assert form.changed() == {}, "an untouched form changes nothing"
    assert form.to_send() == {"1.x": given.value}
    type_in(form, typed)
    assert form.changed() == form.to_send() == {"1.x": new}
    assert type(form.changed()["1.x"]) is type(new)
    form.set("1.x", given.value)
    assert form.changed() == {}
    form.set("1.x", new)
    assert form.changed() == {"1.x": new}
    assert "values" not in form.get_state("fields"), "what was typed is not sent back"


@pytest.mark.parametrize(
    ("kind", "more", "shown", "typed", "read"),
    [
        ("text", {}, "", "a", "a"),
        ("text", {"default": "ComfyUI"}, "ComfyUI", "b", "b"),
        ("int", {"min": 1, "max": 9}, "", "3", 3),
        ("float", {}, "", "0.5", 0.5),
        ("seed", {"default": 0}, "0", "7", 7),
        ("color", {}, "", "#000001", 1),
        ("combo", {"options": ["a", "b"]}, None, "b", "b"),
        ("image", {"options": ["a.png"]}, None, "a.png", "a.png"),
        ("image", {}, "", "a.png", "a.png"),
    ],
)
def test_a_required_input_is_marked_and_reported_when_it_is_empty(
    form: Form, kind: str, more: dict[str, Any], shown: object, typed: object, read: object
) -> None:
    form.show([field(kind, None, required=True, advanced=True, **more)], {"1": {"inputs": {}}})
    (row,) = form.fields
    assert (row["kind"], row["required"], row["more"]) == (kind, True, False)
    assert row["hint"].startswith("required")
    assert row["original"] == form.values["1.x"] == shown
    if "default" in more:
        assert form.changed() == {}
        assert form.to_send() == {"1.x": more["default"]}
        type_in(form, "")
    with pytest.raises(InvalidRequestError, match="Node: x: must have a value"):
        form.to_send()
    assert form.problems == {"1.x": "must have a value, because the workflow has none"}
    type_in(form, typed)
    assert form.problems == {}
    assert form.to_send() == {"1.x": read}
    form.reset()
    assert form.values["1.x"] == shown


def test_a_required_switch_is_off_and_a_text_may_be_empty_by_default(form: Form) -> None:
    text = FormField("1.y", "Node: y", "text", "1", "y", None, default="", required=True)
    declared = {"A": {"input": {"required": {"x": ["BOOLEAN"], "y": ["STRING"]}}}}
    graph = {"1": {"class_type": "A", "inputs": {}}}
    form.show([field("bool", None, required=True), text], graph, definitions=declared)
    assert form.to_send() == {"1.x": False, "1.y": ""}
    assert form.reuse({"1.x": True}, {}, {"1": {"class_type": "A", "inputs": {"x": True}}}) == []
    assert form.to_send() == {"1.x": True, "1.y": ""}


@pytest.mark.parametrize(
    ("given", "typed", "problem"),
    [
        (field("seed", 1), "12x", "must be a whole number"),
        (field("int", 1), "1.5", "must be a whole number"),
        (field("float", 1.0), "", "must be a number"),
        (field("int", 20, min=1, max=100), "0", "must be at least 1"),
        (field("float", 0.5, min=0.0, max=1.0), "1.01", "must be at most 1"),
        (field("color", 1), "red", "must be a colour like"),
    ],
)
def test_impossible_values_are_refused_with_the_name_of_the_field(
    form: Form, given: FormField, typed: str, problem: str
) -> None:
    show(form, given)
    type_in(form, typed)
    with pytest.raises(InvalidRequestError, match=f"Node: x: {problem}"):
        form.changed()


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (field("int", 1, min=1, max=100, step=1, default=20), "1 to 100 · default 20"),
        (field("int", 8, min=16, max=64, step=8), "16 to 64, step 8"),
        (field("int", 1, min=0, max=2**64 - 1), "from 0"),
        (field("float", 1.0, min=0.0, max=1.0, default=0.25), "0 to 1 · default 0.25"),
        (field("combo", "a", options=["a", "b"], default="b"), "default b"),
        (field("bool", True, default=True), "default yes"),
        (field("seed", 1, default=0), ""),
        (field("color", 1, default=255), "default #0000ff"),
        (field("multiline", "x", default="y"), ""),
    ],
)
def test_range_and_default_are_shown(form: Form, given: FormField, hint: str) -> None:
    show(form, given)
    assert form.fields[0]["hint"] == hint


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input_name": "width", "min": 16, "max": 4096, "step": 8}, "16 to 4096 pixels, step 8"),
        ({"input_name": "target_height"}, "pixels"),
        ({"input_name": "width", "kind": "float", "min": 0.0, "max": 1.0}, "0 to 1"),
        ({"input_name": "bbox_width", "min": 0, "max": 300}, "0 to 300"),
        ({"input_name": "video_frames", "min": 1}, "frames, from 1"),
        ({"input_name": "frame_count", "max": 99}, "up to 99 frames"),
        ({"input_name": "fps", "kind": "float"}, "frames per second"),
        ({"input_name": "seconds_total", "kind": "float", "min": 1.0}, "seconds, from 1"),
        ({"input_name": "length", "min": 1, "max": 81, "step": 4}, "1 to 81, step 4"),
        ({"input_name": "duration"}, ""),
        ({"input_name": "value", "title": "Width"}, "pixels"),
        ({"input_name": "value", "title": "Frame rate", "max": 60}, "up to 60 frames per second"),
        ({"input_name": "value", "title": "Blur"}, ""),
        ({"input_name": "default_value", "key": "height"}, "pixels"),
        ({"input_name": "steps", "title": "Width"}, ""),
    ],
)
def test_the_unit_is_shown_with_the_range_if_the_name_contains_it(
    form: Form, given: dict[str, Any], words: str
) -> None:
    show(form, replace(field("int", 1), **given))
    shown = form.fields[0]
    assert (shown["range"], shown["hint"]) == (words, words)


def test_each_number_of_the_core_nodes_shows_its_range(form: Form) -> None:
    """A number with a bound that a browser can show is never without a placeholder."""
    with gzip.open(PACKAGE / "comfyui" / BUNDLE) as bundle:
        definitions = json.load(bundle)["object_info"]
    numbers = 0
    for name, definition in definitions.items():
        specs = {k: s for part in definition["input"].values() for k, s in part.items()}
        inputs = {k: s[1].get("default", 0) for k, s in specs.items() if s[0] in ("INT", "FLOAT")}
        graph = {"1": {"class_type": name, "inputs": inputs}}
        made = workflow_form(graph, definitions, None).fields
        form.show(made, graph)
        has_bound = {
            each.key: any(
                bound is not None and abs(bound) < 2**53 for bound in (each.min, each.max)
            )
            for each in made
        }
        for row in form.fields:
            if row["kind"] in ("int", "float"):
                numbers += 1
                assert row["range"] or not has_bound[row["key"]], (name, row["key"])
                assert row["range"] in row["hint"]
    assert numbers > 500


def test_an_input_is_set_by_any_of_its_names(form: Form) -> None:
    size = {"input_id": "size", "default_value": 64}
    graph = {
        "1": node("A", "Sampler v1.5", steps=20, pictures=["2", 0], shared=1),
        "2": node("B", shared=2),
        "3": node("ComfyUIDeployExternalNumberInt", **size),
    }
    form.show(input_form(graph), graph)
    for name, value in (("1.steps", 5), ("Sampler v1.5.steps", 6), ("steps", 7)):
        form.set(name, value)
        assert form.changed() == {"1.steps": value}
        assert form.get_state()["values"]["1.steps"] == str(value), "the page has it"
    form.set("size", 65)
    assert form.changed()["size"] == 65
    form.set("3.default_value", 66)
    assert form.changed() == {"1.steps": 7, "size": 66}
    form.set("pictures", [1, 2])
    assert form.to_send()["pictures"] == [1, 2]
    assert form.others == [{"key": "pictures", "value": "[1, 2]"}]
    form.set("1.pictures", "a.png")
    assert form.others == [{"key": "1.pictures", "value": "a.png"}], "the same input"
    with pytest.raises(UnknownInputError, match=r"did you mean Sampler v1\.5\.steps"):
        form.set("1.step", 1)
    with pytest.raises(UnknownInputError, match=r"several.*Sampler v1\.5\.shared, 2\.shared"):
        form.set("shared", 1)
    form.set("steps", {"__value__": [3]})
    assert form.changed()["steps"] == {"__value__": [3]}, "no text that looks like it"
    type_in(form, "9", "1.steps")
    assert form.changed()["1.steps"] == 9
    assert "steps" not in form.changed(), "what was typed last counts"
    form.show(input_form(graph), graph)
    assert form.changed() == {}
    assert form.others == []


def test_each_field_that_is_wrong_is_marked_until_it_is_changed(form: Form) -> None:
    fields = [
        FormField("1.a", "A", "int", "1", "a", 5, min=1, max=9),
        FormField("1.b", "B", "float", "1", "b", 5.0),
        FormField("2.c", "C", "text", "2", "c", "x"),
    ]
    show(form, *fields)
    form.set("1.a", 10)
    form.set("1.b", "much")
    with pytest.raises(InvalidRequestError, match="A: must be at most 9"):
        form.to_send()
    assert form.problems == {"1.a": "must be at most 9", "1.b": "must be a number"}
    form.set("1.a", 9)
    assert form.problems == {"1.b": "must be a number"}
    type_in(form, "1.5", "1.b")
    assert form.problems == {}
    fault = {
        "message": "Value not in list",
        "details": "c: 'x' not in []",
        "extra_info": {"input_name": "c"},
    }
    form.mark_errors({"2": {"class_type": "A", "errors": [fault, {}, 3]}, "9": [], "1": None})
    assert form.problems == {"2.c": "Value not in list: c: 'x' not in []"}
    missing = {"message": "Invalid file", "extra_info": {"input_name": "image"}}
    form.mark_errors({"2.c": {"class_type": "LoadImage", "errors": [missing, {}, 3]}})
    assert form.problems == {"2.c": "Invalid file"}, "reported for the node that loads its file"


def test_advanced_and_excess_fields_are_shown_on_request(form: Form) -> None:
    plain = [FormField(f"{i}.y", f"L{i}", "int", str(i), "y", i) for i in range(SHOWN + 3)]
    external = [FormField(f"in{i}", f"E{i}", "text", f"e{i}", "v", "") for i in range(3)]
    show(form, *external, *plain)
    shown = [field["label"] for field in form.fields if not field["more"]]
    assert shown == ["E0", "E1", "E2", *(f"L{i}" for i in range(SHOWN - 3))]
    many = [FormField(f"in{i}", f"E{i}", "text", f"e{i}", "v", "") for i in range(2 * SHOWN)]
    show(form, *many, plain[0], FormField("z.x", "Z", "text", "z", "x", "a", advanced=True))
    waiting = [field["label"] for field in form.fields if field["more"]]
    assert waiting == ["L0", "Z"], "what the author of the workflow chose is never hidden"
    show(form, *[replace(each, chosen=True) for each in plain])
    assert not any(row["more"] for row in form.fields)


def test_external_inputs_are_sent_only_when_they_were_changed(form: Form) -> None:
    show(form, FormField("photo", "Photo", "image", "7", "default_value", ""), field("int", 3))
    assert form.to_send() == {"1.x": 3}
    form.set("photo", "a.png")
    assert form.to_send() == {"1.x": 3, "photo": "a.png"}


def test_seeds_are_drawn_unless_they_are_locked(form: Form) -> None:
    seeds = [
        FormField("1.seed", "A", "seed", "1", "seed", 5, min=0, max=2**64 - 1),
        FormField("2.seed", "B", "seed", "2", "seed", 6, min=10, max=12),
    ]
    show(form, *seeds, unlocked=("2.seed",))
    assert form.locked == ["1.seed"]
    drawn = {form.draw()["2.seed"] for _ in range(100)}
    assert drawn == {10, 11, 12}
    assert form.to_send() == {"1.seed": 5, "2.seed": 6}, "no run has been accepted"
    form.show_drawn({"1.seed": 7, "2.seed": 11})
    form.show_drawn({"2.seed": 12})
    assert form.to_send() == {"1.seed": 5, "2.seed": 12}
    type_in(form, "10", "2.seed")
    form.show_drawn({"2.seed": 11})
    assert form.to_send() == {"1.seed": 5, "2.seed": 10}, "a value was typed since"
    receive(form, "lock", key="1.seed", locked=False)
    assert form.draw()["1.seed"] < 2**53, "a page must be able to hold it"


def test_the_values_of_a_run_are_those_of_its_own_graph_whatever_their_keys(form: Form) -> None:
    """A picture, or a workflow that code has changed, has its values in the graph."""
    fields = [
        FormField("1.steps", "Steps", "int", "1", "steps", 20),
        FormField("1.seed", "Seed", "seed", "1", "seed", 5),
        FormField("2.text", "Text", "multiline", "2", "text", "a dog"),
        FormField("3.text", "Other", "multiline", "3", "text", "a fish"),
    ]
    show(form, *fields, unlocked=("1.seed",))
    form.set("1.steps", 3)
    texts = {
        n: {"class_type": "A", "inputs": {"text": word}}
        for n, word in (("2", "a cat"), ("3", "a fish"))
    }
    run = {"1": {"class_type": "A", "inputs": {"steps": 20, "seed": 2**60}}, **texts}
    assert form.reuse({"text": "a cat", "gone": 1}, {"1.seed": 2**60}, run) == []
    assert form.changed() == {"2.text": "a cat", "1.seed": 2**60}
    assert form.locked == ["1.seed"]
    run["1"]["inputs"] = {"steps": 4, "seed": 5, "hidden": [1, 2, 3]}
    run["3"] = {"class_type": "B", "inputs": {"text": "a bird"}}
    assert form.reuse({"steps": 4}, {}, run) == ["1.hidden", "Other"]
    assert form.changed() == {"1.steps": 4, "2.text": "a cat"}


def test_seeds_that_the_editor_would_draw_are_not_locked() -> None:
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20}}}
    fields = [FormField("3.seed", "Seed", "seed", "3", "seed", 5)]
    seed = ["INT", {"default": 0, "control_after_generate": True}]
    required = {"seed": seed, "steps": ["INT", {"default": 20}]}
    definitions = {"KSampler": {"input": {"required": required}}}
    for word, unlocked in (("randomize", ["3.seed"]), ("fixed", [])):
        node = {"id": 3, "type": "KSampler", "widgets_values": [5, word, 20], "inputs": []}
        ui = {"nodes": [node], "links": []}
        assert unlocked_seeds(fields, graph, ui, definitions) == unlocked
    assert unlocked_seeds(fields, graph, None, definitions) == []


# --- dynamic combos and groups that grow


DYNAMIC = {
    "Make": declared(
        mode=combo(
            small={"size": ["INT", {"default": 64, "min": 1, "max": 128}]},
            large={
                "size": ["INT", {"default": 1024}],
                "seed": ["INT", {"default": 3, "max": 99}],
                "note": ["STRING", {"default": "hello"}],
            },
        ),
        values=group("STRING", names=["a", "b", "c"], min=1),
    )
}


SMALL = {"mode": "small", "mode.size": 100}
LARGE = {"mode": "large", "mode.size": 1024, "mode.note": "hello"}
VALUES = {"values.a": "first", "values.b": "second"}


def show_dynamic(form: Form) -> None:
    graph = {"5": {"class_type": "Make", "inputs": {**SMALL, **VALUES}}}
    made = workflow_form(graph, DYNAMIC)
    form.show(
        made.fields,
        graph,
        groups=made.groups,
        definitions=DYNAMIC,
        make=lambda changed: workflow_form(changed, DYNAMIC),
    )


def keys(form: Form) -> list[str]:
    return [row["key"] for row in form.fields if not row["more"]]


def test_a_value_that_arrives_late_does_not_replace_what_was_typed_after_it(form: Form) -> None:
    """The main thread of the kernel gets a message later than its subshell, if it is busy."""
    show_dynamic(form)
    receive(form, "typed", id="b", page="p", number=2, values={"5.mode.size": "80"})
    receive(form, "typed", id="a", page="p", number=1, values={"5.mode.size": "9"})
    assert form.changed() == {"5.mode.size": 80}
    receive(form, "typed", id="c", page="p", number=3, values={"5.mode.size": "90"})
    receive(form, "typed", id="d", page="q", number=1, values={"5.mode.size": "91"})
    assert form.changed() == {"5.mode.size": 91}, "each page numbers its own messages"


def test_another_option_changes_the_fields_below_it_and_the_request_of_a_run(form: Form) -> None:
    show_dynamic(form)
    assert keys(form) == ["5.mode", "5.mode.size", "5.values.a", "5.values.b", "5.values"]
    receive(form, "typed", values={"5.mode.size": "90", "5.values.a": "mine"})
    type_in(form, "large", "5.mode")
    assert keys(form)[:4] == ["5.mode", "5.mode.size", "5.mode.seed", "5.mode.note"]
    assert form.values["5.mode.size"] == "1024", "of its default, not of the other option"
    assert form.values["5.values.a"] == "mine", "what else was typed stays"
    assert form.changed() == {"5.mode": "large", "5.values.a": "mine"}
    sent = {**LARGE, "mode.seed": 3, **VALUES, "values.a": "mine"}
    assert form.to_send() == {f"5.{key}": value for key, value in sent.items()}
    assert form.draw().keys() == {"5.mode.seed"}, "a seed that an option brings is drawn"
    type_in(form, "small", "5.mode")
    sent = {**SMALL, **VALUES, "values.a": "mine"}
    assert form.to_send() == {f"5.{key}": value for key, value in sent.items()}


def test_code_chooses_an_option_and_sets_its_inputs(form: Form) -> None:
    show_dynamic(form)
    with pytest.raises(UnknownInputError):
        form.set("5.mode.note", "too early")
    form.set("mode", "large")
    form.set("5.mode.note", "now")
    assert form.changed() == {"5.mode": "large", "5.mode.note": "now"}
    before = form.changed()
    with form.keeping():
        show_dynamic(form)
    assert form.changed() == before
    form.use(dict(reversed(before.items())), [])
    assert form.changed() == before
    inputs = {**LARGE, "mode.seed": 8, **VALUES, "values.c": "third"}
    run = {"5": {"class_type": "Make", "inputs": inputs}}
    assert form.reuse({}, {"5.mode.seed": 8}, run) == []
    assert form.to_send() == {f"5.{key}": value for key, value in inputs.items()}


def test_values_that_are_not_valid_are_kept_when_the_form_is_made_anew(form: Form) -> None:
    show_dynamic(form)
    form.set("5.mode", "large")
    receive(form, "typed", values={"5.mode.seed": "12x", "5.mode.note": "mine"})
    receive(form, "grow", key="5.values", more=True)
    form.set("5.values", [1])
    receive(form, "lock", key="5.mode.seed", locked=True)
    assert form.valid() == {
        "5.mode": "large",
        "5.mode.note": "mine",
        "5.values.c": "",
        "5.values": [1],
    }
    valid = form.valid()
    with form.keeping():
        show_dynamic(form)
    assert form.valid() == valid
    assert form.get_state()["values"]["5.mode.seed"] == "12x"
    assert form.locked == ["5.mode.seed"]
    with pytest.raises(InvalidRequestError, match="must be a whole number"):
        form.changed()
    type_in(form, "12", "5.mode.seed")
    assert form.changed() == {**valid, "5.mode.seed": 12}


def test_what_is_typed_while_the_form_is_made_anew_is_not_lost(form: Form) -> None:
    """JupyterLab sends the messages of a page to several threads."""
    show_dynamic(form)
    typed = {"kind": "typed", "values": {"5.mode.size": "90"}}
    page = threading.Thread(target=receive, args=(form,), kwargs=typed)
    type_in(form, "80", "5.mode.size")
    with form.keeping():
        page.start()
        page.join(0.2)  # it may not end before the values are there again
        show_dynamic(form)
    page.join()
    assert form.changed() == {"5.mode.size": 90}


def test_a_file_that_was_uploaded_for_another_workflow_is_dropped(form: Form) -> None:
    picture = field("image", "a.png")

    def upload(name: str, number: int) -> None:
        receive(form, "uploaded", form_number=number, key="1.x", name=name)

    show(form, picture)
    first = form.form_number
    upload("b.png", first)
    with form.keeping():  # as for another machine
        show(form, picture)
    assert form.changed() == {"1.x": "b.png"}
    upload("c.png", first)
    assert form.changed() == {"1.x": "c.png"}
    show_dynamic(form)
    upload("late.png", first)
    assert form.changed() == {}
    show(form, picture)
    upload("late.png", first)
    assert form.changed() == {}, "the same field of another workflow"
    assert form._panel.error == ""
    upload("d.png", form.form_number)
    assert form.changed() == {"1.x": "d.png"}


def test_groups_grow_and_shrink_between_their_bounds(form: Form) -> None:
    show_dynamic(form)
    receive(form, "grow", key="5.values", more=True)
    assert "5.values.c" in keys(form)
    receive(form, "grow", key="5.values", more=True)
    row = next(row for row in form.fields if row["kind"] == "group")
    assert (row["can_grow"], row["can_shrink"], row["hint"]) == (False, True, "3 values")
    type_in(form, "third", "5.values.c")
    assert form.changed() == {"5.values.c": "third"}
    receive(form, "grow", key="5.values", more=False)
    assert form.changed() == {}
    receive(form, "grow", key="5.values", more=False)
    assert form.changed() == {"5.values.b": None}
    assert form.to_send()["5.values.b"] is None
    receive(form, "grow", key="5.values", more=False)
    assert form.changed() == {"5.values.b": None}, "one is the least"
    receive(form, "grow", key="5.values", more=True)
    assert form.values["5.values.b"] == "second", "it is there again"
    form.set("5.values.c", "by code")
    assert form.changed() == {"5.values.c": "by code"}


LORAS = {
    "Load": declared(
        loras=rows(
            1,
            3,
            "LoRA",
            name=["COMBO", {"options": ["a", "b"]}],
            seed=["INT", {"default": 0}],
            model=["MODEL", {}],
        )
    )
}
FIRST, SECOND = {"name": "a", "seed": 5, "model": ["2", 0]}, {"name": "b", "seed": 7}


def load(*listed: dict[str, Any]) -> dict[str, Any]:
    fields = {f"loras.{n}.{key}": v for n, row in enumerate(listed) for key, v in row.items()}
    return {"1": node("Load", "LoRA", **fields), "2": node("Other")}


def show_rows(form: Form) -> None:
    graph = load(FIRST, SECOND)
    made = workflow_form(graph, LORAS)
    form.show(
        made.fields,
        graph,
        groups=made.groups,
        definitions=LORAS,
        make=lambda changed: workflow_form(changed, LORAS),
    )


def test_rows_are_moved_removed_and_added_with_their_values(form: Form) -> None:
    show_rows(form)
    assert form.changed() == {}
    receive(form, "arrange", key="1.loras", order=[1, 0])
    assert form.values["1.loras.0.name"] == "b"
    assert form.changed() == {"1.loras": [SECOND, FIRST]}, "with its link"
    assert "1.loras.0.name" not in form.to_send()
    receive(form, "arrange", key="1.loras", order=[1, 0])
    assert form.changed() == {}
    typed = [{"values": {"1.loras.1.seed": "8"}}]
    receive(form, "arrange", key="1.loras", order=[1, None], typed=typed)
    added = {"name": "a", "seed": 0}
    assert form.changed() == {"1.loras": [{**SECOND, "seed": 8}, added]}
    type_in(form, "9", "1.loras.1.seed")
    assert form.to_send() == {"1.loras": [{**SECOND, "seed": 8}, {**added, "seed": 9}]}
    for order in ([], [0, 1, None, None]):
        receive(form, "arrange", key="1.loras", order=order)
    assert len(form.changed()["1.loras"]) == 2, "limits are kept"
    assert form.draw().keys() == {"1.loras.1.seed", "1.loras.0.seed"} - set(form.locked)
    form.reset()
    assert form.changed() == {}


def test_code_sets_rows_by_a_list(form: Form) -> None:
    show_rows(form)
    form.set("LoRA.loras", [{"name": "b"}])
    assert form.changed() == {"1.loras": [{"name": "b", "seed": 0}]}
    assert (form.others, form.values["1.loras.0.seed"]) == ([], "0")
    form.set("1.loras.1.seed", 4)
    changed = {"1.loras": [{"name": "b", "seed": 0}, {"name": "a", "seed": 4}]}
    assert form.changed() == changed
    with form.keeping():
        show_rows(form)
    assert form.changed() == changed
    form.use({}, [])
    assert form.changed() == {}
    assert form.use(changed, []) == []
    assert form.changed() == changed
    for wrong, problem in (([], "must have 1 to 3 rows"), ([{"x": 1}], "row 0 has no field 'x'")):
        with pytest.raises(InvalidInputError, match=problem):
            form.set("loras", wrong)
    assert form.changed() == changed


@pytest.mark.parametrize(
    "rows_of_run",
    [[FIRST, SECOND], [SECOND], [SECOND, FIRST], [FIRST, SECOND, {"name": "a", "seed": 1}]],
)
def test_the_rows_of_a_run_are_used_again(form: Form, rows_of_run: list[Any]) -> None:
    show_rows(form)
    form.set("1.loras.2.name", "b")
    assert form.reuse({"1.loras": []}, {}, load(*rows_of_run)) == []
    same = rows_of_run == [FIRST, SECOND]
    assert form.changed() == ({} if same else {"1.loras": rows_of_run})
    assert form.others == []


def test_one_field_sets_all_that_a_promoted_widget_leads_to(form: Form) -> None:
    twin = field("seed", 3, chosen=True, twins=("2.y",))
    show(form, twin, unlocked=("1.x",))
    assert form.to_send() == {"1.x": 3, "2.y": 3}
    drawn = form.draw()
    assert drawn == {"1.x": drawn["2.y"], "2.y": drawn["1.x"]}
    form.show_drawn(drawn)
    assert form.changed() == drawn


@pytest.mark.parametrize("way", ["use", "reuse", "keeping"])
def test_a_field_that_sets_several_inputs_sets_all_of_them_after_a_preset(
    form: Form, way: str
) -> None:
    """The values of a preset, of a run, and those kept for another machine name each input."""
    twin = FormField("2.x", "Node: x", "int", "2", "x", 3, chosen=True, twins=("1.y",))
    graph = {"1": {"inputs": {"y": 3}}, "2": {"inputs": {"x": 3}}}
    form.show([twin], graph)

    def give(inputs: dict[str, Any]) -> None:
        if way == "reuse":
            run = {"1": {"inputs": {"y": inputs["1.y"]}}, "2": {"inputs": {"x": inputs["2.x"]}}}
            assert form.reuse(inputs, {}, run) == []
        else:
            form.use(inputs, [])
        if way == "keeping":
            with form.keeping():
                form.show([twin], graph)

    give({"1.y": 10, "2.x": 10})
    assert form.others == []
    assert form.changed() == {"1.y": 10, "2.x": 10}
    type_in(form, "20", "2.x")
    assert form.to_send() == {"1.y": 20, "2.x": 20}
    give({"1.y": 7, "2.x": 10})
    assert form.others == [{"key": "1.y", "value": "7"}], "set by code to another value"
    assert form.to_send() == {"1.y": 7, "2.x": 10}
    type_in(form, "30", "2.x")
    assert form.others == []
    assert form.to_send() == {"1.y": 30, "2.x": 30}


def labels(form: Form) -> list[tuple[str | None, str]]:
    """Return for each row the heading above it, and the part of its label that is shown."""
    return [
        (row["section"] and row["section"]["title"], row["parts"][1])
        for row in form.fields
        if "".join(row["parts"]) == row["label"]
    ]


def test_inputs_of_a_node_are_together_and_the_node_is_named_once(form: Form) -> None:
    graph = {
        "1": node("A", "Scale", width=8, steps=3, note="short"),
        "2": node("A", "Scale", width=16, steps=4, note="short"),
        "3": node("B", factor=2.0),
    }
    form.show(input_form(graph), graph)
    assert labels(form) == [
        ("Scale (node 1)", "width"),
        ("Scale (node 1)", "steps"),
        ("Scale (node 2)", "width"),
        ("Scale (node 2)", "steps"),
        (None, "B: factor"),
        (None, "Scale: note (node 1)"),
        (None, "Scale: note (node 2)"),
    ]
    assert [row["key"] for row in form.fields][:4] == ["1.width", "1.steps", "2.width", "2.steps"]


def test_the_order_of_the_author_stays(form: Form) -> None:
    chosen = [
        FormField(f"{node}.x", label, "int", node, "x", 1, chosen=True, title=title)
        for node, title, label in (
            ("1", "Host", "Prompt"),
            ("2", "Host", "Host: x"),
            ("3", "Other", "Other: x"),
            ("4", "Host", "Last"),
        )
    ]
    show(form, *chosen)
    assert labels(form) == [("Host", "Prompt"), ("Host", "x"), (None, "Other: x"), (None, "Last")]


@pytest.mark.parametrize(
    ("given", "slides"),
    [
        (field("float", 0.5, min=0.0, max=1.0, step=0.01), True),
        (field("int", 20, min=1, max=100), True),
        (field("int", 20, min=1, max=10_000), False),
        (field("float", 1.0, min=0.0, max=1.0), False),
        (field("float", 1.0, min=0.0, max=1e6, step=0.1, slider=True), True),
        (field("int", 1, min=0), False),
        (field("int", 0, min=0, max=0), False),
    ],
)
def test_a_range_that_is_small_enough_has_a_slider(
    form: Form, given: FormField, slides: bool
) -> None:
    show(form, given)
    assert form.fields[0]["slider"] is slides


def test_all_changes_are_undone_at_once(form: Form) -> None:
    show_dynamic(form)
    type_in(form, "large", "5.mode")
    type_in(form, "bye", "5.mode.note")
    receive(form, "grow", key="5.values", more=True)
    form.set("5.values", [1])
    assert form.changed() != {}
    receive(form, "reset")
    assert form.changed() == {}
    assert form.others == []
    assert form.values["5.mode.size"] == "100"


def test_an_input_without_a_value_is_left_to_comfyui(form: Form) -> None:
    show(form, field("combo", None, remote="class_type=A&input=x"))
    assert form.values == {"1.x": ""}
    assert (form.changed(), form.to_send()) == ({}, {})
    type_in(form, "v1")
    assert form.to_send() == {"1.x": "v1"}
    type_in(form, "")
    assert form.to_send() == {}, "as in the workflow"


def test_the_options_of_a_route_are_asked_for_a_page_that_cannot(form: Form) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    sent: list[Any] = []

    class FakeServer:
        def get(self, path: str, **fields: Any) -> Any:
            asked.append((path, fields))
            if len(asked) > 1:
                raise InvalidRequestError("no list")
            return {"options": []}

    form._panel._comfy = SimpleNamespace(server=FakeServer())
    form._panel.start = lambda task, *args: task(*args)  # in this thread
    form.send = sent.append
    show(form, field("combo", "a", remote="class_type=A&input=x"))
    form.machine = "studio"
    receive(form, "options", id="7", key="1.x")
    query = {"class_type": "A", "input": "x", "machine": "studio"}
    assert asked == [("node-options", query)]
    receive(form, "options", id="8", key="1.x")
    assert sent == [
        {"kind": "options", "id": "7", "reply": {"options": []}},
        {"kind": "options", "id": "8", "error": "no list"},
    ]


def test_the_edit_of_a_video_is_set_by_code_and_in_the_page(form: Form) -> None:
    show(form, field("video_edit", {"trim": {"duration": 2.0}}, features=("trim",)))
    assert form.values == {"1.x": '{"trim":{"duration":2}}'}
    assert form.changed() == {}
    form.set("1.x", {"trim": {"duration": 3}})
    assert form.values == {"1.x": '{"trim":{"duration":3}}'}
    assert form.others == []
    assert form.changed() == {"1.x": {"trim": {"duration": 3}}}
    type_in(form, '{"trim":{"duration":-1}}')
    with pytest.raises(InvalidRequestError, match="trim: duration must be a number of seconds"):
        form.changed()
    used = {"1.x": {"trim": {"duration": 5}}}
    form.reuse(used, {}, {"1": node("A", x=used["1.x"])})
    assert form.changed() == used
    assert form.others == []
