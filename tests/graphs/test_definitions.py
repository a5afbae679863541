import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.models import model_links
from tests.helpers.graphs import probe_definitions

DEFINITIONS = probe_definitions()


def test_unknown_classes_and_foreign_json():
    assert DEFINITIONS.get("Nope") is None
    assert "PInt" in DEFINITIONS
    assert len(DEFINITIONS) == len(list(DEFINITIONS))
    with pytest.raises(InvalidRequestError, match="object_info"):
        NodeDefinitions([])


def test_a_link_is_found_although_the_model_is_first_listed_without_one():
    plain = {"name": "a.safetensors", "directory": "loras"}
    linked = {**plain, "url": "https://example.com/a.safetensors"}
    assert model_links({"models": [plain, linked]})["a.safetensors"].url == linked["url"]
