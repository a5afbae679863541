"""What a prompt names: node packs, models and input files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..graphs.definitions import SUFFIXES
from ..graphs.formats import class_of, inputs_of
from ..graphs.inputs import file_names_in
from ..graphs.validation import split_annotated
from ..util import jsons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..comfyui.definitions import DefinitionSet

# ComfyUI's tokenizers (comfy/sd1_clip.py) read the name up to a space or a comma.
_EMBEDDING = re.compile(r"embedding:([^\s,():\[\]]+)")
# Node packs read LoRAs in prompts, as other programs write them; ComfyUI itself does not.
_LORA = re.compile(r"<lora:([^:<>\n]+)")
MAX_DEPTH = 8  # of values in an input


@dataclass
class Named:
    """What a prompt names; a folder is None if its input does not tell it."""

    packs: dict[str, list[str]] = field(default_factory=dict)  # classes by pack
    unknown: list[str] = field(default_factory=list)  # classes that are not defined
    # Folder and name of models, with the nodes that name them.
    models: dict[tuple[str | None, str], set[str]] = field(default_factory=dict)
    # The same of files that only a text names, so that they may be none.
    perhaps: dict[tuple[str | None, str], set[str]] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)  # folder and path


def named_in(prompt: bytes, definitions: DefinitionSet) -> Named:
    graph = jsons.loads(prompt)
    found = Named()
    for node_id, node in graph.items() if isinstance(graph, dict) else ():
        if not isinstance(node, dict):
            continue
        known = definitions.nodes.get(class_of(node))
        if known is None:
            found.unknown.append(class_of(node))
        elif known.foreign:
            classes = found.packs.setdefault(known.module.partition(".")[2], [])
            if known.name not in classes:
                classes.append(known.name)
        declared = {} if known is None else known.models(inputs_of(node))
        folders = {each.name: each.model_folder[1] for each in declared}
        for name, value in inputs_of(node).items():
            for text in _texts(value):
                if name in folders and text:
                    found.models.setdefault((folders[name], text), set()).add(node_id)
                elif len(text) < 260 and text.lower().endswith(SUFFIXES):
                    found.models.setdefault((None, text), set()).add(node_id)
                for each in _EMBEDDING.findall(text):
                    found.models.setdefault(("embeddings", each), set()).add(node_id)
                for each in _LORA.findall(text):
                    found.perhaps.setdefault(("loras", each), set()).add(node_id)
    plain = {name for _, name in found.models}
    found.files = [split_annotated(n) for n in sorted(file_names_in(graph)) if n not in plain]
    return found


def _texts(value: Any, depth: int = MAX_DEPTH) -> Iterator[str]:
    """Yield the texts in a value: packs have lists and objects with the names of models."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)) and depth:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner, depth - 1)
