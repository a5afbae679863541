"""What ComfyUI would reply to a prompt, from node definitions alone and without queueing it.

The rules are those of ``POST /prompt``; `versions` has the differences between versions of ComfyUI.
First, old nodes are replaced. Then the prompt as a whole is checked, up to the first error. Then
`NodeValidator` validates each output node, after all nodes that it depends on.

Two things cannot be reproduced. ComfyUI takes the output nodes, and the inputs of a node, in the
order of a set; here it is the order of the prompt and of the definitions. And the tracebacks in its
replies are empty here. Numbers that JSON does not have are text in ``received_value``
(``"-Infinity"``).
"""

from __future__ import annotations

import difflib
import json
import math
import mimetypes
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from ..errors import printable
from .definitions import (
    SUFFIXES,
    AnyDefinitions,
    DynamicInputError,
    Input,
    NodeClass,
    NodeDefinitions,
    model_folder,
    unknown_kinds,
)
from .dependencies import dangling_links, nodes_behind, sources_of, too_deep
from .formats import START, is_link, mapping, objects, shown_title, title_of, unwrapped
from .loops import LOOP_CLASSES, LoopFault, TooManyLoopsError, loop_fault, loop_notices
from .models import model_links, node_packs
from .versions import Behaviour, ReplacementError, replace_nodes, replacement_of


@dataclass
class Validation:
    """What ComfyUI would reply to a prompt, and further findings."""

    valid: bool  # whether ComfyUI would queue the prompt
    error: Issue | None = None
    # by node id: ``errors``, ``dependent_outputs``, ``class_type``; also of outputs of a valid
    # prompt that would not run
    node_errors: dict[Any, Issue] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)  # ids of the output nodes that would run
    # node classes that ComfyUI does not have: ``class_type``, ``node_ids``, ``pack`` if known
    missing_nodes: list[Issue] = field(default_factory=list)
    # model files that it does not have: ``name``, ``folder`` or None, ``node_id``, ``input``, and
    # ``url`` if known
    missing_models: list[Issue] = field(default_factory=list)
    # a sentence for each thing that only a node's code or a folder can decide, and for each that
    # ComfyUI accepts although it will not work
    warnings: list[str] = field(default_factory=list)
    raises: str | None = None  # the exception in ComfyUI if it replies 500 without an error object
    cause: str | None = None  # what is wrong with the prompt then, if that is known
    # as `node_errors` without ``dependent_outputs``: the errors of nodes that ComfyUI does not look
    # at because of `error`, such as an unknown node class
    further_errors: dict[Any, Issue] = field(default_factory=dict)


def validate_prompt(
    prompt: Any,
    definitions: AnyDefinitions,
    *,
    files: FileExists | None = None,
    workflow: object = None,
) -> Validation:
    """Return what ComfyUI would reply to a prompt, which is neither changed nor queued.

    No prompt makes this function raise, also none with a cycle or with a chain of ten thousand
    nodes, and no JSON that is not a prompt. Without `files`, the file names among the options of
    the definitions are used, and a warning says where that may be wrong. `workflow` is the graph in
    the editor's format, which has the packs of missing nodes and the links of missing models.
    """
    known = NodeDefinitions.of(definitions)
    nodes: dict[Any, NodeClass] = {}
    fault: Issue | None = None
    raises = cause = None
    try:
        prompt, nodes = _read(prompt, known)
        fault = _first_error(prompt, nodes, known.behaviour)
    except ReplacementError as error:
        raises, cause = str(error), _not_replaced(error)
    except Exception as error:  # ComfyUI does not catch exceptions here: it replies 500
        raises = f"{type(error).__name__}: {error}"
    if raises is None and fault is None:
        result = _validate_outputs(NodeValidator(prompt, nodes, files, known))
    else:
        result = Validation(False, fault, raises=raises, cause=cause)
        if nodes:
            validator = NodeValidator(prompt, nodes, files, known)
            result.further_errors = _further_errors(validator)
            result.warnings += validator.warnings
    result.warnings += unknown_kinds({rule.name: rule for rule in nodes.values()}.values())
    result.missing_nodes, result.missing_models = _missing(prompt, known, workflow)
    return result


def _read(prompt: Any, known: NodeDefinitions) -> tuple[dict[Any, Any], dict[Any, NodeClass]]:
    """Return the prompt with its old nodes replaced, and the rules of nodes of known classes."""
    nodes: dict[Any, NodeClass] = {}
    replaced = False
    # a ComfyUI that replaces old nodes reads the inputs of all nodes first
    reads_first = known.behaviour.replaces_nodes
    for position, node_id in enumerate(prompt.keys() if reads_first else prompt):
        try:
            node = prompt[node_id]
            if "class_type" not in node:
                continue
            rule = known.get(node["class_type"])
            if reads_first and "inputs" in node and type(node["inputs"]) is not dict:
                node["inputs"].items()  # raises what is raised in ComfyUI
        except Exception:
            if reads_first or len(nodes) == position:
                raise
            continue  # ComfyUI ends at an earlier node, which has no class
        if rule is not None:
            nodes[node_id] = rule
        elif replacement_of(node["class_type"], known.replacements, known.__contains__) is not None:
            replaced = True
    if not replaced:
        return prompt, nodes
    prompt = replace_nodes(prompt, known.replacements, known.__contains__)
    return prompt, {
        node_id: rule
        for node_id, node in prompt.items()
        if (rule := known.get(node.get("class_type"))) is not None
    }


def _not_replaced(error: ReplacementError) -> str:
    no_meta = 'has no "_meta" (add "_meta": {} to it)'
    lacks = no_meta if error.cause.args == ("_meta",) else f"has no input {error.cause}"
    return (
        f"node {error.node_id} ({error.old}) is of an old class that ComfyUI replaces by "
        f"{error.new}, and the node {lacks}"
    )


def _first_error(
    prompt: dict[Any, Any], nodes: dict[Any, NodeClass], behaviour: Behaviour
) -> Issue | None:
    if len(nodes) < len(prompt):
        node_id = next(node_id for node_id in prompt if node_id not in nodes)
        return _classless(node_id, prompt[node_id], behaviour)
    for rule in nodes.values():
        if rule.output_node:
            return None
    return issue("prompt_no_outputs", "Prompt has no outputs", "")


def _classless(node_id: Any, node: dict[str, Any], behaviour: Behaviour) -> Issue:
    """Return the error for a node without a class, or of an unknown one."""
    has_class = "class_type" in node
    class_type = node["class_type"] if has_class else None
    details = f"Node ID '#{node_id}'"
    if not behaviour.names_missing_classes:
        if has_class:
            message = f"Cannot execute because node {class_type} does not exist."
        else:
            message = "Cannot execute because a node is missing the class_type property."
        return issue("invalid_prompt", message, details)
    title = node.get("_meta", {}).get("title", class_type)
    if has_class:
        message = f"Node '{title}' not found. The custom node may not be installed."
    else:
        message = (
            f"Node '{title or f'ID #{node_id}'}' has no class_type. "
            "The workflow may be corrupted or a custom node is missing."
        )
    extra = {"node_id": node_id, "class_type": class_type, "node_title": title}
    return issue("missing_node_type", message, details, extra)


def _validate_outputs(validator: NodeValidator) -> Validation:
    """Validate the output nodes and all nodes that they depend on."""
    valid: list[Any] = []
    failed: list[Any] = []
    lines: list[str] = []
    known: list[int] = []  # how many invalid nodes were known after each failed output
    for output, rule in validator.nodes.items():
        if not rule.output_node:
            continue
        validator.validate(output)
        if output in validator.valid:
            valid.append(output)
            continue
        lines += [f"{error['message']}: {error['details']}" for error in validator.errors[output]]
        failed.append(output)
        known.append(len(validator.errors))
    looped = not LOOP_CLASSES.isdisjoint([rule.name for rule in validator.nodes.values()])
    loop = _loop_fault(validator) if looped else None
    if loop is not None and not loop.output_ids:
        # ComfyUI takes the first of these outputs
        found = Validation(False, raises="IndexError: list index out of range")
        found.warnings = list(validator.warnings)
        found.cause = f"{loop.message}: {loop.details}"
        return found
    node_errors = {}
    first = 0  # index of the first failed output that depends on the node
    for index, (node_id, errors) in enumerate(validator.errors.items()):
        while known[first] <= index:
            first += 1
        if errors:
            node_errors[node_id] = {
                "errors": errors,
                # ComfyUI names all outputs that fail after this node, dependent or not
                "dependent_outputs": failed[first:],
                "class_type": validator.nodes[node_id].name,
            }
    if loop is not None:
        lines.append(f"{loop.message}: {loop.details}")
        extra: Issue = {"input_name": "loop boundary", "loop_error_type": loop.kind}
        extra |= {"node_ids": loop.node_ids, "output_ids": loop.output_ids}
        fault = issue("custom_validation_failed", loop.message, loop.details, extra)
        for node_id in loop.node_ids:
            node_errors[node_id] = {
                "errors": [*validator.errors.get(node_id, ()), fault],
                "dependent_outputs": loop.output_ids,
                "class_type": validator.nodes[node_id].name,
            }
        failed += [output for output in valid if output in loop.output_ids]
        valid = [output for output in valid if output not in loop.output_ids]
    error = None
    if not valid:
        message = "Prompt outputs failed validation"
        error = issue("prompt_outputs_failed_validation", message, "\n".join(lines))
    else:
        for node_id in failed:
            validator.warn(
                node_id, "has errors, or depends on nodes with errors; it will not be executed"
            )
        for node_id in validator.nodes:
            if not isinstance(validator.prompt[node_id].get("inputs"), dict):
                # its worker reads the inputs of all nodes first, also of those that it does not run
                validator.warn(
                    node_id,
                    "has no object of inputs; ComfyUI accepts the prompt, but then its "
                    "worker thread ends, and it runs nothing more until a restart",
                )
        for node_id, why in too_deep(validator.prompt):
            validator.warn(node_id, f"{why}: it runs nothing more until a restart")
        for node_id, why in endless_links(validator.prompt, valid):
            validator.warn(node_id, f"{why}, and runs nothing more until a restart")
        if loop is not None:
            needed = nodes_behind(valid, sources_of(validator.prompt))
            for node_id in needed & validator.nodes.keys():
                if validator.nodes[node_id].name == START:
                    why = "ComfyUI prepares none of the loops if one of them is not whole"
                    validator.warn(node_id, f"will fail when it is executed: {why}")
        elif looped:
            validator.warnings.update(dict.fromkeys(loop_notices(validator.prompt)))
    for node_id in node_errors:
        validator.warn_of_own_check(node_id)
    return Validation(bool(valid), error, node_errors, valid, warnings=list(validator.warnings))


def endless_links(prompt: Mapping[str, Any], outputs: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the nodes with a link to nothing that ComfyUI does not check, each with a sentence."""
    # It checks the inputs that the class declares. The thread that executes prompts ends when it
    # follows any other link to a node that does not exist (observed in 0.33).
    broken = dangling_links(prompt)
    needed = nodes_behind(outputs, sources_of(prompt)) if broken else set()
    for node_id, name, source in broken:
        if node_id in needed:
            why = f"has a link to node {source!r} in {name!r}, which does not exist"
            yield node_id, f"{why}; ComfyUI accepts it, but never ends the run"


def _loop_fault(validator: NodeValidator) -> LoopFault | None:
    kinds = {error["type"] for errors in validator.errors.values() for error in errors}
    if "dependency_cycle" in kinds:
        return None
    outputs = [node_id for node_id, rule in validator.nodes.items() if rule.output_node]
    try:
        return loop_fault(validator.prompt, {*validator.valid, *validator.errors}, outputs)
    except TooManyLoopsError:
        validator.warnings["The loops were not checked: they are too many."] = None
        return None


def _further_errors(validator: NodeValidator) -> dict[Any, Issue]:
    """Return the errors of all nodes of known classes, for a prompt whose nodes ComfyUI ignores."""
    for node_id in validator.nodes:
        validator.validate(node_id)
    found = {}
    for node_id, errors in validator.errors.items():
        if errors:
            class_type = validator.nodes[node_id].name
            found[node_id] = {"errors": errors, "class_type": class_type}
            validator.warn_of_own_check(node_id)
    return found


def _missing(
    prompt: Any, known: NodeDefinitions, workflow: object
) -> tuple[list[Issue], list[Issue]]:
    """Return the node classes and model files of a prompt that ComfyUI does not have."""
    classes: dict[str, Issue] = {}
    models: list[Issue] = []
    for node_id, node in prompt.items() if isinstance(prompt, dict) else ():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        if not isinstance(class_type, str):
            continue
        rule, inputs = known.get(class_type), node.get("inputs")
        if rule is None:
            entry = classes.setdefault(class_type, {"class_type": class_type, "node_ids": []})
            entry["node_ids"].append(node_id)
            continue
        for wanted in rule.models(inputs) if isinstance(inputs, dict) else ():
            name = unwrapped(inputs.get(wanted.name))
            if isinstance(name, str) and name and not wanted.offers(name):
                lack = {"name": name, "folder": wanted.model_folder[1], "node_id": node_id}
                models.append({**lack, "input": wanted.name})
    if classes:
        packs = node_packs(workflow)
        for class_type, entry in classes.items():
            if class_type in packs:
                entry["pack"] = packs[class_type]
    if models:
        links = model_links(workflow)
        for entry in models:
            base = entry["name"].replace("\\", "/").rpartition("/")[2]
            link = links.get(entry["name"]) or links.get(base)
            if link is not None:
                entry["url"] = link.url
                entry["folder"] = entry["folder"] or link.folder
    return list(classes.values()), models


FileExists = Callable[[str, str], bool]
"""``exists(folder, path)``: whether the file ``path`` exists, relative to the folder ``"input"``,
``"output"`` or ``"temp"``. ComfyUI accepts absolute paths and ``..``."""

MAX_CHAIN = 984
"""The longest chain of nodes that is followed: ComfyUI follows links by recursion, which Python
ends at about this depth. It is needed since the oldest versions follow cycles until then."""

_RECURSION = "maximum recursion depth exceeded while calling a Python object"


class _Frame:
    """A node whose validation has started."""

    inputs: Any = None
    declared: tuple[Input, ...] = ()
    dynamic = False  # whether some of them are dynamic inputs
    pending: Iterator[Input] | None = None
    sources_valid = True  # whether the nodes that it depends on are valid
    link: tuple[Input, list[Any]]  # the input and its link that are followed now

    def __init__(self, node_id: Any, rule: NodeClass, checks: Mapping[str, NodeCheck]) -> None:
        self.node_id = node_id
        self.rule = rule
        self.errors: list[Issue] = []
        self.own = None if rule.foreign else checks.get(rule.name)
        if self.own is not None:
            self.values: dict[str, Any] = {}
            self.received: dict[str, Any] = {}


class NodeValidator:
    """Validates nodes of one prompt: each node once, after the nodes that it depends on."""

    def __init__(
        self,
        prompt: dict[Any, Any],
        nodes: dict[Any, NodeClass],
        files: FileExists | None,
        known: NodeDefinitions,
    ) -> None:
        self.prompt = prompt
        self.nodes = nodes
        self.files = files
        self.known = known
        self.behaviour = known.behaviour
        self._checks = NODE_CHECKS[known.behaviour.own_checks]
        self.started: dict[Any, None] = {}  # ids of nodes whose validation has started, in order
        self.valid: set[Any] = set()  # ids of nodes that are valid, with all they depend on
        self.errors: dict[Any, list[Issue]] = {}
        self.warnings: dict[str, None] = {}

    def validate(self, node_id: Any) -> None:
        """Validate a node and all nodes that it depends on, unless that was done before."""
        if node_id in self.valid or node_id in self.errors:
            return
        stack = [_Frame(node_id, self.nodes[node_id], self._checks)]
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
                where = f"is in a cycle, or at the end of a chain of more than {MAX_CHAIN} nodes"
                self.warn(source.node_id, f"{where}: ComfyUI cannot follow it")
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
        path = " -> ".join(f"{step} ({self.nodes[step].name})" for step in [*cycle, node_id])
        for step in cycle:
            extra = {"node_id": step, "cycle_nodes": cycle}
            found = issue("dependency_cycle", "Dependency cycle detected", path, extra)
            self.errors[step] = [found]

    def _fail(self, failed: _Frame, stack: list[_Frame], error: Exception) -> None:
        """Turn an exception into an error of its node, with the input that leads to the node."""
        text = str(error)
        extra: Issue = {"exception_type": type(error).__name__, "traceback": []}
        kind, message = "exception_during_validation", "Exception when validating node"
        if stack:
            kind = "exception_during_inner_validation"
            message = "Exception when validating inner node"
            rule, link = stack[-1].link
            stack[-1].sources_valid = False
            extra |= {"input_name": rule.name, "input_config": rule.config}
            extra |= {"exception_message": text, "linked_node": link}
        self.errors[failed.node_id] = [issue(kind, message, text, extra)]

    def _check(self, frame: _Frame) -> _Frame | None:
        """Check the inputs of a node up to a link to a node that is not validated yet."""
        rule = frame.rule
        own = frame.own
        if frame.pending is None:
            frame.inputs = self.prompt[frame.node_id]["inputs"]
            faults: list[str | DynamicInputError] = []
            frame.declared, frame.dynamic = rule.checked_inputs(frame.inputs, faults)
            frame.pending = iter(frame.declared)
            for fault in faults:
                if isinstance(fault, DynamicInputError):  # then nothing else is looked at
                    extra = {"input_name": fault.name}
                    message = "Invalid dynamic input"
                    found = issue("invalid_dynamic_input", message, str(fault), extra)
                    frame.errors.append(found)
                    return None
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
            elif received != wanted.raw_type and not self._fits(
                received, wanted, source, frame.node_id
            ):
                frame.errors.append(type_mismatch(wanted, received, value))
                continue
            if source in self.valid:
                continue
            if source not in self.errors:
                if source not in self.started or not self.behaviour.reports_cycles:
                    frame.link = (wanted, value)
                    return _Frame(source, source_rule, self._checks)
                self._report_cycle(source)
            frame.sources_valid = False
        if own is not None:
            self._run_own_check(frame, own)
        return None

    def _check_literal(self, frame: _Frame, wanted: Input, value: Any) -> None:
        value = unwrapped(value)
        own = frame.own
        if own is not None:
            frame.values[wanted.name] = value
        if wanted.convert is not None:
            try:
                value = wanted.convert(value)
            except Exception as error:  # becomes an error of the node, as in ComfyUI
                found = input_issue(
                    "invalid_input_type",
                    f"Failed to convert an input value to a {wanted.raw_type} value",
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
        choices = wanted.refused_unless
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

    def _fits(self, received: Any, wanted: Input, source: Any, target: Any) -> bool:
        """Return whether an output can be linked to an input of another type."""
        if self.behaviour.wide_types:
            return _types_meet(received, wanted.raw_type)
        for type_, node_id in ((received, source), (wanted.raw_type, target)):
            if type_ == "*":
                rule = self.nodes[node_id]
                if rule.foreign and not rule.schema3:
                    self.warn(
                        node_id, "has the type '*'; only its code decides which links it accepts"
                    )
                return True
        if isinstance(received, str) and isinstance(wanted.raw_type, str):
            return not _names(received).isdisjoint(_names(wanted.raw_type))
        return False

    def _run_own_check(self, frame: _Frame, own: NodeCheck) -> None:
        """Run the check that the node class itself has (its ``VALIDATE_INPUTS``)."""
        inputs = frame.inputs
        if not isinstance(inputs, dict):
            inputs = {name: inputs[name] for name in inputs}  # raises what is raised in ComfyUI
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
            message = "Custom validation failed for node"
            frame.errors += [
                issue(
                    "custom_validation_failed", message, f"{name} - {result}", {"input_name": name}
                )
                for name in values
            ]

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
        offered = [
            each.refused_unless for each in frame.declared if each.refused_unless is not None
        ]
        if any(name in choices for choices in offered):
            return True
        if folder == "input" and "/" not in path:
            listed = _is_listed(path, self.known)
            own = frame.own
            if listed is not None or (offered and own is not None and own.lists_folder):
                return bool(listed)
        self.warn(frame.node_id, f"needs the file {name!r}, which could not be searched")
        return True

    def warn(self, node_id: Any, text: str) -> None:
        kind = self.nodes[node_id].name
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
    *("return_type_mismatch", "value_bigger_than_max"),
    *("value_not_in_list", "value_smaller_than_min"),
}
"""Errors that ComfyUI does not report for inputs that the node class checks itself."""


def _within_bounds(frame: _Frame, wanted: Input, value: Any) -> bool:
    extra = wanted.extra
    if "min" in extra and value < extra["min"]:
        kind = "value_smaller_than_min"
        message = f"Value {value} smaller than min of {extra['min']}"
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


# -- the checks that ComfyUI's own node classes have besides their definitions -----------------
#
# A node class may have a function that validates its inputs (``VALIDATE_INPUTS``, in the newer
# schema ``validate_inputs``). Node definitions do not include it, so the few functions of ComfyUI's
# own classes are reproduced here: their arguments and their results. Classes of node packs may
# have such functions, too, which are not known here.

Exists = Callable[[Any], bool]


@dataclass(frozen=True)
class NodeCheck:
    function: str  # qualified name of the function, as Python's exceptions have it
    # the inputs that it takes. ComfyUI does not check bounds and options of these
    arguments: tuple[str, ...]
    # ``decide(values, exists)`` with the values of `arguments`; returns True, or the reason why
    # they are invalid, or raises what the node class raises. ``exists`` returns whether a file with
    # an annotated name exists
    decide: Callable[[Mapping[str, Any], Exists], bool | str]
    # whether it takes the types of linked inputs, as ``values["input_types"]``. ComfyUI then does
    # not compare the types of the node's links
    takes_types: bool = False
    takes_all: bool = False  # whether it takes all other inputs of the node, too
    optional: tuple[str, ...] = ()  # the `arguments` that may be missing
    # whether the options of the input are files of the input folder, without subfolders
    lists_folder: bool = False

    def takes(self, name: str) -> bool:
        return self.takes_all or name in self.arguments

    def run(self, values: Mapping[str, Any], exists: Exists) -> bool | str:
        """Return the result of the check: True, or the reason why the inputs are invalid."""
        absent = [f"'{name}'" for name in self.arguments if name not in (*values, *self.optional)]
        if absent:
            plural = "s" if len(absent) > 1 else ""
            *others, last = absent
            names = f"{', '.join(others)}{',' * (len(others) > 1)} and {last}" if others else last
            raise TypeError(
                f"{self.function}() missing {len(absent)} required positional "
                f"argument{plural}: {names}"
            )
        return self.decide(values, exists)


def split_annotated(name: str) -> tuple[str, str]:
    """Return folder and path of a file name such as ``"cat.png [output]"``."""
    # Source: ComfyUI's folder_paths.py, which removes the annotation and any one character before
    # it.
    for folder in ("output", "input", "temp"):
        if name.endswith(f"[{folder}]"):
            return folder, name[: -len(folder) - 3]
    return "input", name


def names_file(node: NodeClass, argument: str) -> bool:
    """Return whether a node class itself checks that the value of an input is an existing file."""
    own = own_check(node)
    return own is not None and own.lists_folder and argument == own.arguments[0]


def is_missing(name: str, known: NodeDefinitions) -> bool:
    """Return whether a file is not in the input folder, as far as the definitions show that."""
    folder, path = split_annotated(name)
    return folder == "input" and "/" not in path and _is_listed(path, known) is False


def _is_listed(name: str, known: NodeDefinitions) -> bool | None:
    """Return whether a file is in the input folder by the options of the class that loads it."""
    # ComfyUI lists files by the kind of their extension, and only those without a subfolder. None
    # if no class has such files among its options.
    kind = (mimetypes.guess_type(name, strict=False)[0] or "").partition("/")[0]
    earlier = known.behaviour.own_checks == "earlier"
    loader = _LISTS.get(kind, ("LoadImageMask", "image") if earlier else ("", ""))
    class_type, wanted = ("LoadLatent", "latent") if name.endswith(".latent") else loader
    found = known.get(class_type)
    declared = () if found is None else found.checked_inputs({}, [])[0]
    choices = next((each.refused_unless for each in declared if each.name == wanted), None)
    return None if choices is None else name in choices


def own_check(known: NodeClass) -> NodeCheck | None:
    return None if known.foreign else NODE_CHECKS[known.behaviour.own_checks].get(known.name)


def _file_check(
    owner: str, argument: str, kind: str, function: str, *, optional: tuple[str, ...] = ()
) -> NodeCheck:
    def decide(values: Mapping[str, Any], exists: Exists) -> bool | str:
        name = values[argument]
        return exists(name) or f"Invalid {kind} file: {name}"

    arguments = (argument, *optional)
    return NodeCheck(f"{owner}.{function}", arguments, decide, optional=optional, lists_folder=True)


def _camera_moves(values: Mapping[str, Any], _exists: Exists) -> bool | str:
    problem = "Invalid camera control configs: at least one of the values must be non-zero"
    return any(not math.isclose(values[name], 0.0) for name in _CAMERA) or problem


def _aspect_ratio(values: Mapping[str, Any], _exists: Exists) -> bool:
    text = values["aspect_ratio"]
    parts = text.split(":")
    if len(parts) != 2:
        raise ValueError(f"Aspect ratio must be 'X:Y' (e.g., 16:9), got '{text}'.")
    try:
        width, height = (int(part.strip()) for part in parts)
    except ValueError:
        raise ValueError(
            f"Aspect ratio must contain integers separated by ':', got '{text}'."
        ) from None
    if width <= 0 or height <= 0:
        raise ValueError(f"Aspect ratio parts must be positive integers, got {width}:{height}.")
    ratio = width / height
    # ComfyUI has the same sign for both bounds
    for outside, bound in ((ratio < 1 / 4, "0.25"), (ratio > 4, "4")):
        if outside:
            raise ValueError(f"Aspect ratio `{ratio:.2g}` must be ≤ {bound}.")
    return True


def _task_type(values: Mapping[str, Any], _exists: Exists) -> bool | str:
    types = ("MODEL_TASK_ID", "RIG_TASK_ID", "RETARGET_TASK_ID")
    problem = "original_model_task_id must be MODEL_TASK_ID, RIG_TASK_ID or RETARGET_TASK_ID type"
    return values["input_types"]["original_model_task_id"] in types or problem


def _model_file(values: Mapping[str, Any], exists: Exists) -> bool | str:
    name = values["model_file"]
    return not name or name == "none" or exists(name) or f"Invalid 3D model file: {name}"


def _anything(_values: Mapping[str, Any], _exists: Exists) -> bool:
    return True


_LISTS = {
    "image": ("LoadImage", "image"),
    "video": ("LoadVideo", "file"),
    "audio": ("LoadAudio", "audio"),
}
_CAMERA = ("horizontal_movement", "vertical_movement", "pan", "tilt", "roll", "zoom")
_DEVICE = ("device",)
_IMAGE = _file_check("LoadImage", "image", "image", "VALIDATE_INPUTS")

_ALWAYS: Mapping[str, NodeCheck] = {
    "LoadImage": _IMAGE,
    "LoadImageOutput": _IMAGE,
    "WebcamCapture": _IMAGE,
    "LoadLatent": _file_check("LoadLatent", "latent", "latent", "VALIDATE_INPUTS"),
    "LoadVideo": _file_check("LoadVideo", "file", "video", "validate_inputs", optional=("edit",)),
    "FluxProUltraImageNode": NodeCheck(
        "FluxProUltraImageNode.validate_inputs", ("aspect_ratio",), _aspect_ratio
    ),
    "TripoConversionNode": NodeCheck(
        "TripoConversionNode.validate_inputs", (), _task_type, takes_types=True
    ),
}

NODE_CHECKS: Mapping[str, Mapping[str, NodeCheck]] = {
    "today": {
        **_ALWAYS,
        "LoadImageMask": _IMAGE,
        "LoadAudio": _file_check("LoadAudio", "audio", "audio", "validate_inputs"),
        **{
            name: NodeCheck(f"{name}.validate_inputs", ("model_file",), _model_file, takes_all=True)
            for name in ("Load3D", "Load3DAdvanced")
        },
        "CustomCombo": NodeCheck(
            "CustomComboNode.validate_inputs",
            ("choice", "index"),
            _anything,
            takes_all=True,
            optional=("index",),
        ),
        "ModelAttentionBackend": NodeCheck(
            "ModelAttentionBackend.VALIDATE_INPUTS", ("attention",), _anything
        ),
        **{
            f"Select{part}Device": NodeCheck(
                f"Select{part}DeviceNode.validate_inputs", _DEVICE, _anything, optional=_DEVICE
            )
            for part in ("Model", "CLIP", "VAE")
        },
    },
    "earlier": {
        **_ALWAYS,
        "LoadImageMask": _file_check("LoadImageMask", "image", "image", "VALIDATE_INPUTS"),
        "LoadAudio": _file_check("LoadAudio", "audio", "audio", "VALIDATE_INPUTS"),
        "KlingCameraControls": NodeCheck(
            "KlingCameraControls.validate_inputs", _CAMERA, _camera_moves
        ),
    },
}
"""The classes of ComfyUI that check their inputs themselves, by `versions.Behaviour.own_checks`."""


Issue: TypeAlias = dict[str, Any]
"""``{"type", "message", "details", "extra_info"}``."""

NOT_HERE = "is not on this ComfyUI"
OF_PROMPTS = frozenset(
    [
        *("invalid_prompt", "missing_node_type", "prompt_invalid", "prompt_no_outputs"),
        *("prompt_outputs_failed_validation", "prompt_unreadable"),
    ]
)
"""The types of error objects about whole prompts, which were not executed."""

MAX_NAMED = 8  # errors of one prompt that a message names

_FILE_CHECK = re.compile(r"\w+ - Invalid [\w ]+ file: (.+)", re.DOTALL)  # of `node_checks`
_NO_CLASS = re.compile(r"Cannot execute because node (.+) does not exist\.", re.DOTALL)
_NODE_ID = re.compile(r"Node ID '#(.+)'", re.DOTALL)
_LONG_LIST = re.compile(r"\(list of length (\d+)\)$")
_NOT_IN_JSON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def issue(kind: str, message: str, details: str, extra: Issue | None = None) -> Issue:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def input_issue(kind: str, message: str, details: str, wanted: Input, value: Any) -> Issue:
    if isinstance(value, float) and not math.isfinite(value):
        value = _NOT_IN_JSON[str(value)]
    extra = {"input_name": wanted.name, "input_config": wanted.config, "received_value": value}
    return issue(kind, message, details, extra)


def type_mismatch(wanted: Input, received: Any, link: list[Any]) -> Issue:
    """Return the error object for a link between outputs and inputs of different types."""
    return issue(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        f"{wanted.name}, received_type({received}) mismatch input_type({wanted.raw_type})",
        {
            "input_name": wanted.name,
            "input_config": wanted.config,
            "received_type": received,
            "linked_node": link,
        },
    )


def sentence(error: Mapping[str, Any], class_type: str = "") -> str:
    """Return one of ComfyUI's error objects as a sentence for people."""
    return printable(_sentence(error, class_type))


def _sentence(error: Mapping[str, Any], class_type: str) -> str:
    details, extra = str(error.get("details") or ""), error.get("extra_info")
    facts = mapping(extra)
    name, value = facts.get("input_name"), facts.get("received_value")
    if error.get("type") == "value_not_in_list" and isinstance(name, str) and value is not None:
        options = _options_of(facts.get("input_config"))
        long = _LONG_LIST.search(details)
        if not isinstance(value, (list, dict)) and (options is not None or long is not None):
            number = int(long[1]) if options is None and long is not None else 0
            return not_offered(value, options or (), class_type, name, more=number)
    if error.get("type") == "custom_validation_failed":
        file = _FILE_CHECK.fullmatch(details)
        if file is not None:
            folder, path = split_annotated(file[1])
            return f"{_brief(path)} is not in the {folder} folder of this ComfyUI"
    missing = facts.get("class_type")
    if error.get("type") == "missing_node_type" and isinstance(missing, str):
        return f"this ComfyUI has no node class {_brief(missing)}"
    message = str(error.get("message") or "")
    if error.get("type") == "invalid_prompt" and (unknown := _NO_CLASS.fullmatch(message)):
        return f"this ComfyUI has no node class {_brief(unknown[1])}"
    return ": ".join(filter(None, (message, details)))


def _errors_in(node_errors: object) -> Iterator[tuple[str, str, Any]]:
    """Yield the errors of nodes, each after the id and the class of its node."""
    for node_id, entry in mapping(node_errors).items():
        class_type = str(mapping(entry).get("class_type") or "")
        for error in objects(mapping(entry).get("errors")):
            yield str(node_id), class_type, error


def complaints(node_errors: object, name: Callable[[str, str], str]) -> Iterator[str]:
    """Yield a sentence for each of the errors of nodes, with the name of the node."""
    for node_id, class_type, error in _errors_in(node_errors):
        yield f"node {name(node_id, class_type)}: {sentence(error, class_type)}"


def explain(node_errors: object) -> None:
    """Add a ``sentence`` for people to each of the errors of nodes."""
    for _, class_type, error in _errors_in(node_errors):
        error["sentence"] = sentence(error, class_type)


def failure_of(error: Mapping[str, Any], name: Callable[[str, str, str], str]) -> str:
    """Return why a run failed, in one sentence that names the node; empty without an error.

    ``name`` gets the id and the class of the node, and its title if no other node has that.
    """
    if not error:
        return ""
    if error.get("type") in OF_PROMPTS and error.get("message"):
        return printable(str(error["message"]))
    what = ": ".join(str(error[key]).strip() for key in ("type", "message") if error.get(key))
    if error.get("node_id") is None:
        return printable(what or "the run failed")
    facts = (str(error.get(key) or "") for key in ("node_id", "node_type", "node_title"))
    return printable(f"node {name(*facts)} failed: {what}")


def findings(reply: Mapping[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """Return what a validation says in sentences: by node id, and what concerns no node."""
    by_node: dict[str, list[str]] = {}
    node_errors = reply.get("node_errors") or {}
    every = {**node_errors, **(reply.get("further_errors") or {})}
    for node_id, class_type, fault in _errors_in(every):
        by_node.setdefault(node_id, []).append(sentence(fault, class_type))
    for entry in reply.get("missing_nodes") or ():
        for node_id in entry.get("node_ids") or ():
            by_node.setdefault(str(node_id), []).append(missing_class(entry))
    for entry in reply.get("missing_models") or ():
        begin, text = missing_model(entry)
        known = by_node.get(str(entry.get("node_id")), [])
        others = [each for each in known if not each.startswith(begin)]
        by_node[str(entry.get("node_id"))] = [*others, text]
    error = reply.get("error")
    general = [sentence(error)] if isinstance(error, dict) and not node_errors else []
    return by_node, [*general, *map(str, reply.get("warnings") or ())]


def missing_class(entry: Mapping[str, Any], place: str = "") -> str:
    """Return what is said about a node class that ComfyUI does not have."""
    from_ = ""
    if entry.get("needs"):
        from_ = f"; it needs {entry['needs']}"
    elif entry.get("pack"):
        from_ = f"; it is in the node pack {entry['pack']}"
    return f"ComfyUI has no node class {entry.get('class_type')}{place}{from_}"


def missing_model(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the beginning of the error about a model file, and what is said in its place."""
    begin = f"{entry.get('name')} {NOT_HERE}"
    folder = f" (models/{entry['folder']})" if entry.get("folder") else ""
    url = f"; it is at {entry['url']}" if entry.get("url") else ""
    return begin, f"{begin}{folder}{url}"


def refusal(error: Issue, node_errors: object, name: Callable[[str, str], str]) -> str:
    """Return why ComfyUI refuses a prompt, in one line for people."""
    found = list(dict.fromkeys(complaints(node_errors, name)))
    if not found:
        text = sentence(error)
        node = _NODE_ID.fullmatch(str(error.get("details") or ""))
        known = node is not None and not text.endswith(node[0])
        found = [f"node {name(node[1], '')}: {text}" if node is not None and known else text]
    more = [f"and {len(found) - MAX_NAMED} more errors"] if len(found) > MAX_NAMED else []
    return "; ".join([*found[:MAX_NAMED], *more]).replace("\n", " ")


def not_offered(
    value: object, options: Sequence[object], class_type: str, name: str, *, more: int = 0
) -> str:
    """Return the sentence about a value that is none of the options of a combo."""
    _, folder = model_folder(class_type, name, options)
    is_file = isinstance(value, str) and (folder or value.lower().endswith(SUFFIXES))
    if is_file or not (options or more):
        texts = [option for option in options if isinstance(option, str)]
        known = texts if len(texts) <= 1000 else []  # a comparison takes time
        close = difflib.get_close_matches(str(value), known, n=3, cutoff=0.9)
        hint = f"; did you mean {' or '.join(map(_brief, close))}?" if close else ""
        return f"{_brief(str(value))} {NOT_HERE}{hint}"
    offered = ", ".join(map(value_text, options[:8])) + (", …" if len(options) > 8 else "")
    return f"must be one of {offered or f'its {more} options'}, not {value_text(value)}"


def value_text(value: object) -> str:
    return _brief(json.dumps(value, ensure_ascii=False, default=str))


def _options_of(config: object) -> list[object] | None:
    """Return the options in the declaration of a combo, ``[options or "COMBO", {"options"}]``."""
    options: object
    match config:
        case ["COMBO", {"options": options}, *_] | [options, *_] if isinstance(options, list):
            return options
    return None


def _brief(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
