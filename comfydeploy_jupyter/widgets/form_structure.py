"""Which fields the form of a workflow has, with the options and groups that were chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..graphs.definitions import unwrapped
from ..graphs.formats import class_of, inputs_of, is_link
from ..graphs.inputs import apply_inputs
from .form_values import is_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..graphs.definitions import AnyDefinitions
    from ..graphs.external import Target
    from ..graphs.form import FormField, InputGroup, WorkflowForm
    from ..graphs.formats import Graph
    from ..graphs.inputs import AppliedInputs


class FormStructure:
    """The fields and groups of a form, and the graph that has them.

    The option of a dynamic combo decides which further inputs there are, and an autogrow group has
    as many inputs as were added to it.

    Parameters
    ----------
    fields : sequence of FormField
        The fields of the workflow.
    graph : Graph
        The workflow in API format.
    groups : sequence of InputGroup
        Groups of inputs that can grow.
    definitions : dict, optional
        ComfyUI's ``object_info``, which has the inputs of each option of dynamic combos.
    make : callable, optional
        Called with a graph in which another option was chosen, or an input was added or removed;
        returns its form. Without it the fields never change.

    Attributes
    ----------
    fields : dict of str to FormField
        The present fields by their keys.
    groups : dict of str to InputGroup
        The present groups by their keys.
    graph : Graph
        The graph that has these fields.
    """

    def __init__(
        self,
        fields: Sequence[FormField],
        graph: Graph,
        *,
        groups: Sequence[InputGroup] = (),
        definitions: AnyDefinitions = None,
        make: Callable[[Graph], WorkflowForm] | None = None,
    ) -> None:
        self._workflow = self.graph = graph
        self._definitions, self._make = definitions, make
        self._saved = {field.key: field for field in fields}
        self.fields = dict(self._saved)
        self.groups = {group.key: group for group in groups}

    def rebuild(
        self, inputs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Change to the fields that the workflow has with other inputs.

        Parameters
        ----------
        inputs : dict
            The inputs that differ from the workflow, by their keys.
        values : dict
            The values of the present fields, by their keys.

        Returns
        -------
        dict or None
            The values that the new fields keep; None if the fields never change.
        """
        if self._make is None:
            return None
        applied = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        made = self._make(applied.graph)
        moved = {
            field.key
            for field in made.fields
            if field.dynamic and self._is_other(field, self._saved.get(field.key))
        }
        fields = [
            replace(field, value=self._saved[field.key].value)
            if field.key in self._saved and not is_within(field.key, moved)
            else field
            for field in made.fields
        ]
        before, self.graph = self.graph, applied.graph
        options = {field.key: field for field in made.fields if field.dynamic}
        switched = {
            key
            for key, field in options.items()
            if inputs_of(before[field.node_id]).get(field.input_name) != field.value
        }
        self.fields = {field.key: field for field in fields}
        self.groups = {group.key: group for group in made.groups}
        kept = {k: v for k, v in values.items() if not is_within(k, switched)}
        kept.update((key, field.value) for key, field in options.items())
        return kept

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chosen options, and the inputs that were added to or removed from groups."""
        options = {key: values[key] for key, field in self.fields.items() if field.dynamic}
        return {**options, **dict.fromkeys(self.removed()), **self.added()}

    def of(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs among these that decide which fields there are."""
        dynamic = any(field.dynamic for field in self.fields.values()) or self.groups
        if self._make is None or not dynamic:
            return {}
        applied = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        made = self._make(applied.graph)
        groups = {group.key for group in made.groups}
        fields = {field.key: field for field in made.fields}
        added = {key for key in fields if key not in self._saved and is_within(key, groups)}
        removed = [key for key in self._saved if key not in fields and is_within(key, groups)]
        options = {key for key, field in fields.items() if field.dynamic}
        return {key: fields[key].value for key in options | added} | dict.fromkeys(removed)

    def added(self) -> dict[str, Any]:
        """Return the inputs that were added to groups, with their initial values."""
        return {
            key: field.value
            for key, field in self.fields.items()
            if key not in self._saved and is_within(key, self.groups)
        }

    def removed(self) -> list[str]:
        """Return the keys of the inputs that were removed from groups."""
        return [
            key for key in self._saved if key not in self.fields and is_within(key, self.groups)
        ]

    def grown(self, group: InputGroup, by: int, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the inputs with one more in a group, or without its last one, for `rebuild`.

        Returns
        -------
        dict or None
            None if the group is full, or cannot have fewer inputs.
        """
        inputs = self.chosen(values)
        key = group.following if by > 0 else group.last
        if key is None:
            return None
        if by < 0:
            inputs.pop(key, None)
            inputs.update({key: None} if key in self._saved else {})
        elif key in inputs:
            del inputs[key]
        else:
            inputs[key] = group.default
        return inputs

    def told_by(self, graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with which the workflow has the values of a run, by their keys.

        The run's graph decides. The inputs of its request only set what the graph does not have as
        a value: external inputs that were replaced, and files that a node was added for. None is
        the value of an input that is removed from a group.
        """
        values = self._values_in(graph)
        kept = {}
        for key, value in inputs.items():
            targets = apply_inputs(self._workflow, {key: value}, strict=False).given
            if not targets or not targets.keys() <= values.keys():
                kept[key] = value
        changed = {
            f"{node_id}.{name}": value
            for (node_id, name), value in values.items()
            if unwrapped(inputs_of(self._workflow[node_id]).get(name)) != value
        }
        gone = [
            key
            for key, field in self._saved.items()
            if is_within(key, self.groups)
            and self._is_in(graph, field.node_id)
            and field.input_name not in inputs_of(graph[field.node_id])
        ]
        return {**kept, **changed, **dict.fromkeys(gone)}

    def untold(self, graph: Graph, inputs: Mapping[str, Any]) -> list[str]:
        """Return the labels of fields, or names of inputs, that do not have the value of a run.

        Parameters
        ----------
        graph : Graph
            The graph that the run executed.
        inputs : dict
            The inputs of the form that differ from the workflow.
        """
        labels = {(f.node_id, f.input_name): f.label for f in self.fields.values()}
        given = apply_inputs(self._workflow, inputs, strict=False, definitions=self._definitions)
        wrong = [
            (node_id, name)
            for (node_id, name), value in self._values_in(graph).items()
            if unwrapped(inputs_of(given.graph[node_id]).get(name)) != value
        ]
        absent = [
            (field.node_id, field.input_name)
            for key, field in self._saved.items()
            if not self._is_in(graph, field.node_id)
            and key == f"{field.node_id}.{field.input_name}"
            and (field.node_id, field.input_name) not in given.given
        ]
        return [labels.get(target, ".".join(target)) for target in (*wrong, *absent)]

    def _is_in(self, graph: Graph, node_id: str) -> bool:
        """Return whether a run's graph has a node of the workflow, with the same class."""
        return class_of(graph.get(node_id, {})) == class_of(self._workflow.get(node_id, {}))

    def _values_in(self, graph: Graph) -> dict[Target, Any]:
        return {
            (node_id, name): unwrapped(value)
            for node_id, node in graph.items()
            if node_id in self._workflow and self._is_in(graph, node_id)
            for name, value in inputs_of(node).items()
            if not is_link(value)
        }

    def applied(self, inputs: Mapping[str, Any]) -> AppliedInputs:
        """Return the present graph with other inputs; unknown names are left out."""
        return apply_inputs(self.graph, inputs, strict=False, definitions=self._definitions)

    def targets(self, key: str) -> frozenset[Target]:
        """Return the inputs of the graph that a name sets."""
        return frozenset(apply_inputs(self.graph, {key: None}, definitions=self._definitions).given)

    def field_of(self, key: str) -> FormField | None:
        """Return the field that shows exactly the inputs that a name sets, or None."""
        if key in self.fields:
            return self.fields[key]
        targets = self.targets(key)
        shown = (f for f in self.fields.values() if (f.node_id, f.input_name) in targets)
        return next((f for f in shown if {n for n, _ in self.targets(f.key)} == {f.node_id}), None)

    def twin_of(self, key: str) -> FormField | None:
        """Return the field that sets several inputs, and those of a name among them, or None."""
        targets = self.targets(key)
        shared = (field for field in self.fields.values() if field.twins)
        return next(
            (f for f in shared if targets <= {t for twin in f.keys for t in self.targets(twin)}),
            None,
        )

    @staticmethod
    def _is_other(field: FormField, saved: FormField | None) -> bool:
        return saved is None or saved.value != field.value
