"""What ComfyUI would answer to a prompt, from node definitions alone and without queueing it.

The rules are those of ``POST /prompt``; `versions` says in what they differ between versions. Old
nodes are replaced. Then the whole prompt is looked at, in its order, up to the first fault. Then
each output node is judged, after everything it depends on. Two things cannot be foretold: ComfyUI
goes through the output nodes and through the inputs of a node in the order of a set, where here it
is the order of the prompt and of the definitions; and the tracebacks in its answers, which are
empty here. Numbers that JSON does not have stand as text in ``received_value`` (``"-Infinity"``).
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .depth import too_deep
from .formats import is_link
from .model_files import model_links, node_packs
from .node_checks import NodeCheck, split_annotated
from .node_rules import InputRule, NodeRule, NodeRules
from .replacements import ReplacementError, replace_nodes, replacement_of

if TYPE_CHECKING:
    from .versions import Behaviour

__all__ = ["NodeRules", "Validation", "validate_prompt"]

FileExists = Callable[[str, str], bool]
"""``exists(folder, path)``: does ``path`` lead to something that exists, seen from the folder
``"input"``, ``"output"`` or ``"temp"``? ComfyUI takes absolute paths and ``..`` as they are."""

Issue = dict[str, Any]

_NOT_IN_JSON = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
_RECURSION = "maximum recursion depth exceeded while calling a Python object"


@dataclass
class Validation:
    """What ComfyUI would answer, and what it would not tell.

    Attributes
    ----------
    valid : bool
        Whether ComfyUI would queue the prompt.
    error : dict or None
        ComfyUI's error object: ``type``, ``message``, ``details``, ``extra_info``.
    node_errors : dict
        By node id: ``errors``, ``dependent_outputs``, ``class_type``. Also a valid prompt can have
        them, for the outputs that would be left out.
    outputs : list
        Ids of the output nodes that would run.
    missing_nodes : list of dict
        Node classes that ComfyUI lacks: ``class_type``, ``node_ids``, and ``pack`` if known.
    missing_models : list of dict
        Model files that ComfyUI lacks: ``name``, ``folder`` (None if unknown), ``node_id``,
        ``input``, and ``url`` if known.
    warnings : list of str
        One sentence for each doubt: what only a node's code or a folder can decide, and what
        ComfyUI accepts although it will not work.
    raises : str or None
        Where ComfyUI answers 500 with no error object: the exception it meets.
    """

    valid: bool
    error: Issue | None = None
    node_errors: dict[Any, Issue] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    missing_nodes: list[Issue] = field(default_factory=list)
    missing_models: list[Issue] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    raises: str | None = None


def validate_prompt(
    prompt: Any,
    definitions: Mapping[str, Any] | NodeRules,
    *,
    files: FileExists | None = None,
    workflow: object = None,
) -> Validation:
    """Return what ComfyUI would answer if it were asked to run a prompt.

    Nothing is changed, nothing is queued, and no prompt makes this raise: not a cycle, not a chain
    of ten thousand nodes, not JSON that is no prompt at all.

    Parameters
    ----------
    prompt : object
        The graph in API format: ``{node id: {"class_type": str, "inputs": dict}}``.
    definitions : mapping or NodeRules
        ``object_info``. Pass a `NodeRules` to judge many prompts by the same definitions.
    files : callable, optional
        Tells which files ComfyUI's folders hold. Without it, file inputs are judged by the names
        that the definitions offer, and a warning says so where that leaves a doubt.
    workflow : object, optional
        The graph as the editor saves it. Names the packs of missing nodes and the links of
        missing models.
    """
    rules = definitions if isinstance(definitions, NodeRules) else NodeRules(definitions)
    nodes: dict[Any, NodeRule] = {}
    fault: Issue | None = None
    raises: str | None = None
    warnings: list[str] = []
    try:
        prompt, nodes = _read(prompt, rules)
        fault = _first_fault(prompt, nodes, rules.behaviour)
    except ReplacementError as error:
        raises = str(error)
        warnings = [_unreplaced(error)]
    except Exception as error:  # ComfyUI has nothing around this part: it answers 500
        raises = f"{type(error).__name__}: {error}"
    if raises is None and fault is None:
        result = _Judgement(prompt, nodes, files, rules.behaviour).answer()
    else:
        result = Validation(False, fault, warnings=warnings, raises=raises)
        if nodes:
            result.warnings += _Judgement(prompt, nodes, files, rules.behaviour).doubts()
    result.missing_nodes, result.missing_models = _missing(prompt, rules, workflow)
    return result


def _read(prompt: Any, rules: NodeRules) -> tuple[dict[Any, Any], dict[Any, NodeRule]]:
    """Return the prompt with its old nodes replaced, and the rule of each node that is known."""
    nodes: dict[Any, NodeRule] = {}
    replaced = False
    looks_first = rules.behaviour.replaces_nodes  # for old nodes, and at the inputs of all of them
    for position, node_id in enumerate(prompt.keys() if looks_first else prompt):
        try:
            node = prompt[node_id]
            if "class_type" not in node:
                continue
            rule = rules.get(node["class_type"])
            if looks_first and "inputs" in node and type(node["inputs"]) is not dict:
                node["inputs"].items()  # raises what ComfyUI meets
        except Exception:
            if looks_first or len(nodes) == position:
                raise
            continue  # ComfyUI does not come that far: a node before has no class
        if rule is not None:
            nodes[node_id] = rule
        elif replacement_of(node["class_type"], rules.replacements, rules.has) is not None:
            replaced = True
    if not replaced:
        return prompt, nodes
    prompt = replace_nodes(prompt, rules.replacements, rules.has)
    return prompt, {
        node_id: rule
        for node_id, node in prompt.items()
        if (rule := rules.get(node.get("class_type"))) is not None
    }


def _unreplaced(error: ReplacementError) -> str:
    lacks = "has no input " + str(error.cause)
    if error.cause.args == ("_meta",):
        lacks = 'has no "_meta" (add "_meta": {} to it)'
    return (
        f"Node {error.node_id} ({error.old}) is of an old class that ComfyUI replaces by "
        f"{error.new}, and answers 500 because the node {lacks}."
    )


def _first_fault(
    prompt: dict[Any, Any], nodes: dict[Any, NodeRule], behaviour: Behaviour
) -> Issue | None:
    """Return the first fault of the prompt as a whole."""
    has_output = False
    for node_id in prompt:
        rule = nodes.get(node_id)
        if rule is None:
            return _classless(node_id, prompt[node_id], behaviour)
        has_output = has_output or rule.is_output
    if not has_output:
        return _issue("prompt_no_outputs", "Prompt has no outputs", "")
    return None


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
        return _issue("invalid_prompt", message, details)
    title = node.get("_meta", {}).get("title", class_type)
    if has_class:
        message = f"Node '{title}' not found. The custom node may not be installed."
    else:
        message = (
            f"Node '{title or f'ID #{node_id}'}' has no class_type. "
            "The workflow may be corrupted or a custom node is missing."
        )
    extra = {"node_id": node_id, "class_type": class_type, "node_title": title}
    return _issue("missing_node_type", message, details, extra)


class _Frame:
    """A node whose judging has begun."""

    __slots__ = (
        "declared",
        "dynamic",
        "errors",
        "good",
        "inputs",
        "link",
        "node_id",
        "pending",
        "received",
        "rule",
        "values",
    )

    def __init__(self, node_id: Any, rule: NodeRule) -> None:
        self.node_id = node_id
        self.rule = rule
        self.inputs: Any = None
        self.declared: tuple[InputRule, ...] = ()
        self.dynamic = False  # are there dynamic inputs among those?
        self.pending: Iterator[InputRule] | None = None
        self.errors: list[Issue] = []
        self.good = True  # is everything upstream good?
        self.link: tuple[InputRule, list[Any]]  # what is being followed
        if rule.own is not None:
            self.values: dict[str, Any] = {}
            self.received: dict[str, Any] = {}


class _Judgement:
    """Judges nodes of one prompt, each node once, with a stack of its own."""

    def __init__(
        self,
        prompt: dict[Any, Any],
        nodes: dict[Any, NodeRule],
        files: FileExists | None,
        behaviour: Behaviour,
    ) -> None:
        self.prompt = prompt
        self.nodes = nodes  # without those of unknown classes
        self.files = files
        self.behaviour = behaviour
        self.begun: dict[Any, None] = {}  # ids of nodes whose judging has begun, in this order
        self.good: set[Any] = set()  # ids of nodes that are good, with all they depend on
        self.errors: dict[Any, list[Issue]] = {}  # of the others; empty if the fault is upstream
        self.warnings: dict[str, None] = {}  # a set that keeps its order

    def answer(self) -> Validation:
        """Return the answer to the prompt."""
        good: list[Any] = []
        failed: list[Any] = []
        lines: list[str] = []
        met: list[int] = []  # how many bad nodes were known after each failed output
        for output, rule in self.nodes.items():
            if not rule.is_output:
                continue
            if output not in self.good and output not in self.errors:
                self._judge(output)
            if output in self.good:
                good.append(output)
                continue
            lines += [f"{error['message']}: {error['details']}" for error in self.errors[output]]
            failed.append(output)
            met.append(len(self.errors))
        node_errors = {}
        first = 0  # the failed output that met the node
        for index, (node_id, errors) in enumerate(self.errors.items()):
            while met[first] <= index:
                first += 1
            if errors:
                node_errors[node_id] = {
                    "errors": errors,
                    # ComfyUI names every output that fails from then on, dependent or not
                    "dependent_outputs": failed[first:],
                    "class_type": self.nodes[node_id].class_type,
                }
        error = None
        if not good:
            message = "Prompt outputs failed validation"
            error = _issue("prompt_outputs_failed_validation", message, "\n".join(lines))
        else:
            for node_id in failed:
                self._warn(node_id, "has errors or depends on nodes that have; it will be left out")
            for node_id in self.nodes:
                if not isinstance(self.prompt[node_id].get("inputs"), dict):
                    # it reads the inputs of all nodes first, needed or not
                    self._warn(
                        node_id,
                        "has no object of inputs; ComfyUI accepts the prompt all the same, "
                        "and then its worker breaks down and runs nothing more until a restart",
                    )
            for node_id, fault in too_deep(self.prompt):
                self._warn(node_id, f"{fault}: it runs nothing more until a restart")
        for node_id in node_errors:
            self._doubt(node_id)
        return Validation(bool(good), error, node_errors, good, warnings=list(self.warnings))

    def doubts(self) -> list[str]:
        """Return what is wrong with the nodes of a prompt that ComfyUI does not even look at."""
        for node_id in self.nodes:
            if node_id not in self.good and node_id not in self.errors:
                self._judge(node_id)
        for node_id, errors in self.errors.items():
            for error in errors:
                self._warn(node_id, f"has a further fault: {error['message']}: {error['details']}")
        return list(self.warnings)

    def _judge(self, output: Any) -> None:
        """Give a verdict on a node and all it depends on."""
        stack = [_Frame(output, self.nodes[output])]
        self.begun = {output: None}
        while stack:
            frame = stack[-1]
            try:
                source = self._check(frame)
            except Exception as error:  # becomes part of the answer, as in ComfyUI
                stack.pop()
                self.begun.pop(frame.node_id, None)
                self._fail(frame, stack, error)
                continue
            if source is None:
                stack.pop()
                self.begun.pop(frame.node_id, None)
                self._settle(frame)
                if stack and frame.node_id in self.errors:
                    stack[-1].good = False
            elif len(stack) < self.behaviour.deepest:
                stack.append(source)
                self.begun[source.node_id] = None
            else:
                self._warn(
                    source.node_id,
                    "is in a cycle, or at the end of a chain of more than "
                    f"{self.behaviour.deepest} nodes: ComfyUI cannot follow it",
                )
                self._fail(source, stack, RecursionError(_RECURSION))

    def _settle(self, frame: _Frame) -> None:
        """Keep the verdict on a node all of whose inputs are checked."""
        cycle = self.errors.get(frame.node_id)  # told while the inputs were followed
        if cycle is not None and self.behaviour.tells_cycles:
            self.errors[frame.node_id] = cycle + [e for e in frame.errors if e not in cycle]
        elif frame.good and not frame.errors:
            self.good.add(frame.node_id)
        else:
            self.errors[frame.node_id] = frame.errors

    def _close_cycle(self, node_id: Any) -> None:
        """Tell each node of a cycle, when a link leads back to a node that was begun."""
        begun = list(self.begun)
        cycle = begun[begun.index(node_id) :]
        path = " -> ".join(f"{step} ({self.nodes[step].class_type})" for step in [*cycle, node_id])
        for step in cycle:
            extra = {"node_id": step, "cycle_nodes": cycle}
            issue = _issue("dependency_cycle", "Dependency cycle detected", path, extra)
            self.errors[step] = [issue]

    def _fail(self, failed: _Frame, stack: list[_Frame], error: Exception) -> None:
        """Turn an exception into an error of its node, told by the node that follows it."""
        report = self.behaviour.deepest_report
        if len(stack) > report:
            error = RecursionError(_RECURSION)
            failed = stack[report]
            for frame in stack[report:]:
                self.begun.pop(frame.node_id, None)
            del stack[report:]
        text = str(error)
        extra: Issue = {"exception_type": type(error).__name__, "traceback": []}
        if not stack:
            issue = _issue(
                "exception_during_validation", "Exception when validating node", text, extra
            )
        else:
            rule, link = stack[-1].link
            stack[-1].good = False
            extra.update(
                input_name=rule.name,
                input_config=rule.config,
                exception_message=text,
                linked_node=link,
            )
            message = "Exception when validating inner node"
            issue = _issue("exception_during_inner_validation", message, text, extra)
        self.errors[failed.node_id] = [issue]

    def _check(self, frame: _Frame) -> _Frame | None:
        """Check the inputs of a node up to a link that leads to a node without verdict yet.

        Returns
        -------
        _Frame or None
            The node to judge before this one goes on; None if this one is finished.
        """
        rule = frame.rule
        own = rule.own
        if frame.pending is None:
            frame.inputs = self.prompt[frame.node_id]["inputs"]
            faults: list[str] = []
            frame.declared, frame.dynamic = rule.declared(frame.inputs, faults)
            frame.pending = iter(frame.declared)
            for fault in faults:
                self._warn(frame.node_id, f"could not be checked whole: {fault}")
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
                        _issue(
                            "required_input_missing",
                            "Required input is missing",
                            name.rpartition(".")[2] if frame.dynamic else name,
                            {"input_name": name},
                        )
                    )
                continue
            value = inputs[name]
            if not isinstance(value, list):
                if own is not None or not wanted.is_plainly_good(value):
                    self._check_literal(frame, wanted, value)
                continue
            if len(value) != 2:
                message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
                frame.errors.append(_input_issue("bad_linked_input", message, name, wanted, value))
                continue
            source = value[0]
            source_rule = self.nodes.get(source)
            if source_rule is None:
                if source in self.prompt:
                    continue  # of an unknown class: nothing can be said
                raise KeyError(source)
            received = source_rule.returns[value[1]]
            if own is not None and own.takes_types:
                frame.received[name] = received
            elif received != wanted.type and not self._fits(
                received, wanted, source, frame.node_id
            ):
                frame.errors.append(_mismatch(wanted, received, value))
                continue
            if source in self.good:
                continue
            if source not in self.errors:
                if source not in self.begun or not self.behaviour.tells_cycles:
                    frame.link = (wanted, value)
                    return _Frame(source, source_rule)
                self._close_cycle(source)
            frame.good = False
        if own is not None:
            self._ask(frame, own)
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
            except Exception as error:  # becomes part of the answer, as in ComfyUI
                issue = _input_issue(
                    "invalid_input_type",
                    f"Failed to convert an input value to a {wanted.type} value",
                    f"{wanted.name}, {value}, {error}",
                    wanted,
                    value,
                )
                issue["extra_info"]["exception_message"] = str(error)
                frame.errors.append(issue)
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
                self._warn(
                    frame.node_id,
                    f"has {value!r} for {wanted.name!r}, which is none of its options; "
                    "ComfyUI does not check that before it runs the node",
                )
            return
        short = len(choices) <= 20
        offered = str(choices) if short else f"(list of length {len(choices)})"
        quote = repr if self.behaviour.quotes_values else "'{}'".format
        shown = ", ".join(map(quote, foreign))
        details = f"{wanted.name}: {shown} not in {offered}"
        issue = _input_issue("value_not_in_list", "Value not in list", details, wanted, value)
        if not short:
            issue["extra_info"]["input_config"] = None
        frame.errors.append(issue)

    def _fits(self, received: Any, wanted: InputRule, source: Any, target: Any) -> bool:
        """Tell whether an output goes into an input of another type."""
        if self.behaviour.wide_types:
            return _types_meet(received, wanted.type)
        for type_, node_id in ((received, source), (wanted.type, target)):
            if type_ == "*":
                rule = self.nodes[node_id]
                if rule.foreign and not rule.schema3:
                    self._warn(
                        node_id,
                        "has the type '*'; whether it takes part in any link only its code decides",
                    )
                return True
        if isinstance(received, str) and isinstance(wanted.type, str):
            return not _names(received).isdisjoint(_names(wanted.type))
        return False

    def _ask(self, frame: _Frame, own: NodeCheck) -> None:
        """Let the node check its inputs itself."""
        inputs = frame.inputs if isinstance(frame.inputs, dict) else _items(frame.inputs)
        declared = {rule.name for rule in frame.declared}
        values: dict[str, Any] = {
            name: None if is_link(value) else value
            for name, value in ((name, frame.values[name]) for name in inputs)
            if own.takes(name) and (name in declared or is_link(value))
        }
        if own.takes_types:
            values["input_types"] = frame.received
        answer = own.run(values, lambda name: self._exists(frame, name))
        if answer is not True:
            for name in values:
                frame.errors.append(
                    _issue(
                        "custom_validation_failed",
                        "Custom validation failed for node",
                        f"{name} - {answer}",
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
        offered = None
        if frame.rule.own is not None and frame.rule.own.lists_folder:
            offered = next((rule.choices for rule in frame.declared if rule.choices), None)
        if offered is not None:
            if name in offered:
                return True
            if folder == "input" and path == name and "/" not in path:
                return False
        self._warn(frame.node_id, f"needs the file {name!r}, which could not be looked for")
        return True

    def _warn(self, node_id: Any, text: str) -> None:
        self.warnings[f"Node {node_id} ({self.nodes[node_id].class_type}) {text}."] = None

    def _doubt(self, node_id: Any) -> None:
        """Warn where a node of others has errors that a check of its own could take back."""
        if self.nodes[node_id].foreign:
            kinds = {error["type"] for error in self.errors[node_id]}
            if not kinds.isdisjoint(_REVOCABLE):
                self._warn(
                    node_id,
                    "comes from a node pack; if its code checks these inputs itself, "
                    "ComfyUI leaves the decision to it",
                )


_REVOCABLE = {
    "return_type_mismatch",
    "value_bigger_than_max",
    "value_not_in_list",
    "value_smaller_than_min",
}


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
    frame.errors.append(_input_issue(kind, message, wanted.name, wanted, value))
    return False


def _types_meet(received: Any, wanted: Any) -> bool:
    """Tell whether an output of one type goes into an input of another, in today's ComfyUI."""
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
    """Return what `inputs` maps, or raise what Python raises if it is no mapping."""
    return {name: inputs[name] for name in inputs}


def _issue(kind: str, message: str, details: str, extra: Issue | None = None) -> Issue:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _input_issue(kind: str, message: str, details: str, wanted: InputRule, value: Any) -> Issue:
    if isinstance(value, float) and not math.isfinite(value):
        value = _NOT_IN_JSON[str(value)]
    extra = {"input_name": wanted.name, "input_config": wanted.config, "received_value": value}
    return _issue(kind, message, details, extra)


def _mismatch(wanted: InputRule, received: Any, link: list[Any]) -> Issue:
    return _issue(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        f"{wanted.name}, received_type({received}) mismatch input_type({wanted.type})",
        {
            "input_name": wanted.name,
            "input_config": wanted.config,
            "received_type": received,
            "linked_node": link,
        },
    )


def _missing(prompt: Any, rules: NodeRules, workflow: object) -> tuple[list[Issue], list[Issue]]:
    """Return the node classes and the model files that ComfyUI lacks for a prompt."""
    classes: dict[str, Issue] = {}
    models: list[Issue] = []
    for node_id, node in prompt.items() if isinstance(prompt, dict) else ():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        if not isinstance(class_type, str):
            continue
        rule = rules.get(class_type)
        if rule is None:
            entry = classes.setdefault(class_type, {"class_type": class_type, "node_ids": []})
            entry["node_ids"].append(node_id)
        else:
            models += _missing_models(node_id, node.get("inputs"), rule)
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


def _missing_models(node_id: Any, inputs: Any, rule: NodeRule) -> Iterator[Issue]:
    for wanted in rule.models(inputs) if isinstance(inputs, dict) else ():
        name = inputs.get(wanted.name)
        if isinstance(name, dict):
            name = name.get("__value__")
        if isinstance(name, str) and name and name not in (wanted.offered or ()):
            yield {"name": name, "folder": wanted.folder, "node_id": node_id, "input": wanted.name}
