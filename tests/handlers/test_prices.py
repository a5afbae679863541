"""The prices of partner nodes in the replies of routes, by the last known definitions."""

import gzip
import json

import pytest

from tests.graphs.test_prices import definitions

EXPRESSION = '{"type": "usd", "usd": 0.01 * $number(widgets.seconds)}'


@pytest.fixture
def extension_config(tmp_path):
    info = definitions(EXPRESSION, ("seconds", "INT"))
    info["Paid"]["input"] = {"required": {"seconds": ["INT", {"min": 1, "max": 60, "default": 5}]}}
    info["Save"]["input"] = {"required": {"images": ["IMAGE"]}}
    for name, entry in info.items():
        entry |= {"name": name, "category": "", "is_input_list": False, "python_module": "nodes"}
    kept = {"comfyui_version": "0.33.0", "node_replacements": {}, "object_info": info}
    folder = tmp_path / "data" / "definitions"
    folder.mkdir(parents=True)
    (folder / "local.json.gz").write_bytes(gzip.compress(json.dumps(kept).encode()))
    return {"comfyui_url": "http://127.0.0.1:9", "data_dir": str(tmp_path / "data")}


GRAPH = {
    "1": {"class_type": "Paid", "inputs": {"seconds": 5}, "_meta": {"title": "Video"}},
    "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}},
}


async def test_validation_and_form_have_the_price_of_the_present_values(api):
    code, reply = await api.post("workflow/validate", {"workflow_api": GRAPH})
    assert code == 200
    assert reply["partner_nodes"]["text"] == "Partner nodes: $0.05"
    for inputs, text in ((None, "$0.05"), ({"1.seconds": "12"}, "$0.12")):
        body = {"workflow_api": GRAPH, "inputs": inputs}
        code, reply = await api.post("workflow/form", body)
        assert code == 200
        assert reply["partner_nodes"]["text"] == f"Partner nodes: {text}"
        (row,) = reply["partner_nodes"]["nodes"]
        assert (row["node_id"], row["title"], row["text"]) == ("1", "Video", text)
    free = {"2": {"class_type": "Save", "inputs": {"images": ["3", 0]}}}
    code, reply = await api.post("workflow/validate", {"workflow_api": free})
    assert reply["partner_nodes"] is None
