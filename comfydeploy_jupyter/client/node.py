"""One node of a workflow."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..errors import brief, printable
from ..graphs.formats import declared_inputs, inputs_of
from .graph_text import inputs_text
from .names import UnknownNameError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .graph import NodeName
    from .workflow import Workflow


class Node:
    """One node of a `Workflow`: its inputs are attributes and items, which can be set.

    Items are always inputs. Attributes are inputs, except for the four below.

    Parameters
    ----------
    workflow : Workflow
        The workflow.
    name : NodeName
        Its id, class and title.
    node : dict
        Its entry in the graph.

    Attributes
    ----------
    id, class_type, title : str
        Its id, class and title.
    inputs : dict
        A copy of all its inputs.
    """

    __slots__ = ("_name", "_node", "_workflow")

    _name: NodeName
    _node: dict[str, Any]
    _workflow: Workflow

    def __init__(self, workflow: Workflow, name: NodeName, node: dict[str, Any]) -> None:
        for slot, value in (("_workflow", workflow), ("_name", name), ("_node", node)):
            object.__setattr__(self, slot, value)

    @property
    def id(self) -> str:
        """The node id."""
        return self._name.id

    @property
    def class_type(self) -> str:
        """The class."""
        return self._name.type

    @property
    def title(self) -> str:
        """The title, or ``""``."""
        return self._name.title

    @property
    def inputs(self) -> dict[str, Any]:
        """All inputs, a copy: values, and links as ``[node id, output slot]``."""
        return {name: self[name] for name in inputs_of(self._node)}

    def __getitem__(self, name: str) -> Any:
        inputs = inputs_of(self._node)
        if name not in inputs:
            raise self._unknown(name, inputs)
        file = self._workflow.file(self.id, name)
        if file is not None:
            return file
        value = copy.deepcopy(inputs[name])
        is_list = isinstance(value, dict) and value.keys() == {"__value__"}
        return value["__value__"] if is_list else value

    def __setitem__(self, name: str, value: object) -> None:
        if name not in inputs_of(self._node):
            declared = declared_inputs(self._workflow.definitions(), self.class_type)
            if name not in declared:
                raise self._unknown(name, [*inputs_of(self._node), *declared])
        self._workflow.put(self.id, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python and IPython look for such names in every object
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownNameError as error:
            raise brief(AttributeError(str(error))) from None

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(type(self), name):
            text = f"{name} cannot be set; set an input of that name as node[{name!r}]"
            raise brief(AttributeError(text))
        try:
            self[name] = value
        except UnknownNameError as error:
            raise brief(AttributeError(str(error))) from None

    def __contains__(self, name: object) -> bool:
        return name in inputs_of(self._node)

    def __iter__(self) -> Iterator[str]:
        return iter(inputs_of(self._node))

    def __dir__(self) -> list[str]:
        names = [name for name in inputs_of(self._node) if name.isidentifier()]
        return ["class_type", "id", "inputs", "title", *names]

    def _ipython_key_completions_(self) -> list[str]:
        return list(inputs_of(self._node))

    def __repr__(self) -> str:
        inputs = inputs_text(inputs_of(self._node), self._workflow.source.names)
        return printable(f"Node {self._name}: {inputs}")

    def _unknown(self, name: object, known: Iterable[str]) -> UnknownNameError:
        return unknown_name(name, known, f"input of node {self._name}")
