"""The errors that ComfyUI finds in a workflow before it runs."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..graphs.issues import NOT_HERE, sentence
from .record import Reply

if TYPE_CHECKING:
    from .graph import Source


class Validation(Reply):
    """The errors that ComfyUI finds in a workflow; also a mapping with the keys of the reply.

    Parameters
    ----------
    reply : dict
        The reply of the route ``workflow/validate``: ``valid``, ``error``, ``node_errors``,
        ``further_errors``, ``outputs``, ``missing_nodes``, ``missing_models``, ``warnings`` and
        ``definitions``.
    source : Source
        The workflow, for the names of nodes.

    Attributes
    ----------
    valid : bool
        Whether ComfyUI would run it, or at least a part of it.
    problems : list of str
        A sentence for each error, with the name of the node.
    by_node : dict of str to list of str
        The same by node id, without the names of the nodes.
    general : list of str
        What concerns no single node: warnings, and ComfyUI's error if it names no node.
    """

    def __init__(self, reply: dict[str, Any], source: Source) -> None:
        super().__init__(reply)
        self.valid = bool(reply.get("valid"))
        self.by_node: dict[str, list[str]] = {}
        self.general: list[str] = []
        self.problems = source.complaints(reply.get("node_errors"))
        error = reply.get("error")
        if isinstance(error, dict) and not self.problems:
            self.general.append(sentence(error))
        further = reply.get("further_errors") or {}
        for node_id, fault in {**(reply.get("node_errors") or {}), **further}.items():
            self.by_node[str(node_id)] = [
                sentence(item, str(fault.get("class_type") or ""))
                for item in fault.get("errors") or ()
            ]
        missing = list(reply.get("missing_nodes") or ())
        warned = [str(warning) for warning in reply.get("warnings") or ()]
        self.problems += self.general
        self.problems += source.complaints(further)
        for entry in missing:
            for node_id in entry.get("node_ids") or ():
                self._add(node_id, _no_class(entry))
            self.problems.append(_missing_class(entry, source))
        for entry in reply.get("missing_models") or ():
            self._add_model(entry, source)
        self.problems = list(map(printable, self.problems + warned))
        self.general = list(map(printable, self.general + warned))
        self.by_node = {node: list(map(printable, said)) for node, said in self.by_node.items()}

    @property
    def doubt(self) -> str:
        """Why the result may be wrong; empty if it comes from ComfyUI's present definitions."""
        known = self._reply.get("definitions")
        source = str(known.get("source")) if isinstance(known, dict) else "live"
        return "" if source == "live" else f"by {source} node definitions: ComfyUI is down"

    def _add(self, node_id: object, problem: str) -> None:
        self.by_node.setdefault(str(node_id), []).append(problem)

    def _add_model(self, entry: dict[str, Any], source: Source) -> None:
        """Add a missing model, in place of the error about the value of the input."""
        node_id, begin = str(entry.get("node_id")), f"{entry.get('name')} {NOT_HERE}"
        where = f"node {source.name(node_id)}: "
        known = self.by_node.get(node_id, [])
        self.by_node[node_id] = [text for text in known if not text.startswith(begin)]
        self.problems = [text for text in self.problems if not text.startswith(where + begin)]
        folder = f" (models/{entry['folder']})" if entry.get("folder") else ""
        url = f"; it is at {entry['url']}" if entry.get("url") else ""
        self._add(node_id, f"{begin}{folder}{url}")
        self.problems.append(f"{where}{begin}{folder}{url}")

    def __repr__(self) -> str:
        validity = "valid" if self.valid else "not valid"
        doubt = f", {self.doubt}" if self.doubt else ""
        return "\n- ".join([f"The workflow is {validity}{doubt}", *self.problems])

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{html.escape(repr(self))}</pre>'


def _no_class(entry: dict[str, Any]) -> str:
    from_ = ""
    if entry.get("needs"):
        from_ = f"; it needs {entry['needs']}"
    elif entry.get("pack"):
        from_ = f"; it is in the node pack {entry['pack']}"
    return f"ComfyUI has no node class {entry.get('class_type')}{from_}"


def _missing_class(entry: dict[str, Any], source: Source) -> str:
    words, semicolon, pack = _no_class(entry).partition(";")
    names = [source.name(node_id) for node_id in entry.get("node_ids") or ()]
    # A node whose class is its only name needs no further one.
    nodes = [
        f'"{name.short}"' if name.unique else f"id {name.id}"
        for name in names
        if not name.unique or name.short != name.type
    ]
    place = f" ({', '.join(nodes)})" if nodes else ""
    return f"{words}{place}{semicolon}{pack}"
