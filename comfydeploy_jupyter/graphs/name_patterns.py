"""Patterns in texts such as ``%KSampler.seed%``, which the editor replaces by widget values."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from . import javascript, queued_values
from .definitions import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .expansion import Expansion
    from .ui_graph import Node, Workflow

FILE_SAVERS = frozenset(
    {
        "CLIPSave",
        "LoraSave",
        "ModelSave",
        "Save3DAdvanced",
        "SaveAnimatedPNG",
        "SaveAnimatedWEBP",
        "SaveAudio",
        "SaveAudioAdvanced",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveGLB",
        "SaveGaussianSplat",
        "SaveImage",
        "SaveImageAdvanced",
        "SaveLatent",
        "SavePointCloud",
        "SaveSVGNode",
        "SaveVideo",
        "SaveWEBM",
        "VAESave",
    }
)
"""The classes whose ``filename_prefix`` has patterns."""

_NODE_NAME = "Node name for S&R"


class NamePatterns:
    """Replaces patterns such as ``%KSampler.seed%`` and ``%date:yyyy-MM-dd%`` in texts."""

    def __init__(self, flow: Workflow, now: datetime | None, expansion: Expansion) -> None:
        self._flow = flow
        self._now = now
        self._expansion = expansion
        self._nodes: dict[str, Node] | None = None

    def fill(self, text: str) -> str:
        """Return a text with its patterns replaced."""
        if "%" not in text:
            return text
        return queued_values.file_name(text, self._text, self._now or datetime.now().astimezone())

    def _text(self, name: str, widget: str) -> str | None:
        found = self._find(name, widget)
        self._expansion.add_size(len(found or ""))
        return found

    def _find(self, name: str, widget: str) -> str | None:
        if self._nodes is None:
            self._nodes = self._by_name()
        node = self._nodes.get(name)
        if node is None:
            return None
        if node.subgraph is not None:
            number = node.number_of(widget)
            if number is None or number not in node.promoted:
                return None
            value = node.promoted[number]
            return "" if value is None else javascript.text(value)
        if widget not in node.values:
            return None
        value = node.values[widget]
        return "" if value is None or value is MISSING else javascript.text(value)

    def _by_name(self) -> dict[str, Node]:
        nodes = list(self._every_node())
        names: dict[str, Node] = {}
        for node in nodes:
            default = node.type if node.known and node.type not in FILE_SAVERS else None
            name = node.properties.get(_NODE_NAME, default)
            if isinstance(name, str):
                names.setdefault(name, node)
        for node in nodes:
            names.setdefault(node.title, node)
        return names

    def _every_node(self) -> Iterator[Node]:
        """Yield all nodes in the editor's order: those inside a subgraph before its node."""
        entered: set[str] = set()
        pending: list[Iterator[Node]] = [iter(self._flow.root.nodes.values())]
        hosts: list[Node] = []
        while pending:
            node = next(pending[-1], None)
            if node is None:
                pending.pop()
                if hosts:
                    yield hosts.pop()
            elif node.subgraph is not None and node.subgraph not in entered:
                entered.add(node.subgraph)
                hosts.append(node)
                pending.append(iter(self._flow.subgraphs[node.subgraph].nodes.values()))
            else:
                yield node
