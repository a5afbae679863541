"""References to assets in workflows, and signed cursors: pure functions."""

import pytest

from comfydeploy_jupyter.compat.comfy_api import (
    APIError,
    asset_ids,
    cursor_after,
    position_of,
    with_names,
)


def reference(asset_id):
    return {"__type": "core/ASSET", "info": {"id": asset_id, "file_path": "a.png"}}


def test_references_are_found_and_replaced_wherever_they_are():
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": reference("a")}},
        "2": {
            "class_type": "Batch",
            "inputs": {"images": [[reference("b")], {"x": reference("a")}]},
        },
    }
    assert sorted(asset_ids(graph)) == ["a", "b"]
    assert with_names(graph, {"a": "a.png", "b": "b.png"}) == {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "Batch", "inputs": {"images": [["b.png"], {"x": "a.png"}]}},
    }
    assert graph["1"]["inputs"] == {"image": reference("a")}, "it is not changed"


def test_other_workflows_are_refused():
    for info in (None, {}, {"id": None}, {"id": 7}, "a"):
        graph = {"1": {"inputs": {"image": {"__type": "core/ASSET", "info": info}}}}
        with pytest.raises(APIError) as refused:
            asset_ids(graph)
        assert refused.value.name == "missing_asset"
    with pytest.raises(APIError) as refused:
        asset_ids({"nodes": [], "links": [], "last_node_id": 0})
    assert (refused.value.name, refused.value.status) == ("workflow_format_ui", 422)


def test_cursors_belong_to_one_list_of_one_store():
    cursor = cursor_after(42, "filters", b"secret")
    assert position_of(cursor, "filters", b"secret") == 42
    changed = ("B" if cursor[0] != "B" else "C") + cursor[1:]
    for wrong, filters, secret in (
        (cursor, "others", b"secret"),
        (cursor, "filters", b"theirs"),
        (changed, "filters", b"secret"),
        ("", "filters", b"secret"),
        ("é", "filters", b"secret"),
        ("no cursor", "filters", b"secret"),
        ("AAAA", "filters", b"secret"),
    ):
        with pytest.raises(APIError) as refused:
            position_of(wrong, filters, secret)
        assert refused.value.name == "invalid_cursor"
