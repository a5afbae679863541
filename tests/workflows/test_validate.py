import pytest

from comfydeploy_jupyter.comfyui.definitions import core_classes
from comfydeploy_jupyter.graphs.versions import NEWEST_TESTED
from comfydeploy_jupyter.workflows.validate import core_node_warnings


def saved_with(class_type, version):
    return {"nodes": [{"type": class_type, "properties": {"cnr_id": "comfy-core", "ver": version}}]}


BATCH, NEWER = "BatchImagesNode", "NewerStill"


@pytest.mark.parametrize(
    ("class_type", "workflow", "running", "needs"),
    [
        (BATCH, None, "0.3.75", "0.33.0 or newer"),
        (BATCH, None, None, "0.33.0 or newer"),
        (BATCH, saved_with(BATCH, "0.9.2"), "0.3.75", "0.9.2 or"),
        (BATCH, saved_with(BATCH, "0.3.40"), "0.3.75", "0.33.0 or"),
        (BATCH, saved_with(BATCH, 5), "0.3.75", "0.33.0 or"),
        (NEWER, saved_with(NEWER, "0.38.1"), "0.33.0", "0.38.1 or newer"),
        (NEWER, saved_with(NEWER, "nightly"), "0.33.0", None),
        ("Foreign", saved_with("Other", "0.38.1"), "0.33.0", None),
    ],
)
def test_core_nodes_say_which_comfyui_has_them(class_type, workflow, running, needs):
    missing = [{"class_type": class_type, "node_ids": ["1"]}]
    core_node_warnings(missing, workflow, running)
    assert missing[0].get("needs", "").startswith(f"ComfyUI {needs}" if needs else "")
    assert ("needs" in missing[0]) is (needs is not None)


def test_core_nodes_that_no_newer_comfyui_has():
    missing = [
        {"class_type": "IdeogramV3", "node_ids": ["1"]},
        {"class_type": "ImageInvert", "node_ids": ["2"]},
        {"class_type": "Foreign", "node_ids": ["3"]},
    ]
    partner, gone = core_node_warnings(missing, None, "0.33.0")
    assert "IdeogramV3" in partner
    assert "--disable-api-nodes" in partner
    assert gone == "Node class ImageInvert was ComfyUI's own, but ComfyUI 0.33.0 does not have it."
    assert [entry.get("pack") for entry in missing] == ["comfy-core", "comfy-core", None]


def test_bundled_definitions_are_of_the_newest_tested_version():
    version, modules = core_classes()
    assert version == NEWEST_TESTED
    assert len(modules) > 800
