"""Prompts for validation: small graphs of ComfyUI's own nodes, and functions that damage them.

scripts/record_validation.py recorded the replies to these in tests/golden/.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Prompt = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


EMPTY = node("EmptyImage", width=64, height=64, batch_size=1, color=0)

CHEAP: dict[str, Prompt] = {
    "image": {
        "1": EMPTY,
        "2": node("ImageInvert", image=["1", 0]),
        "3": node(
            "ImageBlend",
            image1=["2", 0],
            image2=["1", 0],
            blend_factor=0.5,
            blend_mode="normal",
        ),
        "4": node("PreviewImage", images=["3", 0]),
    },
    "two_outputs": {
        "1": EMPTY,
        "2": node("ImageInvert", image=["1", 0]),
        "good": node("PreviewImage", images=["1", 0]),
        "other": node("PreviewImage", images=["2", 0]),
    },
    "shared_output": {
        "1": EMPTY,
        "2": node("PreviewImage", images=["1", 0]),
        "3": node("SaveImage", images=["1", 0], filename_prefix="kept"),
    },
    "values": {
        "i": node("PrimitiveInt", value=3),
        "f": node("PrimitiveFloat", value=0.5),
        "s": node("PrimitiveString", value="word"),
        "b": node("PrimitiveBoolean", value=True),
        "1": node("PreviewAny", source=["i", 0]),
        "2": node("PreviewAny", source=["f", 0]),
        "3": node("PreviewAny", source=["s", 0]),
        "4": node("PreviewAny", source=["b", 0]),
    },
    "newer_schema": {
        "1": EMPTY,
        "2": node("ImageBlur", image=["1", 0], blur_radius=1, sigma=1.0),
        "3": node(
            "ImageScaleToMaxDimension", image=["2", 0], upscale_method="area", largest_size=64
        ),
        "4": node("PreviewImage", images=["3", 0]),
    },
    "latent": {
        "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "2": node("LatentFlip", samples=["1", 0], flip_method="x-axis: vertically"),
        "3": node(
            "LatentComposite", samples_to=["1", 0], samples_from=["2", 0], x=0, y=0, feather=0
        ),
        "4": node("SaveLatent", samples=["3", 0], filename_prefix="latents/x"),
    },
}
"""Valid graphs that are cheap to execute and need no files."""

OTHERS: dict[str, Prompt] = {
    "text_to_image": {
        "1": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a fox"),
        "3": node(
            "LoraLoader",
            model=["1", 0],
            clip=["1", 1],
            lora_name="style.safetensors",
            strength_model=1.0,
            strength_clip=1.0,
        ),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node(
            "KSampler",
            model=["3", 0],
            positive=["2", 0],
            negative=["2", 0],
            seed=1,
            steps=1,
            latent_image=["4", 0],
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1,
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="x"),
    },
    "image_file": {
        "1": node("LoadImage", image="cat.png"),
        "2": node("PreviewImage", images=["1", 0]),
    },
    "mask_file": {
        "1": node("LoadImageMask", image="cat.png", channel="red"),
        "2": node("MaskPreview", mask=["1", 0]),
    },
    "output_file": {
        "1": node("LoadImageOutput", image="old.png [output]"),
        "2": node("PreviewImage", images=["1", 0]),
    },
    "latent_file": {
        "1": node("LoadLatent", latent="cat.latent"),
        "2": node("SaveLatent", samples=["1", 0], filename_prefix="x"),
    },
    "video_file": {
        "1": node("LoadVideo", file="clip.mp4"),
        "2": node("SaveVideo", video=["1", 0], filename_prefix="x", format="auto", codec="auto"),
    },
    "webcam": {
        "1": node("WebcamCapture", image="cat.png", width=0, height=0, capture_on_queue=True),
        "2": node("PreviewImage", images=["1", 0]),
    },
}
"""Graphs that need files."""

TODAY: dict[str, Prompt] = {
    "grown": {
        "1": EMPTY,
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("BatchImagesNode", **{"images.image0": ["1", 0], "images.image1": ["2", 0]}),
        "4": node("PreviewImage", images=["3", 0]),
    },
    "grown_names": {
        "1": node("PrimitiveFloat", value=0.5),
        "2": node("ComfyMathExpression", expression="a + b", **{"values.a": ["1", 0]}),
        "3": node("PreviewAny", source=["2", 0]),
    },
    "chosen": {
        "1": EMPTY,
        "2": node(
            "ResizeImageMaskNode",
            input=["1", 0],
            resize_type="scale dimensions",
            scale_method="area",
            **{"resize_type.width": 8, "resize_type.height": 8, "resize_type.crop": "disabled"},
        ),
        "3": node("PreviewAny", source=["2", 0]),
    },
    "chosen_within": {
        "1": node(
            "DCTestNode",
            combo="option4",
            **{
                "combo.subcombo": "opt1",
                "combo.subcombo.float_x": 1.0,
                "combo.subcombo.float_y": 2.0,
            },
        ),
    },
    "switched": {
        "1": EMPTY,
        "2": node("PrimitiveInt", value=3),
        "3": node("ComfySwitchNode", switch=True, on_false=["1", 0], on_true=["2", 0]),
        "4": node("PreviewAny", source=["3", 0]),
    },
    "own_options": {
        "1": node("CustomCombo", choice="mine", index=0, option1="mine"),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "replaced": {
        "1": {**node("T2IAdapterLoader", t2i_adapter_name="a.safetensors"), "_meta": {}},
        "2": node("PreviewAny", source=["1", 0]),
    },
    "replaced_with_nothing": {
        "1": {**node("Load3DAnimation", model_file="none", image={}, width=1, height=1)},
        "2": node("PreviewAny", source=["1", 0]),
    },
    "figure": {
        "1": node("Load3D", model_file="none", image={"image": ""}, width=0, height=9999),
        "2": node("PreviewAny", source=["1", 0]),
    },
}
"""Graphs of nodes that ComfyUI 0.33 has, but 0.3.75 does not."""

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

FILES: list[Any] = [
    "cat.png", "CAT.PNG", "cat.png ", "cat.png [input]", "cat.png[input]", "cat.png [output]",
    "half.png [temp]", "old.png [output]", "old.png", "sub/nested.png", "sub", "./cat.png",
    "../input/cat.png", "cat.png [temp]",
    "[output]", " [output]", "clip.mp4", "cat.latent", "cat\x00.png", {"__value__": "cat.png"},
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

WHOLE: dict[str, Any] = {
    "null": None,
    "number": 5,
    "true": True,
    "empty_text": "",
    "text": "prompt",
    "empty_list": [],
    "list": [{"class_type": "PreviewImage"}],
    "list_of_numbers": [1, 0],
    "list_of_lists": [1, []],
    "empty": {},
    "version_key": {"1": EMPTY, "version": 0.4},
    "no_output": {"1": EMPTY},
    "self_link": {
        "1": node("ImageInvert", image=["1", 0]),
        "2": node("PreviewImage", images=["1", 0]),
    },
    "cycle_of_two": {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("PreviewImage", images=["1", 0]),
    },
    "cycle_beside_a_good_output": {
        "1": node("ImageInvert", image=["1", 0]),
        "2": EMPTY,
        "3": node("PreviewImage", images=["1", 0]),
        "4": node("PreviewImage", images=["2", 0]),
    },
    "cycle_that_no_output_needs": {
        "1": node("ImageInvert", image=["1", 0]),
        "2": EMPTY,
        "4": node("PreviewImage", images=["2", 0]),
    },
    "one_input_of_many_missing": {"1": node("KSampler"), "2": node("PreviewAny", source=["1", 0])},
    "camera_still": {
        "1": node(
            "KlingCameraControls",
            camera_control_type="simple",
            horizontal_movement=0,
            vertical_movement=0,
            pan=0,
            tilt=0,
            roll=0,
            zoom=0,
        ),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "camera_moves": {
        "1": node(
            "KlingCameraControls",
            camera_control_type="simple",
            horizontal_movement=0,
            vertical_movement="1",
            pan=0,
            tilt=0,
            roll=0,
            zoom=99,
        ),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "camera_lacks_one": {
        "1": node(
            "KlingCameraControls",
            camera_control_type="simple",
            horizontal_movement=0,
            vertical_movement=0,
            pan=0,
            tilt=0,
            roll=0,
        ),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "camera_lacks_two": {
        "1": node(
            "KlingCameraControls", camera_control_type="simple", pan=0, tilt=0, roll=0, zoom=1
        ),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "camera_lacks_all": {
        "1": node("KlingCameraControls"),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "camera_linked": {
        "0": node("PrimitiveFloat", value=0),
        "1": node(
            "KlingCameraControls",
            camera_control_type="simple",
            horizontal_movement=0,
            vertical_movement=["0", 0],
            pan=0,
            tilt=0,
            roll=0,
            zoom=0,
        ),
        "2": node("PreviewAny", source=["1", 0]),
    },
}
for _ratio in (
    "16:9",
    "1:5",
    "9:2",
    "4:1",
    "0:1",
    "-1:2",
    "a:b",
    "16",
    "1:2:3",
    " 3 : 4 ",
    5,
    None,
):
    WHOLE[f"aspect_{_ratio}"] = {
        "1": node(
            "FluxProUltraImageNode",
            prompt="",
            prompt_upsampling=False,
            seed=0,
            raw=False,
            aspect_ratio=_ratio,
        ),
        "2": node("PreviewImage", images=["1", 0]),
    }
for _name, _source in {
    "task": ["1", 1],
    "text": ["1", 0],
    "literal": "id",
    "short": ["1"],
    "absent": None,
    "far": ["1", 9],
}.items():
    WHOLE[f"tripo_{_name}"] = {
        "1": node("TripoTextToModelNode", prompt="cup"),
        "2": node("TripoConversionNode", format="GLTF", original_model_task_id=_source),
    }
del WHOLE["tripo_absent"]["2"]["inputs"]["original_model_task_id"]


def chain(length: int) -> Prompt:
    """Return a chain whose first node is invalid, so that ComfyUI does not queue it."""
    prompt = {"0": {**EMPTY, "inputs": {**EMPTY["inputs"], "width": 0}}}
    for step in range(1, length - 1):
        prompt[str(step)] = node("ImageInvert", image=[str(step - 1), 0])
    prompt[str(length - 1)] = node("PreviewImage", images=[str(length - 2), 0])
    return prompt


def with_input(prompt: Prompt, node_id: str, name: str, value: Any) -> Prompt:
    """Return the prompt with one input of one node replaced."""
    changed = copy.deepcopy(prompt)
    changed[node_id]["inputs"][name] = value
    return changed


def without_input(prompt: Prompt, node_id: str, name: str) -> Prompt:
    """Return the prompt without one input of one node."""
    changed = copy.deepcopy(prompt)
    del changed[node_id]["inputs"][name]
    return changed


def make_files(base: Path) -> None:
    """Create the files that the graphs name in ComfyUI's base directory."""
    for path in (
        "input/cat.png",
        "input/cat.latent",
        "input/clip.mp4",
        "input/sub/nested.png",
        "output/old.png",
        "temp/half.png",
        "models/checkpoints/base.safetensors",
        "models/loras/style.safetensors",
    ):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).touch()


def places(prompt: Prompt) -> list[tuple[str, str]]:
    """Return the node id and the name of every input."""
    return [(node_id, name) for node_id in prompt for name in prompt[node_id]["inputs"]]


def all_prompts(graphs: dict[str, Prompt]) -> Iterator[tuple[str, Any]]:
    """Yield every prompt that can be made from some graphs, with a name."""
    yield from WHOLE.items()
    for base, prompt in graphs.items():
        yield base, prompt
        for node_id, name in places(prompt):
            yield f"{base}#{node_id}.{name}=absent", without_input(prompt, node_id, name)
            for value in VALUES + (FILES if base in OTHERS else []):
                yield (
                    f"{base}#{node_id}.{name}={value!r:.40}",
                    with_input(prompt, node_id, name, value),
                )
        for node_id in prompt:
            for index, other in enumerate(NODES):
                yield f"{base}#{node_id}={index}", {**prompt, node_id: other}
