"""Valid and damaged graphs."""

from __future__ import annotations

from typing import Any

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.ui import check_integrity

from .test_ui_to_api import SHARED


@pytest.mark.skipif(not SHARED, reason="the shared samples are not beside this repository")
@pytest.mark.parametrize("name", SHARED)
def test_check_integrity_accepts_saved_workflows(name: str) -> None:
    if name == "mutated/dangling_input_link":
        with pytest.raises(InvalidRequestError, match="input 'vae' of node '8' is linked to link"):
            check_integrity(SHARED[name]["ui"], field="workflow")
    else:
        check_integrity(SHARED[name]["ui"], field="workflow")
        if "api" in SHARED[name]:
            check_integrity(SHARED[name]["api"], field="workflow_api")


def sink(link: Any, key: Any = 2) -> dict[str, Any]:
    return {"id": key, "type": "B", "inputs": [{"name": "x", "type": "*", "link": link}]}


SOURCE = {"id": 1, "type": "A"}


@pytest.mark.parametrize(
    "graph",
    [
        {"nodes": [SOURCE, sink(5)], "links": [[5, 1, 0, 2, 0, "*"]]},
        {"nodes": [SOURCE, sink(5)], "links": [{"id": 5, "origin_id": 1, "target_id": 2}]},
        {"nodes": [SOURCE, sink(None)], "links": [[6, 9, 0, 8, 0, "*"]]},
        {"nodes": [SOURCE, sink(5)]},
        {"nodes": [{"type": "A"}, {"type": "A"}], "links": []},
        {
            "nodes": [SOURCE],
            "definitions": {
                "subgraphs": [
                    {
                        "nodes": [{**sink(5), "id": 1}],
                        "links": [{"id": 5, "origin_id": -10, "target_id": 1}],
                    },
                    5,
                ]
            },
        },
        {"1": {"class_type": "A", "inputs": {"x": ["2", "y"], "z": [1, 2, 3]}}},
    ],
)
def test_check_integrity_accepts(graph: dict[str, Any]) -> None:
    check_integrity(graph, field="workflow")


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ({"nodes": [SOURCE, SOURCE], "links": []}, "two nodes with the id '1'"),
        ({"nodes": [SOURCE, sink(5)], "links": []}, "input 'x' of node B is linked to link 5"),
        ({"nodes": [sink(5)], "links": [[5, 1, 0, 2, 0, "*"]]}, "is linked to node '1'"),
        ({"nodes": [sink(5)], "links": [5, [], {}]}, "is linked to link 5"),
        ({"1": {"class_type": "A", "inputs": {"x": ["2", 0]}}}, "is linked to node '2'"),
    ],
)
def test_check_integrity_refuses(graph: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        check_integrity(graph, field="workflow")
    assert caught.value.details["field"] == "workflow"
