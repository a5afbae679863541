"""A workflow as it is sent to the server, and the names of its nodes."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ..errors import InvalidRequestError, brief
from ..graphs.outline import NodeName, node_names
from ..graphs.seeds import SEED_NAMES
from ..graphs.validation import complaints

if TYPE_CHECKING:
    from .server import Server


class Source:
    """A workflow that the user gave, in the form in which it is sent.

    In API format or in the editor's: as a dict, as JSON text, or as the path or content of a JSON
    file or of a picture, video or sound that ComfyUI saved. None for one that the server stores.
    """

    def __init__(
        self,
        source: dict[str, Any] | str | bytes | os.PathLike[str] | None,
        *,
        ui: dict[str, Any] | None = None,
        given: dict[str, Any] | None = None,
        files: dict[str, Any] | None = None,
    ) -> None:
        self._graph: dict[str, Any] | None = None
        self._text = ""  # that of the graph, if it was given as one line of JSON
        self.is_ui = False  # whether ``graph`` is in the format of ComfyUI's editor
        self.ui = ui  # in the editor's format, if that is known and `graph` is in API format
        self.given = given or {}  # what the user has set in the graph, by the keys of `inputs`
        self.files = files or {}  # those that are files, pictures or arrays
        if source is not None:
            loaded = _load(source)
            self._graph, self._text, self.is_ui = loaded.graph, loaded.text, loaded.is_ui
            self.ui = ui or loaded.ui

    @property
    def graph(self) -> dict[str, Any] | None:
        """The workflow in either format; None for one that the server stores."""
        if self._graph is None and self._text:
            self._graph = json.loads(self._text)
        return self._graph

    @cached_property
    def names(self) -> dict[str, NodeName]:
        """The names of the nodes, by their ids."""
        return {} if self.graph is None else node_names(self.graph)

    def body(self) -> dict[str, Any]:
        """Return the fields of the request that have the workflow."""
        if self.graph is None:
            return {}
        fields = {"workflow" if self.is_ui else "workflow_api": self.graph}
        return fields if self.ui is None else {**fields, "workflow": self.ui}

    def texts(self) -> dict[str, str]:
        """Return what `body` returns, as JSON."""
        if not self._text:
            return {name: json.dumps(graph) for name, graph in self.body().items()}
        own = {"workflow" if self.is_ui else "workflow_api": self._text}
        return own if self.ui is None else {**own, "workflow": json.dumps(self.ui)}

    def seed_inputs(self, seed: int) -> dict[str, int]:
        """Return the entries of ``inputs`` that set every seed of the workflow.

        The graph's own seeds are known in API format only. In other cases the server sets the
        input ``seed`` if only one node has it, and else names the candidates.
        """
        if self.graph is None or self.is_ui:
            return {"seed": seed}
        found = {
            f"{node_id}.{name}": seed
            for node_id, node in self.graph.items()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
            for name in SEED_NAMES
            if isinstance(node["inputs"].get(name), int)
        }
        if not found:
            raise InvalidRequestError.of_field("seed", "no node of this workflow has a seed")
        return found

    def name(self, node_id: object, node_type: object = "") -> NodeName:
        """Return the name of a node, also of one that a node has created (``"5.0.1"``)."""
        key = str(node_id)
        if key in self.names:
            return self.names[key]
        known = self.names.get(re.split(r"[.:]", key, maxsplit=1)[0])
        type_ = str(node_type or "") or (known.type if known else "")
        return NodeName(key, type_, known.title if known else "")

    def complaints(self, node_errors: object) -> list[str]:
        """Return ComfyUI's ``node_errors`` as sentences that name the nodes."""
        return list(complaints(node_errors, lambda *node: str(self.name(*node))))


def file_title(source: object) -> str:
    """Return the name of the file of a workflow; empty if it is not given as a file."""
    if isinstance(source, os.PathLike) or (isinstance(source, str) and not is_json(source)):
        return Path(source).stem
    return ""


def is_json(text: str) -> bool:
    """Return whether a text is the JSON of a workflow, not the path or name of one."""
    return text.lstrip().startswith("{")


class _Loaded(NamedTuple):
    graph: dict[str, Any] | None  # in either format; None if it is still text
    is_ui: bool
    ui: dict[str, Any] | None = None  # in the editor's format, if it is in API format and has both
    text: str = ""


def _load(
    source: dict[str, Any] | str | bytes | os.PathLike[str],
) -> _Loaded:
    if isinstance(source, dict):
        return _Loaded(source, _has_nodes(source))
    if isinstance(source, bytes):
        return _load_stream(io.BytesIO(source), "the content")
    if isinstance(source, str) and is_json(source):
        return _load_stream(io.BytesIO(source.encode("utf-8", "surrogatepass")), "the text")
    if isinstance(source, (str, os.PathLike)):
        try:
            file = Path(source).expanduser().open("rb")
        except OSError as error:
            raise brief(error) from None
        with file:
            return _load_stream(file, os.fspath(source))
    raise InvalidRequestError.of_field(
        "workflow", f"must be a dict, JSON text or a path, not a {type(source).__name__}"
    )


def _has_nodes(graph: dict[str, Any]) -> bool:
    return isinstance(graph.get("nodes"), list)


def _load_stream(stream: BinaryIO, what: str) -> _Loaded:
    head = stream.read(64)
    stream.seek(0)
    if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith((b"{", b"[")):
        from ..graphs.metadata import embedded_workflow

        try:
            found = embedded_workflow(stream)
        except InvalidRequestError as error:
            problem = f"{what} {error.details['problem']}"
            raise InvalidRequestError.of_field("workflow", problem) from error
        if found["prompt"] is not None:
            return _Loaded(found["prompt"], False, found["workflow"])
        assert found["workflow"] is not None
        return _Loaded(found["workflow"], True)
    content = stream.read()
    # what a program has written: a text of several lines has many spaces
    one_line = content.isascii() and b"\0" not in content and b"\n" not in content.rstrip()
    try:
        # the objects of a graph that is only sent are not kept: collecting them takes longer
        graph = json.loads(content, object_hook=_has_nodes if one_line else None)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError.of_field("workflow", f"{what} is not JSON: {error}") from error
    if isinstance(graph, list):
        raise InvalidRequestError.of_field("workflow", f"{what} is not a JSON object")
    return (
        _Loaded(None, graph, text=content.decode())
        if one_line
        else _Loaded(graph, _has_nodes(graph))
    )


def in_api_format(server: Server, source: Source) -> tuple[Source, list[str]]:
    """Return a workflow with its graph in API format, and why parts could not be converted."""
    if not source.is_ui:
        return source, []
    reply = server.post("workflow/convert", {"workflow": source.graph, "to": "api"})
    converted = Source(
        reply["workflow_api"], ui=source.graph, given=source.given, files=source.files
    )
    return converted, reply["warnings"]
