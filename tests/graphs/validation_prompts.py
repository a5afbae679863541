"""Small graphs of ComfyUI's own nodes, functions that damage them, and replies to them."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import requests

from tests.helpers.graphs import node
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from comfydeploy_jupyter.graphs.validation import Validation

Prompt = dict[str, Any]

SINKS = {"ImageInvert": "image", "PreviewImage": "images"}
EMPTY = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
INVERT, PREVIEW = (node(kind, **{name: ["1", 0]}) for kind, name in SINKS.items())
BLEND = {"image1": ["2", 0], "image2": ["1", 0], "blend_factor": 0.5, "blend_mode": "normal"}
PRIMITIVES = {"Int": 3, "Float": 0.5, "String": "word", "Boolean": True}

# valid graphs
IMAGE: Prompt = {
    "1": EMPTY,
    "2": INVERT,
    "3": node("ImageBlend", **BLEND),
    "4": node("PreviewImage", images=["3", 0]),
}
TWO_OUTPUTS: Prompt = {
    "1": EMPTY,
    "2": INVERT,
    "good": PREVIEW,
    "other": node("PreviewImage", images=["2", 0]),
}
OF_VALUES: Prompt = {
    **{kind: node(f"Primitive{kind}", value=value) for kind, value in PRIMITIVES.items()},
    **{f"{kind}s": node("PreviewAny", source=[kind, 0]) for kind in PRIMITIVES},
}

# fmt: off
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3.7, -0.5, 1e30, 10**30, -(10**30), "", "5", " 7 ", "1_0", "0x10",
    "3.0", "1e3", "nan", "-inf", "9" * 400, "normal", "NORMAL", "é\"'", {}, {"a": 1},
    {"__value__": 2}, {"__value__": "area"}, {"__value__": None}, {"__value__": [1, 2]},
    {"__value__": {"__value__": 1}}, [], ["1"], ["1", 0, 2], ["1", 0], ["1", 1], ["1", -1],
    ["1", 99], ["1", -99], ["1", "0"], ["1", None], ["1", 0.0], ["1", 0.5], ["1", True], ["1", [0]],
    ["2", 0], ["3", 0], ["nobody", 0], [1, 0], [None, 0], [True, 0], [["1"], 0], [{"a": 1}, 0],
    [0, "1"],
]

NODES: list[Any] = [
    None, 7, 1.5, True, "text", "class_type", [], ["class_type"], {}, {"inputs": {}},
    {"class_type": None, "inputs": {}}, {"class_type": "Nobody's \"node\"", "inputs": {}},
    {"class_type": 5}, {"class_type": "Gone", "_meta": {"title": "M"}},
    {"class_type": []}, {"class_type": {}}, {"class_type": "PreviewImage"},
    {"class_type": "ImageInvert"}, node("ImageInvert"), node("PreviewImage"), node("EmptyImage"),
]
# fmt: on
NODES += [
    {"class_type": class_type, "inputs": inputs}
    for class_type in ("ImageInvert", "PreviewImage")
    for inputs in (None, 3, True, 0.5, "", "images and image", [], ["image", "images"])
]


def chain(length: int) -> Prompt:
    """Return a chain whose first node is invalid, so that ComfyUI does not queue it."""
    prompt = {"0": {**EMPTY, "inputs": {**EMPTY["inputs"], "width": 0}}}
    for step in range(1, length - 1):
        prompt[str(step)] = node("ImageInvert", image=[str(step - 1), 0])
    prompt[str(length - 1)] = node("PreviewImage", images=[str(length - 2), 0])
    return prompt


def with_input(prompt: Prompt, node_id: str, name: str, value: Any) -> Prompt:
    changed = copy.deepcopy(prompt)
    changed[node_id]["inputs"][name] = value
    return changed


def without_input(prompt: Prompt, node_id: str, name: str) -> Prompt:
    changed = copy.deepcopy(prompt)
    del changed[node_id]["inputs"][name]
    return changed


def make_files(base: Path) -> None:
    """Create the files that the recorded graphs name in ComfyUI's base directory."""
    files = ("input/cat.png", "input/cat.latent", "input/clip.mp4", "input/sub/nested.png")
    models = ("models/checkpoints/base.safetensors", "models/loras/style.safetensors")
    for path in (*files, *models, "output/old.png", "temp/half.png"):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).touch()


def places(prompt: Prompt) -> list[tuple[str, str]]:
    """Return the node id and the name of every input."""
    return [(node_id, name) for node_id in prompt for name in prompt[node_id]["inputs"]]


# -- replies -----------------------------------------------------------------------------------

_FOLLOWER = {"traceback", "input_name", "input_config", "linked_node"}


def post_prompt(url: str, prompt: Any) -> dict[str, Any]:
    """Return a ComfyUI's reply, or ``raises`` if it fails; leave its queue empty."""
    reply = requests.post(f"{url}/prompt", data=json.dumps({"prompt": prompt}), timeout=60)
    if reply.status_code == 500:
        return {"raises": True}
    if reply.ok:
        requests.post(f"{url}/queue", json={"clear": True}, timeout=60).raise_for_status()
        requests.post(f"{url}/interrupt", json={}, timeout=60).raise_for_status()
    answer = json.loads(reply.text, parse_constant=str)
    for entry in answer["node_errors"].values():
        for error in entry["errors"]:
            error["extra_info"].pop("traceback", None)
    node_errors = answer["node_errors"]
    return {"valid": reply.ok, "error": answer.get("error"), "node_errors": node_errors}


def wait_until_idle(url: str) -> None:
    until(
        lambda: requests.get(f"{url}/queue", timeout=60).json(),
        lambda queue: not queue["queue_running"] and not queue["queue_pending"],
    )


def comparable(valid: bool, error: dict[str, Any] | None, node_errors: dict[str, Any]) -> Any:
    """Return a reply in which all data from ComfyUI's sets is sorted or removed."""
    if error is not None:
        error = {**error, "details": sorted(words(error["details"]).split("\n"))}
    nodes = {}
    for node_id, entry in node_errors.items():
        # an output is also added to bad nodes that were validated before, related or not
        one = len(node_errors) == 1
        dependents = sorted(entry["dependent_outputs"]) if one else bool(entry["dependent_outputs"])
        errors = sorted(_error(error) for error in entry["errors"])
        nodes[node_id] = {**entry, "errors": errors, "dependent_outputs": dependents}
    return valid, error, nodes


def _error(error: dict[str, Any]) -> str:
    extra = dict(error["extra_info"])
    if error["type"].startswith("exception_"):
        # the order also decides which of several dependent nodes reports an exception
        extra = {key: value for key, value in extra.items() if key not in _FOLLOWER}
    return words(json.dumps({**error, "extra_info": extra}, sort_keys=True))


def words(text: str) -> str:
    """Return Python's error message in the form of all versions; some are longer since 3.11."""
    return text.replace("must be integers, not 'str'", "must be integers").replace(
        "the limit (4300 digits)", "the limit (4300)"
    )


def comparable_result(result: Validation) -> Any:
    """Return our own reply in the same form, after conversion to JSON and back."""
    text = json.dumps([result.valid, result.error, result.node_errors])
    return comparable(*json.loads(text, parse_constant=str))
