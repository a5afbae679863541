"""Claim: the validation of a prompt takes under 0.1 ms, and that of 2,000 nodes under 15 ms.

Run ``python benchmarks/validate.py``. Prints the median of the golden prompts of ComfyUI 0.3.75 and
of the newest version, both with prepared definitions and from the unprepared ``object_info``. Then
prints the times of graphs with 2,000 and 10,000 nodes. Each time has its ratio to the time in which
the same prompt is parsed from JSON. At the end it prints the time in which all definitions of
ComfyUI 0.33 are read from JSON and prepared, with its ratio to ``json.loads`` alone.
"""

from __future__ import annotations

import gzip
import json
import sys
from importlib.resources import files
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from comfydeploy_jupyter.comfyui.definitions import BUNDLE, DefinitionSet
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.graphs.validation import validate_prompt
from comfydeploy_jupyter.util import jsons

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def seconds(call: Callable[[], object], repeat: int = 21) -> float:
    """Return the median duration of a call, in seconds."""
    times = []
    for _ in range(repeat):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times)


def wide(streams: int, length: int) -> dict[str, Any]:
    """Return parallel chains of image nodes; each except the first has links from its neighbour."""
    prompt: dict[str, Any] = {}
    for stream in range(streams):
        size = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
        prompt[f"{stream}_0"] = {"class_type": "EmptyImage", "inputs": size}
        for step in range(1, length - 1):
            inputs: dict[str, Any] = {
                "image1": [f"{stream}_{step - 1}", 0],
                "image2": [f"{max(stream - 1, 0)}_{step - 1}", 0],
                "blend_factor": 0.5,
                "blend_mode": "normal",
            }
            prompt[f"{stream}_{step}"] = {"class_type": "ImageBlend", "inputs": inputs}
        saved: dict[str, Any] = {"images": [f"{stream}_{length - 2}", 0], "filename_prefix": "x"}
        prompt[f"{stream}_{length - 1}"] = {"class_type": "SaveImage", "inputs": saved}
    return prompt


def chain(length: int) -> dict[str, Any]:
    """Return one chain of image nodes that is too deep for ComfyUI."""
    prompt: dict[str, Any] = wide(1, 2)
    for step in range(2, length):
        inputs = {"image": ["0_0" if step == 2 else str(step - 1), 0]}
        prompt[str(step)] = {"class_type": "ImageInvert", "inputs": inputs}
    prompt["0_1"]["inputs"]["images"] = [str(length - 1), 0]
    return prompt


def judging(prompt: Any, definitions: dict[str, Any] | NodeDefinitions) -> float:
    """Return the time of a prompt's validation in seconds."""
    return seconds(lambda: validate_prompt(prompt, definitions))


def parsing(prompt: Any) -> float:
    """Return the time in which the prompt is parsed from JSON, in seconds."""
    text = json.dumps(prompt)
    return seconds(lambda: json.loads(text))


def main() -> None:
    """Print the durations."""
    for name in ("validate", "validate_today"):
        object_info = json.loads(
            gzip.decompress((GOLDEN / f"{name}.object_info.json.gz").read_bytes())
        )
        lines = gzip.decompress((GOLDEN / f"{name}.jsonl.gz").read_bytes()).splitlines()
        prompts = [json.loads(line)["prompt"] for line in lines]
        rules = NodeDefinitions(object_info)
        parse = median(parsing(prompt) for prompt in prompts)
        for title, definitions in (("prepared", rules), ("bare object_info", object_info)):
            time = median(judging(prompt, definitions) for prompt in prompts)
            figures = f"median {time * 1e3:.3f} ms, {time / parse:.1f} x json.loads"
            print(f"{len(prompts)} golden prompts ({name}), {title}: {figures}")
    bad = wide(50, 40)
    bad["0_0"]["inputs"]["width"] = -1
    graphs = {
        "wide, 2,000 nodes": wide(50, 40),
        "wide, 2,000 nodes, all outputs bad": bad,
        "wide, 2,000 nodes, 500 outputs": wide(500, 4),
        "chain, 10,000 nodes": chain(10_000),
    }
    for title, prompt in graphs.items():
        time = judging(prompt, rules)
        print(f"{title}: {time * 1e3:.1f} ms, {time / parsing(prompt):.1f} x json.loads")
    text = gzip.decompress(files("comfydeploy_jupyter.comfyui").joinpath(BUNDLE).read_bytes())
    time = seconds(lambda: learn(text), 5)
    figures = f"{time * 1e3:.0f} ms, {time / seconds(lambda: json.loads(text), 5):.1f} x json.loads"
    print(f"all definitions of ComfyUI 0.33, {len(text) / 1e6:.1f} MB: {figures}")


def learn(text: bytes) -> DefinitionSet:
    """Read all definitions, and each class once, as for a graph with all classes."""
    found = jsons.loads(text, 3)
    definitions = DefinitionSet(found["object_info"], "live", found["comfyui_version"])
    for class_type in found["object_info"]:
        definitions.nodes.get(class_type)
    return definitions


if __name__ == "__main__":
    main()
