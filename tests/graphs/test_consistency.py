"""Whether a workflow in UI format shows the graph that comes with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.ui import check_consistency

ROOT = Path(__file__).parents[2]
RECORDED = [
    path
    for path in (
        ROOT / "tests" / "golden" / "ui_to_api.jsonl.gz",
        ROOT.parent / "shared" / "samples" / "convert.jsonl.gz",
    )
    if path.exists()
]


def pairs(path: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    return [line for line in lines if line.get("api")]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_recorded_pairs_agree(path: Path) -> None:
    found = pairs(path)
    assert len(found) > 50
    for pair in found:
        check_consistency(pair["api"], pair["ui"])


@pytest.mark.parametrize(
    ("origin", "slot", "agrees"),
    [(1, 0, True), (1, 1, False), (3, 0, False), (4, 0, True), (99, 0, True)],
    ids=["the same", "another slot", "another node", "behind a reroute", "from nowhere"],
)
def test_links_are_compared_where_no_editor_is_needed(origin: int, slot: int, agrees: bool) -> None:
    image = {"class_type": "EmptyImage", "inputs": {}}
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}}
    drawn = [(1, "EmptyImage"), (2, "SaveImage"), (3, "EmptyImage"), (4, "Reroute")]
    ui: dict[str, Any] = {"nodes": [{"id": number, "type": kind} for number, kind in drawn]}
    ui["nodes"][1]["inputs"] = [{"name": "images", "link": 7}, {"name": "filename_prefix"}]
    ui["links"] = [[7, origin, slot, 2, 0, "IMAGE"]]
    graph = {"1": image, "2": save, "3": image}
    if agrees:
        check_consistency(graph, ui)
        return
    with pytest.raises(
        InvalidRequestError, match=f"'images' of node SaveImage .* \\(id {origin}\\)"
    ):
        check_consistency(graph, ui)


def test_a_node_of_another_class_is_another_graph() -> None:
    ui = {"nodes": [{"id": 1, "type": "LoadImage"}]}
    check_consistency({"1": {"class_type": "LoadImage", "inputs": {}}}, ui)
    for node_id, kind in (("1", "EmptyImage"), ("2", "LoadImage")):
        with pytest.raises(InvalidRequestError, match=f"node {kind} is not in workflow"):
            check_consistency({node_id: {"class_type": kind, "inputs": {}}}, ui)
