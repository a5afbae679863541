"""The inputs and outputs that the author of a workflow chose for its form.

The editor has two ways to choose them. *App mode* (frontend 1.41 and later) stores them in
``extra.linearData``: ``{"inputs": [[node id, widget name, settings?], …], "outputs": [node id,
…]}``. Without it, the widgets that were promoted to the nodes of subgraphs are the form: inputs of
a subgraph that lead to widgets, and those that ``properties.proxyWidgets`` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from .formats import UIGraph, UINodes, objects, subgraphs_of

if TYPE_CHECKING:
    from .external import Target

MOST_INPUTS = 1000
"""The most inputs of an app that are read."""

MOST_WARNINGS = 20
"""The most entries with errors that have a warning each."""

_DEEPEST = 50
_MOST_TARGETS = 1000
_MOST_STEPS = 100_000
_FROM_OUTSIDE = "-10"
_PRIMITIVE = "PrimitiveNode"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_WIDGET_ID = re.compile(rf"{_UUID}:([^:]+):([^:]+)")
_LOCATOR = re.compile(rf"{_UUID}:([^:]+)")

_Ends: TypeAlias = dict[tuple[str, int], list[tuple[str, int]]]


@dataclass(frozen=True)
class ChosenInput:
    """An input that the author of a workflow chose for its form."""

    # the inputs of the API graph that it sets, in the order in which the graph is followed
    targets: tuple[Target, ...]
    title: str  # the title of the node that shows it, or ``""``
    name: str  # the name of the widget
    label: str  # the label that the author gave it, or ``""``


@dataclass(frozen=True)
class AuthorForm:
    """The inputs and outputs that the author of a workflow chose."""

    inputs: list[ChosenInput]  # in the author's order
    # ids of the nodes whose outputs are shown, in the author's order; empty for all
    outputs: list[str]
    app: bool  # whether they come from App mode; else they are the promoted widgets
    warnings: list[str]  # A sentence for each entry of ``linearData`` that is invalid


def author_form(ui: UIGraph) -> AuthorForm:
    """Return the inputs and outputs that the author of a workflow chose for its form."""
    chooser = _Chooser(ui)
    extra = ui.get("extra")
    data = extra.get("linearData") if isinstance(extra, Mapping) else None
    if data is not None:
        chooser.read_app(data)
    app = bool(chooser.inputs)
    if not app:
        chooser.read_promoted()
    warnings = chooser.warnings
    if len(warnings) > MOST_WARNINGS:
        more = len(warnings) - MOST_WARNINGS
        warnings = [*warnings[:MOST_WARNINGS], f"extra.linearData: {more} more like these"]
    return AuthorForm(chooser.inputs, chooser.outputs, app, warnings)


@dataclass(frozen=True)
class _Place:
    """A node, its graph, and the prefix of its id in API format."""

    node: Mapping[str, Any]
    scope: Mapping[str, Any]
    prefix: str = ""

    @property
    def id(self) -> str:
        return f"{self.prefix}{self.node.get('id')}"


class _Chooser:
    def __init__(self, ui: UIGraph) -> None:
        self._ui = ui
        self._nodes = UINodes(ui)
        self._subgraphs = {str(each.get("id")): each for each in subgraphs_of(ui)}
        self._inner: dict[str, list[_Place]] | None = None
        self._links: dict[int, _Ends] = {}
        self._steps = 0
        self.inputs: list[ChosenInput] = []
        self.outputs: list[str] = []
        self.warnings: list[str] = []

    # -- App mode ------------------------------------------------------------------------------

    def read_app(self, data: object) -> None:
        """Read the inputs and outputs of ``linearData``."""
        if not isinstance(data, Mapping):
            self.warnings.append("extra.linearData is ignored: it is not an object")
            return
        for number, entry in enumerate(self._list(data, "inputs")):
            found = self._app_input(entry)
            if isinstance(found, str):
                self.warnings.append(f"extra.linearData.inputs[{number}] is ignored: {found}")
            elif found not in self.inputs:
                self.inputs.append(found)
        for number, entry in enumerate(self._list(data, "outputs")):
            place = self._find(entry) if _is_id(entry) else None
            if place is None:
                what = (
                    "the workflow has no such node"
                    if _is_id(entry)
                    else "it is not the id of a node"
                )
                self.warnings.append(f"extra.linearData.outputs[{number}] is ignored: {what}")
            elif place.id not in self.outputs:
                self.outputs.append(place.id)

    def _list(self, data: Mapping[str, Any], key: str) -> list[Any]:
        value = data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.warnings.append(f"extra.linearData.{key} is ignored: it is not a list")
            return []
        if len(value) > MOST_INPUTS:
            self.warnings.append(f"extra.linearData.{key}: only the first {MOST_INPUTS} are read")
        return value[:MOST_INPUTS]

    def _app_input(self, entry: object) -> ChosenInput | str:
        """Return an input of ``linearData``, or the reason why it is invalid."""
        if not isinstance(entry, list) or len(entry) < 2:
            return "it is not a pair of a node's id and the name of a widget"
        owner, name = entry[0], entry[1]
        if not _is_id(owner) or not isinstance(name, str):
            return "it is not a pair of a node's id and the name of a widget"
        # Newer editors write "<graph>:<node>:<widget>", with the parts encoded.
        full = _WIDGET_ID.fullmatch(owner) if isinstance(owner, str) else None
        if full is not None:
            owner, name = unquote(full[1]), unquote(full[2])
        place = self._find(owner)
        if place is not None:
            chosen = self._shown_on(place, name)
            return chosen or f"node {place.id} has no widget {_brief(name)}"
        return self._legacy(str(owner), name)

    def _find(self, owner: object) -> _Place | None:
        """Find a node of the workflow by its id, or by a path such as ``"12:3"``."""
        text = str(owner)
        located = _LOCATOR.fullmatch(text)
        text = unquote(located[1]) if located is not None else text
        path = self._nodes.path(text)
        if len(path) != text.count(":") + 1:
            return None
        return _Place(path[-1].node, path[-1].scope, text[: text.rfind(":") + 1])

    def _legacy(self, owner: str, name: str) -> ChosenInput | str:
        """Read an entry that names a node inside a subgraph by its id there.

        Editors before 1.49 saved this for promoted widgets, which the subgraph's node shows.
        """
        places = self._inside().get(owner, [])
        if not places:
            return f"the workflow has no node {_brief(owner)}"
        if len(places) > 1:
            return f"there are several nodes {_brief(owner)}"
        (inner,) = places
        wanted = self._targets(inner, name, 0)
        if not wanted:
            return f"node {inner.id} has no widget {_brief(name)}"
        outer = self._find(inner.prefix.rstrip(":"))
        for promoted in self._promoted(outer) if outer is not None else ():
            if set(wanted) <= set(promoted.targets):
                return promoted
        return self._shown_on(inner, name) or f"node {inner.id} has no widget {_brief(name)}"

    def _inside(self) -> dict[str, list[_Place]]:
        """Return the nodes inside the subgraph nodes of the workflow, by their ids there."""
        if self._inner is None:
            self._inner = {}
            for outer in objects(self._ui.get("nodes")):
                scope = self._subgraphs.get(str(outer.get("type")))
                for node in objects(scope.get("nodes")) if scope is not None else ():
                    place = _Place(node, scope or {}, f"{outer.get('id')}:")
                    self._inner.setdefault(str(node.get("id")), []).append(place)
        return self._inner

    # -- promoted widgets ----------------------------------------------------------------------

    def read_promoted(self) -> None:
        """Read the promoted widgets of the workflow's subgraph nodes."""
        for node in objects(self._ui.get("nodes")):
            if str(node.get("type")) in self._subgraphs:
                self.inputs.extend(self._promoted(_Place(node, self._ui)))

    def _promoted(self, host: _Place) -> Iterator[ChosenInput]:
        """Yield the widgets of a subgraph node, first those that the author put in order."""
        scope = self._subgraphs.get(str(host.node.get("type")), {})
        properties = host.node.get("properties")
        proxies = properties.get("proxyWidgets") if isinstance(properties, Mapping) else None
        ports = _names(scope.get("inputs"))
        names: list[tuple[str | None, str]] = []
        for entry in proxies if isinstance(proxies, list) else ():
            if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[1], str):
                inner_id = str(entry[0])
                names.append((None if inner_id == "-1" else inner_id, entry[1]))
        seen: set[Target] = set()
        names.extend((None, port) for port in ports)
        for owner, name in names[:MOST_INPUTS]:
            if owner is None:
                chosen = self._shown_on(host, name)
            else:
                inner = self._nodes.node(scope, owner)
                place = None if inner is None else _Place(inner, scope, f"{host.id}:")
                chosen = None if place is None else self._proxied(host, place, name)
            if chosen is not None and not seen.issuperset(chosen.targets):
                seen.update(chosen.targets)
                yield chosen

    def _proxied(self, host: _Place, inner: _Place, name: str) -> ChosenInput | None:
        """Return a widget of an inner node that is shown on the node of its subgraph."""
        targets = self._targets(inner, name, 0)
        if not targets:
            return None
        own_title = _title(inner.node) if inner.node.get("type") == _PRIMITIVE else ""
        label = _label(inner.node, name) or own_title
        return ChosenInput(tuple(targets), _title(host.node), name, label)

    def _shown_on(self, place: _Place, name: str) -> ChosenInput | None:
        targets = self._targets(place, name, 0)
        if not targets:
            return None
        label = _label(place.node, name)
        scope = self._subgraphs.get(str(place.node.get("type")))
        if scope is not None and not label:
            label = _label(scope, name)
        return ChosenInput(tuple(targets), _title(place.node), name, label)

    def _targets(self, place: _Place, name: str, depth: int) -> list[Target]:
        """Return the inputs of the API graph that a widget sets."""
        self._steps += 1
        if depth > _DEEPEST or self._steps > _MOST_STEPS:
            return []
        kind = str(place.node.get("type"))
        scope = self._subgraphs.get(kind)
        if scope is not None:
            prefix = f"{place.id}:"
            ports = _names(scope.get("inputs"))
            if name in ports:
                ends = self._ends(scope, _FROM_OUTSIDE, ports.index(name))
                return self._behind(scope, prefix, ends, depth)
            return self._proxy_targets(place, scope, name, depth)
        if kind == _PRIMITIVE:
            ends = self._ends(place.scope, str(place.node.get("id")), 0)
            return self._behind(place.scope, place.prefix, ends, depth)
        return [(place.id, name)]

    def _proxy_targets(
        self, host: _Place, scope: Mapping[str, Any], name: str, depth: int
    ) -> list[Target]:
        properties = host.node.get("properties")
        proxies = properties.get("proxyWidgets") if isinstance(properties, Mapping) else None
        for entry in proxies if isinstance(proxies, list) else ():
            if not isinstance(entry, list) or len(entry) < 2:
                continue
            inner = self._nodes.node(scope, str(entry[0]))
            if inner is not None and name in (entry[1], f"{entry[0]}: {entry[1]}"):
                return self._targets(_Place(inner, scope, f"{host.id}:"), str(entry[1]), depth + 1)
        return []

    def _ends(self, scope: Mapping[str, Any], origin: str, slot: int) -> list[tuple[str, int]]:
        """Return the targets of the links from an output: node ids and numbers of inputs."""
        if id(scope) not in self._links:
            self._links[id(scope)] = _links(scope)
        return self._links[id(scope)].get((origin, slot), [])

    def _behind(
        self, scope: Mapping[str, Any], prefix: str, ends: list[tuple[str, int]], depth: int
    ) -> list[Target]:
        found: dict[Target, None] = {}
        for node_id, number in ends[:_MOST_TARGETS]:
            node = self._nodes.node(scope, node_id)
            slots = objects(node.get("inputs")) if node is not None else []
            if node is None or not 0 <= number < len(slots):
                continue
            place = _Place(node, scope, prefix)
            targets = self._targets(place, str(slots[number].get("name")), depth + 1)
            found.update(dict.fromkeys(targets))
            if len(found) >= _MOST_TARGETS:
                break
        return list(found)


def _links(scope: Mapping[str, Any]) -> _Ends:
    """Return the targets of all links of a graph, by their origins."""
    links = scope.get("links")
    found: _Ends = {}
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping):
            names = ("origin_id", "origin_slot", "target_id", "target_slot")
            parts = [link.get(name) for name in names]
        else:
            parts = link[1:5] if isinstance(link, list) else []
        if len(parts) == 4 and isinstance(parts[1], int) and isinstance(parts[3], int):
            found.setdefault((str(parts[0]), parts[1]), []).append((str(parts[2]), parts[3]))
    return found


def _names(slots: object) -> list[str]:
    return [str(slot.get("name")) for slot in objects(slots)]


def _label(holder: Mapping[str, Any], name: str) -> str:
    """Return the label that the author gave an input of a node or of a subgraph."""
    for slot in objects(holder.get("inputs")):
        widget = slot.get("widget")
        own = widget.get("name") if isinstance(widget, Mapping) else None
        if name in (slot.get("name"), own):
            label = slot.get("label")
            return label if isinstance(label, str) and label != name else ""
    return ""


def _title(node: Mapping[str, Any]) -> str:
    title = node.get("title")
    return title if isinstance(title, str) else ""


def _is_id(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
