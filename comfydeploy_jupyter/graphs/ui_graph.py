"""A workflow in the UI format, as the editor has it after it has loaded the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from .formats import BYPASSED, MUTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .definitions import NodeClass, Widget

FROM_OUTSIDE: Final = "-10"
"""The origin of links that come from the inputs of a subgraph."""
TO_OUTSIDE: Final = "-20"
"""The target of links that lead to the outputs of a subgraph."""
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
VIRTUAL: Final = frozenset({REROUTE, PRIMITIVE, "Note", "MarkdownNote", "ComfyDeploy"})
"""Node types that only the editor knows; ``ComfyDeploy`` is that of ComfyUI Deploy's plug-in."""

LinkKey = int | str


@dataclass(slots=True, eq=False)
class Slot:
    """An input of a node: its link, the name of its widget, if any, and its position."""

    name: str
    type: str
    link: LinkKey | None = None
    widget: str | None = None
    number: int = 0


@dataclass(slots=True)
class Link:
    """A link: ids and slot numbers of its origin and its target."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(slots=True, eq=False)
class Node:
    """A node of a graph."""

    id: str
    type: str
    title: str
    mode: int  # 2: muted, 4: bypassed; with any other mode the node runs
    inputs: list[Slot]  # in the editor's order
    outputs: list[str]  # the types of the outputs
    properties: Mapping[str, Any]  # as saved
    stored: Any  # ``widgets_values`` as saved
    # ``widgets_values_named`` as saved, which is used only without ``widgets_values``
    named: Mapping[str, Any] = field(default_factory=dict)
    known: NodeClass | None = None  # its class, if the definitions have it
    subgraph: str | None = None  # for a subgraph node: the id of the subgraph's definition
    # its widgets in order; `values` has their values by name
    widgets: list[Widget] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    # for a subgraph node: the values of its promoted widgets, by input number; `promoted_from` has
    # the inner widgets that are promoted
    promoted: dict[int, Any] = field(default_factory=dict)
    promoted_from: dict[int, Widget] = field(default_factory=dict)
    # for a subgraph node: values of inner widgets, by inner node id and input name
    overrides: dict[tuple[str, str], Any] = field(default_factory=dict)
    # whether its values are those that are saved by name, as those by position do not fit
    by_name: bool = False
    # the names of its inputs by the names of widgets that mean them; None until it is needed
    targets: dict[str, str] | None = None
    _numbers: dict[str, int] = field(default_factory=dict)

    def number_of(self, name: str) -> int | None:
        """Return the number of the first input with a name."""
        if not self._numbers:
            for slot in reversed(self.inputs):
                self._numbers[slot.name] = slot.number
        return self._numbers.get(name)

    @property
    def virtual(self) -> bool:
        """Whether it is never part of a prompt; links pass through it."""
        return self.subgraph is not None or self.type in VIRTUAL

    @property
    def silent(self) -> bool:
        """Whether it is muted or bypassed."""
        return self.mode in (MUTED, BYPASSED)

    @property
    def runs(self) -> bool:
        """Whether it is part of the prompt."""
        return not (self.virtual or self.silent)


@dataclass
class Graph:
    """The nodes and links of the workflow itself or of one subgraph definition."""

    name: str  # the name in messages
    nodes: dict[str, Node]  # by id
    links: dict[LinkKey, Link]  # by id
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)

    @cached_property
    def consumers(self) -> dict[LinkKey, tuple[Node, Slot]]:
        """The node and the input that each link leads to."""
        return {
            slot.link: (node, slot)
            for node in self.nodes.values()
            for slot in node.inputs
            if slot.link is not None
        }

    @cached_property
    def links_by_origin(self) -> dict[tuple[str, int], dict[LinkKey, None]]:
        """The links of each output, in the order of the file."""
        found: dict[tuple[str, int], dict[LinkKey, None]] = {}
        for key, link in self.links.items():
            found.setdefault((link.origin, link.origin_slot), {})[key] = None
        return found

    def fed_by(self, origin: str, slot: int, order: Iterable[LinkKey] = ()) -> list[FedSlot]:
        """Return the inputs that are linked to an output, first those of the links in `order`."""
        keys = self.links_by_origin.get((origin, slot), {})
        first = [key for key in order if key in keys]
        every = dict.fromkeys([*first, *keys])
        return [self.consumers[key] for key in every if key in self.consumers]

    @cached_property
    def sources(self) -> dict[int, Link]:
        """The link to each output of the subgraph."""
        found: dict[int, Link] = {}
        for number, port in enumerate(self.outputs):
            for key in port.links:
                if key in self.links:
                    found.setdefault(number, self.links[key])
        for link in self.links.values():
            if link.target == TO_OUTSIDE:
                found.setdefault(link.target_slot, link)
        return found


FedSlot = tuple[Node, Slot]


@dataclass(slots=True)
class Port:
    """An input or output of a subgraph definition, and its links inside the subgraph."""

    name: str
    type: str
    links: list[LinkKey]


@dataclass
class Workflow:
    """A workflow that has been read."""

    root: Graph  # the workflow itself
    # the definitions that are used, by id, each before those that contain it
    subgraphs: dict[str, Graph]
    warnings: list[str]  # A sentence for each error in the file that was corrected

    def graphs(self) -> Iterator[Graph]:
        """Yield all graphs, each before those that contain it."""
        yield from self.subgraphs.values()
        yield self.root
