"""Which inputs name model files, the folders of these files, and their download links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .definitions import SUFFIXES
from .formats import AnyGraph, objects, texts_in
from .ui import SavedNode, SavedWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def models_in(graph: AnyGraph) -> frozenset[str]:
    """Return the names of the model files in the inputs of a graph in API format."""
    # The definitions of its nodes are not needed: a text with the suffix of a model file is one.
    return frozenset(text for text in texts_in(graph) if text.endswith(SUFFIXES))


def workflow_nodes(workflow: object) -> Iterator[SavedNode]:
    """Yield the nodes of a workflow in the editor's format, including those of its subgraphs."""
    # A value that is not a workflow yields nothing.
    for graph in SavedWorkflow(workflow).graphs() if isinstance(workflow, dict) else ():
        yield from graph.every


def _model_entries(workflow: object) -> Iterator[Mapping[str, Any]]:
    """Yield the models that the nodes of a workflow list, then those that it lists itself."""
    lists = [node.properties.get("models") for node in workflow_nodes(workflow)]
    if isinstance(workflow, dict):
        lists.append(workflow.get("models"))
    for entries in lists:
        yield from objects(entries)


def model_links(workflow: object) -> dict[str, ListedModel]:
    """Return the models of a workflow that have download links, by their names."""
    listed = reversed([model for model in map(_listed, _model_entries(workflow)) if model])
    return {model.name: model for model in listed if model.url is not None}


def node_packs(workflow: object) -> dict[str, str]:
    """Return the node packs of node classes that are saved in a workflow."""
    # The editor saves the pack's registry id (``cnr_id``) or its GitHub repository (``aux_id``).
    return _first_by_class(workflow, lambda saved: saved.get("cnr_id") or saved.get("aux_id"))


CORE_PACK = "comfy-core"
"""The pack of ComfyUI's own nodes, as the editor saves it."""


def core_versions(workflow: object) -> dict[str, str]:
    """Return for ComfyUI's own node classes the version of ComfyUI with which they were saved."""
    return _first_by_class(
        workflow, lambda saved: saved.get("ver") if saved.get("cnr_id") == CORE_PACK else None
    )


def _first_by_class(
    workflow: object, fact: Callable[[Mapping[str, Any]], object]
) -> dict[str, str]:
    """Return for each node class the first text that ``fact`` returns for a node's properties."""
    found: dict[str, str] = {}
    for node in workflow_nodes(workflow):
        text, class_type = fact(node.properties), node.type
        if isinstance(text, str) and class_type:
            found.setdefault(class_type, text)
    return found


PICKLES = frozenset({".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"})
"""Suffixes of model files that may hold Python pickles, which can run code when they are loaded."""


_SHA256 = frozenset({"", "sha256", "sha-256"})


@dataclass(frozen=True)
class ListedModel:
    """A model file in the list of a workflow; none of its fields has been checked."""

    name: str  # the name of the file
    url: str | None = None
    folder: str | None = None
    hash: str | None = None
    hash_type: str | None = None

    @property
    def sha256(self) -> str | None:
        """The SHA-256 that it must have; None if the workflow does not say it."""
        is_sha256 = (self.hash_type or "").lower() in _SHA256
        return self.hash.lower() if self.hash and is_sha256 else None

    def fits(self, sha256: str | None) -> bool:
        """Return whether a file with this SHA-256 may be it, as far as both are known."""
        return sha256 is None or self.sha256 in (None, sha256)


def listed_models(workflow: object) -> list[ListedModel]:
    """Return the model files that a workflow lists; each name in a folder once."""
    # Templates list them in ``properties.models`` of the loader, those in subgraphs too; older ones
    # in ``models`` of the workflow itself.
    found: dict[tuple[str, str | None], ListedModel] = {}
    for entry in _model_entries(workflow):
        model = _listed(entry)
        if model is not None:
            found.setdefault((model.name, model.folder), model)
    return list(found.values())


def _listed(entry: Mapping[str, Any]) -> ListedModel | None:
    if not isinstance(entry.get("name"), str):
        return None
    texts = {"url": "url", "folder": "directory", "hash": "hash", "hash_type": "hash_type"}
    fields = {ours: entry.get(theirs) for ours, theirs in texts.items()}
    return ListedModel(
        entry["name"], **{k: v if isinstance(v, str) else None for k, v in fields.items()}
    )


def chosen_names(workflow: object, prompt: object = None) -> set[str]:
    """Return the texts in the widgets of a workflow, among them the names of all files it uses."""
    found: set[str] = set()
    for node in workflow_nodes(workflow):
        found.update(_texts(node.stored_values))
    for entry in objects(list(prompt.values())) if isinstance(prompt, dict) else ():
        inputs = entry.get("inputs")
        found.update(_texts(list(inputs.values()) if isinstance(inputs, dict) else []))
    return found


def _texts(values: Sequence[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, dict):
            yield from (inner for inner in value.values() if isinstance(inner, str))
        elif isinstance(value, str):
            yield value
