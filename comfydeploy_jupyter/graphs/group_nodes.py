"""Group nodes, which editors had before subgraphs: one node that contains several.

A workflow has the definition of each group in ``extra.groupNodes`` and uses it as a node of type
``workflow>NAME`` (``workflow/NAME`` in old files). The inputs, outputs and widgets of the group
node are those of its inner nodes, called parts, in order, without those that are linked to other
parts. `expand` replaces the group node by its parts: part 0 of node 17 becomes node ``17:0``, as in
ComfyUI's editor up to 1.32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .definitions import MISSING, NodeClass, NodeDefinitions, Widget
from .formats import BYPASSED, MUTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .expansion import Expansion

_PREFIXES = ("workflow>", "workflow/")
_LINK = 100  # characters that are counted for a link


def expand(
    graph: Mapping[str, Any],
    groups: Mapping[str, Any],
    definitions: NodeDefinitions,
    expansion: Expansion,
) -> Mapping[str, Any]:
    """Return a saved graph in which all group nodes are replaced by their parts.

    Muted and bypassed ones stay, since their saved inputs and outputs suffice to skip them.
    """
    nodes = graph.get("nodes")
    if not isinstance(nodes, list):
        return graph
    used = {number: group for number, node in enumerate(nodes) if (group := _group(node, groups))}
    if not used:
        return graph
    for group in used.values():
        expansion.add_nodes(_length(group.get("nodes")))
        expansion.add_size(_LINK * _length(group.get("links")))
    saved_links = graph.get("links")
    links = list(saved_links) if isinstance(saved_links, list) else []
    expanded: list[Any] = []
    outputs: dict[tuple[str, int], tuple[str, int]] = {}
    for number, node in enumerate(nodes):
        if number not in used:
            expanded.append(node)
            continue
        made = _Group(used[number], definitions)
        expanded.extend(made.parts(node, links))
        own = _text(node.get("id"))
        for slot, (part, inner) in enumerate(made.outputs):
            outputs[own, slot] = (f"{own}:{part}", inner)
    moved = [_from_part(row, outputs) for row in links]
    return {**graph, "nodes": expanded, "links": moved}


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _group(node: Any, groups: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not isinstance(node, dict) or node.get("mode") in (MUTED, BYPASSED):
        return None
    kind = node.get("type")
    for prefix in _PREFIXES:
        if isinstance(kind, str) and kind.startswith(prefix):
            group = groups.get(kind.removeprefix(prefix))
            return group if isinstance(group, dict) else None
    return None


def _from_part(row: Any, outputs: Mapping[tuple[str, int], tuple[str, int]]) -> Any:
    """Return a link from an output of a group node as a link from the output of its part."""
    if isinstance(row, list) and len(row) >= 5 and isinstance(row[2], int):
        part = outputs.get((_text(row[1]), row[2]))
        return [row[0], *part, *row[3:]] if part else row
    if isinstance(row, dict) and isinstance(row.get("origin_slot"), int):
        part = outputs.get((_text(row.get("origin_id")), row["origin_slot"]))
        return {**row, "origin_id": part[0], "origin_slot": part[1]} if part else row
    return row


@dataclass
class _Part:
    """A node inside the group: its entry in the definition, and its class."""

    number: int
    raw: Mapping[str, Any]
    known: NodeClass | None
    type: str
    fed: dict[int, list[Any]] = field(default_factory=dict)
    feeds: dict[int, list[list[Any]]] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)

    @property
    def inputs(self) -> list[Mapping[str, Any]]:
        return _objects(self.raw.get("inputs"))

    @property
    def title(self) -> str:
        return str(self.raw.get("title") or self.type)

    def place_of(self, name: str) -> int | None:
        for place, slot in enumerate(self.inputs):
            if slot.get("name") == name:
                return place
        return None

    def is_fed(self, name: str) -> bool:
        return self.place_of(name) in self.fed

    def converted(self, name: str) -> bool:
        """Return whether the widget of this name was converted to an input."""
        place = self.place_of(name)
        if place is None:
            return False
        widget = self.inputs[place].get("widget")
        return isinstance(widget, dict) and widget.get("name") == name


class _Group:
    """The inputs, outputs and widgets of a group node, which are those of its parts."""

    def __init__(self, raw: Mapping[str, Any], definitions: NodeDefinitions) -> None:
        self._config = raw.get("config") if isinstance(raw.get("config"), dict) else {}
        self._parts = [
            _Part(number, node, definitions.get(str(node.get("type"))), str(node.get("type")))
            for number, node in enumerate(_objects(raw.get("nodes")))
        ]
        self._links = [row for row in _rows(raw.get("links")) if self._usable(row)]
        for row in self._links:
            self._parts[row[2]].fed[row[3]] = row
            self._parts[row[0]].feeds.setdefault(row[1], []).append(row)
        for row in _rows(raw.get("external")):
            if len(row) > 2 and self._has(row[0]) and isinstance(row[1], int):
                self._parts[row[0]].shown.add(row[1])
        self._names: dict[str, int] = {}
        self._widgets: list[tuple[_Part, Widget]] = []
        self._inputs: dict[str, tuple[_Part, str]] = {}
        self._collect()

    @property
    def outputs(self) -> list[tuple[int, int]]:
        """For each output of the group node, the index of the part and of its output."""
        found = []
        for part in self._parts:
            for slot in range(self._output_count(part)):
                config = self._custom(part, "output", slot)
                hidden = slot in part.feeds and slot not in part.shown
                if config.get("visible", not hidden):
                    found.append((part.number, slot))
        return found

    def parts(self, node: Mapping[str, Any], links: list[Any]) -> Iterator[dict[str, Any]]:
        """Yield the parts as saved nodes; links between them are appended to `links`."""
        own = _text(node.get("id"))
        slots = self._slots_of(own, node, links)
        values = self._values_of(node.get("widgets_values"))
        for part in self._parts:
            given = slots.get(part.number, {})
            saved = [
                {**slot, "link": given.pop(place, None)} for place, slot in enumerate(part.inputs)
            ]
            extra = [
                {"name": name, "link": link, "type": "*"}
                for name, link in given.items()
                if isinstance(name, str)
            ]
            yield {
                **part.raw,
                "id": f"{own}:{part.number}",
                "inputs": [*saved, *extra],
                "widgets_values": values.get(part.number, part.raw.get("widgets_values")),
            }

    def _slots_of(
        self, own: str, node: Mapping[str, Any], links: list[Any]
    ) -> dict[int, dict[int | str, Any]]:
        """Return the links of the parts' inputs, by position or, if that is not saved, by name."""
        found: dict[int, dict[int | str, Any]] = {}
        for number, row in enumerate(self._links):
            key = f"{own}#{number}"
            kind = row[5] if len(row) > 5 else "*"
            links.append([key, f"{own}:{row[0]}", row[1], f"{own}:{row[2]}", row[3], kind])
            found.setdefault(row[2], {})[row[3]] = key
        for slot in _objects(node.get("inputs")):
            if slot.get("link") is None:
                continue
            part, name = self._inputs.get(str(slot.get("name")), (None, ""))
            if part is not None:
                place = part.place_of(name)
                where = name if place is None else place
                found.setdefault(part.number, {})[where] = slot["link"]
        return found

    def _values_of(self, stored: Any) -> dict[int, Any]:
        """Return the ``widgets_values`` of each part, by name (a primitive's as a list)."""
        values = stored if isinstance(stored, list) else []
        found: dict[int, Any] = {}
        for part in self._parts:
            if part.known is not None:
                laid = part.known.lay_out(part.raw.get("widgets_values"))
                found[part.number] = {widget.name: value for widget, value in laid}
        for place, (part, widget) in enumerate(self._widgets):
            value = values[place] if place < len(values) else widget.default
            if part.known is not None:
                found[part.number][widget.name] = value
            elif widget.name == "value" and value is not MISSING:
                found[part.number] = [value]
        return found

    def _collect(self) -> None:
        later: list[tuple[_Part, str]] = []
        for part in self._parts:
            if part.type == "PrimitiveNode":
                self._add_primitive(part)
            elif part.type == "Reroute":
                self._add_reroute(part)
            elif part.known is not None:
                later.extend(self._add_part(part, part.known))
        for part, name in later:
            if not part.is_fed(name):
                self._add_widgets(part, name)
                self._inputs[self._name(part, name)] = (part, name)

    def _add_part(self, part: _Part, known: NodeClass) -> list[tuple[_Part, str]]:
        owning = {widget.owner for widget in known.widgets}
        owners = [name for name in known.declared if name in owning]
        converted = [name for name in owners if part.converted(name)]
        for name in owners:
            if name not in converted:
                self._add_widgets(part, name)
                self._name(part, name)
        for socket in known.sockets:
            if not socket.has_widget and not part.is_fed(socket.name):
                key = self._name(part, socket.name)
                if self._custom(part, "input", socket.name).get("visible") is not False:
                    self._inputs[key] = (part, socket.name)
        order = sorted(converted, key=lambda name: part.place_of(name) or 0)
        return [(part, name) for name in order]

    def _add_widgets(self, part: _Part, owner: str) -> None:
        widgets = part.known.widgets if part.known is not None else ()
        self._widgets.extend(
            (part, widget) for widget in widgets if widget.owner == owner and widget.stored
        )

    def _add_primitive(self, part: _Part) -> None:
        if not part.feeds:
            return
        row = next(iter(part.feeds.values()))[0]
        kind = row[5] if len(row) > 5 else "*"
        companions = {"INT": 1, "FLOAT": 1, "COMBO": 2}.get(str(kind), 0)
        self._name(part, "value")
        self._widgets.append((part, Widget("value", str(kind), "value")))
        companion = Widget("control", "COMBO", "value", emitted=False)
        self._widgets.extend([(part, companion)] * companions)

    def _add_reroute(self, part: _Part) -> None:
        if part.fed:
            return
        kind = "*"
        for row in part.feeds.get(0, []):
            slots = self._parts[row[2]].inputs
            if row[3] < len(slots) and kind == "*":
                kind = str(slots[row[3]].get("type") or "*")
        self._inputs[self._name(part, kind)] = (part, "")

    def _name(self, part: _Part, name: str) -> str:
        """Return the name of an input of a part on the group node."""
        place = part.place_of(name)
        label = part.inputs[place].get("label") if place is not None else None
        given = self._custom(part, "input", name).get("name")
        key = shown = str(given or label or name)
        titled = part.type == "PrimitiveNode" and part.raw.get("title")
        if titled or shown in self._names:
            key = shown = f"{part.title} {name}"
            if shown in self._names:
                shown = f"{part.title} {self._names[shown]} {name}"
        self._names[key] = self._names.get(key, 1) + 1
        return shown

    def _custom(self, part: _Part, side: str, key: object) -> Mapping[str, Any]:
        config = self._config.get(str(part.number)) if self._config else None
        section = config.get(side) if isinstance(config, dict) else None
        entry = section.get(str(key)) if isinstance(section, dict) else None
        return entry if isinstance(entry, dict) else {}

    def _output_count(self, part: _Part) -> int:
        if part.known is not None:
            return len(part.known.outputs)
        if part.type == "Reroute":
            inside = part.fed and part.feeds and 0 not in part.shown
            return 0 if inside else 1
        return 1 if part.type == "PrimitiveNode" and part.feeds else 0

    def _usable(self, row: Any) -> bool:
        if len(row) < 4:
            return False
        slots = isinstance(row[1], int) and isinstance(row[3], int)
        return slots and self._has(row[0]) and self._has(row[2])

    def _has(self, number: Any) -> bool:
        return isinstance(number, int) and 0 <= number < len(self._parts)


def _objects(values: Any) -> list[Mapping[str, Any]]:
    """Return a list in which items that are not objects are empty ones, so indices stay valid."""
    if not isinstance(values, list):
        return []
    return [value if isinstance(value, dict) else {} for value in values]


def _rows(values: Any) -> list[list[Any]]:
    return [row for row in values if isinstance(row, list)] if isinstance(values, list) else []


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
