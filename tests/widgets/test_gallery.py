"""The state of the gallery for a result."""

from __future__ import annotations

from typing import Any

from comfydeploy_jupyter.client import Result
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.widgets.gallery import view_state

OUTPUTS: dict[str, Any] = {
    "1": {"text": ["one"], "images": [{"filename": "1.png"}]},
    "2": {
        "text": ["two"],
        "a_images": [{"filename": "a.png"}],
        "b_images": [{"filename": "b.png"}],
    },
    "7:3": {"images": [{"filename": "inner.exr"}], "3d": [{"filename": "m.spz"}]},
}


def names(facts: dict[str, Any], *, waits: bool) -> list[str]:
    return [item["name"] for item in facts["items"] if item["waits"] is waits]


def of(chosen: list[str], outputs: dict[str, Any] = OUTPUTS) -> dict[str, Any]:
    reply = {"prompt_id": "p", "status": "success", "outputs": outputs}
    return view_state(Result(Server("http://h/"), reply), chosen)


def test_without_chosen_outputs_all_are_shown_at_once() -> None:
    for chosen in ([], ["99"]):
        facts = of(chosen)
        assert names(facts, waits=False) == ["1.png", "a.png", "b.png", "inner.exr", "m.spz"]
        assert [item["kind"] for item in facts["items"]] == ["image", "image", "image", "hdr", "3d"]
        assert facts["pairs"] == [[1, 2]]
        assert [text["waits"] for text in facts["texts"]] == [False, False]


def test_the_size_of_a_picture_is_shown_if_comfyui_has_said_it() -> None:
    sized = {"filename": "a.png", "metadata": {"kind": "image", "width": 8, "height": 4}}
    facts = of([], {"1": {"images": [sized, {"filename": "b.png"}]}})
    assert [item["size"] for item in facts["items"]] == [[8, 4], None]


def test_the_outputs_that_the_author_chose_come_in_that_order() -> None:
    facts = of(["7", "2"])
    assert names(facts, waits=False) == ["inner.exr", "m.spz", "a.png", "b.png"]
    assert names(facts, waits=True) == ["1.png"]
    assert facts["pairs"] == [[2, 3]]
    assert [(text["text"], text["waits"]) for text in facts["texts"]] == [
        ("two", False),
        ("one", True),
    ]


def test_outputs_have_the_same_order_in_each_run() -> None:
    more = {**OUTPUTS, "a": {"text": ["last"]}, "10": {"text": ["ten"]}}
    backwards = dict(reversed(more.items()))
    for chosen in ([], ["7"]):
        facts = of(chosen, backwards)
        assert facts == of(chosen, more)
        assert [text["text"] for text in facts["texts"]] == ["one", "two", "ten", "last"]
