"""Validation of the nodes of a prompt, each after the nodes that it depends on."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from .formats import is_link, shown_title, title_of
from .issues import Issue, input_issue, issue, type_mismatch
from .node_checks import NodeCheck, split_annotated

if TYPE_CHECKING:
    from .node_rules import InputRule, NodeRule
    from .versions import Behaviour

FileExists = Callable[[str, str], bool]
"""``exists(folder, path)``: whether the file ``path`` exists, relative to the folder ``"input"``,
``"output"`` or ``"temp"``. ComfyUI accepts absolute paths and ``..``."""

MAX_CHAIN = 984
"""The longest chain of nodes that is followed: ComfyUI follows links by recursion, which Python
ends at about this depth. It is needed since the oldest versions follow cycles until then."""

_RECURSION = "maximum recursion depth exceeded while calling a Python object"


class _Frame:
    """A node whose validation has started."""

    __slots__ = (
        "declared",
        "dynamic",
        "errors",
        "inputs",
        "link",
        "node_id",
        "pending",
        "received",
        "rule",
        "sources_valid",
        "values",
    )

    def __init__(self, node_id: Any, rule: NodeRule) -> None:
        self.node_id = node_id
        self.rule = rule
        self.inputs: Any = None
        self.declared: tuple[InputRule, ...] = ()
        self.dynamic = False  # whether some of them are dynamic inputs
        self.pending: Iterator[InputRule] | None = None
        self.errors: list[Issue] = []
        self.sources_valid = True  # whether the nodes that it depends on are valid
        self.link: tuple[InputRule, list[Any]]  # the input and its link that are followed now
        if rule.own is not None:
            self.values: dict[str, Any] = {}
            self.received: dict[str, Any] = {}


class NodeValidator:
    """Validates nodes of one prompt: each node once, after the nodes that it depends on."""

    def __init__(
        self,
        prompt: dict[Any, Any],
        nodes: dict[Any, NodeRule],
        files: FileExists | None,
        listed: Callable[[str], bool | None],
        behaviour: Behaviour,
    ) -> None:
        self.prompt = prompt
        self.nodes = nodes
        self.files = files
        self.listed = listed
        self.behaviour = behaviour
        self.started: dict[Any, None] = {}  # ids of nodes whose validation has started, in order
        self.valid: set[Any] = set()  # ids of nodes that are valid, with all they depend on
        self.errors: dict[Any, list[Issue]] = {}
        self.warnings: dict[str, None] = {}

    def validate(self, node_id: Any) -> None:
        """Validate a node and all nodes that it depends on, unless that was done before."""
        if node_id in self.valid or node_id in self.errors:
            return
        stack = [_Frame(node_id, self.nodes[node_id])]
        self.started = {node_id: None}
        while stack:
            frame = stack[-1]
            try:
                source = self._check(frame)
            except Exception as error:  # becomes an error of the node, as in ComfyUI
                stack.pop()
                self.started.pop(frame.node_id, None)
                self._fail(frame, stack, error)
                continue
            if source is None:
                stack.pop()
                self.started.pop(frame.node_id, None)
                self._finish(frame)
                if stack and frame.node_id in self.errors:
                    stack[-1].sources_valid = False
            elif len(stack) < MAX_CHAIN:
                stack.append(source)
                self.started[source.node_id] = None
            else:
                self.warn(
                    source.node_id,
                    "is in a cycle, or at the end of a chain of more than "
                    f"{MAX_CHAIN} nodes: ComfyUI cannot follow it",
                )
                self._fail(source, stack, RecursionError(_RECURSION))

    def _finish(self, frame: _Frame) -> None:
        """Keep the result of a node whose inputs have all been checked."""
        cycle = self.errors.get(frame.node_id)  # set while the inputs were followed
        if cycle is not None and self.behaviour.reports_cycles:
            self.errors[frame.node_id] = cycle + [e for e in frame.errors if e not in cycle]
        elif frame.sources_valid and not frame.errors:
            self.valid.add(frame.node_id)
        else:
            self.errors[frame.node_id] = frame.errors

    def _report_cycle(self, node_id: Any) -> None:
        """Set the error of each node of a cycle, which a link to a started node has closed."""
        started = list(self.started)
        cycle = started[started.index(node_id) :]
        path = " -> ".join(f"{step} ({self.nodes[step].class_type})" for step in [*cycle, node_id])
        for step in cycle:
            extra = {"node_id": step, "cycle_nodes": cycle}
            self.errors[step] = [
                issue("dependency_cycle", "Dependency cycle detected", path, extra)
            ]

    def _fail(self, failed: _Frame, stack: list[_Frame], error: Exception) -> None:
        """Turn an exception into an error of its node, with the input that leads to the node."""
        text = str(error)
        extra: Issue = {"exception_type": type(error).__name__, "traceback": []}
        if not stack:
            found = issue(
                "exception_during_validation", "Exception when validating node", text, extra
            )
        else:
            rule, link = stack[-1].link
            stack[-1].sources_valid = False
            extra.update(
                input_name=rule.name,
                input_config=rule.config,
                exception_message=text,
                linked_node=link,
            )
            message = "Exception when validating inner node"
            found = issue("exception_during_inner_validation", message, text, extra)
        self.errors[failed.node_id] = [found]

    def _check(self, frame: _Frame) -> _Frame | None:
        """Check the inputs of a node up to a link to a node that is not validated yet."""
        rule = frame.rule
        own = rule.own
        if frame.pending is None:
            frame.inputs = self.prompt[frame.node_id]["inputs"]
            faults: list[str] = []
            frame.declared, frame.dynamic = rule.declared(frame.inputs, faults)
            frame.pending = iter(frame.declared)
            for fault in faults:
                self.warn(frame.node_id, f"could not be checked completely: {fault}")
            if own is not None and isinstance(frame.inputs, dict):
                frame.values.update(frame.inputs)
        inputs = frame.inputs
        for wanted in frame.pending:
            if not wanted.sound:
                wanted.read()
            name = wanted.name
            if name not in inputs:
                if wanted.required:
                    frame.errors.append(
                        issue(
                            "required_input_missing",
                            "Required input is missing",
                            name.rpartition(".")[2] if frame.dynamic else name,
                            {"input_name": name},
                        )
                    )
                continue
            value = inputs[name]
            if not isinstance(value, list):
                if own is not None or not wanted.is_certainly_valid(value):
                    self._check_literal(frame, wanted, value)
                continue
            if len(value) != 2:
                message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
                frame.errors.append(input_issue("bad_linked_input", message, name, wanted, value))
                continue
            source = value[0]
            source_rule = self.nodes.get(source)
            if source_rule is None:
                if source in self.prompt:
                    continue  # its class is unknown, so the link cannot be checked
                raise KeyError(source)
            received = source_rule.returns[value[1]]
            if own is not None and own.takes_types:
                frame.received[name] = received
            elif received != wanted.type and not self._fits(
                received, wanted, source, frame.node_id
            ):
                frame.errors.append(type_mismatch(wanted, received, value))
                continue
            if source in self.valid:
                continue
            if source not in self.errors:
                if source not in self.started or not self.behaviour.reports_cycles:
                    frame.link = (wanted, value)
                    return _Frame(source, source_rule)
                self._report_cycle(source)
            frame.sources_valid = False
        if own is not None:
            self._run_own_check(frame, own)
        return None

    def _check_literal(self, frame: _Frame, wanted: InputRule, value: Any) -> None:
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        own = frame.rule.own
        if own is not None:
            frame.values[wanted.name] = value
        if wanted.convert is not None:
            try:
                value = wanted.convert(value)
            except Exception as error:  # becomes an error of the node, as in ComfyUI
                found = input_issue(
                    "invalid_input_type",
                    f"Failed to convert an input value to a {wanted.type} value",
                    f"{wanted.name}, {value}, {error}",
                    wanted,
                    value,
                )
                found["extra_info"]["exception_message"] = str(error)
                frame.errors.append(found)
                return
        if own is not None:
            frame.values[wanted.name] = value
            if own.takes(wanted.name):
                return
        if wanted.bounded and not _within_bounds(frame, wanted, value):
            return
        choices = wanted.choices
        if choices is None:
            return
        values = value if wanted.several and isinstance(value, list) else [value]
        foreign = [each for each in values if each not in choices]
        if not foreign:
            return
        if not wanted.checked:
            if isinstance(value, str):
                self.warn(
                    frame.node_id,
                    f"has {value!r} for {wanted.name!r}, which is not one of its "
                    "options; ComfyUI checks this only when it runs the node",
                )
            return
        short = len(choices) <= 20
        offered = str(choices) if short else f"(list of length {len(choices)})"
        quote = repr if self.behaviour.quotes_values else "'{}'".format
        shown = ", ".join(map(quote, foreign))
        details = f"{wanted.name}: {shown} not in {offered}"
        found = input_issue("value_not_in_list", "Value not in list", details, wanted, value)
        if not short:
            found["extra_info"]["input_config"] = None
        frame.errors.append(found)

    def _fits(self, received: Any, wanted: InputRule, source: Any, target: Any) -> bool:
        """Return whether an output can be linked to an input of another type."""
        if self.behaviour.wide_types:
            return _types_meet(received, wanted.type)
        for type_, node_id in ((received, source), (wanted.type, target)):
            if type_ == "*":
                rule = self.nodes[node_id]
                if rule.foreign and not rule.schema3:
                    self.warn(
                        node_id,
                        "has the type '*'; only its code decides which links it accepts",
                    )
                return True
        if isinstance(received, str) and isinstance(wanted.type, str):
            return not _names(received).isdisjoint(_names(wanted.type))
        return False

    def _run_own_check(self, frame: _Frame, own: NodeCheck) -> None:
        """Run the check that the node class itself has (its ``VALIDATE_INPUTS``)."""
        inputs = frame.inputs if isinstance(frame.inputs, dict) else _items(frame.inputs)
        declared = {rule.name for rule in frame.declared}
        values: dict[str, Any] = {
            name: None if is_link(value) else value
            for name, value in ((name, frame.values[name]) for name in inputs)
            if own.takes(name) and (name in declared or is_link(value))
        }
        if own.takes_types:
            values["input_types"] = frame.received
        result = own.run(values, lambda name: self._exists(frame, name))
        if result is not True:
            for name in values:
                frame.errors.append(
                    issue(
                        "custom_validation_failed",
                        "Custom validation failed for node",
                        f"{name} - {result}",
                        {"input_name": name},
                    )
                )

    def _exists(self, frame: _Frame, name: Any) -> bool:
        folder, path = split_annotated(name)
        if not path:
            return True  # the folder itself
        if self.files is not None:
            return self.files(folder, path)
        if self.behaviour.keeps_files_inside and (
            path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."
        ):
            return False
        offered = [rule.choices for rule in frame.declared if rule.choices is not None]
        if any(name in choices for choices in offered):
            return True
        if folder == "input" and "/" not in path:
            listed = self.listed(path)
            own = frame.rule.own
            if listed is not None or (offered and own is not None and own.lists_folder):
                return bool(listed)
        self.warn(frame.node_id, f"needs the file {name!r}, which could not be searched")
        return True

    def warn(self, node_id: Any, text: str) -> None:
        """Add a warning about a node."""
        kind = self.nodes[node_id].class_type
        node = self.prompt[node_id]
        title = title_of(node) if isinstance(node, dict) else ""
        name = f'"{shown_title(title)}"' if self._titles[title] == 1 else node_id
        self.warnings[f"Node {name} ({kind}) {text}."] = None

    @cached_property
    def _titles(self) -> Counter[str]:
        """How many nodes have each title that is not their class."""
        nodes = [node for node in self.prompt.values() if isinstance(node, dict)]
        titles = ((title_of(node), node.get("class_type")) for node in nodes)
        return Counter(title for title, kind in titles if title not in ("", kind))

    def warn_of_own_check(self, node_id: Any) -> None:
        """Warn if the errors of a custom node may not hold, since its code may check inputs."""
        if self.nodes[node_id].foreign:
            kinds = {error["type"] for error in self.errors[node_id]}
            if not kinds.isdisjoint(_OVERRULED):
                self.warn(
                    node_id,
                    "comes from a node pack; if its code checks these inputs itself, "
                    "ComfyUI leaves the decision to it",
                )


_OVERRULED = {
    "return_type_mismatch",
    "value_bigger_than_max",
    "value_not_in_list",
    "value_smaller_than_min",
}
"""Errors that ComfyUI does not report for inputs that the node class checks itself."""


def _within_bounds(frame: _Frame, wanted: InputRule, value: Any) -> bool:
    extra = wanted.extra
    if "min" in extra and value < extra["min"]:
        kind, message = (
            "value_smaller_than_min",
            f"Value {value} smaller than min of {extra['min']}",
        )
    elif "max" in extra and value > extra["max"]:
        kind, message = "value_bigger_than_max", f"Value {value} bigger than max of {extra['max']}"
    else:
        return True
    frame.errors.append(input_issue(kind, message, wanted.name, wanted, value))
    return False


def _types_meet(received: Any, wanted: Any) -> bool:
    """Return whether an output can be linked to an input, by the rules of ComfyUI 0.33."""
    if not _ANY_TYPE.isdisjoint([t for t in (received, wanted) if isinstance(t, str)]):
        return True
    if isinstance(received, list) and wanted == "COMBO":
        return True
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    outputs, inputs = _names(received), _names(wanted)
    return "*" in outputs or "*" in inputs or not outputs.isdisjoint(inputs)


_ANY_TYPE = frozenset({"*", "COMFY_MATCHTYPE_V3"})


@lru_cache(maxsize=4096)
def _names(types: str) -> frozenset[str]:
    return frozenset(name.strip() for name in types.split(","))


def _items(inputs: Any) -> dict[Any, Any]:
    """Return a copy of a mapping; raise what Python raises if it is none."""
    return {name: inputs[name] for name in inputs}
