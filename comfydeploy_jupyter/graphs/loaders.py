"""Files for inputs that only a link can feed: each gets a node that loads its file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .form_fields import LOADERS, display_name, words
from .formats import class_of, declared_inputs, inputs_of, title_of
from .inputs import may_be_absent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .formats import Definitions
    from .inputs import AppliedInputs


_FILE_NAME = re.compile(r"[^\n\0]{1,250}\.\w{1,8}( \[input\])?")


def file_names_in(graph: Mapping[str, Any]) -> frozenset[str]:
    """Return the texts in the inputs of a graph that may name files in ComfyUI's input folder."""
    return frozenset(
        value
        for node in graph.values()
        for value in node.get("inputs", {}).values()
        if isinstance(value, str) and len(value) < 260 and _FILE_NAME.fullmatch(value)
    )


def load_files(applied: AppliedInputs, definitions: Definitions | None) -> AppliedInputs:
    """Put a loader node before each picture, video or sound input that was given a file's name.

    Only a link can feed such an input. An empty name removes the input of a group that grows. The
    graph of ``applied`` is changed; loaders have the ids ``"<node id>.<input>"``.
    """
    graph = applied.graph
    for node_id, name in applied.given:
        node = graph[node_id]
        value = inputs_of(node).get(name)
        if not isinstance(value, str):
            continue
        spec = declared_inputs(definitions, class_of(node), inputs_of(node)).get(name)
        class_type, file_input, _ = LOADERS.get(spec.type if spec else "", ("", "", ""))
        loader = f"{node_id}.{name}"
        if class_type not in (definitions or {}):
            continue
        if class_of(graph.get(loader, {})) not in ("", class_type):
            continue  # a node that happens to have this id
        if not value and may_be_absent(definitions, node, name):
            del node["inputs"][name]
            continue
        title = f"{title_of(node) or display_name(definitions, node)}: {words(name)}"
        inputs = {file_input: value}
        graph[loader] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}
        node["inputs"][name] = [loader, 0]
    return applied
