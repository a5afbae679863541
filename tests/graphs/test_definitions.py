import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.models import model_links
from tests.helpers.graphs import probe_definitions

DEFINITIONS = probe_definitions()


def known(name, definitions=DEFINITIONS):
    found = definitions.get(name)
    assert found is not None
    return found


def test_unknown_classes_and_foreign_json():
    assert DEFINITIONS.get("Nope") is None
    assert "PInt" in DEFINITIONS
    assert len(DEFINITIONS) == len(list(DEFINITIONS))
    with pytest.raises(InvalidRequestError, match="object_info"):
        NodeDefinitions([])


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"input": None, "output": None},
        {"input": {"required": {"a": [], "b": "INT", "c": None, "d": ["COMBO"], "e": [5]}}},
        {"input": {"required": []}, "input_order": {"required": 5}, "output": 3},
        {"input": {"required": {"a": ["COMFY_DYNAMICCOMBO_V3"], "b": ["COMFY_AUTOGROW_V3", {}]}}},
    ],
)
def test_malformed_definitions_cause_no_error(entry):
    odd = known("Odd", NodeDefinitions({"Odd": entry}))
    assert odd.title == "Odd"
    odd.lay_out([1, 2, 3])


def test_a_link_is_found_although_the_model_is_first_listed_without_one():
    plain = {"name": "a.safetensors", "directory": "loras"}
    linked = {**plain, "url": "https://example.com/a.safetensors"}
    assert model_links({"models": [plain, linked]})["a.safetensors"].url == linked["url"]
