"""Small workflows that a certain ComfyUI can run at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .definitions import AnyDefinitions, NodeDefinitions

if TYPE_CHECKING:
    from .formats import Graph


class Example(NamedTuple):
    """A workflow to begin with."""

    title: str  # its name
    graph: Graph  # the workflow in API format


def examples(definitions: AnyDefinitions) -> list[Example]:
    definitions = NodeDefinitions.of(definitions)
    specs = definitions.declared("CheckpointLoaderSimple")
    spec = specs.get("ckpt_name")
    checkpoints = [name for name in spec.choices or () if isinstance(name, str)] if spec else []
    found = [Example("Coloured clouds", _clouds())]
    if checkpoints:
        found.append(Example("Text to image", _text_to_image(checkpoints[0])))
    return [
        each
        for each in found
        if all(node["class_type"] in definitions for node in each.graph.values())
    ]


def _node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def _clouds() -> Graph:
    size = {"width": 768, "height": 512}
    large = {"upscale_method": "bicubic", **size, "crop": "disabled"}
    blend = {"blend_factor": 0.7, "blend_mode": "soft_light"}
    return {
        "1": _node("EmptyImage", "Colour", **size, batch_size=1, color=0x3C78C8),
        "2": _node("EmptyImage", "Grain", width=12, height=8, batch_size=1, color=0x808080),
        "3": _node("ImageAddNoise", "Clouds", image=["2", 0], seed=4, strength=0.6),
        "4": _node("ImageScale", "Large clouds", image=["3", 0], **large),
        "5": _node("ImageBlend", "Sky", image1=["1", 0], image2=["4", 0], **blend),
        "6": _node("PreviewImage", "Picture", images=["5", 0]),
    }


def _text_to_image(checkpoint: str) -> Graph:
    side = 1024 if "xl" in checkpoint.lower() else 512
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0]}
    sampling = {"seed": 1, "steps": 20, "cfg": 6.5, "sampler_name": "euler", "scheduler": "normal"}
    return {
        "1": _node("CheckpointLoaderSimple", "Model", ckpt_name=checkpoint),
        "2": _node("CLIPTextEncode", "Prompt", text="a harbour at dawn, soft light", clip=["1", 1]),
        "3": _node("CLIPTextEncode", "Avoid", text="blurry, text", clip=["1", 1]),
        "4": _node("EmptyLatentImage", "Size", width=side, height=side, batch_size=1),
        "5": _node("KSampler", "Sampler", **links, latent_image=["4", 0], **sampling, denoise=1.0),
        "6": _node("VAEDecode", "Decoder", samples=["5", 0], vae=["1", 2]),
        "7": _node("SaveImage", "Picture", images=["6", 0], filename_prefix="example"),
    }
